//! The limits of an embedded server.

use std::time::Duration;

/// The limits of an [`EmbeddedServer`](crate::EmbeddedServer). Limits on memory are for all partitions together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// How many partitions there are; 0 counts as 1.
    pub partitions: u32,
    /// Bytes of records, leases and stamps with what holding them costs. Above it records leave, those that expire
    /// soonest first (of equals, the oldest), then leases; where stamps alone exceed it, a new epoch begins, which
    /// makes all stamps needless.
    pub bytes_max: usize,
    /// Entries in the log of one partition; the oldest leave. Who still needs them gets a gap and flushes.
    pub log_entries_max: usize,
    /// Bytes of payload in all logs; the oldest entries leave.
    pub log_bytes_max: usize,
    /// Group stamps in one partition; see [`invalidate_groups`](cache_l2::Store::invalidate_groups).
    pub groups_max: usize,
    /// For how long the applied position of a node that no longer syncs is remembered.
    pub node_rows_kept: Duration,
    /// Hints that wait for one slow subscriber; above it the oldest are dropped and it is told of the overflow.
    pub hints_max: usize,
    /// Events that wait for one slow subscriber of the public channel; above it the oldest are dropped.
    pub public_events_max: usize,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            bytes_max: 256 * 1024 * 1024,
            log_entries_max: 100_000,
            log_bytes_max: 64 * 1024 * 1024,
            groups_max: 10_000,
            node_rows_kept: Duration::from_secs(20),
            hints_max: 8_192,
            public_events_max: 1_024,
        }
    }
}

impl EmbeddedConfig {
    /// How many partitions there are.
    pub(crate) fn partitions(&self) -> u32 {
        self.partitions.max(1)
    }

    /// One partition's share of a limit for all.
    pub(crate) fn share(&self, limit: usize) -> usize {
        (limit / self.partitions() as usize).max(1)
    }
}
