//! The contracts of the ports that this crate implements, over a real server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use async_trait::async_trait;
use bb8_redis::redis;
use bytes::Bytes;
use cache_bus::{Transport, contract as transport_contract};
use cache_events::wire::CargoKind;
use cache_events::{Group, Partition, Position};
use cache_l2::contract::{self as store_contract, PublicEvents};
use cache_l2::{Append, Invalidation, Store, StoreError};
use cache_redis::{PUBLIC_CHANNEL, RedisConfig, RedisStore, RedisTransport, Secret, Topology};
use cache_testkit::{RedisCluster, RedisSentinels, RedisServer, Reply};
use futures_util::StreamExt;
use support::config_of;

/// So few that the rules about the limit are quick.
const GROUPS_MAX: u32 = 1_000;

/// The servers of a deployment, of which there may be others than masters.
enum Servers {
    One(Box<RedisServer>),
    Sentinels(RedisSentinels),
    Cluster(RedisCluster),
}

impl Servers {
    fn all(&self) -> Vec<&RedisServer> {
        match self {
            Self::One(server) => vec![server],
            Self::Sentinels(deployment) => {
                deployment.shards.iter().flat_map(|shard| &shard.servers).collect()
            }
            Self::Cluster(cluster) => cluster.nodes.iter().collect(),
        }
    }

    /// What all of them wrote to their logs: whether one was taken for dead.
    fn said(&self) -> String {
        let sentinels = match self {
            Self::Sentinels(deployment) => &deployment.sentinels[..],
            _ => &[],
        };
        self.all()
            .into_iter()
            .chain(sentinels)
            .map(|server| format!("{}:\n{}\n", server.addr(), server.log()))
            .collect()
    }
}

struct Redis {
    servers: Servers,
    config: RedisConfig,
    store: RedisStore,
    transport: RedisTransport,
}

impl Redis {
    fn new(partitions: u32) -> Self {
        Self::as_user(partitions, |_| None)
    }

    /// With the user whose name and password `login` answers; `None` = the one that may do everything.
    fn as_user(
        partitions: u32,
        login: impl Fn(&RedisServer) -> Option<(&'static str, &'static str)>,
    ) -> Self {
        let server = RedisServer::start();
        let url = server.url();
        Self::over(Servers::One(Box::new(server)), &url, partitions, login)
    }

    fn over(
        servers: Servers,
        url: &str,
        partitions: u32,
        login: impl Fn(&RedisServer) -> Option<(&'static str, &'static str)>,
    ) -> Self {
        let public_channel = Some(PUBLIC_CHANNEL.to_owned());
        let mut config = RedisConfig { partitions, public_channel, groups_max: GROUPS_MAX, ..config_of(url) };
        for server in servers.all() {
            if let Some((user, password)) = login(server) {
                config.username = Some(user.to_owned());
                config.password = Some(Secret::new(password));
            }
        }
        let store = RedisStore::new(config.clone()).unwrap();
        let transport = RedisTransport::new(config.clone()).unwrap();
        Self { servers, config, store, transport }
    }
}

#[async_trait]
impl store_contract::Harness for Redis {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    /// The clock of a real server cannot be moved.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn groups_max(&self) -> usize {
        GROUPS_MAX as usize
    }

    async fn public_events(&self) -> Option<Box<dyn PublicEvents>> {
        // Events are published by the master of their partition, which tells those who listen there. (A Cluster tells the
        // other nodes too, but over links that it drops where a node is slow, and then nobody hears that something is
        // missing: they may not be relied upon. What comes twice does no harm.)
        let servers = match &self.servers {
            Servers::Sentinels(deployment) => {
                (0..deployment.shards.len()).map(|s| deployment.master(s)).collect()
            }
            others => others.all(),
        };
        let mut all = Vec::new();
        for server in servers {
            let client = redis::Client::open(server.url()).unwrap();
            let mut subscription = client.get_async_pubsub().await.unwrap();
            subscription.subscribe(PUBLIC_CHANNEL).await.unwrap();
            all.push(subscription.into_on_message());
        }
        Some(Box::new(Public(all)))
    }
}

struct Public(Vec<redis::aio::PubSubStream>);

#[async_trait]
impl PublicEvents for Public {
    async fn next(&mut self) -> Option<String> {
        let mut all = futures_util::stream::select_all(&mut self.0);
        let message = tokio::time::timeout(support::PATIENCE, all.next()).await;
        message.ok()??.get_payload().ok()
    }
}

fn append(payload: Bytes) -> Append {
    Append { payload, ..Default::default() }
}

#[async_trait]
impl transport_contract::Harness for Redis {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    async fn append(&self, partition: Partition, payload: Bytes) -> Position {
        self.store.invalidate(partition, &Invalidation::default(), append(payload)).await.unwrap()
    }

    async fn stamp(&self, partition: Partition, group: &Group) -> Position {
        let (groups, keep) = (std::slice::from_ref(group), Duration::from_secs(60));
        self.store.invalidate_groups(partition, groups, keep, append(Bytes::new())).await.unwrap()
    }

    async fn flush(&self, partition: Partition) -> Position {
        self.store.flush(partition, append(Bytes::from_static(b"flush"))).await.unwrap()
    }

    async fn carry(&self, partition: Partition, payload: Bytes, kind: CargoKind) -> (Position, Bytes) {
        store_contract::put_carrying(&self.store, partition, payload, kind).await.unwrap()
    }

    async fn trim(&self, partition: Partition) {
        let mut trimmed = 0;
        for server in self.servers.all() {
            let Reply::List(logs) = server.command(&["KEYS", "ec:{*}:l"]) else { panic!("no list") };
            for log in logs.iter().map(Reply::text) {
                // Only in a Cluster the tag is not the number itself.
                let tag: u32 = log[4..log.len() - 3].parse().unwrap();
                if tag % self.config.partitions == partition.0
                    && let Ok(Reply::Int(_)) =
                        server.try_command(&[b"XTRIM", log.as_bytes(), b"MAXLEN", b"0"])
                {
                    trimmed += 1;
                }
            }
        }
        assert_eq!(trimmed, 1);
    }
}

#[tokio::test]
async fn the_store_keeps_its_contract() {
    let violations = store_contract::all(&Redis::new(1)).await;
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test]
async fn the_store_keeps_its_contract_in_several_partitions() {
    let violations = store_contract::all(&Redis::new(5)).await;
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test]
async fn the_transport_keeps_its_contract() {
    for partitions in [1, 5] {
        let violations = transport_contract::all(&Redis::new(partitions)).await;
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

fn sentinels(login: impl Fn(&RedisServer) -> Option<(&'static str, &'static str)>) -> Redis {
    // No master fails here: one that a busy machine lets wait is not to be replaced, or for a while there are two of which one
    // is heard and the other asked.
    let deployment = RedisSentinels::start_unhurried(&["one", "two"]);
    let url = deployment.url();
    Redis::over(Servers::Sentinels(deployment), &url, 5, login)
}

fn cluster(login: impl Fn(&RedisServer) -> Option<(&'static str, &'static str)>) -> Redis {
    // No node fails here: one that a busy machine lets wait is not to be taken for dead, or hints of its slots are lost.
    let cluster = RedisCluster::start_with(3, 0, &["--cluster-node-timeout", "60000"]);
    let url = cluster.url();
    Redis::over(Servers::Cluster(cluster), &url, 5, login)
}

async fn keeps_its_contracts(redis: Redis) {
    let violations = store_contract::all(&redis).await;
    assert!(violations.is_empty(), "{violations:#?}");
    let violations = transport_contract::all(&redis).await;
    assert!(violations.is_empty(), "{violations:#?}\n{}", redis.servers.said());
    redis.store.ready().await.unwrap();
    redis.store.ping().await.unwrap();
    redis.store.info().await.unwrap();
    let health = redis.store.topology().await.unwrap();
    assert!(health.primary_healthy, "{health:?}");
    redis.store.remove_all().await.unwrap();
}

#[tokio::test]
async fn several_masters_under_sentinel_keep_the_contracts() {
    keeps_its_contracts(sentinels(|_| None)).await;
}

#[tokio::test]
async fn a_cluster_keeps_the_contracts() {
    keeps_its_contracts(cluster(|_| None)).await;
}

/// The users that the documentation of the crate describes: at a server, further rights in a Cluster, at a Sentinel.
fn recipes() -> [Vec<&'static str>; 3] {
    let docs = include_str!("../src/lib.rs");
    let texts: Vec<&str> = docs.split("//! ACL SETUSER").skip(1).collect();
    let recipe = |text: &'static str| {
        let text = text.split("```").next().unwrap();
        ["ACL", "SETUSER"].into_iter().chain(text.split_whitespace().filter(|word| *word != "//!")).collect()
    };
    <[Vec<&str>; 3]>::try_from(texts.into_iter().map(recipe).collect::<Vec<_>>()).unwrap()
}

/// Makes the user, with the public channel.
fn documented_user(server: &RedisServer) -> Option<(&'static str, &'static str)> {
    let [mut recipe, in_cluster, _] = recipes();
    recipe.push("&cache_invalidation_events");
    // The events that the store publishes are heard by the default user, who may do everything.
    server.command(&recipe);
    if server.info("cluster", "cluster_enabled") == "1" {
        server.command(&in_cluster);
    }
    Some(("edge", "secret"))
}

#[tokio::test]
async fn the_documented_rights_are_enough_in_a_cluster() {
    keeps_its_contracts(cluster(documented_user)).await;
}

#[tokio::test]
async fn the_documented_rights_are_enough_under_sentinel() {
    let deployment = RedisSentinels::start_unhurried(&["one", "two"]);
    for sentinel in &deployment.sentinels {
        sentinel.command(&recipes()[2]);
    }
    let url = deployment.url();
    let mut redis = Redis::over(Servers::Sentinels(deployment), &url, 5, documented_user);
    let Topology::Sentinel(sentinel) = &mut redis.config.topology else { panic!("it is under Sentinel") };
    sentinel.username = Some("edge".to_owned());
    sentinel.password = Some(Secret::new("secret"));
    redis.store = RedisStore::new(redis.config.clone()).unwrap();
    redis.transport = RedisTransport::new(redis.config.clone()).unwrap();
    keeps_its_contracts(redis).await;
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    keeps_its_contracts(Redis::as_user(1, documented_user)).await;
}

#[tokio::test]
async fn a_missing_right_is_refused() {
    let redis = Redis::as_user(1, |server| {
        documented_user(server);
        server.command(&["ACL", "SETUSER", "edge", "-unlink"]);
        Some(("edge", "secret"))
    });
    let namespace = cache_events::Namespace::new("ns").unwrap();
    let keys = vec![cache_events::Key::new(&namespace, "a").unwrap()];
    let what = Invalidation { keys, ..Default::default() };
    let error = redis.store.invalidate(Partition(0), &what, Append::default()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused { message } if message.contains("can't run this command")),
        "{error}"
    );
}
