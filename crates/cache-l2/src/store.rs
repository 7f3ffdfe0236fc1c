//! The port to the shared tier.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_events::wire::{self, CargoKind};
use cache_events::{Group, Key, Namespace, NodeId, Partition, Pattern, Position, Version};

/// The shared tier with its log: every write is one atomic step of value, version, log entry and hint.
///
/// The steps and their rules are those of `docs/coherence.md`; [`contract`](crate::contract) is the suite that every
/// implementation runs. All keys of one call lie in one partition (`key.partition(store.partitions())`); the caller
/// splits.
///
/// Every method is safe to drop: what was already sent may still take effect (unknown outcome), which is why writes
/// are idempotent and can be repeated.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// How many partitions the deployment has: at least 1, the same on every node.
    fn partitions(&self) -> u32;

    /// What it is, for diagnostics: `embedded` or `redis`.
    fn kind(&self) -> &'static str;

    /// Reads records and the stamps of their resources, without asking for anything. One round trip.
    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError>;

    /// [`read`](Self::read) from where it may be older than anything that was acknowledged: a replica. For callers to whom any
    /// age will do, and who say so to theirs. `None`: there is nothing of that kind that answers.
    async fn read_replica(
        &self,
        partition: Partition,
        keys: &[Key],
    ) -> Result<Option<ReadAnswer>, StoreError> {
        let _ = (partition, keys);
        Ok(None)
    }

    /// Reads a record, or asks for the right to load it: one fenced step.
    async fn lease(&self, key: &Key, ask: LeaseAsk) -> Result<LeaseAnswer, StoreError>;

    /// Stores a record iff the load lease is still there; says whether it did. Removes the lease.
    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError>;

    /// Gives a load lease back, if it is still ours.
    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError>;

    /// Stores a record and appends an event. Writes the new position into the header of the record; order of arrival
    /// decides between writers.
    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError>;

    /// Like [`put`](Store::put), but only if `version` is above that of a stored record of the live epoch and above
    /// the floor that an invalidation left, and where the caller names a record ([`Append::over`]) only in its place.
    /// `None` = refused: something as new or newer was there, or not that record.
    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError>;

    /// Removes keys with their leases, stamps resources, appends an event. With nothing to remove it only publishes.
    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError>;

    /// Stamps groups and appends an event. When the group table is full, stamps older than `keep` (the longest
    /// hard TTL of all namespaces) make room; if there are none, the epoch is bumped.
    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError>;

    /// Whether it can find the keys that a pattern covers at a reasonable cost. Where it cannot, callers invalidate the
    /// whole namespace instead.
    fn finds_patterns(&self) -> bool {
        true
    }

    /// Removes all keys and leases of a namespace that a pattern covers, then appends an event.
    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError>;

    /// Makes everything in the partition worthless: a new epoch, with the event as its first entry.
    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError>;

    /// Waits until so many replicas have everything up to a position that was acknowledged, or the time is over. Answers
    /// how many have it. [`StoreError::Unknown`]: another master has taken over meanwhile, and may not have it.
    async fn replicated(
        &self,
        partition: Partition,
        at: Position,
        replicas: u32,
        within: Duration,
    ) -> Result<u32, StoreError> {
        let _ = (partition, at, replicas, within);
        Err(StoreError::Refused { message: "this store has no replicas".into() })
    }

    /// Where the nodes stand, as they said with their syncs. A store that does not know refuses.
    async fn nodes(&self, partition: Partition) -> Result<NodeRoll, StoreError> {
        let _ = partition;
        Err(StoreError::Refused { message: "this store does not know where the nodes stand".into() })
    }
}

/// Where the nodes of a deployment stand in a partition.
#[derive(Debug, Clone, Default)]
pub struct NodeRoll {
    /// The last position of the partition.
    pub head: Position,
    /// How long ago its epoch began, at most: nodes that were not heard of since may be missing here.
    pub epoch_age_ms: u64,
    /// The nodes that were heard of lately.
    pub nodes: Vec<NodeRow>,
}

/// Where one node stood when it synced last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// The node.
    pub node: NodeId,
    /// It had applied everything up to here.
    pub at: Position,
    /// How long ago it said so, by the store's clock.
    pub age_ms: u64,
}

/// What every writing step carries: where the caller stands, and the event for the log.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// The caller's cursor in the partition; a store that is behind it has lost history and bumps its epoch.
    pub at: Position,
    /// The envelope (`cache_events::wire::encode`).
    pub payload: Bytes,
    /// The same event as a JSON object for the public channel, if that is switched on. The store adds the members
    /// `epoch` and `sequence`.
    pub public: Option<String>,
    /// What the hint of a put carries beside the event; the log never does.
    pub carry: Carry,
    /// What a versioned put asks for besides its version.
    pub over: Option<Over>,
}

/// What the hint of a put carries beside the event, for nodes that would rather be told than ask
/// (`cache_events::wire::encode_carrier`). The caller sees to it that it fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Carry {
    /// Nothing.
    #[default]
    Nothing,
    /// The record that is put, as the caller gives it: its position is the one in front of the hint.
    Record,
    /// What has to be done to the record that was there before.
    Delta(Bytes),
}

impl Append {
    /// What stands behind the position of the hint of a put of this record: for stores that publish it themselves.
    pub fn hint(&self, record: &Bytes) -> Bytes {
        let (kind, cargo) = match &self.carry {
            Carry::Nothing => return self.payload.clone(),
            Carry::Record => (CargoKind::Record, record),
            Carry::Delta(delta) => (CargoKind::Delta, delta),
        };
        wire::encode_carrier(&self.payload, kind, cargo).into()
    }
}

/// The record that a versioned put takes the place of. If any other is stored, or that one is worthless, the put is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Over {
    /// The position that it carries; of the live epoch, and not older than the stamp of its resource.
    pub position: Position,
    /// Groups of which none was stamped after it.
    pub groups: Vec<Group>,
}

/// What [`Store::read`] found.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// The epoch that was live when the connection made its hello: a record of another epoch is dead.
    pub epoch: u64,
    /// One for each key, in their order.
    pub items: Vec<ReadItem>,
}

/// One key's share of a [`ReadAnswer`].
#[derive(Debug, Clone, Default)]
pub struct ReadItem {
    /// The bytes of the record, unverified.
    pub record: Option<Bytes>,
    /// The last invalidation of the resource.
    pub stamp: Option<Position>,
}

/// What a caller of [`Store::lease`] wants.
#[derive(Debug, Clone, Copy)]
pub struct LeaseAsk {
    /// The token under which the lease is to be held.
    pub token: LeaseToken,
    /// How long the lease lives.
    pub ttl: Duration,
    /// Ask for the right to load even if a record is there.
    pub refresh: bool,
    /// The caller's cursor in the partition.
    pub at: Position,
}

/// What [`Store::lease`] said, with the state of the partition at that instant.
#[derive(Debug, Clone)]
pub struct LeaseAnswer {
    /// The head of the partition: a record that is loaded under this lease carries it.
    pub head: Position,
    /// The last invalidation of the resource.
    pub stamp: Option<Position>,
    /// Milliseconds since the Unix epoch by the store's clock.
    pub server_ms: u64,
    /// The answer.
    pub lease: Lease,
}

/// The four answers to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// A record is there.
    Value(Bytes),
    /// The caller may load and fill.
    Granted,
    /// Another caller loads; its lease lives that much longer.
    Busy(Duration),
    /// A writer asked that nothing be cached for that much longer: load, do not fill.
    Hold(Duration),
}

/// What [`Store::invalidate`] removes, all of one partition.
#[derive(Debug, Clone, Default)]
pub struct Invalidation {
    /// Keys: record and lease (but no hold) are removed; the version of a removed record becomes a floor.
    pub keys: Vec<Key>,
    /// Resources: all records of them that are older than this event become worthless.
    pub resources: Vec<(Namespace, String)>,
    /// How long stamps and floors are kept: the longest hard TTL of the namespaces concerned.
    pub keep: Duration,
    /// A floor for later versioned puts of these keys and resources, if the caller knows the new version.
    pub floor: Version,
    /// How long nothing may be filled for the keys (for an origin whose replicas lag); zero = no hold. It lasts that
    /// long whatever is written meanwhile, unless a longer one comes; only a store that loses data, or drops some for
    /// want of room, ends it early.
    pub hold: Duration,
}

/// The token of a load lease: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(pub [u8; 16]);

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// Why the shared tier did not do what it was asked, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached; nothing was done. Try later.
    #[error("the shared tier is unavailable: {message}")]
    Unavailable {
        /// What was tried and what it said.
        message: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The answer did not come (time-out, connection lost in mid-command): it may or may not have been done. Repeat.
    #[error("the outcome at the shared tier is unknown: {message}")]
    Unknown {
        /// What was tried and what happened.
        message: String,
    },
    /// It was refused and repeating does not help before somebody acts (no memory, no rights, too few replicas).
    #[error("the shared tier refused: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// This deployment and the store disagree on their layout; nothing may be read or written.
    #[error("fenced off from the shared tier: {message}")]
    Fenced {
        /// In what they disagree.
        message: String,
    },
}

impl StoreError {
    /// An [`Unavailable`](Self::Unavailable) with its cause.
    pub fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { message: message.into(), source: Some(source.into()) }
    }

    /// Whether repeating the same step may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unknown { .. })
    }
}
