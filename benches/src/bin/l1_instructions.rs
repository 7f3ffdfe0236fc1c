//! Instructions of the hot paths of L1, counted ([`edgecache_benches::instructions`]).

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use cache_l1::{Fence, Meta, Origin};
use cache_policy::{AutoFamily, Family, Policy, S3Fifo, Sieve};
use edgecache_benches::instructions::{asked_for, each};
use edgecache_benches::l1::{Cache, NOW, Ours, Value, value};
use edgecache_benches::simulate::markdown;

const ENTRIES: u64 = 1_024;
const FEW: u64 = 20_000;
const MANY: u64 = 60_000;
const MANY_ENTRIES: u64 = 20_000;
/// Instructions that the fence may take of a hit: some 5 ns where each waits for the one before.
const FENCE_MAX: f64 = 20.0;
/// What the curve may add to a get.
const CURVE_MAX: f64 = 0.03;

type Work = fn(u64);

const FENCED: &str = "get_with that takes the value alone, cache-l1/sieve";
const UNFENCED: &str = "the same that takes flushes and stamps for none";
const UNWATCHED: &str = "get of one of 20,000 entries, cache-l1/sieve";
const WATCHED: &str = "the same where one key in 128 is watched for the curve";
const SLIDING: &str = "get of a sliding entry, cache-l1/sieve";

/// What is counted, by name.
const WORKS: &[(&str, Work)] = &[
    ("get, quick_cache", |n| gets(filled(quick_cache::sync::Cache::new(2 * ENTRIES as usize)), n)),
    ("get, moka with the same hash", |n| {
        let builder = moka::sync::Cache::builder().max_capacity(2 * ENTRIES);
        gets(filled(builder.build_with_hasher(quick_cache::DefaultHashBuilder::default())), n);
    }),
    ("get, cache-l1/sieve", |n| gets(filled(ours(2 * ENTRIES, Sieve::new)), n)),
    // So many keys that the share of them that is watched is near one in 128.
    (UNWATCHED, |n| gets_of(MANY_ENTRIES, ours(2 * MANY_ENTRIES, Sieve::new), n)),
    (WATCHED, |n| {
        let cache = ours(2 * MANY_ENTRIES, Sieve::new).watched(128, cache_l1::KEYS_WATCHED);
        gets_of(MANY_ENTRIES, cache, n);
    }),
    (SLIDING, |n| {
        let cache = ours(2 * ENTRIES, Sieve::new);
        for key in 0..ENTRIES {
            let (at, meta) = (cache.at(&key), Meta { idle: 10_000, ..Ours::<u64, Sieve>::meta() });
            drop(cache.tier().insert(key, value(key), &at, meta, &cache.tier().snapshot(&at), NOW));
        }
        gets(cache, n);
    }),
    ("get, cache-l1/s3_fifo", |n| gets(filled(ours(2 * ENTRIES, S3Fifo::new)), n)),
    ("get, cache-l1/auto", |n| gets(filled(ours(2 * ENTRIES, AutoFamily::new(2 * ENTRIES as usize))), n)),
    (FENCED, |n| {
        let cache = filled(ours(2 * ENTRIES, Sieve::new));
        for key in (0..ENTRIES).cycle().take(n as usize) {
            drop(black_box(
                cache.tier().get_with(&key, &cache.at(&key), NOW, |value, _| Some(value.clone())),
            ));
        }
    }),
    (UNFENCED, |n| {
        let cache = filled(ours(2 * ENTRIES, Sieve::new));
        for key in (0..ENTRIES).cycle().take(n as usize) {
            drop(black_box(cache.unfenced(&key)));
        }
    }),
    ("get of an entry that the fence must judge again after a stamp, cache-l1/sieve", |n| {
        let cache = filled(ours(2 * ENTRIES, Sieve::new));
        let mut seq = 100;
        for key in (0..ENTRIES).cycle().take(n as usize) {
            if key == 0 {
                // Of a group that none of the entries is in: each has to look once.
                seq += 1;
                cache.tier().fence().stamp(0, 9, seq);
            }
            drop(black_box(Cache::get(&cache, &key)));
        }
    }),
    ("the hash and the address of a key", |n| {
        let cache = ours(ENTRIES, Sieve::new);
        for key in 0..n {
            black_box(cache.at(black_box(&key)));
        }
    }),
    ("a look at the fence: its version against that of an entry", |n| {
        let fence = Fence::new(1);
        let judged: Vec<AtomicU64> = (0..ENTRIES).map(|_| AtomicU64::new(fence.version())).collect();
        for entry in judged.iter().cycle().take(n as usize) {
            black_box(black_box(&fence).version() == entry.load(Relaxed));
        }
    }),
    ("snapshot of the fences (with hash and address)", |n| {
        let cache = ours(ENTRIES, Sieve::new);
        for key in 0..n {
            black_box(cache.tier().snapshot(&cache.at(black_box(&key))));
        }
    }),
    ("insert that drives one out, quick_cache", |n| {
        inserts(filled(quick_cache::sync::Cache::new(ENTRIES as usize)), n)
    }),
    ("insert that drives one out, cache-l1/sieve", |n| inserts(filled(ours(ENTRIES, Sieve::new)), n)),
    ("insert that drives one out, cache-l1/s3_fifo", |n| inserts(filled(ours(ENTRIES, S3Fifo::new)), n)),
    ("insert that drives one out, cache-l1/auto", |n| {
        inserts(filled(ours(ENTRIES, AutoFamily::new(ENTRIES as usize))), n);
    }),
    ("invalidation of an absent key, cache-l1/sieve", |n| {
        let cache = filled(ours(2 * ENTRIES, Sieve::new));
        for key in ENTRIES..ENTRIES + n {
            drop(black_box(cache.tier().invalidate_key(&key, &cache.at(&key), Origin::MAX)));
        }
    }),
    ("stamp of a group", |n| {
        let fence = Fence::new(1);
        (0..n).for_each(|seq| fence.stamp(0, 9, seq));
    }),
];

fn ours<P: Policy>(capacity: u64, family: impl Family<Member = P>) -> Ours<u64, P> {
    Ours::new(capacity as usize, family)
}

fn filled<C: Cache<u64>>(cache: C) -> C {
    (0..ENTRIES).for_each(|key| cache.insert(key, value(key)));
    cache.settle();
    cache
}

fn gets<C: Cache<u64>>(cache: C, n: u64) {
    for key in (0..ENTRIES).cycle().take(n as usize) {
        drop(black_box(cache.get(&key)));
    }
}

/// Of so many keys, in turn.
fn gets_of<C: Cache<u64>>(keys: u64, cache: C, n: u64) {
    (0..keys).for_each(|key| cache.insert(key, value(key)));
    for key in (0..keys).cycle().take(n as usize) {
        drop(black_box(cache.get(&key)));
    }
}

fn inserts<C: Cache<u64>>(cache: C, n: u64) {
    let value: Value = Arc::new([1; 8]);
    (ENTRIES..ENTRIES + n).for_each(|key| cache.insert(key, value.clone()));
}

fn main() -> Result<()> {
    if let Some((work, n)) = asked_for()? {
        let (_, work) = WORKS.get(work).context("no such work")?;
        work(n);
        return Ok(());
    }
    let mut lines = vec![vec!["instructions".to_owned(), "each".to_owned()]];
    let mut counts = HashMap::new();
    for (at, (name, _)) in WORKS.iter().enumerate() {
        eprintln!("{name} …");
        let each = each(at, FEW, MANY)?;
        lines.push(vec![(*name).to_owned(), format!("{each:.0}")]);
        counts.insert(*name, each);
    }
    let of = |name| counts.get(name).copied().context("a count is missing");
    let (get, watched, fence) = (of(UNWATCHED)?, of(WATCHED)?, of(FENCED)? - of(UNFENCED)?);
    print!("{}", markdown(&lines));
    println!("\nOf a hit the fence takes {fence:.1} instructions.");
    println!(
        "The curve adds {:.1} instructions to a get, {:.1} %.",
        watched - get,
        100.0 * (watched / get - 1.0)
    );
    ensure!(fence <= FENCE_MAX, "the fence takes more than {FENCE_MAX} instructions of a hit");
    ensure!(watched / get - 1.0 < CURVE_MAX, "the curve adds more than {} %", 100.0 * CURVE_MAX);
    Ok(())
}
