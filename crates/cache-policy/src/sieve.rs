//! SIEVE: Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction
//! Algorithm for Web Caches", NSDI 2024.
//!
//! One queue in order of arrival, one bit an entry (its mark), one hand. A hit sets the bit and moves nothing. The hand
//! goes from the oldest to the newest: an entry whose bit is set loses the bit and stays *where it is*; the
//! first without one leaves. The hand rests there and goes on from there next time, so newcomers that nobody
//! asks for again leave early, while those that proved themselves gather behind the hand. From the newest it
//! starts over at the oldest.

use crate::list::{List, NIL};
use crate::{Newcomer, Policy, Residents, Touch};

/// The mark of one that was hit since the hand passed.
const VISITED: u8 = 1;

/// Evicts the first that was not hit since the hand last passed it.
#[derive(Debug)]
pub struct Sieve {
    queue: List,
    /// Where the search goes on; `NIL` = at the oldest.
    hand: u32,
}

impl Sieve {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self { queue: List::new(capacity_hint), hand: NIL }
    }

    #[inline]
    fn leave(&mut self, slot: u32) {
        if !self.queue.contains(slot) {
            return;
        }
        if self.hand == slot {
            self.hand = self.queue.newer(slot);
        }
        self.queue.unlink(slot);
    }

    #[cold]
    #[inline(never)]
    fn leave_first(&mut self, slot: u32) {
        self.leave(slot);
    }
}

impl Policy for Sieve {
    #[inline]
    fn touched(&self, _slot: u32, _hash: u64, _mark: u8) -> Touch {
        Touch { mark: VISITED, tend: false }
    }

    #[inline(always)]
    fn inserted(&mut self, slot: u32, _newcomer: Newcomer) {
        if self.queue.contains(slot) {
            self.leave_first(slot);
        }
        self.queue.push_head(slot);
    }

    #[inline]
    fn removed(&mut self, slot: u32, _hash: u64) {
        self.leave(slot);
    }

    // Always, as the store's answers are no calls then.
    #[inline(always)]
    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        if self.queue.len() == 0 {
            return None;
        }
        // Ends within two rounds: `&mut self` means nobody sets bits meanwhile.
        let mut at = self.hand;
        loop {
            if at == NIL {
                at = self.queue.tail();
            }
            if residents.mark(at) == 0 {
                break;
            }
            residents.set_mark(at, 0);
            at = self.queue.newer(at);
        }
        self.hand = self.queue.take(at);
        Some(at)
    }

    fn residents(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Held};

    fn newcomer(slot: u32) -> Newcomer {
        Newcomer { hash: u64::from(slot), weight: 1, deadline: u64::MAX }
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(Sieve::new);
    }

    #[test]
    fn the_hand_clears_what_it_passes_and_goes_on_from_where_it_rested() {
        let [a, b, c, d, e, f, g, h, i, j] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let (mut policy, mut held) = (Sieve::new(7), Held::new(|_| 0));
        for slot in [a, b, c, d, e, f, g] {
            held.insert(&mut policy, slot, newcomer(slot));
        }
        for slot in [a, b, g] {
            held.touch(&policy, slot);
        }
        assert_eq!(policy.evict(&mut held), Some(c), "A and B are passed and lose their bits");
        held.insert(&mut policy, h, newcomer(h));
        held.touch(&policy, a);
        held.touch(&policy, d);
        assert_eq!(policy.evict(&mut held), Some(e), "the hand went on behind C and passed D");
        held.insert(&mut policy, i, newcomer(i));
        held.touch(&policy, b);
        assert_eq!(policy.evict(&mut held), Some(f));
        held.insert(&mut policy, j, newcomer(j));
        assert_eq!(policy.residents(), 7);
    }

    /// The algorithm once more over a plain vector, oldest first; the hand is an index.
    #[derive(Default)]
    struct Dull {
        queue: Vec<(u32, bool)>,
        hand: usize,
    }

    impl Dull {
        fn evict(&mut self) -> u32 {
            while std::mem::take(&mut self.queue[self.hand].1) {
                self.hand = (self.hand + 1) % self.queue.len();
            }
            let victim = self.queue[self.hand].0;
            self.remove(victim);
            victim
        }

        fn remove(&mut self, slot: u32) {
            let index = self.queue.iter().position(|&(other, _)| other == slot).unwrap();
            self.queue.remove(index);
            self.hand -= usize::from(index < self.hand);
            // Past the newest: back to the oldest at once, before the next newcomer takes that place.
            if self.hand == self.queue.len() {
                self.hand = 0;
            }
        }
    }

    #[test]
    fn same_victims_as_the_dull_version() {
        let mut rng = contract::Rng::new(11);
        let (mut policy, mut held) = (Sieve::new(0), Held::new(|_| 0));
        let mut dull = Dull::default();
        for _ in 0..50_000 {
            let slot = rng.below(60) as u32;
            if let Some(entry) = dull.queue.iter_mut().find(|entry| entry.0 == slot) {
                if rng.below(20) == 0 {
                    policy.removed(slot, 0);
                    dull.remove(slot);
                } else {
                    held.touch(&policy, slot);
                    entry.1 = true;
                }
            } else {
                if dull.queue.len() == 24 {
                    assert_eq!(policy.evict(&mut held), Some(dull.evict()));
                }
                held.insert(&mut policy, slot, newcomer(slot));
                dull.queue.push((slot, false));
            }
        }
    }
}
