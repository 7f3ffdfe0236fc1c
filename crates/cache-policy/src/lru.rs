//! Least recently used.
//!
//! One list in order of use; the tail leaves. A hit must not take the exclusive lock, so it goes into a small
//! buffer through atomics, and whoever holds the exclusive lock next plays the buffer into the list. The
//! buffer is bounded and lossy: where threads meet or nobody drains it, hits are forgotten and the order is a
//! little older than the truth. Told from one thread that tends when asked, the order is exact.

use crate::hit_buffer::HitBuffer;
use crate::list::List;
use crate::{Newcomer, Policy, Residents, Touch};

/// Evicts what was not used for the longest time.
#[derive(Debug)]
pub struct Lru {
    order: List,
    hits: HitBuffer,
}

impl Lru {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self { order: List::new(capacity_hint), hits: HitBuffer::new() }
    }

    #[cold]
    #[inline(never)]
    fn play(&mut self, hits: usize) {
        for index in 0..hits {
            let (slot, _) = self.hits.get(index);
            if self.order.unlink(slot) {
                self.order.push_head(slot);
            }
        }
    }
}

impl Policy for Lru {
    #[inline]
    fn touched(&self, slot: u32, _hash: u64, mark: u8) -> Touch {
        let buffered = self.hits.len();
        // The newest hit again changes nothing.
        let newest =
            if buffered == 0 { self.order.head() == slot } else { self.hits.ends_with(buffered, slot) };
        if newest {
            return Touch { mark, tend: false };
        }
        Touch { mark, tend: self.hits.push(buffered, slot, 0) }
    }

    #[inline(always)]
    fn inserted(&mut self, slot: u32, _newcomer: Newcomer) {
        // Before the order changes: hits that waited are older than this newcomer, and may be for an earlier
        // tenant of the slot.
        self.tend();
        self.order.unlink(slot);
        self.order.push_head(slot);
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        self.tend();
        self.order.unlink(slot);
    }

    #[inline]
    fn evict(&mut self, _residents: &mut dyn Residents) -> Option<u32> {
        self.tend();
        let victim = self.order.tail();
        self.order.unlink(victim).then_some(victim)
    }

    #[inline]
    fn tend(&mut self) {
        let hits = self.hits.take();
        if hits > 0 {
            self.play(hits);
        }
    }

    fn residents(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;
    use crate::hit_buffer::{BUFFERED_HITS_MAX, TEND_FROM};

    fn newcomer(slot: u32) -> Newcomer {
        Newcomer { hash: u64::from(slot), weight: 1, deadline: u64::MAX }
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(Lru::new);
    }

    #[test]
    fn order_is_exact_for_one_thread_that_tends() {
        let mut rng = contract::Rng::new(7);
        let mut policy = Lru::new(0);
        let mut model: Vec<u32> = Vec::new(); // oldest first
        for _ in 0..50_000 {
            let slot = rng.below(40) as u32;
            if model.contains(&slot) {
                model.retain(|&other| other != slot);
                if rng.below(20) == 0 {
                    policy.removed(slot, 0);
                } else {
                    model.push(slot);
                    if policy.touched(slot, 0, 0).tend {
                        policy.tend();
                    }
                }
            } else {
                if model.len() == 24 {
                    assert_eq!(policy.evict(&mut |_| 0), Some(model.remove(0)));
                }
                policy.inserted(slot, newcomer(slot));
                model.push(slot);
            }
        }
    }

    #[test]
    fn hits_nobody_drains_are_forgotten_and_bounded() {
        let mut policy = Lru::new(0);
        for slot in 0..1_000 {
            policy.inserted(slot, newcomer(slot));
        }
        let asked = (0..1_000).filter(|&slot| policy.touched(slot, 0, 0).tend).count();
        assert_eq!(asked, 1_000 - (TEND_FROM - 1));
        policy.tend();
        // The first 64 hits were kept: those slots are the newest now.
        assert_eq!(policy.evict(&mut |_| 0), Some(BUFFERED_HITS_MAX as u32));
    }
}
