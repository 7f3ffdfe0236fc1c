//! The figures of the last minute, beside those since the start.
//!
//! Every few seconds the counters are marked; what is between the oldest mark of the last minute and now is *current*. A node
//! that nobody marks (one that is not served) says what was since its start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cache_api::CurrentStats;
use cache_events::Namespace;
use cache_tiered::TieredCache;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::http::App;

/// How far back marks are kept.
const WINDOW_MS: u64 = 60_000;
/// How often the counters are marked.
const EVERY: Duration = Duration::from_secs(5);

/// The counters as they stood from time to time within the last minute.
#[derive(Default)]
pub(crate) struct Recent(Mutex<VecDeque<Mark>>);

/// The counters at one time.
struct Mark {
    at: u64,
    connection_failures: u64,
    spaces: BTreeMap<Namespace, Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    reads: u64,
    hits: u64,
    l1_hits: u64,
    evicted: u64,
    /// What the reads took that L1 did not answer.
    below_ns: f64,
    /// What a hit in L1 takes, since the start: its sample is too small for a minute.
    l1_ns: f64,
}

impl Mark {
    fn of(cache: &TieredCache, connection_failures: u64) -> Self {
        let times: BTreeMap<_, _> = cache.space_timings().into_iter().collect();
        let counts = |(name, stats): (Namespace, cache_tiered::NamespaceStats)| {
            let reads = times.get(&name).map(|times| &times.reads);
            let ns = |time: Duration| time.as_nanos() as f64;
            let counts = Counts {
                reads: stats.reads,
                hits: (stats.l1_hits + stats.l2_hits).min(stats.reads),
                l1_hits: stats.l1_hits,
                evicted: stats.l1_evicted,
                below_ns: reads.map_or(0.0, |reads| ns(reads.below.sum())),
                l1_ns: reads.and_then(|reads| reads.l1.mean()).map_or(0.0, ns),
            };
            (name, counts)
        };
        let spaces = cache.stats().into_iter().map(counts).collect();
        Self { at: cache.clock().now(), connection_failures, spaces }
    }
}

impl Recent {
    /// Marks the counters as they stand.
    pub(crate) fn mark(&self, cache: &TieredCache, connection_failures: u64) {
        let mark = Mark::of(cache, connection_failures);
        let mut marks = self.0.lock();
        let since = mark.at.saturating_sub(WINDOW_MS);
        marks.push_back(mark);
        // The one that is as old as the window stays until the next one is.
        while marks.get(1).is_some_and(|second| second.at <= since) {
            marks.pop_front();
        }
    }

    /// What happened of late.
    pub(crate) fn now(&self, cache: &TieredCache, connection_failures: u64) -> Lately {
        let now = Mark::of(cache, connection_failures);
        let marks = self.0.lock();
        let then = marks.front();
        let seconds = then.map_or(now.at, |then| now.at.saturating_sub(then.at)) as f64 / 1e3;
        let failures = connection_failures - then.map_or(0, |then| then.connection_failures);
        let since = |(name, now): (&Namespace, &Counts)| {
            let then = then.and_then(|then| then.spaces.get(name).copied()).unwrap_or_default();
            let counts = Counts {
                reads: now.reads - then.reads,
                hits: now.hits.saturating_sub(then.hits),
                l1_hits: now.l1_hits.saturating_sub(then.l1_hits),
                evicted: now.evicted - then.evicted,
                below_ns: now.below_ns - then.below_ns,
                l1_ns: now.l1_ns,
            };
            (name.clone(), counts)
        };
        Lately { seconds: seconds.max(1.0), failures, spaces: now.spaces.iter().map(since).collect() }
    }
}

/// What happened within the last minute.
pub(crate) struct Lately {
    seconds: f64,
    failures: u64,
    spaces: BTreeMap<Namespace, Counts>,
}

impl Lately {
    /// The figures of one namespace, or of all.
    pub(crate) fn current(&self, of: Option<&Namespace>, l1_bytes: u64) -> CurrentStats {
        let some = self.spaces.iter().filter(|(name, _)| of.is_none_or(|of| of == *name));
        let (mut reads, mut hits, mut evicted, mut ns) = (0, 0, 0, 0.0);
        for (_, counts) in some {
            reads += counts.reads;
            hits += counts.hits;
            evicted += counts.evicted;
            ns += counts.below_ns + counts.l1_hits as f64 * counts.l1_ns;
        }
        CurrentStats {
            hit_rate_percent: (reads > 0).then(|| hits as f64 * 100.0 / reads as f64),
            avg_latency_ms: (reads > 0).then(|| ns / reads as f64 / 1e6),
            memory_usage_mb: l1_bytes as f64 / 1e6,
            eviction_rate: evicted as f64 / self.seconds,
            reads_per_s: reads as f64 / self.seconds,
        }
    }

    pub(crate) fn connection_failures_per_minute(&self) -> f64 {
        // The window is a minute, or all there was.
        self.failures as f64
    }
}

/// Marks the counters until the node stops.
pub(crate) async fn watch(app: Arc<App>, shutdown: CancellationToken) {
    loop {
        app.recent().mark(app.cache(), app.connection_failures());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
