//! The one place where policy, store and transport are chosen.

use std::sync::Arc;

use anyhow::Context;
use cache_bus::Transport;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{CacheEvent, Clock, Partition, Position};
use cache_l2::Store;
use cache_marketplace::{
    Availability, BookingInfo, GpuPrice, Ledger, MarketStats, OrderBook, PriceHistory, ProviderStatus,
    SearchPage, audit_by,
};
use cache_redis::{RedisStats, RedisStore, RedisTransport};
use cache_tiered::{AuditSettings, Builder, CoarseClock, FlushCause, NodeSettings, Observer, TieredCache};
use serde_json::Value;

use crate::config::{Backing, CacheTypePlan, NodeConfig};
use crate::events::Events;

/// What the nodes share, as parts.
#[derive(Clone)]
pub struct Shared {
    /// The shared tier.
    pub store: Arc<dyn Store>,
    /// What carries invalidations.
    pub transport: Arc<dyn Transport>,
    /// The clock of this process.
    pub clock: Arc<dyn Clock>,
    /// The same store where it is Redis, for figures of its own.
    pub redis: Option<Arc<RedisStore>>,
    /// The same transport where it is Redis.
    pub redis_transport: Option<Arc<RedisTransport>>,
}

impl Shared {
    /// Makes the parts. Nothing is connected yet: a Redis that is away is no error here.
    ///
    /// # Errors
    /// A setting is out of range or a certificate cannot be used.
    pub fn of(backing: &Backing) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(CoarseClock::new());
        Ok(match backing {
            Backing::Embedded => {
                let server = EmbeddedServer::new(EmbeddedConfig::default(), clock.clone());
                Self::embedded(&server, clock)
            }
            Backing::Redis(config) => {
                let store = Arc::new(RedisStore::new((**config).clone())?);
                let transport = Arc::new(RedisTransport::new((**config).clone())?);
                let redis_transport = Some(transport.clone());
                Self { store: store.clone(), transport, clock, redis: Some(store), redis_transport }
            }
        })
    }

    /// A server inside of this process, with other nodes beside this one on it.
    pub fn embedded(server: &EmbeddedServer, clock: Arc<dyn Clock>) -> Self {
        let (store, transport) = (Arc::new(server.clone()), Arc::new(server.clone()));
        Self { store, transport, clock, redis: None, redis_transport: None }
    }

    /// What goes on in the clients of Redis; nothing without one.
    pub fn redis_stats(&self) -> Option<RedisStats> {
        let store = self.redis.as_ref()?.stats();
        Some(self.redis_transport.as_ref().map_or(store, |transport| store.and(transport.stats())))
    }
}

/// Starts the cache of a node on what the nodes share. Its auditor asks the ledger too; `events` hears what it applies, and so does
/// `beside`.
///
/// # Errors
/// Settings contradict each other.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn start(
    config: &NodeConfig,
    shared: &Shared,
    ledger: Arc<dyn Ledger>,
    events: &Arc<Events>,
    beside: Option<Arc<dyn Observer>>,
) -> anyhow::Result<TieredCache> {
    let observer: Arc<dyn Observer> = match beside {
        Some(beside) => Arc::new(Both(events.clone(), beside)),
        None => events.clone(),
    };
    let eviction = config.eviction;
    let (store, transport) = (shared.store.clone(), shared.transport.clone());
    let policy = move |entries| eviction.family(entries);
    let builder = TieredCache::builder(config.identity.id.clone(), store, transport, policy)
        .clock(shared.clock.clone())
        .bus(config.bus.clone())
        .observer(observer)
        .settings(NodeSettings {
            l1_bytes_max: config.l1_bytes_max,
            write_deadline: config.write_deadline,
            public_channel: config.public_channel,
            audit: (config.audit_rate > 0.0)
                .then(|| AuditSettings { rate: config.audit_rate, ..AuditSettings::default() }),
            ..NodeSettings::default()
        });
    let builder = audit_by(declare(builder, &config.cache_types), ledger)?;
    let cache = builder.start().context("the cache cannot be put together")?;
    events.attach(cache.view().clone());
    Ok(cache)
}

/// Two who hear the same.
struct Both(Arc<dyn Observer>, Arc<dyn Observer>);

impl Observer for Both {
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent) {
        self.0.applied(partition, position, event);
        self.1.applied(partition, position, event);
    }

    fn wrote(&self, partition: Partition, position: Position, event: &CacheEvent) {
        self.0.wrote(partition, position, event);
        self.1.wrote(partition, position, event);
    }

    fn stands(&self, partition: Partition, position: Position) {
        self.0.stands(partition, position);
        self.1.stands(partition, position);
    }

    fn flushed(&self, partition: Partition, epoch: u64, cause: FlushCause) {
        self.0.flushed(partition, epoch, cause);
        self.1.flushed(partition, epoch, cause);
    }
}

/// Declares cache types: those of the marketplace with their Rust types, all others as free JSON.
pub fn declare(builder: Builder, plans: &[CacheTypePlan]) -> Builder {
    plans.iter().fold(builder, |builder, plan| {
        let settings = plan.settings.clone();
        if plan.free_json {
            return builder.namespace::<Value>(settings);
        }
        match plan.settings.namespace.as_str() {
            "gpu_avail" => builder.namespace::<Availability>(settings),
            "gpu_pricing" => builder.namespace::<GpuPrice>(settings),
            "order_book" => builder.namespace::<OrderBook>(settings),
            "provider_status" => builder.namespace::<ProviderStatus>(settings),
            "market_stats" => builder.namespace::<MarketStats>(settings),
            "historical" => builder.namespace::<PriceHistory>(settings),
            "gpu_listing" => builder.namespace::<SearchPage>(settings),
            "booking" => builder.namespace::<BookingInfo>(settings),
            other => unreachable!("the table of the marketplace has no namespace {other}"),
        }
    })
}
