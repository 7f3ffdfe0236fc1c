//! Servers, the nodes on them, and what is between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cache_events::{Namespace, NodeId};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{
    Fault, FaultProxy, FaultyTransport, RedisCluster, RedisReplicated, RedisSentinels, RedisServer,
};
use cache_tiered::{BusConfig, CoarseClock, NamespaceSettings, NodeSettings, TieredCache};

use crate::storm::BOUND;

/// What the nodes of a row share.
pub enum Servers {
    /// One server.
    Standalone(RedisServer),
    /// A master and a replica, and nobody who watches over them.
    Replicated(RedisReplicated),
    /// Two masters with replicas under Sentinel.
    Sentinel(RedisSentinels),
    /// Three masters and three replicas.
    Cluster(RedisCluster),
}

impl Servers {
    /// `standalone`, `replicated`, `sentinel` or `cluster`.
    pub fn topology(&self) -> &'static str {
        match self {
            Self::Standalone(_) => "standalone",
            Self::Replicated(_) => "replicated",
            Self::Sentinel(_) => "sentinel",
            Self::Cluster(_) => "cluster",
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Standalone(server) => server.url(),
            Self::Replicated(deployment) => deployment.master.url(),
            Self::Sentinel(deployment) => deployment.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The server, if there is one alone.
    ///
    /// # Errors
    /// If there are several.
    pub fn standalone(&mut self) -> anyhow::Result<&mut RedisServer> {
        match self {
            Self::Standalone(server) => Ok(server),
            other => anyhow::bail!("this fault is for one server, not for {}", other.topology()),
        }
    }

    /// Where nodes connect to, where that is one address.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Standalone(server) => Some(server.addr()),
            Self::Replicated(deployment) => Some(deployment.master.addr()),
            Self::Sentinel(_) | Self::Cluster(_) => None,
        }
    }
}

/// What lies between one node and its server.
pub struct Line {
    /// Hints that are lost, repeated and reordered.
    pub hints: Arc<FaultyTransport>,
    /// In front of the store's connections and of the transport's; not where clients learn addresses from servers.
    pub proxies: Vec<FaultProxy>,
}

impl Line {
    /// Sets a fault for all connections, those that are open and those to come.
    pub fn set(&self, fault: Fault) {
        self.proxies.iter().for_each(|proxy| proxy.set(fault));
    }
}

/// Starts nodes on servers.
///
/// # Errors
/// If a proxy finds no port or a setting is refused.
pub async fn nodes(servers: &Servers, count: usize) -> anyhow::Result<(Vec<TieredCache>, Vec<Line>)> {
    let (mut nodes, mut lines) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (node, line) = start(servers, &format!("node-{number}")).await?;
        nodes.push(node);
        lines.push(line);
    }
    Ok((nodes, lines))
}

async fn start(servers: &Servers, name: &str) -> anyhow::Result<(TieredCache, Line)> {
    let config = RedisConfig {
        operation_timeout: Duration::from_millis(200),
        control_timeout: Duration::from_millis(250),
        ..RedisConfig::from_url(&servers.url())?
    };
    let mut proxies = Vec::new();
    let mut behind = async |config: RedisConfig| -> anyhow::Result<RedisConfig> {
        let Some(target) = servers.address() else { return Ok(config) };
        let proxy = FaultProxy::start(target).await?;
        let (host, port) = (proxy.addr().ip().to_string(), proxy.addr().port());
        proxies.push(proxy);
        Ok(RedisConfig { host, port, ..config })
    };
    let store = RedisStore::new(behind(config.clone()).await?)?;
    let transport = RedisTransport::new(behind(config).await?)?;
    let seed = name.bytes().map(u64::from).sum();
    let hints = Arc::new(FaultyTransport::new(Arc::new(transport), seed));
    let mut settings = NamespaceSettings::new(Namespace::new("storm")?);
    settings.staleness_bound = BOUND;
    // Nothing is served beyond the bound.
    let settings = settings.critical();
    let bus = BusConfig {
        sync_interval: Duration::from_millis(200),
        sync_timeout: Duration::from_millis(250),
        staleness_bound: BOUND,
        ..BusConfig::default()
    };
    let node = TieredCache::builder(NodeId::new(name)?, Arc::new(store), hints.clone(), |entries| {
        PolicyKind::Sieve.family(entries)
    })
    .clock(Arc::new(CoarseClock::new()))
    .bus(bus)
    .settings(NodeSettings { write_deadline: Duration::from_secs(2), ..NodeSettings::default() })
    .namespace::<u64>(settings)
    .start()?;
    Ok((node, Line { hints, proxies }))
}
