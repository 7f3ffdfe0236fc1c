//! What a whole node knows about outdated values: flushes and group stamps, per partition.
//!
//! A flush must not walk the caches, and a group's stamp must cost a hit nothing. So both only leave a mark
//! here:
//!
//! - each partition has a *generation*; a flush adds one, and entries of an older generation are dead;
//! - each partition has a table *group → sequence of its last stamp*; an entry is dead if one of its groups
//!   was stamped after the entry's origin;
//! - the fence has one *version*, changed by every stamp and flush. An entry remembers the version it was
//!   last judged at; as long as that is the present one, a hit compares two numbers and looks nothing up.
//!
//! **Order.** A writer changes the table and the generation first and adds to the version last, all under the
//! partition's write lock. A judge reads the version first, then takes the read lock, checks generation and
//! table, and notes the version it read. If it noted version n, the writer that made version n was done with
//! the table before; a writer that came between makes n old, and the entry is judged again. The generation is
//! checked again under the lock because a flush forgets the stamps of the old epoch: without that, an entry
//! of the old generation could be cleared by the new table.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::RwLock;

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
    version: AtomicU64,
    partitions: Box<[Partition]>,
}

#[derive(Debug)]
struct Partition {
    generation: AtomicU64,
    stamps: RwLock<Stamps>,
}

impl Fence {
    /// A fence over partitions `0..partitions`, nothing stamped, all at epoch 0.
    pub fn new(partitions: u32) -> Self {
        let partitions = (0..partitions)
            .map(|_| Partition { generation: AtomicU64::new(0), stamps: RwLock::new(Stamps::default()) })
            .collect();
        // From 1, so that 0 can stand for "never judged".
        Self { version: AtomicU64::new(1), partitions }
    }

    /// How many partitions there are. All other calls panic for a partition that is not below it.
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Everything of the partition is dead from now on, in O(1). `groups` (id, sequence of the last stamp) belong to
    /// `epoch`: in a new epoch they replace the stamps known so far, in the same one the later stamp of each stays.
    pub fn flush(&self, partition: u32, epoch: u64, groups: &[(u64, u64)]) {
        let partition = &self.partitions[partition as usize];
        let mut stamps = partition.stamps.write();
        partition.generation.fetch_add(1, Ordering::AcqRel);
        if stamps.epoch != epoch {
            *stamps = Stamps { epoch, ..Stamps::default() };
        }
        for &(group, seq) in groups {
            stamps.stamp(group, seq);
        }
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Entries of the group whose origin is before `seq` are dead from now on. A stamp never goes back.
    pub fn stamp(&self, partition: u32, group: u64, seq: u64) {
        let mut stamps = self.partitions[partition as usize].stamps.write();
        if stamps.stamp(group, seq) {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether one of the groups was stamped after `seq`, for a value of the partition's present epoch.
    pub fn stamped_after(&self, partition: u32, groups: &[u64], seq: u64) -> bool {
        self.partitions[partition as usize].stamps.read().any_after(groups, seq)
    }

    /// How often the partition was flushed.
    pub fn generation(&self, partition: u32) -> u64 {
        self.partitions[partition as usize].generation.load(Ordering::Acquire)
    }

    /// The epoch named by the partition's last flush.
    pub fn epoch(&self, partition: u32) -> u64 {
        self.partitions[partition as usize].stamps.read().epoch
    }

    /// Changes with every stamp and flush of any partition; 0 is never used.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Judges a value: the version at which it was found alive, or `None` if it is dead.
    pub(crate) fn judge(
        &self,
        partition: u32,
        generation: u64,
        own_group: u64,
        groups: &[u64],
        seq: u64,
    ) -> Option<u64> {
        let version = self.version();
        let partition = &self.partitions[partition as usize];
        let stamps = partition.stamps.read();
        let alive = cfg!(edgecache_mutation = "l1_fence_ignored")
            || partition.generation.load(Ordering::Acquire) == generation
                && !stamps.any_after(&[own_group], seq)
                && !stamps.any_after(groups, seq);
        alive.then_some(version)
    }
}

/// The last stamp of each group.
#[derive(Debug, Default)]
struct Stamps {
    epoch: u64,
    /// (group, sequence)
    table: HashTable<(u64, u64)>,
    /// Every group counts as stamped at this sequence: the newest of the stamps that were forgotten.
    floor: u64,
}

impl Stamps {
    /// False if a stamp at least as new was known.
    fn stamp(&mut self, group: u64, seq: u64) -> bool {
        if let Some(known) = self.table.find_mut(spread(group), |stamp| stamp.0 == group) {
            let newer = seq > known.1;
            known.1 = known.1.max(seq);
            return newer;
        }
        if seq <= self.floor {
            return false;
        }
        if self.table.len() >= GROUPS_MAX {
            self.forget_older_half();
        }
        self.table.insert_unique(spread(group), (group, seq), |stamp| spread(stamp.0));
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
        self.floor = self.floor.max(floor);
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
        assert_eq!((fence.generation(0), fence.epoch(0)), (1, 9));
        assert!(!fence.stamped_after(0, &[5], 0));
        assert!(fence.stamped_after(0, &[6], 2));
    }

    #[test]
    fn the_old_generation_is_not_cleared_by_the_new_table() {
        let fence = Fence::new(1);
        fence.stamp(0, 5, 20);
        assert_eq!(fence.judge(0, 0, 1, &[5], 19), None);
        fence.flush(0, 1, &[]);
        assert_eq!(fence.judge(0, 0, 1, &[5], 19), None);
        assert_eq!(fence.judge(0, 1, 1, &[5], 19), Some(fence.version()));
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
