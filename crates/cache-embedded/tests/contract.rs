//! The contracts of the ports that this crate implements.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_l2::Store;
use cache_l2::contract::{self as store_contract, PublicEvents};
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
