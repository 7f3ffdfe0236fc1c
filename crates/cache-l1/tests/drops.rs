//! Nothing leaks, and nothing is dropped under a lock.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cache_l1::{Address, Config, Fence, L1, Meta, Origin};
use cache_policy::contract::{Rng, mix};
use cache_policy::{PolicyKind, build};

type Tier = L1<Nosy, Arc<Nosy>>;

/// Counts itself, and looks into the tier from its `Drop`: under one of the tier's locks that would never
/// come back.
struct Nosy {
    key: u64,
    tier: Weak<Tier>,
    alive: Arc<AtomicUsize>,
}

impl Nosy {
    fn new(key: u64, tier: &Arc<Tier>, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { key, tier: Arc::downgrade(tier), alive: alive.clone() }
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, SeqCst);
        if let Some(tier) = self.tier.upgrade() {
            // Takes every shard's lock exclusively.
            for other in 0..64 {
                drop(tier.invalidate_resource(mix(u64::MAX - other), Origin::MAX));
            }
        }
    }
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Nosy {}

fn at(key: u64) -> Address {
    Address::variant(mix(key / 4 + 1), mix(key + 1_000), 0)
}

fn everything(shards: usize) {
    let alive = Arc::new(AtomicUsize::new(0));
    let fence = Arc::new(Fence::new(1));
    let config = Config { entries_max: 30, bytes_max: 10_000, shards: Some(shards), own_group: 99 };
    let tier: Arc<Tier> = Arc::new(L1::new(config, fence.clone(), |hint| build(PolicyKind::Lru, hint)));
    let mut rng = Rng::new(shards as u64);
    for now in 0..3_000 {
        let key = rng.below(60);
        let nosy = || Nosy::new(key, &tier, &alive);
        match rng.below(20) {
            0 => drop(tier.invalidate_key(&nosy(), &at(key), Origin::MAX)),
            1 => drop(tier.invalidate_resource(at(key).resource(), Origin::MAX)),
            2 => drop(tier.invalidate_matching(Origin::MAX, 0, |held| held.key % 10 == key % 10)),
            3 => drop(tier.remove(&nosy(), &at(key))),
            4 => drop(tier.sweep(now, 10)),
            5 => fence.stamp(0, key % 5, now),
            6 if rng.below(10) == 0 => fence.flush(0, 0, &[]),
            7 | 8 => drop(tier.get(&nosy(), &at(key), now)),
            kind => {
                let snapshot = tier.snapshot(&at(key));
                if kind == 9 {
                    tier.bump_stripe(&at(key)); // refused
                }
                let meta = Meta {
                    origin: Origin { epoch: 0, seq: now - rng.below(3).min(now) },
                    hard_expiry: now + rng.below(200),
                    weight: rng.below(if kind == 10 { 20_000 } else { 300 }) as u32,
                    groups: vec![key % 5].into(),
                    ..Meta::default()
                };
                drop(tier.insert(nosy(), Arc::new(nosy()), &at(key), meta, &snapshot, now));
            }
        }
        assert_eq!(
            alive.load(SeqCst),
            2 * tier.len(),
            "a key and a value an entry are alive, no more and no fewer"
        );
    }
    let stats = tier.stats();
    assert!(
        [
            stats.evicted,
            stats.expired,
            stats.invalidated,
            stats.replaced,
            stats.removed,
            stats.refused_outdated,
            stats.refused_unfit
        ]
        .iter()
        .all(|&count| count > 0),
        "every way out was taken: {stats:?}"
    );
    tier.validate();
    drop(tier);
    assert_eq!(alive.load(SeqCst), 0);
}

#[test]
fn all_that_leaves_is_dropped_once_and_outside_of_the_locks() {
    // In a thread of its own: a drop under a lock waits for ever, and a test should fail instead.
    let (done, finished) = sync_channel(1);
    let run = std::thread::spawn(move || {
        everything(1);
        everything(8);
        done.send(()).unwrap();
    });
    let in_time = finished.recv_timeout(Duration::from_secs(60));
    if in_time == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("something was dropped under a lock");
    }
    run.join().unwrap();
}
