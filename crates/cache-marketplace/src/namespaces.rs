//! The cache types of the marketplace and their settings, as plain data.

use std::time::Duration;

/// One megabyte of a memory budget.
const MB: u64 = 1_000_000;

/// What a cache type asks of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheTypeSettings {
    /// The name in requests, for example `gpu_availability`.
    pub cache_type: &'static str,
    /// The name of its namespace in keys, for example `gpu_avail`.
    pub namespace: &'static str,
    /// How long a value lives without hearing of a change.
    pub ttl: Duration,
    /// Whether changes are announced; otherwise only the time to live bounds its age.
    pub event_driven: bool,
    /// Whether it is kept in L1 longest, propagated first and never served past its bound.
    pub critical: bool,
    /// Memory in L1, in bytes, overhead included.
    pub budget_bytes: u64,
}

const fn typed(
    cache_type: &'static str,
    namespace: &'static str,
    ttl_seconds: u64,
    event_driven: bool,
    critical: bool,
    budget_mb: u64,
) -> CacheTypeSettings {
    let (ttl, budget_bytes) = (Duration::from_secs(ttl_seconds), budget_mb * MB);
    CacheTypeSettings { cache_type, namespace, ttl, event_driven, critical, budget_bytes }
}

const fn free(name: &'static str, ttl_seconds: u64) -> CacheTypeSettings {
    typed(name, name, ttl_seconds, true, false, 50)
}

/// GPUs, and how many of a type are free in a region.
pub const GPU_AVAILABILITY: CacheTypeSettings = typed("gpu_availability", "gpu_avail", 30, true, true, 100);
/// Prices.
pub const GPU_PRICING: CacheTypeSettings = typed("gpu_pricing", "gpu_pricing", 60, true, true, 50);
/// Order books.
pub const ORDER_BOOK: CacheTypeSettings = typed("order_book", "order_book", 5, true, true, 200);
/// Providers.
pub const PROVIDER_STATUS: CacheTypeSettings =
    typed("provider_status", "provider_status", 120, true, false, 50);
/// Figures over the market.
pub const MARKET_STATS: CacheTypeSettings = typed("market_stats", "market_stats", 300, true, false, 100);
/// Past prices.
pub const HISTORICAL_DATA: CacheTypeSettings =
    typed("historical_data", "historical", 3_600, false, false, 500);

/// Pages of searches.
pub const GPU_LISTING: CacheTypeSettings = typed("gpu_listing", "gpu_listing", 30, true, false, 100);
/// Bookings.
pub const BOOKING: CacheTypeSettings = typed("booking", "booking", 300, true, true, 50);

/// The cache types whose values have a Rust type.
pub const MARKET: [CacheTypeSettings; 8] = [
    GPU_AVAILABILITY,
    GPU_PRICING,
    ORDER_BOOK,
    PROVIDER_STATUS,
    MARKET_STATS,
    HISTORICAL_DATA,
    GPU_LISTING,
    BOOKING,
];

/// Cache types that hold free JSON, ready to use.
pub const PRESETS: [CacheTypeSettings; 6] = [
    free("product_details", 24 * 3_600),
    free("product_listing", 3_600),
    free("inventory", 5 * 60),
    free("session", 24 * 3_600),
    free("permissions", 30 * 60),
    free("device_info", 300),
];

/// The settings of a cache type, by its name.
pub fn settings(cache_type: &str) -> Option<&'static CacheTypeSettings> {
    static BOTH: [&[CacheTypeSettings]; 2] = [&MARKET, &PRESETS];
    BOTH.into_iter().flatten().find(|settings| settings.cache_type == cache_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cache_type_is_found_by_its_name_and_makes_a_namespace() {
        for expected in MARKET.iter().chain(&PRESETS) {
            assert_eq!(settings(expected.cache_type), Some(expected));
            assert!(cache_events::Namespace::new(expected.namespace).is_ok());
        }
        assert_eq!(settings("gpu_avail"), None);
    }

    #[test]
    fn the_settings_are_those_of_the_table() {
        let row = |name: &str| {
            let found = settings(name).unwrap();
            let flags = (found.event_driven, found.critical);
            (found.namespace, found.ttl.as_secs(), flags, found.budget_bytes / 1_000_000)
        };
        assert_eq!(row("gpu_availability"), ("gpu_avail", 30, (true, true), 100));
        assert_eq!(row("gpu_pricing"), ("gpu_pricing", 60, (true, true), 50));
        assert_eq!(row("order_book"), ("order_book", 5, (true, true), 200));
        assert_eq!(row("provider_status"), ("provider_status", 120, (true, false), 50));
        assert_eq!(row("market_stats"), ("market_stats", 300, (true, false), 100));
        assert_eq!(row("historical_data"), ("historical", 3_600, (false, false), 500));
        assert_eq!(row("gpu_listing"), ("gpu_listing", 30, (true, false), 100));
        assert_eq!(row("booking"), ("booking", 300, (true, true), 50));
        assert_eq!(row("product_details").1, 86_400);
        assert_eq!(row("permissions").1, 1_800);
    }
}
