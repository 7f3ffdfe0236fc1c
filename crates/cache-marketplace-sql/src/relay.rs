//! Publishing what a crash, or a cache that was away, left in the outbox.

use std::sync::Arc;

use async_trait::async_trait;
use cache_marketplace::{MarketError, Marketplace};
use cache_sql::{Claimed, Publish, PublishError, Relay, RelayOptions};

use crate::SqlLedger;
use crate::schema::committed_from_text;

/// Starts a relay on the current runtime. `market` must be one over this ledger, so that its events reach the caches
/// that read from it. Every node runs one: the database decides who publishes what.
pub fn start_relay(ledger: &SqlLedger, market: Marketplace, options: RelayOptions) -> Relay {
    let clock = Arc::clone(market.cache().clock());
    Relay::start(ledger.outbox().clone(), Arc::new(Announcer { market }), clock, options)
}

struct Announcer {
    market: Marketplace,
}

#[async_trait]
impl Publish for Announcer {
    async fn publish(&self, row: &Claimed) -> Result<(), PublishError> {
        let committed =
            committed_from_text(&row.payload).map_err(|error| PublishError::Never(error.into()))?;
        match self.market.announce(&committed).await {
            Ok(_) => Ok(()),
            Err(MarketError::Name(error)) => Err(PublishError::Never(error.into())),
            Err(error) => Err(PublishError::Later(error.into())),
        }
    }
}
