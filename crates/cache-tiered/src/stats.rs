//! Statistics that cost a hit one uncontended addition.
//!
//! Reads are counted by each thread in a cell of its own, with a plain load and store; a hit is what is left of the reads
//! when the misses are taken off, so that only reads are counted on the way of a hit. Latencies of hits are sampled: one
//! read in 256 of a thread, at distances that are drawn, so that no rhythm of the reader's hides keys from the sample. All
//! other times are [`times`](crate::times)' own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use thread_local::ThreadLocal;

use crate::audit::AuditStats;
use crate::hot::Hot;
use crate::times::{ReadTimes, Recorder, SpaceTimes};
use cache_events::Key;

/// Most reads from one that is sampled to the next; on average half of it.
const SAMPLE_GAP_MAX: u64 = 511;

/// The reads of one thread, on a line of its own. Only that thread writes it, so no addition in one step is needed.
#[derive(Default)]
#[repr(align(128))]
struct OwnCount {
    reads: AtomicU64,
    /// The next read that is sampled, counted from 0; the first of all is.
    next: AtomicU64,
    /// Reads that a sample stands for, this thread's last one and all before.
    stood_for: AtomicU64,
    /// Those that its last one stands for.
    weight: AtomicU64,
}

impl OwnCount {
    #[cold]
    #[inline(never)]
    fn sampled(&self, before: u64) -> Instant {
        let (load, store) = (|cell: &AtomicU64| cell.load(Ordering::Relaxed), Ordering::Relaxed);
        self.weight.store(before + 1 - load(&self.stood_for), store);
        self.stood_for.store(before + 1, store);
        self.next.store(before + fastrand::u64(1..=SAMPLE_GAP_MAX), store);
        stopwatch()
    }
}

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
    l1_sampled: Recorder,
    pub(crate) below_l1: Recorder,
    l2: Recorder,
    pub(crate) written: Recorder,
    pub(crate) hot: Hot,
}

/// Starts where a read is one of those that are timed.
#[derive(Clone, Copy)]
pub(crate) struct Sample(Option<Instant>);

impl Counters {
    pub(crate) fn new() -> Self {
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
            l1_sampled: Recorder::default(),
            below_l1: Recorder::default(),
            l2: Recorder::default(),
            written: Recorder::default(),
            hot: Hot::new(),
        }
    }

    /// Counts a read; starts the stopwatch for one in 256.
    #[inline]
    pub(crate) fn read(&self) -> Sample {
        let own = self.reads.get_or_default();
        let before = own.reads.load(Ordering::Relaxed);
        own.reads.store(before + 1, Ordering::Relaxed);
        Sample((before == own.next.load(Ordering::Relaxed)).then(|| own.sampled(before)))
    }

    /// L1 has answered.
    #[inline]
    pub(crate) fn l1_answered(&self, sample: Sample, key: &Key, now: u64) {
        if let Sample(Some(began)) = sample {
            self.sampled(Some(began), key, now);
        }
    }

    /// L1 has not answered; `now` is asked only if the read is of the sample.
    #[inline]
    pub(crate) fn l1_missed(&self, sample: Sample, key: &Key, now: impl FnOnce() -> u64) {
        count(&self.l1_misses);
        if sample.0.is_some() {
            self.sampled(None, key, now());
        }
    }

    #[cold]
    #[inline(never)]
    fn sampled(&self, hit: Option<Instant>, key: &Key, now: u64) {
        let own = self.reads.get_or_default();
        match hit {
            Some(began) => self.l1_sampled.record(began.elapsed()),
            // So that something is known of hits from the first one on.
            None if self.l1_sampled.is_empty() => {
                own.next.store(own.reads.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            None => {}
        }
        self.hot.read(key, own.weight.load(Ordering::Relaxed), now);
    }

    pub(crate) fn l2_answered(&self, took: Duration) {
        self.l2.record(took);
    }

    /// Times since the start.
    pub(crate) fn times(&self) -> SpaceTimes {
        let mut reads = ReadTimes::default();
        reads.l1 = self.l1_sampled.snapshot();
        reads.l1_hits = self.reads().saturating_sub(self.l1_misses.load(Ordering::Relaxed));
        reads.below = self.below_l1.snapshot();
        SpaceTimes { reads, l2: self.l2.snapshot(), writes: self.written.snapshot() }
    }

    fn reads(&self) -> u64 {
        self.reads.iter().map(|own| own.reads.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn snapshot(&self) -> NamespaceStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (misses, reads) = (load(&self.l1_misses), self.reads());
        let times = self.times();
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
            l1_latency: times.reads.l1.latency(),
            l2_latency: times.l2.latency(),
            response_time: times.reads.all().latency(),
            write_latency: times.writes.latency(),
            ..NamespaceStats::default()
        }
    }
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
    /// Response time of reads over all tiers: hits in L1 as their sample says, all others each.
    pub response_time: Latency,
    /// From the call of a put to its acknowledgement.
    pub write_latency: Latency,
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
