//! The entry that expires first leaves first.
//!
//! No paper: the rule of stores that evict by time to live (Redis calls it `volatile-ttl`). Hits change
//! nothing. What expires soonest would be lost soonest anyway; good where lifetimes say what a value is worth,
//! poor where all are alike: then it is FIFO. What never expires leaves last.
//!
//! A binary heap of slots (Williams, "Algorithm 232: Heapsort", 1964) that knows where each slot lies, so any
//! slot leaves in O(log n). Equal deadlines leave in order of arrival.

use crate::{Newcomer, Policy, Residents, Touch};

/// Not in the heap.
const ABSENT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: u64,
    /// Order of arrival, wrapping: compared by distance, right for residents less than 2³¹ arrivals apart.
    arrival: u32,
    slot: u32,
}

impl Node {
    fn leaves_before(&self, other: &Self) -> bool {
        match self.deadline.cmp(&other.deadline) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => (self.arrival.wrapping_sub(other.arrival) as i32) < 0,
            std::cmp::Ordering::Greater => false,
        }
    }
}

/// Evicts what expires first.
#[derive(Debug)]
pub struct OldestExpiry {
    /// The children of index i, at 2i + 1 and 2i + 2, do not leave before it.
    heap: Vec<Node>,
    /// By slot: its index in the heap.
    places: Vec<u32>,
    arrivals: u32,
}

impl OldestExpiry {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        let heap = Vec::with_capacity(capacity_hint);
        Self { heap, places: Vec::with_capacity(capacity_hint), arrivals: 0 }
    }

    fn place(&self, slot: u32) -> Option<usize> {
        self.places.get(slot as usize).copied().filter(|&place| place != ABSENT).map(|place| place as usize)
    }

    fn leave(&mut self, slot: u32) {
        let Some(place) = self.place(slot) else { return };
        self.places[slot as usize] = ABSENT;
        let node = self.heap.swap_remove(place);
        if let Some(&moved) = self.heap.get(place) {
            if moved.leaves_before(&node) { self.rise(place) } else { self.sink(place) }
        }
    }

    fn put(&mut self, place: usize, node: Node) {
        self.heap[place] = node;
        self.places[node.slot as usize] = place as u32;
    }

    fn rise(&mut self, from: usize) {
        let (mut place, node) = (from, self.heap[from]);
        while place > 0 {
            let parent = (place - 1) / 2;
            if !node.leaves_before(&self.heap[parent]) {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, node);
    }

    fn sink(&mut self, from: usize) {
        let (mut place, node) = (from, self.heap[from]);
        loop {
            let left = 2 * place + 1;
            let Some(&first) = self.heap.get(left) else { break };
            let child = match self.heap.get(left + 1) {
                Some(second) if second.leaves_before(&first) => left + 1,
                _ => left,
            };
            if !self.heap[child].leaves_before(&node) {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, node);
    }
}

impl Policy for OldestExpiry {
    #[inline]
    fn touched(&self, _slot: u32, _hash: u64, mark: u8) -> Touch {
        Touch { mark, tend: false }
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        self.leave(slot);
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, ABSENT);
        }
        self.arrivals = self.arrivals.wrapping_add(1);
        self.heap.push(Node { deadline: newcomer.deadline, arrival: self.arrivals, slot });
        self.rise(self.heap.len() - 1);
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        self.leave(slot);
    }

    fn evict(&mut self, _residents: &mut dyn Residents) -> Option<u32> {
        let victim = self.heap.first()?.slot;
        self.leave(victim);
        Some(victim)
    }

    fn residents(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn keeps_the_contract() {
        contract::check(OldestExpiry::new);
    }

    #[test]
    fn same_victims_as_a_sorted_vector() {
        let mut rng = contract::Rng::new(3);
        let mut policy = OldestExpiry::new(0);
        let mut dull: Vec<(u64, u32, u32)> = Vec::new(); // deadline, arrival, slot
        for arrival in 0..50_000 {
            let slot = rng.below(80) as u32;
            if let Some(index) = dull.iter().position(|entry| entry.2 == slot) {
                if rng.below(3) == 0 {
                    dull.remove(index);
                    policy.removed(slot, 0);
                }
                continue;
            }
            if dull.len() == 50 {
                let first = dull.iter().min().copied().expect("full");
                dull.retain(|entry| *entry != first);
                assert_eq!(policy.evict(&mut |_| 0), Some(first.2));
            }
            // Few different deadlines, so that many are equal.
            let deadline = if rng.below(4) == 0 { u64::MAX } else { rng.below(20) };
            dull.push((deadline, arrival, slot));
            policy.inserted(slot, Newcomer { hash: 0, weight: 1, deadline });
        }
    }

    #[test]
    fn arrivals_may_wrap() {
        let mut policy = OldestExpiry::new(4);
        policy.arrivals = u32::MAX - 2;
        for slot in 0..4 {
            policy.inserted(slot, Newcomer { hash: 0, weight: 1, deadline: 9 });
        }
        let left: Vec<u32> = std::iter::from_fn(|| policy.evict(&mut |_| 0)).collect();
        assert_eq!(left, [0, 1, 2, 3]);
    }
}
