//! The words of this tier: where an entry lives, where its value comes from, what a hit tells, what left and
//! why.

use std::ops::{Deref, Index};
use std::sync::Arc;

/// Where a key lives. The caller hashes once; the tier never hashes a key.
///
/// Both hashes must be well mixed over all 64 bits: different bits choose stripe, shard and place in the
/// table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    hash: u64,
    resource: u64,
    partition: u32,
    variant: bool,
}

impl Address {
    /// A key without parameters: its hash *is* the resource's, so an invalidation of the resource finds it
    /// without an index.
    pub fn bare(resource: u64, partition: u32) -> Self {
        Self { hash: resource, resource, partition, variant: false }
    }

    /// A key with parameters. `hash` is that of the whole key, `resource` that of (namespace, resource).
    ///
    /// It is also listed under its resource, which costs one more table operation at insert and removal.
    pub fn variant(resource: u64, hash: u64, partition: u32) -> Self {
        Self { hash, resource, partition, variant: true }
    }

    /// The hash of the whole key; the table's.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash of (namespace, resource); picks shard and stripe.
    pub fn resource(&self) -> u64 {
        self.resource
    }

    /// The unit of coherence that the resource belongs to.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Whether the key has parameters.
    pub fn is_variant(&self) -> bool {
        self.variant
    }
}

/// A position in a partition's log: what a value reflects, or where an event stands. Ordered by epoch, then
/// sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Incarnation of the partition's log; sequences of different epochs cannot be compared.
    pub epoch: u64,
    /// Place in the log of that epoch.
    pub seq: u64,
}

impl Origin {
    /// As an event: no entry survives it.
    pub const MAX: Self = Self { epoch: u64::MAX, seq: u64::MAX };

    /// Whether a value of this origin already reflects the event, so that the event need not drop it.
    pub fn reflects(self, event: Self) -> bool {
        self.epoch == event.epoch && self.seq >= event.seq
    }
}

/// The groups (tags, region …) of an entry, as 64-bit ids: one pointer wide. Empty allocates nothing, and
/// neither does a clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(Option<Arc<Box<[u64]>>>);

impl Groups {
    /// Bytes on the heap, as if no other entry shared them.
    pub(crate) fn bytes(&self) -> usize {
        // Two counters and the slice; then the ids.
        self.0.as_ref().map_or(0, |ids| 2 * size_of::<usize>() + size_of_val(ids) + size_of_val(&***ids))
    }
}

impl From<Vec<u64>> for Groups {
    fn from(ids: Vec<u64>) -> Self {
        Self(Some(ids.into_boxed_slice()).filter(|ids| !ids.is_empty()).map(Arc::new))
    }
}

impl From<&[u64]> for Groups {
    fn from(ids: &[u64]) -> Self {
        Self::from(ids.to_vec())
    }
}

impl FromIterator<u64> for Groups {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        Self::from(Vec::from_iter(ids))
    }
}

impl Deref for Groups {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        self.0.as_deref().map_or(&[], |ids| ids)
    }
}

/// What the tier must know about a value to keep it. All times are logical milliseconds of the caller's
/// clock.
///
/// `load_start` and `soft_expiry` are kept as distances of less than 49 days from `born`. What is farther away is cut:
/// due for refresh earlier, loaded earlier. So is a soft expiry before `born` or a start after it. `u64::MAX` and 0 stay
/// what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// What the value reflects: the position captured *before* it was read, or that of the write which made
    /// it.
    pub origin: Origin,
    /// Version that the system of record gave; not looked at here.
    pub version: u64,
    /// When the load from the source began; 0 if the value came from elsewhere.
    pub load_start: u64,
    /// When the value was read from the source, for its age.
    pub born: u64,
    /// From here on a hit is due for refresh; not looked at here.
    pub soft_expiry: u64,
    /// From here on the entry is never served; `u64::MAX` = never expires.
    pub hard_expiry: u64,
    /// With more than 0 milliseconds the entry also expires when it was not asked for during so long: each hit moves that
    /// to as long after it, never past `hard_expiry`. A policy that goes by expiry sees the first of these times.
    pub idle: u32,
    /// Bytes of key and value together; the tier adds its own overhead
    /// ([`L1::overhead_bytes`](crate::L1::overhead_bytes)).
    pub weight: u32,
    /// Groups whose stamps can outdate the entry, beside the tier's own group.
    pub groups: Groups,
}

/// What [`L1::get_with`](crate::L1::get_with) shows of the [`Meta`] of a hit: as much as lies beside the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// See [`Meta::origin`].
    pub origin: Origin,
    /// See [`Meta::version`].
    pub version: u64,
    /// See [`Meta::load_start`].
    pub load_start: u64,
    /// See [`Meta::born`].
    pub born: u64,
    /// See [`Meta::soft_expiry`].
    pub soft_expiry: u64,
    /// See [`Meta::hard_expiry`]; not the end of an idle time.
    pub hard_expiry: u64,
}

/// What a hit tells: the value (cloned, so cheap for an `Arc`) and the [`Meta`] a caller judges it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit<V> {
    /// The value.
    pub value: V,
    /// See [`Meta::origin`].
    pub origin: Origin,
    /// See [`Meta::version`].
    pub version: u64,
    /// See [`Meta::load_start`].
    pub load_start: u64,
    /// See [`Meta::born`].
    pub born: u64,
    /// See [`Meta::soft_expiry`].
    pub soft_expiry: u64,
    /// See [`Meta::hard_expiry`]; not the end of an idle time.
    pub hard_expiry: u64,
}

/// The state of the fences over one key, taken before any I/O of a load. An insert holds only if nothing
/// moved since.
///
/// Equal snapshots mean that no invalidation of the key, its resource, a pattern or the partition lay
/// between, so a snapshot can also be part of a flight's key. Group stamps are not in it: they are judged by
/// [`Origin`], see [`Fence`](crate::Fence).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    pub(crate) stripe: u64,
    pub(crate) patterns: u64,
    pub(crate) generation: u64,
}

/// Why something left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// For room.
    Evicted,
    /// By time.
    Expired,
    /// The truth changed: by key, resource, pattern, group or flush.
    Invalidated,
    /// A newer value of the same key came.
    Replaced,
    /// Asked for by [`L1::remove`](crate::L1::remove).
    Removed,
}

/// An entry that left, handed out so that the caller drops it outside of every lock.
#[derive(Debug)]
pub struct Left<K, V> {
    /// Its key.
    pub key: K,
    /// Its value.
    pub value: V,
    /// Why.
    pub cause: Cause,
    /// Bytes that became free, overhead included.
    pub bytes: u64,
}

/// Entries that left together. One takes no allocation, and most inserts let go of no more.
#[derive(Debug)]
pub struct Departed<K, V> {
    first: Option<Left<K, V>>,
    others: Vec<Left<K, V>>,
}

impl<K, V> Departed<K, V> {
    #[inline(always)]
    pub(crate) fn of(first: Option<Left<K, V>>) -> Self {
        Self { first, others: Vec::new() }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, left: Left<K, V>) {
        if self.first.is_none() {
            self.first = Some(left);
        } else {
            self.push_other(left);
        }
    }

    #[cold]
    fn push_other(&mut self, left: Left<K, V>) {
        self.others.push(left);
    }

    /// How many.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Whether nothing left.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// In the order in which they left.
    pub fn iter(&self) -> impl Iterator<Item = &Left<K, V>> {
        self.first.iter().chain(&self.others)
    }
}

impl<K, V> Default for Departed<K, V> {
    fn default() -> Self {
        Self { first: None, others: Vec::new() }
    }
}

impl<K, V> Index<usize> for Departed<K, V> {
    type Output = Left<K, V>;

    /// Panics if there are not so many.
    fn index(&self, index: usize) -> &Left<K, V> {
        match (index, &self.first) {
            (0, Some(first)) => first,
            _ => &self.others[index.wrapping_sub(1)],
        }
    }
}

impl<K, V> IntoIterator for Departed<K, V> {
    type Item = Left<K, V>;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Left<K, V>>, std::vec::IntoIter<Left<K, V>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

impl<'a, K, V> IntoIterator for &'a Departed<K, V> {
    type Item = &'a Left<K, V>;
    type IntoIter = std::iter::Chain<std::option::Iter<'a, Left<K, V>>, std::slice::Iter<'a, Left<K, V>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.iter().chain(&self.others)
    }
}

/// What an insert did.
#[derive(Debug)]
#[must_use = "holds what left"]
pub struct Inserted<K, V> {
    /// Why the value was not stored; `None` = it was.
    pub refused: Option<Refusal>,
    /// What left meanwhile: for room, by time, or as the older value of the key.
    pub left: Departed<K, V>,
}

impl<K, V> Inserted<K, V> {
    /// Whether the value is in the cache.
    pub fn stored(&self) -> bool {
        self.refused.is_none()
    }
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The key, its resource or a pattern was invalidated since the snapshot.
    Invalidated,
    /// The partition was flushed since the snapshot.
    Flushed,
    /// One of its groups was stamped after its origin.
    Stamped,
    /// A value of a later origin is there.
    Newer,
    /// It is past its hard expiry already.
    Expired,
    /// It alone is above the byte bound. An older value of the key left, as it is known to be outdated.
    TooHeavy,
    /// No room could be made: the tier holds nothing (`entries_max` 0), or other inserts took the room each
    /// time.
    NoRoom,
}

/// Counters since the start, and the present size. Hits and misses are the caller's to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries held now, those not yet swept included.
    pub entries: usize,
    /// Bytes held now, overhead included.
    pub bytes: u64,
    /// Values stored.
    pub inserted: u64,
    /// Left for room.
    pub evicted: u64,
    /// Left by time.
    pub expired: u64,
    /// Left because the truth changed.
    pub invalidated: u64,
    /// Left for a newer value of the same key.
    pub replaced: u64,
    /// Left because asked for.
    pub removed: u64,
    /// Inserts refused because of an invalidation, flush or stamp since, or a newer value: what the fences
    /// are for.
    pub refused_outdated: u64,
    /// Inserts refused for another reason: too heavy, expired, no room.
    pub refused_unfit: u64,
}
