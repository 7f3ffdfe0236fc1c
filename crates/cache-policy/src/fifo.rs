//! First in, first out.
//!
//! One queue; hits change nothing, so a hit costs nothing. The dull reference for everything else, and good
//! where nothing is asked for twice or everything is equally popular.

use crate::list::List;
use crate::{Newcomer, Policy, Residents, Touch};

/// Evicts what came first.
#[derive(Debug)]
pub struct Fifo {
    queue: List,
}

impl Fifo {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self { queue: List::new(capacity_hint) }
    }
}

impl Policy for Fifo {
    #[inline]
    fn touched(&self, _slot: u32, _hash: u64, mark: u8) -> Touch {
        Touch { mark, tend: false }
    }

    fn inserted(&mut self, slot: u32, _newcomer: Newcomer) {
        self.queue.unlink(slot);
        self.queue.push_head(slot);
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        self.queue.unlink(slot);
    }

    fn evict(&mut self, _residents: &mut dyn Residents) -> Option<u32> {
        let victim = self.queue.tail();
        self.queue.unlink(victim).then_some(victim)
    }

    fn residents(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(Fifo::new);
    }

    #[test]
    fn leaves_in_order_of_arrival_whatever_is_hit() {
        let mut policy = Fifo::new(4);
        for slot in [3, 1, 2, 0] {
            policy.inserted(slot, Newcomer { hash: 0, weight: 1, deadline: 0 });
        }
        policy.touched(3, 0, 0);
        policy.removed(2, 0);
        let left: Vec<u32> = std::iter::from_fn(|| policy.evict(&mut |_| 0)).collect();
        assert_eq!(left, [3, 1, 0]);
    }
}
