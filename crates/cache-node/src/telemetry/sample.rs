//! What is sampled each second, and the figures that two samples make.

use std::collections::VecDeque;
use std::time::Duration;

/// The names of all series, as `GET /node/history` knows them.
pub const SERIES: [&str; 22] = [
    "hit_ratio",
    "l1_hit_ratio",
    "l2_hit_ratio",
    "reads_per_s",
    "writes_per_s",
    "invalidations_per_s",
    "events_per_s",
    "evictions_per_s",
    "read_p50_ms",
    "read_p99_ms",
    "l1_p50_us",
    "l2_p50_ms",
    "propagation_p50_ms",
    "propagation_p99_ms",
    "invalidation_p99_ms",
    "http_p99_ms",
    "memory_bytes",
    "l1_entries",
    "l1_bytes",
    "event_queue_size",
    "redis_memory_used_mb",
    "lag_ms",
];

/// Counters since the start, and gauges, at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Logical milliseconds.
    pub at: u64,
    /// Reads of single keys.
    pub reads: u64,
    /// Reads that L1 answered.
    pub l1_hits: u64,
    /// Reads that L2 answered.
    pub l2_hits: u64,
    /// Reads that L2 could not answer.
    pub l2_misses: u64,
    /// Puts.
    pub writes: u64,
    /// Invalidations applied.
    pub invalidations: u64,
    /// Events applied.
    pub events: u64,
    /// Entries that left L1 for room.
    pub evictions: u64,
    /// Connections to Redis that could not be made, and commands that it did not answer in time.
    pub connection_failures: u64,
    /// Entries in L1.
    pub l1_entries: u64,
    /// Bytes in L1.
    pub l1_bytes: u64,
    /// Invalidations that wait for the shared tier.
    pub event_queue: u64,
    /// The resident set of the process.
    pub memory_bytes: Option<u64>,
    /// Bytes that Redis uses.
    pub redis_memory_bytes: Option<u64>,
    /// What the fullest master uses of its maxmemory, 0 to 1; `None` without a limit.
    pub redis_memory_share: Option<f64>,
    /// The age of the proof of freshness of the partition that is furthest behind.
    pub lag_ms: Option<u64>,
    /// Latencies of late.
    pub latencies: Latencies,
}

/// Quantiles of late; `None` without a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latencies {
    /// Reads, wherever they were answered, in milliseconds.
    pub read_p50_ms: Option<f64>,
    /// Likewise.
    pub read_p99_ms: Option<f64>,
    /// Hits of L1, in microseconds.
    pub l1_p50_us: Option<f64>,
    /// Hits of L2, in milliseconds.
    pub l2_p50_ms: Option<f64>,
    /// From an event of another node to its being applied.
    pub propagation_p50_ms: Option<f64>,
    /// Likewise.
    pub propagation_p99_ms: Option<f64>,
    /// Samples behind these two.
    pub propagation_samples: u64,
    /// From the call of an invalidation to its acknowledgement.
    pub invalidation_p99_ms: Option<f64>,
    /// Requests over HTTP.
    pub http_p99_ms: Option<f64>,
}

/// A share in 0 to 1; `None` of nothing.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part.min(whole) as f64 / whole as f64)
}

impl Sample {
    /// Reads that a tier answered.
    pub fn hits(&self) -> u64 {
        (self.l1_hits + self.l2_hits).min(self.reads)
    }

    /// The points that this sample adds to the series, given the sample before it.
    pub fn figures(&self, before: &Self) -> Vec<(&'static str, Option<f64>)> {
        let seconds = self.at.saturating_sub(before.at) as f64 / 1e3;
        let per_s = |of: fn(&Self) -> u64| {
            (seconds > 0.0).then(|| of(self).saturating_sub(of(before)) as f64 / seconds)
        };
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        let (reads, l1) = (since(|sample| sample.reads), since(|sample| sample.l1_hits));
        let (l2, l2_misses) = (since(|sample| sample.l2_hits), since(|sample| sample.l2_misses));
        let gauge = |value: u64| Some(value as f64);
        let late = &self.latencies;
        vec![
            ("hit_ratio", ratio(l1 + l2, reads)),
            ("l1_hit_ratio", ratio(l1, reads)),
            ("l2_hit_ratio", ratio(l2, l2 + l2_misses)),
            ("reads_per_s", per_s(|sample| sample.reads)),
            ("writes_per_s", per_s(|sample| sample.writes)),
            ("invalidations_per_s", per_s(|sample| sample.invalidations)),
            ("events_per_s", per_s(|sample| sample.events)),
            ("evictions_per_s", per_s(|sample| sample.evictions)),
            ("read_p50_ms", late.read_p50_ms),
            ("read_p99_ms", late.read_p99_ms),
            ("l1_p50_us", late.l1_p50_us),
            ("l2_p50_ms", late.l2_p50_ms),
            ("propagation_p50_ms", late.propagation_p50_ms),
            ("propagation_p99_ms", late.propagation_p99_ms),
            ("invalidation_p99_ms", late.invalidation_p99_ms),
            ("http_p99_ms", late.http_p99_ms),
            ("memory_bytes", self.memory_bytes.map(|bytes| bytes as f64)),
            ("l1_entries", gauge(self.l1_entries)),
            ("l1_bytes", gauge(self.l1_bytes)),
            ("event_queue_size", gauge(self.event_queue)),
            ("redis_memory_used_mb", self.redis_memory_bytes.map(|bytes| bytes as f64 / 1e6)),
            ("lag_ms", self.lag_ms.map(|ms| ms as f64)),
        ]
    }
}

/// The samples of the last minute, for figures that one second is too short for.
#[derive(Debug, Default)]
pub(crate) struct Minute(VecDeque<Sample>);

impl Minute {
    pub(crate) const LENGTH: Duration = Duration::from_secs(60);
    /// A hit ratio of fewer reads says nothing.
    pub(crate) const READS_LEAST: u64 = 100;

    pub(crate) fn push(&mut self, sample: Sample) {
        let begin = sample.at.saturating_sub(Self::LENGTH.as_millis() as u64);
        // The one at the beginning stays: differences are taken against it.
        while self.0.get(1).is_some_and(|second| second.at <= begin) {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Hits as a share of the reads of the minute, in per cent; `None` of too few.
    pub(crate) fn hit_percent(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let reads = last.reads.saturating_sub(first.reads);
        let hits = last.hits().saturating_sub(first.hits());
        (reads >= Self::READS_LEAST).then(|| ratio(hits, reads).unwrap_or_default() * 100.0)
    }

    /// Connections that could not be made, and commands without an answer, within the minute.
    pub(crate) fn connection_failures(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        Some(last.connection_failures.saturating_sub(first.connection_failures) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(figures: &[(&'static str, Option<f64>)], name: &str) -> Option<f64> {
        figures.iter().find(|(known, _)| *known == name).expect("a known series").1
    }

    #[test]
    fn each_series_has_its_figure() {
        let names: Vec<_> =
            Sample::default().figures(&Sample::default()).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, SERIES);
    }

    #[test]
    fn figures_are_of_the_time_between_two_samples() {
        let before =
            Sample { at: 1_000, reads: 100, l1_hits: 90, l2_hits: 5, l2_misses: 5, ..Sample::default() };
        let now = Sample {
            at: 3_000,
            reads: 120,
            l1_hits: 95,
            l2_hits: 11,
            l2_misses: 7,
            writes: 6,
            l1_entries: 3,
            ..Sample::default()
        };
        let figures = now.figures(&before);
        assert_eq!(figure(&figures, "reads_per_s"), Some(10.0));
        assert_eq!(figure(&figures, "writes_per_s"), Some(3.0));
        assert_eq!(figure(&figures, "l1_hit_ratio"), Some(0.25));
        assert_eq!(figure(&figures, "hit_ratio"), Some(0.55));
        assert_eq!(figure(&figures, "l2_hit_ratio"), Some(0.75));
        assert_eq!(figure(&figures, "l1_entries"), Some(3.0));
        let idle = Sample { at: 4_000, ..now.clone() };
        assert_eq!(figure(&idle.figures(&now), "hit_ratio"), None, "no reads have no ratio");
        assert_eq!(figure(&now.figures(&now), "reads_per_s"), None, "no time has no rate");
    }

    #[test]
    fn a_minute_is_a_minute_and_needs_reads() {
        let mut minute = Minute::default();
        assert_eq!((minute.hit_percent(), minute.connection_failures()), (None, None));
        for second in 0..=200_u64 {
            // One read a second, of which none hits until second 140; then all.
            let hits = second.saturating_sub(140);
            let reads = second * 2;
            minute.push(Sample {
                at: second * 1_000,
                reads,
                l1_hits: hits * 2,
                connection_failures: second / 10,
                ..Sample::default()
            });
            assert!(minute.0.len() <= 61);
            match second {
                0..50 => assert_eq!(minute.hit_percent(), None, "too few reads in second {second}"),
                50..=140 => assert_eq!(minute.hit_percent(), Some(0.0)),
                170 => assert_eq!(minute.hit_percent(), Some(50.0)),
                200 => assert_eq!(minute.hit_percent(), Some(100.0)),
                _ => {}
            }
        }
        assert_eq!(minute.connection_failures(), Some(6.0));
    }
}
