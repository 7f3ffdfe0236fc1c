//! What a node counted since it started. Ratios without a sample are null.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a node counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Reads that a tier answered.
    pub cache_hits: u64,
    /// Reads that no tier answered.
    pub cache_misses: u64,
    /// Hits as a share of all reads, 0 to 1.
    pub cache_hit_ratio: Option<f64>,
    /// Mean time of a read, over all tiers.
    pub avg_response_time_ms: Option<f64>,
    /// Events of the log that were applied, own and others'.
    pub events_processed: u64,
    /// Invalidations applied, summed over the namespaces that each touched.
    pub invalidations: u64,
    /// When the last event, own or another's, was applied, in RFC 3339; null before the first.
    pub last_event_time: Option<String>,
    /// Median time from another node's event to its being applied here; null before the first.
    pub event_propagation_latency_ms: Option<f64>,
    /// The same in full.
    #[serde(default)]
    pub event_propagation: LatencyStats,
    /// Median time of an invalidation of this node, from the call to the acknowledgement; null before the first.
    #[serde(default)]
    pub invalidation_latency_ms: Option<f64>,
    /// The same in full.
    #[serde(default)]
    pub invalidation: LatencyStats,
    /// Time of a read over all tiers, in full: hits in L1 as a sample of one in 256 says, all others each.
    #[serde(default)]
    pub response_time: LatencyStats,
    /// Each tier: `l1`, `l2`.
    #[serde(default)]
    pub tiers: BTreeMap<String, TierStats>,
    /// The last minute.
    #[serde(default)]
    pub current: CurrentStats,
    /// Entries in L1, over all namespaces.
    pub l1_cache_size: u64,
    /// Most entries in L1, over all namespaces.
    pub l1_cache_max_size: u64,
    /// Bytes in L1 as a share of its budget, 0 to 1.
    pub memory_utilization: Option<f64>,
    /// What Redis uses; null without Redis or while it is away.
    pub redis_memory_used_mb: Option<f64>,
    /// Connections of Redis, from all clients; null without Redis or while it is away.
    pub redis_connected_clients: Option<u64>,
    /// What Redis may use (`maxmemory`, else the memory of its machine); null without Redis or while it is away.
    #[serde(default)]
    pub redis_memory_max_mb: Option<f64>,
    /// The version of Redis; null without Redis or while it is away.
    #[serde(default)]
    pub redis_version: Option<String>,
    /// Keys in the database; null without Redis or while it is away.
    #[serde(default)]
    pub redis_keys: Option<u64>,
    /// `connected` or `disconnected`; null without Redis.
    #[serde(default)]
    pub redis_connection: Option<String>,
    /// Commands under way as a share of as many as the connections take at once, 0 to 1; null without Redis.
    #[serde(default)]
    pub connection_pool_utilization: Option<f64>,
    /// Connections to Redis that could not be opened and commands that got no answer in time, since the start.
    #[serde(default)]
    pub connection_failures: u64,
    /// The same in the last minute.
    #[serde(default)]
    pub connection_failures_per_minute: f64,
    /// What the auditor found, over all namespaces; null while it is off.
    pub audit: Option<AuditStats>,
    /// The latest violations that the auditor found, some of each namespace.
    #[serde(default)]
    pub violations: Vec<ViolationReport>,
    /// Each namespace, by name.
    pub namespaces: BTreeMap<String, NamespaceStats>,
}

/// How things are of late: over the last minute, or since the start if that is less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurrentStats {
    /// Hits as a share of all reads, in percent; null without a read.
    pub hit_rate_percent: Option<f64>,
    /// Mean time of a read, over all tiers; null without a read.
    pub avg_latency_ms: Option<f64>,
    /// Bytes in L1, overhead included, in millions: now.
    pub memory_usage_mb: f64,
    /// Entries that left L1 for room, a second.
    pub eviction_rate: f64,
    /// Reads a second.
    pub reads_per_s: f64,
}

/// What one tier did, of those reads that it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TierStats {
    /// Reads that it answered.
    pub hits: u64,
    /// Reads that it could not answer.
    pub misses: u64,
    /// Hits as a share of both, 0 to 1; null without any.
    pub hit_ratio: Option<f64>,
    /// Time of a hit.
    pub latency: LatencyStats,
}

/// What the auditor found: whether reads of a sample of the keys were given what was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditStats {
    /// Keys that are watched.
    pub keys: u64,
    /// Reads that were judged.
    pub judged: u64,
    /// Reads that were given what had been outdated for longer than the staleness bound.
    pub violations: u64,
    /// Judged reads without a violation as a share of all, 0 to 1; null before the first.
    pub coherent_ratio: Option<f64>,
    /// The same as a number of nines: 3 = 99.9 %. Without a violation as many as so few reads can show; null before the first.
    pub nines: Option<f64>,
    /// Reads that were given an older version than L2 or the source had, of a change that nobody announced.
    pub outside: u64,
    /// Reads that were given what is flagged as stale; not judged.
    pub flagged: u64,
    /// Reads that were not judged for want of room.
    pub unjudged: u64,
    /// The stalest violation, in milliseconds.
    pub worst_ms: u64,
}

/// A value that was served for longer than the promise allows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ViolationReport {
    /// Of which key.
    pub key: String,
    /// Why, in words.
    pub cause: String,
    /// The tier that gave it.
    pub tier: String,
    /// The position that it reflects.
    pub position: String,
    /// Its version; null for values without one.
    pub version: Option<u64>,
    /// Reads that were given it.
    pub reads: u64,
    /// For how long it had been outdated, in milliseconds.
    pub staleness_ms: u64,
    /// What happened to the key lately on this node, in order.
    pub history: Vec<String>,
}

/// What happened in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceStats {
    /// The name by which it is asked for.
    pub cache_type: String,
    /// Reads of single keys.
    pub reads: u64,
    /// Reads answered by L1.
    pub l1_hits: u64,
    /// Reads that L1 could not answer.
    pub l1_misses: u64,
    /// Records of L2 that were taken.
    pub l2_hits: u64,
    /// Reads that L2 could not answer.
    pub l2_misses: u64,
    /// Calls to L2 that failed.
    pub l2_errors: u64,
    /// Records of L2 that could not be taken: dead, outdated, corrupt or of another type.
    pub records_refused: u64,
    /// Loads from the source.
    pub loads: u64,
    /// Loads that failed.
    pub load_errors: u64,
    /// Loaded values that were kept out of a tier because an invalidation had overtaken them.
    pub fills_refused: u64,
    /// Answers beyond the staleness bound, flagged.
    pub stale_served: u64,
    /// Puts.
    pub writes: u64,
    /// Invalidations applied.
    pub invalidations: u64,
    /// Values and deltas of other nodes that L1 took over.
    pub updates_taken: u64,
    /// Those that it could not use, and dropped what it held.
    pub updates_left: u64,
    /// Entries that left L1 for room.
    pub evicted: u64,
    /// Entries that left L1 by time.
    pub expired: u64,
    /// Entries in L1.
    pub l1_entries: u64,
    /// Most entries in L1.
    pub l1_entries_max: u64,
    /// Bytes in L1, overhead included.
    pub l1_bytes: u64,
    /// Most bytes in L1.
    pub l1_bytes_max: u64,
    /// Latency of hits in L1, sampled.
    pub l1_latency: LatencyStats,
    /// Latency of hits in L2.
    pub l2_latency: LatencyStats,
    /// Time of a read over all tiers.
    #[serde(default)]
    pub response_time: LatencyStats,
    /// Time of a put, to its acknowledgement.
    #[serde(default)]
    pub write_latency: LatencyStats,
    /// Hits as a share of all reads, 0 to 1; null without a read.
    #[serde(default)]
    pub cache_hit_ratio: Option<f64>,
    /// Bytes in L1 as a share of their bound, 0 to 1.
    #[serde(default)]
    pub memory_utilization: Option<f64>,
    /// The last minute.
    #[serde(default)]
    pub current: CurrentStats,
    /// What the auditor found; null where it does not watch.
    pub audit: Option<AuditStats>,
}

/// Quantiles of a latency in microseconds; null without a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyStats {
    /// Samples.
    pub samples: u64,
    /// Median.
    pub p50_us: Option<f64>,
    /// 99th percentile.
    pub p99_us: Option<f64>,
    /// Mean.
    pub mean_us: Option<f64>,
}
