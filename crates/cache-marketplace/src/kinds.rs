//! The kinds of events of the market.

use cache_events::EventKind;

/// A GPU became free, rented, offline, or was added or withdrawn.
pub const GPU_AVAILABILITY_CHANGED: EventKind = EventKind::from_static("gpu_availability_changed");
/// A price moved.
pub const PRICING_UPDATED: EventKind = EventKind::from_static("pricing_updated");
/// A booking was made.
pub const BOOKING_CREATED: EventKind = EventKind::from_static("booking_created");
/// A booking was called off.
pub const BOOKING_CANCELLED: EventKind = EventKind::from_static("booking_cancelled");
/// A provider went or came.
pub const PROVIDER_STATUS_CHANGED: EventKind = EventKind::from_static("provider_status_changed");
/// Figures over the market changed by themselves, as time passed.
pub const MARKET_STATS_UPDATED: EventKind = EventKind::from_static("market_stats_updated");
/// The order book changed.
pub const ORDER_BOOK_UPDATED: EventKind = EventKind::from_static("order_book_updated");

/// All seven.
pub const ALL: [EventKind; 7] = [
    GPU_AVAILABILITY_CHANGED,
    PRICING_UPDATED,
    BOOKING_CREATED,
    BOOKING_CANCELLED,
    PROVIDER_STATUS_CHANGED,
    MARKET_STATS_UPDATED,
    ORDER_BOOK_UPDATED,
];
