//! Values as they are now, from the counts.

use cache_events::{Key, Version};

use super::Versioned;
use super::state::{Gpu, Stamp, State};
use crate::keys::ALL_TYPES;
use crate::namespaces::{
    GPU_AVAILABILITY, GPU_PRICING, HISTORICAL_DATA, MARKET_STATS, ORDER_BOOK, PROVIDER_STATUS,
};
use crate::{
    Availability, BookingInfo, GpuInfo, GpuPrice, Hardware, Market, MarketStats, MarketValue, MicroUsd,
    OrderBook, PriceHistory, PriceLevel, ProviderStatus, Search, SearchPage, TypeAvailability,
};

impl State {
    pub(super) fn gpu(&self, gpu_id: &str) -> Versioned<Option<GpuInfo>> {
        let Some(gpu) = self.gpus.get(gpu_id) else { return absent() };
        let stamp = self.gpu_stamp(gpu);
        let factor = self.markets.get(&gpu.market).map_or(crate::Permille::ONE, |cell| cell.factor);
        let Hardware { memory_gb, cuda_cores, performance_score } = gpu.hardware;
        let value = GpuInfo {
            gpu_id: gpu_id.to_owned(),
            provider_id: gpu.provider.clone(),
            gpu_type: gpu.market.gpu_type.clone(),
            memory_gb,
            cuda_cores,
            base_price_per_hour: gpu.base,
            current_price_per_hour: gpu.base.scaled(factor),
            availability_status: self.status(gpu),
            region: gpu.market.region.clone(),
            performance_score,
            last_updated: stamp.at,
        };
        known(stamp, Some(value))
    }

    /// A GPU changes alone, with its provider or with its market.
    pub(super) fn gpu_stamp(&self, gpu: &Gpu) -> Stamp {
        let provider = self.providers.get(&gpu.provider).map(|provider| provider.gpus);
        let market = self.markets.get(&gpu.market).map(|cell| cell.gpus);
        gpu.stamp.max(provider.unwrap_or_default()).max(market.unwrap_or_default())
    }

    pub(super) fn availability(&self, market: &Market) -> Versioned<Option<TypeAvailability>> {
        let Some(cell) = self.markets.get(market) else { return absent() };
        let value = TypeAvailability {
            gpu_type: market.gpu_type.clone(),
            region: market.region.clone(),
            total: cell.total(),
            available: cell.available,
            busy: cell.busy,
            offline: cell.offline,
            maintenance: cell.maintenance,
            last_updated: cell.availability.at,
        };
        known(cell.availability, Some(value))
    }

    pub(super) fn price(&self, market: &Market) -> Versioned<Option<GpuPrice>> {
        let Some(cell) = self.markets.get(market) else { return absent() };
        let value = cell.lowest_base().map(|base| GpuPrice {
            gpu_type: market.gpu_type.clone(),
            region: market.region.clone(),
            base_price_per_hour: base,
            current_price_per_hour: base.scaled(cell.factor),
            last_updated: cell.price.at,
        });
        known(cell.price, value)
    }

    pub(super) fn order_book(&self, market: &Market) -> Versioned<Option<OrderBook>> {
        let Some(cell) = self.markets.get(market) else { return absent() };
        let mut levels: Vec<PriceLevel> = Vec::new();
        for (base, ids) in &cell.free {
            let (price, count) = (base.scaled(cell.factor), ids.len() as u64);
            match levels.last_mut() {
                // A factor below 1 can make two prices one.
                Some(level) if level.price_per_hour == price => {
                    level.count += count;
                    level.gpu_ids.extend(ids.iter().cloned());
                    level.gpu_ids.sort_unstable();
                }
                _ => {
                    levels.push(PriceLevel {
                        price_per_hour: price,
                        count,
                        gpu_ids: ids.iter().cloned().collect(),
                    });
                }
            }
        }
        let value = OrderBook {
            gpu_type: market.gpu_type.clone(),
            region: market.region.clone(),
            best_price: levels.first().map(|level| level.price_per_hour),
            levels,
            last_updated: cell.book.at,
        };
        known(cell.book, Some(value))
    }

    pub(super) fn market_stats(&self, of: (Option<&str>, Option<&str>)) -> Versioned<Option<MarketStats>> {
        let owned = (of.0.map(str::to_owned), of.1.map(str::to_owned));
        let Some(figures) = self.figures.get(&owned) else { return absent() };
        let (mut total, mut available, mut busy, mut price_sum) = (0, 0, 0, 0_u128);
        for (market, cell) in &self.markets {
            let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
            if fits(of.0, &market.gpu_type) && fits(of.1, &market.region) {
                total += cell.total();
                available += cell.available;
                busy += cell.busy;
                price_sum += cell.base_sum * u128::from(cell.factor.0);
            }
        }
        let value = MarketStats {
            total_gpus: total,
            available_gpus: available,
            busy_gpus: busy,
            average_price_per_hour: MicroUsd::rounded(price_sum, 1_000 * u128::from(total)),
            total_bookings_24h: figures.window.len() as u64 + figures.further,
            total_volume_24h: MicroUsd::rounded(figures.volume, 1),
            utilization_rate: if total == 0 { 0.0 } else { busy as f64 / total as f64 },
            last_updated: figures.stamp.at,
        };
        known(figures.stamp, Some(value))
    }

    pub(super) fn provider(&self, provider_id: &str) -> Versioned<Option<ProviderStatus>> {
        let Some(provider) = self.providers.get(provider_id) else { return absent() };
        if provider.stamp == Stamp::default() {
            // Named by an offer of nothing.
            return absent();
        }
        let value = ProviderStatus {
            provider_id: provider_id.to_owned(),
            status: provider.state,
            gpus: provider.live,
            last_updated: provider.stamp.at,
        };
        known(provider.stamp, Some(value))
    }

    pub(super) fn history(&self, market: &Market) -> Versioned<Option<PriceHistory>> {
        let Some(cell) = self.markets.get(market) else { return absent() };
        let (gpu_type, region) = (market.gpu_type.clone(), market.region.clone());
        let points = cell.history.iter().cloned().collect();
        known(cell.recorded, Some(PriceHistory { gpu_type, region, points }))
    }

    pub(super) fn booking(&self, booking_id: &str) -> Versioned<Option<BookingInfo>> {
        let Some(booking) = self.bookings.get(booking_id) else { return absent() };
        known(booking.stamp, Some(booking.info.clone()))
    }

    pub(super) fn search(&self, search: &Search) -> Versioned<SearchPage> {
        let cell = (search.gpu_type.clone(), search.region.clone());
        let version = self.figures.get(&cell).map_or(Version::NONE, |figures| figures.listed.version);
        let on_offer = self.gpus.iter().filter(|(_, gpu)| !gpu.withdrawn);
        let value = search.page(on_offer.filter_map(|(id, _)| self.gpu(id).value));
        Versioned { value, version }
    }

    /// The value behind a key; absent if the key is none of the marketplace's.
    pub(super) fn value(&self, key: &Key) -> Versioned<Option<MarketValue>> {
        let mut params = key.params();
        let region = match (params.next(), params.next()) {
            (None, _) => None,
            (Some(("region", region)), None) => Some(region),
            _ => return absent(),
        };
        let (namespace, resource) = (key.namespace().as_str(), key.resource());
        match region {
            Some(region) => {
                let market = Market::new(resource, region);
                match namespace {
                    name if name == GPU_AVAILABILITY.namespace => {
                        let of_type = |value| MarketValue::Availability(Availability::Type(value));
                        self.availability(&market).wrap(of_type)
                    }
                    name if name == GPU_PRICING.namespace => self.price(&market).wrap(MarketValue::Price),
                    name if name == ORDER_BOOK.namespace => {
                        self.order_book(&market).wrap(MarketValue::OrderBook)
                    }
                    name if name == HISTORICAL_DATA.namespace => {
                        self.history(&market).wrap(MarketValue::History)
                    }
                    name if name == MARKET_STATS.namespace => {
                        self.market_stats((type_of(resource), Some(region))).wrap(MarketValue::Stats)
                    }
                    _ => absent(),
                }
            }
            None => match namespace {
                name if name == GPU_AVAILABILITY.namespace => {
                    self.gpu(resource).wrap(|value| MarketValue::Availability(Availability::Gpu(value)))
                }
                name if name == PROVIDER_STATUS.namespace => {
                    self.provider(resource).wrap(MarketValue::Provider)
                }
                name if name == MARKET_STATS.namespace => {
                    self.market_stats((type_of(resource), None)).wrap(MarketValue::Stats)
                }
                _ => absent(),
            },
        }
    }
}

impl<T> Versioned<Option<T>> {
    fn wrap<U>(self, wrap: impl FnOnce(T) -> U) -> Versioned<Option<U>> {
        Versioned { value: self.value.map(wrap), version: self.version }
    }
}

fn type_of(resource: &str) -> Option<&str> {
    (resource != ALL_TYPES).then_some(resource)
}

fn known<T>(stamp: Stamp, value: Option<T>) -> Versioned<Option<T>> {
    Versioned { value, version: stamp.version }
}

fn absent<T>() -> Versioned<Option<T>> {
    Versioned { value: None, version: Version::NONE }
}
