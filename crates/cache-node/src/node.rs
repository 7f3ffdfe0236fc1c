//! A node from start to stop.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cache_api::Status;
use cache_marketplace::{Ledger, Marketplace};
use cache_redis::RedisStore;
use cache_tiered::{Observer, TieredCache};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::assembly::{self, Shared};
use crate::config::NodeConfig;
use crate::events::Events;
use crate::http::{self, App};
use crate::memory;
use crate::recent;
use crate::record::Record;
use crate::reload::Reloader;
use crate::roster;
use crate::telemetry::{self, otlp::Metrics};

/// How often, and how far apart, a master that does not answer is asked at the start whether it is guarded.
const ASKED_MAX: u32 = 10;
const ASKED_EVERY: Duration = Duration::from_millis(300);
/// How long after its start a node has usually joined the others.
const JOINED_WITHIN: Duration = Duration::from_millis(200);
/// How long after a look that found the node not healthy the next one is.
const SOON: Duration = Duration::from_secs(1);

/// A node that listens but does not answer yet.
pub struct Node {
    app: Arc<App>,
    record: Record,
    listener: TcpListener,
}

impl Node {
    /// Takes the address and starts the cache. A Redis that is away is no error: the node is degraded until it comes.
    ///
    /// # Errors
    /// The address cannot be taken, settings contradict each other, or masters lack the guard that the configuration requires.
    pub async fn start(config: NodeConfig) -> anyhow::Result<Self> {
        let record = Record::open(&config.database).await?;
        let shared = Shared::of(&config.backing)?;
        Self::start_with(config, shared, record, None).await
    }

    /// [`start`](Self::start) on a system of record of the caller's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on(config: NodeConfig, ledger: Arc<dyn Ledger>) -> anyhow::Result<Self> {
        let shared = Shared::of(&config.backing)?;
        Self::start_with(config, shared, Record::Given(ledger), None).await
    }

    /// [`start_on`](Self::start_on) over parts of the caller's, such as a transport that is watched or disturbed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_over(
        config: NodeConfig,
        ledger: Arc<dyn Ledger>,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        Self::start_with(config, shared, Record::Given(ledger), None).await
    }

    /// [`start_on`](Self::start_on) what nodes of one process share; `beside` hears what the node applies.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) async fn start_among(
        config: NodeConfig,
        shared: Shared,
        ledger: Arc<dyn Ledger>,
        beside: Arc<dyn Observer>,
    ) -> anyhow::Result<Self> {
        Self::start_with(config, shared, Record::Given(ledger), Some(beside)).await
    }

    async fn start_with(
        config: NodeConfig,
        shared: Shared,
        record: Record,
        beside: Option<Arc<dyn Observer>>,
    ) -> anyhow::Result<Self> {
        let listen = &config.http.listen;
        let listener = TcpListener::bind(listen.as_str()).await.with_context(|| {
            format!("cannot listen on {listen}: is it in use, or not an address of this machine? Choose another with --listen")
        })?;
        if let (true, Some(redis)) = (config.require_min_replicas, &shared.redis) {
            refuse_unguarded(redis).await?;
        }
        let (id, streams_max) = (config.identity.id.clone(), config.http.event_streams_max);
        let events = Arc::new(Events::new(id, shared.clock.clone(), streams_max));
        let cache = assembly::start(&config, &shared, record.ledger(), &events, beside)?;
        let market = Marketplace::new(cache, record.ledger())?;
        let app = App::new(market, shared, config, events)?;
        if let Some(url) = roster::url_of(listener.local_addr()?, app.tls().is_some()) {
            app.listens_at(url);
        }
        Ok(Self { app: Arc::new(app), record, listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its cache, for programs that have a node inside.
    pub fn cache(&self) -> &TieredCache {
        self.app.cache()
    }

    /// Its marketplace.
    pub(crate) fn market(&self) -> &Marketplace {
        self.app.market()
    }

    /// Answers requests until `shutdown` is cancelled, then finishes those under way and stops the cache.
    ///
    /// # Errors
    /// None yet.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { app, record, listener } = self;
        let record = Arc::new(record);
        // The tasks go on until the last request is answered.
        let (told, shutdown) = (shutdown, CancellationToken::new());
        let tasks = TaskTracker::new();
        let otlp = app.config().telemetry.otlp.as_ref();
        if let Some(metrics) = otlp.map(|otlp| Metrics::of(otlp, &app)).transpose()? {
            tasks.spawn(metrics.tell(shutdown.clone()));
        }
        if app.config().health_checks {
            tasks.spawn(watch_health(app.clone(), shutdown.clone()));
        }
        tasks.spawn(recent::watch(app.clone(), shutdown.clone()));
        tasks.spawn(roster::keep(app.clone(), shutdown.clone()));
        tasks.spawn({
            let (record, market, shutdown) = (record.clone(), app.market().clone(), shutdown.clone());
            async move { record.keep(market, shutdown).await }
        });
        tasks.spawn(memory::watch(app.cache().clone(), app.config().live.clone(), shutdown.clone()));
        tasks.spawn(telemetry::watch(app.clone(), shutdown.clone()));
        tasks.spawn(http::renew(app.clone(), shutdown.clone()));
        http::serve(listener, app.clone(), told).await;
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        app.cache().stop().await;
        record.close().await;
        info!("stopped");
        Ok(())
    }
}

/// An error where a master may go on alone, or where that cannot be found out: without a guard nothing bounds for how long a
/// node that sees such a master believes it.
async fn refuse_unguarded(redis: &RedisStore) -> anyhow::Result<()> {
    const SETTING: &str = "redis.require_min_replicas is on";
    // The time-outs of reads are short; that a machine is busy while its nodes start says nothing.
    let mut asked = 1;
    let masters = loop {
        let topology =
            redis.topology().await.with_context(|| format!("{SETTING}, and nobody can be asked"))?;
        match topology.masters.iter().find(|master| !master.healthy) {
            None => break topology.masters,
            Some(silent) if asked == ASKED_MAX => bail!(
                "{SETTING}, and master {} does not say whether it is guarded: it does not answer",
                silent.name
            ),
            Some(_) => asked += 1,
        }
        tokio::time::sleep(ASKED_EVERY).await;
    };
    match masters.into_iter().find(|master| !master.guarded) {
        None => Ok(()),
        Some(alone) => bail!(
            "{SETTING}, and master {} goes on alone when it is cut off from its replicas: set min-replicas-to-write and \
             min-replicas-max-lag there",
            alone.name
        ),
    }
}

/// Runs a node until `shutdown` is cancelled, and reads its configuration again at SIGHUP. Says on stdout where it listens.
///
/// # Errors
/// As [`Node::start`] and [`Node::serve`].
pub async fn run(config: NodeConfig, reloader: Reloader, shutdown: CancellationToken) -> anyhow::Result<()> {
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let (id, backing) = (config.identity.id.clone(), config.backing.to_string());
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    let node = Node::start(config).await?;
    let address = node.address()?;
    // Before anybody can know that the node is there: an unheard SIGHUP would end it.
    let stopped = CancellationToken::new();
    let reloading = reloader.on_hangup(node.cache().clone(), stopped.clone())?;
    info!(node = %id, %address, transport = backing, "serving");
    // Whoever starts the node may have closed its end.
    let _ = writeln!(std::io::stdout(), "listening on {scheme}://{address}");
    let serving = async {
        let served = node.serve(shutdown).await;
        stopped.cancel();
        served
    };
    tokio::join!(serving, reloading).0
}

/// A token that SIGTERM and SIGINT cancel. A second signal ends the process at once.
///
/// # Errors
/// The operating system refuses.
pub fn shutdown_on_signals() -> std::io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let cancelled = shutdown.clone();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process; nothing waits for it")]
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if round > 0 {
                std::process::exit(130);
            }
            cancelled.cancel();
        }
    });
    Ok(shutdown)
}

/// Looks at the node's health now and then, and logs when it changes.
async fn watch_health(app: Arc<App>, shutdown: CancellationToken) {
    let mut before = None;
    let mut unguarded = false;
    let mut pause = JOINED_WITHIN;
    loop {
        // The first look comes a little after the start: a node that is just joining is not worth a warning.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause.min(app.live().health_check_every)) => {}
        }
        let health = app.health(false).await;
        let masters = health.topology.iter().flat_map(|topology| &topology.masters);
        for master in masters.filter(|master| master.healthy && master.replicas > 0 && !master.guarded) {
            // Once: it is a setting of the servers.
            if !std::mem::replace(&mut unguarded, true) {
                let name = &master.name;
                warn!(
                    master = name,
                    "a master of Redis goes on alone when it is cut off from its replicas: set min-replicas-to-write and \
                     min-replicas-max-lag there, else a node that sees it alone trusts it without a bound"
                );
            }
        }
        if before.replace(health.status) != Some(health.status) {
            match (health.status, health.error) {
                (Status::Healthy, _) => info!("healthy"),
                (status, error) => warn!(?status, error = error.unwrap_or_default(), "not healthy"),
            }
        }
        // Whoever waits for a node to recover reads its log.
        pause = if health.status == Status::Healthy { Duration::MAX } else { SOON };
    }
}
