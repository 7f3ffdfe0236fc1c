//! How the node is, and what it counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::{Extension, Json};
use cache_api::{
    AuditStats, ClusterHealth, Health, LatencyStats, MasterHealth, NamespaceStats, Stats, Status,
    TopologyHealth, ViolationReport,
};
use cache_events::Version;
use cache_redis::RedisInfo;
use cache_tiered::Latency;

use super::App;

/// How long health waits for Redis: a probe of health must not hang where Redis hangs.
const PROBE_MAX: Duration = Duration::from_millis(400);

/// `GET /health`
pub(crate) async fn health(Extension(app): Extension<Arc<App>>) -> (StatusCode, Json<Health>) {
    let health = app.health(true).await;
    let status = match health.status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health))
}

/// `GET /cache/stats`
pub(crate) async fn stats(Extension(app): Extension<Arc<App>>) -> Json<Stats> {
    Json(app.stats().await)
}

impl App {
    /// How the node is, with its statistics or without.
    pub async fn health(&self, with_stats: bool) -> Health {
        let (redis_connected, topology, stats) = tokio::join!(self.redis_answers(), self.topology(), async {
            if with_stats { Some(self.stats().await) } else { None }
        });
        let cache = self.cache().health();
        let identity = &self.config().identity;
        let masters_lack = topology.as_ref().is_some_and(|topology| !topology.primary_healthy);
        let (status, error) = verdict(&cache, redis_connected, masters_lack, self.is_stopping());
        Health {
            status,
            node_id: identity.id.to_string(),
            region: identity.region.clone(),
            datacenter: identity.datacenter.clone(),
            transport: self.shared().transport.kind().to_owned(),
            redis_connected,
            topology,
            pubsub_active: cache.subscribed && cache.live,
            event_queue_size: cache.outbox as u64,
            last_event_age: cache.last_event_age.map(|age| age.as_secs_f64()),
            cache_stats: stats,
            error,
        }
    }

    async fn redis_answers(&self) -> Option<bool> {
        let redis = self.shared().redis.as_ref()?;
        Some(tokio::time::timeout(PROBE_MAX, redis.ping()).await.is_ok_and(|pong| pong.is_ok()))
    }

    async fn topology(&self) -> Option<TopologyHealth> {
        let redis = self.shared().redis.as_ref()?;
        let told = tokio::time::timeout(PROBE_MAX, redis.topology()).await.ok()?.ok()?;
        Some(topology_health(told))
    }

    async fn redis_info(&self) -> Option<RedisInfo> {
        let redis = self.shared().redis.as_ref().filter(|_| self.config().enable_metrics)?;
        tokio::time::timeout(PROBE_MAX, redis.info()).await.ok()?.ok()
    }

    /// What the node counted.
    pub async fn stats(&self) -> Stats {
        let redis = self.redis_info().await;
        let spaces = self.cache().stats();
        let (health, clock) = (self.cache().health(), self.cache().clock());
        let sum = |of: fn(&cache_tiered::NamespaceStats) -> u64| {
            spaces.iter().map(|(_, stats)| of(stats)).sum::<u64>()
        };
        let reads = sum(|stats| stats.reads);
        let (l1_hits, l2_hits) = (sum(|stats| stats.l1_hits), sum(|stats| stats.l2_hits));
        let hits = (l1_hits + l2_hits).min(reads);
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let timings = self.cache().timings();
        let last_event = health.last_event_age.map(|age| clock.wall().saturating_sub(age.as_millis() as u64));
        let cache_type = |namespace: &str| {
            self.config()
                .cache_type(namespace)
                .map_or_else(|| namespace.to_owned(), |plan| plan.cache_type.clone())
        };
        let table = |(namespace, stats): &(cache_events::Namespace, _)| {
            (namespace.to_string(), namespace_stats(cache_type(namespace.as_str()), stats))
        };
        Stats {
            cache_hits: hits,
            cache_misses: reads - hits,
            cache_hit_ratio: ratio(hits, reads),
            avg_response_time_ms: timings.all.reads.all().mean().map(ms),
            events_processed: self.cache().view().counters().applied,
            invalidations: sum(|stats| stats.invalidations),
            last_event_time: last_event.and_then(rfc3339),
            event_propagation_latency_ms: timings.propagation.quantile(0.5).map(ms),
            l1_cache_size: sum(|stats| stats.l1_entries as u64),
            l1_cache_max_size: sum(|stats| stats.l1_entries_max as u64),
            memory_utilization: ratio(sum(|stats| stats.l1_bytes), self.cache().l1_bytes_max()),
            redis_memory_used_mb: redis.as_ref().map(|info| info.used_memory_bytes as f64 / 1e6),
            redis_connected_clients: redis.as_ref().map(|info| info.connected_clients),
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
}

fn verdict(
    cache: &cache_tiered::Health,
    redis_connected: Option<bool>,
    masters_lack: bool,
    stopping: bool,
) -> (Status, Option<String>) {
    if stopping {
        return (Status::Unhealthy, Some("the node is stopping".to_owned()));
    }
    if let Some(why) = &cache.fenced {
        return (Status::Unhealthy, Some(format!("fenced off from the shared tier: {why}")));
    }
    let mut wrong = Vec::new();
    if redis_connected == Some(false) {
        wrong.push("Redis does not answer".to_owned());
    } else if masters_lack {
        wrong.push("a master of Redis does not answer".to_owned());
    }
    if !cache.subscribed {
        wrong.push("not subscribed to invalidations".to_owned());
    }
    if !cache.live {
        let mut states = BTreeMap::<String, u32>::new();
        cache
            .states
            .iter()
            .for_each(|state| *states.entry(format!("{state:?}").to_lowercase()).or_default() += 1);
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let all = cache.states.len();
        wrong.push(format!("not at the head of the log (of {all} partitions {})", states.join(", ")));
    }
    if cache.outbox > 0 {
        wrong.push(format!("{} invalidations wait for the shared tier", cache.outbox));
    }
    if wrong.is_empty() { (Status::Healthy, None) } else { (Status::Degraded, Some(wrong.join("; "))) }
}

fn topology_health(told: cache_redis::TopologyHealth) -> TopologyHealth {
    let master = |master: cache_redis::MasterHealth| MasterHealth {
        name: master.name,
        address: master.address,
        healthy: master.healthy,
        replicas: master.replicas,
        healthy_replicas: master.healthy_replicas,
        partitions: master.partitions.len() as u32,
        keyspace: master.keys,
        slots: master.slots,
        guarded: master.guarded,
    };
    let cluster = |cluster: cache_redis::ClusterHealth| ClusterHealth {
        state: cluster.state,
        slots_assigned: cluster.slots_assigned,
        slots_ok: cluster.slots_ok,
        known_nodes: cluster.known_nodes,
        size: cluster.size,
    };
    TopologyHealth {
        topology: told.topology.to_owned(),
        total_nodes: told.total_nodes,
        healthy_nodes: told.healthy_nodes,
        primary_healthy: told.primary_healthy,
        replica_healthy: told.replica_healthy,
        masters: told.masters.into_iter().map(master).collect(),
        cluster: told.cluster.map(cluster),
    }
}

/// Unix milliseconds as text.
pub(crate) fn rfc3339(unix_ms: u64) -> Option<String> {
    Some(jiff::Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?.to_string())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn namespace_stats(cache_type: String, stats: &cache_tiered::NamespaceStats) -> NamespaceStats {
    NamespaceStats {
        cache_type,
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
