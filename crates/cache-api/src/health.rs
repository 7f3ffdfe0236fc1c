//! How a node is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Stats;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is as it should be.
    Healthy,
    /// It answers, but cannot prove at the moment that its copies are fresh, or has writes to make up for.
    Degraded,
    /// It must not be asked: it stops, or it and the shared tier disagree on their layout.
    Unhealthy,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The verdict.
    pub status: Status,
    /// The node.
    pub node_id: String,
    /// Its region.
    pub region: String,
    /// Its data centre.
    pub datacenter: String,
    /// What carries its invalidations: `embedded` or `redis`.
    pub transport: String,
    /// Whether Redis answers; null without Redis.
    pub redis_connected: Option<bool>,
    /// The servers of Redis; null without Redis, or if they could not be asked.
    #[serde(default)]
    pub topology: Option<TopologyHealth>,
    /// A subscription is in force and the log proves that nothing is missing: events really arrive.
    pub pubsub_active: bool,
    /// Invalidations that wait for the shared tier to come back.
    pub event_queue_size: u64,
    /// Seconds since the last event, own or another's; null before the first.
    pub last_event_age: Option<f64>,
    /// The statistics; left out where only the verdict was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_stats: Option<Stats>,
    /// Lines of the audit and access logs that could not be written.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// What is wrong; null when healthy.
    pub error: Option<String>,
}

/// Answer of `GET /health/live`: that there is one says it all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Liveness {
    /// Always `alive`.
    pub status: String,
}

/// How the servers of Redis are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyHealth {
    /// `standalone`, `sentinel` or `cluster`.
    pub topology: String,
    /// Masters and replicas that are known, whether or not they answer.
    pub total_nodes: u32,
    /// Those that answer; a replica also has to follow its master.
    pub healthy_nodes: u32,
    /// Every partition has a master that answers.
    pub primary_healthy: bool,
    /// Every master has a replica that follows it.
    pub replica_healthy: bool,
    /// Each master.
    pub masters: Vec<MasterHealth>,
    /// What a Cluster says about itself; null elsewhere.
    pub cluster: Option<ClusterHealth>,
}

/// How one master is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MasterHealth {
    /// The name that Sentinels or the Cluster give it; its address where it is alone.
    pub name: String,
    /// Where it is; null while nobody knows.
    pub address: Option<String>,
    /// It answers.
    pub healthy: bool,
    /// Its replicas.
    pub replicas: u32,
    /// Those that follow it.
    pub healthy_replicas: u32,
    /// How many partitions it has.
    pub partitions: u32,
    /// The keys in its database; null if it does not answer.
    pub keyspace: Option<u64>,
    /// The slots of a Cluster that it has; null elsewhere.
    pub slots: Option<u64>,
    /// It refuses writes once it is cut off from its replicas.
    pub guarded: bool,
}

/// What a Cluster says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterHealth {
    /// `ok`, or `fail`.
    pub state: String,
    /// Slots that have a node.
    pub slots_assigned: u64,
    /// Slots of nodes that answer.
    pub slots_ok: u64,
    /// All nodes.
    pub known_nodes: u64,
    /// Masters with slots.
    pub size: u64,
}
