//! The keys and tags of the marketplace.
//!
//! | value | namespace | resource | parameters |
//! |---|---|---|---|
//! | a GPU | `gpu_avail` | its id | – |
//! | a type in a region | `gpu_avail`, `gpu_pricing`, `order_book`, `historical` | the type | `region` |
//! | figures | `market_stats` | the type, or `all` | `region`, unless over all |
//! | a provider | `provider_status` | its id | – |
//! | a booking | `booking` | its id | – |
//! | a page of a search | `gpu_listing` | the type, or `all` | all of the search |
//!
//! Entries of GPUs carry two tags: of their provider, and of their type and region. Pages of searches carry one, of
//! the type (or all types) and region (or all regions) in which was searched.

use cache_events::{Key, NameError, Namespace, Tag};

use crate::namespaces::{
    BOOKING, CacheTypeSettings, GPU_AVAILABILITY, GPU_LISTING, GPU_PRICING, HISTORICAL_DATA, MARKET_STATS,
    ORDER_BOOK, PROVIDER_STATUS,
};
use crate::{AvailabilityStatus, GpuInfo, Ranking, Search};

/// The resource of figures over all types, and the region of all in a tag; no type and no region may have this name.
pub const ALL_TYPES: &str = "all";

/// The key of one GPU.
///
/// # Errors
/// [`NameError`] if the id cannot be part of a key; likewise for all functions here.
pub fn gpu_key(gpu_id: &str) -> Result<Key, NameError> {
    Key::new(&namespace(&GPU_AVAILABILITY)?, gpu_id)
}

/// The key of how many GPUs of a type are free in a region.
///
/// # Errors
/// See [`gpu_key`].
pub fn availability_key(gpu_type: &str, region: &str) -> Result<Key, NameError> {
    regional(&GPU_AVAILABILITY, gpu_type, region)
}

/// The key of the price of a type in a region.
///
/// # Errors
/// See [`gpu_key`].
pub fn price_key(gpu_type: &str, region: &str) -> Result<Key, NameError> {
    regional(&GPU_PRICING, gpu_type, region)
}

/// The key of the order book of a type in a region.
///
/// # Errors
/// See [`gpu_key`].
pub fn order_book_key(gpu_type: &str, region: &str) -> Result<Key, NameError> {
    regional(&ORDER_BOOK, gpu_type, region)
}

/// The key of the past of a type in a region.
///
/// # Errors
/// See [`gpu_key`].
pub fn history_key(gpu_type: &str, region: &str) -> Result<Key, NameError> {
    regional(&HISTORICAL_DATA, gpu_type, region)
}

/// The key of figures over one type or all, in one region or all.
///
/// # Errors
/// See [`gpu_key`].
pub fn market_stats_key(gpu_type: Option<&str>, region: Option<&str>) -> Result<Key, NameError> {
    let key = Key::builder(&namespace(&MARKET_STATS)?, gpu_type.unwrap_or(ALL_TYPES));
    match region {
        Some(region) => key.param("region", region).build(),
        None => key.build(),
    }
}

/// The key of a provider.
///
/// # Errors
/// See [`gpu_key`].
pub fn provider_key(provider_id: &str) -> Result<Key, NameError> {
    Key::new(&namespace(&PROVIDER_STATUS)?, provider_id)
}

/// The key of a booking.
///
/// # Errors
/// See [`gpu_key`].
pub fn booking_key(booking_id: &str) -> Result<Key, NameError> {
    Key::new(&namespace(&BOOKING)?, booking_id)
}

/// The key of one page of a search.
///
/// # Errors
/// See [`gpu_key`].
pub fn listing_key(search: &Search) -> Result<Key, NameError> {
    let Search { gpu_type, region, provider_id, status, ranking, after, limit, .. } = search;
    let number = |figure: Option<u32>| figure.map(|figure| figure.to_string());
    let status = status.map(|status| match status {
        AvailabilityStatus::Available => "available",
        AvailabilityStatus::Busy => "busy",
        AvailabilityStatus::Offline => "offline",
        AvailabilityStatus::Maintenance => "maintenance",
    });
    let ranking = match ranking {
        Ranking::Price => "price",
        Ranking::Performance => "performance",
    };
    let params = [
        ("region", region.clone()),
        ("provider", provider_id.clone()),
        ("status", status.map(str::to_owned)),
        ("memory", number(search.min_memory_gb)),
        ("cores", number(search.min_cuda_cores)),
        ("score", number(search.min_performance_score)),
        ("price", search.max_price_per_hour.map(|price| price.0.to_string())),
        ("rank", Some(ranking.to_owned())),
        ("after", after.as_ref().map(ToString::to_string)),
        ("limit", Some(limit.to_string())),
    ];
    let builder = Key::builder(&namespace(&GPU_LISTING)?, gpu_type.as_deref().unwrap_or(ALL_TYPES));
    let given = params.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.fold(builder, |builder, (name, value)| builder.param(name, value)).build()
}

/// The tag of all pages of searches in one type or all, in one region or all.
///
/// # Errors
/// [`NameError`] if the names cannot be part of a tag.
pub fn listing_tag(gpu_type: Option<&str>, region: Option<&str>) -> Result<Tag, NameError> {
    Tag::new(format!("listing:{}@{}", gpu_type.unwrap_or(ALL_TYPES), region.unwrap_or(ALL_TYPES)))
}

/// The tag of all GPUs of a provider.
///
/// # Errors
/// [`NameError`] if the id cannot be part of a tag.
pub fn provider_tag(provider_id: &str) -> Result<Tag, NameError> {
    Tag::new(format!("provider:{provider_id}"))
}

/// The tag of all GPUs of a type in a region.
///
/// # Errors
/// [`NameError`] if the names cannot be part of a tag.
pub fn market_tag(gpu_type: &str, region: &str) -> Result<Tag, NameError> {
    Tag::new(format!("market:{gpu_type}@{region}"))
}

/// The tags that the cached entry of a GPU must carry.
///
/// # Errors
/// [`NameError`] if a name of the GPU cannot be part of a tag.
pub fn gpu_tags(gpu: &GpuInfo) -> Result<Vec<Tag>, NameError> {
    Ok(vec![provider_tag(&gpu.provider_id)?, market_tag(&gpu.gpu_type, &gpu.region)?])
}

fn regional(settings: &CacheTypeSettings, gpu_type: &str, region: &str) -> Result<Key, NameError> {
    Key::builder(&namespace(settings)?, gpu_type).param("region", region).build()
}

fn namespace(settings: &CacheTypeSettings) -> Result<Namespace, NameError> {
    Namespace::new(settings.namespace)
}
