//! The marketplace through the cache: reads load from the ledger, changes are committed there and then published.
//!
//! Nothing here knows which entries a change concerns: that is the table in [`mod@crate::touches`].

use std::sync::Arc;

use cache_events::{Key, NameError, Tag};
use cache_tiered::{
    Answer, Builder, Cacheable, EventDraft, Loaded, NamespaceError, NamespaceSettings, ReadError,
    ReadOptions, SourceError, TieredCache, TypedCache, WriteError, Written,
};

use crate::ledger::{Committed, Ledger, LedgerError, Versioned};
use crate::namespaces::{
    BOOKING, CacheTypeSettings, GPU_AVAILABILITY, GPU_LISTING, GPU_PRICING, HISTORICAL_DATA, MARKET_STATS,
    ORDER_BOOK, PROVIDER_STATUS,
};
use crate::touches::{Market, touches};
use crate::{
    Availability, BookingInfo, GpuPrice, MarketStats, OrderBook, PriceHistory, ProviderStatus, Search,
    SearchPage, keys,
};

/// Why the marketplace did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarketError {
    /// A name cannot be part of a key.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The read failed; usually the ledger did.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The change is committed, but was not acknowledged by the cache; the node goes on trying to announce it.
    #[error("committed, but not yet announced: {0}")]
    Unannounced(#[from] WriteError),
    /// The ledger refused or did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The settings of a cache type as the engine takes them; the byte budget bounds L1.
///
/// # Errors
/// [`NameError`] never in practice: the table holds valid names.
pub fn namespace_settings(of: &CacheTypeSettings) -> Result<NamespaceSettings, NameError> {
    let mut settings = NamespaceSettings::new(cache_events::Namespace::new(of.namespace)?).ttl(of.ttl);
    settings.event_driven = of.event_driven;
    settings.l1_bytes_max = of.budget_bytes;
    Ok(if of.critical { settings.critical() } else { settings })
}

/// Declares the namespaces of the marketplace. `adjust` may change the settings of each, for example its bounds.
///
/// # Errors
/// [`NameError`] never in practice.
pub fn declare(
    builder: Builder,
    mut adjust: impl FnMut(&CacheTypeSettings, NamespaceSettings) -> NamespaceSettings,
) -> Result<Builder, NameError> {
    let mut settings = |of: &CacheTypeSettings| Ok(adjust(of, namespace_settings(of)?));
    Ok(builder
        .namespace::<Availability>(settings(&GPU_AVAILABILITY)?)
        .namespace::<GpuPrice>(settings(&GPU_PRICING)?)
        .namespace::<OrderBook>(settings(&ORDER_BOOK)?)
        .namespace::<ProviderStatus>(settings(&PROVIDER_STATUS)?)
        .namespace::<MarketStats>(settings(&MARKET_STATS)?)
        .namespace::<PriceHistory>(settings(&HISTORICAL_DATA)?)
        .namespace::<SearchPage>(settings(&GPU_LISTING)?)
        .namespace::<BookingInfo>(settings(&BOOKING)?))
}

/// The marketplace on one node. Cheap to clone.
#[derive(Clone)]
pub struct Marketplace {
    cache: TieredCache,
    ledger: Arc<dyn Ledger>,
    availability: TypedCache<Availability>,
    pricing: TypedCache<GpuPrice>,
    order_books: TypedCache<OrderBook>,
    providers: TypedCache<ProviderStatus>,
    stats: TypedCache<MarketStats>,
    history: TypedCache<PriceHistory>,
    listings: TypedCache<SearchPage>,
    bookings: TypedCache<BookingInfo>,
    options: ReadOptions,
}

impl Marketplace {
    /// The marketplace over a cache whose namespaces were [declared](declare), and a ledger.
    ///
    /// # Errors
    /// [`NamespaceError`] if a namespace was not declared, or with another type.
    pub fn new(cache: TieredCache, ledger: Arc<dyn Ledger>) -> Result<Self, NamespaceError> {
        Ok(Self {
            availability: cache.namespace(GPU_AVAILABILITY.namespace)?,
            pricing: cache.namespace(GPU_PRICING.namespace)?,
            order_books: cache.namespace(ORDER_BOOK.namespace)?,
            providers: cache.namespace(PROVIDER_STATUS.namespace)?,
            stats: cache.namespace(MARKET_STATS.namespace)?,
            history: cache.namespace(HISTORICAL_DATA.namespace)?,
            listings: cache.namespace(GPU_LISTING.namespace)?,
            bookings: cache.namespace(BOOKING.namespace)?,
            cache,
            ledger,
            options: ReadOptions::default(),
        })
    }

    /// The same marketplace, whose reads have these wishes.
    #[must_use]
    pub fn reading(&self, options: ReadOptions) -> Self {
        Self { options, ..self.clone() }
    }

    /// The cache.
    pub fn cache(&self) -> &TieredCache {
        &self.cache
    }

    /// The system of record.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// One GPU: an [`Availability::Gpu`], or the knowledge that there is none.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn gpu(&self, gpu_id: &str) -> Result<Answer<Availability>, MarketError> {
        self.gpu_at(&keys::gpu_key(gpu_id)?).await
    }

    /// [`gpu`](Self::gpu) by its key, for callers that keep it.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn gpu_at(&self, key: &Key) -> Result<Answer<Availability>, MarketError> {
        let (ledger, id) = (self.ledger.clone(), key.clone());
        let load = move || async move {
            let found = ledger.gpu(id.resource()).await?;
            let tags = match &found.value {
                Some(gpu) => keys::gpu_tags(gpu)?,
                None => Vec::new(),
            };
            Ok(loaded(found, Availability::Gpu, tags))
        };
        self.read(&self.availability, key, load).await
    }

    /// How many GPUs of a type are free in a region: an [`Availability::Type`].
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn availability(&self, market: &Market) -> Result<Answer<Availability>, MarketError> {
        let key = keys::availability_key(&market.gpu_type, &market.region)?;
        let (ledger, market) = (self.ledger.clone(), market.clone());
        let load = move || async move {
            Ok(loaded(ledger.availability(&market).await?, Availability::Type, vec![]))
        };
        self.read(&self.availability, &key, load).await
    }

    /// What a type costs in a region.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn price(&self, market: &Market) -> Result<Answer<GpuPrice>, MarketError> {
        let key = keys::price_key(&market.gpu_type, &market.region)?;
        let (ledger, market) = (self.ledger.clone(), market.clone());
        self.read(&self.pricing, &key, move || async move { Ok(plain(ledger.price(&market).await?)) }).await
    }

    /// The free GPUs of a type in a region by price.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn order_book(&self, market: &Market) -> Result<Answer<OrderBook>, MarketError> {
        let key = keys::order_book_key(&market.gpu_type, &market.region)?;
        let (ledger, market) = (self.ledger.clone(), market.clone());
        self.read(
            &self.order_books,
            &key,
            move || async move { Ok(plain(ledger.order_book(&market).await?)) },
        )
        .await
    }

    /// A provider.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn provider(&self, provider_id: &str) -> Result<Answer<ProviderStatus>, MarketError> {
        let key = keys::provider_key(provider_id)?;
        let (ledger, id) = (self.ledger.clone(), provider_id.to_owned());
        self.read(&self.providers, &key, move || async move { Ok(plain(ledger.provider(&id).await?)) }).await
    }

    /// Figures over one type or all, in one region or all.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn stats(
        &self,
        gpu_type: Option<&str>,
        region: Option<&str>,
    ) -> Result<Answer<MarketStats>, MarketError> {
        let key = keys::market_stats_key(gpu_type, region)?;
        let ledger = self.ledger.clone();
        let (gpu_type, region) = (gpu_type.map(str::to_owned), region.map(str::to_owned));
        let load = move || async move {
            Ok(plain(ledger.market_stats(gpu_type.as_deref(), region.as_deref()).await?))
        };
        self.read(&self.stats, &key, load).await
    }

    /// The past of a type in a region; trusted by its TTL alone.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn history(&self, market: &Market) -> Result<Answer<PriceHistory>, MarketError> {
        let key = keys::history_key(&market.gpu_type, &market.region)?;
        let (ledger, market) = (self.ledger.clone(), market.clone());
        self.read(&self.history, &key, move || async move { Ok(plain(ledger.history(&market).await?)) }).await
    }

    /// A booking.
    ///
    /// # Errors
    /// [`MarketError`].
    pub async fn booking(&self, booking_id: &str) -> Result<Answer<BookingInfo>, MarketError> {
        let key = keys::booking_key(booking_id)?;
        let (ledger, id) = (self.ledger.clone(), booking_id.to_owned());
        self.read(&self.bookings, &key, move || async move { Ok(plain(ledger.booking(&id).await?)) }).await
    }

    /// One page of a search.
    ///
    /// # Errors
    /// [`MarketError`]; [`LedgerError::Invalid`] names the field that cannot be.
    pub async fn search(&self, search: &Search) -> Result<Answer<SearchPage>, MarketError> {
        search.check()?;
        let key = keys::listing_key(search)?;
        let tag = keys::listing_tag(search.gpu_type.as_deref(), search.region.as_deref())?;
        let (ledger, search) = (self.ledger.clone(), search.clone());
        let load = move || async move {
            let Versioned { value, version } = ledger.search(&search).await?;
            Ok(loaded(Versioned { value: Some(value), version }, |page| page, vec![tag]))
        };
        self.read(&self.listings, &key, load).await
    }

    /// Announces a change that the ledger has committed. Repeating it is harmless.
    ///
    /// # Errors
    /// [`MarketError::Unannounced`]; the node goes on trying.
    pub async fn announce(&self, committed: &Committed) -> Result<Written, MarketError> {
        let event = &committed.event;
        let mut draft = EventDraft::new(event.kind.clone(), event.resource_id());
        draft.scopes = touches(event)?;
        draft.data = event.data().ok();
        let written = self.cache.publish(draft).await?;
        self.ledger.announced(committed);
        Ok(written)
    }

    async fn read<V, L, F>(&self, cache: &TypedCache<V>, key: &Key, load: L) -> Result<Answer<V>, MarketError>
    where
        V: Cacheable,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, SourceError>> + Send + 'static,
    {
        Ok(cache.get_or_load_with(key, &self.options, load).await?)
    }
}

fn loaded<T, V>(found: Versioned<Option<T>>, wrap: impl FnOnce(T) -> V, tags: Vec<Tag>) -> Loaded<V> {
    let mut loaded = Loaded::from(found.value.map(wrap)).versioned(found.version);
    loaded.tags = tags;
    loaded
}

fn plain<V>(found: Versioned<Option<V>>) -> Loaded<V> {
    loaded(found, |value| value, Vec::new())
}
