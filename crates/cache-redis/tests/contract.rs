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
use cache_l2::{Append, Invalidation, Store};
use cache_redis::{PUBLIC_CHANNEL, RedisConfig, RedisStore, RedisTransport};
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
        let server = RedisServer::start();
        let public_channel = Some(PUBLIC_CHANNEL.to_owned());
        let config = RedisConfig { partitions, public_channel, groups_max: GROUPS_MAX, ..config(&server) };
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
