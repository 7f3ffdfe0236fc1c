//! Contestants of a row, and what one does in a round. Loops are compiled for each cache on its own; what is
//! called through a pointer is a whole round.

use std::hint::black_box;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use anyhow::{Context, Result};
use cache_policy::{AutoFamily, Lru, S3Fifo, Sieve, WTinyLfu};
use hdrhistogram::Histogram;

use super::caches::{Cache, Key, Ours, Value};
use crate::now;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds.
    pub rounds: usize,
    /// How long a contestant works in a round.
    pub lap: Duration,
}

impl Pace {
    /// For figures.
    pub const FULL: Self = Self { rounds: 15, lap: Duration::from_millis(25) };
    /// To see that it works.
    pub const SHORT: Self = Self { rounds: 2, lap: Duration::from_millis(2) };
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
    fn gets(&self, keys: &[K], threads: usize, lap: Duration) -> Lap;

    /// The same, and stores what was not there. `from` says where in the list the first thread begins.
    fn reads_through(&self, keys: &[K], values: &[Value], threads: usize, lap: Duration, from: usize) -> Lap;

    /// Stores keys that were never there before; `from` is the number of the first.
    fn inserts(&self, values: &[Value], threads: usize, lap: Duration, from: u64) -> Lap;

    /// One thread stores new keys at full speed, the other asks for the given ones. Told are the time of an
    /// insert and, aside, the time that 999 of 1,000 gets stay below.
    fn duel(&self, hot: &[(K, Value)], values: &[Value], lap: Duration, from: u64) -> Lap;

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

    fn gets(&self, keys: &[K], threads: usize, lap: Duration) -> Lap {
        let cache = self.cache();
        let begin = |thread: usize| {
            // Into the processor's caches, where the other contestants' entries were.
            keys.iter().step_by(4).for_each(|key| drop(black_box(cache.get(key))));
            keys.iter().cycle().skip(thread * keys.len() / threads)
        };
        race(threads, lap, begin, |order| {
            order.take(BLOCK).filter(|key| black_box(cache.get(key)).is_some()).count()
        })
    }

    fn reads_through(&self, keys: &[K], values: &[Value], threads: usize, lap: Duration, from: usize) -> Lap {
        let cache = self.cache();
        let begin = |thread: usize| (from + thread * keys.len() / threads) % keys.len();
        race(threads, lap, begin, |at| {
            let mut hits = 0;
            for _ in 0..BLOCK {
                let key = &keys[*at];
                *at = if *at + 1 == keys.len() { 0 } else { *at + 1 };
                if black_box(cache.get(key)).is_some() {
                    hits += 1;
                } else {
                    cache.insert(key.clone(), values[*at % values.len()].clone());
                }
            }
            hits
        })
    }

    fn inserts(&self, values: &[Value], threads: usize, lap: Duration, from: u64) -> Lap {
        let cache = self.cache();
        // Each thread has numbers of its own.
        let begin = |thread: usize| from + ((thread as u64) << 40);
        race(threads, lap, begin, |next| {
            for n in *next..*next + BLOCK as u64 {
                cache.insert(K::nth(n), values[n as usize % values.len()].clone());
            }
            *next += BLOCK as u64;
            0
        })
    }

    fn duel(&self, hot: &[(K, Value)], values: &[Value], lap: Duration, from: u64) -> Lap {
        let cache = self.cache();
        let (reads, over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut hits = 0;
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
                        hits += 1;
                    } else {
                        // What the other thread drove out comes back, or soon there would be misses only.
                        cache.insert(key.clone(), value.clone());
                    }
                }
                (took, hits)
            });
            // The reader may get its core later.
            while !reads.load(Relaxed) {
                std::hint::spin_loop();
            }
            let start = now();
            let mut next = from;
            while start.elapsed() < lap {
                for n in next..next + BLOCK as u64 {
                    cache.insert(K::nth(n), values[n as usize % values.len()].clone());
                }
                next += BLOCK as u64;
            }
            let ns = start.elapsed().as_nanos() as f64 / (next - from) as f64;
            over.store(true, Relaxed);
            let (took, hits) = reader.join().expect("the reader of the benchmark");
            Lap { ns, operations: took.len(), hits, aside_ns: took.value_at_quantile(0.999) as f64 }
        })
    }

    fn rest(&self) {
        self.cache().settle();
    }

    fn entries(&self) -> Option<usize> {
        self.rest();
        self.cache().held()
    }
}

/// Operations between two looks at the clock.
const BLOCK: usize = 256;

/// Runs blocks of operations on each of so many threads for a while. All are ready before the first begins, and end
/// together. `begin` makes what a thread needs, `block` does [`BLOCK`] operations and tells the hits.
fn race<S>(
    threads: usize,
    lap: Duration,
    begin: impl Fn(usize) -> S + Sync,
    block: impl Fn(&mut S) -> usize + Sync,
) -> Lap {
    let (ready, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = |thread: usize| {
        let mut state = begin(thread);
        ready.fetch_add(1, AcqRel);
        while ready.load(Acquire) < threads {
            // Spinning, as waking a thread takes longer than many a block.
            std::hint::spin_loop();
        }
        let (mut operations, mut hits) = (0, 0);
        let start = now();
        while !over.load(Relaxed) {
            hits += block(&mut state);
            operations += BLOCK;
            if thread == 0 && start.elapsed() >= lap {
                over.store(true, Relaxed);
            }
        }
        (start.elapsed().as_nanos() as f64 / operations.max(1) as f64, operations, hits)
    };
    let laps: Vec<(f64, usize, usize)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let own = run(0);
        let joined = others.into_iter().map(|other| other.join().expect("a thread of the benchmark"));
        [own].into_iter().chain(joined).collect()
    });
    Lap {
        ns: laps.iter().map(|lap| lap.0).sum::<f64>() / threads as f64,
        operations: laps.iter().map(|lap| lap.1 as u64).sum(),
        hits: laps.iter().map(|lap| lap.2 as u64).sum(),
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
