//! Each metric: its name, what it means, where it comes from. `docs/metrics.md` has the same list for readers.

use std::time::Duration;

use cache_api::Status;
use cache_api::operate::Severity;
use cache_bus::State;
use cache_events::Partition;
use cache_tiered::{L2Op, NamespaceStats, SpaceTimes, Times};

use super::exposition::{Bounds, Exposition, Labels};
use crate::http::{App, ratio};
use crate::telemetry::AlertName;

const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

const fn ns(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

/// For hits in memory.
const MEMORY: Bounds =
    &[ns(100), ns(250), ns(500), us(1), ns(2_500), us(5), us(10), us(50), us(100), us(1_000)];
/// For what crosses a network.
const NETWORK: Bounds = &[
    us(50),
    us(100),
    us(250),
    us(500),
    us(1_000),
    us(2_500),
    us(5_000),
    us(10_000),
    us(25_000),
    us(50_000),
    us(100_000),
    us(200_000),
    us(500_000),
    us(1_000_000),
    us(2_500_000),
    us(5_000_000),
];
/// For what is told in whole milliseconds.
const MILLISECONDS: Bounds = &[
    us(1_000),
    us(2_000),
    us(5_000),
    us(10_000),
    us(20_000),
    us(50_000),
    us(100_000),
    us(200_000),
    us(500_000),
    us(1_000_000),
    us(2_000_000),
    us(5_000_000),
    us(30_000_000),
];

/// Reads everything that is exported.
pub(crate) async fn gather(app: &App) -> Exposition {
    let mut out = Exposition::default();
    identity(app, &mut out);
    namespaces(app, &mut out);
    node(app, &mut out);
    alerts(app, &mut out);
    bus(app, &mut out);
    redis(app, &mut out).await;
    out
}

fn none() -> Labels {
    Labels::new()
}

fn of(name: &'static str, value: impl Into<String>) -> Labels {
    vec![(name, value.into())]
}

fn identity(app: &App, out: &mut Exposition) {
    let identity = &app.config().identity;
    let version = of("version", env!("CARGO_PKG_VERSION"));
    out.gauge("edgecache_build_info", "The version of the program; always 1.").set(version, 1.0);
    let node = vec![
        ("node_id", identity.id.to_string()),
        ("region", identity.region.clone()),
        ("datacenter", identity.datacenter.clone()),
        ("cache_tier", identity.cache_tier.map_or("", crate::config::CacheTier::name).to_owned()),
        ("transport", app.shared().transport.kind().to_owned()),
    ];
    out.gauge("edgecache_node_info", "Who the node is; always 1.").set(node, 1.0);
    out.gauge("process_resident_memory_bytes", "Memory of the process that is in use.")
        .set_known(crate::memory::resident_bytes().map(|bytes| bytes as f64));
    out.gauge("process_start_time_seconds", "When the process started, in seconds since the Unix epoch.")
        .set(none(), app.started_ms() as f64 / 1e3);
    let requests = app.requests().snapshot();
    let served = out.histogram(
        "edgecache_http_request_duration_seconds",
        "Time of HTTP requests until the answer begins, by first segment of the path and class of the status.",
    );
    for ((route, status), times) in &requests {
        let labels = vec![("route", (*route).to_owned()), ("status", (*status).to_owned())];
        served.times(labels, times, NETWORK);
    }
    out.counter("edgecache_http_handler_panics", "Requests whose handler panicked; each was answered 500.")
        .count(none(), app.requests().panics());
}

type Counter = (&'static str, &'static str, fn(&NamespaceStats) -> u64);

const COUNTERS: &[Counter] = &[
    ("edgecache_reads", "Reads of single keys.", |s| s.reads),
    ("edgecache_cache_hits", "Reads that a tier answered.", |s| (s.l1_hits + s.l2_hits).min(s.reads)),
    ("edgecache_cache_misses", "Reads that no tier answered.", |s| {
        s.reads - (s.l1_hits + s.l2_hits).min(s.reads)
    }),
    ("edgecache_l2_errors", "Calls to L2 that failed; each is a miss.", |s| s.l2_errors),
    (
        "edgecache_records_refused",
        "Records of L2 that were dead, outdated, corrupt or of another type.",
        |s| s.records_refused,
    ),
    ("edgecache_loads", "Loads from the source.", |s| s.loads),
    ("edgecache_load_errors", "Loads from the source that failed.", |s| s.load_errors),
    (
        "edgecache_fills_refused",
        "Loaded values that an invalidation had overtaken, kept out of a tier.",
        |s| s.fills_refused,
    ),
    ("edgecache_stale_served", "Answers beyond the staleness bound, flagged as such.", |s| s.stale_served),
    ("edgecache_writes", "Values that were written.", |s| s.writes),
    ("edgecache_invalidations", "Invalidations applied, own and of other nodes.", |s| s.invalidations),
    ("edgecache_updates_taken", "Values and deltas of other nodes that L1 took over.", |s| s.updates_taken),
    ("edgecache_updates_left", "Values and deltas of other nodes that L1 could not use.", |s| s.updates_left),
    ("edgecache_evictions", "Entries that left L1 for room.", |s| s.l1_evicted),
    ("edgecache_expirations", "Entries that left L1 by time.", |s| s.l1_expired),
    ("edgecache_audit_judged", "Reads that the auditor judged.", |s| s.audit.map_or(0, |audit| audit.judged)),
    (
        "edgecache_audit_violations",
        "Judged reads that were older than the promise allows; should be 0.",
        |s| s.audit.map_or(0, |audit| audit.violations),
    ),
];

type Gauge = (&'static str, &'static str, fn(&NamespaceStats) -> f64);

const GAUGES: &[Gauge] = &[
    ("edgecache_l1_cache_size", "Entries in L1.", |s| s.l1_entries as f64),
    ("edgecache_l1_cache_max_size", "Most entries in L1.", |s| s.l1_entries_max as f64),
    ("edgecache_l1_bytes", "Bytes in L1, overhead included.", |s| s.l1_bytes as f64),
    ("edgecache_l1_max_bytes", "Most bytes in L1.", |s| s.l1_bytes_max as f64),
];

type Histogram = (&'static str, &'static str, fn(&SpaceTimes) -> &Times, Bounds);

const HISTOGRAMS: &[Histogram] = &[
    (
        "edgecache_l1_hit_duration_seconds",
        "Time of hits in L1; a sample of one in 256, so that its count is that of the sample.",
        |t| &t.reads.l1,
        MEMORY,
    ),
    (
        "edgecache_read_below_l1_duration_seconds",
        "Time of reads that L1 did not answer, from L2, a load or nobody.",
        |t| &t.reads.below,
        NETWORK,
    ),
    ("edgecache_l2_hit_duration_seconds", "Time of hits in L2, with decoding.", |t| &t.l2, NETWORK),
    ("edgecache_write_duration_seconds", "Time of puts until they are acknowledged.", |t| &t.writes, NETWORK),
];

fn namespaces(app: &App, out: &mut Exposition) {
    // Times before counts: what is counted meanwhile is not missing among the counts.
    let times = app.cache().space_timings();
    let spaces = app.cache().stats();
    let label = |name: &cache_events::Namespace| of("cache_type", app.cache_type_of(name.as_str()));
    let tiered = |name: &cache_events::Namespace, tier: &str| {
        let mut labels = label(name);
        labels.push(("tier", tier.to_owned()));
        labels
    };
    for (name, help, value) in COUNTERS {
        let family = out.counter(name, help);
        spaces.iter().for_each(|(space, stats)| {
            family.count(label(space), value(stats));
        });
    }
    let hits = out.counter("edgecache_tier_hits", "Reads that this tier answered.");
    for (space, stats) in &spaces {
        hits.count(tiered(space, "l1"), stats.l1_hits).count(tiered(space, "l2"), stats.l2_hits);
    }
    let misses =
        out.counter("edgecache_tier_misses", "Reads that this tier was asked for and could not answer.");
    for (space, stats) in &spaces {
        misses.count(tiered(space, "l1"), stats.l1_misses).count(tiered(space, "l2"), stats.l2_misses);
    }
    for (name, help, value) in GAUGES {
        let family = out.gauge(name, help);
        spaces.iter().for_each(|(space, stats)| {
            family.set(label(space), value(stats));
        });
    }
    for (name, help, of, bounds) in HISTOGRAMS {
        let family = out.histogram(name, help);
        times.iter().for_each(|(space, times)| {
            family.times(label(space), of(times), bounds);
        });
    }
}

fn node(app: &App, out: &mut Exposition) {
    let (timings, spaces) = (app.cache().timings(), app.cache().stats());
    let sum = |of: fn(&NamespaceStats) -> u64| spaces.iter().map(|(_, stats)| of(stats)).sum::<u64>();
    let l1_bytes = sum(|stats| stats.l1_bytes);
    let reads = sum(|stats| stats.reads);
    let hits = sum(|stats| (stats.l1_hits + stats.l2_hits).min(stats.reads));
    let lately = app.recent().now(app.cache(), app.connection_failures()).current(None, l1_bytes);
    out.histogram(
        "edgecache_event_propagation_latency_seconds",
        "Time from the events of other nodes to their being applied here, by the clock of the shared tier.",
    )
    .times(none(), &timings.propagation, MILLISECONDS);
    out.histogram(
        "edgecache_invalidation_latency_seconds",
        "Time of invalidations and events of this node, from the call to the acknowledgement.",
    )
    .times(none(), &timings.invalidation, NETWORK);
    let calls = out.histogram(
        "edgecache_l2_operation_duration_seconds",
        "Time of calls to L2 that were answered, by what they ask.",
    );
    for op in L2Op::ALL {
        calls.times(of("operation", op.as_str()), &timings.l2_op(op).answered, NETWORK);
    }
    let failed = out.counter("edgecache_l2_operation_failures", "Calls to L2 that failed, by what they ask.");
    for op in L2Op::ALL {
        failed.count(of("operation", op.as_str()), timings.l2_op(op).failed);
    }
    out.gauge("edgecache_cache_hit_ratio", "Hits as a share of all reads since the start, 0 to 1.")
        .set_known(ratio(hits, reads));
    out.gauge(
        "edgecache_avg_response_time_seconds",
        "Mean time of a read over all tiers since the start; hits in L1 as their sample says.",
    )
    .set_known(timings.all.reads.all().mean().map(|mean| mean.as_secs_f64()));
    out.gauge("edgecache_memory_utilization_ratio", "Bytes in L1 as a share of their bound, 0 to 1.")
        .set_known(ratio(l1_bytes, app.cache().l1_bytes_max()));
    out.gauge("edgecache_hit_rate_percent", "Hits as a share of all reads in the last minute, in percent.")
        .set_known(lately.hit_rate_percent);
    out.gauge("edgecache_avg_latency_seconds", "Mean time of a read over all tiers in the last minute.")
        .set_known(lately.avg_latency_ms.map(|ms| ms / 1e3));
    out.gauge("edgecache_memory_usage_bytes", "Bytes in L1 over all cache types, overhead included.")
        .set(none(), l1_bytes as f64);
    out.gauge("edgecache_eviction_rate", "Entries a second that left L1 for room in the last minute.")
        .set(none(), lately.eviction_rate);
}

/// Each alert and severity, so that one that stands can be told from one that is not known.
fn alerts(app: &App, out: &mut Exposition) {
    let active = app.telemetry().active();
    let family = out.gauge("edgecache_alert", "1 while an alert stands with this severity, else 0.");
    for name in AlertName::ALL {
        for (severity, label) in [(Severity::Warning, "warning"), (Severity::Critical, "critical")] {
            let stands = active.iter().any(|raised| raised.name == name && raised.severity == severity);
            let labels = vec![("name", name.as_str().to_owned()), ("severity", label.to_owned())];
            family.set(labels, f64::from(u8::from(stands)));
        }
    }
}

fn bus(app: &App, out: &mut Exposition) {
    let (cache, view) = (app.cache(), app.cache().view());
    let (health, counters, now) = (cache.health(), view.counters(), cache.clock().now());
    let mut count = |name, help, value| {
        out.counter(name, help).count(none(), value);
    };
    count(
        "edgecache_events_processed",
        "Events of the log that were applied, own and of others.",
        counters.applied,
    );
    count("edgecache_hints", "Hints that were received.", counters.hints);
    count(
        "edgecache_hints_dropped",
        "Hints that this node dropped because too many waited.",
        counters.dropped,
    );
    count("edgecache_hints_garbled", "Hints that could not be read.", counters.garbled);
    count("edgecache_hint_overflows", "Times that the transport dropped hints.", counters.overflows);
    count(
        "edgecache_events_conflated",
        "Events for which a later one of their key was applied.",
        counters.conflated,
    );
    count("edgecache_syncs", "Questions to the log what is missing.", counters.syncs);
    count(
        "edgecache_sync_failures",
        "Questions to the log that failed or timed out.",
        counters.sync_failures,
    );
    count("edgecache_gaps", "Flushes because the log no longer had what was missed.", counters.gaps);
    count("edgecache_epoch_resets", "Flushes because a partition began another epoch.", counters.resets);
    count("edgecache_unreadable", "Flushes because the log could not be read.", counters.unreadable);
    count("edgecache_handler_panics", "Handlers of events that panicked.", health.handler_panics);
    let age = health.last_event_age.map(|age| age.as_secs_f64());
    out.gauge(
        "edgecache_last_event_time_seconds",
        "When the last event was applied, in seconds since the Unix epoch.",
    )
    .set_known(age.map(|age| cache.clock().wall() as f64 / 1e3 - age));
    out.gauge("edgecache_event_queue_size", "Invalidations that wait for the shared tier.")
        .set(none(), health.outbox as f64);
    out.gauge(
        "edgecache_pubsub_active",
        "1 while events arrive and every partition is at the head of its log.",
    )
    .set(none(), f64::from(u8::from(health.subscribed && health.live)));
    out.gauge(
        "edgecache_clock_offset_seconds",
        "How far the clock of the shared tier is ahead of this machine's.",
    )
    .set_known(view.clock_offset().map(|ms| ms as f64 / 1e3));
    let states = out.gauge("edgecache_partitions", "Partitions of the log by how this node stands in them.");
    let all = [
        (State::Connecting, "connecting"),
        (State::Replaying, "replaying"),
        (State::Live, "live"),
        (State::Degraded, "degraded"),
        (State::Fenced, "fenced"),
    ];
    for (state, name) in all {
        let standing = health.states.iter().filter(|found| **found == state).count();
        states.set(of("state", name), standing as f64);
    }
    let lags = out.gauge("edgecache_partition_lag_seconds", "Age of the proof that a partition is fresh.");
    for partition in (0..view.partitions()).map(Partition) {
        let fresh = view.fresh_as_of(partition);
        if fresh > 0 {
            let lag = now.saturating_sub(fresh) as f64 / 1e3;
            lags.set(of("partition", partition.0.to_string()), lag);
        }
    }
}

async fn redis(app: &App, out: &mut Exposition) {
    let (health, info) = tokio::join!(app.health(false), app.redis_info());
    let statuses = out.gauge("edgecache_health_status", "1 for the status that the node has.");
    let all =
        [(Status::Healthy, "healthy"), (Status::Degraded, "degraded"), (Status::Unhealthy, "unhealthy")];
    for (status, name) in all {
        statuses.set(of("status", name), f64::from(u8::from(status == health.status)));
    }
    let Some(clients) = app.shared().redis_stats() else { return };
    let flag = |value: bool| f64::from(u8::from(value));
    out.gauge("edgecache_redis_connected", "1 while Redis answers.")
        .set_known(health.redis_connected.map(flag));
    out.gauge(
        "edgecache_connection_pool_utilization_ratio",
        "Commands under way to Redis as a share of what the connections take at once, 0 to 1.",
    )
    .set_known(ratio(clients.commands_in_flight as u64, clients.commands_max as u64));
    out.gauge("edgecache_redis_commands_in_flight", "Commands that wait for the answer of Redis.")
        .set(none(), clients.commands_in_flight as f64);
    out.gauge("edgecache_redis_connections", "Connections of the pools that are open.")
        .set(none(), f64::from(clients.connections));
    out.gauge("edgecache_redis_max_connections", "Most connections of the pools.")
        .set(none(), f64::from(clients.connections_max));
    out.counter("edgecache_redis_connects", "Connections to Redis that were opened.")
        .count(none(), clients.connects);
    out.counter("edgecache_redis_connection_failures", "Connections to Redis that could not be opened.")
        .count(none(), clients.connection_failures);
    out.counter("edgecache_redis_command_timeouts", "Commands to Redis that got no answer in time.")
        .count(none(), clients.command_timeouts);
    let Some(info) = info else { return };
    out.gauge("edgecache_redis_info", "The version of Redis; always 1.")
        .set(of("version", info.version), 1.0);
    out.gauge("edgecache_redis_memory_used_bytes", "Memory that Redis uses, over all masters.")
        .set(none(), info.used_memory_bytes as f64);
    if info.memory_max_bytes > 0 {
        out.gauge(
            "edgecache_redis_memory_max_bytes",
            "Memory that Redis may use (maxmemory, else the machine's).",
        )
        .set(none(), info.memory_max_bytes as f64);
    }
    out.gauge("edgecache_redis_connected_clients", "Clients of Redis, over all masters.")
        .set(none(), info.connected_clients as f64);
    out.gauge("edgecache_redis_keys", "Keys in the database, over all masters.")
        .set(none(), info.keys as f64);
}
