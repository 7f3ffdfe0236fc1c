//! A node of the market: a cache over Redis, a ledger over a database, and the relay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_events::NodeId;
use cache_marketplace::{Ledger, Market, Marketplace, MicroUsd, Offer, declare};
use cache_marketplace_sql::{LedgerOptions, SqlLedger, start_relay};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_sql::{Relay, RelayOptions};
use cache_tiered::{Observer, TieredCache};

const JOIN: Duration = Duration::from_secs(10);

/// The stopwatch.
#[expect(clippy::disallowed_methods, reason = "the stopwatch of the figures")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}

pub(crate) struct Node {
    pub(crate) ledger: Arc<SqlLedger>,
    pub(crate) market: Marketplace,
    relay: Relay,
}

impl Node {
    pub(crate) async fn start(name: &str, database: &str, redis: &str) -> anyhow::Result<Self> {
        Self::start_with(name, database, redis, None).await
    }

    pub(crate) async fn start_with(
        name: &str,
        database: &str,
        redis: &str,
        observer: Option<Arc<dyn Observer>>,
    ) -> anyhow::Result<Self> {
        let config = RedisConfig::from_url(redis)?;
        let (store, transport) = (RedisStore::new(config.clone())?, RedisTransport::new(config)?);
        let mut builder =
            TieredCache::builder(NodeId::new(name)?, Arc::new(store), Arc::new(transport), |entries| {
                PolicyKind::Sieve.family(entries)
            });
        if let Some(observer) = observer {
            builder = builder.observer(observer);
        }
        let cache = declare(builder, |_, settings| settings)?.start()?;
        anyhow::ensure!(cache.sync(JOIN).await, "{name} could not join");
        let ledger = Arc::new(SqlLedger::open(database, LedgerOptions::default()).await?);
        let market = Marketplace::new(cache, ledger.clone())?;
        let options = RelayOptions { interval: Duration::from_millis(200), ..RelayOptions::default() };
        let relay = start_relay(&ledger, market.clone(), options);
        Ok(Self { ledger, market, relay })
    }

    pub(crate) fn now(&self) -> u64 {
        self.market.cache().clock().wall()
    }

    /// Puts GPUs of a type up.
    pub(crate) async fn offer(&self, gpu_model: &str, count: u32) -> anyhow::Result<Market> {
        let (min_price, avg_price) = (MicroUsd(1_650_000), MicroUsd(1_700_000));
        let (provider, gpu_model, region) = ("p".into(), gpu_model.to_owned(), "europe".into());
        let market = Market::new(&gpu_model, "europe");
        let offer = Offer { provider, gpu_model, region, count, min_price, avg_price };
        for committed in self.ledger.set_offers(offer, self.now()).await? {
            let _ = self.market.announce(&committed).await?;
        }
        Ok(market)
    }

    pub(crate) async fn stop(mut self) {
        self.relay.stop().await;
        self.market.cache().stop().await;
        self.ledger.close().await;
    }
}
