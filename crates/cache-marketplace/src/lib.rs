//! The GPU marketplace: GPUs, prices, bookings, and what each change touches.
//!
//! - what is cached: [`model`], in the namespaces of [`namespaces`], under the keys of [`keys`]
//! - what a change touches: [`mod@touches`], one table from event kinds to scopes
//! - the system of record: the port [`Ledger`] and [`MemoryLedger`]
//! - all of it through the cache: [`Marketplace`]
//! - where changes come from: the offers feed, [`feed`], or a [`SeededMarket`]
//!
//! Money is integer micro-dollars everywhere ([`MicroUsd`]), time is milliseconds since the Unix epoch and comes in
//! as an argument.

#[macro_use]
mod mutation;

pub mod audit;
mod audited;
mod book_deltas;
mod commands;
pub mod feed;
mod hardware;
pub mod keys;
pub mod kinds;
pub mod ledger;
mod market;
pub mod model;
mod money;
pub mod namespaces;
mod pricing;
mod regions;
mod search;
mod seeded;
pub mod touches;

pub use audited::audit_by;
pub use book_deltas::{BookDelta, RecentBooks};
pub use commands::Made;
pub use feed::{FeedError, OfferFeed, OfferRow};
pub use hardware::Hardware;
pub use ledger::{
    BookOutcome, BookingRequest, CancelOutcome, Committed, GpuRegistration, Ledger, LedgerError,
    MemoryLedger, Offer, Versioned,
};
pub use market::{MarketError, Marketplace, declare, namespace_settings};
pub use model::{
    Availability, AvailabilityStatus, BookingInfo, BookingStatus, GpuInfo, GpuPrice, HistoricalPoint,
    MarketStats, MarketValue, OrderBook, PriceHistory, PriceLevel, ProviderState, ProviderStatus,
    TypeAvailability,
};
pub use money::{MicroUsd, MoneyError, Permille};
pub use pricing::{Pricing, ScarcityPricing};
pub use regions::{REGIONS, region_of};
pub use search::{Cursor, NotACursor, Ranking, Search, SearchPage};
pub use seeded::SeededMarket;
pub use touches::{Market, MarketEvent, Subject, touches};
