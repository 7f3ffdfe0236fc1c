//! Slots by the hash of their keys, in which as much may leave as comes.
//!
//! Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash tables", 2019. A group is one line of 64
//! bytes: twelve places, seven bits of the hash of each, and counts of those that came to this group first and had to
//! go on to a later one because it was full. The tags of a group are compared at once, and nothing but that line is read.
//!
//! The counts are what a cache needs. A table without it (SwissTable, as in `hashbrown`) ends a search at an empty place,
//! so it must leave a mark where it removes something in a crowd. Marks fill it up as entries do: searches walk farther
//! and farther, and then it is made anew or doubles. Here a search ends where nobody had to go on, and who leaves takes
//! back what it had counted. Beyond F14 there are four counts a group, each for a quarter of the hashes: where one in
//! ten is elsewhere, a third of the searches for what is not there would have to go on, and so less than a tenth has.

use wide::u8x16;

/// So many tags, the counts, and the slots fill one line.
const PLACES: usize = 12;
/// Entries a group before the table grows, on average. Then one in ten, after long use, is not in the group it came
/// to first, as one stays elsewhere that came when it was crowded; with ten it would be one in three.
const ENTRIES_PER_GROUP: usize = 8;
/// Where the counts stand, behind the tags.
const PASSED: usize = PLACES;
const QUARTERS: usize = 4;
/// The bits of the places in a comparison of sixteen bytes.
const ALL: u32 = (1 << PLACES) - 1;
/// In every tag, so that none is 0.
const USED: u8 = 0x80;
/// A count that got so far stays there: a search goes on in vain, until the table grows.
const PASSED_MAX: u8 = 0xff;

#[derive(Clone, Debug, Default)]
#[repr(C, align(64))]
struct Group {
    /// A tag for each place, 0 for an empty one; then how many of each quarter passed by. To be compared at once.
    head: [u8; PASSED + QUARTERS],
    slots: [u32; PLACES],
}

/// Some places of a group, a bit for each.
struct Places(u32);

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(place as usize)
    }
}

impl Group {
    /// The places with that tag; with 0 the empty ones.
    #[inline(always)]
    fn tagged(&self, tag: u8) -> Places {
        Places(u8x16::new(self.head).simd_eq(u8x16::splat(tag)).to_bitmask() & ALL)
    }

    #[inline(always)]
    fn empty(&self) -> Places {
        self.tagged(0)
    }

    /// How many of the hash's quarter came here first, or on their way, and had to go on.
    #[inline(always)]
    fn passed(&self, hash: u64) -> u8 {
        // Not by an index, for which what is compared would be written to memory.
        let [.., first, second, third, fourth] = self.head;
        (u32::from_le_bytes([first, second, third, fourth]) >> (8 * quarter_of(hash))) as u8
    }

    /// False if there is no empty place.
    #[inline(always)]
    fn put(&mut self, hash: u64, slot: u32) -> bool {
        let place = self.empty().next();
        if let Some(place) = place {
            self.head[place] = tag_of(hash);
            self.slots[place] = slot;
        }
        place.is_some()
    }

    /// What is held.
    fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        Places(!self.empty().0 & ALL).map(|place| self.slots[place])
    }
}

/// Finds slots; hashes are the caller's to keep.
#[derive(Debug, Default)]
pub(crate) struct Table {
    groups: Vec<Group>,
    entries: usize,
    expected: usize,
}

/// What a short look says.
pub(crate) enum Glance {
    /// If it is not this one, one has to look further.
    Likely(u32),
    Nobody,
    /// One has to look further.
    Unsure,
}

#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    (hash >> 57) as u8 | USED
}

/// By bits that choose neither tag nor group, and no shard either.
#[inline(always)]
fn quarter_of(hash: u64) -> usize {
    (hash >> 55) as usize % QUARTERS
}

impl Table {
    /// It starts small, and when it grows it takes no more than these need.
    pub(crate) fn new(expected: usize) -> Self {
        Self { groups: Vec::new(), entries: 0, expected }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// Where the search for a hash begins: by its lower half, so that the number of groups may be any.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (((hash & u64::from(u32::MAX)) * self.groups.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.groups.len() { 0 } else { at + 1 }
    }

    /// The first of the slots with that hash, and perhaps of others, that `is_it` says yes to. It may be asked twice.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        match self.glance(hash) {
            Glance::Likely(slot) if is_it(slot) => Some(slot),
            Glance::Nobody => None,
            Glance::Likely(_) | Glance::Unsure => self.find_anywhere(hash, is_it),
        }
    }

    /// The usual cases, in few registers and without a call: the first with the tag, where the search begins, or nobody.
    #[inline(always)]
    pub(crate) fn glance(&self, hash: u64) -> Glance {
        let Some(group) = self.groups.get(self.home(hash)) else { return Glance::Nobody };
        let Some(place) = group.tagged(tag_of(hash)).next() else {
            return if group.passed(hash) == 0 { Glance::Nobody } else { Glance::Unsure };
        };
        group.slots.get(place).map_or(Glance::Unsure, |&slot| Glance::Likely(slot))
    }

    #[inline(never)]
    pub(crate) fn find_anywhere(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        for _ in 0..self.groups.len() {
            let group = self.groups.get(at)?;
            for place in group.tagged(tag_of(hash)) {
                let slot = *group.slots.get(place)?;
                if is_it(slot) {
                    return Some(slot);
                }
            }
            if group.passed(hash) == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// The slot must not be there.
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if self.entries >= self.groups.len() * ENTRIES_PER_GROUP {
            self.grow(&hash_of);
        }
        self.entries += 1;
        self.add(hash, slot);
    }

    /// The slot, which is there under the first hash, is there under the second from now on. Never grows.
    #[inline(always)]
    pub(crate) fn replace(&mut self, before: u64, hash: u64, slot: u32) {
        self.remove(before, slot);
        self.entries += 1;
        self.add(hash, slot);
    }

    #[inline(always)]
    fn add(&mut self, hash: u64, slot: u32) {
        let home = self.home(hash);
        if !self.groups[home].put(hash, slot) {
            self.pass(hash, slot);
        }
    }

    /// Where the first group is full.
    #[inline(never)]
    fn pass(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        // Ends: the table is never full.
        while !self.groups[at].put(hash, slot) {
            let group = &mut self.groups[at];
            group.head[PASSED + quarter_of(hash)] = group.passed(hash).saturating_add(1);
            at = self.after(at);
        }
    }

    /// Nothing happens if the slot is not there under that hash.
    #[inline(always)]
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        let home = self.home(hash);
        if let Some(group) = self.groups.get_mut(home)
            && let Some(place) = group.tagged(tag_of(hash)).next()
            && group.slots[place] == slot
        {
            group.head[place] = 0;
            self.entries -= 1;
        } else {
            self.remove_anywhere(hash, slot);
        }
    }

    #[inline(never)]
    fn remove_anywhere(&mut self, hash: u64, slot: u32) {
        let home = self.home(hash);
        let mut at = home;
        for _ in 0..self.groups.len() {
            let group = &mut self.groups[at];
            if let Some(place) = group.tagged(tag_of(hash)).find(|&place| group.slots[place] == slot) {
                group.head[place] = 0;
                self.entries -= 1;
                self.take_back(hash, home, at);
                return;
            }
            if group.passed(hash) == 0 {
                return;
            }
            at = self.after(at);
        }
    }

    /// One less had to pass the groups from its home on.
    #[cold]
    fn take_back(&mut self, hash: u64, home: usize, end: usize) {
        let mut at = home;
        while at != end {
            let group = &mut self.groups[at];
            if group.passed(hash) < PASSED_MAX {
                group.head[PASSED + quarter_of(hash)] -= 1;
            }
            at = self.after(at);
        }
    }

    /// By a quarter, or to what was expected.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, hash_of: &dyn Fn(u32) -> u64) {
        let (now, last) = (self.groups.len(), self.expected.div_ceil(ENTRIES_PER_GROUP));
        let larger = now + now / 4 + 1;
        let groups = if now < last { larger.min(last) } else { larger };
        let old = std::mem::replace(&mut self.groups, vec![Group::default(); groups]);
        for group in old {
            for slot in group.slots() {
                self.pass(hash_of(slot), slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cache_policy::contract::{Rng, mix};

    use super::*;

    fn hash_of(slot: u32) -> u64 {
        mix(u64::from(slot) + 1)
    }

    fn passed(table: &Table) -> u32 {
        table.groups.iter().flat_map(|group| &group.head[PASSED..]).map(|&passed| u32::from(passed)).sum()
    }

    #[test]
    fn a_group_is_a_line_and_the_places_with_a_tag_are_found() {
        assert_eq!((size_of::<Group>(), align_of::<Group>()), (64, 64));
        let mut rng = Rng::new(1);
        for _ in 0..1_000 {
            let tags: Vec<u8> = (0..PLACES).map(|_| [0, 0x80, 0x81, 0xff][rng.below(4) as usize]).collect();
            let mut group = Group::default();
            group.head[..PLACES].copy_from_slice(&tags);
            // Whatever the counts look like, they are no tags.
            group.head[PASSED..].fill_with(|| rng.below(256) as u8);
            let with = |tag| (0..PLACES).filter(|&place| tags[place] == tag).collect::<Vec<_>>();
            assert_eq!(group.empty().collect::<Vec<_>>(), with(0));
            for tag in [0x80, 0x81, 0xff] {
                let found: Vec<usize> = group.tagged(tag).collect();
                assert_eq!(found, with(tag), "{tags:?}");
            }
        }
    }

    /// With good hashes, and with some that crowd into a few groups or are all the same.
    #[test]
    fn same_as_a_set() {
        let crowded = |slot: u32| hash_of(slot) | 0xfff0_0000;
        for hash_of in [hash_of, crowded, |_| u64::MAX] {
            let mut rng = Rng::new(3);
            let (mut table, mut model) = (Table::new(100), HashSet::new());
            for bound in [3, 10, 1_000, 60] {
                for _ in 0..10_000 {
                    let slot = rng.below(bound) as u32;
                    if model.insert(slot) {
                        table.insert(hash_of(slot), slot, hash_of);
                    } else {
                        model.remove(&slot);
                        table.remove(hash_of(slot), slot);
                        // Once more: it is not there.
                        table.remove(hash_of(slot), slot);
                    }
                    assert_eq!(table.len(), model.len());
                    let asked = rng.below(bound) as u32;
                    let found = table.find(hash_of(asked), |held| held == asked);
                    assert_eq!(found, model.contains(&asked).then_some(asked));
                }
            }
        }
    }

    #[test]
    fn who_leaves_takes_back_what_it_counted() {
        let mut table = Table::new(0);
        for round in 0..3 {
            for slot in 0..5_000 {
                table.insert(hash_of(slot), slot, hash_of);
            }
            assert!(passed(&table) > 0, "nobody passed a full group in round {round}");
            for slot in 0..5_000 {
                table.remove(hash_of(slot), slot);
            }
            assert_eq!(passed(&table), 0);
        }
    }

    #[test]
    fn searches_stay_short_and_the_table_as_large_as_it_was_while_as_much_leaves_as_comes() {
        let entries = 10_000;
        let mut table = Table::new(entries as usize);
        (0..entries).for_each(|slot| table.insert(hash_of(slot), slot, hash_of));
        let at_first = passed(&table);
        for slot in entries..20 * entries {
            table.remove(hash_of(slot - entries), slot - entries);
            table.insert(hash_of(slot), slot, hash_of);
        }
        assert_eq!(table.groups.len(), 1_250);
        assert!(passed(&table) < entries / 8, "{} from {at_first}", passed(&table));
    }

    #[test]
    fn it_grows_no_farther_than_expected_but_beyond_if_it_must() {
        let groups = |expected, entries| {
            let mut table = Table::new(expected);
            (0..entries).for_each(|slot| table.insert(hash_of(slot), slot, hash_of));
            table.groups.len()
        };
        assert_eq!((groups(1_001, 1_001), groups(1_000_000, 10), groups(100, 105)), (126, 2, 17));
    }
}
