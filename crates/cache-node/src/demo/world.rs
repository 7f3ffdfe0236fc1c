//! The nodes of a run: each with its own cache, all over one server, all with one ledger behind them.

use std::sync::Arc;

use anyhow::Context;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Clock, NodeId};
use cache_marketplace::{Ledger, Marketplace, REGIONS, audit_by, declare};
use cache_marketplace_sql::{LedgerOptions, SqlLedger};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore};
use cache_tiered::{AuditSettings, CoarseClock, NodeSettings, TieredCache};

use super::DemoArgs;
use super::propagation::{Propagation, Watch};
use super::sabotage::{Sabotage, deaf, unfenced};
use super::served::Served;
use crate::assembly::Shared;
use crate::config::Backing;

/// Where the ledger is.
const IN_MEMORY: &str = "sqlite::memory:";
/// Entries of each namespace in L1 of a node.
const L1_ENTRIES: usize = 5_000;
/// How long a node may take to join.
const JOIN: std::time::Duration = std::time::Duration::from_secs(5);

/// One node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) market: Marketplace,
    pub(crate) watch: Arc<Watch>,
}

/// All nodes of a run.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) propagation: Arc<Propagation>,
    pub(crate) transport: &'static str,
    database: Arc<SqlLedger>,
    redis: Option<RedisStore>,
    /// The nodes that serve; without `--ui` there are none, and the caches stand alone.
    served: Served,
}

/// `us-east-1`, `us-west-1`, `europe-1`, `us-east-2` …
fn name(index: usize) -> String {
    format!("{}-{}", REGIONS[index % REGIONS.len()], index / REGIONS.len() + 1)
}

enum Server {
    Embedded(EmbeddedServer, Arc<dyn Clock>),
    Redis(Box<RedisConfig>),
}

impl Server {
    /// The parts of one node.
    fn parts(&self) -> anyhow::Result<Shared> {
        match self {
            Self::Embedded(server, clock) => Ok(Shared::embedded(server, clock.clone())),
            Self::Redis(config) => Shared::of(&Backing::Redis(config.clone())),
        }
    }
}

impl World {
    pub(crate) async fn start(args: &DemoArgs) -> anyhow::Result<Self> {
        let (server, redis) = match &args.redis {
            None => {
                let clock: Arc<dyn Clock> = Arc::new(CoarseClock::new());
                (Server::Embedded(EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()), clock), None)
            }
            Some(url) => {
                let mut config = RedisConfig::from_url(url).context("--redis")?;
                // Keys of its own, removed at the end: a run never meets another one, nor anybody's data.
                config.prefix = format!("ec-demo-{:08x}", fastrand::u32(..));
                let store = RedisStore::new(config.clone()).context("--redis")?;
                store.ready().await.with_context(|| {
                    format!("no Redis at {}: start one there, or leave --redis out", config.address())
                })?;
                (Server::Redis(Box::new(config)), Some(store))
            }
        };
        let database = SqlLedger::open(IN_MEMORY, LedgerOptions::default()).await;
        let database = Arc::new(database.context("no database can be had in memory")?);
        let ledger: Arc<dyn Ledger> = database.clone();
        let propagation = Propagation::new(usize::from(args.nodes));
        let (mut nodes, mut served) = (Vec::new(), Served::default());
        for index in 0..usize::from(args.nodes) {
            let name = name(index);
            let id = NodeId::new(&name)?;
            let mut shared = server.parts()?;
            match args.sabotage {
                Some(Sabotage::DropEvents) if index > 0 => shared.transport = deaf(shared.transport),
                Some(Sabotage::PlainFill) => shared.store = unfenced(shared.store),
                _ => {}
            }
            let watch = propagation.watch(id.clone());
            let market = if args.ui {
                let region = REGIONS[index % REGIONS.len()];
                served.start(&name, region, index, L1_ENTRIES, shared, ledger.clone(), watch.clone()).await?
            } else {
                Marketplace::new(alone(id, shared, &ledger, &watch)?, ledger.clone())?
            };
            anyhow::ensure!(market.cache().sync(JOIN).await, "node {name} could not join within {JOIN:?}");
            nodes.push(Node { name, market, watch });
        }
        let transport = if redis.is_some() { "redis" } else { "embedded" };
        Ok(Self { nodes, ledger, propagation, transport, database, redis, served })
    }

    /// The dashboards, by name of the node.
    pub(crate) fn urls(&self) -> &[(String, String)] {
        self.served.urls()
    }

    /// Stops the nodes and removes what the run left in Redis.
    pub(crate) async fn stop(self) {
        self.served.stop().await;
        for node in &self.nodes {
            node.market.cache().stop().await;
        }
        self.database.close().await;
        if let Some(store) = self.redis
            && let Err(error) = store.remove_all().await
        {
            eprintln!("the keys of this run stay in Redis until they expire: {error}");
        }
    }
}

/// A cache without an interface.
fn alone(
    id: NodeId,
    shared: Shared,
    ledger: &Arc<dyn Ledger>,
    watch: &Arc<Watch>,
) -> anyhow::Result<TieredCache> {
    let policy = |entries| PolicyKind::Sieve.family(entries);
    let builder = TieredCache::builder(id, shared.store, shared.transport, policy);
    let builder = declare(builder.observer(watch.clone()), |_, mut settings| {
        settings.l1_entries_max = L1_ENTRIES;
        settings
    })?;
    let audit = Some(AuditSettings::default());
    let builder = builder.settings(NodeSettings { audit, ..NodeSettings::default() });
    Ok(audit_by(builder, ledger.clone())?.start()?)
}
