//! What the auditor of a node asks the system of record: of which version it would give a key's value now.

use std::sync::Arc;

use async_trait::async_trait;
use cache_events::{Key, NameError, Namespace, Version};
use cache_tiered::{AuditSource, Builder};

use crate::keys::ALL_TYPES;
use crate::ledger::{Ledger, LedgerError};
use crate::namespaces::{
    BOOKING, GPU_AVAILABILITY, GPU_PRICING, MARKET, MARKET_STATS, ORDER_BOOK, PROVIDER_STATUS,
};
use crate::touches::Market;

/// Lets the auditor of a node compare its answers with the ledger too, not with L2 alone: in all namespaces of the
/// marketplace of which changes are announced.
///
/// # Errors
/// [`NameError`] never in practice: the table holds valid names.
pub fn audit_by(builder: Builder, ledger: Arc<dyn Ledger>) -> Result<Builder, NameError> {
    let source = Arc::new(Versions(ledger));
    MARKET.iter().filter(|of| of.event_driven).try_fold(builder, |builder, of| {
        Ok(builder.audit_source(Namespace::new(of.namespace)?, source.clone()))
    })
}

/// The versions of a ledger's values.
struct Versions(Arc<dyn Ledger>);

impl Versions {
    async fn read(&self, key: &Key) -> Result<Option<Version>, LedgerError> {
        const AVAILABILITY: &str = GPU_AVAILABILITY.namespace;
        const PRICING: &str = GPU_PRICING.namespace;
        const BOOK: &str = ORDER_BOOK.namespace;
        const PROVIDER: &str = PROVIDER_STATUS.namespace;
        const STATS: &str = MARKET_STATS.namespace;
        const BOOKINGS: &str = BOOKING.namespace;
        let (ledger, resource) = (&self.0, key.resource());
        let region = key.params().find(|(name, _)| *name == "region").map(|(_, region)| region);
        let market = region.map(|region| Market::new(resource, region));
        Ok(Some(match (key.namespace().as_str(), &market) {
            (AVAILABILITY, None) => ledger.gpu(resource).await?.version,
            (AVAILABILITY, Some(market)) => ledger.availability(market).await?.version,
            (PRICING, Some(market)) => ledger.price(market).await?.version,
            (BOOK, Some(market)) => ledger.order_book(market).await?.version,
            (PROVIDER, None) => ledger.provider(resource).await?.version,
            (STATS, _) => {
                let gpu_type = Some(resource).filter(|resource| *resource != ALL_TYPES);
                ledger.market_stats(gpu_type, region).await?.version
            }
            (BOOKINGS, None) => ledger.booking(resource).await?.version,
            // Pages of searches: they would be searched for anew.
            _ => return Ok(None),
        }))
    }
}

#[async_trait]
impl AuditSource for Versions {
    async fn version(&self, key: &Key) -> Option<Version> {
        // One that does not answer says nothing about what is cached.
        self.read(key).await.ok().flatten()
    }
}
