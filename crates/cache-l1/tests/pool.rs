//! One bound for many tiers: shares are kept, the rest is borrowed and given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use cache_l1::{Address, Config, Fence, Inserted, L1, Meta, Origin, Pool, Refusal};
use cache_policy::contract::{Rng, mix};
use cache_policy::{PolicyKind, build};
use proptest::prelude::*;

type Tier = L1<u64, u64>;

fn tier(pool: &Arc<Pool>, share: u64, critical: bool, shards: usize) -> Option<Arc<Tier>> {
    let config = Config { entries_max: 100_000, bytes_max: 1 << 20, shards: Some(shards), own_group: 1 };
    let l1 = L1::new(config, Arc::new(Fence::new(1)), |hint| build(PolicyKind::Lru, hint));
    let l1 = Arc::new(l1.within(pool, share, critical)?);
    l1.open_to_claims(Arc::downgrade(&l1) as _);
    Some(l1)
}

fn at(key: u64) -> Address {
    Address::bare(mix(key + 1), 0)
}

/// An entry of so many bytes, overhead included.
fn put(l1: &Tier, key: u64, bytes: u64) -> Inserted<u64, u64> {
    let meta = Meta { hard_expiry: u64::MAX, ..Meta::default() };
    let weight = bytes - Tier::overhead_bytes(&at(key), &meta);
    let meta = Meta { weight: weight as u32, ..meta };
    l1.insert(key, key, &at(key), meta, &l1.snapshot(&at(key)), 0)
}

fn fill(l1: &Tier, entries: u64) {
    (0..entries).for_each(|key| assert!(put(l1, key, 1_000).stored()));
}

fn validate(pool: &Pool, tiers: &[&Arc<Tier>]) {
    tiers.iter().for_each(|tier| tier.validate());
    pool.validate();
    assert_eq!(pool.bytes(), tiers.iter().map(|tier| tier.bytes()).sum::<u64>());
}

#[test]
fn what_others_leave_unused_is_borrowed_and_given_back_when_its_owner_comes() {
    for shards in [1, 8] {
        let pool = Arc::new(Pool::new(1_000_000));
        let owner = tier(&pool, 600_000, false, shards).unwrap();
        let borrower = tier(&pool, 100_000, false, shards).unwrap();
        fill(&borrower, 2_000);
        assert_eq!((borrower.bytes(), pool.bytes()), (1_000_000, 1_000_000));
        fill(&owner, 600);
        assert_eq!((owner.bytes(), borrower.bytes()), (600_000, 400_000), "{shards} shards");
        assert_eq!(owner.len(), 600, "the owner lost nothing of its own");
        validate(&pool, &[&owner, &borrower]);
    }
}

#[test]
fn borrowers_share_alike_and_then_take_from_themselves() {
    let pool = Arc::new(Pool::new(1_000_000));
    let first = tier(&pool, 200_000, false, 4).unwrap();
    let second = tier(&pool, 100_000, false, 4).unwrap();
    fill(&first, 2_000);
    fill(&second, 2_000);
    let borrowed = (first.bytes() - 200_000, second.bytes() - 100_000);
    assert_eq!(
        (borrowed.0 + borrowed.1, borrowed.0.abs_diff(borrowed.1) <= 2_000),
        (700_000, true),
        "{borrowed:?}"
    );
    fill(&first, 2_000);
    assert!(borrowed.0.abs_diff(first.bytes() - 200_000) <= 2_000, "more inserts are no right to more");
    validate(&pool, &[&first, &second]);
}

#[test]
fn critical_tiers_give_last_and_never_to_a_borrower_that_is_not() {
    let pool = Arc::new(Pool::new(1_000_000));
    let critical = tier(&pool, 100_000, true, 4).unwrap();
    let large = tier(&pool, 100_000, false, 4).unwrap();
    let small = tier(&pool, 100_000, false, 4).unwrap();
    let owner = tier(&pool, 600_000, false, 4).unwrap();
    fill(&critical, 500);
    fill(&large, 300);
    fill(&small, 200);
    fill(&small, 500);
    assert_eq!(critical.bytes(), 500_000, "a borrower takes from the other that is not critical");
    assert_eq!((large.bytes(), small.bytes()), (250_000, 250_000));
    fill(&owner, 200);
    assert_eq!((critical.bytes(), owner.bytes()), (500_000, 200_000));
    fill(&owner, 600);
    assert_eq!((large.bytes(), small.bytes()), (100_000, 100_000), "their shares are their own");
    assert_eq!((critical.bytes(), owner.bytes()), (200_000, 600_000), "and only then the critical one gives");
    validate(&pool, &[&critical, &large, &small, &owner]);
}

#[test]
fn shares_above_the_pool_are_refused_and_a_tier_that_goes_leaves_its_room() {
    let pool = Arc::new(Pool::new(1_000));
    let first = tier(&pool, 600, false, 1).unwrap();
    assert!(tier(&pool, 401, false, 1).is_none() && tier(&pool, u64::MAX, false, 1).is_none());
    let second = tier(&pool, 400, false, 1).unwrap();
    assert_eq!(pool.shares(), 1_000);
    assert!(put(&first, 1, 600).stored() && put(&second, 1, 400).stored());
    drop(first);
    assert_eq!((pool.shares(), pool.bytes()), (400, 400));
    validate(&pool, &[&second]);
}

#[test]
fn an_entry_may_be_as_heavy_as_the_share() {
    let pool = Arc::new(Pool::new(100_000));
    let owner = tier(&pool, 10_000, false, 4).unwrap();
    let borrower = tier(&pool, 1_000, false, 4).unwrap();
    fill(&borrower, 200);
    assert_eq!(put(&owner, 1, 10_001).refused, Some(Refusal::TooHeavy));
    assert!(put(&owner, 1, 10_000).stored());
    validate(&pool, &[&owner, &borrower]);
}

#[test]
fn nobody_is_asked_in_vain_for_what_was_never_opened_to_claims() {
    let pool = Arc::new(Pool::new(10_000));
    let config = Config { entries_max: 100, bytes_max: 0, shards: Some(1), own_group: 1 };
    let closed: Tier = L1::new(config, Arc::new(Fence::new(1)), |hint| build(PolicyKind::Lru, hint));
    let closed = closed.within(&pool, 1_000, false).unwrap();
    fill(&closed, 9);
    let other = tier(&pool, 5_000, false, 1).unwrap();
    fill(&other, 5);
    assert_eq!((closed.bytes(), other.bytes()), (9_000, 1_000), "it takes from itself then");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Three that insert all they can beside one that wants no more than its share.
#[test]
fn an_owner_is_never_starved_and_the_bound_holds_at_every_moment() {
    let pool = Arc::new(Pool::new(400_000));
    let owner = tier(&pool, 100_000, false, 4).unwrap();
    let greedy = [true, false, false].map(|critical| tier(&pool, 50_000, critical, 4).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (seed, tier) in (0..).zip(&greedy) {
            let done = &done;
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                while !done.load(SeqCst) {
                    let _ = put(tier, rng.below(10_000), 200 + rng.below(5_000));
                }
            });
        }
        scope.spawn(|| {
            while !done.load(SeqCst) {
                assert!(pool.bytes() <= pool.bytes_max());
                std::thread::yield_now();
            }
        });
        // Stops the others even if an assertion below fails.
        let _stop = Stop(&done);
        let mut rng = Rng::new(9);
        for round in 0..300 {
            for key in 0..90 {
                let stored = put(&owner, key, 1_000);
                assert!(stored.stored(), "round {round}, key {key}: {:?}", stored.refused);
            }
            assert_eq!(owner.bytes(), 90_000, "round {round}");
            for _ in 0..rng.below(90) {
                let key = rng.below(90);
                owner.invalidate_key(&key, &at(key), Origin::MAX);
            }
        }
    });
    validate(&pool, &[&owner, &greedy[0], &greedy[1], &greedy[2]]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    /// Whatever is done: the bound holds, what fits into a share is stored, and nobody loses to others what is its own,
    /// but for a part of one entry.
    #[test]
    fn shares_are_kept_in_any_order_of_inserts(seed: u64, shards in prop_oneof![Just(1_usize), Just(4)]) {
        const LARGEST: u64 = 3_000;
        let mut rng = Rng::new(seed);
        let shares = [10_000, 20_000, 5_000, 40_000];
        let pool = Arc::new(Pool::new(shares.iter().sum::<u64>() + rng.below(50_000)));
        let tiers: Vec<_> = (0..).zip(shares).map(|(at, share)| tier(&pool, share, at == 1, shards).unwrap()).collect();
        for _ in 0..200 {
            let who = rng.below(4) as usize;
            let key = rng.below(200);
            let before: Vec<u64> = tiers.iter().map(|tier| tier.bytes()).collect();
            if rng.below(10) == 0 {
                tiers[who].remove(&key, &at(key));
            } else {
                let stored = put(&tiers[who], key, 300 + rng.below(LARGEST - 300));
                prop_assert!(stored.stored(), "{:?}", stored.refused);
                let own = tiers[who].bytes();
                prop_assert!(own >= before[who].min(shares[who]).saturating_sub(LARGEST), "{before:?}, then {own}");
                for other in (0..4).filter(|&other| other != who) {
                    let kept = before[other].min(shares[other].saturating_sub(LARGEST));
                    prop_assert!(tiers[other].bytes() >= kept, "{before:?}: {other} has {}", tiers[other].bytes());
                }
            }
            validate(&pool, &tiers.iter().collect::<Vec<_>>());
        }
    }
}
