//! A server and what is connected to it.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use bytes::Bytes;
use cache_bus::{Hint, HintStream, Transport};
use cache_events::{Key, Namespace, NodeId, Partition, Position, Version};
use cache_l2::{Append, Invalidation, LeaseAsk, LeaseToken, Store, StoreError};
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::RedisServer;
#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use cache_testkit::certificates;

/// Long enough that a busy machine is no reason to fail, and that no test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The life of records and stamps.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// The only partition.
pub(crate) const P0: Partition = Partition(0);

/// Settings for a server, without haste.
pub(crate) fn config(server: &RedisServer) -> RedisConfig {
    config_of(&server.url())
}

/// Settings for a deployment, without haste.
pub(crate) fn config_of(url: &str) -> RedisConfig {
    RedisConfig {
        operation_timeout: Duration::from_secs(5),
        control_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..RedisConfig::from_url(url).unwrap()
    }
}

pub(crate) fn store(server: &RedisServer) -> RedisStore {
    RedisStore::new(config(server)).unwrap()
}

pub(crate) fn transport(server: &RedisServer) -> RedisTransport {
    RedisTransport::new(config(server)).unwrap()
}

pub(crate) fn key(resource: &str) -> Key {
    Key::new(&Namespace::new("ns").unwrap(), resource).unwrap()
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn append(text: &'static str) -> Append {
    append_from(Position::ZERO, text)
}

pub(crate) fn append_from(at: Position, text: &'static str) -> Append {
    Append { at, payload: Bytes::from_static(text.as_bytes()), ..Append::default() }
}

pub(crate) fn ask(number: u8) -> LeaseAsk {
    LeaseAsk { token: LeaseToken([number; 16]), ttl: LONG, refresh: false, at: Position::ZERO }
}

/// The header of a record, and some bytes behind it.
pub(crate) fn record(origin: Position, version: u64, text: &str) -> Bytes {
    let mut bytes = b"EC\x01\x00".to_vec();
    bytes.extend(origin.epoch.to_be_bytes());
    bytes.extend(origin.seq.to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

/// Appends an event that removes nothing; says where it is.
pub(crate) async fn event(store: &RedisStore) -> Position {
    event_in(store, P0).await.unwrap()
}

pub(crate) async fn put(store: &RedisStore, key: &Key, version: u64) -> Option<Position> {
    let record = record(Position::ZERO, version, "value");
    store.put_versioned(key, Version(version), record, LONG, append("put")).await.unwrap()
}

/// Appends an event to a partition; says where it is.
pub(crate) async fn event_in(store: &RedisStore, partition: Partition) -> Result<Position, StoreError> {
    store.invalidate(partition, &Invalidation::default(), append("event")).await
}

/// A subscription on which all partitions are heard: a busy machine may let one of several masters answer late.
pub(crate) async fn listening(transport: &RedisTransport) -> Box<dyn HintStream> {
    let mut hints = eventually(async || transport.subscribe().await).await;
    let mut unheard = 0;
    loop {
        let next = match hints.ready() {
            None if unheard == 0 => return hints,
            None => tokio::time::timeout(PATIENCE, hints.next()).await.expect("all are heard in the end"),
            Some(next) => next,
        };
        match next {
            Hint::Unheard(_) => unheard += 1,
            Hint::Heard(_) => unheard -= 1,
            _ => {}
        }
    }
}

/// The next event of a partition; what else the subscription says of itself is passed over.
pub(crate) async fn heard(hints: &mut dyn HintStream, wanted: Partition) -> Position {
    let listen = async {
        loop {
            match hints.next().await {
                Hint::Event { partition, position, .. } if partition == wanted => return position,
                Hint::Event { .. } | Hint::Overflow | Hint::Unheard(_) | Hint::Heard(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, listen).await.expect("it is heard")
}

/// Tries until it works: for what a reconnection brings back.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let tries = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, tries).await.expect("it does not happen")
}
