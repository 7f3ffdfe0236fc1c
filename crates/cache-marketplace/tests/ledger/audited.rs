//! A node's auditor that may ask the ledger sees changes that nobody announced.

use std::sync::Arc;
use std::time::Duration;

use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::NodeId;
use cache_marketplace::{Ledger, Marketplace, MemoryLedger, MicroUsd, audit_by, declare};
use cache_policy::PolicyKind;
use cache_testkit::ManualClock;
use cache_tiered::{AuditSettings, NodeSettings, TieredCache};

use crate::{europe, offer};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_change_of_the_ledger_that_nobody_announced_is_told() {
    for (by_ledger, changed) in [(true, true), (true, false), (false, true)] {
        let clock = Arc::new(ManualClock::default());
        let server = Arc::new(EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()));
        let audit =
            AuditSettings { rate: 1.0, every: Duration::from_secs(3_600), ..AuditSettings::default() };
        let builder = TieredCache::builder(NodeId::new("a").unwrap(), server.clone(), server, |n| {
            PolicyKind::Sieve.family(n)
        });
        let builder = builder
            .clock(clock.clone())
            .settings(NodeSettings { audit: Some(audit), ..NodeSettings::default() });
        let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
        ledger.set_offers(offer("p", "europe", 3, (1_000_000, 2_000_000)), 1).await.unwrap();
        let mut builder = declare(builder, |_, settings| settings).unwrap();
        if by_ledger {
            builder = audit_by(builder, ledger.clone()).unwrap();
        }
        let market = Marketplace::new(builder.start().unwrap(), ledger.clone()).unwrap();
        let cache = market.cache();
        assert!(cache.sync(SOON).await);
        let read = async || {
            market.price(&europe()).await.unwrap();
            market.availability(&europe()).await.unwrap();
            market.stats(Some("H100"), None).await.unwrap();
            cache.audit_now().await;
        };
        read().await;
        if changed {
            let price = MicroUsd(9_000_000);
            assert!(!ledger.set_price(&europe(), price, 2).await.unwrap().is_empty());
        }
        read().await;
        for _ in 0..5 {
            clock.advance(Duration::from_millis(500));
            assert!(cache.sync(SOON).await);
        }
        read().await;
        let of = |namespace: &str| {
            let stats = cache.stats();
            let found = stats.iter().find(|(name, _)| name.as_str() == namespace).unwrap();
            let audit = found.1.audit.unwrap();
            (audit.outside > 0, audit.violations)
        };
        let told = by_ledger && changed;
        assert_eq!(of("gpu_pricing"), (told, 0), "its price has changed");
        assert_eq!(of("market_stats"), (told, 0), "and with it the figures");
        assert_eq!(of("gpu_avail"), (false, 0), "as many are free as before");
        cache.stop().await;
    }
}
