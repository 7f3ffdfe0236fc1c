//! A policy of one's own, in a crate of one's own: [`HeavyFirst`].
//!
//! CLOCK (Corbató, "A Paging Experiment with the Multics System", 1968) that looks at weights: of the few oldest
//! that were not hit since the hand passed them, the heaviest leaves. Where a tier is bounded by bytes and its
//! values differ much in size, one heavy entry makes room for many light ones, so more keys are hits.
//!
//! What a policy needs: implement [`Policy`], run [`cache_policy::contract`] in a test. It can then be a type
//! parameter of a tier, at no cost:
//!
//! ```
//! use std::sync::Arc;
//!
//! use cache_l1::{Address, Config, Fence, L1, Meta};
//! use cache_policy_example::HeavyFirst;
//!
//! let config = Config { entries_max: 100, bytes_max: 1 << 20, shards: None, own_group: 1 };
//! let l1: L1<&str, u32, HeavyFirst> = L1::new(config, Arc::new(Fence::new(1)), HeavyFirst::new);
//!
//! let at = Address::bare(0x9e37_79b9_7f4a_7c15, 0);
//! let meta = Meta { hard_expiry: u64::MAX, weight: 8, ..Meta::default() };
//! assert!(l1.insert("key", 7, &at, meta, &l1.snapshot(&at), 0).stored());
//! assert_eq!(l1.get("key", &at, 0).map(|hit| hit.value), Some(7));
//! ```
//!
//! or be chosen at run time, boxed: `cache_policy::boxed(HeavyFirst::new)` is what a builder of a
//! `TieredCache` takes.

use std::collections::VecDeque;

use cache_policy::{Newcomer, Policy, Residents, Touch};

/// How many candidates are compared by weight.
const CANDIDATES: usize = 4;

/// What is known of a slot.
#[derive(Debug, Default)]
struct Entry {
    /// Doubled each time the entry is passed over; 0 counts as 1.
    weight: u32,
    /// Tells tenants of the slot apart: an older arrival in the queue is stale. 0 = nobody.
    arrival: u64,
}

/// Evicts the heaviest of the oldest that nobody asked for.
#[derive(Debug, Default)]
pub struct HeavyFirst {
    /// Slots with their arrival, oldest first; the front is where the hand is.
    queue: VecDeque<(u32, u64)>,
    entries: Vec<Entry>,
    arrivals: u64,
    residents: usize,
}

impl HeavyFirst {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self { queue: VecDeque::with_capacity(capacity_hint), ..Self::default() }
    }

    fn is_current(&self, (slot, arrival): (u32, u64)) -> bool {
        self.entries[slot as usize].arrival == arrival
    }

    fn leave(&mut self, slot: u32) {
        if let Some(entry) = self.entries.get_mut(slot as usize)
            && std::mem::take(&mut entry.arrival) != 0
        {
            self.residents -= 1;
        }
    }
}

impl Policy for HeavyFirst {
    #[inline]
    fn touched(&self, _slot: u32, _hash: u64, _mark: u8) -> Touch {
        // Kept by the store, and taken away when the hand passes.
        Touch { mark: 1, tend: false }
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        self.leave(slot);
        let index = slot as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, Entry::default);
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.entries[index] = Entry { weight: newcomer.weight.max(1), arrival };
        self.queue.push_back((slot, arrival));
        self.residents += 1;
        // Places of those who were removed are swept before they outnumber the residents.
        if self.queue.len() > 2 * self.residents + CANDIDATES {
            let entries = &self.entries;
            self.queue.retain(|&(slot, arrival)| entries[slot as usize].arrival == arrival);
        }
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        self.leave(slot);
    }

    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        let mut candidates: Vec<(u32, u64)> = Vec::with_capacity(CANDIDATES);
        // Ends: each turn takes one out of the queue, or its mark away.
        while candidates.len() < CANDIDATES
            && let Some(place) = self.queue.pop_front()
        {
            if !self.is_current(place) {
                continue;
            }
            if residents.mark(place.0) > 0 {
                residents.set_mark(place.0, 0);
                self.queue.push_back(place);
            } else {
                candidates.push(place);
            }
        }
        let weight = |place: &(u32, u64)| self.entries[place.0 as usize].weight;
        // The oldest of the heaviest: `max_by_key` takes the last of equals.
        let victim = (0..candidates.len()).rev().max_by_key(|&index| weight(&candidates[index]))?;
        let (slot, _) = candidates.remove(victim);
        // Who is passed over counts as twice as heavy next time. Without this a light entry hides for ever behind
        // heavier newcomers: `contract::no_hit_protects_for_ever` found that.
        for place in candidates.into_iter().rev() {
            let entry = &mut self.entries[place.0 as usize];
            entry.weight = entry.weight.saturating_mul(2);
            self.queue.push_front(place);
        }
        self.leave(slot);
        Some(slot)
    }

    fn residents(&self) -> usize {
        self.residents
    }
}

#[cfg(test)]
mod tests {
    use cache_policy::contract::Held;

    use super::*;

    fn insert(policy: &mut HeavyFirst, slot: u32, weight: u32) {
        policy.inserted(slot, Newcomer { hash: 0, weight, deadline: u64::MAX });
    }

    #[test]
    fn keeps_the_contract() {
        cache_policy::contract::check(HeavyFirst::new);
    }

    #[test]
    fn the_heaviest_of_the_oldest_leaves_unless_it_was_hit() {
        let (mut policy, mut held) = (HeavyFirst::new(6), Held::new(|_| 0));
        for (slot, weight) in [(0, 1), (1, 9), (2, 5), (3, 5), (4, 2), (5, 100)] {
            held.insert(&mut policy, slot, Newcomer { hash: 0, weight, deadline: u64::MAX });
        }
        held.touch(&policy, 1);
        let left: Vec<u32> = (0..3).filter_map(|_| policy.evict(&mut held)).collect();
        assert_eq!(left, [2, 5, 3], "5 is a candidate once 2 has left; 1 had a second chance");
    }

    #[test]
    fn removed_slots_leave_no_growing_trace() {
        let mut policy = HeavyFirst::new(0);
        for _ in 0..1_000 {
            insert(&mut policy, 0, 1);
            policy.removed(0, 0);
        }
        assert!(policy.queue.len() < 10, "{}", policy.queue.len());
    }
}
