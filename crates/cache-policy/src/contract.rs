//! What every policy must keep, as plain functions for the tests of whoever implements [`Policy`].
//!
//! ```
//! cache_policy::contract::check(cache_policy::Lru::new);
//! ```
//!
//! The reference is a dull model: the set of residents. Which of them leaves is the policy's own affair; that
//! it is one of them, leaves once, and that nobody can hide for ever is not. All functions panic with a
//! description.

use std::collections::HashSet;

use crate::{Newcomer, Policy};

/// Runs every rule below with several capacities. `build` gets a capacity hint, as a store would give it.
pub fn check<P: Policy>(build: impl Fn(usize) -> P) {
    for capacity in [1, 2, 3, 8, 100] {
        for seed in 0..4 {
            victims_are_residents(&build, capacity, seed);
        }
        everyone_leaves_once(&build, capacity);
        removed_slots_are_not_named(&build, capacity);
        late_calls_are_ignored(&build, capacity);
        no_hit_protects_for_ever(&build, capacity);
        hits_from_many_threads_do_no_harm(&build, capacity);
    }
    the_hint_is_only_a_hint(&build);
}

/// Random hits, inserts, removals and evictions: every victim is a resident of that moment.
pub fn victims_are_residents<P: Policy>(build: impl Fn(usize) -> P, capacity: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut store = DullStore::new(build(capacity));
    for step in 0..4_000 {
        let slot = rng.below(capacity as u64 * 2) as u32;
        match (rng.below(8), store.residents.contains(&slot)) {
            (0, true) => store.remove(slot),
            (1, _) => {
                store.evict();
            }
            (_, true) => store.hit(slot),
            (_, false) => {
                if store.residents.len() == capacity {
                    assert!(store.evict().is_some(), "step {step}: full, and no victim named");
                }
                store.insert(slot);
            }
        }
        assert_eq!(store.policy.residents(), store.residents.len(), "step {step}: count of residents");
    }
    store.drain();
}

/// Without inserts, evictions name every resident exactly once, then nobody.
pub fn everyone_leaves_once<P: Policy>(build: impl Fn(usize) -> P, capacity: usize) {
    let mut store = DullStore::new(build(capacity));
    assert_eq!(store.evict(), None, "an empty policy named a victim");
    for slot in 0..capacity as u32 {
        store.insert(slot);
        store.hit(slot);
    }
    store.drain();
    // And the same slots can come back.
    for slot in 0..capacity as u32 {
        store.insert(slot);
    }
    store.drain();
}

/// A removed slot is never a victim until it is inserted again.
pub fn removed_slots_are_not_named<P: Policy>(build: impl Fn(usize) -> P, capacity: usize) {
    let mut store = DullStore::new(build(capacity));
    for slot in 0..capacity as u32 {
        store.insert(slot);
    }
    for slot in (0..capacity as u32).step_by(2) {
        store.hit(slot);
        store.remove(slot);
    }
    store.drain();
}

/// Hits and removals of slots that are not resident change nothing.
pub fn late_calls_are_ignored<P: Policy>(build: impl Fn(usize) -> P, capacity: usize) {
    let mut store = DullStore::new(build(capacity));
    store.policy.removed(7, hash_of(7));
    store.policy.touched(7, hash_of(7));
    store.policy.tend();
    store.insert(0);
    let left = store.evict();
    assert_eq!(left, Some(0));
    store.policy.touched(0, hash_of(0));
    store.policy.removed(0, hash_of(0));
    store.policy.tend();
    assert_eq!(store.evict(), None, "a slot that had left was named");
}

/// A resident that is never hit again leaves while others come and are hit: within so many inserts that any
/// fair policy gets round to it. (A policy that counts hits must let them age.)
pub fn no_hit_protects_for_ever<P: Policy>(build: impl Fn(usize) -> P, capacity: usize) {
    let mut store = DullStore::new(build(capacity));
    for slot in 0..capacity as u32 {
        store.insert(slot);
        for _ in 0..100 {
            store.hit(slot);
        }
    }
    let mut first: HashSet<u32> = store.residents.clone();
    let mut free = capacity as u32;
    for _ in 0..capacity * 1_000 {
        let Some(victim) = store.evict() else { panic!("full, and no victim named") };
        first.remove(&victim);
        if first.is_empty() {
            return;
        }
        // Newcomers take slots that the first tenants never had, so that the two can be told apart.
        store.insert(free);
        store.hit(free);
        free = if victim >= capacity as u32 { victim } else { free + 1 };
    }
    panic!("{} residents that nobody asked for stayed through {} inserts", first.len(), capacity * 1_000);
}

/// Hits race with hits only (the store's lock keeps the rest apart); afterwards everyone leaves once.
pub fn hits_from_many_threads_do_no_harm<P: Policy>(build: impl Fn(usize) -> P, capacity: usize) {
    let mut store = DullStore::new(build(capacity));
    for slot in 0..capacity as u32 {
        store.insert(slot);
    }
    for round in 0..4 {
        let policy = &store.policy;
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 3 + thread);
                    for _ in 0..500 {
                        let slot = rng.below(capacity as u64 + 1) as u32;
                        policy.touched(slot, hash_of(slot));
                    }
                });
            }
        });
        store.policy.tend();
        if let Some(victim) = store.evict() {
            store.insert(victim);
        }
    }
    store.drain();
}

/// More residents and higher slots than the hint said are fine.
pub fn the_hint_is_only_a_hint<P: Policy>(build: impl Fn(usize) -> P) {
    let mut store = DullStore::new(build(0));
    for slot in (0..500).rev() {
        store.insert(slot);
    }
    store.drain();
}

/// A small seeded generator (SplitMix64), so that contracts need no dependency.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which must not be 0. The bias is too small to matter in a test.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// A well-mixed hash for a number, as keys of a test.
pub fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hash_of(slot: u32) -> u64 {
    mix(u64::from(slot) + 1)
}

/// The set of residents and the policy under test, kept in step.
struct DullStore<P> {
    policy: P,
    residents: HashSet<u32>,
}

impl<P: Policy> DullStore<P> {
    fn new(policy: P) -> Self {
        Self { policy, residents: HashSet::new() }
    }

    fn hit(&mut self, slot: u32) {
        if self.policy.touched(slot, hash_of(slot)) {
            self.policy.tend();
        }
    }

    fn insert(&mut self, slot: u32) {
        let weight = slot % 7 + 1;
        self.policy.inserted(slot, Newcomer { hash: hash_of(slot), weight, deadline: u64::from(slot) });
        self.residents.insert(slot);
    }

    fn remove(&mut self, slot: u32) {
        self.policy.removed(slot, hash_of(slot));
        self.residents.remove(&slot);
    }

    fn evict(&mut self) -> Option<u32> {
        let residents = &self.residents;
        let victim = self.policy.evict(&|slot| {
            assert!(residents.contains(&slot), "asked for the hash of slot {slot}, which is not resident");
            hash_of(slot)
        });
        match victim {
            Some(slot) => assert!(self.residents.remove(&slot), "victim {slot} is not resident"),
            None => assert!(self.residents.is_empty(), "no victim, with {} residents", self.residents.len()),
        }
        victim
    }

    fn drain(&mut self) {
        while self.evict().is_some() {}
        assert_eq!(self.policy.residents(), 0);
    }
}
