//! The contracts of the ports that this crate implements.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::Transport;
use cache_bus::contract as transport_contract;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::wire::CargoKind;
use cache_events::{Group, Partition, Position};
use cache_l2::contract::{self as store_contract, PublicEvents};
use cache_l2::{Append, Invalidation, Store};
use support::ManualClock;
use tokio::sync::broadcast::Receiver;

struct Embedded {
    server: EmbeddedServer,
    clock: Arc<ManualClock>,
}

impl Embedded {
    fn new(partitions: u32) -> Self {
        let clock = Arc::new(ManualClock::new());
        let config = EmbeddedConfig { partitions, ..Default::default() };
        Self { server: EmbeddedServer::new(config, clock.clone()), clock }
    }
}

#[async_trait]
impl store_contract::Harness for Embedded {
    fn store(&self) -> &dyn Store {
        &self.server
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    async fn public_events(&self) -> Option<Box<dyn PublicEvents>> {
        Some(Box::new(Public(self.server.public_events())))
    }
}

fn append(payload: Bytes) -> Append {
    Append { payload, ..Default::default() }
}

#[async_trait]
impl transport_contract::Harness for Embedded {
    fn transport(&self) -> &dyn Transport {
        &self.server
    }

    async fn append(&self, partition: Partition, payload: Bytes) -> Position {
        self.server.invalidate(partition, &Invalidation::default(), append(payload)).await.unwrap()
    }

    async fn stamp(&self, partition: Partition, group: &Group) -> Position {
        let (groups, keep) = (std::slice::from_ref(group), Duration::from_secs(60));
        self.server.invalidate_groups(partition, groups, keep, append(Bytes::new())).await.unwrap()
    }

    async fn flush(&self, partition: Partition) -> Position {
        self.server.flush(partition, append(Bytes::from_static(b"flush"))).await.unwrap()
    }

    async fn carry(&self, partition: Partition, payload: Bytes, kind: CargoKind) -> (Position, Bytes) {
        store_contract::put_carrying(&self.server, partition, payload, kind).await.unwrap()
    }

    async fn trim(&self, partition: Partition) {
        self.server.trim_log(partition);
    }
}

struct Public(Receiver<String>);

#[async_trait]
impl PublicEvents for Public {
    async fn next(&mut self) -> Option<String> {
        self.0.try_recv().ok()
    }
}

#[tokio::test]
async fn the_server_keeps_the_contract_of_stores() {
    for partitions in [1, 8] {
        let embedded = Embedded::new(partitions);
        let violations = store_contract::all(&embedded).await;
        assert!(violations.is_empty(), "{partitions} partitions: {violations:#?}");
        let again = store_contract::all(&embedded).await;
        assert!(again.is_empty(), "{partitions} partitions, second run: {again:#?}");
    }
}

#[tokio::test]
async fn the_server_keeps_the_contract_of_transports() {
    for partitions in [1, 8] {
        let embedded = Embedded::new(partitions);
        let violations = transport_contract::all(&embedded).await;
        assert!(violations.is_empty(), "{partitions} partitions: {violations:#?}");
        let again = transport_contract::all(&embedded).await;
        assert!(again.is_empty(), "{partitions} partitions, second run: {again:#?}");
    }
}
