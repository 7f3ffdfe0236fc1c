//! How a node is.

use serde::{Deserialize, Serialize};

use crate::Stats;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// A subscription is in force and the log proves that nothing is missing: events really arrive.
    pub pubsub_active: bool,
    /// Invalidations that wait for the shared tier to come back.
    pub event_queue_size: u64,
    /// Seconds since the last event; null before the first.
    pub last_event_age: Option<f64>,
    /// The statistics; left out where only the verdict was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_stats: Option<Stats>,
    /// What is wrong; null when healthy.
    pub error: Option<String>,
}
