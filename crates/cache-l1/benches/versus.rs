//! This tier against `quick_cache`, in interleaved rounds: `versus [part of a name] [rounds]`.
//!
//! Both hash the key in the loop with the same hasher, hold the same allocations as values and are asked for the
//! same keys in the same order. Printed are medians over the rounds, nanoseconds an operation and thread, and the
//! median of the ratios (theirs / ours: above 1 this tier is faster).

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(
    unsafe_code,
    reason = "a global allocator can only be implemented so; it passes everything on to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cache_l1::{Address, Config, Fence, L1, Meta, Origin};
use cache_policy::Sieve;
use cache_policy::contract::Rng;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static COUNTING: AtomicBool = AtomicBool::new(false);

struct Counting;

// SAFETY: every call goes to `System` with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Relaxed) {
            LIVE.fetch_add(layout.size() as isize, Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if COUNTING.load(Relaxed) {
            LIVE.fetch_sub(layout.size() as isize, Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTING.load(Relaxed) {
            LIVE.fetch_add(size as isize - layout.size() as isize, Relaxed);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Value = Arc<[u64; 8]>;
type Hasher = foldhash::fast::FixedState;

trait Cache: Send + Sync {
    type Key: Clone + Send + Sync;
    fn get(&self, key: &Self::Key) -> Option<Value>;
    fn put(&self, key: Self::Key, value: Value);
    fn len(&self) -> usize;
}

trait BenchKey: Clone + Hash + Eq + Send + Sync {
    fn make(n: u64) -> Self;
}

impl BenchKey for u64 {
    fn make(n: u64) -> Self {
        n
    }
}

impl BenchKey for Arc<str> {
    fn make(n: u64) -> Self {
        format!("gpu-{n}").into()
    }
}

struct Ours<K> {
    l1: L1<K, Value, Sieve>,
    hasher: Hasher,
}

impl<K: BenchKey> Ours<K> {
    fn new(entries_max: usize) -> Self {
        let fence = Arc::new(Fence::new(16));
        let config = Config { entries_max, bytes_max: u64::MAX, shards: None, own_group: 1 };
        Self { l1: L1::new(config, fence, Sieve::new), hasher: Hasher::default() }
    }

    fn at(&self, key: &K) -> Address {
        let hash = self.hasher.hash_one(key);
        Address::bare(hash, (hash >> 60) as u32)
    }
}

impl<K: BenchKey> Cache for Ours<K> {
    type Key = K;

    fn get(&self, key: &K) -> Option<Value> {
        self.l1.get(key, &self.at(key), NOW).map(|hit| hit.value)
    }

    fn put(&self, key: K, value: Value) {
        let at = self.at(&key);
        let snapshot = self.l1.snapshot(&at);
        let meta = Meta {
            origin: Origin { epoch: 0, seq: 7 },
            version: 3,
            load_start: NOW - 1,
            born: NOW - 1,
            soft_expiry: NOW + 50_000,
            hard_expiry: NOW + 60_000,
            weight: 100,
            ..Meta::default()
        };
        drop(self.l1.insert(key, value, &at, meta, &snapshot, NOW));
    }

    fn len(&self) -> usize {
        self.l1.len()
    }
}

const NOW: u64 = 1_000_000;

struct Theirs<K>(quick_cache::sync::Cache<K, Value, quick_cache::UnitWeighter, Hasher>);

impl<K: BenchKey> Theirs<K> {
    fn new(entries_max: usize) -> Self {
        Self(quick_cache::sync::Cache::with(
            entries_max,
            entries_max as u64,
            quick_cache::UnitWeighter,
            Hasher::default(),
            Default::default(),
        ))
    }
}

impl<K: BenchKey> Cache for Theirs<K> {
    type Key = K;

    fn get(&self, key: &K) -> Option<Value> {
        self.0.get(key)
    }

    fn put(&self, key: K, value: Value) {
        self.0.insert(key, value);
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Nanoseconds an operation and thread: each thread does `run(thread)`, which says how many it did.
fn timed(threads: usize, run: impl Fn(usize) -> usize + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let nanos = AtomicU64::new(0);
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, run, nanos, count) = (&barrier, &run, &nanos, &count);
            scope.spawn(move || {
                barrier.wait();
                let begin = Instant::now();
                let done = run(thread);
                nanos.fetch_add(begin.elapsed().as_nanos() as u64, Relaxed);
                count.fetch_add(done as u64, Relaxed);
            });
        }
    });
    nanos.into_inner() as f64 / count.into_inner() as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Plan {
    filter: String,
    rounds: usize,
}

impl Plan {
    fn versus(&self, name: &str, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
        if !name.contains(&self.filter) {
            return;
        }
        let (mut a, mut b, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        ours();
        theirs();
        for round in 0..self.rounds {
            let (our, their) = if round % 2 == 0 {
                let our = ours();
                (our, theirs())
            } else {
                let their = theirs();
                (ours(), their)
            };
            a.push(our);
            b.push(their);
            ratios.push(their / our);
        }
        let (our, their, ratio) = (median(&mut a), median(&mut b), median(&mut ratios));
        println!("{name:32} ours {our:8.1}  theirs {their:8.1}  ratio {ratio:.3}");
    }
}

fn values(count: usize) -> Vec<Value> {
    (0..count as u64).map(|n| Arc::new([n; 8])).collect()
}

const KEYS: usize = 10_000;
const GETS: usize = 2_000_000;

fn hits<K: BenchKey>(plan: &Plan, name: &str) {
    let keys: Vec<K> = (0..KEYS as u64).map(K::make).collect();
    let values = values(KEYS);
    let (ours, theirs) = (Ours::<K>::new(2 * KEYS), Theirs::<K>::new(2 * KEYS));
    for (key, value) in keys.iter().zip(&values) {
        ours.put(key.clone(), value.clone());
        theirs.put(key.clone(), value.clone());
    }
    let mut rng = Rng::new(7);
    let order: Vec<u32> = (0..1 << 16).map(|_| rng.below(KEYS as u64) as u32).collect();
    fn go<C: Cache>(cache: &C, keys: &[C::Key], order: &[u32], thread: usize) -> usize {
        let mut hits = 0;
        for n in 0..GETS {
            let key = &keys[order[(n + thread * 30_011) & 0xFFFF] as usize];
            hits += usize::from(black_box(cache.get(key)).is_some());
        }
        assert_eq!(hits, GETS);
        hits
    }
    for threads in [1, 2] {
        plan.versus(
            &format!("hit/{name}/{threads}"),
            || timed(threads, |thread| go(&ours, &keys, &order, thread)),
            || timed(threads, |thread| go(&theirs, &keys, &order, thread)),
        );
    }
}

fn zipf(count: usize, exponent: f64, length: usize, rng: &mut Rng) -> Vec<u32> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=count)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let scattered: Vec<u32> = {
        let mut ids: Vec<u32> = (0..count as u32).collect();
        for at in (1..count).rev() {
            ids.swap(at, rng.below(at as u64 + 1) as usize);
        }
        ids
    };
    (0..length)
        .map(|_| {
            let target = rng.below(1 << 53) as f64 / (1_u64 << 53) as f64 * sum;
            scattered[cumulative.partition_point(|&held| held < target).min(count - 1)]
        })
        .collect()
}

fn read_through<K: BenchKey>(plan: &Plan, name: &str) {
    const ALL: usize = 100_000;
    let keys: Vec<K> = (0..ALL as u64).map(K::make).collect();
    let values = values(ALL);
    let order = zipf(ALL, 0.99, 1 << 20, &mut Rng::new(9));
    fn go<C: Cache>(
        cache: &C,
        keys: &[C::Key],
        values: &[Value],
        order: &[u32],
        thread: usize,
        misses: &AtomicU64,
    ) -> usize {
        let mut missed = 0;
        for n in 0..1 << 20 {
            let at = order[(n + thread * 500_009) & 0xF_FFFF] as usize;
            if black_box(cache.get(&keys[at])).is_none() {
                missed += 1;
                cache.put(keys[at].clone(), values[at].clone());
            }
        }
        misses.fetch_add(missed, Relaxed);
        1 << 20
    }
    for threads in [1, 2] {
        let (ours, theirs) = (Ours::<K>::new(10_000), Theirs::<K>::new(10_000));
        let misses = [const { AtomicU64::new(0) }; 2];
        let label = format!("zipf/{name}/{threads}");
        plan.versus(
            &label,
            || timed(threads, |thread| go(&ours, &keys, &values, &order, thread, &misses[0])),
            || timed(threads, |thread| go(&theirs, &keys, &values, &order, thread, &misses[1])),
        );
        if label.contains(&plan.filter) {
            let total = ((plan.rounds + 1) * threads) as f64 * (1 << 20) as f64;
            let rate = |n: &AtomicU64| 100.0 - 100.0 * n.load(Relaxed) as f64 / total;
            println!("{:32} hits {:.1} % and {:.1} %", "", rate(&misses[0]), rate(&misses[1]));
        }
    }
}

fn inserts<K: BenchKey>(plan: &Plan, name: &str) {
    const FRESH: usize = 1_000_000;
    if !format!("insert/{name}/12").contains(&plan.filter) && !plan.filter.starts_with("insert") {
        return;
    }
    let keys: Vec<K> = (0..FRESH as u64).map(K::make).collect();
    let value: Vec<Value> = values(2);
    fn go<C: Cache>(cache: &C, keys: &[C::Key], value: &Value, thread: usize, threads: usize) -> usize {
        let share = keys.len() / threads;
        for key in &keys[thread * share..][..share] {
            cache.put(key.clone(), value.clone());
        }
        share
    }
    for threads in [1, 2] {
        let (ours, theirs) = (Ours::<K>::new(10_000), Theirs::<K>::new(10_000));
        plan.versus(
            &format!("insert/{name}/{threads}"),
            || timed(threads, |thread| go(&ours, &keys, &value[thread], thread, threads)),
            || timed(threads, |thread| go(&theirs, &keys, &value[thread], thread, threads)),
        );
    }
}

/// One thread reads what is there, another inserts at full speed.
fn beside(plan: &Plan) {
    if !"beside".contains(&plan.filter) {
        return;
    }
    fn go<C: Cache<Key = u64>>(cache: &C, value: &Value) -> (f64, f64, f64) {
        let done = AtomicBool::new(false);
        let mut latencies: Vec<u32> = Vec::with_capacity(1_000_000);
        let mut inserted = 0_u64;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut key = 1_000_000;
                let begin = Instant::now();
                while !done.load(Relaxed) {
                    for _ in 0..64 {
                        cache.put(key, value.clone());
                        key += 1;
                    }
                }
                (key - 1_000_000, begin.elapsed())
            });
            let mut rng = Rng::new(3);
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(300) {
                let key = rng.below(10_000);
                let before = Instant::now();
                black_box(cache.get(&key));
                latencies.push(before.elapsed().as_nanos() as u32);
            }
            done.store(true, Relaxed);
            let (count, took) = writer.join().expect("the writer ends");
            inserted = (count as f64 / took.as_secs_f64()) as u64;
        });
        latencies.sort_unstable();
        let quantile = |q: f64| f64::from(latencies[((latencies.len() - 1) as f64 * q) as usize]);
        (inserted as f64, quantile(0.5), quantile(0.999))
    }
    let value = values(1);
    let (ours, theirs) = (Ours::<u64>::new(10_000), Theirs::<u64>::new(10_000));
    let mut columns: [Vec<f64>; 6] = Default::default();
    for _ in 0..plan.rounds {
        let a = go(&ours, &value[0]);
        let b = go(&theirs, &value[0]);
        for (column, value) in columns.iter_mut().zip([a.0, b.0, a.1, b.1, a.2, b.2]) {
            column.push(value);
        }
    }
    let [a0, b0, a1, b1, a2, b2] = columns.map(|mut column| median(&mut column));
    println!("beside: inserts per second       ours {a0:8.0}  theirs {b0:8.0}  ratio {:.3}", a0 / b0);
    println!("beside: get p50 (with clock)     ours {a1:8.0}  theirs {b1:8.0}  ratio {:.3}", b1 / a1);
    println!("beside: get p99.9                ours {a2:8.0}  theirs {b2:8.0}  ratio {:.3}", b2 / a2);
}

fn memory(plan: &Plan) {
    if !"memory".contains(&plan.filter) {
        return;
    }
    const COUNT: usize = 100_000;
    let values = values(COUNT);
    fn go<C: Cache<Key = u64>>(make: impl Fn() -> C, values: &[Value]) -> f64 {
        COUNTING.store(true, Relaxed);
        let before = LIVE.load(Relaxed);
        let cache = make();
        for (key, value) in (0..).zip(values) {
            cache.put(key, value.clone());
        }
        let bytes = (LIVE.load(Relaxed) - before) as f64;
        let held = cache.len();
        drop(cache);
        COUNTING.store(false, Relaxed);
        assert!(held * 100 > COUNT * 95, "{held}");
        bytes / held as f64 - 16.0
    }
    let a = go(|| Ours::new(COUNT), &values);
    let b = go(|| Theirs::new(COUNT), &values);
    println!("memory: beyond key and value     ours {a:8.1}  theirs {b:8.1}");
    let a = go(|| Ours::new(100 * COUNT), &values);
    println!("memory: with a far bound         ours {a:8.1}");
    println!(
        "memory: accounted                ours {:8.1}",
        L1::<u64, Value>::overhead_bytes(&Address::bare(0, 0), &Meta::default()) as f64
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let filter = arguments.next().unwrap_or_default();
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(9);
    let plan = Plan { filter, rounds };
    hits::<u64>(&plan, "u64");
    hits::<Arc<str>>(&plan, "str");
    read_through::<u64>(&plan, "u64");
    read_through::<Arc<str>>(&plan, "str");
    inserts::<u64>(&plan, "u64");
    beside(&plan);
    memory(&plan);
}
