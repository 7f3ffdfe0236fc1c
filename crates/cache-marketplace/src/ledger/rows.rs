//! The facts and counts of the ledger as rows, for ledgers that keep them elsewhere.

use std::collections::BTreeMap;

use super::Committed;
use super::state::{Booking, Cell, Figures, Gpu, Group, Provider, Stamp};
use crate::{
    AvailabilityStatus, BookingInfo, BookingStatus, Hardware, HistoricalPoint, Market, MicroUsd, Permille,
    ProviderState,
};

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRow {
    /// Its id.
    pub gpu_id: String,
    /// Who offers it.
    pub provider: String,
    /// Its type, and where it stands.
    pub market: Market,
    /// What it is.
    pub hardware: Hardware,
    /// Whether it came by itself and not with an offer.
    pub registered: bool,
    /// Its price per hour before dynamic pricing.
    pub base: MicroUsd,
    /// What was set for it alone.
    pub own: AvailabilityStatus,
    /// No longer offered.
    pub withdrawn: bool,
    /// How many of its active bookings have begun.
    pub begun: u32,
    /// When it last changed alone.
    pub stamp: Stamp,
}

impl GpuRow {
    pub(super) fn of(id: &str, gpu: &Gpu, registered: bool) -> Self {
        let Gpu { provider, market, hardware, base, own, withdrawn, begun, stamp, .. } = gpu;
        Self {
            gpu_id: id.to_owned(),
            provider: provider.clone(),
            market: market.clone(),
            hardware: *hardware,
            registered,
            base: *base,
            own: *own,
            withdrawn: *withdrawn,
            begun: *begun,
            stamp: *stamp,
        }
    }
}

/// What one provider offers of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// The provider.
    pub provider: String,
    /// The model.
    pub gpu_type: String,
    /// Where its GPUs stand.
    pub region: String,
    /// The lowest price.
    pub min_price: MicroUsd,
    /// The mean price.
    pub avg_price: MicroUsd,
    /// How many are offered.
    pub wanted: u32,
    /// How many are on the market.
    pub live: u32,
    /// How many there ever were.
    pub made: u32,
}

impl GroupRow {
    pub(super) fn of((provider, gpu_type): &(String, String), group: &Group) -> Self {
        let Group { region, min_price, avg_price, wanted, live, made } = group;
        Self {
            provider: provider.clone(),
            gpu_type: gpu_type.clone(),
            region: region.clone(),
            min_price: *min_price,
            avg_price: *avg_price,
            wanted: *wanted,
            live: *live,
            made: *made,
        }
    }
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRow {
    /// Its id.
    pub provider_id: String,
    /// Whether it can be reached.
    pub state: ProviderState,
    /// How many of its GPUs are on the market.
    pub live: u64,
    /// When it last changed.
    pub stamp: Stamp,
    /// When all its GPUs last changed together.
    pub gpus: Stamp,
}

impl ProviderRow {
    pub(super) fn of(id: &str, provider: &Provider) -> Self {
        let Provider { state, live, stamp, gpus } = provider;
        Self { provider_id: id.to_owned(), state: *state, live: *live, stamp: *stamp, gpus: *gpus }
    }
}

/// One booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookingRow {
    /// What others see of it.
    pub info: BookingInfo,
    /// Where its GPU stood when it was booked.
    pub market: Market,
    /// Whether its GPU took notice of its start.
    pub begun: bool,
    /// The commit that made it.
    pub created: Committed,
    /// The commit that called it off.
    pub cancelled: Option<Committed>,
    /// When it last changed.
    pub stamp: Stamp,
}

impl BookingRow {
    pub(super) fn of(booking: &Booking, begun: bool) -> Self {
        let Booking { info, market, created, cancelled, stamp } = booking;
        // What is over or cancelled has no start to come.
        let begun = begun || info.status != BookingStatus::Active;
        Self {
            info: info.clone(),
            market: market.clone(),
            begun,
            created: created.clone(),
            cancelled: cancelled.clone(),
            stamp: *stamp,
        }
    }
}

/// A type in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketRow {
    /// The type and the region.
    pub market: Market,
    /// How many GPUs are available, busy, offline and in maintenance.
    pub counts: [u64; 4],
    /// Sum of the base prices of all on offer.
    pub base_sum: u128,
    /// How many on offer have this base price.
    pub bases: BTreeMap<MicroUsd, u64>,
    /// The dynamic factor.
    pub factor: Permille,
    /// When its availability, price, order book, history and all its GPUs together last changed.
    pub stamps: [Stamp; 5],
    /// How many points its history ever had.
    pub points: u64,
    /// The last of these points, oldest first: at least the very last, if there is one.
    pub history: Vec<HistoricalPoint>,
}

impl MarketRow {
    pub(super) fn of(market: &Market, cell: &Cell, before: Option<&Self>) -> Self {
        let (points, known) = before.map_or((0, 0), |before| (before.points, before.history.len()));
        Self {
            market: market.clone(),
            counts: [cell.available, cell.busy, cell.offline, cell.maintenance],
            base_sum: cell.base_sum,
            bases: cell.bases.clone(),
            factor: cell.factor,
            stamps: [cell.availability, cell.price, cell.book, cell.recorded, cell.gpus],
            points: points + (cell.history.len() - known) as u64,
            history: cell.history.iter().cloned().collect(),
        }
    }
}

impl MarketRow {
    /// The numbers of GPUs of one base price that are not what they were.
    pub(super) fn levels_since(&self, before: Option<&Self>, changed: &mut Vec<(Market, MicroUsd, u64)>) {
        let none = BTreeMap::new();
        let old = before.map_or(&none, |before| &before.bases);
        let gone = old.keys().filter(|base| !self.bases.contains_key(base)).map(|base| (base, &0));
        for (base, count) in self.bases.iter().chain(gone) {
            if old.get(base) != Some(count) {
                changed.push((self.market.clone(), *base, *count));
            }
        }
    }

    /// The points of the history that are new, or not what they were, with their numbers.
    pub(super) fn points_since(
        &self,
        before: Option<&Self>,
        changed: &mut Vec<(Market, u64, HistoricalPoint)>,
    ) {
        let old: &[HistoricalPoint] = before.map_or(&[], |before| &before.history);
        let first = self.points + 1 - self.history.len() as u64;
        for (at, (point, number)) in self.history.iter().zip(first..).enumerate() {
            if old.get(at) != Some(point) {
                changed.push((self.market.clone(), number, point.clone()));
            }
        }
    }
}

/// Figures over bookings of one type or all, in one region or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiguresRow {
    /// The type; `None` for all.
    pub gpu_type: Option<String>,
    /// The region; `None` for all.
    pub region: Option<String>,
    /// How many bookings of the 24 hours before the stamp are counted.
    pub bookings: u64,
    /// What they cost.
    pub volume: u128,
    /// When this last changed.
    pub stamp: Stamp,
    /// When a GPU of these markets last changed in any way.
    pub listed: Stamp,
    /// Of the counted bookings those that are about to leave, and those that may be cancelled: when each was made,
    /// its id and cost. Not to be stored.
    pub window: BTreeMap<(u64, String), MicroUsd>,
}

impl FiguresRow {
    pub(super) fn of((gpu_type, region): &(Option<String>, Option<String>), figures: &Figures) -> Self {
        Self {
            gpu_type: gpu_type.clone(),
            region: region.clone(),
            bookings: figures.window.len() as u64 + figures.further,
            volume: figures.volume,
            stamp: figures.stamp,
            listed: figures.listed,
            window: figures.window.clone(),
        }
    }
}
