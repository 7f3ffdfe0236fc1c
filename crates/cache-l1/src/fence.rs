//! What a whole node knows about outdated values: flushes and group stamps, per partition.
//!
//! A flush must not walk the caches, and a group's stamp must cost a hit nothing. So both only leave a mark
//! here:
//!
//! - each partition has a *generation*; a flush adds one, and entries of an older generation are dead;
//! - each partition has a table *group → sequence of its last stamp*; an entry is dead if one of its groups
//!   was stamped after the entry's origin;
//! - each partition has a *version*, changed by every stamp and flush. An entry remembers the version it was
//!   last found alive at; as long as that is the present one, a hit compares two numbers and looks nothing up.
//!
//! A generation is the version that its flush made, so an entry needs no generation of its own: it is dead if it
//! was last found alive at a version before the present generation. And an entry is alive only in the epoch of
//! its generation, so the epoch lies here as well, beside the version.
//!
//! **Order.** A writer holds the partition's lock. It sets the version to 0 (*in change*), then changes
//! generation, table and epoch, and sets the new version last. Every store releases, every load acquires.
//!
//! - A *hit* loads the epoch, then the version. If the version is the one the entry was found alive at, no
//!   change had begun when it was loaded; had the epoch been of a later flush, the version would be 0 or later.
//! - An *insert* that takes the short way loads version, newest stamp and epoch, then the generation. It is that of its
//!   snapshot, so no flush had got to the epoch when that was loaded, and what a judge would find holds as well.
//! - A *judge* loads the version first (0 = wait for the lock), then the sequence of the newest stamp, then the
//!   generation. Whoever made the version it loaded was done before. If another change comes between, the judge
//!   sees all of it or notes a version that is old, and the entry is judged again. The generation comes last
//!   because a flush forgets the stamps of the old epoch: whoever sees the new stamps sees the new generation.
//! - Only a value older than the newest stamp of the partition has to be looked up in the table, under the lock.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::Origin;
use crate::entry::Admission;
use crate::sync::{AtomicU64, Ordering, RwLock};

/// Group stamps kept per partition at most. Beyond, the older half is forgotten and everything at or before
/// the newest of these counts as stamped: entries die needlessly, none survives wrongly.
pub const GROUPS_MAX: usize = 16_384;

/// Flushes and group stamps of one node; shared by all its [`L1`](crate::L1)s through an `Arc`.
///
/// ```
/// let fence = cache_l1::Fence::new(1);
/// let red = 7;
/// fence.stamp(0, red, 100);
/// assert!(fence.stamped_after(0, &[red], 99));
/// assert!(!fence.stamped_after(0, &[red], 100));
/// ```
#[derive(Debug)]
pub struct Fence {
    /// Changes behind every change of a partition.
    changes: AtomicU64,
    /// What hits and inserts look at, as dense as it gets.
    present: Arc<[Present]>,
    partitions: Box<[Partition]>,
}

#[derive(Debug)]
#[repr(align(32))]
pub(crate) struct Present {
    version: AtomicU64,
    epoch: AtomicU64,
    /// The version that the last flush made.
    generation: AtomicU64,
    /// No group was stamped after this sequence.
    newest: AtomicU64,
}

#[derive(Debug)]
struct Partition {
    stamps: RwLock<Stamps>,
}

impl Present {
    /// The partition's epoch and version: the epoch is that of every entry found alive at this version.
    #[inline]
    pub(crate) fn read(&self) -> (u64, u64) {
        if mutated!("l1_race_epoch_after_version") {
            let version = self.version.load(Ordering::Acquire);
            return (self.epoch.load(Ordering::Acquire), version);
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        (epoch, self.version.load(Ordering::Acquire))
    }

    /// Changes with every flush of the partition, and grows.
    #[inline(always)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// [`Fence::admit`] without a look at the table of groups: the version at which a newcomer of the present epoch is
    /// alive. `None`: that one has to say.
    #[inline(always)]
    pub(crate) fn admits(&self, generation: u64, origin: &Origin) -> Option<u64> {
        let seq = if mutated!("l1_race_insert_after_stamp") { u64::MAX } else { origin.seq };
        let version = self.version.load(Ordering::Acquire);
        let stamped = self.newest.load(Ordering::Acquire) > seq && !mutated!("l1_race_judge_stamps");
        let regular = self.epoch.load(Ordering::Acquire) == origin.epoch;
        // Last: an epoch that a flush made is seen only with the generation that it made before.
        let held = self.generation() == generation || mutated!("l1_race_insert_after_flush");
        let settled = version != IN_CHANGE || mutated!("l1_race_judge_in_change");
        (held && settled && regular && !stamped).then_some(version)
    }
}

/// The version of a partition while it changes.
const IN_CHANGE: u64 = 0;

impl Fence {
    /// A fence over partitions `0..partitions`, nothing stamped, all at epoch 0.
    pub fn new(partitions: u32) -> Self {
        let present = || Present {
            version: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            newest: AtomicU64::new(0),
        };
        let partition = || Partition { stamps: RwLock::new(Stamps { epoch_since: 1, ..Stamps::default() }) };
        Self {
            changes: AtomicU64::new(1),
            present: (0..partitions).map(|_| present()).collect(),
            partitions: (0..partitions).map(|_| partition()).collect(),
        }
    }

    /// How many partitions there are. All other calls panic for a partition that is not below it.
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Everything of the partition is dead from now on, in O(1). `groups` (id, sequence of the last stamp) belong to
    /// `epoch`: in a new epoch they replace the stamps known so far, in the same one the later stamp of each stays.
    pub fn flush(&self, partition: u32, epoch: u64, groups: &[(u64, u64)]) {
        let Present { epoch: present_epoch, generation, newest, .. } = &self.present[partition as usize];
        let mut stamps = self.partitions[partition as usize].stamps.write();
        self.change(partition, |version| {
            generation.store(version, Ordering::Release);
            if stamps.epoch != epoch {
                *stamps = Stamps { epoch, epoch_since: version, ..Stamps::default() };
                present_epoch.store(epoch, Ordering::Release);
            }
            for &(group, seq) in groups {
                stamps.stamp(group, seq);
            }
            newest.store(stamps.newest, Ordering::Release);
        });
    }

    /// Entries of the group whose origin is before `seq` are dead from now on. A stamp never goes back.
    pub fn stamp(&self, partition: u32, group: u64, seq: u64) {
        let newest = &self.present[partition as usize].newest;
        let mut stamps = self.partitions[partition as usize].stamps.write();
        if stamps.stamp(group, seq) {
            self.change(partition, |_| newest.store(stamps.newest, Ordering::Release));
        }
    }

    /// Whether one of the groups was stamped after `seq`, for a value of the partition's present epoch.
    pub fn stamped_after(&self, partition: u32, groups: &[u64], seq: u64) -> bool {
        self.partitions[partition as usize].stamps.read().any_after(groups, seq)
    }

    /// Changes with every flush of the partition, and grows.
    #[inline]
    pub fn generation(&self, partition: u32) -> u64 {
        self.present[partition as usize].generation()
    }

    /// The epoch named by the partition's last flush.
    pub fn epoch(&self, partition: u32) -> u64 {
        self.partitions[partition as usize].stamps.read().epoch
    }

    /// Changes with every stamp and flush of any partition; 0 is never used.
    pub fn version(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The caller holds the partition's lock and gets the version it makes.
    fn change(&self, partition: u32, work: impl FnOnce(u64)) {
        let version = &self.present[partition as usize].version;
        let next = version.load(Ordering::Relaxed) + 1;
        if mutated!("l1_race_version_first") {
            version.store(next, Ordering::Release);
        } else if !mutated!("l1_race_change_unmarked") {
            version.store(IN_CHANGE, Ordering::Release);
        }
        work(next);
        version.store(next, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// What hits look at, by partition. A tier keeps it at hand.
    pub(crate) fn presents(&self) -> Arc<[Present]> {
        self.present.clone()
    }

    /// Judges a value that was alive at version `alive`: the version at which it was found alive now, or `None` if it
    /// is dead.
    #[inline]
    pub(crate) fn judge(
        &self,
        partition: u32,
        alive: u64,
        own_group: u64,
        groups: &[u64],
        seq: u64,
    ) -> Option<u64> {
        let Present { version, generation, newest, .. } = &self.present[partition as usize];
        let version = version.load(Ordering::Acquire);
        if (version != IN_CHANGE || mutated!("l1_race_judge_in_change"))
            && (newest.load(Ordering::Acquire) <= seq || mutated!("l1_race_judge_stamps"))
            && (generation.load(Ordering::Acquire) <= alive || mutated!("l1_race_judge_flushes"))
        {
            if mutated!("l1_race_judge_version_last") {
                return Some(self.present[partition as usize].version.load(Ordering::Acquire));
            }
            return Some(version);
        }
        self.judge_slowly(partition, alive, own_group, groups, seq)
    }

    #[cold]
    fn judge_slowly(
        &self,
        partition: u32,
        alive: u64,
        own_group: u64,
        groups: &[u64],
        seq: u64,
    ) -> Option<u64> {
        let Present { version, generation, .. } = &self.present[partition as usize];
        // Nothing changes while it is held.
        let stamps = self.partitions[partition as usize].stamps.read();
        let version = version.load(Ordering::Acquire);
        let alive = (generation.load(Ordering::Acquire) <= alive || mutated!("l1_race_judge_flushes"))
            && (!stamps.any_after(&[own_group], seq) || mutated!("l1_own_group_unstamped"))
            && (!stamps.any_after(groups, seq) || mutated!("l1_race_judge_stamps"));
        alive.then_some(version)
    }

    /// Judges a newcomer: it is dead as
    /// [`judge`](Self::judge) says, or because the partition was flushed since its snapshot.
    #[inline(always)]
    pub(crate) fn admit(
        &self,
        partition: u32,
        generation: u64,
        own_group: u64,
        groups: &[u64],
        origin: &Origin,
    ) -> Option<Admission> {
        let alive = if mutated!("l1_race_insert_after_flush") { u64::MAX } else { generation };
        let seq = if mutated!("l1_race_insert_after_stamp") { u64::MAX } else { origin.seq };
        let version = self.judge(partition, alive, own_group, groups, seq)?;
        // Of a later flush than the version: then the generation is as well.
        let regular = self.present[partition as usize].epoch.load(Ordering::Acquire) == origin.epoch;
        let held = self.generation(partition) == generation || mutated!("l1_race_insert_after_flush");
        held.then_some(Admission { version, stray: !regular })
    }

    /// The epoch of all entries of the partition that were alive at version `alive`, unless a newer one has begun
    /// since: then they are dead.
    pub(crate) fn epoch_at(&self, partition: u32, alive: u64) -> Option<u64> {
        let stamps = self.partitions[partition as usize].stamps.read();
        (stamps.epoch_since <= alive || mutated!("l1_epoch_of_the_dead")).then_some(stamps.epoch)
    }
}

/// The last stamp of each group.
#[derive(Debug, Default)]
struct Stamps {
    epoch: u64,
    /// The version that the flush into this epoch made.
    epoch_since: u64,
    /// (group, sequence)
    table: HashTable<(u64, u64)>,
    /// Every group counts as stamped at this sequence: the newest of the stamps that were forgotten.
    floor: u64,
    /// The newest of all stamps.
    newest: u64,
}

impl Stamps {
    /// False if a stamp at least as new was known.
    fn stamp(&mut self, group: u64, seq: u64) -> bool {
        if let Some(known) = self.table.find_mut(spread(group), |stamp| stamp.0 == group) {
            let newer = seq > known.1;
            known.1 = if mutated!("l1_stamp_goes_back") { seq } else { known.1.max(seq) };
            self.newest = self.newest.max(seq);
            return newer;
        }
        if seq <= self.floor {
            return false;
        }
        if self.table.len() >= GROUPS_MAX {
            self.forget_older_half();
        }
        self.table.insert_unique(spread(group), (group, seq), |stamp| spread(stamp.0));
        self.newest = self.newest.max(seq);
        true
    }

    fn any_after(&self, groups: &[u64], seq: u64) -> bool {
        seq < self.floor
            || groups.iter().any(|&group| {
                self.table.find(spread(group), |stamp| stamp.0 == group).is_some_and(|stamp| stamp.1 > seq)
            })
    }

    fn forget_older_half(&mut self) {
        let mut seqs: Vec<u64> = self.table.iter().map(|stamp| stamp.1).collect();
        let middle = seqs.len() / 2;
        let (_, &mut floor, _) = seqs.select_nth_unstable(middle);
        if !mutated!("l1_forgotten_stamps") {
            self.floor = self.floor.max(floor);
        }
        self.table.retain(|stamp| stamp.1 > floor);
    }
}

/// Group ids may be small numbers; the table wants all bits.
fn spread(group: u64) -> u64 {
    let group = (group ^ (group >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    group ^ (group >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_keeps_the_latest() {
        let fence = Fence::new(2);
        fence.stamp(1, 5, 20);
        let version = fence.version();
        fence.stamp(1, 5, 10);
        assert_eq!(fence.version(), version, "an old stamp changes nothing");
        assert!(fence.stamped_after(1, &[4, 5], 19));
        assert!(!fence.stamped_after(1, &[4, 5], 20));
        assert!(!fence.stamped_after(0, &[5], 0), "the other partition");
    }

    #[test]
    fn a_flush_replaces_the_stamps() {
        let fence = Fence::new(1);
        fence.stamp(0, 5, 20);
        fence.flush(0, 9, &[(6, 3)]);
        assert_eq!((fence.generation(0), fence.epoch(0)), (3, 9));
        assert!(!fence.stamped_after(0, &[5], 0));
        assert!(fence.stamped_after(0, &[6], 2));
    }

    #[test]
    fn the_old_generation_is_not_cleared_by_the_new_table() {
        let fence = Fence::new(1);
        fence.stamp(0, 5, 20);
        assert_eq!(fence.judge(0, 1, 1, &[5], 19), None);
        fence.flush(0, 1, &[]);
        assert_eq!(fence.judge(0, 1, 1, &[5], 19), None);
        assert_eq!(fence.judge(0, 2, 1, &[5], 20), None);
        assert_eq!(fence.judge(0, 3, 1, &[5], 19), Some(3));
    }

    #[test]
    fn an_epoch_is_known_for_what_lived_in_it() {
        let fence = Fence::new(1);
        fence.flush(0, 7, &[]); // version 2
        fence.stamp(0, 5, 20);
        fence.flush(0, 7, &[]); // the same epoch: version 4
        assert_eq!((fence.present[0].read(), fence.epoch_at(0, 1)), ((7, 4), None));
        assert_eq!((fence.epoch_at(0, 2), fence.epoch_at(0, 4)), (Some(7), Some(7)));
        fence.flush(0, 8, &[]);
        assert_eq!((fence.epoch_at(0, 4), fence.epoch_at(0, 5)), (None, Some(8)));
        let old = Origin { epoch: 7, seq: 1 };
        let admit = |generation, origin| {
            fence.admit(0, generation, 1, &[], &origin).map(|admission| (admission.version, admission.stray))
        };
        assert_eq!(admit(5, old), Some((5, true)));
        assert_eq!(admit(5, Origin { epoch: 8, ..old }), Some((5, false)));
        assert_eq!(admit(4, old), None);
    }

    #[test]
    fn too_many_groups_age_instead_of_growing() {
        let fence = Fence::new(1);
        let all = 3 * GROUPS_MAX as u64;
        for group in 0..all {
            fence.stamp(0, group, group + 1);
        }
        assert!(fence.partitions[0].stamps.read().table.len() <= GROUPS_MAX);
        // No stamp is missed, whether it is remembered or not.
        for group in 0..all {
            assert!(fence.stamped_after(0, &[group], group));
        }
        // And what is new is not hit by the floor.
        assert!(!fence.stamped_after(0, &[all + 1], all));
    }
}
