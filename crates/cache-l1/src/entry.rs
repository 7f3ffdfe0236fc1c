//! What is held of one entry, and how it is laid out.
//!
//! On the shelf the parts of an entry lie apart, so that hits fill the processor's caches with what they read and
//! nothing else: the front, half a line of 64 bytes where key and value are a pointer each, and for who asks where the
//! value comes from, the notes, half a line as well. Both are found by the slot alone, so the processor fetches them
//! together.

use std::num::NonZeroU64;

use cache_policy::MARK_MAX;

use crate::sync::{AtomicU64, Ordering};
use crate::{Address, Groups, Meta, sliding, times};

/// What every look-up reads.
#[derive(Debug)]
pub(crate) struct Front<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    /// The version at which it was found alive, and above it the policy's mark and the bit of strays.
    judged: AtomicU64,
    /// Never 0, so that an empty place costs no byte more.
    hard_expiry: NonZeroU64,
}

/// The fence's verdict on a newcomer that may come in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// The version of the partition at which it was found alive.
    pub(crate) version: u64,
    /// It came with another epoch than the fence knew.
    pub(crate) stray: bool,
}

/// In `judged` of an entry that came with another epoch than the fence knew. Such a one never looks as if it had just
/// been judged, so the fast path need not ask.
const STRAY: u64 = 1 << 63;
/// The policy's mark lies here. Hits that meet may overwrite each other: then a mark is lost, or the version is an older one
/// again, at which the entry was alive as well.
const MARK_SHIFT: u32 = 61;
const MARK: u64 = (MARK_MAX as u64) << MARK_SHIFT;

/// What `judged` of an entry was when it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged(u64);

impl Judged {
    /// Whether the entry was found alive at that version of its partition, and its epoch is the fence's.
    #[inline(always)]
    pub(crate) fn was_alive_at(self, version: u64) -> bool {
        self.0 & !MARK == version
    }

    /// The policy's mark.
    #[inline(always)]
    pub(crate) fn mark(self) -> u8 {
        (self.0 >> MARK_SHIFT) as u8 & MARK_MAX
    }
}

impl<K, V> Front<K, V> {
    #[inline]
    pub(crate) fn new(key: K, value: V, admission: Admission, meta: &Meta) -> Self {
        let judged = AtomicU64::new(
            admission.version | if admission.stray && !mutated!("l1_stray_unmarked") { STRAY } else { 0 },
        );
        // One that expires at 0 is refused.
        let hard_expiry = NonZeroU64::new(meta.hard_expiry).unwrap_or(NonZeroU64::MIN);
        Self { key, value, judged, hard_expiry }
    }

    /// The fence's last verdict, and the policy's mark.
    #[inline(always)]
    pub(crate) fn judged(&self) -> Judged {
        // Relaxed: a version in it says only that this entry was alive at it, which stays true.
        Judged(self.judged.load(Ordering::Relaxed))
    }

    /// Changes the policy's mark; a line whose mark stays as it was stays clean.
    #[inline(always)]
    pub(crate) fn set_mark(&self, judged: Judged, mark: u8) {
        if mark != judged.mark() {
            let mark = u64::from(mark.min(MARK_MAX)) << MARK_SHIFT;
            self.judged.store((judged.0 & !MARK) | mark, Ordering::Relaxed);
        }
    }

    pub(crate) fn was_alive_at(&self, version: u64) -> bool {
        self.judged().was_alive_at(version)
    }

    /// The version of the partition at which the entry was last found alive.
    pub(crate) fn alive_at(&self) -> u64 {
        self.judged.load(Ordering::Relaxed) & !(STRAY | MARK)
    }

    pub(crate) fn is_stray(&self) -> bool {
        self.judged.load(Ordering::Relaxed) & STRAY != 0
    }

    /// Notes at which version it was found alive.
    pub(crate) fn found_alive(&self, version: u64) {
        let others = self.judged.load(Ordering::Relaxed) & (STRAY | MARK);
        self.judged.store(version | others, Ordering::Relaxed);
    }

    /// See [`Meta::hard_expiry`].
    #[inline]
    pub(crate) fn hard_expiry(&self) -> u64 {
        self.hard_expiry.get()
    }
}

/// What a caller judges a hit by.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(crate) struct Notes {
    /// Of its [`Meta::origin`]. The epoch is the fence's, or stray.
    pub(crate) seq: u64,
    pub(crate) version: u64,
    pub(crate) born: u64,
    /// Distances, see [`times`].
    soft: u32,
    load: u32,
}

impl Notes {
    #[inline]
    pub(crate) fn new(meta: &Meta) -> Self {
        Self {
            seq: meta.origin.seq,
            version: meta.version,
            born: meta.born,
            soft: times::after(meta.born, meta.soft_expiry),
            load: times::before(meta.born, meta.load_start),
        }
    }

    /// See [`Meta::soft_expiry`].
    #[inline]
    pub(crate) fn soft_expiry(&self) -> u64 {
        times::later(self.born, self.soft)
    }

    /// See [`Meta::load_start`].
    #[inline]
    pub(crate) fn load_start(&self) -> u64 {
        times::earlier(self.born, self.load)
    }
}

/// What only changes read, and hits after a stamp.
#[derive(Debug, Default)]
pub(crate) struct Back {
    pub(crate) hash: u64,
    pub(crate) groups: Groups,
    pub(crate) weight: u32,
    pub(crate) home: Home,
}

/// The parts of an entry, wherever they lie.
#[derive(Debug)]
pub(crate) struct Parts<'a, K, V> {
    pub(crate) front: &'a Front<K, V>,
    pub(crate) notes: Notes,
    pub(crate) back: &'a Back,
}

impl<K, V> Clone for Parts<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Parts<'_, K, V> {}

impl<K, V> Parts<'_, K, V> {
    /// Overhead included.
    pub(crate) fn bytes(&self) -> u64 {
        self.back.bytes::<K, V>()
    }
}

impl Back {
    /// Overhead included.
    #[inline(always)]
    pub(crate) fn bytes<K, V>(&self) -> u64 {
        u64::from(self.weight)
            + overhead_bytes::<K, V>(&self.groups, self.home.is_variant(), self.home.slides())
    }
}

/// Partition, whether the key has parameters, and whether the entry is listed as sliding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Home(u32);

impl Home {
    /// Partitions are below.
    pub(crate) const PARTITIONS_MAX: u32 = Self::SLIDES;
    const VARIANT: u32 = 1 << 31;
    const SLIDES: u32 = 1 << 30;

    pub(crate) fn new(at: &Address, slides: bool) -> Self {
        let variant = if at.is_variant() { Self::VARIANT } else { 0 };
        Self(at.partition() | variant | if slides { Self::SLIDES } else { 0 })
    }

    pub(crate) fn partition(self) -> u32 {
        self.0 & !(Self::VARIANT | Self::SLIDES)
    }

    /// Neither a variant nor sliding.
    #[inline(always)]
    pub(crate) fn is_plain(self) -> bool {
        self.0 & (Self::VARIANT | Self::SLIDES) == 0
    }

    pub(crate) fn slides(self) -> bool {
        self.0 & Self::SLIDES != 0
    }

    pub(crate) fn is_variant(self) -> bool {
        self.0 & Self::VARIANT != 0
    }
}

/// What an entry costs beside its weight. Tables are counted as on average between two times of growing, lists of
/// slots as grown by an eighth at a time.
#[inline]
pub(crate) fn overhead_bytes<K, V>(groups: &Groups, variant: bool, slides: bool) -> u64 {
    const TABLE: usize = 9;
    const WHEEL: usize = 8;
    /// The policies' own arrays: 8 to 14 bytes a slot.
    const POLICY: usize = 14;
    /// A link, and a place in the table of resources.
    const VARIANT: usize = 16 + 8;
    let parts = size_of::<Option<Front<K, V>>>() + size_of::<Notes>() + size_of::<Back>();
    let fixed = parts + TABLE + WHEEL + POLICY;
    let sliding = if slides { sliding::BYTES } else { 0 };
    (fixed + groups.bytes() + if variant { VARIANT } else { 0 } + sliding) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_a_hit_reads_is_twice_half_a_cache_line() {
        assert_eq!(size_of::<Option<Front<u64, u64>>>(), 32);
        assert_eq!(size_of::<Option<Front<Arc<u64>, Option<Arc<u64>>>>>(), 32);
        assert_eq!((size_of::<Notes>(), align_of::<Notes>()), (32, 32));
        assert_eq!(size_of::<Back>(), 24);
    }

    #[test]
    fn beside_key_and_value_an_entry_costs_at_most_80_bytes_and_24_for_coherence() {
        let bytes = overhead_bytes::<u64, Arc<u64>>(&Groups::default(), false, false);
        assert!(bytes - 16 <= 80 + 24, "{bytes}");
    }

    #[test]
    fn a_mark_of_a_stray_stays_and_is_no_version() {
        let front = |stray| Front::new(1, 2, Admission { version: 7, stray }, &Meta::default());
        let stray = front(true);
        assert!(stray.is_stray() && stray.alive_at() == 7 && !stray.was_alive_at(7));
        stray.found_alive(8);
        assert!(stray.is_stray() && stray.alive_at() == 8 && !stray.was_alive_at(8));
        assert!(!front(false).is_stray() && front(false).was_alive_at(7));
    }

    #[test]
    fn the_mark_of_the_policy_and_the_verdict_of_the_fence_leave_each_other_alone() {
        for stray in [true, false] {
            let front = Front::new(1, 2, Admission { version: 7, stray }, &Meta::default());
            assert_eq!(front.judged().mark(), 0);
            for (version, mark) in [(8, 3), (9, 1), (10, 0), (11, 2)] {
                front.set_mark(front.judged(), mark);
                front.found_alive(version);
                assert_eq!(
                    (front.judged().mark(), front.alive_at(), front.is_stray()),
                    (mark, version, stray)
                );
                assert_eq!(front.was_alive_at(version), !stray);
            }
        }
    }
}
