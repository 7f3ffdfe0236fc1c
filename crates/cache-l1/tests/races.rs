//! The tier under every order of its threads that a random scheduler tries: the real code, over the scheduler's atomics
//! and locks (`src/sync.rs`). What must hold is told once a test; `cargo xtask mutations` takes out the guards whose name
//! contains `race`, one by one, and each must be found here.
//!
//! The source of truth is one number a key, which only grows; a value tells the number that its loader read.
//! Every step of a thread is one access to an atomic or a lock, in one order for all threads: what weaker orders of
//! memory allow beyond that is explored for the lock alone (`turns.rs`).

#![cfg(edgecache_shuttle)]

use std::sync::Arc;

use cache_l1::{Address, Cause, Config, Fence, L1, Meta, Origin, Pool};
use cache_policy::contract::mix;
use cache_policy::{PolicyKind, build};
use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};
use shuttle::thread;

const OWN_GROUP: u64 = 99;
/// The group of all values here.
const GROUP: u64 = 7;
/// Orders tried a test.
const ROUNDS: usize = 2_000;

/// A number of orders of the threads of `test`: half of them by chance, half with few changes of the thread that runs,
/// which finds what needs a long wait at one place (Burckhardt and others, "A Randomized Scheduler with Probabilistic
/// Guarantees of Finding Bugs", ASPLOS 2010).
fn explore(test: impl Fn() + Send + Sync + 'static) {
    let rounds = std::env::var("EDGECACHE_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let test = Arc::new(test);
    let again = test.clone();
    shuttle::check_random(move || again(), rounds.div_ceil(2));
    shuttle::check_pct(move || test(), rounds.div_ceil(2), 3);
}

struct World {
    l1: L1<u64, Arc<u64>>,
    fence: Arc<Fence>,
    /// Of keys 0 and 1.
    source: [AtomicU64; 2],
}

impl World {
    fn new(entries_max: usize, shards: usize) -> Arc<Self> {
        let fence = Arc::new(Fence::new(1));
        let config = Config { entries_max, bytes_max: u64::MAX, shards: Some(shards), own_group: OWN_GROUP };
        let l1 = L1::new(config, fence.clone(), |hint| build(PolicyKind::Fifo, hint));
        Arc::new(Self { l1, fence, source: [AtomicU64::new(1), AtomicU64::new(1)] })
    }

    /// Reads the source and inserts what it said; tells the number if it was stored.
    fn load(&self, key: u64) -> Option<u64> {
        let snapshot = self.l1.snapshot(&at(key));
        let value = self.source[key as usize].load(SeqCst);
        let meta = meta(Origin { epoch: 0, seq: value });
        self.l1.insert(key, Arc::new(value), &at(key), meta, &snapshot, 0).stored().then_some(value)
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.l1.get(&key, &at(key), 0).map(|hit| *hit.value)
    }

    /// The truth changes, and `invalidate` says so; from then on nothing older is served.
    fn change(&self, key: u64, invalidate: impl Fn(u64)) {
        let new = self.source[key as usize].fetch_add(1, SeqCst) + 1;
        invalidate(new);
        for _ in 0..2 {
            let served = self.get(key);
            assert!(
                served.is_none_or(|value| value >= new),
                "{served:?} came back after {new} was announced"
            );
        }
    }

    /// After all threads are done.
    fn at_rest(&self) {
        for key in [0, 1] {
            let new = self.source[key as usize].load(SeqCst);
            let served = self.get(key);
            assert!(
                served.is_none_or(|value| value >= new),
                "{served:?} is there though {new} was announced"
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.l1.validate();
        }
    }
}

fn at(key: u64) -> Address {
    Address::variant(mix(key + 1), mix(key + 100), 0)
}

fn meta(origin: Origin) -> Meta {
    Meta { origin, hard_expiry: u64::MAX, weight: 10, groups: vec![GROUP].into(), ..Meta::default() }
}

/// A loader and a reader beside one who changes the truth, with room for all.
fn loads_beside(invalidate: impl Fn(&World, u64) + Send + Sync + Copy + 'static) {
    explore(move || {
        let world = World::new(10, 1);
        let loader = thread::spawn({
            let world = world.clone();
            move || {
                world.load(0);
                world.load(0);
            }
        });
        let reader = thread::spawn({
            let world = world.clone();
            move || {
                // What was read is no longer older than what was read before.
                let first = world.get(0);
                let second = world.get(0);
                assert!(first.is_none() || second.is_none() || first <= second, "{first:?}, then {second:?}");
            }
        });
        world.change(0, |new| invalidate(&world, new));
        loader.join().unwrap();
        reader.join().unwrap();
        world.at_rest();
    });
}

#[test]
fn a_load_loses_to_an_event_of_its_key() {
    loads_beside(|world, new| drop(world.l1.invalidate_key(&0, &at(0), Origin { epoch: 0, seq: new })));
}

#[test]
fn a_load_loses_to_a_removal() {
    loads_beside(|world, _| drop(world.l1.remove(&0, &at(0))));
}

#[test]
fn a_load_loses_to_an_event_of_its_resource() {
    loads_beside(|world, _| drop(world.l1.invalidate_resource(at(0).resource(), Origin::MAX)));
}

#[test]
fn a_load_loses_to_a_pattern() {
    loads_beside(|world, _| drop(world.l1.invalidate_matching(Origin::MAX, 0, |&key| key == 0)));
}

#[test]
fn a_load_loses_to_a_flush() {
    loads_beside(|world, _| world.fence.flush(0, 0, &[]));
}

#[test]
fn a_load_loses_to_a_stamp() {
    loads_beside(|world, new| world.fence.stamp(0, GROUP, new));
}

#[test]
fn a_load_loses_to_a_stamp_of_the_namespace() {
    loads_beside(|world, new| world.fence.stamp(0, OWN_GROUP, new));
}

#[test]
fn two_changes_at_once_are_both_heard() {
    explore(|| {
        let world = World::new(10, 1);
        let loader = thread::spawn({
            let world = world.clone();
            move || world.load(0)
        });
        let other = thread::spawn({
            let world = world.clone();
            move || world.change(0, |_| world.fence.flush(0, 0, &[]))
        });
        world.change(0, |new| world.fence.stamp(0, GROUP, new));
        other.join().unwrap();
        loader.join().unwrap();
        world.at_rest();
    });
}

/// A flush into a new epoch forgets the stamps of the old one, in whose place stands the generation.
#[test]
fn what_a_stamp_outdated_is_not_served_while_a_new_epoch_forgets_the_stamp() {
    explore(|| {
        let world = World::new(10, 1);
        world.load(0);
        world.source[0].store(9, SeqCst);
        world.fence.stamp(0, GROUP, 9);
        let flusher = thread::spawn({
            let world = world.clone();
            move || world.fence.flush(0, 1, &[])
        });
        assert_eq!(world.get(0), None);
        flusher.join().unwrap();
        world.at_rest();
    });
}

/// Whoever judges an entry says at which version: another change must not hide behind it.
#[test]
fn a_judgement_holds_for_no_later_change() {
    explore(|| {
        let world = World::new(10, 1);
        world.load(0);
        // Of another group: every entry has to be judged again.
        world.fence.stamp(0, 8, 1);
        let reader = thread::spawn({
            let world = world.clone();
            move || world.get(0)
        });
        world.change(0, |new| world.fence.stamp(0, GROUP, new));
        reader.join().unwrap();
        world.at_rest();
    });
}

/// One that is made during a change must not be taken for one made during the next.
#[test]
fn a_judgement_made_during_a_change_holds_for_no_other() {
    explore(|| {
        let world = World::new(10, 1);
        world.load(0);
        let reader = thread::spawn({
            let world = world.clone();
            move || (0..3).map(|_| world.get(0)).count()
        });
        let other = thread::spawn({
            let world = world.clone();
            // Of a group that the entry is not in.
            move || (1..5).for_each(|seq| world.fence.stamp(0, 8, seq))
        });
        for _ in 0..3 {
            world.change(0, |new| world.fence.stamp(0, GROUP, new));
        }
        reader.join().unwrap();
        other.join().unwrap();
        world.at_rest();
    });
}

#[test]
fn a_hit_tells_the_epoch_that_its_value_is_of() {
    explore(|| {
        let world = World::new(10, 1);
        world.load(0);
        let flusher = thread::spawn({
            let world = world.clone();
            move || world.fence.flush(0, 1, &[])
        });
        let hit = world.l1.get(&0, &at(0), 0);
        assert!(hit.is_none_or(|hit| hit.origin == Origin { epoch: 0, seq: 1 }));
        flusher.join().unwrap();
    });
}

/// An entry that came with an epoch of which the node had not heard, and the flush by which it hears.
#[test]
fn a_value_of_an_unheard_epoch_keeps_its_epoch() {
    explore(|| {
        let world = World::new(10, 1);
        let flusher = thread::spawn({
            let world = world.clone();
            move || world.fence.flush(0, 1, &[])
        });
        let snapshot = world.l1.snapshot(&at(0));
        let origin = Origin { epoch: 1, seq: 1 };
        let stored = world.l1.insert(0, Arc::new(1), &at(0), meta(origin), &snapshot, 0).stored();
        let hit = world.l1.get(&0, &at(0), 0);
        assert!(hit.is_none_or(|hit| stored && hit.origin == origin));
        flusher.join().unwrap();
    });
}

#[test]
fn bounds_hold_while_two_insert_into_two_shards_and_nothing_outdated_stays() {
    explore(|| {
        let world = World::new(1, 2);
        let loaders = [0, 1].map(|key| {
            let world = world.clone();
            thread::spawn(move || {
                world.load(key);
                assert!(world.l1.len() <= 1);
            })
        });
        world.change(0, |new| drop(world.l1.invalidate_key(&0, &at(0), Origin { epoch: 0, seq: new })));
        assert!(world.l1.len() <= 1);
        for loader in loaders {
            loader.join().unwrap();
        }
        world.at_rest();
    });
}

/// A pattern finds its keys under the shared lock and takes them under the other: in between their places may be
/// another's.
#[test]
fn a_pattern_takes_nothing_that_it_does_not_cover() {
    explore(|| {
        let world = World::new(1, 1);
        world.load(0);
        let loader = thread::spawn({
            let world = world.clone();
            // Evicts the other, and takes its place.
            move || world.load(1)
        });
        let left = world.l1.invalidate_matching(Origin::MAX, 0, |&key| key == 0);
        assert!(left.iter().all(|left| left.key == 0 && left.cause == Cause::Invalidated));
        loader.join().unwrap();
    });
}

#[test]
fn a_sweep_takes_only_what_is_dead_and_leaves_nothing_of_it() {
    explore(|| {
        let world = World::new(10, 1);
        world.load(0);
        world.load(1);
        let sweeper = thread::spawn({
            let world = world.clone();
            move || world.l1.sweep(0, 100)
        });
        world.change(0, |_| world.fence.flush(0, 0, &[]));
        let stored = world.load(1);
        let swept = sweeper.join().unwrap();
        assert!(swept.iter().all(|left| left.cause == Cause::Invalidated && *left.value == 1));
        drop(world.l1.sweep(0, 100));
        drop(world.l1.sweep(0, 100));
        assert_eq!(world.l1.len(), usize::from(stored.is_some()));
        world.at_rest();
    });
}

/// Threads bring their times as they come: the later of two hits counts, whichever is told last.
#[test]
fn the_later_of_two_hits_says_when_an_entry_is_idle() {
    explore(|| {
        let world = World::new(10, 1);
        let snapshot = world.l1.snapshot(&at(0));
        let meta = Meta { idle: 10, ..meta(Origin { epoch: 0, seq: 1 }) };
        assert!(world.l1.insert(0, Arc::new(1), &at(0), meta, &snapshot, 0).stored());
        let readers = [5, 9].map(|now| {
            let world = world.clone();
            thread::spawn(move || assert!(world.l1.get(&0, &at(0), now).is_some()))
        });
        let sweeper = thread::spawn({
            let world = world.clone();
            move || assert_eq!(world.l1.sweep(4, 100).len(), 0)
        });
        for reader in readers {
            reader.join().unwrap();
        }
        sweeper.join().unwrap();
        assert!(world.l1.get(&0, &at(0), 18).is_some());
        assert!(world.l1.get(&0, &at(0), 28).is_none());
    });
}

/// Two tiers that take room at the same time, one of them what the other has borrowed.
#[test]
fn the_bound_of_a_pool_holds_while_two_tiers_insert_and_the_owner_gets_its_share() {
    explore(|| {
        let bytes = L1::<u64, Arc<u64>>::overhead_bytes(&at(0), &meta(Origin::default())) + 10;
        let pool = Arc::new(Pool::new(2 * bytes));
        let tier = |share| {
            let config = Config { entries_max: 10, bytes_max: 0, shards: Some(1), own_group: OWN_GROUP };
            let l1 = L1::new(config, Arc::new(Fence::new(1)), |hint| build(PolicyKind::Fifo, hint));
            let l1: Arc<L1<u64, Arc<u64>>> = Arc::new(l1.within(&pool, share, false).unwrap());
            l1.open_to_claims(Arc::downgrade(&l1) as _);
            l1
        };
        let put = |l1: &L1<u64, Arc<u64>>, key| {
            l1.insert(key, Arc::new(1), &at(key), meta(Origin::default()), &l1.snapshot(&at(key)), 0).stored()
        };
        let (owner, borrower) = (tier(bytes), tier(bytes));
        assert!(put(&borrower, 0));
        let greedy = thread::spawn({
            let (borrower, pool) = (borrower.clone(), pool.clone());
            move || {
                put(&borrower, 1);
                assert!(pool.bytes() <= pool.bytes_max());
            }
        });
        assert!(put(&owner, 0), "its share is its own");
        assert!(pool.bytes() <= pool.bytes_max());
        greedy.join().unwrap();
        assert!(owner.get(&0, &at(0), 0).is_some(), "and stays");
        owner.validate();
        borrower.validate();
        pool.validate();
    });
}
