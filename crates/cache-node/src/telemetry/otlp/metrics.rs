//! The figures of `/cache/stats` as instruments.

use std::sync::Arc;

use cache_tiered::NamespaceStats;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::http::App;
use crate::telemetry::{AlertName, Sample};

type OfNamespace = fn(&NamespaceStats) -> u64;

/// What is counted in each cache type, under the names of `/metrics`.
const COUNTED: [(&str, &str, OfNamespace); 11] = [
    ("edgecache_reads", "Reads of single keys.", |stats| stats.reads),
    ("edgecache_cache_hits", "Reads that a tier answered.", |stats| {
        (stats.l1_hits + stats.l2_hits).min(stats.reads)
    }),
    ("edgecache_l2_errors", "Calls to L2 that failed; each is a miss.", |stats| stats.l2_errors),
    ("edgecache_loads", "Loads from the source.", |stats| stats.loads),
    ("edgecache_load_errors", "Loads from the source that failed.", |stats| stats.load_errors),
    ("edgecache_fills_refused", "Loaded values that an invalidation had overtaken.", |stats| {
        stats.fills_refused
    }),
    ("edgecache_stale_served", "Answers beyond the staleness bound, flagged as such.", |stats| {
        stats.stale_served
    }),
    ("edgecache_writes", "Puts.", |stats| stats.writes),
    ("edgecache_invalidations", "Invalidations applied, own and of other nodes.", |stats| {
        stats.invalidations
    }),
    ("edgecache_evictions", "Entries that left L1 for room.", |stats| stats.l1_evicted),
    ("edgecache_expirations", "Entries that left L1 by time.", |stats| stats.l1_expired),
];

/// What each cache type holds.
const HELD: [(&str, &str, OfNamespace); 2] = [
    ("edgecache_l1_cache_size", "Entries in L1.", |stats| stats.l1_entries as u64),
    ("edgecache_l1_bytes", "Bytes in L1, overhead included.", |stats| stats.l1_bytes),
];

type OfSample = fn(&Sample) -> Option<f64>;

/// What the node samples each second.
const SAMPLED: [(&str, &str, &str, OfSample); 12] = [
    ("edgecache_event_queue_size", "{event}", "Invalidations that wait for the shared tier", |sample| {
        Some(sample.event_queue as f64)
    }),
    ("edgecache_lag_ms", "ms", "Age of the proof of freshness", |sample| sample.lag_ms.map(|ms| ms as f64)),
    ("process_resident_memory_bytes", "By", "Resident set of the process", |sample| {
        sample.memory_bytes.map(|bytes| bytes as f64)
    }),
    ("edgecache_redis_memory_used_bytes", "By", "What Redis uses", |sample| {
        sample.redis_memory_bytes.map(|bytes| bytes as f64)
    }),
    ("edgecache_redis_memory_share", "1", "What the fullest master uses of its maxmemory", |sample| {
        sample.redis_memory_share
    }),
    ("edgecache_connection_failures", "{connection}", "Connections that could not be made", |sample| {
        Some(sample.connection_failures as f64)
    }),
    ("edgecache_read_p50_ms", "ms", "Median of reads of late", |sample| sample.latencies.read_p50_ms),
    ("edgecache_read_p99_ms", "ms", "99th percentile of reads of late", |sample| {
        sample.latencies.read_p99_ms
    }),
    ("edgecache_propagation_p50_ms", "ms", "Median from event to applied, of late", |sample| {
        sample.latencies.propagation_p50_ms
    }),
    ("edgecache_propagation_p99_ms", "ms", "99th percentile from event to applied, of late", |sample| {
        sample.latencies.propagation_p99_ms
    }),
    ("edgecache_invalidation_p99_ms", "ms", "99th percentile of invalidations of late", |sample| {
        sample.latencies.invalidation_p99_ms
    }),
    ("edgecache_http_p99_ms", "ms", "99th percentile of requests of late", |sample| {
        sample.latencies.http_p99_ms
    }),
];

/// Declares the instruments; they read the node whenever figures are due.
pub(super) fn observe(provider: &SdkMeterProvider, app: &Arc<App>) {
    let meter = provider.meter("cache-node");
    for (name, description, of) in COUNTED {
        let app = app.clone();
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                by_cache_type(&app, of, |value, cache_type| observer.observe(value, cache_type))
            })
            .build();
    }
    for (name, description, of) in HELD {
        let app = app.clone();
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| {
                by_cache_type(&app, of, |value, cache_type| observer.observe(value, cache_type))
            })
            .build();
    }
    for (name, unit, description, of) in SAMPLED {
        let app = app.clone();
        meter
            .f64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(value) = app.telemetry().latest().as_ref().and_then(of) {
                    observer.observe(value, &[]);
                }
            })
            .build();
    }
    events(&meter, app.clone());
    alerts(&meter, app.clone());
}

fn by_cache_type(app: &App, of: OfNamespace, mut tell: impl FnMut(u64, &[KeyValue])) {
    for (namespace, stats) in app.cache().stats() {
        let plan = app.config().cache_type(namespace.as_str());
        let name = plan.map_or_else(|| namespace.to_string(), |plan| plan.cache_type.clone());
        tell(of(&stats), &[KeyValue::new("cache_type", name)]);
    }
}

fn events(meter: &Meter, app: Arc<App>) {
    meter
        .u64_observable_counter("edgecache_events_processed")
        .with_description("Events of the log that were applied, own and others'")
        .with_callback(move |observer| observer.observe(app.cache().view().counters().applied, &[]))
        .build();
}

/// 0 where an alert does not stand, 1 for a warning, 2 where it is critical.
fn alerts(meter: &Meter, app: Arc<App>) {
    meter
        .u64_observable_gauge("edgecache_alert")
        .with_description("0: does not stand, 1: warning, 2: critical")
        .with_callback(move |observer| {
            let active = app.telemetry().active();
            for name in AlertName::ALL {
                let raised = active.iter().find(|raised| raised.name == name);
                let level = raised.map_or(0, |raised| 1 + raised.severity as u64);
                observer.observe(level, &[KeyValue::new("name", name.as_str())]);
            }
        })
        .build();
}
