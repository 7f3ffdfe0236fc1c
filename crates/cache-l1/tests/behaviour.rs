//! What the tier promises, one behaviour a test.

mod support;

use std::sync::{Arc, Mutex, OnceLock};

use cache_l1::{Address, Cause, Config, Fence, Inserted, L1, Left, Meta, Origin, Refusal};
use cache_policy::contract::mix;
use cache_policy::{Lru, Policy, PolicyKind, build};
use support::{Checked, checked};

const OWN_GROUP: u64 = 99;

type Tier = L1<u64, Arc<u64>>;
type CheckedTier = Checked<u64, Arc<u64>, Box<dyn Policy>>;

fn tier(entries_max: usize, bytes_max: u64, shards: Option<usize>) -> (CheckedTier, Arc<Fence>) {
    let fence = Arc::new(Fence::new(1));
    let config = Config { entries_max, bytes_max, shards, own_group: OWN_GROUP };
    (checked(L1::new(config, fence.clone(), |hint| build(PolicyKind::Sieve, hint))), fence)
}

fn at(key: u64) -> Address {
    Address::bare(mix(key + 1), 0)
}

fn meta(seq: u64) -> Meta {
    Meta { origin: Origin { epoch: 1, seq }, hard_expiry: u64::MAX, weight: 10, ..Meta::default() }
}

fn put(l1: &Tier, key: u64, meta: Meta) -> Inserted<u64, Arc<u64>> {
    l1.insert(key, Arc::new(key), &at(key), meta, &l1.snapshot(&at(key)), 0)
}

fn weighing(bytes: u64) -> Meta {
    let meta = meta(1);
    Meta { weight: (bytes - Tier::overhead_bytes(&at(0), &meta)) as u32, ..meta }
}

#[test]
fn a_flush_touches_no_entry_and_none_is_served() {
    let (l1, fence) = tier(5_000, u64::MAX, None);
    for key in 0..5_000 {
        assert!(put(&l1, key, meta(1)).stored());
    }
    let before = l1.stats();
    fence.flush(0, 2, &[]);
    assert_eq!(l1.stats(), before, "nothing was dropped by the flush itself");
    assert!((0..5_000).all(|key| l1.get(&key, &at(key), 0).is_none()));
    // They are dropped in portions when somebody sweeps.
    assert_eq!(l1.sweep(0, 100).len(), 100);
    while !l1.sweep(0, 1_000).is_empty() {}
    assert!(l1.is_empty());
}

#[test]
fn a_swept_tier_is_not_walked_again_until_the_fence_moves() {
    let (l1, fence) = tier(100, u64::MAX, None);
    for key in 0..100 {
        assert!(put(&l1, key, Meta { groups: vec![key % 2].into(), ..meta(1) }).stored());
    }
    assert!(l1.sweep(0, 1_000).is_empty());
    fence.stamp(0, 1, 5);
    assert_eq!(l1.sweep(0, 1_000).len(), 50);
    assert!(l1.get(&0, &at(0), 0).is_some() && l1.get(&1, &at(1), 0).is_none());
}

#[test]
fn the_own_group_needs_no_naming() {
    let (l1, fence) = tier(10, u64::MAX, None);
    assert!(put(&l1, 1, meta(7)).stored());
    fence.stamp(0, OWN_GROUP, 7);
    assert!(l1.get(&1, &at(1), 0).is_some(), "the value reflects the stamp");
    fence.stamp(0, OWN_GROUP, 8);
    assert!(l1.get(&1, &at(1), 0).is_none());
    assert_eq!(put(&l1, 2, meta(7)).refused, Some(Refusal::Stamped));
}

#[test]
fn an_own_put_stays_when_its_event_comes() {
    let (l1, _) = tier(10, u64::MAX, None);
    assert!(put(&l1, 1, meta(7)).stored());
    assert!(l1.invalidate_key(&1, &at(1), Origin { epoch: 1, seq: 7 }).is_none());
    assert!(l1.get(&1, &at(1), 0).is_some());
    assert!(
        l1.invalidate_key(&1, &at(1), Origin { epoch: 2, seq: 1 }).is_some(),
        "epochs cannot be compared"
    );
}

#[test]
fn even_an_event_that_spares_the_entry_refuses_older_loads() {
    let (l1, _) = tier(10, u64::MAX, None);
    let snapshot = l1.snapshot(&at(1));
    assert!(put(&l1, 1, meta(7)).stored());
    assert!(l1.invalidate_key(&1, &at(1), Origin { epoch: 1, seq: 7 }).is_none());
    let late = l1.insert(1, Arc::new(0), &at(1), meta(9), &snapshot, 0);
    assert_eq!(late.refused, Some(Refusal::Invalidated));
    assert_eq!(*l1.get(&1, &at(1), 0).unwrap().value, 1);
}

#[test]
fn an_older_value_does_not_replace_a_newer() {
    let (l1, _) = tier(10, u64::MAX, None);
    assert!(put(&l1, 1, meta(7)).stored());
    assert_eq!(put(&l1, 1, meta(6)).refused, Some(Refusal::Newer));
    let same = put(&l1, 1, meta(7));
    assert!(same.stored(), "a refresh without an event between");
    assert_eq!(same.left[0].cause, Cause::Replaced);
}

#[test]
fn a_resource_takes_its_bare_key_and_all_variants_along() {
    let (l1, _) = tier(1_000, u64::MAX, Some(8));
    let variant = |resource: u64, variant: u64| {
        Address::variant(mix(resource + 1), mix(mix(resource + 1) ^ variant), 0)
    };
    for resource in 0..10 {
        assert!(put(&l1, resource, meta(1)).stored());
        for number in 1..=20 {
            let (key, at) = (resource + 100 * number, variant(resource, number));
            assert!(l1.insert(key, Arc::new(key), &at, meta(1), &l1.snapshot(&at), 0).stored());
        }
    }
    let mut left: Vec<u64> =
        l1.invalidate_resource(mix(4), Origin::MAX).iter().map(|left| left.key).collect();
    left.sort_unstable();
    assert_eq!(left, (0..=20).map(|number| 3 + 100 * number).collect::<Vec<_>>());
    assert_eq!(l1.len(), 9 * 21);
}

#[test]
fn bounds_are_exact_over_many_shards() {
    for (entries_max, shards) in [(1, 1), (1, 16), (7, 16), (100, 16), (2_000, 8)] {
        let (l1, _) = tier(entries_max, u64::MAX, Some(shards));
        for key in 0..3 * entries_max as u64 {
            assert!(put(&l1, key, meta(1)).stored(), "{entries_max} entries in {shards} shards");
            assert_eq!(l1.len(), entries_max.min(key as usize + 1), "full is full, and no more");
        }
        l1.validate();
    }
}

#[test]
fn a_crowded_resource_does_not_starve_other_shards() {
    let (l1, _) = tier(1_600, u64::MAX, Some(16));
    let crowd = |number: u64| Address::variant(mix(1), mix(number + 50), 0);
    for number in 0..1_600 {
        let (key, at) = (1_000_000 + number, crowd(number));
        assert!(l1.insert(key, Arc::new(key), &at, meta(1), &l1.snapshot(&at), 0).stored());
    }
    for key in 0..1_000 {
        assert!(put(&l1, key, meta(1)).stored());
    }
    let kept = (0..1_000).filter(|key| l1.get(key, &at(*key), 0).is_some()).count();
    assert!(kept > 900, "{kept} of 1,000 newcomers were kept beside a crowd that nobody reads");
}

#[test]
fn an_entry_may_be_as_heavy_as_the_whole_and_no_heavier() {
    let (l1, _) = tier(1_000, 10_000, Some(8));
    for key in 0..20 {
        assert!(put(&l1, key, weighing(500)).stored());
    }
    assert_eq!(l1.bytes(), 10_000);
    let whole = put(&l1, 100, weighing(10_000));
    assert!(whole.stored());
    assert_eq!((whole.left.len(), l1.len(), l1.bytes()), (20, 1, 10_000));
    assert!(whole.left.iter().all(|left| left.cause == Cause::Evicted));
    assert!(put(&l1, 5, weighing(500)).stored());
    let heavier = put(&l1, 5, weighing(10_001));
    assert_eq!(heavier.refused, Some(Refusal::TooHeavy));
    assert_eq!(heavier.left[0].cause, Cause::Replaced, "the older value is outdated all the same");
    assert!(l1.get(&5, &at(5), 0).is_none());
}

#[test]
fn what_expired_leaves_before_what_lives() {
    let (l1, _) = tier(100, u64::MAX, Some(1));
    for key in 0..100 {
        let hard_expiry = if key % 2 == 0 { 1_000 } else { u64::MAX };
        assert!(put(&l1, key, Meta { hard_expiry, ..meta(1) }).stored());
    }
    for key in 100..150 {
        assert!(l1.insert(key, Arc::new(key), &at(key), meta(1), &l1.snapshot(&at(key)), 1_000).stored());
    }
    assert!((1..100).step_by(2).all(|key| l1.get(&key, &at(key), 1_000).is_some()));
    assert_eq!((l1.stats().expired, l1.stats().evicted), (50, 0));
}

#[test]
fn what_expired_is_found_behind_many_that_live() {
    let (l1, _) = tier(60, u64::MAX, Some(1));
    for key in 0..60 {
        // All in one bucket of the wheel, the expired one at its bottom.
        let hard_expiry = if key == 0 { 65_600 } else { 69_000 };
        assert!(put(&l1, key, Meta { hard_expiry, ..meta(1) }).stored());
    }
    let full = l1.insert(99, Arc::new(0), &at(99), meta(1), &l1.snapshot(&at(99)), 65_600);
    assert_eq!((full.left[0].key, full.left[0].cause, full.left.len()), (0, Cause::Expired, 1));
}

#[test]
fn an_insert_sweeps_a_little() {
    let (l1, _) = tier(1_000, u64::MAX, Some(1));
    for key in 0..500 {
        assert!(put(&l1, key, Meta { hard_expiry: 10, ..meta(1) }).stored());
    }
    let inserted = l1.insert(999, Arc::new(0), &at(999), meta(1), &l1.snapshot(&at(999)), 10);
    assert!((1..10).contains(&inserted.left.len()), "bounded, and not nothing");
}

#[test]
fn a_tier_of_no_entries_refuses_all() {
    let (l1, _) = tier(0, u64::MAX, None);
    assert_eq!(put(&l1, 1, meta(1)).refused, Some(Refusal::NoRoom));
    assert!(l1.get(&1, &at(1), 0).is_none());
}

#[test]
fn an_expired_value_is_not_stored() {
    let (l1, _) = tier(10, u64::MAX, None);
    let late =
        l1.insert(1, Arc::new(1), &at(1), Meta { hard_expiry: 50, ..meta(1) }, &l1.snapshot(&at(1)), 50);
    assert_eq!(late.refused, Some(Refusal::Expired));
}

#[test]
fn a_pattern_refuses_loads_of_keys_it_cannot_know() {
    let (l1, _) = tier(10, u64::MAX, None);
    let snapshot = l1.snapshot(&at(1));
    assert!(l1.invalidate_matching(Origin::MAX, 0, |_| true).is_empty());
    assert_eq!(l1.insert(1, Arc::new(1), &at(1), meta(1), &snapshot, 0).refused, Some(Refusal::Invalidated));
}

#[test]
fn equal_hashes_are_told_apart_by_the_key() {
    let (l1, _) = tier(10, u64::MAX, None);
    for key in 0..5 {
        assert!(l1.insert(key, Arc::new(key), &at(0), meta(1), &l1.snapshot(&at(0)), 0).stored());
    }
    for key in 0..5 {
        assert_eq!(*l1.get(&key, &at(0), 0).unwrap().value, key);
    }
    assert_eq!(*l1.remove(&3, &at(0)).unwrap().value, 3);
    assert!(l1.get(&3, &at(0), 0).is_none() && l1.get(&4, &at(0), 0).is_some());
}

#[test]
fn hits_reach_the_policy() {
    let fence = Arc::new(Fence::new(1));
    let config = Config { entries_max: 100, bytes_max: u64::MAX, shards: None, own_group: OWN_GROUP };
    let l1: Checked<u64, Arc<u64>, Lru> = checked(L1::new(config, fence, Lru::new));
    for key in 0..10_000_u64 {
        assert!(l1.insert(key, Arc::new(key), &at(key), meta(1), &l1.snapshot(&at(key)), 0).stored());
        assert!(l1.get(&0, &at(0), 0).is_some(), "read after each insert, so never the least recently used");
    }
}

#[test]
fn hits_are_worked_off_without_any_insert() {
    let fence = Arc::new(Fence::new(1));
    let config = Config { entries_max: 100, bytes_max: u64::MAX, shards: None, own_group: OWN_GROUP };
    let l1: Checked<u64, Arc<u64>, Lru> = checked(L1::new(config, fence, Lru::new));
    for key in 0..100 {
        assert!(l1.insert(key, Arc::new(key), &at(key), meta(1), &l1.snapshot(&at(key)), 0).stored());
    }
    // More hits than the policy's buffer holds.
    for key in (0..100).rev() {
        assert!(l1.get(&key, &at(key), 0).is_some());
    }
    for key in 100..150 {
        let inserted = l1.insert(key, Arc::new(key), &at(key), meta(1), &l1.snapshot(&at(key)), 0);
        assert_eq!(inserted.left[0].key, 199 - key, "the one read longest ago");
    }
}

#[test]
fn counters_tell_what_came_and_left() {
    let (l1, fence) = tier(3, u64::MAX, None);
    for key in 0..4 {
        assert!(put(&l1, key, meta(5)).stored()); // the last evicts one
    }
    let _ = put(&l1, 3, meta(6)); // replaces
    let _ = put(&l1, 3, meta(4)); // newer there
    let _ = put(&l1, 9, Meta { hard_expiry: 0, ..meta(1) }); // expired
    let alive: Vec<u64> = (0..3).filter(|key| l1.get(key, &at(*key), 0).is_some()).collect();
    drop(l1.remove(&alive[0], &at(alive[0])));
    drop(l1.invalidate_key(&alive[1], &at(alive[1]), Origin::MAX));
    fence.flush(0, 2, &[]);
    drop(l1.sweep(0, 100));
    let stats = l1.stats();
    assert_eq!((stats.entries, stats.bytes), (0, 0));
    assert_eq!((stats.inserted, stats.evicted, stats.replaced, stats.removed), (5, 1, 1, 1));
    assert_eq!((stats.invalidated, stats.expired), (2, 0));
    assert_eq!((stats.refused_outdated, stats.refused_unfit), (1, 1));
}

#[test]
fn a_flush_within_an_epoch_forgets_no_stamp_and_a_new_epoch_forgets_all() {
    let fence = cache_l1::Fence::new(1);
    fence.flush(0, 5, &[(1, 10)]);
    fence.stamp(0, 2, 20);
    fence.flush(0, 5, &[(1, 15), (2, 12)]);
    assert!(fence.stamped_after(0, &[1], 14) && fence.stamped_after(0, &[2], 19));
    fence.flush(0, 6, &[(1, 1)]);
    assert!(!fence.stamped_after(0, &[1], 1) && !fence.stamped_after(0, &[2], 0));
}

#[test]
fn shedding_takes_the_least_valuable_of_every_shard() {
    let (l1, _) = tier(8_000, u64::MAX, Some(4));
    for key in 0..8_000 {
        assert!(put(&l1, key, meta(1)).stored());
    }
    // The policy sees a second chance for these.
    for key in 0..4_000 {
        assert!(l1.get(&key, &at(key), 0).is_some());
    }
    let left = l1.shed(2_000);
    assert_eq!((left.len(), l1.len()), (2_000, 6_000));
    assert!(
        left.iter().all(|left| left.cause == Cause::Evicted && left.key >= 4_000),
        "who was asked for stays"
    );
    l1.validate();
    assert_eq!(l1.shed(usize::MAX).len(), 6_000);
    assert!(l1.is_empty() && l1.bytes() == 0 && l1.shed(5).is_empty());
}

#[test]
fn a_watched_tier_counts_hits_and_misses_alike() {
    let (l1, _) = tier(50, u64::MAX, None);
    assert!(l1.curve(|_| ()).is_none(), "nobody watches");
    let l1 = l1.with(|l1| l1.watched(1, 1_000));
    let mut lookups = 0;
    for round in 0..10 {
        for key in 0..100 {
            lookups += 1;
            assert_eq!(l1.get(&key, &at(key), 0).is_some(), round > 0 && key < 50);
            if round == 0 && key < 50 {
                assert!(put(&l1, key, meta(1)).stored());
            }
        }
    }
    let (few, enough) =
        l1.curve(|curve| (curve.hit_ratio(90, lookups), curve.hit_ratio(110, lookups))).unwrap();
    assert!(few.unwrap() < 0.05 && enough.unwrap() > 0.85, "{few:?} {enough:?}");
}

#[test]
fn a_listener_hears_each_departure_once_with_its_cause_and_may_use_the_tier() {
    let (l1, fence) = tier(4, u64::MAX, None);
    let (heard, held) =
        (Arc::new(Mutex::new(Vec::new())), Arc::new(OnceLock::<std::sync::Weak<CheckedTier>>::new()));
    let (ear, of) = (heard.clone(), held.clone());
    let listener = move |left: &Left<u64, Arc<u64>>| {
        // No lock is held: asking the tier from here does not wait for itself.
        let tier = of.get().and_then(std::sync::Weak::upgrade).unwrap();
        assert!(
            tier.get(&left.key, &at(left.key), 0).is_none_or(|hit| !Arc::ptr_eq(&hit.value, &left.value))
        );
        ear.lock().unwrap().push((left.key, left.cause));
    };
    let l1 = Arc::new(l1.with(|l1| l1.listening(listener)));
    held.set(Arc::downgrade(&l1)).unwrap();
    let said = || std::mem::take(&mut *heard.lock().unwrap());

    for key in 0..5 {
        assert!(put(&l1, key, meta(1)).stored());
    }
    assert_eq!(said(), [(0, Cause::Evicted)]);
    assert!(put(&l1, 1, meta(1)).stored());
    assert_eq!(said(), [(1, Cause::Replaced)]);
    l1.remove(&1, &at(1));
    l1.invalidate_key(&2, &at(2), Origin::MAX);
    l1.invalidate_resource(at(3).resource(), Origin::MAX);
    assert_eq!(said(), [(1, Cause::Removed), (2, Cause::Invalidated), (3, Cause::Invalidated)]);
    l1.invalidate_matching(Origin::MAX, 0, |&key| key == 4);
    assert_eq!(said(), [(4, Cause::Invalidated)]);

    assert!(put(&l1, 6, Meta { hard_expiry: 10, ..meta(1) }).stored());
    l1.sweep(5_000, 100);
    assert_eq!(said(), [(6, Cause::Expired)]);
    assert!(put(&l1, 7, meta(1)).stored());
    fence.flush(0, 2, &[]);
    assert!(said().is_empty(), "a flush touches nothing");
    l1.sweep(5_000, 100);
    assert_eq!(said(), [(7, Cause::Invalidated)]);
    let of_the_new_epoch = Meta { origin: Origin { epoch: 2, seq: 1 }, ..meta(1) };
    assert!(put(&l1, 8, of_the_new_epoch).stored());
    l1.shed(1);
    assert_eq!(said(), [(8, Cause::Evicted)]);
}
