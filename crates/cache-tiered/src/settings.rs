//! The rules of a namespace and of a node.

use std::time::Duration;

use cache_events::Namespace;

use crate::BuildError;
use crate::answer::Tiers;
use crate::audit::AuditSettings;

/// What a namespace does while the node cannot prove that its copies are fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degraded {
    /// Serve only what was loaded within the bound, else ask the source.
    Strict,
    /// Serve copies up to this age, flagged as stale.
    BoundedStale(Duration),
    /// Fail the read.
    Fail,
}

/// By how much clocks may differ before a record seems to live longer than its namespace allows.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// How values are written into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodecChoice {
    /// Compact; for types with a fixed shape.
    #[default]
    Bincode,
    /// Self-describing; needed for free JSON values.
    Json,
}

/// What the other nodes are told of a put, beside that it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Updates {
    /// Nothing: they drop what they hold, and the next read loads it.
    #[default]
    Invalidate,
    /// The value, as far as it fits into a hint: who holds an older one of the key takes it in its place.
    Value,
    /// The same, and who holds none of the key takes it too.
    ValueEverywhere,
    /// What has changed, where a value is changed by [`TypedCache::update`](crate::TypedCache::update): who holds exactly
    /// what it was before changes it likewise. A put carries the value. The namespace must be declared by
    /// [`Builder::namespace_of_deltas`](crate::Builder::namespace_of_deltas).
    Delta,
}

/// The rules of a namespace.
#[derive(Debug, Clone)]
pub struct NamespaceSettings {
    /// Its name.
    pub namespace: Namespace,
    /// Hard TTL in L2 (and in L1 where that is shorter than [`l1_ttl_max`](Self::l1_ttl_max)).
    pub ttl: Duration,
    /// Longest hard TTL that a single call may ask for (longer wishes are cut); stamps of invalidations are kept so long.
    pub ttl_max: Duration,
    /// Longest TTL in L1 for event-driven namespaces.
    pub l1_ttl_max: Duration,
    /// Sliding expiry: a copy that nobody asks for during so long leaves L1, and each hit begins the time anew, never past
    /// the TTL in L1. L2 keeps its record for the hard TTL. `None` = by the TTL alone.
    pub idle: Option<Duration>,
    /// TTL of "there is none".
    pub absent_ttl: Duration,
    /// Changes are announced; copies are trusted within the staleness bound. Otherwise by TTL alone.
    pub event_driven: bool,
    /// What other nodes are told of a put.
    pub updates: Updates,
    /// Kept in L1 longest, never served beyond the bound.
    pub critical: bool,
    /// Entries in L1.
    pub l1_entries_max: usize,
    /// Bytes in L1, overhead included: the bound, or where the node has one
    /// ([`NodeSettings::l1_bytes_max`]) the share that is this namespace's own.
    pub l1_bytes_max: u64,
    /// Which tiers it uses.
    pub tiers: Tiers,
    /// Staleness bound D.
    pub staleness_bound: Duration,
    /// What happens when the bound cannot be kept.
    pub degraded: Degraded,
    /// Codec of its records.
    pub codec: CodecChoice,
    /// Raise it when the type's shape changes: records of the other schema become misses.
    pub schema: u32,
    /// Values longer than this are compressed; `None` = never.
    pub compress_above_bytes: Option<usize>,
    /// Longest encoded value, in bytes.
    pub value_bytes_max: usize,
    /// Loads at the source at a time; more wait.
    pub loads_max: usize,
    /// Hard time-out of a load.
    pub load_timeout: Duration,
}

impl NamespaceSettings {
    /// Defaults: 60 s, event-driven, not critical, 1,000 entries, 64 MiB, both tiers, bound 2 s.
    pub fn new(namespace: Namespace) -> Self {
        let ttl = Duration::from_secs(60);
        Self {
            namespace,
            ttl,
            ttl_max: Duration::from_secs(3600),
            l1_ttl_max: Duration::from_secs(60),
            idle: None,
            absent_ttl: Duration::from_secs(5),
            event_driven: true,
            updates: Updates::default(),
            critical: false,
            l1_entries_max: 1_000,
            l1_bytes_max: 64 * 1024 * 1024,
            tiers: Tiers::Both,
            staleness_bound: Duration::from_secs(2),
            degraded: Degraded::BoundedStale(ttl),
            codec: CodecChoice::Bincode,
            schema: 1,
            compress_above_bytes: Some(1024),
            value_bytes_max: 1024 * 1024,
            loads_max: 64,
            load_timeout: Duration::from_secs(5),
        }
    }

    /// Sets the TTL; a degraded node that serves stale copies does so up to this age.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self.ttl_max = self.ttl_max.max(ttl);
        if let Degraded::BoundedStale(max) = &mut self.degraded {
            *max = ttl;
        }
        self
    }

    /// Declares the namespace critical: strict when degraded.
    #[must_use]
    pub fn critical(mut self) -> Self {
        self.critical = true;
        self.degraded = Degraded::Strict;
        self
    }

    /// How long stamps and floors are kept: longer than any record that they outdate, even if the store's clock is put back
    /// a little. One that is put back further shows in the records: they seem to live longer than they can.
    pub(crate) fn stamp_ttl(&self) -> Duration {
        self.ttl_max.saturating_add(CLOCK_SLACK)
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let wrong = |what: &str| Err(BuildError::Setting(format!("{}: {what}", self.namespace)));
        if self.ttl < Duration::from_millis(1) {
            return wrong("ttl must be at least 1 ms");
        }
        if self.l1_entries_max == 0 && self.tiers.l1() {
            return wrong("l1_entries_max must be at least 1 while L1 is used");
        }
        if self.idle.is_some_and(|idle| idle < Duration::from_millis(1)) {
            return wrong("idle must be at least 1 ms");
        }
        if self.loads_max == 0 {
            return wrong("loads_max must be at least 1");
        }
        if self.value_bytes_max == 0 {
            return wrong("value_bytes_max must be at least 1");
        }
        Ok(())
    }
}

/// The rules of a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Bytes in L1 over all namespaces, overhead included. Then each namespace has its own `l1_bytes_max` of it (none if it
    /// does not use L1) and may borrow what the others leave unused; together they may not be promised more than this.
    /// `None`: each namespace is bounded by itself, and nobody borrows.
    pub l1_bytes_max: Option<u64>,
    /// How long a write is repeated before it is given up as unacknowledged.
    pub write_deadline: Duration,
    /// Lifetime of a load lease.
    pub lease_ttl: Duration,
    /// How long to wait for another node's load before loading without a fill.
    pub lease_wait: Duration,
    /// Invalidations kept for later while the store is away; beyond that the partition is flushed on return. As many again
    /// are kept of those that name the version of a put; beyond that the flush leaves room for older puts.
    pub outbox_max: usize,
    /// Events waiting for handlers; beyond that handlers get one `Missed` instead.
    pub handler_queue_max: usize,
    /// Whether events also go, as JSON, to the public channel.
    pub public_channel: bool,
    /// What the auditor watches in event-driven namespaces; `None` = there is none.
    pub audit: Option<AuditSettings>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            l1_bytes_max: None,
            write_deadline: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(5),
            lease_wait: Duration::from_millis(150),
            outbox_max: 1_000,
            handler_queue_max: 4_096,
            public_channel: false,
            audit: None,
        }
    }
}
