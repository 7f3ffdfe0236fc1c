//! What all routes share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use cache_events::Namespace;
use cache_marketplace::{Marketplace, RecentBooks};
use cache_tiered::{JsonCache, TieredCache};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::logs::Logs;
use super::problem::Problem;
use super::tls::Tls;
use crate::assembly::Shared;
use crate::config::{CacheTypePlan, Live, NodeConfig};
use crate::events::Events;
use crate::metrics::requests::Requests;
use crate::recent::Recent;
use crate::roster::Roster;
use crate::telemetry::Telemetry;

/// What all routes share.
pub struct App {
    market: Marketplace,
    books: RecentBooks,
    shared: Shared,
    config: NodeConfig,
    events: Arc<Events>,
    gate: RwLock<Arc<Gate>>,
    logs: RwLock<Arc<Logs>>,
    /// No request is taken any more, and streams end.
    closing: CancellationToken,
    roster: Roster,
    listens_at: OnceLock<String>,
    stopping: AtomicBool,
    recent: Recent,
    requests: Requests,
    started_ms: u64,
    telemetry: Telemetry,
    tls: Option<Arc<Tls>>,
}

impl App {
    /// The interface to a marketplace and the cache under it.
    ///
    /// # Errors
    /// A log of requests cannot be opened, or the files for TLS cannot be used.
    pub fn new(
        market: Marketplace,
        shared: Shared,
        config: NodeConfig,
        events: Arc<Events>,
    ) -> anyhow::Result<Self> {
        let live = config.live.current();
        let logs = RwLock::new(Arc::new(Logs::open(&live.http.logs)?));
        let gate = RwLock::new(Arc::new(Gate::new(live)));
        let tls = config.http.tls.as_ref().map(|files| Tls::read(files).map(Arc::new)).transpose()?;
        let started_ms = market.cache().clock().wall();
        Ok(Self {
            market,
            books: RecentBooks::default(),
            shared,
            config,
            events,
            gate,
            logs,
            closing: CancellationToken::new(),
            roster: Roster::default(),
            listens_at: OnceLock::new(),
            stopping: AtomicBool::new(false),
            recent: Recent::default(),
            requests: Requests::default(),
            started_ms,
            telemetry: Telemetry::default(),
            tls,
        })
    }

    /// What the node has applied of late.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Who may ask for what, now.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        let live = self.live();
        {
            let gate = self.gate.read();
            if gate.is_of(&live) {
                return gate.clone();
            }
        }
        let gate = Arc::new(Gate::new(live));
        *self.gate.write() = gate.clone();
        gate
    }

    /// What its connections are secured with; `None` = nothing.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// The logs of requests, now.
    pub(crate) fn logs(&self) -> Arc<Logs> {
        self.logs.read().clone()
    }

    /// Opens the logs of requests as the configuration wants them now. Where they cannot be opened, all stays as it was.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(crate) async fn renew_logs(&self) -> anyhow::Result<()> {
        let live = self.live();
        let wanted = &live.http.logs;
        if self.logs().are_of(wanted) {
            return Ok(());
        }
        let opened = Arc::new(Logs::open(wanted)?);
        let before = std::mem::replace(&mut *self.logs.write(), opened);
        before.close().await;
        Ok(())
    }

    /// Cancelled when no request is taken any more: a stream that would go on for ever ends then.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Which nodes there are.
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// From here on the others are told that the node is there, unless the configuration says where.
    pub fn listens_at(&self, url: String) {
        let _ = self.listens_at.set(url);
    }

    /// Where the others find the node, if it says so.
    pub(crate) fn url(&self) -> Option<String> {
        self.config.http.advertise.clone().or_else(|| self.listens_at.get().cloned())
    }

    /// The cache.
    pub fn cache(&self) -> &TieredCache {
        self.market.cache()
    }

    /// The marketplace.
    pub fn market(&self) -> &Marketplace {
        &self.market
    }

    /// The order books that were answered of late.
    pub(crate) fn books(&self) -> &RecentBooks {
        &self.books
    }

    /// The counters of the last minute.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Times of HTTP requests.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// When the node started, in Unix milliseconds by its own clock.
    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// The configuration.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// What of the configuration can change while the node runs, as it is now.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.config.live.current()
    }

    /// Says that the node is about to stop: health is told so while requests under way are finished, and streams end.
    pub fn stopping(&self) {
        self.events.close();
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// What the node remembers of its figures.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The cache type of a name.
    pub(crate) fn cache_type(&self, name: &str) -> Result<&CacheTypePlan, Problem> {
        self.config.cache_type(name).ok_or_else(|| {
            let known: Vec<&str> =
                self.config.cache_types.iter().map(|plan| plan.cache_type.as_str()).collect();
            Problem::new(StatusCode::NOT_FOUND, format!("no cache type {name:?}"))
                .field("cache_type")
                .cure(format!("known are {}", known.join(", ")))
        })
    }

    /// The values of a cache type, as JSON.
    pub(crate) fn json(&self, namespace: &Namespace) -> Result<JsonCache, Problem> {
        let found = self.cache().json(namespace.as_str());
        found.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}
