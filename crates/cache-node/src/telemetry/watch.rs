//! The task that samples a node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cache_api::operate::Severity;
use cache_events::Partition;
use cache_tiered::{Times, Timings};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::report::{message, rounded};
use super::{Change, Latencies, Sample};
use crate::http::App;
use crate::memory;

/// How often the node is sampled, and how often Redis is asked for its figures.
const EVERY: Duration = Duration::from_secs(1);
const REDIS_EVERY: u64 = 5;
/// How far back latencies of late reach, and how often that moves.
const WINDOW_MS: u64 = 60_000;
const MARK_EVERY_MS: u64 = 10_000;

/// Samples the node until `shutdown`, and logs what becomes of alerts.
pub(crate) async fn watch(app: Arc<App>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut redis, mut lately) = (Default::default(), Lately::default());
    for round in 0_u64.. {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if round.is_multiple_of(REDIS_EVERY) {
            redis = tokio::select! {
                () = shutdown.cancelled() => return,
                info = app.redis_info() => {
                    info.map(|info| (info.used_memory_bytes, info.memory_share))
                }
            };
        }
        let changes = app.telemetry().take(sample(&app, redis, &mut lately), &app.live().alerts);
        changes.into_iter().for_each(log);
    }
}

/// Says what became of an alert, once.
fn log(change: Change) {
    match change {
        Change::Raised(raised) => {
            let (alert, value, limit) = (raised.name.as_str(), rounded(raised.value), raised.threshold);
            let message = message(&raised);
            match raised.severity {
                Severity::Warning => warn!(alert, value, limit, "alert: {message}"),
                Severity::Critical => error!(alert, value, limit, "critical alert: {message}"),
            }
        }
        Change::Eased(raised) => {
            warn!(alert = raised.name.as_str(), value = rounded(raised.value), "alert is critical no more");
        }
        Change::Cleared(raised) => {
            info!(alert = raised.name.as_str(), worst = rounded(raised.value), "alert has passed");
        }
    }
}

/// The node now. `redis`: the bytes that it uses, and the share of its limit.
fn sample(app: &App, redis: Option<(u64, Option<f64>)>, lately: &mut Lately) -> Sample {
    let cache = app.cache();
    let (view, at) = (cache.view(), cache.clock().now());
    let as_of = (0..view.partitions()).map(|partition| view.fresh_as_of(Partition(partition))).min();
    let mut sample = Sample {
        at,
        events: view.counters().applied,
        event_queue: cache.health().outbox as u64,
        memory_bytes: memory::resident_bytes(),
        redis_memory_bytes: redis.map(|(bytes, _)| bytes),
        redis_memory_share: redis.and_then(|(_, share)| share),
        // Nothing is proven where a partition has 0.
        lag_ms: as_of.filter(|&as_of| as_of > 0).map(|as_of| at.saturating_sub(as_of)),
        connection_failures: app.connection_failures(),
        latencies: lately.latencies(at, app.cache().timings(), app.requests().all()),
        ..Sample::default()
    };
    for (_, stats) in cache.stats() {
        sample.reads += stats.reads;
        sample.l1_hits += stats.l1_hits;
        sample.l2_hits += stats.l2_hits;
        sample.l2_misses += stats.l2_misses;
        sample.writes += stats.writes;
        sample.invalidations += stats.invalidations;
        sample.evictions += stats.l1_evicted;
        sample.l1_entries += stats.l1_entries as u64;
        sample.l1_bytes += stats.l1_bytes;
    }
    sample
}

/// Times as they stood every ten seconds of the last minute: some 2 MB.
#[derive(Default)]
struct Lately(VecDeque<(u64, Timings, Times)>);

impl Lately {
    /// The latencies since the last minute began, or up to ten seconds before.
    fn latencies(&mut self, now: u64, timings: Timings, requests: Times) -> Latencies {
        let marks = &mut self.0;
        while marks.get(1).is_some_and(|(at, ..)| now.saturating_sub(*at) >= WINDOW_MS) {
            marks.pop_front();
        }
        let (window, served) = match marks.front() {
            Some((_, earlier, served)) => (timings.since(earlier), requests.since(served)),
            None => (timings.clone(), requests.clone()),
        };
        if marks.back().is_none_or(|(at, ..)| now.saturating_sub(*at) >= MARK_EVERY_MS) {
            marks.push_back((now, timings, requests));
        }
        let ms = |times: &Times, share| times.quantile(share).map(|time| time.as_secs_f64() * 1e3);
        let reads = window.all.reads.all();
        Latencies {
            read_p50_ms: ms(&reads, 0.5),
            read_p99_ms: ms(&reads, 0.99),
            l1_p50_us: ms(&window.all.reads.l1, 0.5).map(|ms| ms * 1e3),
            l2_p50_ms: ms(&window.all.l2, 0.5),
            propagation_p50_ms: ms(&window.propagation, 0.5),
            propagation_p99_ms: ms(&window.propagation, 0.99),
            propagation_samples: window.propagation.count(),
            invalidation_p99_ms: ms(&window.invalidation, 0.99),
            http_p99_ms: ms(&served, 0.99),
        }
    }
}
