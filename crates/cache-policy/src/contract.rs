//! What every policy must keep, as plain functions for the tests of whoever implements [`Policy`].
//!
//! ```
//! cache_policy::contract::check(cache_policy::Lru::new);
//! cache_policy::contract::check_family(|| cache_policy::AutoFamily::new(1_000));
//! ```
//!
//! The reference is a dull model: the set of residents. Which of them leaves is the policy's own affair; that
//! it is one of them, leaves once, and that nobody can hide for ever is not. All functions panic with a
//! description.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::{Family, MARK_MAX, Newcomer, Policy, Residents};

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
        for tie in Tie::ALL {
            ties_are_told_apart(&build, capacity, tie);
        }
    }
    the_hint_is_only_a_hint(&build);
}

/// Runs every rule for the members of a family, alone and as the shards of one cache. `make` gives a new family each time.
pub fn check_family<F: Family>(make: impl Fn() -> F) {
    check(|hint| make().member(hint));
    for capacity in [1, 3, 100] {
        for seed in 0..4 {
            members_keep_to_their_own_slots(make(), capacity, seed);
        }
        members_may_come_late_and_go_early(make(), capacity);
        hits_on_many_members_do_no_harm(make(), capacity);
    }
}

/// The shards of a cache number their slots each for itself: what one member is told is nothing to the others.
pub fn members_keep_to_their_own_slots<F: Family>(family: F, capacity: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut shards: Vec<_> = (0..4).map(|_| DullStore::new(family.member(capacity))).collect();
    for step in 0..3_000 {
        let at = rng.below(4) as usize;
        let slot = rng.below(capacity as u64 * 2) as u32;
        shards[at].step(rng.below(8), slot, capacity);
        for (number, shard) in shards.iter().enumerate() {
            let (told, known) = (shard.residents.len(), shard.policy.residents());
            assert_eq!(known, told, "step {step} at member {at}: count of residents of member {number}");
        }
    }
    shards.iter_mut().for_each(DullStore::drain);
}

/// A member that is made when the others are full starts empty, and one that is dropped leaves them as they are, as does
/// the family itself.
pub fn members_may_come_late_and_go_early<F: Family>(family: F, capacity: usize) {
    let full = || {
        let mut store = DullStore::new(family.member(capacity));
        (0..capacity as u32).for_each(|slot| store.insert(slot));
        store
    };
    let (mut first, second) = (full(), full());
    let mut late = DullStore::new(family.member(0));
    assert_eq!(late.policy.residents(), 0, "a new member knows residents");
    assert_eq!(late.evict(), None, "a new member named a victim");
    drop((second, family));
    for slot in 0..capacity as u32 {
        late.insert(slot);
        late.hit(slot);
        first.hit(slot);
    }
    first.drain();
    late.drain();
}

/// Hits on different members race, since each shard has a lock of its own; and a member is changed meanwhile.
pub fn hits_on_many_members_do_no_harm<F: Family>(family: F, capacity: usize) {
    let mut shards: Vec<_> = (0..3).map(|_| DullStore::new(family.member(capacity))).collect();
    std::thread::scope(|scope| {
        for (seed, shard) in (0..).zip(&mut shards) {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                for _ in 0..1_000 {
                    let slot = rng.below(capacity as u64 * 2) as u32;
                    shard.step(rng.below(8), slot, capacity);
                }
            });
        }
    });
    shards.iter_mut().for_each(DullStore::drain);
}

/// In what newcomers do not differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// All expire at the same time.
    Deadline,
    /// None expires.
    Never,
    /// All have the hash of one key, as by chance two keys can.
    Hash,
    /// All weigh nothing.
    Weight,
}

impl Tie {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Deadline, Self::Never, Self::Hash, Self::Weight];
}

/// Residents that look alike are still different ones: each is counted, and leaves once.
pub fn ties_are_told_apart<P: Policy>(build: impl Fn(usize) -> P, capacity: usize, tie: Tie) {
    let mut rng = Rng::new(capacity as u64);
    let mut store = DullStore { tie: Some(tie), ..DullStore::new(build(capacity)) };
    if tie == Tie::Hash {
        store.held = Held::new(|_| hash_of(0));
    }
    for step in 0..1_000 {
        store.step(rng.below(8), rng.below(capacity as u64 * 2) as u32, capacity);
        let (known, told) = (store.policy.residents(), store.residents.len());
        assert_eq!(known, told, "step {step}, a tie of {tie:?}: count of residents");
    }
    store.drain();
}

/// Random hits, inserts, removals and evictions: every victim is a resident of that moment.
pub fn victims_are_residents<P: Policy>(build: impl Fn(usize) -> P, capacity: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut store = DullStore::new(build(capacity));
    for step in 0..4_000 {
        let slot = rng.below(capacity as u64 * 2) as u32;
        store.step(rng.below(8), slot, capacity);
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
    store.hit(7);
    store.policy.tend();
    store.insert(0);
    let left = store.evict();
    assert_eq!(left, Some(0));
    store.hit(0);
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
        let (policy, held) = (&store.policy, &store.held);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    let mut rng = Rng::new(round * 3 + thread);
                    for _ in 0..500 {
                        let slot = rng.below(capacity as u64 + 1) as u32;
                        held.touch(policy, slot);
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

/// What a store keeps for a policy, dull: a hash and a mark for each slot. For tests of policies.
#[derive(Debug)]
pub struct Held {
    hash_of: fn(u32) -> u64,
    marks: Vec<AtomicU8>,
}

impl Held {
    /// Nobody is marked.
    pub fn new(hash_of: fn(u32) -> u64) -> Self {
        Self { hash_of, marks: Vec::new() }
    }

    /// Tells the policy of a hit; true if it wants to [tend](Policy::tend).
    pub fn touch(&self, policy: &impl Policy, slot: u32) -> bool {
        let mark = self.marks.get(slot as usize);
        let touch = policy.touched(slot, (self.hash_of)(slot), mark.map_or(0, |mark| mark.load(Relaxed)));
        assert!(touch.mark <= MARK_MAX, "a mark of {} for slot {slot}", touch.mark);
        if let Some(mark) = mark {
            mark.store(touch.mark, Relaxed);
        }
        touch.tend
    }

    /// Tells the policy of a newcomer.
    pub fn insert(&mut self, policy: &mut impl Policy, slot: u32, newcomer: Newcomer) {
        let slots = self.marks.len().max(slot as usize + 1);
        self.marks.resize_with(slots, AtomicU8::default);
        self.set_mark(slot, 0);
        policy.inserted(slot, newcomer);
    }
}

impl Residents for Held {
    fn hash(&self, slot: u32) -> u64 {
        (self.hash_of)(slot)
    }

    fn mark(&self, slot: u32) -> u8 {
        self.marks[slot as usize].load(Relaxed)
    }

    fn set_mark(&mut self, slot: u32, mark: u8) {
        assert!(mark <= MARK_MAX, "a mark of {mark} for slot {slot}");
        *self.marks[slot as usize].get_mut() = mark;
    }
}

/// The set of residents and the policy under test, kept in step.
struct DullStore<P> {
    policy: P,
    residents: HashSet<u32>,
    held: Held,
    tie: Option<Tie>,
}

/// Checks that nobody asks about strangers.
struct Asked<'a> {
    residents: &'a HashSet<u32>,
    held: &'a mut Held,
}

impl Asked<'_> {
    fn check(&self, slot: u32) {
        assert!(self.residents.contains(&slot), "asked about slot {slot}, which is not resident");
    }
}

impl Residents for Asked<'_> {
    fn hash(&self, slot: u32) -> u64 {
        self.check(slot);
        self.held.hash(slot)
    }

    fn mark(&self, slot: u32) -> u8 {
        self.check(slot);
        self.held.mark(slot)
    }

    fn set_mark(&mut self, slot: u32, mark: u8) {
        self.check(slot);
        self.held.set_mark(slot, mark);
    }
}

impl<P: Policy> DullStore<P> {
    fn new(policy: P) -> Self {
        Self { policy, residents: HashSet::new(), held: Held::new(hash_of), tie: None }
    }

    fn hash(&self, slot: u32) -> u64 {
        self.held.hash(slot)
    }

    /// A removal for `kind` 0, an eviction for 1, else a hit, or an insert that makes room first.
    fn step(&mut self, kind: u64, slot: u32, capacity: usize) {
        match (kind, self.residents.contains(&slot)) {
            (0, true) => self.remove(slot),
            (1, _) => {
                self.evict();
            }
            (_, true) => self.hit(slot),
            (_, false) => {
                if self.residents.len() == capacity {
                    assert!(self.evict().is_some(), "full, and no victim named");
                }
                self.insert(slot);
            }
        }
    }

    fn hit(&mut self, slot: u32) {
        if self.held.touch(&self.policy, slot) {
            self.policy.tend();
        }
    }

    fn insert(&mut self, slot: u32) {
        let weight = if self.tie == Some(Tie::Weight) { 0 } else { slot % 7 + 1 };
        let deadline = match self.tie {
            Some(Tie::Deadline) => 1_000,
            Some(Tie::Never) => u64::MAX,
            _ => u64::from(slot),
        };
        let newcomer = Newcomer { hash: self.hash(slot), weight, deadline };
        self.held.insert(&mut self.policy, slot, newcomer);
        self.residents.insert(slot);
    }

    fn remove(&mut self, slot: u32) {
        self.policy.removed(slot, self.hash(slot));
        self.residents.remove(&slot);
    }

    fn evict(&mut self) -> Option<u32> {
        let mut asked = Asked { residents: &self.residents, held: &mut self.held };
        let victim = self.policy.evict(&mut asked);
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
