//! Least frequently used, in O(1), with ageing.
//!
//! Shah, Mitra and Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010: one list
//! for each count of uses, so the least used are at hand. Ageing after Arlitt, Cherkasova, Dilley, Friedrich
//! and Jin, "Evaluating Content Management Techniques for Web Proxy Caches", 2000 (LFU-DA): a newcomer starts
//! one above the rank of the last victim, so what was popular long ago is overtaken at last.
//!
//! Ranks are the victim's rank and 255 above it at most, hence a ring of 256 lists. A hit only counts, in a
//! byte of its slot. The count is added to the rank when the slot's turn to leave comes: a resident's rank is
//! then too low at most, so the first one of the lowest rank without a count is the least used.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::list::{Ends, Links};
use crate::{Newcomer, Policy, Residents, Touch};

const RANKS: usize = 256;

/// Evicts what was used least, among equals what is there longest.
#[derive(Debug)]
pub struct Lfu {
    links: Links,
    /// Rank modulo 256 is the index.
    lists: Box<[Ends; RANKS]>,
    /// By slot: hits not yet in the rank.
    hits: Vec<AtomicU8>,
    /// By slot: the rank modulo 256.
    ranks: Vec<u8>,
    /// Rank of the last victim modulo 256; no resident is below.
    floor: u8,
    len: usize,
}

impl Lfu {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self {
            links: Links::new(capacity_hint),
            lists: Box::new([Ends::EMPTY; RANKS]),
            hits: Vec::with_capacity(capacity_hint),
            ranks: Vec::with_capacity(capacity_hint),
            floor: 0,
            len: 0,
        }
    }

    fn link(&mut self, slot: u32, rank: u8) {
        self.ranks[slot as usize] = rank;
        self.links.push_head(&mut self.lists[usize::from(rank)], slot);
    }

    fn unlink(&mut self, slot: u32) {
        let rank = self.ranks[slot as usize];
        self.links.unlink(&mut self.lists[usize::from(rank)], slot);
    }

    fn leave(&mut self, slot: u32) {
        if self.links.contains(slot) {
            self.unlink(slot);
            self.len -= 1;
        }
    }
}

impl Policy for Lfu {
    #[inline]
    fn touched(&self, slot: u32, _hash: u64, mark: u8) -> Touch {
        if let Some(hits) = self.hits.get(slot as usize) {
            let counted = hits.load(Relaxed);
            if counted < u8::MAX {
                hits.store(counted + 1, Relaxed);
            }
        }
        Touch { mark, tend: false }
    }

    fn inserted(&mut self, slot: u32, _newcomer: Newcomer) {
        self.leave(slot);
        let index = slot as usize;
        if index >= self.hits.len() {
            self.hits.resize_with(index + 1, AtomicU8::default);
            self.ranks.resize(index + 1, 0);
        }
        *self.hits[index].get_mut() = 0;
        self.link(slot, self.floor.wrapping_add(1));
        self.len += 1;
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        self.leave(slot);
    }

    fn evict(&mut self, _residents: &mut dyn Residents) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        // Ends: each round raises the floor, or takes a count away, or finds the victim.
        loop {
            let slot = self.lists[usize::from(self.floor)].tail;
            if self.lists[usize::from(self.floor)].len == 0 {
                self.floor = self.floor.wrapping_add(1);
                continue;
            }
            let counted = std::mem::take(self.hits[slot as usize].get_mut());
            self.unlink(slot);
            if counted == 0 {
                self.len -= 1;
                return Some(slot);
            }
            self.link(slot, self.floor.wrapping_add(counted));
        }
    }

    fn residents(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    fn newcomer() -> Newcomer {
        Newcomer { hash: 0, weight: 1, deadline: u64::MAX }
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(Lfu::new);
    }

    #[test]
    fn the_least_used_leaves_and_the_popular_of_old_are_overtaken() {
        let mut policy = Lfu::new(3);
        for slot in [0, 1, 2] {
            policy.inserted(slot, newcomer());
        }
        // Uses: slot 0 five, slot 1 one, slot 2 two.
        for slot in [0, 0, 0, 0, 2] {
            policy.touched(slot, 0, 0);
        }
        assert_eq!(policy.evict(&mut |_| 0), Some(1));
        // Slot 0 has rank 5. Newcomers that nobody hits start at 2, 3, 4 … as victims of that rank leave.
        let mut newcomers = 0;
        let mut free = 1;
        loop {
            policy.inserted(free, newcomer());
            free = policy.evict(&mut |_| 0).expect("a victim");
            if free == 0 {
                break;
            }
            newcomers += 1;
        }
        assert!((6..=9).contains(&newcomers), "two newcomers a rank: {newcomers}");
    }

    /// Ranks in a plain vector, never modulo anything; hits counted at once.
    #[test]
    fn every_victim_has_the_lowest_rank_of_the_dull_version() {
        let mut rng = contract::Rng::new(5);
        let mut policy = Lfu::new(0);
        let mut ranks = vec![None::<u64>; 60];
        let mut floor = 0;
        for _ in 0..100_000 {
            // Squared, so that low slots are popular.
            let slot = (rng.below(60) * rng.below(60) / 60) as u32;
            if let Some(rank) = &mut ranks[slot as usize] {
                if rng.below(50) == 0 {
                    policy.removed(slot, 0);
                    ranks[slot as usize] = None;
                } else if *rank < floor + 200 {
                    policy.touched(slot, 0, 0);
                    *rank += 1;
                }
            } else {
                if ranks.iter().flatten().count() == 24 {
                    let victim = policy.evict(&mut |_| 0).expect("a victim") as usize;
                    let rank = ranks[victim].take().expect("a resident");
                    assert!(ranks.iter().flatten().all(|&other| other >= rank));
                    floor = rank;
                }
                policy.inserted(slot, newcomer());
                ranks[slot as usize] = Some(floor + 1);
            }
        }
        assert!(floor > 1_000, "the ring went round: {floor}");
    }
}
