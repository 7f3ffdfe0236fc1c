//! `GET /node/doctor`: gathers facts and has them judged.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use cache_api::operate::{Findings, NodeFacts};
use cache_events::Partition;
use cache_redis::{RedisConfig, ServerFacts};

use super::App;
use super::observe::rfc3339;
use super::route::{Access, Route};
use crate::config::{Backing, TokenScope};
use crate::doctor::{self, Events, Facts, Login};

/// How long the servers may take to say what they say.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// How long a knock may take to come back.
const KNOCK_MAX: Duration = Duration::from_millis(500);
const KNOCK_LOOKED_FOR_EVERY: Duration = Duration::from_millis(2);

/// The route.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get("/node/doctor", read, "What is wrong around the node, and what to do about it.", doctor)
            .answer::<Findings>(200, "Each check."),
    ]
}

/// `GET /node/doctor`
async fn doctor(State(app): State<Arc<App>>) -> Json<Findings> {
    Json(app.doctor().await)
}

impl App {
    /// Looks for what is wrong around this node.
    ///
    /// It asks every master of Redis some forty things and publishes hints that say nothing, to see them come back. What
    /// does not answer in time is a finding, not an error.
    pub async fn doctor(&self) -> Findings {
        let (servers, events) = tokio::join!(self.servers(), self.knocked());
        let cache = self.cache().health();
        let config = self.config();
        let redis = self.redis_config();
        let stats = self.cache().stats();
        let audited = stats.iter().filter_map(|(_, stats)| stats.audit);
        let audit = audited.fold(None, |sum: Option<(u64, u64)>, audit| {
            let (judged, violations) = sum.unwrap_or_default();
            Some((judged + audit.judged, violations + audit.violations))
        });
        let latest = || self.cache().violations().into_iter().flat_map(|(_, found)| found).last();
        let facts = Facts {
            login: redis.map_or(Login::Nobody, login),
            fenced: cache.fenced,
            events,
            live: cache.live,
            clock_offset_ms: self.cache().view().clock_offset(),
            clock_offset_now_ms: first(&servers).and_then(|server| server.clock_offset_ms),
            outbox: cache.outbox,
            bus: config.bus.clone(),
            operation_timeout: redis.map(|redis| redis.operation_timeout),
            audit: audit.map(|(judged, violations)| {
                (judged, violations, latest().map(|found| format!("{} ({})", found.key, found.cause)))
            }),
            loopback: config.http.is_loopback(),
            token: !self.live().auth.tokens.is_empty(),
            certificate: self.tls().map(|tls| tls.certificate()),
            wall_ms: self.shared().clock.wall(),
            servers,
        };
        let store = match &facts.servers {
            None => "embedded".to_owned(),
            Some(Ok(servers)) => doctor::store_id(servers),
            Some(Err(_)) => redis.map(RedisConfig::address).unwrap_or_default(),
        };
        Findings {
            facts: NodeFacts {
                node_id: config.identity.id.to_string(),
                started_at: rfc3339(self.started_ms()).unwrap_or_default(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                store,
                staleness_bound_ms: u64::try_from(config.bus.staleness_bound.as_millis()).unwrap_or(u64::MAX),
                clock_offset_ms: facts.clock_offset_ms,
            },
            findings: doctor::judge(&facts),
        }
    }

    fn redis_config(&self) -> Option<&RedisConfig> {
        match &self.config().backing {
            Backing::Redis(config) => Some(config),
            Backing::Embedded => None,
        }
    }

    /// What the servers say.
    async fn servers(&self) -> Option<Result<Vec<ServerFacts>, String>> {
        let redis = self.shared().redis.as_ref()?;
        let clock = self.shared().clock.clone();
        let looked = tokio::time::timeout(LOOK_MAX, redis.inspect(|| clock.wall())).await;
        Some(match looked {
            Ok(Ok(servers)) => Ok(servers),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {LOOK_MAX:?}")),
        })
    }

    /// Whether what is published on the channel of each partition comes back over the subscription of this node. A hint
    /// of somebody else that comes meanwhile proves the same.
    async fn knocked(&self) -> Events {
        let view = self.cache().view();
        if !view.subscribed() {
            return Events::NotSubscribed;
        }
        let Some(redis) = &self.shared().redis else { return Events::Untried };
        let mut heard = Events::Untried;
        for partition in (0..view.partitions()).map(Partition) {
            let before = view.counters().hints;
            if redis.knock(partition, view.epoch(partition)).await.is_err() {
                continue;
            }
            let came = async {
                while view.counters().hints == before {
                    tokio::time::sleep(KNOCK_LOOKED_FOR_EVERY).await;
                }
            };
            if tokio::time::timeout(KNOCK_MAX, came).await.is_err() {
                return Events::Silent;
            }
            heard = Events::Heard;
        }
        heard
    }
}

fn first(servers: &Option<Result<Vec<ServerFacts>, String>>) -> Option<&ServerFacts> {
    servers.as_ref()?.as_ref().ok()?.first()
}

fn login(redis: &RedisConfig) -> Login {
    match (&redis.username, &redis.password) {
        (Some(_), _) => Login::User,
        (None, Some(_)) => Login::Default,
        (None, None) => Login::Nobody,
    }
}
