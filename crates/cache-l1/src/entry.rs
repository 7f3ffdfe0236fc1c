//! What is held of one entry, and how it is laid out.
//!
//! On the shelf the halves of an entry lie apart, so that hits fill the processor's caches with what they read and
//! nothing else. The front of an entry whose key and value are a pointer each is one cache line.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;

use crate::times::Times;
use crate::{Address, Cause, Groups, Left, Meta};

/// One entry on its way in or out.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) front: Front<K, V>,
    pub(crate) back: Back,
}

/// The half that a hit reads.
#[derive(Debug)]
pub(crate) struct Front<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    /// The version of the partition at which the entry was last found alive.
    pub(crate) judged: AtomicU64,
    /// Of its [`Meta::origin`]. The epoch is the fence's, or stray.
    pub(crate) seq: u64,
    pub(crate) version: u64,
    pub(crate) times: Times,
    pub(crate) home: Home,
}

/// The half that only changes read, and hits after a stamp.
#[derive(Debug, Default)]
pub(crate) struct Back {
    pub(crate) hash: u64,
    pub(crate) groups: Groups,
    pub(crate) weight: u32,
}

/// Both halves of an entry, wherever they lie.
#[derive(Debug)]
pub(crate) struct Halves<'a, K, V> {
    pub(crate) front: &'a Front<K, V>,
    pub(crate) back: &'a Back,
}

impl<K, V> Clone for Halves<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Halves<'_, K, V> {}

impl<K, V> Halves<'_, K, V> {
    /// Overhead included.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.back.weight) + overhead_bytes::<K, V>(&self.back.groups, self.front.home.is_variant())
    }
}

impl<K, V> Entry<K, V> {
    pub(crate) fn new(key: K, value: V, at: &Address, meta: Meta) -> Self {
        let times = Times::new(&meta);
        let Meta { origin, version, weight, groups, .. } = meta;
        Self {
            front: Front {
                key,
                value,
                judged: AtomicU64::new(0),
                seq: origin.seq,
                version,
                times,
                home: Home::new(at),
            },
            back: Back { hash: at.hash(), groups, weight },
        }
    }

    pub(crate) fn halves(&self) -> Halves<'_, K, V> {
        Halves { front: &self.front, back: &self.back }
    }

    pub(crate) fn leave(self, cause: Cause) -> Left<K, V> {
        let bytes = self.halves().bytes();
        Left { key: self.front.key, value: self.front.value, cause, bytes }
    }
}

/// Partition and two marks in 4 bytes, never 0, so that an empty place costs no byte more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home(NonZeroU32);

impl Home {
    /// Partitions are below.
    pub(crate) const PARTITIONS_MAX: u32 = (1 << 30) - 1;
    const VARIANT: u32 = 1 << 30;
    const STRAY: u32 = 1 << 31;

    fn new(at: &Address) -> Self {
        let home = NonZeroU32::MIN.saturating_add(at.partition().min(Self::PARTITIONS_MAX - 1));
        Self(if at.is_variant() { home | Self::VARIANT } else { home })
    }

    pub(crate) fn partition(self) -> u32 {
        (self.0.get() & Self::PARTITIONS_MAX) - 1
    }

    pub(crate) fn is_variant(self) -> bool {
        self.0.get() & Self::VARIANT != 0
    }

    /// Whether the entry came with another epoch than the fence knew for its partition.
    #[inline]
    pub(crate) fn is_stray(self) -> bool {
        self.0.get() & Self::STRAY != 0
    }

    pub(crate) fn set_stray(&mut self) {
        self.0 |= Self::STRAY;
    }
}

/// What an entry costs beside its weight. Tables are counted as on average between two times of growing, lists of
/// slots as grown by an eighth at a time.
pub(crate) fn overhead_bytes<K, V>(groups: &Groups, variant: bool) -> u64 {
    const TABLE: usize = 8;
    const WHEEL: usize = 8;
    /// The policies' own arrays: 9 to 14 bytes a slot.
    const POLICY: usize = 14;
    /// A link, and a place in the table of resources.
    const VARIANT: usize = 16 + 8;
    let fixed = size_of::<Option<Front<K, V>>>() + size_of::<Back>() + TABLE + WHEEL + POLICY;
    (fixed + groups.bytes() + if variant { VARIANT } else { 0 }) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_front_of_a_small_entry_is_one_cache_line() {
        assert_eq!(size_of::<Option<Front<u64, u64>>>(), 64);
        assert_eq!(size_of::<Option<Front<Arc<u64>, Option<Arc<u64>>>>>(), 64);
        assert_eq!(size_of::<Back>(), 24);
    }

    #[test]
    fn beside_key_and_value_an_entry_costs_at_most_80_bytes_and_24_for_coherence() {
        let bytes = overhead_bytes::<u64, Arc<u64>>(&Groups::default(), false);
        assert!(bytes - 16 <= 80 + 24, "{bytes}");
    }

    #[test]
    fn a_home_keeps_its_marks_apart() {
        for partition in [0, 1, 1_023, Home::PARTITIONS_MAX - 1] {
            let mut home = Home::new(&Address::variant(1, 2, partition));
            assert!(home.is_variant() && !home.is_stray() && home.partition() == partition);
            home.set_stray();
            assert!(home.is_variant() && home.is_stray() && home.partition() == partition);
            assert!(!Home::new(&Address::bare(1, partition)).is_variant());
        }
    }
}
