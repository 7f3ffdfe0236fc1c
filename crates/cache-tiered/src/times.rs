//! Times since the start, as histograms that can be subtracted.
//!
//! A [`Times`] is a cumulative snapshot: whoever wants the figures of a while takes one at its beginning and one at its end,
//! and asks for the [difference](Times::since). So any number of observers look at windows of their own, and nobody resets
//! what another one counts on.
//!
//! What is timed how:
//!
//! - Hits in L1 by a sample, one in 256 on average; everything else each time, since it does I/O or may do it.
//! - Reads that L1 did not answer from where L1 was left to the answer, whoever gave it (L2, a load, nobody).
//! - Calls to L2 one by one, by what they ask ([`L2Op`]); failed ones are counted apart.
//! - Invalidations from the call to the acknowledgement, with everything in between; only those that were acknowledged.
//! - Propagation from the timestamp of another node's event, which is in the store's time as well as the origin knew it, to
//!   its being applied here, in the store's time as well as this node knows it. To a millisecond, as timestamps are, and off
//!   by what both offsets are wrong, each at most half of a round trip. What comes from the log after an outage counts like
//!   what comes by hint; what a flush covers was never applied and counts not at all.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::stats::{Latency, stopwatch};

/// Two significant digits up to a minute: about 30 KB. Beyond that counts as a minute.
const NS_MAX: u64 = 60_000_000_000;

/// Times since the start, or of a while: how many, their sum, and how they are spread.
#[derive(Clone)]
pub struct Times {
    /// Of nanoseconds.
    histogram: Histogram<u64>,
    sum_ns: u64,
}

impl Default for Times {
    fn default() -> Self {
        let bounded = Histogram::new_with_bounds(1, NS_MAX, 2);
        Self { histogram: bounded.unwrap_or_else(|_| unreachable!("constant bounds are valid")), sum_ns: 0 }
    }
}

impl Times {
    /// Counts so many that took so long each.
    pub fn record(&mut self, took: Duration, times: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record_n(ns, times);
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(times));
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// All together; exact, whatever the histogram rounds.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The mean; `None` of none.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_ns.checked_div(self.count()).map(Duration::from_nanos)
    }

    /// What such a share (0 to 1) stayed at or below, to 1 %; `None` of none.
    ///
    /// ```
    /// # let times = cache_tiered::Times::default();
    /// assert_eq!(times.quantile(0.99), None);
    /// ```
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.histogram.value_at_quantile(share)))
    }

    /// How many were at most so long, to 1 %.
    pub fn at_most(&self, bound: Duration) -> u64 {
        let ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.count_between(0, ns.min(NS_MAX))
    }

    /// What came since an earlier snapshot of the same times.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut histogram = self.histogram.clone();
        // Only a snapshot of something else has more of any: then nothing is known of what came between.
        if histogram.subtract(&earlier.histogram).is_err() {
            return self.clone();
        }
        Self { histogram, sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns) }
    }

    /// Adds other times to these.
    pub fn add(&mut self, other: &Self) {
        // Bounds are the same everywhere, so adding cannot fail.
        let _ = self.histogram.add(&other.histogram);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// As quantiles.
    pub fn latency(&self) -> Latency {
        Latency { mean: self.sum_ns.checked_div(self.count()), ..Latency::of(&self.histogram) }
    }

    /// Spread like these, and so many: what a sample says about all.
    fn standing_for(&self, all: u64) -> Self {
        let samples = self.count();
        if samples == 0 {
            return Self::default();
        }
        let part = |of: u64| (u128::from(of) * u128::from(all) / u128::from(samples)) as u64;
        let mut scaled = Self::default();
        let (mut seen, mut stood) = (0, 0);
        for bucket in self.histogram.iter_recorded() {
            seen += bucket.count_since_last_iteration();
            let until = part(seen);
            // To the last one, so that they are as many as asked for.
            scaled.histogram.saturating_record_n(bucket.value_iterated_to(), until - stood);
            stood = until;
        }
        scaled.sum_ns = part(self.sum_ns);
        scaled
    }
}

impl std::fmt::Debug for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.latency().fmt(f)
    }
}

/// Times that are being counted.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Times>);

impl Recorder {
    pub(crate) fn record(&self, took: Duration) {
        self.record_many(took, 1);
    }

    pub(crate) fn record_many(&self, took: Duration, times: u64) {
        self.0.lock().record(took, times);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().count() == 0
    }

    pub(crate) fn snapshot(&self) -> Times {
        self.0.lock().clone()
    }

    /// Times a future until it answers; one that is dropped before is not counted.
    pub(crate) async fn timed<T>(&self, future: impl Future<Output = T>) -> T {
        let began = stopwatch();
        let done = future.await;
        self.record(began.elapsed());
        done
    }
}

/// How long reads took, over all tiers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReadTimes {
    /// Of hits in L1, a sample: one in 256 on average.
    pub l1: Times,
    /// How many hits in L1 there were.
    pub l1_hits: u64,
    /// Of reads that L1 did not answer, each.
    pub below: Times,
    /// Samples from before the window, for one with too few hits to have any of its own.
    before: Option<Box<Times>>,
}

impl ReadTimes {
    /// What came since an earlier snapshot.
    pub fn since(&self, earlier: &Self) -> Self {
        let l1 = self.l1.since(&earlier.l1);
        Self {
            before: (l1.count() == 0).then(|| Box::new(self.l1.clone())),
            l1,
            l1_hits: self.l1_hits.saturating_sub(earlier.l1_hits),
            below: self.below.since(&earlier.below),
        }
    }

    /// All reads: those that L1 did not answer, and its hits spread as their sample is.
    pub fn all(&self) -> Times {
        let sample = self.before.as_deref().unwrap_or(&self.l1);
        let mut all = sample.standing_for(self.l1_hits);
        all.add(&self.below);
        all
    }

    fn add(&mut self, other: &Self) {
        self.l1.add(&other.l1);
        self.l1_hits += other.l1_hits;
        self.below.add(&other.below);
    }
}

/// The times of one namespace, or of several together.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SpaceTimes {
    /// Reads of single keys; of many together each counts as long as all.
    pub reads: ReadTimes,
    /// Reads that L2 answered (or of many, that it was asked for), from the question to the value in L1.
    pub l2: Times,
    /// Puts that were acknowledged.
    pub writes: Times,
}

impl SpaceTimes {
    /// What came since an earlier snapshot.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            reads: self.reads.since(&earlier.reads),
            l2: self.l2.since(&earlier.l2),
            writes: self.writes.since(&earlier.writes),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.reads.add(&other.reads);
        self.l2.add(&other.l2);
        self.writes.add(&other.writes);
    }
}

/// What L2 is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum L2Op {
    /// Records and stamps of keys of one partition.
    Read = 0,
    /// A record to be written.
    Put = 1,
    /// The right to load a key.
    Lease = 2,
    /// A loaded record to be kept.
    Fill = 3,
    /// Keys, resources, groups, a pattern or all to be dropped, and an event to be logged.
    Invalidate = 4,
}

impl L2Op {
    /// Each.
    pub const ALL: [Self; 5] = [Self::Read, Self::Put, Self::Lease, Self::Fill, Self::Invalidate];

    /// Its name, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Put => "put",
            Self::Lease => "lease",
            Self::Fill => "fill",
            Self::Invalidate => "invalidate",
        }
    }
}

/// How calls of one kind to L2 went.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpTimes {
    /// Those that were answered.
    pub answered: Times,
    /// How many failed.
    pub failed: u64,
}

/// How long everything took on this node since it started, or in a while.
///
/// ```no_run
/// # fn poll(cache: &cache_tiered::TieredCache, earlier: &mut cache_tiered::Timings) {
/// let now = cache.timings();
/// let lately = now.since(earlier);
/// let p99 = lately.propagation.quantile(0.99);
/// *earlier = now;
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Timings {
    /// Reads and writes of all namespaces.
    pub all: SpaceTimes,
    /// Invalidations and published events: from the call to the acknowledgement.
    pub invalidation: Times,
    /// Events of other nodes: from their timestamp to their being applied here.
    pub propagation: Times,
    /// Calls to L2, by what they ask: [`L2Op::ALL`].
    pub l2_ops: [OpTimes; L2Op::ALL.len()],
}

impl Timings {
    /// What came since an earlier snapshot of the same cache.
    pub fn since(&self, earlier: &Self) -> Self {
        let op = |op: L2Op| {
            let (now, then) = (self.l2_op(op), earlier.l2_op(op));
            OpTimes {
                answered: now.answered.since(&then.answered),
                failed: now.failed.saturating_sub(then.failed),
            }
        };
        Self {
            all: self.all.since(&earlier.all),
            invalidation: self.invalidation.since(&earlier.invalidation),
            propagation: self.propagation.since(&earlier.propagation),
            l2_ops: L2Op::ALL.map(op),
        }
    }

    /// Calls to L2 of one kind.
    pub fn l2_op(&self, op: L2Op) -> &OpTimes {
        &self.l2_ops[op as usize]
    }
}

/// What is timed for a node as a whole.
#[derive(Default)]
pub(crate) struct NodeTimes {
    pub(crate) invalidation: Recorder,
    pub(crate) propagation: Recorder,
    l2_ops: [OpRecorder; L2Op::ALL.len()],
}

#[derive(Default)]
struct OpRecorder {
    answered: Recorder,
    failed: std::sync::atomic::AtomicU64,
}

impl NodeTimes {
    /// Times a call to L2.
    pub(crate) async fn l2<T, E>(&self, op: L2Op, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = stopwatch();
        let answer = call.await;
        let recorder = &self.l2_ops[op as usize];
        match &answer {
            Ok(_) => recorder.answered.record(began.elapsed()),
            Err(_) => crate::stats::count(&recorder.failed),
        }
        answer
    }

    pub(crate) fn snapshot(&self, all: SpaceTimes) -> Timings {
        let op = |op: L2Op| {
            let recorder = &self.l2_ops[op as usize];
            OpTimes {
                answered: recorder.answered.snapshot(),
                failed: recorder.failed.load(std::sync::atomic::Ordering::Relaxed),
            }
        };
        Timings {
            all,
            invalidation: self.invalidation.snapshot(),
            propagation: self.propagation.snapshot(),
            l2_ops: L2Op::ALL.map(op),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ms(times: &[(u64, u64)]) -> Times {
        let mut all = Times::default();
        times.iter().for_each(|&(ms, n)| all.record(Duration::from_millis(ms), n));
        all
    }

    fn near(found: Option<Duration>, ms: u64) -> bool {
        let (found, asked) = (found.unwrap_or_default().as_secs_f64() * 1e3, ms as f64);
        (found - asked).abs() <= asked * 0.01
    }

    #[test]
    fn a_window_knows_nothing_of_what_was_before_it() {
        let earlier = of_ms(&[(1, 1000)]);
        let mut later = earlier.clone();
        later.add(&of_ms(&[(50, 10), (400, 1)]));
        let window = later.since(&earlier);
        assert_eq!((window.count(), window.sum()), (11, Duration::from_millis(900)));
        assert!(near(window.quantile(0.5), 50) && near(window.quantile(1.0), 400), "{window:?}");
        assert!(near(later.quantile(0.5), 1), "and takes nothing from others");
    }

    #[test]
    fn counts_by_bounds_add_up_and_the_sum_is_exact() {
        let times = of_ms(&[(1, 3), (5, 2), (70_000, 1)]);
        let at_most = |ms| times.at_most(Duration::from_millis(ms));
        assert_eq!([at_most(0), at_most(1), at_most(4), at_most(10), at_most(100_000)], [0, 3, 3, 5, 6]);
        assert_eq!((times.count(), times.sum()), (6, Duration::from_millis(70_013)));
    }

    #[test]
    fn a_sample_of_hits_weighs_as_much_as_the_hits_it_stands_for() {
        // 10 samples stand for 2,560 hits of 1 ms; 40 reads went below, of 20 ms.
        let reads =
            ReadTimes { l1: of_ms(&[(1, 10)]), l1_hits: 2_560, below: of_ms(&[(20, 40)]), before: None };
        let all = reads.all();
        assert_eq!((all.count(), all.sum()), (2_600, Duration::from_millis(2_560 + 800)));
        assert!(near(all.quantile(0.98), 1) && near(all.quantile(0.99), 20), "{all:?}");
    }

    #[test]
    fn a_window_without_a_sample_of_its_own_takes_what_is_known_of_hits() {
        let earlier =
            ReadTimes { l1: of_ms(&[(2, 4)]), l1_hits: 1_000, below: of_ms(&[(9, 1)]), before: None };
        let later = ReadTimes { l1_hits: 1_099, below: of_ms(&[(9, 2)]), ..earlier.clone() };
        let all = later.since(&earlier).all();
        assert!(all.count() == 100 && near(all.quantile(0.5), 2) && near(all.quantile(1.0), 9), "{all:?}");
    }
}
