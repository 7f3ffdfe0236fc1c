//! Contestants of a row, and what one does in a round. Loops are compiled for each cache on its own; what is
//! called through a pointer is a whole round.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result};
use cache_policy::{AutoFamily, Lru, S3Fifo, Sieve, WTinyLfu};
use hdrhistogram::Histogram;

use super::caches::{Cache, Key, Ours, Value};
use crate::now;

/// How much a round does.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds.
    pub rounds: usize,
    /// Operations of a thread in a round.
    pub operations: usize,
    /// How long a round lasts whose operations are not counted beforehand.
    pub duration: Duration,
}

impl Pace {
    /// For figures: 15 rounds.
    pub const FULL: Self = Self { rounds: 15, operations: 120_000, duration: Duration::from_millis(40) };
    /// To see that it works.
    pub const SHORT: Self = Self { rounds: 2, operations: 20_000, duration: Duration::from_millis(5) };
}

/// What came out of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lap {
    /// Nanoseconds an operation took, as a thread sees it.
    pub ns: f64,
    /// Operations of all threads.
    pub operations: u64,
    /// Hits among them.
    pub hits: u64,
    /// The second figure of a round that has two.
    pub aside_ns: f64,
}

/// One cache in a row.
pub trait Contestant<K>: Send + Sync {
    /// As in the table.
    fn name(&self) -> &str;

    /// Makes an empty cache of so many entries.
    ///
    /// # Errors
    /// If it refuses.
    fn open(&mut self, capacity: usize) -> Result<()>;

    /// Drops it.
    fn close(&mut self);

    /// Fills it with all pairs, and lets it rest.
    fn fill(&self, pairs: &[(K, Value)]);

    /// Asks for keys of the list, in its order, on each of so many threads from another place on.
    fn gets(&self, keys: &[K], threads: usize, operations: usize) -> Lap;

    /// The same, and stores what was not there.
    fn reads_through(
        &self,
        keys: &[K],
        values: &[Value],
        threads: usize,
        operations: usize,
        from: usize,
    ) -> Lap;

    /// Stores keys that were never there before; `from` is the number of the first.
    fn inserts(&self, values: &[Value], threads: usize, operations: usize, from: u64) -> Lap;

    /// One thread stores new keys at full speed, the other asks for the given ones. Told are the time of an
    /// insert and, aside, the time that 999 of 1,000 gets stay below.
    fn duel(&self, hot: &[(K, Value)], values: &[Value], duration: Duration, from: u64) -> Lap;

    /// Finishes what was put off.
    fn rest(&self);

    /// Entries held at rest, where it can tell.
    fn entries(&self) -> Option<usize>;
}

/// The longest time of a get that is told apart, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;
/// Gets of a round beside inserts at least, so that there is one in a thousand.
const GETS_MIN: u64 = 1_000;

/// Walks over all its entries for each eviction, in a thread of its own: where every insert drives one out it is
/// seconds behind after a round, holds ten times as many entries as it may, and drops inserts. What it takes cannot
/// be compared then.
pub const FALLS_BEHIND: &str = "stretto";

/// A cache with its name and how to make it.
pub struct Lane<C> {
    name: String,
    make: fn(usize) -> Result<C>,
    cache: Option<C>,
}

impl<C> Lane<C> {
    fn boxed<K: Key>(name: &str, make: fn(usize) -> Result<C>) -> Box<dyn Contestant<K>>
    where
        C: Cache<K>,
    {
        Box::new(Self { name: name.to_owned(), make, cache: None })
    }

    fn cache(&self) -> &C {
        self.cache.as_ref().expect("opened before")
    }
}

/// All that take part. Ours by the policies that are more than a teaching example.
pub fn contestants<K: Key>() -> Vec<Box<dyn Contestant<K>>> {
    vec![
        Lane::boxed("cache-l1/sieve", |capacity| Ok(Ours::new(capacity, Sieve::new))),
        Lane::boxed("cache-l1/lru", |capacity| Ok(Ours::new(capacity, Lru::new))),
        Lane::boxed("cache-l1/s3_fifo", |capacity| Ok(Ours::new(capacity, S3Fifo::new))),
        Lane::boxed("cache-l1/w_tiny_lfu", |capacity| Ok(Ours::new(capacity, WTinyLfu::new))),
        Lane::boxed("cache-l1/auto", |capacity| Ok(Ours::new(capacity, AutoFamily::new(capacity)))),
        Lane::boxed("quick_cache", |capacity| Ok(quick_cache::sync::Cache::<K, Value>::new(capacity))),
        Lane::boxed("moka", |capacity| Ok(moka::sync::Cache::<K, Value>::new(capacity as u64))),
        Lane::boxed("moka/foldhash", |capacity| {
            let builder = moka::sync::Cache::<K, Value>::builder().max_capacity(capacity as u64);
            Ok(builder.build_with_hasher(quick_cache::DefaultHashBuilder::default()))
        }),
        Lane::boxed("mini-moka", |capacity| Ok(mini_moka::sync::Cache::<K, Value>::new(capacity as u64))),
        Lane::boxed("stretto", |capacity| {
            let builder = stretto::CacheBuilder::<K, Value>::new(capacity * 10, capacity as i64);
            builder.set_ignore_internal_cost(true).finalize().context("stretto")
        }),
        Lane::boxed("foyer", |capacity| Ok(foyer_memory::CacheBuilder::<K, Value, _>::new(capacity).build())),
        Lane::boxed("TinyUFO", |capacity| Ok(tinyufo::TinyUfo::<K, Value>::new(capacity, capacity))),
    ]
}

impl<K: Key, C: Cache<K>> Contestant<K> for Lane<C> {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self, capacity: usize) -> Result<()> {
        self.close();
        self.cache = Some((self.make)(capacity)?);
        Ok(())
    }

    fn close(&mut self) {
        self.cache = None;
    }

    fn fill(&self, pairs: &[(K, Value)]) {
        let cache = self.cache();
        // In portions, as some put work off and drop it when it becomes too much.
        for portion in pairs.chunks(32) {
            portion.iter().for_each(|(key, value)| cache.insert(key.clone(), value.clone()));
            cache.settle();
        }
    }

    fn gets(&self, keys: &[K], threads: usize, operations: usize) -> Lap {
        let cache = self.cache();
        on_threads(threads, |thread| {
            let mut order = keys.iter().cycle().skip(thread * keys.len() / threads);
            // Into the processor's caches, where the other contestants' entries were.
            order.by_ref().take(operations / 8).for_each(|key| drop(black_box(cache.get(key))));
            let start = now();
            let hits = order.take(operations).filter(|key| black_box(cache.get(key)).is_some()).count();
            (start.elapsed(), operations as u64, hits as u64)
        })
    }

    fn reads_through(
        &self,
        keys: &[K],
        values: &[Value],
        threads: usize,
        operations: usize,
        from: usize,
    ) -> Lap {
        let cache = self.cache();
        on_threads(threads, |thread| {
            let mut hits = 0;
            let mut at = (from + thread * keys.len() / threads) % keys.len();
            let start = now();
            for _ in 0..operations {
                let key = &keys[at];
                at = if at + 1 == keys.len() { 0 } else { at + 1 };
                if black_box(cache.get(key)).is_some() {
                    hits += 1;
                } else {
                    cache.insert(key.clone(), values[at % values.len()].clone());
                }
            }
            (start.elapsed(), operations as u64, hits)
        })
    }

    fn inserts(&self, values: &[Value], threads: usize, operations: usize, from: u64) -> Lap {
        let cache = self.cache();
        on_threads(threads, |thread| {
            let first = from + (thread * operations) as u64;
            let start = now();
            for n in first..first + operations as u64 {
                cache.insert(K::nth(n), values[n as usize % values.len()].clone());
            }
            (start.elapsed(), operations as u64, 0)
        })
    }

    fn duel(&self, hot: &[(K, Value)], values: &[Value], duration: Duration, from: u64) -> Lap {
        let cache = self.cache();
        let (reads, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (hits, gets, slow) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let mut lap = on_threads(2, |thread| {
            if thread == 1 {
                let mut found_count = 0;
                let mut took = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3).expect("allowed bounds");
                for (key, value) in hot.iter().cycle() {
                    if over.load(Relaxed) && took.len() >= GETS_MIN {
                        break;
                    }
                    reads.store(true, Relaxed);
                    let start = now();
                    let found = black_box(cache.get(key)).is_some();
                    took.saturating_record(start.elapsed().as_nanos() as u64);
                    if found {
                        found_count += 1;
                    } else {
                        // What the other thread drove out comes back, or soon there would be misses only.
                        cache.insert(key.clone(), value.clone());
                    }
                }
                hits.store(found_count, Relaxed);
                gets.store(took.len(), Relaxed);
                slow.store(took.value_at_quantile(0.999), Relaxed);
                return (Duration::ZERO, 0, 0);
            }
            // The other thread may get a core later.
            while !reads.load(Relaxed) {
                std::hint::spin_loop();
            }
            let start = now();
            let mut n = from;
            while start.elapsed() < duration {
                for _ in 0..256 {
                    cache.insert(K::nth(n), values[n as usize % values.len()].clone());
                    n += 1;
                }
            }
            over.store(true, Relaxed);
            (start.elapsed(), n - from, 0)
        });
        lap.aside_ns = slow.into_inner() as f64;
        lap.hits = hits.into_inner();
        // The hits are those of the gets.
        lap.operations = gets.into_inner();
        lap
    }

    fn rest(&self) {
        self.cache().settle();
    }

    fn entries(&self) -> Option<usize> {
        self.rest();
        self.cache().held()
    }
}

/// Starts all at once. Work tells its time, operations and hits.
fn on_threads(threads: usize, work: impl Fn(usize) -> (Duration, u64, u64) + Sync) -> Lap {
    let barrier = Barrier::new(threads);
    let run = |thread| {
        barrier.wait();
        work(thread)
    };
    let laps: Vec<(Duration, u64, u64)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let own = run(0);
        let joined = others.into_iter().map(|other| other.join().expect("a thread of the benchmark"));
        [own].into_iter().chain(joined).collect()
    });
    let worked: Vec<f64> = laps
        .iter()
        .filter(|(_, operations, _)| *operations > 0)
        .map(|(took, operations, _)| took.as_nanos() as f64 / *operations as f64)
        .collect();
    Lap {
        ns: worked.iter().sum::<f64>() / worked.len().max(1) as f64,
        operations: laps.iter().map(|lap| lap.1).sum(),
        hits: laps.iter().map(|lap| lap.2).sum(),
        aside_ns: 0.0,
    }
}

/// What a contestant did in a row.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who.
    pub name: String,
    /// Round by round.
    pub laps: Vec<Lap>,
    /// Entries held at rest after the last, where it can tell.
    pub entries: Option<usize>,
}

/// Opens and prepares every cache, then has each run a round in turn, beginning with another one each time. Where
/// entries are driven out, [`FALLS_BEHIND`] does not take part.
///
/// # Errors
/// If a cache cannot be made.
pub fn contest<K: Key>(
    rounds: usize,
    capacity: usize,
    evicting: bool,
    prepare: impl Fn(&dyn Contestant<K>),
    round: impl Fn(&dyn Contestant<K>, usize) -> Lap,
) -> Result<Vec<Record>> {
    let mut all = contestants();
    all.retain(|one| !evicting || one.name() != FALLS_BEHIND);
    for contestant in &mut all {
        contestant.open(capacity)?;
        prepare(contestant.as_ref());
    }
    let mut laps = vec![Vec::new(); all.len()];
    for turn in 0..rounds {
        for place in 0..all.len() {
            let who = (turn + place) % all.len();
            laps[who].push(round(all[who].as_ref(), turn));
            // Or its leftovers would be done in the time of the next.
            all[who].rest();
        }
    }
    let records = all.iter().zip(laps);
    Ok(records
        .map(|(one, laps)| Record { name: one.name().to_owned(), laps, entries: one.entries() })
        .collect())
}
