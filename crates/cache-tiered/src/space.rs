//! One namespace: its L1, its flights, its records, its counters.

use std::any::type_name;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use cache_events::{Group, Key, Partition, Pattern, Position, Version};
use cache_l1::{Address, Borrower, Fence, Groups, L1, Meta, Origin, Pool, Snapshot};
use cache_l2::{
    BincodeCodec, Codec, JsonCodec, Opened, RecordError, RecordFormat, RecordHead, SealError, fingerprint,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::answer::Tier;
use crate::audit::{Audit, What};
use crate::cache::PolicyFactory;
use crate::error::ReadError;
use crate::explain::Refusal;
use crate::flight::Flights;
use crate::receive::{LocalSpace, Update};
use crate::settings::{CodecChoice, NamespaceSettings};
use crate::stats::{Counters, NamespaceStats, count};
use crate::updates::Patcher;

/// What a value must be to be cached.
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for V {}

/// What a flight belongs to: no invalidation lies between two equal ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlightFence {
    pub(crate) snapshot: Snapshot,
    stamps: u64,
    /// Nobody else's, for a flight that nobody may share.
    own: u64,
}

impl FlightFence {
    /// The same fence for a flight of one's own; zero is everybody's.
    pub(crate) fn own(self, own: u64) -> Self {
        Self { own, ..self }
    }
}

/// A value on its way to a caller and into L1. Times are this node's logical milliseconds.
pub(crate) struct Found<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) tier: Tier,
    pub(crate) origin: Position,
    pub(crate) version: Version,
    /// 0 unless this node loaded it itself.
    pub(crate) load_start: u64,
    pub(crate) born: u64,
    pub(crate) soft_expiry: u64,
    pub(crate) hard_expiry: u64,
    pub(crate) groups: Groups,
    pub(crate) weight: u32,
}

impl<V> Clone for Found<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), groups: self.groups.clone(), ..*self }
    }
}

pub(crate) type L1Of<V> = L1<Key, Option<Arc<V>>>;

pub(crate) struct Space<V> {
    pub(crate) settings: NamespaceSettings,
    /// The TTL in milliseconds; it alone of the settings can change while the cache runs.
    ttl_ms: AtomicU64,
    /// The staleness bound in milliseconds, as the hit path compares it.
    pub(crate) bound_ms: u64,
    pub(crate) l1: L1Of<V>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) group: Group,
    format: RecordFormat,
    codec: Box<dyn Codec<V>>,
    /// Where the namespace knows deltas.
    pub(crate) patcher: Option<Box<dyn Patcher<V>>>,
    pub(crate) reads: Flights<Key, FlightFence, Option<Found<V>>>,
    pub(crate) loads: Flights<Key, FlightFence, Result<Found<V>, ReadError>>,
    pub(crate) bulkhead: Semaphore,
    pub(crate) counters: Counters,
    /// Keys whose hash is below this are watched by the auditor; 0 = none.
    pub(crate) audited_below: u64,
    pub(crate) audit: Option<Audit>,
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// How values of a type are written in a namespace.
pub(crate) fn written_as<T: Cacheable>(settings: &NamespaceSettings) -> (RecordFormat, Box<dyn Codec<T>>) {
    let codec: Box<dyn Codec<T>> = match settings.codec {
        CodecChoice::Bincode => Box::new(BincodeCodec),
        CodecChoice::Json => Box::new(JsonCodec),
    };
    let format = RecordFormat {
        fingerprint: fingerprint(type_name::<T>(), settings.schema),
        compress_above: settings.compress_above_bytes,
        value_bytes_max: settings.value_bytes_max,
    };
    (format, codec)
}

impl<V: Cacheable> Space<V> {
    /// `None`: its share is more than the pool has left.
    pub(crate) fn new(
        settings: NamespaceSettings,
        fence: Arc<Fence>,
        policy: &PolicyFactory,
        pool: Option<&Arc<Pool>>,
        patcher: Option<Box<dyn Patcher<V>>>,
        audit: Option<Audit>,
    ) -> Option<Arc<Self>> {
        let group = Group::namespace(&settings.namespace);
        // A namespace without L1 keeps one for its fences; it holds nothing.
        let config = cache_l1::Config {
            entries_max: settings.l1_entries_max.max(1),
            bytes_max: settings.l1_bytes_max.max(1),
            shards: None,
            own_group: group.id(),
        };
        let (format, codec) = written_as::<V>(&settings);
        let mut l1 = L1::new(config, fence.clone(), policy(config.entries_max));
        if let Some(pool) = pool {
            let share = if settings.tiers.l1() { settings.l1_bytes_max } else { 0 };
            l1 = l1.within(pool, share, settings.critical)?;
        }
        let space = Arc::new(Self {
            l1,
            fence,
            group,
            format,
            codec,
            patcher,
            reads: Flights::new(),
            loads: Flights::new(),
            bulkhead: Semaphore::new(settings.loads_max),
            counters: Counters::new(),
            audited_below: audit.as_ref().map_or(0, Audit::below),
            audit,
            ttl_ms: AtomicU64::new(millis(settings.ttl)),
            bound_ms: millis(settings.staleness_bound),
            settings,
        });
        let borrower: Weak<Self> = Arc::downgrade(&space);
        space.l1.open_to_claims(borrower);
        Some(space)
    }

    /// How long a value lives if nobody says otherwise.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.ttl_ms.store(millis(ttl), Ordering::Relaxed);
    }

    pub(crate) fn partition(&self, key: &Key) -> Partition {
        key.partition(self.fence.partitions())
    }

    #[inline]
    pub(crate) fn address(&self, key: &Key) -> Address {
        let partition = self.partition(key).0;
        if key.has_params() {
            Address::variant(key.resource_hash(), key.hash64(), partition)
        } else {
            Address::bare(key.resource_hash(), partition)
        }
    }

    pub(crate) fn flight_fence(&self, at: &Address) -> FlightFence {
        // The version of the stamps first: a stamp between the two reads makes a fence that nobody else has.
        let stamps = self.fence.version();
        FlightFence { snapshot: self.l1.snapshot(at), stamps, own: 0 }
    }

    /// Puts what was found into L1 unless a fence has moved since the snapshot; `idle` is the caller's wish. What leaves
    /// is dropped here, outside of all locks. Says whether it is there now.
    pub(crate) fn insert(
        &self,
        key: &Key,
        at: &Address,
        found: &Found<V>,
        snapshot: &Snapshot,
        idle: Option<Duration>,
        now: u64,
    ) -> bool {
        let idle = idle.or(self.settings.idle).unwrap_or_default().as_millis();
        let meta = Meta {
            origin: Origin { epoch: found.origin.epoch, seq: found.origin.seq },
            version: found.version.0,
            load_start: found.load_start,
            born: found.born,
            soft_expiry: found.soft_expiry,
            hard_expiry: found.hard_expiry,
            idle: u32::try_from(idle).unwrap_or(u32::MAX),
            weight: found.weight,
            groups: found.groups.clone(),
        };
        let inserted = self.l1.insert(key.clone(), found.value.clone(), at, meta, snapshot, now);
        if at.hash() < self.audited_below
            && let Some(audit) = &self.audit
        {
            audit.track(key, at);
            let (tier, version, load_start) = (found.tier, found.version, found.load_start);
            let what = match inserted.stored() {
                true => What::Inserted { tier, version, load_start, groups: found.groups.clone() },
                false => What::Refused,
            };
            audit.happened(at, found.origin, what);
        }
        if !inserted.stored() && found.tier == Tier::Source {
            count(&self.counters.fills_refused);
        }
        inserted.stored()
    }

    /// Encodes a value into a record.
    pub(crate) fn seal(&self, head: &RecordHead, key: &Key, value: Option<&V>) -> Result<Bytes, SealError> {
        self.format.seal(head, key, value, &*self.codec)
    }

    /// What the record says, if it can be taken: live epoch, not overtaken by a stamp, intact, of this type and key,
    /// not expired. Anything else is a miss, counted.
    pub(crate) fn judge(
        &self,
        key: &Key,
        bytes: &[u8],
        live_epoch: u64,
        stamp: Option<Position>,
        server_now: u64,
        now: u64,
    ) -> Option<Found<V>> {
        let judged = self.take_record(key, bytes, live_epoch, stamp, server_now, now);
        if let Err(why) = &judged {
            if let Refusal::Unreadable(error) = why {
                tracing::debug!(%key, %error, "a record of L2 is treated as a miss");
            }
            count(&self.counters.records_refused);
        }
        judged.ok()
    }

    /// [`judge`](Self::judge) without counting, and why a record cannot be taken.
    pub(crate) fn take_record(
        &self,
        key: &Key,
        bytes: &[u8],
        live_epoch: u64,
        stamp: Option<Position>,
        server_now: u64,
        now: u64,
    ) -> Result<Found<V>, Refusal> {
        let opened = self.open(key, bytes).map_err(Refusal::Unreadable)?;
        let head = opened.head;
        if head.origin.epoch != live_epoch && !mutated!("dead_epoch_taken") {
            return Err(Refusal::DeadEpoch { live: live_epoch });
        }
        // One of a later epoch, which this node may not have adopted yet, says as much: it took the place of the last one of
        // the record's epoch.
        if let Some(stamp) = stamp.filter(|stamp| *stamp > head.origin)
            && !mutated!("resource_stamp_ignored")
        {
            return Err(Refusal::Resource { stamp });
        }
        let partition = self.partition(key).0;
        let stamped = self.fence.stamped_after(partition, &[self.group.id()], head.origin.seq)
            || self.fence.stamped_after(partition, &head.groups, head.origin.seq);
        if stamped && !mutated!("group_stamp_ignored") {
            return Err(Refusal::Group);
        }
        // The stamps must be those of the record's epoch. This node's own flush replaces them before the bus has adopted the
        // epoch that it began. Asked last: whoever sees the old epoch here has seen all of its stamps.
        if self.fence.epoch(partition) != live_epoch && !mutated!("stamps_of_another_epoch") {
            return Err(Refusal::EpochBegins);
        }
        let weight = (opened.raw_len + key.weight()).try_into().unwrap_or(u32::MAX);
        self.dated(head, opened.value, weight, server_now, now)
    }

    /// Reads a record, whatever it is worth.
    pub(crate) fn open(&self, key: &Key, bytes: &[u8]) -> Result<Opened<V>, RecordError> {
        self.format.open(bytes, key, &*self.codec)
    }

    /// What a record says, its times by this node's clock, unless they are over.
    pub(crate) fn dated(
        &self,
        head: RecordHead,
        value: Option<V>,
        weight: u32,
        server_now: u64,
        now: u64,
    ) -> Result<Found<V>, Refusal> {
        let remaining =
            head.hard_expiry.checked_sub(server_now).filter(|&left| left > 0).ok_or(Refusal::Expired)?;
        // Longer than any record of the namespace may live: the store's clock was put back since it was written. It outlives
        // the stamps that outdate it.
        if u128::from(remaining) > self.settings.stamp_ttl().as_millis() && !mutated!("overlong_record_taken")
        {
            return Err(Refusal::Overlong);
        }
        let soft = head.soft_expiry.saturating_sub(server_now);
        Ok(Found {
            value: value.map(Arc::new),
            tier: Tier::L2,
            origin: head.origin,
            version: head.version,
            load_start: 0,
            born: now.saturating_sub(server_now.saturating_sub(head.load_start)),
            soft_expiry: now + soft,
            hard_expiry: now + self.l1_ttl(Duration::from_millis(remaining)).as_millis() as u64,
            groups: Groups::from(head.groups),
            weight,
        })
    }

    /// How long L1 may keep what has this long to live in L2.
    pub(crate) fn l1_ttl(&self, remaining: Duration) -> Duration {
        if self.settings.event_driven { remaining.min(self.settings.l1_ttl_max) } else { remaining }
    }

    pub(crate) fn stats(&self) -> NamespaceStats {
        let mut stats = self.counters.snapshot();
        let l1 = self.l1.stats();
        stats.l1_entries = self.l1.len();
        stats.l1_entries_max = self.settings.l1_entries_max;
        stats.l1_bytes = self.l1.bytes();
        stats.l1_bytes_max = self.settings.l1_bytes_max;
        stats.l1_evicted = l1.evicted;
        stats.l1_expired = l1.expired;
        stats.audit = self.audit.as_ref().map(Audit::stats);
        stats
    }
}

impl<V: Cacheable> Borrower for Space<V> {
    fn give_back(&self, bytes: u64) -> u64 {
        self.l1.give_back(bytes)
    }
}

impl<V: Cacheable> LocalSpace for Space<V> {
    fn invalidate_key(&self, key: &Key, event: Origin) {
        let at = self.address(key);
        let left = self.l1.invalidate_key(key, &at, event);
        if left.is_some()
            && let Some(audit) = &self.audit
        {
            audit.happened(&at, Position::new(event.epoch, event.seq), What::Dropped);
        }
        drop(left);
    }

    fn invalidate_resource(&self, resource_hash: u64, event: Origin) {
        drop(self.l1.invalidate_resource(resource_hash, event));
    }

    fn invalidate_pattern(&self, pattern: &Pattern, partition: Partition, event: Origin) {
        drop(self.l1.invalidate_matching(event, partition.0, |key| pattern.covers(key)));
    }

    fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    fn count_invalidation(&self) {
        count(&self.counters.invalidations);
    }

    fn is_critical(&self) -> bool {
        self.settings.critical
    }

    fn take_update(&self, update: &Update<'_>, is_written: &dyn Fn(u64) -> bool) {
        self.replace(update, is_written);
    }
}

#[cfg(test)]
mod tests {
    use cache_events::Namespace;
    use cache_policy::PolicyKind;

    use super::*;

    const P: u32 = 0;
    const NOW: u64 = 1_000;

    fn space() -> Arc<Space<String>> {
        let settings = NamespaceSettings::new(Namespace::new("text").expect("valid"));
        let policy: PolicyFactory = Arc::new(|entries| PolicyKind::Sieve.family(entries));
        Space::new(settings, Arc::new(Fence::new(1)), &policy, None, None, None).expect("no pool to share")
    }

    fn key() -> Key {
        Key::new(&Namespace::new("text").expect("valid"), "k").expect("valid")
    }

    /// What L2 has of the key as of this position, and the group that it is in.
    fn record(space: &Space<String>, origin: Position, group: u64) -> Bytes {
        let head = RecordHead {
            origin,
            version: Version(0),
            load_start: NOW,
            soft_expiry: NOW + 60_000,
            hard_expiry: NOW + 60_000,
            load_cost_us: 1,
            groups: vec![group],
        };
        space.seal(&head, &key(), Some(&"value".to_owned())).expect("short")
    }

    /// A node that begins an epoch flushes its own tiers, and so forgets the stamps of the epoch before; its bus adopts the
    /// new one a moment later. A read between the two has a record of the old epoch and nothing to judge it by.
    #[test]
    fn a_record_is_not_judged_by_the_stamps_of_another_epoch() {
        const GROUP: u64 = 77;
        let (space, old, new) = (space(), 7, 8);
        let taken = |origin: Position, live: u64| {
            let record = record(&space, origin, GROUP);
            space.judge(&key(), &record, live, None, NOW, NOW).is_some()
        };
        space.fence.flush(P, old, &[]);
        space.fence.stamp(P, GROUP, 20);
        let (outdated, later) = (Position::new(old, 19), Position::new(old, 20));
        assert!(!taken(outdated, old), "stamped");
        assert!(taken(later, old));

        space.fence.flush(P, new, &[]);
        assert!(!space.fence.stamped_after(P, &[GROUP], outdated.seq), "the stamp has gone with its epoch");
        assert!(!taken(outdated, old));
        assert!(!taken(later, old), "nothing tells it from the other");
        assert!(taken(Position::new(new, 1), new));
    }
}
