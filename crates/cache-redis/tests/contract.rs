//! The contracts of the ports that this crate implements, over a real server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use async_trait::async_trait;
use bb8_redis::redis;
use bytes::Bytes;
use cache_bus::{Transport, contract as transport_contract};
use cache_events::{Group, Partition, Position};
use cache_l2::contract::{self as store_contract, PublicEvents};
use cache_l2::{Append, Invalidation, Store, StoreError};
use cache_redis::{PUBLIC_CHANNEL, RedisConfig, RedisStore, RedisTransport, Secret};
use cache_testkit::RedisServer;
use futures_util::StreamExt;
use support::config;

/// So few that the rules about the limit are quick.
const GROUPS_MAX: u32 = 1_000;

struct Redis {
    server: RedisServer,
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
        let public_channel = Some(PUBLIC_CHANNEL.to_owned());
        let mut config =
            RedisConfig { partitions, public_channel, groups_max: GROUPS_MAX, ..config(&server) };
        if let Some((user, password)) = login(&server) {
            config.username = Some(user.to_owned());
            config.password = Some(Secret::new(password));
        }
        let store = RedisStore::new(config.clone()).unwrap();
        let transport = RedisTransport::new(config.clone()).unwrap();
        Self { server, config, store, transport }
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
        let client = redis::Client::open(self.server.url()).unwrap();
        let mut subscription = client.get_async_pubsub().await.unwrap();
        subscription.subscribe(PUBLIC_CHANNEL).await.unwrap();
        Some(Box::new(Public(subscription)))
    }
}

struct Public(redis::aio::PubSub);

#[async_trait]
impl PublicEvents for Public {
    async fn next(&mut self) -> Option<String> {
        let message = tokio::time::timeout(support::PATIENCE, self.0.on_message().next()).await;
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

    async fn trim(&self, partition: Partition) {
        let log = format!("{}:{{{partition}}}:l", self.config.prefix);
        self.server.command(&["XTRIM", &log, "MAXLEN", "0"]);
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

/// Makes the user that the documentation of the crate describes, with the public channel.
fn documented_user(server: &RedisServer) -> Option<(&'static str, &'static str)> {
    let docs = include_str!("../src/lib.rs");
    let start = docs.find("//! ACL SETUSER").unwrap();
    let text = docs[start..].split("```").next().unwrap().replace("//!", " ");
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.push("&cache_invalidation_events");
    // The events that the store publishes are heard by the default user, who may do everything.
    server.command(&words);
    Some(("edge", "secret"))
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let redis = Redis::as_user(1, documented_user);
    let violations = store_contract::all(&redis).await;
    assert!(violations.is_empty(), "{violations:#?}");
    let violations = transport_contract::all(&redis).await;
    assert!(violations.is_empty(), "{violations:#?}");
    redis.store.ping().await.unwrap();
    redis.store.info().await.unwrap();
    redis.store.remove_all().await.unwrap();
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
