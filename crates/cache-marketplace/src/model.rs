//! What is cached. Field names are part of the HTTP interface.
//!
//! Timestamps are milliseconds since the Unix epoch. `last_updated` is the time of the last change that could alter
//! the value.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::MicroUsd;

mod availability;

pub use availability::Availability;

/// Whether a GPU can be rented now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AvailabilityStatus {
    /// Free.
    Available,
    /// Rented.
    Busy,
    /// Not reachable, or no longer offered.
    Offline,
    /// Taken out by its provider for a while.
    Maintenance,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuInfo {
    /// `<provider>/<model>/<n>`.
    pub gpu_id: String,
    /// Who offers it.
    pub provider_id: String,
    /// The model, for example `H100_80GB_SXM5`.
    pub gpu_type: String,
    /// Memory in GB; 0 where unknown.
    pub memory_gb: u32,
    /// CUDA cores; 0 where unknown.
    pub cuda_cores: u32,
    /// The provider's price per hour.
    pub base_price_per_hour: MicroUsd,
    /// The price per hour now, after dynamic pricing.
    pub current_price_per_hour: MicroUsd,
    /// Whether it can be rented.
    pub availability_status: AvailabilityStatus,
    /// Where it stands.
    pub region: String,
    /// Dense FP16 tensor TFLOPS by the data sheet; 0 where unknown.
    pub performance_score: u32,
    /// When this last changed.
    pub last_updated: u64,
}

/// How many GPUs of a type in a region are in which state. GPUs that their provider no longer offers are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypeAvailability {
    /// The model.
    pub gpu_type: String,
    /// The region.
    pub region: String,
    /// All GPUs on offer; the sum of the next four.
    pub total: u64,
    /// Free.
    pub available: u64,
    /// Rented.
    pub busy: u64,
    /// Not reachable.
    pub offline: u64,
    /// In maintenance.
    pub maintenance: u64,
    /// When this last changed.
    pub last_updated: u64,
}

/// What a GPU of a type costs in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuPrice {
    /// The model.
    pub gpu_type: String,
    /// The region.
    pub region: String,
    /// The lowest price on offer.
    pub base_price_per_hour: MicroUsd,
    /// The same after dynamic pricing.
    pub current_price_per_hour: MicroUsd,
    /// When this last changed.
    pub last_updated: u64,
}

/// Where a booking stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BookingStatus {
    /// Agreed, before its end.
    Active,
    /// Past its end.
    Completed,
    /// Called off.
    Cancelled,
}

/// One booking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BookingInfo {
    /// Chosen by the caller; booking twice with one id is booking once.
    pub booking_id: String,
    /// The GPU.
    pub gpu_id: String,
    /// Who rents it.
    pub user_id: String,
    /// From when.
    pub start_time: u64,
    /// Until when (exclusive).
    pub end_time: u64,
    /// Where it stands.
    pub status: BookingStatus,
    /// The price of the whole time, fixed when it was booked.
    pub total_cost: MicroUsd,
    /// When it was booked.
    pub created_at: u64,
}

/// Figures over the whole market, one type, one region or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarketStats {
    /// GPUs on offer.
    pub total_gpus: u64,
    /// Of these, free.
    pub available_gpus: u64,
    /// Of these, rented.
    pub busy_gpus: u64,
    /// Mean current price of the GPUs on offer.
    pub average_price_per_hour: MicroUsd,
    /// Bookings made in the 24 hours before `last_updated` and not cancelled.
    pub total_bookings_24h: u64,
    /// What these cost in total.
    pub total_volume_24h: MicroUsd,
    /// Rented share of the GPUs on offer, 0 to 1.
    #[serde(deserialize_with = "ratio")]
    pub utilization_rate: f64,
    /// When this last changed.
    pub last_updated: u64,
}

/// Whether a provider can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderState {
    /// Its GPUs are what they are.
    Online,
    /// All its GPUs are offline.
    Offline,
    /// All its GPUs are in maintenance.
    Maintenance,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderStatus {
    /// The provider.
    pub provider_id: String,
    /// Whether it can be reached.
    pub status: ProviderState,
    /// How many GPUs it offers.
    pub gpus: u64,
    /// When this last changed.
    pub last_updated: u64,
}

/// The free GPUs of a type in a region by price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBook {
    /// The model.
    pub gpu_type: String,
    /// The region.
    pub region: String,
    /// The lowest price, if a GPU is free.
    pub best_price: Option<MicroUsd>,
    /// Cheapest first.
    pub levels: Vec<PriceLevel>,
    /// When this last changed.
    pub last_updated: u64,
}

/// The free GPUs of one price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceLevel {
    /// The current price per hour.
    pub price_per_hour: MicroUsd,
    /// How many are free.
    pub count: u64,
    /// Which, in the order of their ids.
    pub gpu_ids: Vec<String>,
}

/// How a type in a region developed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceHistory {
    /// The model.
    pub gpu_type: String,
    /// The region.
    pub region: String,
    /// Oldest first, at most one a minute.
    pub points: Vec<HistoricalPoint>,
}

/// A type in a region at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoricalPoint {
    /// When.
    pub timestamp: u64,
    /// The lowest current price on offer; `None` if nothing was.
    pub current_price_per_hour: Option<MicroUsd>,
    /// Free GPUs.
    pub available: u64,
    /// GPUs on offer.
    pub total: u64,
}

/// A value of any of the six namespaces.
#[derive(Debug, Clone, PartialEq)]
pub enum MarketValue {
    /// Of `gpu_avail`.
    Availability(Availability),
    /// Of `gpu_pricing`.
    Price(GpuPrice),
    /// Of `order_book`.
    OrderBook(OrderBook),
    /// Of `provider_status`.
    Provider(ProviderStatus),
    /// Of `market_stats`.
    Stats(MarketStats),
    /// Of `historical`.
    History(PriceHistory),
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(serde::de::Error::custom(format!("{ratio} is not between 0 and 1")))
    }
}
