//! What a node remembers of its figures, and when they are alarming.
//!
//! Once a second a task (`watch`) samples the node ([`Sample`]). Differences of two samples become points of [`SERIES`], kept in a
//! bounded room (`series`); the last minute becomes readings of the alerts ([`Board`]). Time is that of the cache's clock, so
//! tests move it by hand.

mod alerts;
mod operations;
pub(crate) mod otlp;
mod report;
mod sample;
mod series;
mod watch;

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

pub use alerts::{AlertName, AlertSettings, Board, Change, Limits, Raised};
pub use sample::{Latencies, SERIES, Sample};
pub(crate) use watch::watch;

use operations::Operations;
use sample::Minute;
use series::{COARSE_MAX, COARSE_MS, Point, Series};

/// What a node remembers of its figures.
#[derive(Default)]
pub struct Telemetry {
    state: Mutex<State>,
    operations: Mutex<Operations>,
    /// How far the wall clock is ahead of logical time.
    ahead: AtomicI64,
}

#[derive(Default)]
struct State {
    series: [Series; SERIES.len()],
    minute: Minute,
    last: Option<Sample>,
    board: Board,
}

/// A question for points of a series. Times in logical milliseconds, both included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Most points of each series.
    pub(crate) points: usize,
    /// Means of steps of so many milliseconds, instead of extremes.
    pub(crate) step: Option<u64>,
}

impl Telemetry {
    /// Takes a sample and judges it by these limits; gives what that changed about alerts.
    pub fn take(&self, sample: Sample, settings: &AlertSettings) -> Vec<Change> {
        let mut state = self.state.lock();
        let State { series, minute, last, board } = &mut *state;
        if let Some(before) = last.as_ref().filter(|before| before.at < sample.at) {
            let oldest = sample.at.saturating_sub(COARSE_MAX as u64 * COARSE_MS);
            for (series, (_, value)) in series.iter_mut().zip(sample.figures(before)) {
                if let Some(value) = value {
                    series.push(Point { at: sample.at, value });
                }
                series.forget_before(oldest);
            }
        }
        minute.push(sample.clone());
        let late = &sample.latencies;
        let readings = [
            (AlertName::HitRatio, minute.hit_percent()),
            (AlertName::EventQueue, Some(sample.event_queue as f64)),
            (
                AlertName::EventLatency,
                late.propagation_p99_ms.filter(|_| late.propagation_samples >= EVENTS_LEAST),
            ),
            (AlertName::RedisMemory, sample.redis_memory_share.map(|share| share * 100.0)),
            (AlertName::ConnectionFailures, minute.connection_failures()),
        ];
        let changes =
            readings.into_iter().filter_map(|(name, value)| board.look(name, sample.at, value, settings));
        let changes = changes.collect();
        *last = Some(sample);
        changes
    }

    /// The latest sample.
    pub fn latest(&self) -> Option<Sample> {
        self.state.lock().last.clone()
    }

    /// Alerts that stand, worst first.
    pub fn active(&self) -> Vec<Raised> {
        self.state.lock().board.active()
    }

    fn past(&self) -> Vec<Raised> {
        self.state.lock().board.past().copied().collect()
    }

    /// Points of a series by its index in [`SERIES`].
    fn range(&self, series: usize, range: Range) -> Vec<Point> {
        let Range { from, to, points, step } = range;
        let series = &self.state.lock().series[series];
        match step {
            Some(step) => series.steps(from, to, step, points),
            None => series.range(from, to, points),
        }
    }

    /// The same distance between two clocks as before, unless it is another by more than their ticks explain: so a sample has
    /// the same time whenever it is told.
    fn steady(&self, ahead: i64) -> i64 {
        let known = self.ahead.load(Ordering::Relaxed);
        if known.abs_diff(ahead) <= TICKS_MS_MAX {
            return known;
        }
        self.ahead.store(ahead, Ordering::Relaxed);
        ahead
    }

    /// Notes an operation that was to change something.
    pub(crate) fn operation(&self, at: u64, method: &str, route: &str, status: u16, took_us: u64) {
        self.operations.lock().push(at, method, route, status, took_us);
    }
}

/// What two coarse clocks may differ by although nobody has set them.
const TICKS_MS_MAX: u64 = 100;
/// A latency of fewer events says nothing about its 99th percentile.
const EVENTS_LEAST: u64 = 20;

#[cfg(test)]
mod tests {
    use cache_api::operate::Severity;

    use super::*;

    fn taken(telemetry: &Telemetry, sample: Sample) -> Vec<Change> {
        telemetry.take(sample, &AlertSettings::default())
    }

    fn sample(second: u64) -> Sample {
        Sample { at: second * 1_000, reads: second * 10, l1_hits: second * 4, ..Sample::default() }
    }

    #[test]
    fn a_fresh_node_with_few_reads_raises_no_alert() {
        let telemetry = Telemetry::default();
        for second in 1..300 {
            let few = Sample { reads: second / 100, l1_hits: 0, ..sample(second) };
            assert_eq!(taken(&telemetry, few), [], "second {second}");
        }
    }

    #[test]
    fn a_bad_hit_ratio_is_raised_once_and_told_with_its_figures() {
        let telemetry = Telemetry::default();
        let changes: Vec<Change> = (1..=120).flat_map(|second| taken(&telemetry, sample(second))).collect();
        let [Change::Raised(raised)] = changes[..] else { panic!("{changes:?}") };
        assert_eq!((raised.name, raised.severity), (AlertName::HitRatio, Severity::Critical));
        let active = telemetry.active();
        assert_eq!((active.len(), active[0].value), (1, 40.0));
    }

    #[test]
    fn a_latency_of_few_events_raises_nothing() {
        let latencies = |samples| Latencies {
            propagation_p99_ms: Some(9_000.0),
            propagation_samples: samples,
            ..Latencies::default()
        };
        for (samples, raised) in [(19, 0), (20, 1)] {
            let telemetry = Telemetry::default();
            let take = |second: u64| {
                taken(
                    &telemetry,
                    Sample { at: second * 1_000, latencies: latencies(samples), ..Sample::default() },
                )
            };
            assert_eq!((1..=60).flat_map(take).count(), raised, "{samples} events");
        }
    }

    #[test]
    fn without_a_limit_of_memory_there_is_no_alert_of_memory() {
        for (share, raised) in [(None, 0), (Some(0.81), 1)] {
            let telemetry = Telemetry::default();
            let take = |second: u64| {
                let redis_memory_bytes = Some(1 << 40);
                taken(
                    &telemetry,
                    Sample {
                        at: second * 1_000,
                        redis_memory_bytes,
                        redis_memory_share: share,
                        ..Sample::default()
                    },
                )
            };
            assert_eq!((1..=60).flat_map(take).count(), raised, "{share:?}");
        }
    }
}
