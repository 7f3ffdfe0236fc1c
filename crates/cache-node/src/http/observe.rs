//! How the node is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cache_api::operate::Nodes;
use cache_api::{ClusterHealth, Health, Liveness, MasterHealth, Status, TopologyHealth};
use jiff::Timestamp;

use super::App;
use super::route::{Access, Route};
use crate::config::TokenScope;

/// How long health waits for Redis: a probe of health must not hang where Redis hangs.
pub(super) const PROBE_MAX: Duration = Duration::from_millis(400);

/// How the node is.
pub(crate) fn routes() -> Vec<Route> {
    let unhealthy = "It must not be asked.";
    vec![
        Route::get("/health", Access::Public, "How the node is, with its statistics.", health)
            .answer::<Health>(200, "It is healthy or degraded.")
            .answer::<Health>(503, "It is unhealthy: it must not be asked."),
        Route::get(
            "/nodes",
            Access::Needs(TokenScope::Read),
            "The nodes that share the store, as each described itself of late.",
            nodes,
        )
        .answer::<Nodes>(200, "The nodes, by region and name."),
        Route::get("/health/live", Access::Public, "Whether the process answers at all.", live)
            .answer::<Liveness>(200, "It does."),
        Route::get("/health/ready", Access::Public, "Whether requests should come here.", ready)
            .answer::<Health>(200, "They should.")
            .answer::<Health>(503, unhealthy),
    ]
}

/// `GET /nodes`
pub(crate) async fn nodes(State(app): State<Arc<App>>) -> Json<Nodes> {
    Json(app.nodes().await)
}

/// `GET /health`
async fn health(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    by_verdict(app.health(true).await)
}

/// `GET /health/ready`: the same without the statistics.
async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    by_verdict(app.health(false).await)
}

fn by_verdict(health: Health) -> (StatusCode, Json<Health>) {
    let status = match health.status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health))
}

/// `GET /health/live`: whoever restarts a node that does not answer asks here, whatever the node's state.
async fn live() -> Json<Liveness> {
    Json(Liveness { status: "alive".to_owned() })
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
        let (status, error) = self.condition(redis_connected, masters_lack);
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
            log_lines_lost: self.logs().failed(),
            error,
        }
    }

    pub(crate) async fn redis_answers(&self) -> Option<bool> {
        let redis = self.shared().redis.as_ref()?;
        Some(tokio::time::timeout(PROBE_MAX, redis.ping()).await.is_ok_and(|pong| pong.is_ok()))
    }

    /// The verdict, and what is wrong.
    pub(crate) fn condition(
        &self,
        redis_answers: Option<bool>,
        masters_lack: bool,
    ) -> (Status, Option<String>) {
        verdict(&self.cache().health(), redis_answers, masters_lack, self.critical(), self.is_stopping())
    }

    async fn topology(&self) -> Option<TopologyHealth> {
        let redis = self.shared().redis.as_ref()?;
        let told = tokio::time::timeout(PROBE_MAX, redis.topology()).await.ok()?.ok()?;
        Some(topology_health(told))
    }
}

fn verdict(
    cache: &cache_tiered::Health,
    redis_connected: Option<bool>,
    masters_lack: bool,
    critical: Option<String>,
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
    wrong.extend(critical);
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

/// Unix milliseconds as a moment, which is spelled as RFC 3339 wants it.
pub(crate) fn moment(unix_ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()
}

/// Unix milliseconds as text.
pub(crate) fn rfc3339(unix_ms: u64) -> Option<String> {
    moment(unix_ms).map(|moment| moment.to_string())
}
