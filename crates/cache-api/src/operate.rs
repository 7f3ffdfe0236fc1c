//! What a node tells its operators beyond statistics: the other nodes, events, why an answer is what it is, how figures
//! went, what is wrong. Read by the dashboard and by `cachectl`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Status;

/// Answer of `GET /nodes`: the nodes that share the store, as each described itself of late.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Nodes {
    /// All that were heard of within the last half minute, by region and name; the one that answers is among them.
    pub nodes: Vec<NodeInfo>,
}

/// One node, as it described itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeInfo {
    /// Its name.
    pub node_id: String,
    /// Its region.
    pub region: String,
    /// Its data centre.
    pub datacenter: String,
    /// `edge`, `regional` or `global`; null where it was not said.
    pub cache_tier: Option<String>,
    /// The version of its program.
    pub version: String,
    /// Where its HTTP interface is, as it says itself (`http.advertise`, else where it listens); null if it does not.
    pub url: Option<String>,
    /// When it started, in RFC 3339.
    pub started_at: String,
    /// Milliseconds since it was heard of.
    pub seen_ms_ago: u64,
    /// It is the node that answers.
    pub me: bool,
    /// How it says it is.
    pub status: Status,
    /// What is wrong, in its words.
    pub error: Option<String>,
    /// A digest of the settings that nodes on one store must share; nodes that differ are misconfigured.
    pub fingerprint: String,
    /// Its figures of late.
    pub figures: NodeFigures,
}

/// The figures that a node tells the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeFigures {
    /// Hits as a share of all reads since it started, 0 to 1.
    pub cache_hit_ratio: Option<f64>,
    /// Reads a second, of late.
    pub reads_per_s: f64,
    /// Events that it has applied.
    pub events_processed: u64,
    /// Entries in its L1.
    pub l1_cache_size: u64,
    /// Most entries in its L1.
    pub l1_cache_max_size: u64,
    /// Invalidations that wait for the shared tier.
    pub event_queue_size: u64,
    /// Median time from an event to its being applied there.
    pub event_propagation_latency_ms: Option<f64>,
    /// How old its proof of freshness is, in milliseconds; null without one.
    pub lag_ms: Option<u64>,
}

/// Answer of `GET /node/events`: the latest events, newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecentEvents {
    /// The events, newest first.
    pub events: Vec<EventRecord>,
    /// How often events may have been missed since the node started (a gap in the log, a full queue).
    pub missed: u64,
}

/// One event. In the stream `GET /events` the data of each `change`; its position is the id there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    /// Its place in the log: `partition:epoch:sequence`.
    pub position: String,
    /// Its id, the same wherever it is heard.
    pub event_id: String,
    /// Its kind, such as `booking_created`.
    pub event_type: String,
    /// What it is about.
    pub resource_id: String,
    /// What it says.
    pub data: Value,
    /// When it was made, in RFC 3339.
    pub timestamp: String,
    /// The node that made it.
    pub source_node: String,
    /// Namespaces in which it touches something.
    pub affected_namespaces: Vec<String>,
    /// What it touches: `type/resource`, `tag:…` and so on.
    pub scopes: Vec<String>,
    /// Why, where that was said.
    pub reason: Option<String>,
    /// From its timestamp to its being applied here; null for events of this node.
    pub propagation_ms: Option<f64>,
}

/// Answer of `GET /node/explain/{cache_type}/{resource}?name=value…`: why a read of the key would be answered as it is.
/// Explaining changes nothing: it counts as no read and moves no entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The key.
    pub key: String,
    /// Its cache type.
    pub cache_type: String,
    /// Its partition of the log.
    pub partition: u32,
    /// How this node stands in that partition: `live`, `degraded`, …
    pub state: String,
    /// How old the node's proof of freshness is there, in milliseconds; null without one.
    pub lag_ms: Option<u64>,
    /// The tier that would answer: `l1`, `l2`; null where both miss.
    pub tier: Option<String>,
    /// The value that would be answered; null where there is none.
    pub value: Value,
    /// What L1 holds under the key, and whether it may be served.
    pub l1: Held,
    /// What L2 holds under the key, and whether it may be served.
    pub l2: Held,
    /// The reasoning, step by step, in words.
    pub why: Vec<String>,
    /// The latest events of this node's memory that touch the key, newest first.
    pub events: Vec<EventRecord>,
}

/// What one tier holds under a key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Something is there.
    pub present: bool,
    /// It may be served.
    pub usable: bool,
    /// Why not, or what is special about it.
    pub note: Option<String>,
    /// The position that it reflects.
    pub position: Option<String>,
    /// Its version, where values have one.
    pub version: Option<u64>,
    /// Its age in milliseconds.
    pub age_ms: Option<u64>,
    /// Milliseconds until it expires.
    pub expires_in_ms: Option<u64>,
    /// Its bytes.
    pub bytes: Option<u64>,
}

/// Answer of `GET /node/entries/{cache_type}`: what L1 holds of a type, for comparing nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entries {
    /// Some of the entries, by key; at most as many as `limit` asked for.
    pub entries: Vec<EntrySummary>,
    /// There are more.
    pub truncated: bool,
}

/// One entry of L1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct EntrySummary {
    /// Its key.
    pub key: String,
    /// The position that it reflects.
    pub position: String,
    /// Its version, where values have one.
    pub version: Option<u64>,
    /// A digest of its value: equal for equal values, on all nodes of one version of the program.
    pub digest: String,
}

/// Answer of `GET /node/history?series=a,b&from=…&to=…&points=…`: how figures went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// By name of the series: points of Unix milliseconds and value, oldest first.
    pub series: BTreeMap<String, Vec<(u64, f64)>>,
    /// All series that there are.
    pub known: Vec<String>,
}

/// Answer of `GET /node/alerts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alerts {
    /// Those that stand, worst first.
    pub active: Vec<Alert>,
    /// The latest that have passed, newest first.
    pub past: Vec<Alert>,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be looked at.
    Warning,
    /// To be mended now.
    Critical,
}

/// A figure beyond its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// `hit_ratio`, `event_queue`, `event_latency`, `redis_memory` or `connection_failures`.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// The figure now; for a past alert the worst that it was.
    pub value: f64,
    /// The limit that it passed.
    pub threshold: f64,
    /// The unit of both: `%`, `events`, `ms`, `per minute`.
    pub unit: String,
    /// When it began, in RFC 3339.
    pub since: String,
    /// When it passed; null while it stands.
    pub until: Option<String>,
    /// What it means, in a sentence.
    pub message: String,
    /// What to look at first.
    pub cure: String,
}

/// Answer of `GET /node/slo`: figures beside their targets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloReport {
    /// Each target.
    pub targets: Vec<SloTarget>,
    /// Every target with enough samples is met.
    pub met: bool,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SloTarget {
    /// `l1_hits`, `l2_hits`, `propagation`, `response`, `invalidation`.
    pub name: String,
    /// `above` or `below`.
    pub direction: String,
    /// The target.
    pub target: f64,
    /// What was found (of latencies the 99th percentile); null without samples.
    pub found: Option<f64>,
    /// The unit of both: `%` or `ms`.
    pub unit: String,
    /// Samples behind it.
    pub samples: u64,
    /// Whether it is met; null without samples.
    pub met: Option<bool>,
}

/// Answer of `GET /node/operations?limit=…`: the latest requests that were to change something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operations {
    /// The latest, newest first; the node remembers 10,000.
    pub operations: Vec<Operation>,
    /// How many there were since the node started.
    pub seen: u64,
}

/// One request that was to change something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// When it began, in RFC 3339.
    pub at: String,
    /// Method and route, such as `PUT /cache/{cache_type}/{*resource}`.
    pub what: String,
    /// The status of the answer.
    pub status: u16,
    /// How long it took.
    pub took_ms: f64,
}

/// Answer of `GET /node/hot-keys`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotKeys {
    /// The keys that are read most of late, hottest first.
    pub keys: Vec<HotKey>,
}

/// A key that is read often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotKey {
    /// The key.
    pub key: String,
    /// Its cache type.
    pub cache_type: String,
    /// Reads a second, estimated from a sample.
    pub reads_per_s: f64,
}

/// Answer of `GET /node/doctor`: what a node finds wrong around it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Findings {
    /// What is compared between nodes.
    #[serde(default)]
    pub facts: NodeFacts,
    /// Each check, in the order in which they were made.
    pub findings: Vec<Finding>,
}

/// What a node tells so that it can be compared with others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeFacts {
    /// Its name.
    pub node_id: String,
    /// When it started, in RFC 3339: tells two nodes of one name apart.
    pub started_at: String,
    /// The version of its program.
    pub version: String,
    /// The store that it shares: the ids of the servers' data, or where they are if they do not say. `embedded` where it
    /// stands alone.
    pub store: String,
    /// How old an answer may be at most, in milliseconds.
    pub staleness_bound_ms: u64,
    /// The clock of the store less that of the node, in milliseconds; null before it is known.
    pub clock_offset_ms: Option<i64>,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be looked at.
    Unknown,
    /// Works, and should be mended.
    Warning,
    /// Promises are broken, or soon will be.
    Problem,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What was looked at, such as `maxmemory-policy`.
    pub check: String,
    /// What it came to.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; null where all is well.
    pub cure: Option<String>,
}
