//! Every value once more from the facts alone, the dull way: by going through all GPUs and bookings.
//!
//! Written apart from the counts on purpose. Only the times and versions are taken over, and the history, which is a
//! record of the past.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cache_events::{Key, NameError};

use super::state::{DAY_MS, Gpu, State, Step};
use crate::keys::{availability_key, gpu_key, market_stats_key, order_book_key, price_key, provider_key};
use crate::touches::stats_cells;
use crate::{
    Availability, AvailabilityStatus, BookingStatus, GpuInfo, GpuPrice, Market, MarketStats, MarketValue,
    MicroUsd, OrderBook, Permille, PriceLevel, ProviderState, ProviderStatus, TypeAvailability,
};

impl State {
    /// All values by their keys.
    pub(super) fn recompute(&self) -> Result<HashMap<Key, MarketValue>, NameError> {
        let busy = self.gpus_in_use();
        let mut infos = Vec::new();
        let mut markets: BTreeSet<Market> = self.bookings.values().map(|b| b.market.clone()).collect();
        markets.extend(self.markets.keys().cloned());
        let mut factors = BTreeMap::new();
        for market in &markets {
            let on_offer = self.on_offer(market);
            let free = on_offer.iter().filter(|(id, gpu)| self.dull_status(gpu, busy.contains(*id)) == FREE);
            let factor = self.pricing.multiplier(free.count() as u64, on_offer.len() as u64);
            factors.insert(market.clone(), factor);
        }
        for (id, gpu) in &self.gpus {
            let factor = factors.get(&gpu.market).copied().unwrap_or(Permille::ONE);
            infos.push((gpu.withdrawn, self.dull_gpu(id, gpu, factor, busy.contains(&**id))));
        }
        let mut values = HashMap::new();
        for market in &markets {
            let on_offer: Vec<&GpuInfo> = infos
                .iter()
                .filter(|(withdrawn, info)| {
                    !withdrawn && info.gpu_type == market.gpu_type && info.region == market.region
                })
                .map(|(_, info)| info)
                .collect();
            self.market_values(market, &on_offer, &mut values)?;
        }
        for cell in markets.iter().flat_map(stats_cells).collect::<BTreeSet<_>>() {
            let (of_type, region) = (cell.0.as_deref(), cell.1.as_deref());
            let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
            let on_offer: Vec<(&GpuInfo, Permille)> = infos
                .iter()
                .filter(|(withdrawn, info)| {
                    !withdrawn && fits(of_type, &info.gpu_type) && fits(region, &info.region)
                })
                .map(|(_, info)| (info, factors[&Market::new(&info.gpu_type, &info.region)]))
                .collect();
            values.insert(market_stats_key(of_type, region)?, self.dull_stats(&cell, &on_offer));
        }
        for (id, provider) in self.providers.iter().filter(|(_, provider)| provider.stamp.version.0 > 0) {
            let of_provider = |info: &&(bool, GpuInfo)| !info.0 && info.1.provider_id == *id;
            let status = ProviderStatus {
                provider_id: id.clone(),
                status: provider.state,
                gpus: infos.iter().filter(of_provider).count() as u64,
                last_updated: provider.stamp.at,
            };
            values.insert(provider_key(id)?, MarketValue::Provider(status));
        }
        for (_, info) in infos {
            values.insert(gpu_key(&info.gpu_id)?, MarketValue::Availability(Availability::Gpu(info)));
        }
        Ok(values)
    }

    /// GPUs with an active booking that has begun.
    fn gpus_in_use(&self) -> BTreeSet<&str> {
        let mut ids = BTreeSet::new();
        for booking in self.bookings.values().filter(|booking| booking.info.status == BookingStatus::Active) {
            let info = &booking.info;
            if !self.timeline.contains(&(info.start_time, Step::Start, info.booking_id.clone())) {
                ids.insert(&*info.gpu_id);
            }
        }
        ids
    }

    fn on_offer(&self, market: &Market) -> Vec<(&str, &Gpu)> {
        let on_offer = |gpu: &Gpu| !gpu.withdrawn && gpu.market == *market;
        self.gpus.iter().filter(|(_, gpu)| on_offer(gpu)).map(|(id, gpu)| (&**id, gpu)).collect()
    }

    fn dull_status(&self, gpu: &Gpu, in_use: bool) -> AvailabilityStatus {
        let provider = self.providers[&gpu.provider].state;
        if gpu.withdrawn || provider == ProviderState::Offline {
            AvailabilityStatus::Offline
        } else if provider == ProviderState::Maintenance {
            AvailabilityStatus::Maintenance
        } else if gpu.own == FREE && in_use {
            AvailabilityStatus::Busy
        } else {
            gpu.own
        }
    }

    fn dull_gpu(&self, id: &str, gpu: &Gpu, factor: Permille, in_use: bool) -> GpuInfo {
        let hardware = gpu.hardware;
        GpuInfo {
            gpu_id: id.to_owned(),
            provider_id: gpu.provider.clone(),
            gpu_type: gpu.market.gpu_type.clone(),
            memory_gb: hardware.memory_gb,
            cuda_cores: hardware.cuda_cores,
            base_price_per_hour: gpu.base,
            current_price_per_hour: gpu.base.scaled(factor),
            availability_status: self.dull_status(gpu, in_use),
            region: gpu.market.region.clone(),
            performance_score: hardware.performance_score,
            last_updated: self.gpu_stamp(gpu).at,
        }
    }

    fn market_values(
        &self,
        market: &Market,
        on_offer: &[&GpuInfo],
        values: &mut HashMap<Key, MarketValue>,
    ) -> Result<(), NameError> {
        let Market { gpu_type, region } = market.clone();
        let count = |status| on_offer.iter().filter(|info| info.availability_status == status).count() as u64;
        let cell = &self.markets[market];
        let of_type = TypeAvailability {
            gpu_type: gpu_type.clone(),
            region: region.clone(),
            total: on_offer.len() as u64,
            available: count(FREE),
            busy: count(AvailabilityStatus::Busy),
            offline: count(AvailabilityStatus::Offline),
            maintenance: count(AvailabilityStatus::Maintenance),
            last_updated: cell.availability.at,
        };
        let value = MarketValue::Availability(Availability::Type(of_type));
        values.insert(availability_key(&gpu_type, &region)?, value);
        if let Some(cheapest) = on_offer.iter().min_by_key(|info| info.base_price_per_hour) {
            let price = GpuPrice {
                gpu_type: gpu_type.clone(),
                region: region.clone(),
                base_price_per_hour: cheapest.base_price_per_hour,
                current_price_per_hour: cheapest.current_price_per_hour,
                last_updated: cell.price.at,
            };
            values.insert(price_key(&gpu_type, &region)?, MarketValue::Price(price));
        }
        let mut by_price: BTreeMap<MicroUsd, Vec<String>> = BTreeMap::new();
        for info in on_offer.iter().filter(|info| info.availability_status == FREE) {
            by_price.entry(info.current_price_per_hour).or_default().push(info.gpu_id.clone());
        }
        let level = |(price_per_hour, mut gpu_ids): (MicroUsd, Vec<String>)| {
            gpu_ids.sort_unstable();
            PriceLevel { price_per_hour, count: gpu_ids.len() as u64, gpu_ids }
        };
        let book = OrderBook {
            gpu_type: gpu_type.clone(),
            region: region.clone(),
            best_price: by_price.keys().next().copied(),
            levels: by_price.into_iter().map(level).collect(),
            last_updated: cell.book.at,
        };
        values.insert(order_book_key(&gpu_type, &region)?, MarketValue::OrderBook(book));
        Ok(())
    }

    fn dull_stats(
        &self,
        cell: &(Option<String>, Option<String>),
        on_offer: &[(&GpuInfo, Permille)],
    ) -> MarketValue {
        let as_of = self.figures.get(cell).map_or(0, |figures| figures.stamp.at);
        let (mut bookings, mut volume) = (0, 0);
        for booking in self.bookings.values() {
            let counted = stats_cells(&booking.market).contains(cell)
                && booking.info.status != BookingStatus::Cancelled
                && booking.info.created_at.saturating_add(DAY_MS) > as_of;
            if counted {
                bookings += 1;
                volume += u128::from(booking.info.total_cost.0);
            }
        }
        let prices = on_offer
            .iter()
            .map(|(info, factor)| u128::from(info.base_price_per_hour.0) * u128::from(factor.0));
        let (total, price_sum) = (on_offer.len() as u64, prices.sum());
        let count =
            |status| on_offer.iter().filter(|(info, _)| info.availability_status == status).count() as u64;
        let busy = count(AvailabilityStatus::Busy);
        MarketValue::Stats(MarketStats {
            total_gpus: total,
            available_gpus: count(FREE),
            busy_gpus: busy,
            average_price_per_hour: MicroUsd::rounded(price_sum, 1_000 * u128::from(total)),
            total_bookings_24h: bookings,
            total_volume_24h: MicroUsd::rounded(volume, 1),
            utilization_rate: if total == 0 { 0.0 } else { busy as f64 / total as f64 },
            last_updated: as_of,
        })
    }

    /// Whether the facts are sound and every counted value is the recomputed one.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (id, gpu) in &self.gpus {
            let mut until = 0;
            for (start, (end, booking)) in &gpu.schedule {
                if *start < until {
                    return Err(format!("{id} is booked twice at {start}, once by {booking}"));
                }
                until = *end;
            }
            let active =
                |b: &&super::state::Booking| b.info.gpu_id == *id && b.info.status == BookingStatus::Active;
            let active = self.bookings.values().filter(active).count();
            if active != gpu.schedule.len() {
                return Err(format!(
                    "{id} has {active} active bookings and {} in its schedule",
                    gpu.schedule.len()
                ));
            }
        }
        for ((provider, model), group) in &self.groups {
            if group.live < group.wanted {
                return Err(format!(
                    "{provider} offers {} of {model}, of which {} live",
                    group.wanted, group.live
                ));
            }
        }
        let values = self.recompute().map_err(|error| error.to_string())?;
        for (key, expected) in &values {
            let counted = self.value(key).value;
            if counted.as_ref() != Some(expected) {
                return Err(format!("{key} is counted as {counted:?}, recomputed as {expected:?}"));
            }
        }
        for market in self.markets.keys() {
            let key = price_key(&market.gpu_type, &market.region).map_err(|error| error.to_string())?;
            if self.price(market).value.is_some() && !values.contains_key(&key) {
                return Err(format!("{key} is counted, but nothing is on offer"));
            }
        }
        Ok(())
    }
}

const FREE: AvailabilityStatus = AvailabilityStatus::Available;
