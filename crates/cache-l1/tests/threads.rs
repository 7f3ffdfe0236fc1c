//! Many threads: what an invalidation removed never comes back, bounds hold at every moment, and nothing
//! breaks.
//!
//! The source of truth is one number a key, which only grows. A loader takes a snapshot, reads the number,
//! inserts it. An invalidator raises the number, invalidates, and from then on must never see a lower one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use cache_l1::{Address, Config, Fence, L1, Meta, Origin};
use cache_policy::contract::{Rng, mix};
use cache_policy::{PolicyKind, build};

const KEYS: usize = 12;
const ROUNDS: usize = 4_000;
const OWN_GROUP: u64 = 99;

struct World {
    l1: L1<usize, Arc<u64>>,
    fence: Arc<Fence>,
    source: Vec<AtomicU64>,
    done: AtomicBool,
}

impl World {
    fn new(entries_max: usize) -> Self {
        let fence = Arc::new(Fence::new(1));
        let config = Config { entries_max, bytes_max: 20_000, shards: Some(4), own_group: OWN_GROUP };
        let l1 = L1::new(config, fence.clone(), |hint| build(PolicyKind::Lru, hint));
        Self {
            l1,
            fence,
            source: (0..KEYS).map(|_| AtomicU64::new(1)).collect(),
            done: AtomicBool::new(false),
        }
    }

    fn load(&self, rng: &mut Rng) {
        let key = rng.below(KEYS as u64) as usize;
        let snapshot = self.l1.snapshot(&at(key));
        let value = self.source[key].load(SeqCst);
        for _ in 0..rng.below(50) {
            std::hint::spin_loop();
        }
        let meta = Meta {
            origin: Origin { epoch: 0, seq: value },
            hard_expiry: u64::MAX,
            weight: rng.below(500) as u32,
            groups: vec![key as u64].into(),
            ..Meta::default()
        };
        let now = rng.below(100);
        drop(self.l1.insert(key, Arc::new(value), &at(key), meta, &snapshot, now));
    }

    /// Loaders run while `invalidate(world, key, new value)` is tried on changing keys.
    fn stress(&self, invalidate: impl Fn(&Self, usize, u64) + Sync) {
        std::thread::scope(|scope| {
            for seed in 0..3 {
                scope.spawn(move || {
                    let mut rng = Rng::new(seed);
                    while !self.done.load(SeqCst) {
                        self.load(&mut rng);
                    }
                });
            }
            scope.spawn(|| {
                while !self.done.load(SeqCst) {
                    assert!(self.l1.len() <= self.l1.entries_max() && self.l1.bytes() <= self.l1.bytes_max());
                    drop(self.l1.sweep(0, 5));
                }
            });
            // Stops the others even if an assertion below fails.
            let _stop = Stop(&self.done);
            let mut rng = Rng::new(100);
            for _ in 0..ROUNDS {
                let key = rng.below(KEYS as u64) as usize;
                let new = self.source[key].fetch_add(1, SeqCst) + 1;
                invalidate(self, key, new);
                for _ in 0..rng.below(200) {
                    if let Some(hit) = self.l1.get(&key, &at(key), 0) {
                        assert!(
                            *hit.value >= new,
                            "key {key}: {} came back after {new} was announced",
                            hit.value
                        );
                    }
                }
            }
        });
        self.l1.validate();
        assert!(self.l1.stats().inserted > 0);
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn at(key: usize) -> Address {
    // Two keys a resource: a bare one and a variant.
    let resource = mix(key as u64 / 2 + 1);
    if key.is_multiple_of(2) {
        Address::bare(resource, 0)
    } else {
        Address::variant(resource, mix(!resource), 0)
    }
}

#[test]
fn an_invalidated_key_never_comes_back() {
    let world = World::new(KEYS);
    world.stress(|world, key, new| {
        drop(world.l1.invalidate_key(&key, &at(key), Origin { epoch: 0, seq: new }))
    });
    assert!(world.l1.stats().refused_outdated > 0, "the race never happened");
}

#[test]
fn an_invalidated_resource_never_comes_back() {
    World::new(KEYS)
        .stress(|world, key, _| drop(world.l1.invalidate_resource(at(key).resource(), Origin::MAX)));
}

#[test]
fn a_matched_pattern_never_comes_back() {
    World::new(KEYS)
        .stress(|world, key, _| drop(world.l1.invalidate_matching(Origin::MAX, 0, |held| *held == key)));
}

#[test]
fn a_flushed_partition_never_comes_back() {
    World::new(KEYS).stress(|world, _, _| world.fence.flush(0, 0, &[]));
}

#[test]
fn a_stamped_group_never_comes_back() {
    World::new(KEYS).stress(|world, key, new| world.fence.stamp(0, key as u64, new));
}

#[test]
fn nothing_comes_back_while_everything_is_evicted_all_the_time() {
    World::new(3).stress(|world, key, _| drop(world.l1.invalidate_key(&key, &at(key), Origin::MAX)));
}
