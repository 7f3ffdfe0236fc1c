//! What a node counted since it started. Ratios without a sample are null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a node counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// When the last event was applied, in RFC 3339; null before the first.
    pub last_event_time: Option<String>,
    /// Median time from another node's event to its being applied here; null before the first.
    pub event_propagation_latency_ms: Option<f64>,
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
    /// What the auditor found, over all namespaces; null while it is off.
    pub audit: Option<AuditStats>,
    /// The latest violations that the auditor found, some of each namespace.
    #[serde(default)]
    pub violations: Vec<ViolationReport>,
    /// Each namespace, by name.
    pub namespaces: BTreeMap<String, NamespaceStats>,
}

/// What the auditor found: whether reads of a sample of the keys were given what was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// What the auditor found; null where it does not watch.
    pub audit: Option<AuditStats>,
}

/// Quantiles of a latency in microseconds; null without a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
