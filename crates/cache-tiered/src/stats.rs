//! Statistics that cost a hit one uncontended addition.
//!
//! Reads are counted by each thread in a cell of its own, with a plain load and store; a hit is what is left of the reads
//! when the misses are taken off, so that only reads are counted on the way of a hit. Latencies are sampled: one
//! read in 256 of a thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use thread_local::ThreadLocal;

use crate::audit::AuditStats;

const SAMPLE_MASK: u64 = 0xFF;

/// The reads of one thread, on a line of its own. Only that thread writes it.
#[derive(Default)]
#[repr(align(128))]
struct OwnCount(AtomicU64);

/// The counters of one namespace.
pub(crate) struct Counters {
    reads: ThreadLocal<OwnCount>,
    pub(crate) l1_misses: AtomicU64,
    pub(crate) l2_hits: AtomicU64,
    pub(crate) l2_misses: AtomicU64,
    pub(crate) l2_errors: AtomicU64,
    pub(crate) records_refused: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) load_errors: AtomicU64,
    pub(crate) fills_refused: AtomicU64,
    pub(crate) stale_served: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) updates_taken: AtomicU64,
    pub(crate) updates_left: AtomicU64,
    l1_latency: Mutex<Histogram<u64>>,
    l2_latency: Mutex<Histogram<u64>>,
}

/// Starts where a read is one of those that are timed.
#[derive(Clone, Copy)]
pub(crate) struct Sample(Option<Instant>);

impl Counters {
    pub(crate) fn new() -> Self {
        // Two significant digits up to a minute: about 20 KB each.
        let histogram = || {
            let bounded = Histogram::new_with_bounds(1, 60_000_000_000, 2);
            Mutex::new(bounded.unwrap_or_else(|_| unreachable!("constant bounds are valid")))
        };
        Self {
            reads: ThreadLocal::new(),
            l1_misses: AtomicU64::new(0),
            l2_hits: AtomicU64::new(0),
            l2_misses: AtomicU64::new(0),
            l2_errors: AtomicU64::new(0),
            records_refused: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            load_errors: AtomicU64::new(0),
            fills_refused: AtomicU64::new(0),
            stale_served: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
            updates_taken: AtomicU64::new(0),
            updates_left: AtomicU64::new(0),
            l1_latency: histogram(),
            l2_latency: histogram(),
        }
    }

    /// Counts a read; starts the stopwatch for one in 256.
    #[inline]
    pub(crate) fn read(&self) -> Sample {
        let own = &self.reads.get_or_default().0;
        // No addition in one step is needed: nobody else writes.
        let before = own.load(Ordering::Relaxed);
        own.store(before + 1, Ordering::Relaxed);
        Sample(if before & SAMPLE_MASK == 0 { Some(stopwatch()) } else { None })
    }

    #[inline]
    pub(crate) fn l1_answered(&self, sample: Sample) {
        if let Sample(Some(began)) = sample {
            record(&self.l1_latency, began.elapsed());
        }
    }

    pub(crate) fn l2_answered(&self, took: Duration) {
        record(&self.l2_latency, took);
    }

    pub(crate) fn snapshot(&self) -> NamespaceStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let misses = load(&self.l1_misses);
        let reads: u64 = self.reads.iter().map(|own| load(&own.0)).sum();
        NamespaceStats {
            reads,
            l1_hits: reads.saturating_sub(misses),
            l1_misses: misses,
            l2_hits: load(&self.l2_hits),
            l2_misses: load(&self.l2_misses),
            l2_errors: load(&self.l2_errors),
            records_refused: load(&self.records_refused),
            loads: load(&self.loads),
            load_errors: load(&self.load_errors),
            fills_refused: load(&self.fills_refused),
            stale_served: load(&self.stale_served),
            writes: load(&self.writes),
            invalidations: load(&self.invalidations),
            updates_taken: load(&self.updates_taken),
            updates_left: load(&self.updates_left),
            l1_latency: Latency::of(&self.l1_latency.lock()),
            l2_latency: Latency::of(&self.l2_latency.lock()),
            ..NamespaceStats::default()
        }
    }

    /// Adds this namespace's sampled latencies to sums over namespaces.
    pub(crate) fn add_latencies(&self, l1: &mut Histogram<u64>, l2: &mut Histogram<u64>) {
        // Bounds are the same everywhere, so adding cannot fail.
        let _ = l1.add(&*self.l1_latency.lock());
        let _ = l2.add(&*self.l2_latency.lock());
    }
}

fn record(histogram: &Mutex<Histogram<u64>>, took: Duration) {
    histogram.lock().saturating_record(took.as_nanos() as u64);
}

/// The one stopwatch of the engine: latencies need more than the coarse clock's milliseconds.
#[expect(clippy::disallowed_methods, reason = "a stopwatch for statistics; no decision hangs on it")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What happened in one namespace since the start.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NamespaceStats {
    /// Reads of single keys.
    pub reads: u64,
    /// Reads answered by L1.
    pub l1_hits: u64,
    /// Reads that L1 could not answer.
    pub l1_misses: u64,
    /// Records of L2 that were taken.
    pub l2_hits: u64,
    /// Reads that L2 could not answer.
    pub l2_misses: u64,
    /// Calls to L2 that failed.
    pub l2_errors: u64,
    /// Records of L2 that were there and could not be taken: dead, outdated, corrupt or of another type.
    pub records_refused: u64,
    /// Loads from the source.
    pub loads: u64,
    /// Loads that failed.
    pub load_errors: u64,
    /// Loaded values that a fence kept out of a tier because an invalidation had overtaken them.
    pub fills_refused: u64,
    /// Answers that were served beyond the staleness bound, flagged.
    pub stale_served: u64,
    /// Puts.
    pub writes: u64,
    /// Invalidations applied, own and others'.
    pub invalidations: u64,
    /// Values and deltas of other nodes that L1 took over instead of dropping what it held.
    pub updates_taken: u64,
    /// Values and deltas that L1 held something older for and could not use: out of order, of another base, unreadable. It
    /// dropped what it held.
    pub updates_left: u64,
    /// Entries in L1.
    pub l1_entries: usize,
    /// Most entries in L1.
    pub l1_entries_max: usize,
    /// Bytes in L1, overhead included.
    pub l1_bytes: u64,
    /// Most bytes in L1.
    pub l1_bytes_max: u64,
    /// Entries that left L1 for room.
    pub l1_evicted: u64,
    /// Entries that left L1 by time.
    pub l1_expired: u64,
    /// Latency of hits in L1, sampled.
    pub l1_latency: Latency,
    /// Latency of hits in L2.
    pub l2_latency: Latency,
    /// What the auditor found; `None` where it does not watch.
    pub audit: Option<AuditStats>,
}

/// Quantiles of a latency, in nanoseconds; `None` without a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Samples.
    pub samples: u64,
    /// Median.
    pub p50: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// Mean.
    pub mean: Option<u64>,
}

impl Latency {
    /// The quantiles of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let samples = histogram.len();
        let some = |value: u64| (samples > 0).then_some(value);
        Self {
            samples,
            p50: some(histogram.value_at_quantile(0.5)),
            p99: some(histogram.value_at_quantile(0.99)),
            mean: some(histogram.mean() as u64),
        }
    }
}
