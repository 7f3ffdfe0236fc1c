//! Sliding expiry: an entry lives on while it is asked for, and not beyond its hard expiry.

mod support;

use std::sync::Arc;

use cache_l1::{Address, Cause, Config, Fence, L1, Meta, Origin};
use cache_policy::contract::mix;
use cache_policy::{Policy, PolicyKind, build};
use support::{Checked, checked};

type Tier = L1<u64, u64>;

fn tier() -> (Checked<u64, u64, Box<dyn Policy>>, Arc<Fence>) {
    let fence = Arc::new(Fence::new(1));
    let config = Config { entries_max: 1_000, bytes_max: u64::MAX, shards: Some(1), own_group: 99 };
    (checked(L1::new(config, fence.clone(), |hint| build(PolicyKind::Sieve, hint))), fence)
}

fn at(key: u64) -> Address {
    Address::bare(mix(key + 1), 0)
}

fn put(l1: &Tier, key: u64, idle: u32, hard_expiry: u64, now: u64) {
    let meta = Meta { hard_expiry, idle, weight: 10, ..Meta::default() };
    assert!(l1.insert(key, key, &at(key), meta, &l1.snapshot(&at(key)), now).stored());
    l1.validate();
}

fn is_hit(l1: &Tier, key: u64, now: u64) -> bool {
    let hit = l1.get(&key, &at(key), now).is_some();
    l1.validate();
    hit
}

#[test]
fn each_hit_moves_the_deadline_and_the_first_pause_that_is_too_long_ends_it() {
    let (l1, _) = tier();
    put(&l1, 1, 100, u64::MAX, 1_000);
    for now in (1_000..50_000).step_by(99) {
        assert!(is_hit(&l1, 1, now), "{now}");
    }
    let last = (1_000..50_000).step_by(99).last().unwrap();
    assert!(is_hit(&l1, 1, last + 99));
    assert!(!is_hit(&l1, 1, last + 199));
}

#[test]
fn no_hit_carries_it_past_its_hard_expiry() {
    let (l1, _) = tier();
    put(&l1, 1, 100, 1_250, 1_000);
    assert!(is_hit(&l1, 1, 1_099) && is_hit(&l1, 1, 1_190) && is_hit(&l1, 1, 1_249));
    assert!(!is_hit(&l1, 1, 1_250));
    assert_eq!(l1.sweep(1_250, 100).len(), 1);
}

#[test]
fn a_hit_tells_the_hard_expiry_and_diagnostics_the_idle_time_too() {
    let (l1, _) = tier();
    put(&l1, 1, 100, 1_250, 1_000);
    assert_eq!(l1.get(&1, &at(1), 1_050).unwrap().hard_expiry, 1_250);
    let mut seen = Vec::new();
    l1.for_each(|_, _, meta| seen.push((meta.hard_expiry, meta.idle)));
    assert_eq!(seen, [(1_250, 100)]);
}

#[test]
fn the_sweep_takes_who_was_idle_and_files_the_others_anew() {
    let (l1, _) = tier();
    for key in 0..100 {
        put(&l1, key, 100, u64::MAX, 1_000);
    }
    for now in (1_000..200_000).step_by(90) {
        for key in 0..50 {
            assert!(l1.get(&key, &at(key), now).is_some());
        }
        let left = l1.sweep(now, 1_000);
        assert!(left.iter().all(|left| left.key >= 50 && left.cause == Cause::Expired));
        l1.validate();
    }
    assert_eq!((l1.len(), l1.stats().expired), (50, 50));
    assert_eq!(l1.sweep(400_000, 1_000).len(), 50);
}

#[test]
fn it_goes_as_others_go() {
    let (l1, fence) = tier();
    for key in 0..4 {
        put(&l1, key, 100, 9_000, 1_000);
    }
    // A newer value without an idle time takes the place.
    put(&l1, 0, 0, 9_000, 1_010);
    assert!(is_hit(&l1, 0, 8_999));
    assert!(l1.invalidate_key(&1, &at(1), Origin::MAX).is_some());
    assert!(l1.remove(&2, &at(2)).is_some());
    fence.stamp(0, 99, 1);
    assert!(!is_hit(&l1, 3, 1_050));
    assert_eq!(l1.sweep(1_050, 100).len(), 2, "both that the stamp outdated");
    l1.validate();
    assert_eq!((l1.len(), l1.bytes()), (0, 0));
}

#[test]
fn what_it_costs_beside_is_counted() {
    let meta = Meta { idle: 5, ..Meta::default() };
    let (with, without) =
        (Tier::overhead_bytes(&at(1), &meta), Tier::overhead_bytes(&at(1), &Meta::default()));
    assert!(with > without);
    let (l1, _) = tier();
    put(&l1, 1, 5, 100, 0);
    assert_eq!(l1.bytes(), with + 10);
}

#[test]
fn the_first_milliseconds_are_no_exception() {
    let (l1, _) = tier();
    put(&l1, 1, 2, u64::MAX, 0);
    put(&l1, 2, 0, 1, 0);
    assert!(is_hit(&l1, 1, 0) && is_hit(&l1, 2, 0));
    assert!(is_hit(&l1, 1, 1) && !is_hit(&l1, 2, 1), "the other really expires at 1");
    assert!(is_hit(&l1, 1, 2) && !is_hit(&l1, 1, 4));
    assert_eq!(l1.sweep(4, 100).len(), 2);
}
