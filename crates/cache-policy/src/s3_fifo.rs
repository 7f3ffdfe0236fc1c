//! S3-FIFO: Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023.
//!
//! Three queues. Newcomers go into *small*, a tenth of the room. Its oldest leaves, unless it was hit twice:
//! then it goes on into *main*. Who left *small* is remembered for a while by the *ghost*, and goes straight
//! into main if it is back in time. Main is a FIFO with up to three second chances, one for each hit. So what
//! is asked for once passes through a tenth of the cache and leaves the rest alone.
//!
//! Beyond the paper: shares are by weight; and what was removed (expired, replaced, invalidated) after it had
//! reached main is remembered as well, as its key is no less popular than before.

use crate::ghost::Ghost;
use crate::list::{Ends, Links};
use crate::sketch::print_of;
use crate::{MARK_MAX, Newcomer, Policy, Residents, Touch, weight};

/// Hits that count; the mark of a resident.
const HITS_MAX: u8 = MARK_MAX;
/// Hits in small that lead on into main.
const HITS_FOR_MAIN: u8 = 2;
/// In `at`: the slot is in main. The other bits are the weight's code.
const IN_MAIN: u8 = weight::CODES;

/// Evicts what passes through without being asked for again.
#[derive(Debug)]
pub struct S3Fifo {
    links: Links,
    small: Ends,
    main: Ends,
    small_weight: u64,
    main_weight: u64,
    /// By slot: queue and weight.
    at: Vec<u8>,
    ghost: Ghost,
}

impl S3Fifo {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self {
            links: Links::new(capacity_hint),
            small: Ends::EMPTY,
            main: Ends::EMPTY,
            small_weight: 0,
            main_weight: 0,
            at: Vec::with_capacity(capacity_hint),
            ghost: Ghost::default(),
        }
    }

    #[inline(always)]
    fn push(&mut self, slot: u32, to_main: bool) {
        let at = &mut self.at[slot as usize];
        let weight = weight::of_code(*at & !IN_MAIN);
        if to_main {
            *at |= IN_MAIN;
            self.main_weight += weight;
            self.links.push_head(&mut self.main, slot);
        } else {
            *at &= !IN_MAIN;
            self.small_weight += weight;
            self.links.push_head(&mut self.small, slot);
        }
    }

    /// Says whether it was in main.
    #[inline(always)]
    fn unlink(&mut self, slot: u32) -> bool {
        let at = self.at[slot as usize];
        let weight = weight::of_code(at & !IN_MAIN);
        let in_main = at & IN_MAIN != 0;
        if in_main {
            self.main_weight -= weight;
            self.links.unlink(&mut self.main, slot);
        } else {
            self.small_weight -= weight;
            self.links.unlink(&mut self.small, slot);
        }
        in_main
    }

    /// The store promises that this does not happen.
    #[cold]
    #[inline(never)]
    fn leave_first(&mut self, slot: u32) {
        self.unlink(slot);
    }

    #[cold]
    #[inline(never)]
    fn reach(&mut self, index: usize) {
        self.at.resize(index + 1, 0);
    }

    #[inline]
    fn note(&mut self, hash: u64) {
        let residents = self.residents();
        self.ghost.fit(residents);
        // As many as main holds.
        self.ghost.note(print_of(hash), residents - residents / 10);
    }
}

impl Policy for S3Fifo {
    #[inline]
    fn touched(&self, _slot: u32, _hash: u64, mark: u8) -> Touch {
        Touch { mark: (mark + 1).min(HITS_MAX), tend: false }
    }

    #[inline]
    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        if self.links.contains(slot) {
            self.leave_first(slot);
        }
        let index = slot as usize;
        if index >= self.at.len() {
            self.reach(index);
        }
        self.at[index] = weight::code(newcomer.weight);
        let returns = self.ghost.take(print_of(newcomer.hash));
        self.push(slot, returns);
    }

    fn removed(&mut self, slot: u32, hash: u64) {
        if self.links.contains(slot) && self.unlink(slot) {
            self.note(hash);
        }
    }

    // Always, as the store's answers are no calls then.
    #[inline(always)]
    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        // Ends: `&mut self` means that nobody hits meanwhile, and each round takes one out of small or a hit
        // out of main.
        loop {
            let small_target = (self.small_weight + self.main_weight) / 10;
            if self.small.len > 0 && (self.small_weight >= small_target || self.main.len == 0) {
                let slot = self.small.tail;
                let hits = residents.mark(slot);
                if hits >= HITS_FOR_MAIN {
                    residents.set_mark(slot, 0);
                    self.unlink(slot);
                    self.push(slot, true);
                    continue;
                }
                self.note(residents.hash(slot));
                self.unlink(slot);
                return Some(slot);
            }
            if self.main.len == 0 {
                return None;
            }
            let slot = self.main.tail;
            let hits = residents.mark(slot);
            if hits == 0 {
                self.unlink(slot);
                return Some(slot);
            }
            residents.set_mark(slot, hits - 1);
            self.links.move_to_head(&mut self.main, slot);
        }
    }

    fn residents(&self) -> usize {
        self.small.len + self.main.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Held, mix};

    fn policy_with(capacity: usize, slots: impl Iterator<Item = u32>) -> (S3Fifo, Held) {
        let (mut policy, mut held) = (S3Fifo::new(capacity), Held::new(|slot| mix(u64::from(slot) + 1)));
        slots.for_each(|slot| insert(&mut policy, &mut held, slot, u64::from(slot)));
        (policy, held)
    }

    fn insert(policy: &mut S3Fifo, held: &mut Held, slot: u32, key: u64) {
        held.insert(policy, slot, Newcomer { hash: mix(key + 1), weight: 1, deadline: u64::MAX });
    }

    fn evict(policy: &mut S3Fifo, held: &mut Held) -> u32 {
        policy.evict(held).expect("a victim")
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(S3Fifo::new);
    }

    #[test]
    fn two_hits_lead_into_main_and_one_does_not() {
        let (mut policy, mut held) = policy_with(10, 0..10);
        for slot in [0, 0, 1] {
            held.touch(&policy, slot);
        }
        assert_eq!(evict(&mut policy, &mut held), 1, "0 went into main");
        assert_eq!((policy.small.len, policy.main.len), (8, 1));
    }

    #[test]
    fn who_returns_from_the_ghost_goes_into_main() {
        let (mut policy, mut held) = policy_with(10, 0..10);
        assert_eq!(evict(&mut policy, &mut held), 0);
        insert(&mut policy, &mut held, 0, 0);
        assert_eq!((policy.small.len, policy.main.len), (9, 1));
        insert(&mut policy, &mut held, 10, 10);
        assert_eq!(policy.main.len, 1, "a stranger does not");
    }

    #[test]
    fn main_gives_a_second_chance_for_each_hit() {
        let (mut policy, mut held) = policy_with(10, 0..10);
        for slot in 0..10 {
            held.touch(&policy, slot);
            held.touch(&policy, slot);
        }
        assert_eq!(evict(&mut policy, &mut held), 0, "all went into main, their hits spent");
        for slot in [1, 2, 2] {
            held.touch(&policy, slot);
        }
        let victims: Vec<u32> = (0..9).map(|_| evict(&mut policy, &mut held)).collect();
        assert_eq!(victims, [3, 4, 5, 6, 7, 8, 9, 1, 2]);
    }

    #[test]
    fn what_was_removed_from_main_returns_there() {
        let (mut policy, mut held) = policy_with(10, 0..10);
        for slot in [0, 0, 9] {
            held.touch(&policy, slot);
        }
        evict(&mut policy, &mut held);
        policy.removed(0, mix(1));
        policy.removed(9, mix(10));
        insert(&mut policy, &mut held, 0, 0);
        insert(&mut policy, &mut held, 9, 9);
        assert_eq!((policy.small.len, policy.main.len), (8, 1));
    }

    #[test]
    fn the_share_of_small_is_by_weight() {
        let (mut policy, mut held) = policy_with(0, 0..0);
        let insert = |policy: &mut S3Fifo, held: &mut Held, slot: u32, weight| {
            held.insert(
                policy,
                slot,
                Newcomer { hash: mix(u64::from(slot) + 1), weight, deadline: u64::MAX },
            );
        };
        for slot in 0..10 {
            insert(&mut policy, &mut held, slot, 1_024);
            held.touch(&policy, slot);
            held.touch(&policy, slot);
        }
        evict(&mut policy, &mut held); // nine heavy ones are in main
        for slot in 20..40 {
            insert(&mut policy, &mut held, slot, 16);
        }
        assert!(evict(&mut policy, &mut held) < 20, "20 light ones are less than a tenth of the weight");
    }
}
