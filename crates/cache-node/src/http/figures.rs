//! What the node counted: `GET /cache/stats`, `GET /node/hot-keys`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use cache_api::operate::{HotKey, HotKeys};
use cache_api::{AuditStats, CurrentStats, LatencyStats, NamespaceStats, Stats, TierStats, ViolationReport};
use cache_events::Version;
use cache_redis::RedisInfo;
use cache_tiered::{Latency, Times};

use super::App;
use super::observe::{PROBE_MAX, rfc3339};
use super::problem::Problem;
use super::query::Query;
use super::route::{Access, Route};
use crate::config::TokenScope;

/// Hot keys that are told unless somebody says how many, and at most.
const HOT_KEYS: (u64, u64) = (20, 100);

/// What the node counted.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get("/cache/stats", read, "What happened, in all and for each namespace.", stats)
            .answer::<Stats>(200, "The statistics."),
        Route::get("/node/hot-keys", read, "The keys that are read most of late.", hot_keys)
            .query::<u64>("limit", "How many at most, up to 100; 20 if it is left out.")
            .answer::<HotKeys>(200, "The keys, hottest first."),
    ]
}

/// `GET /cache/stats`
async fn stats(State(app): State<Arc<App>>) -> Json<Stats> {
    Json(app.stats().await)
}

/// `GET /node/hot-keys?limit=N`
async fn hot_keys(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<HotKeys>, Problem> {
    let query = Query::parse(query.as_deref(), &["limit"])?;
    let limit: u64 = query.number("limit")?.unwrap_or(HOT_KEYS.0);
    if !(1..=HOT_KEYS.1).contains(&limit) {
        return Err(Problem::bad("limit", format!("limit must be 1 to {}", HOT_KEYS.1)));
    }
    let told = |(key, reads_per_s): (cache_events::Key, f64)| HotKey {
        cache_type: app.cache_type_of(key.namespace().as_str()),
        key: key.to_string(),
        reads_per_s,
    };
    Ok(Json(HotKeys { keys: app.cache().hot_keys(limit as usize).into_iter().map(told).collect() }))
}

impl App {
    pub(crate) async fn redis_info(&self) -> Option<RedisInfo> {
        let redis = self.shared().redis.as_ref().filter(|_| self.config().enable_metrics)?;
        tokio::time::timeout(PROBE_MAX, redis.info()).await.ok()?.ok()
    }

    /// The name by which a namespace is asked for.
    pub(crate) fn cache_type_of(&self, namespace: &str) -> String {
        let plan = self.config().cache_type(namespace);
        plan.map_or_else(|| namespace.to_owned(), |plan| plan.cache_type.clone())
    }

    /// What the node counted.
    pub async fn stats(&self) -> Stats {
        // Without the figures of INFO, which switched off metrics spare Redis, there still is the connection.
        let (redis, connected) = tokio::join!(self.redis_info(), self.redis_answers());
        let clients = self.shared().redis_stats();
        let spaces = self.cache().stats();
        let timings = self.cache().timings();
        let recent = self.recent().now(self.cache(), self.connection_failures());
        let (health, clock) = (self.cache().health(), self.cache().clock());
        let sum = |of: fn(&cache_tiered::NamespaceStats) -> u64| {
            spaces.iter().map(|(_, stats)| of(stats)).sum::<u64>()
        };
        let reads = sum(|stats| stats.reads);
        let (l1_hits, l2_hits) = (sum(|stats| stats.l1_hits), sum(|stats| stats.l2_hits));
        let hits = (l1_hits + l2_hits).min(reads);
        let response_time = timings.all.reads.all();
        let last_event = health.last_event_age.map(|age| clock.wall().saturating_sub(age.as_millis() as u64));
        let table = |(namespace, stats): &(cache_events::Namespace, cache_tiered::NamespaceStats)| {
            let current = recent.current(Some(namespace), stats.l1_bytes);
            let cache_type = self.cache_type_of(namespace.as_str());
            (namespace.to_string(), namespace_stats(cache_type, stats, current))
        };
        let tier = |hits: u64, misses: u64, times: &Times| TierStats {
            hits,
            misses,
            hit_ratio: ratio(hits, hits + misses),
            latency: latency_stats(times.latency()),
        };
        let l1_bytes = sum(|stats| stats.l1_bytes);
        Stats {
            cache_hits: hits,
            cache_misses: reads - hits,
            cache_hit_ratio: ratio(hits, reads),
            avg_response_time_ms: response_time.mean().map(ms),
            events_processed: self.cache().view().counters().applied,
            invalidations: sum(|stats| stats.invalidations),
            last_event_time: last_event.and_then(rfc3339),
            event_propagation_latency_ms: timings.propagation.quantile(0.5).map(ms),
            event_propagation: latency_stats(timings.propagation.latency()),
            invalidation_latency_ms: timings.invalidation.quantile(0.5).map(ms),
            invalidation: latency_stats(timings.invalidation.latency()),
            response_time: latency_stats(response_time.latency()),
            tiers: BTreeMap::from([
                ("l1".to_owned(), tier(l1_hits, sum(|stats| stats.l1_misses), &timings.all.reads.l1)),
                ("l2".to_owned(), tier(l2_hits, sum(|stats| stats.l2_misses), &timings.all.l2)),
            ]),
            current: recent.current(None, l1_bytes),
            l1_cache_size: sum(|stats| stats.l1_entries as u64),
            l1_cache_max_size: sum(|stats| stats.l1_entries_max as u64),
            memory_utilization: ratio(l1_bytes, self.cache().l1_bytes_max()),
            redis_memory_used_mb: redis.as_ref().map(|info| info.used_memory_bytes as f64 / 1e6),
            redis_memory_max_mb: redis
                .as_ref()
                .filter(|info| info.memory_max_bytes > 0)
                .map(|info| info.memory_max_bytes as f64 / 1e6),
            redis_connected_clients: redis.as_ref().map(|info| info.connected_clients),
            redis_version: redis.as_ref().map(|info| info.version.clone()),
            redis_keys: redis.as_ref().map(|info| info.keys),
            redis_connection: connected
                .map(|connected| if connected { "connected" } else { "disconnected" }.to_owned()),
            connection_pool_utilization: clients
                .and_then(|clients| ratio(clients.commands_in_flight as u64, clients.commands_max as u64)),
            connection_failures: self.connection_failures(),
            connection_failures_per_minute: recent.connection_failures_per_minute(),
            audit: audited(spaces.iter().filter_map(|(_, stats)| stats.audit)),
            violations: self
                .cache()
                .violations()
                .into_iter()
                .flat_map(|(_, found)| found)
                .map(violation)
                .collect(),
            namespaces: spaces.iter().map(table).collect::<BTreeMap<_, _>>(),
        }
    }

    /// Connections to Redis that could not be opened, and commands that got no answer in time.
    pub(crate) fn connection_failures(&self) -> u64 {
        let clients = self.shared().redis_stats();
        clients.map_or(0, |clients| clients.connection_failures + clients.command_timeouts)
    }
}

pub(crate) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn namespace_stats(
    cache_type: String,
    stats: &cache_tiered::NamespaceStats,
    current: CurrentStats,
) -> NamespaceStats {
    NamespaceStats {
        cache_type,
        cache_hit_ratio: ratio((stats.l1_hits + stats.l2_hits).min(stats.reads), stats.reads),
        memory_utilization: ratio(stats.l1_bytes, stats.l1_bytes_max),
        response_time: latency_stats(stats.response_time),
        write_latency: latency_stats(stats.write_latency),
        current,
        reads: stats.reads,
        l1_hits: stats.l1_hits,
        l1_misses: stats.l1_misses,
        l2_hits: stats.l2_hits,
        l2_misses: stats.l2_misses,
        l2_errors: stats.l2_errors,
        records_refused: stats.records_refused,
        loads: stats.loads,
        load_errors: stats.load_errors,
        fills_refused: stats.fills_refused,
        stale_served: stats.stale_served,
        writes: stats.writes,
        invalidations: stats.invalidations,
        updates_taken: stats.updates_taken,
        updates_left: stats.updates_left,
        evicted: stats.l1_evicted,
        expired: stats.l1_expired,
        l1_entries: stats.l1_entries as u64,
        l1_entries_max: stats.l1_entries_max as u64,
        l1_bytes: stats.l1_bytes,
        l1_bytes_max: stats.l1_bytes_max,
        l1_latency: latency_stats(stats.l1_latency),
        l2_latency: latency_stats(stats.l2_latency),
        audit: stats.audit.map(audit_stats),
    }
}

/// The sum over namespaces.
fn audited(all: impl Iterator<Item = cache_tiered::AuditStats>) -> Option<AuditStats> {
    let sum = all.reduce(|mut sum, more| {
        sum.keys += more.keys;
        sum.judged += more.judged;
        sum.violations += more.violations;
        sum.outside += more.outside;
        sum.flagged += more.flagged;
        sum.unjudged += more.unjudged;
        sum.worst_ms = sum.worst_ms.max(more.worst_ms);
        sum
    })?;
    Some(audit_stats(sum))
}

fn audit_stats(found: cache_tiered::AuditStats) -> AuditStats {
    let right = found.judged.saturating_sub(found.violations);
    AuditStats {
        keys: found.keys,
        judged: found.judged,
        violations: found.violations,
        coherent_ratio: (found.judged > 0).then(|| right as f64 / found.judged as f64),
        nines: found.nines(),
        outside: found.outside,
        flagged: found.flagged,
        unjudged: found.unjudged,
        worst_ms: found.worst_ms,
    }
}

fn violation(found: cache_tiered::Violation) -> ViolationReport {
    ViolationReport {
        key: found.key.to_string(),
        cause: found.cause.to_string(),
        tier: found.tier.as_str().to_owned(),
        position: found.position.to_string(),
        version: (found.version != Version::NONE).then_some(found.version.0),
        reads: found.reads,
        staleness_ms: found.staleness_ms,
        history: found.history,
    }
}

fn latency_stats(latency: Latency) -> LatencyStats {
    let us = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e3);
    LatencyStats {
        samples: latency.samples,
        p50_us: us(latency.p50),
        p99_us: us(latency.p99),
        mean_us: us(latency.mean),
    }
}
