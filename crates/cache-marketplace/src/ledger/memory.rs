//! The ledger in memory: one lock around one state, so each change is atomic and each read sees whole changes.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use cache_events::{Key, NameError, Scope};
use parking_lot::Mutex;

use super::state::State;
use super::{
    BookOutcome, BookingRequest, CancelOutcome, Committed, GpuRegistration, Ledger, LedgerError, Offer,
    Versioned,
};
use crate::keys::gpu_key;
use crate::{
    AvailabilityStatus, BookingInfo, GpuInfo, GpuPrice, Market, MarketEvent, MarketStats, MarketValue,
    MicroUsd, OrderBook, PriceHistory, Pricing, ProviderState, ProviderStatus, ScarcityPricing, Search,
    SearchPage, TypeAvailability, touches,
};

/// A system of record that lives as long as the process.
///
/// ```
/// use cache_marketplace::{BookOutcome, BookingRequest, Ledger, MemoryLedger, MicroUsd, Offer};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ledger = MemoryLedger::new();
/// let (min_price, avg_price): (MicroUsd, MicroUsd) = ("1.65".parse()?, "1.70".parse()?);
/// let (provider, gpu_model, region) = ("vultr".into(), "H100".into(), "europe".into());
/// ledger.set_offers(Offer { provider, gpu_model, region, count: 4, min_price, avg_price }, 1_000).await?;
///
/// let request = BookingRequest {
///     booking_id: "b-1".into(),
///     gpu_id: "vultr/H100/1".into(),
///     user_id: "u-1".into(),
///     start_time: 1_000,
///     end_time: 3_601_000,
/// };
/// let BookOutcome::Booked { booking, .. } = ledger.book(request, 1_000).await? else { panic!() };
/// assert_eq!(booking.total_cost.to_string(), "1.65");
/// # Ok(()) }
/// ```
pub struct MemoryLedger {
    state: Mutex<State>,
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLedger {
    /// An empty market with the usual dynamic pricing.
    pub fn new() -> Self {
        Self::with_pricing(Arc::new(ScarcityPricing))
    }

    /// An empty market with another rule of pricing.
    pub fn with_pricing(pricing: Arc<dyn Pricing>) -> Self {
        Self { state: Mutex::new(State::new(pricing)) }
    }

    /// The value behind a cache key, with its version.
    pub fn value(&self, key: &Key) -> Versioned<Option<MarketValue>> {
        self.state.lock().value(key)
    }

    /// The keys that a change touched, tags resolved to the GPUs that carry them now.
    ///
    /// # Errors
    /// [`NameError`] if the event names what no key can.
    pub fn keys_of(&self, event: &MarketEvent) -> Result<Vec<Key>, NameError> {
        let mut keys = Vec::new();
        for scope in touches(event)? {
            if let Scope::Key(key) = scope {
                keys.push(key);
            }
        }
        let state = self.state.lock();
        let mut ids = Vec::new();
        if let (true, Some(provider)) = (event.subject.all_of_provider, &event.subject.provider_id) {
            ids.extend(state.ids_of_provider(provider));
        }
        if event.subject.rescaled {
            event.subject.markets.iter().for_each(|market| ids.extend(state.ids_of_market(market)));
        }
        drop(state);
        for id in ids {
            let key = gpu_key(&id)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The ids of all GPUs ever offered, in order.
    pub fn gpu_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.state.lock().gpus.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// All bookings, also those that are over or cancelled, in no order.
    pub fn bookings(&self) -> Vec<BookingInfo> {
        self.state.lock().bookings.values().map(|booking| booking.info.clone()).collect()
    }

    /// All types in all regions, in order.
    pub fn markets(&self) -> Vec<Market> {
        self.state.lock().markets.keys().cloned().collect()
    }

    /// All values, computed from scratch by going through all GPUs and bookings, without the running counts from
    /// which reads are answered. Absent values and the history are not in it.
    ///
    /// # Errors
    /// Never in practice: names were checked when they came in.
    pub fn recompute(&self) -> Result<HashMap<Key, MarketValue>, NameError> {
        self.state.lock().recompute()
    }

    /// Whether no GPU is booked twice and all counts are right.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(&self) -> Result<(), String> {
        self.state.lock().validate()
    }

    fn at<T>(&self, now: u64, change: impl FnOnce(&mut State) -> T) -> T {
        self.state.lock().at(now, change)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn book(&self, request: BookingRequest, now: u64) -> Result<BookOutcome, LedgerError> {
        self.at(now, |state| state.book(request))
    }

    async fn cancel(&self, booking_id: &str, gpu_id: &str, now: u64) -> Result<CancelOutcome, LedgerError> {
        Ok(self.at(now, |state| state.cancel(booking_id, gpu_id)))
    }

    async fn set_offers(&self, offer: Offer, now: u64) -> Result<Vec<Committed>, LedgerError> {
        self.at(now, |state| state.set_offers(offer))
    }

    async fn set_price(
        &self,
        market: &Market,
        price: MicroUsd,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError> {
        self.at(now, |state| state.set_price(market, price))
    }

    async fn put_gpu(&self, gpu: GpuRegistration, now: u64) -> Result<Vec<Committed>, LedgerError> {
        self.at(now, |state| state.put_gpu(gpu))
    }

    async fn set_gpu_status(
        &self,
        gpu_id: &str,
        status: AvailabilityStatus,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError> {
        self.at(now, |state| state.set_gpu_status(gpu_id, status))
    }

    async fn set_provider_status(
        &self,
        provider_id: &str,
        provider_state: ProviderState,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError> {
        self.at(now, |state| state.set_provider_status(provider_id, provider_state))
    }

    async fn pass_time(&self, now: u64) -> Result<Vec<Committed>, LedgerError> {
        Ok(self.at(now, |state| state.pass_time(state.now)))
    }

    async fn booking(&self, booking_id: &str) -> Result<Versioned<Option<BookingInfo>>, LedgerError> {
        Ok(self.state.lock().booking(booking_id))
    }

    async fn gpu(&self, gpu_id: &str) -> Result<Versioned<Option<GpuInfo>>, LedgerError> {
        Ok(self.state.lock().gpu(gpu_id))
    }

    async fn availability(
        &self,
        market: &Market,
    ) -> Result<Versioned<Option<TypeAvailability>>, LedgerError> {
        Ok(self.state.lock().availability(market))
    }

    async fn price(&self, market: &Market) -> Result<Versioned<Option<GpuPrice>>, LedgerError> {
        Ok(self.state.lock().price(market))
    }

    async fn order_book(&self, market: &Market) -> Result<Versioned<Option<OrderBook>>, LedgerError> {
        Ok(self.state.lock().order_book(market))
    }

    async fn market_stats(
        &self,
        gpu_type: Option<&str>,
        region: Option<&str>,
    ) -> Result<Versioned<Option<MarketStats>>, LedgerError> {
        Ok(self.state.lock().market_stats((gpu_type, region)))
    }

    async fn provider(&self, provider_id: &str) -> Result<Versioned<Option<ProviderStatus>>, LedgerError> {
        Ok(self.state.lock().provider(provider_id))
    }

    async fn history(&self, market: &Market) -> Result<Versioned<Option<PriceHistory>>, LedgerError> {
        Ok(self.state.lock().history(market))
    }

    async fn search(&self, search: &Search) -> Result<Versioned<SearchPage>, LedgerError> {
        search.check()?;
        Ok(self.state.lock().search(search))
    }

    async fn markets(&self) -> Result<Vec<Market>, LedgerError> {
        Ok(self.markets())
    }

    async fn gpu_ids(&self, after: &str, limit: u32) -> Result<Vec<String>, LedgerError> {
        Ok(self.gpu_ids().into_iter().filter(|id| id.as_str() > after).take(limit as usize).collect())
    }

    async fn bookings(&self, after: &str, limit: u32) -> Result<Vec<BookingInfo>, LedgerError> {
        let mut bookings = self.bookings();
        bookings.retain(|booking| booking.booking_id.as_str() > after);
        bookings.sort_unstable_by(|a, b| a.booking_id.cmp(&b.booking_id));
        bookings.truncate(limit as usize);
        Ok(bookings)
    }
}
