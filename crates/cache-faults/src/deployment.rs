//! Servers, the nodes on them, and what is between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cache_bus::Transport;
use cache_events::{Clock, NodeId};
use cache_l2::Store;
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{
    Fault, FaultProxy, FaultyTransport, JumpingClock, RedisCluster, RedisReplicated, RedisSentinels,
    RedisServer,
};
use cache_tiered::{Builder, BusConfig, CoarseClock, NamespaceSettings, NodeSettings, TieredCache};

use crate::keys::namespace;
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

    /// Where nodes connect to.
    pub fn url(&self) -> String {
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

    /// The master and its replica, if nobody watches over them.
    ///
    /// # Errors
    /// If it is another deployment.
    pub fn replicated(&mut self) -> anyhow::Result<&mut RedisReplicated> {
        match self {
            Self::Replicated(deployment) => Ok(deployment),
            other => anyhow::bail!("this fault is for a master with a replica, not for {}", other.topology()),
        }
    }

    /// The masters under Sentinel.
    ///
    /// # Errors
    /// If it is another deployment.
    pub fn sentinel(&mut self) -> anyhow::Result<&mut RedisSentinels> {
        match self {
            Self::Sentinel(deployment) => Ok(deployment),
            other => anyhow::bail!("this fault is for Sentinels, not for {}", other.topology()),
        }
    }

    /// The Cluster.
    ///
    /// # Errors
    /// If it is another deployment.
    pub fn cluster(&mut self) -> anyhow::Result<&mut RedisCluster> {
        match self {
            Self::Cluster(cluster) => Ok(cluster),
            other => anyhow::bail!("this fault is for a Cluster, not for {}", other.topology()),
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

/// What lies between one node and its server, and the node's clock.
pub struct Line {
    /// Hints that are lost, repeated and reordered.
    pub hints: Arc<FaultyTransport>,
    /// In front of the store's connections and of the transport's; not where clients learn addresses from servers.
    pub proxies: Vec<FaultProxy>,
    /// What the node takes for the time.
    pub clock: Arc<JumpingClock>,
}

impl Line {
    /// Sets a fault for all connections, those that are open and those to come.
    pub fn set(&self, fault: Fault) {
        self.proxies.iter().for_each(|proxy| proxy.set(fault));
    }

    /// Ends all connections and leads the next ones to another server, as a name does that points elsewhere.
    pub fn lead_to(&self, server: &RedisServer) {
        for proxy in &self.proxies {
            proxy.lead_to(server.addr());
            proxy.set_current(Fault::Reset);
        }
    }
}

/// How the nodes of a row differ from those of the others.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How long a right to load is good for.
    pub lease_ttl: Duration,
    /// Writes that wait for the store.
    pub outbox_max: usize,
    /// How long a write is tried.
    pub write_deadline: Duration,
    /// One node more, in a process of its own.
    pub apart: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let NodeSettings { lease_ttl, outbox_max, .. } = NodeSettings::default();
        Self { lease_ttl, outbox_max, write_deadline: Duration::from_secs(2), apart: false }
    }
}

/// Starts nodes on servers.
///
/// # Errors
/// If a proxy finds no port or a setting is refused.
pub async fn nodes(
    servers: &Servers,
    count: usize,
    setup: &Setup,
) -> anyhow::Result<(Vec<TieredCache>, Vec<Line>)> {
    let (mut nodes, mut lines) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (node, line) = start(servers, &format!("node-{number}"), setup).await?;
        nodes.push(node);
        lines.push(line);
    }
    Ok((nodes, lines))
}

async fn start(servers: &Servers, name: &str, setup: &Setup) -> anyhow::Result<(TieredCache, Line)> {
    let config = config(&servers.url())?;
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
    let clock = Arc::new(JumpingClock::new(Arc::new(CoarseClock::new())));
    let node = builder(name, Arc::new(store), hints.clone(), setup, clock.clone())?.start()?;
    Ok((node, Line { hints, proxies, clock }))
}

/// How every node here talks to Redis.
///
/// # Errors
/// If the URL is none.
pub fn config(url: &str) -> anyhow::Result<RedisConfig> {
    Ok(RedisConfig {
        operation_timeout: Duration::from_millis(200),
        control_timeout: Duration::from_millis(250),
        ..RedisConfig::from_url(url)?
    })
}

/// Starts a node that nothing lies in front of.
///
/// # Errors
/// If a setting is refused.
pub fn connected(url: &str, name: &str, setup: &Setup, clock: Arc<dyn Clock>) -> anyhow::Result<TieredCache> {
    let config = config(url)?;
    let (store, transport) = (RedisStore::new(config.clone())?, RedisTransport::new(config)?);
    Ok(builder(name, Arc::new(store), Arc::new(transport), setup, clock)?.start()?)
}

/// A node with the times of this crate, that has the namespace of the storm.
///
/// # Errors
/// If the name is none.
pub fn builder(
    name: &str,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    setup: &Setup,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Builder> {
    let mut settings = NamespaceSettings::new(namespace());
    settings.staleness_bound = BOUND;
    // Nothing is served beyond the bound.
    let settings = settings.critical();
    let bus = BusConfig {
        sync_interval: Duration::from_millis(200),
        sync_timeout: Duration::from_millis(250),
        staleness_bound: BOUND,
        ..BusConfig::default()
    };
    let Setup { lease_ttl, outbox_max, write_deadline, .. } = *setup;
    let family = |entries| PolicyKind::Sieve.family(entries);
    Ok(TieredCache::builder(NodeId::new(name)?, store, transport, family)
        .clock(clock)
        .bus(bus)
        .settings(NodeSettings { write_deadline, lease_ttl, outbox_max, ..NodeSettings::default() })
        .namespace::<u64>(settings))
}
