//! The contracts of the ports that this crate implements.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::{
    Description, Hint, HintStream, RosterRow, SyncAnswer, Transport, TransportError,
    contract as transport_contract,
};
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::wire::CargoKind;
use cache_events::{Group, NodeId, Partition, Position};
use cache_l2::contract::{self as store_contract, PublicEvents};
use cache_l2::{Append, Invalidation, Store};
use support::ManualClock;
use tokio::sync::broadcast::Receiver;

struct Embedded {
    server: EmbeddedServer,
    transport: Disturbed,
    clock: Arc<ManualClock>,
}

/// The server, of which so many subscriptions lose their first hints and say so, and each sync takes so long.
struct Disturbed {
    server: EmbeddedServer,
    left: AtomicU32,
    clock: Arc<ManualClock>,
    sync_takes: Duration,
}

impl Embedded {
    fn new(partitions: u32) -> Self {
        let clock = Arc::new(ManualClock::new());
        let config = EmbeddedConfig { partitions, ..Default::default() };
        let server = EmbeddedServer::new(config, clock.clone());
        let (left, sync_takes) = (AtomicU32::new(0), Duration::ZERO);
        let transport = Disturbed { server: server.clone(), left, clock: clock.clone(), sync_takes };
        Self { server, transport, clock }
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
        &self.transport
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

#[async_trait]
impl Transport for Disturbed {
    fn partitions(&self) -> u32 {
        Transport::partitions(&self.server)
    }

    fn kind(&self) -> &'static str {
        Transport::kind(&self.server)
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        let stream = self.server.subscribe().await?;
        let spend = |left: u32| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend) {
            Ok(left) => Ok(Box::new(Losing { stream, overflows: left % 2 == 0, to_say: Vec::new() })),
            Err(_) => Ok(stream),
        }
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        self.clock.advance(self.sync_takes);
        self.server.sync(partition, node, at, max).await
    }

    async fn introduce(&self, node: &NodeId, said: Option<&Description>) -> Result<(), TransportError> {
        self.server.introduce(node, said).await
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        self.server.roster().await
    }
}

/// Loses every hint and says so: by an overflow, or by partitions that are not heard for a while.
struct Losing {
    stream: Box<dyn HintStream>,
    overflows: bool,
    to_say: Vec<Hint>,
}

#[async_trait]
impl HintStream for Losing {
    async fn next(&mut self) -> Hint {
        if let Some(hint) = self.to_say.pop() {
            return hint;
        }
        match self.stream.next().await {
            Hint::Event { .. } if self.overflows => Hint::Overflow,
            Hint::Event { partition, .. } => {
                self.to_say.push(Hint::Heard(partition));
                Hint::Unheard(partition)
            }
            other => other,
        }
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

#[tokio::test]
async fn a_slow_server_keeps_the_contract_as_well() {
    let mut embedded = Embedded::new(1);
    embedded.transport.sync_takes = Duration::from_secs(3);
    let violations = transport_contract::all(&embedded).await;
    assert!(violations.is_empty(), "{violations:#?}");
}

#[tokio::test]
async fn a_subscription_that_says_that_hints_are_missing_is_asked_again_and_not_for_ever() {
    let embedded = Embedded::new(1);
    for disturbed in 1..=4 {
        embedded.transport.left.store(disturbed, Ordering::Relaxed);
        let violations = transport_contract::all(&embedded).await;
        assert!(violations.is_empty(), "{disturbed}: {violations:#?}");
        assert_eq!(embedded.transport.left.load(Ordering::Relaxed), 0);
    }
    embedded.transport.left.store(u32::MAX, Ordering::Relaxed);
    let violations = transport_contract::all(&embedded).await;
    let broken: Vec<&str> = violations.iter().map(|violation| violation.rule).collect();
    let about_hints = [
        "every_subscriber_hears_what_is_appended",
        "what_a_put_carries_is_heard_and_not_logged",
        "a_new_epoch_is_heard",
        "a_node_ahead_ends_the_epoch",
    ];
    assert_eq!(broken, about_hints, "{violations:#?}");
}
