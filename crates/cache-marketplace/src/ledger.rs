//! The system of record: the port, and what goes in and out of it.
//!
//! Every change is one commit with a number, and that number is the version of all values that it touched, by the
//! same table by which the caches are told ([`mod@crate::touches`]). So a reader who knows the version of an
//! acknowledged change can judge whether what it reads is older.

use async_trait::async_trait;
use cache_events::Version;

use crate::{
    AvailabilityStatus, BookingInfo, GpuInfo, GpuPrice, Hardware, Market, MarketEvent, MarketStats, MicroUsd,
    OrderBook, PriceHistory, ProviderState, ProviderStatus, Search, SearchPage, TypeAvailability,
};

mod bookings;
mod checks;
mod commit;
pub mod contract;
mod memory;
mod offers;
mod reads;
mod recompute;
mod registry;
pub mod rows;
mod state;
pub mod working_set;

pub use checks::{
    BOOKING_MS_MAX, FIGURE_MAX, ID_BYTES_MAX, NAME_BYTES_MAX, OFFERS_MAX, PAGE_MAX, PRICE_MAX,
    START_LAG_MS_MAX, SUM_MAX, TIME_MAX, check_id, check_market, check_name, check_price,
};
pub use commit::HISTORY_POINTS_MAX;
pub use memory::MemoryLedger;
pub use state::Stamp;

/// What a provider offers of a model: `count` GPUs named `<provider>/<model>/<n>`, n from 1.
///
/// The first of them costs the lowest price, the others the mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The provider.
    pub provider: String,
    /// The model.
    pub gpu_model: String,
    /// Where all of them stand.
    pub region: String,
    /// How many there are now; fewer than before means that the highest n without a booking go first.
    pub count: u32,
    /// The lowest price; without meaning if there are none.
    pub min_price: MicroUsd,
    /// The mean price.
    pub avg_price: MicroUsd,
}

/// One GPU, put up or changed by itself. Its id may have any form.
///
/// A GPU that came with an [`Offer`] can be changed too, but stays of its provider, model and region; the next offer
/// that names another price sets the price again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRegistration {
    /// The GPU.
    pub gpu_id: String,
    /// Who offers it; fixed once it is known.
    pub provider_id: String,
    /// The model; fixed once it is known.
    pub gpu_type: String,
    /// Where it stands.
    pub region: String,
    /// What it is.
    pub hardware: Hardware,
    /// The provider's price per hour.
    pub base_price_per_hour: MicroUsd,
    /// Taken out or put back; `None` = as it was, or available if it is new.
    pub status: Option<AvailabilityStatus>,
}

/// What somebody wants to rent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookingRequest {
    /// Chosen by the caller. Asking twice with the same id and fields is asking once.
    pub booking_id: String,
    /// The GPU.
    pub gpu_id: String,
    /// Who asks.
    pub user_id: String,
    /// From when, in milliseconds since the Unix epoch.
    pub start_time: u64,
    /// Until when (exclusive).
    pub end_time: u64,
}

/// A value and the number of the last commit that touched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The commit; [`Version::NONE`] if nothing ever touched it.
    pub version: Version,
}

/// One change that is now the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What happened.
    pub event: MarketEvent,
    /// The number of the commit: the version of all that it touched.
    pub version: Version,
    /// When.
    pub at: u64,
}

/// What came of a booking.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the usual answer")]
pub enum BookOutcome {
    /// It is booked.
    Booked {
        /// The booking as it is now.
        booking: BookingInfo,
        /// The change, to be published. The same again when the request is repeated.
        committed: Committed,
        /// Whether it was booked before by the same request.
        repeated: bool,
    },
    /// The GPU is rented in that time.
    Conflict {
        /// By this booking.
        with: String,
    },
    /// There is no such GPU.
    UnknownGpu,
    /// The GPU is there, but not to be rented.
    NotForRent(AvailabilityStatus),
    /// The booking id belongs to another request.
    IdTaken,
}

/// What came of a cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the usual answer")]
pub enum CancelOutcome {
    /// It is cancelled.
    Cancelled {
        /// The booking as it is now.
        booking: BookingInfo,
        /// The change, to be published. The same again when it is repeated.
        committed: Committed,
        /// Whether it was cancelled before.
        repeated: bool,
    },
    /// There is no such booking of that GPU.
    Unknown,
    /// It is over.
    Completed,
}

/// Why the ledger did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A field of the request cannot be.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What the request is about does not exist.
    #[error("there is no {what} {id:?}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The ledger itself cannot be reached; whether the change happened is unknown. Repeating it is safe.
    #[error("the ledger cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The system of record. Each change is atomic, and is visible to every read that begins after it returned.
///
/// `now` is milliseconds since the Unix epoch; the ledger's time never goes back.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Rents a GPU. No two active bookings of a GPU ever overlap.
    async fn book(&self, request: BookingRequest, now: u64) -> Result<BookOutcome, LedgerError>;
    /// Calls a booking off.
    async fn cancel(&self, booking_id: &str, gpu_id: &str, now: u64) -> Result<CancelOutcome, LedgerError>;
    /// Takes over what a provider offers of a model: nothing, one or two changes.
    async fn set_offers(&self, offer: Offer, now: u64) -> Result<Vec<Committed>, LedgerError>;
    /// Sets the base price of all GPUs of a type in a region, until their provider's next offer; refused if none is on offer.
    async fn set_price(
        &self,
        market: &Market,
        price: MicroUsd,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError>;
    /// Puts up one GPU, or changes it; nothing if it is so already.
    async fn put_gpu(&self, gpu: GpuRegistration, now: u64) -> Result<Vec<Committed>, LedgerError>;
    /// Takes a GPU out or puts it back.
    async fn set_gpu_status(
        &self,
        gpu_id: &str,
        status: AvailabilityStatus,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError>;
    /// Takes a provider out or puts it back, and all its GPUs with it.
    async fn set_provider_status(
        &self,
        provider_id: &str,
        state: ProviderState,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError>;
    /// Lets bookings begin and end, and lets old ones leave the 24-hour figures.
    async fn pass_time(&self, now: u64) -> Result<Vec<Committed>, LedgerError>;

    /// Takes note that the caches were told of a change, so that nobody has to tell them again. Does nothing by
    /// default: only a ledger that outlives its process keeps changes until they are told.
    fn announced(&self, committed: &Committed) {
        let _ = committed;
    }

    /// A booking.
    async fn booking(&self, booking_id: &str) -> Result<Versioned<Option<BookingInfo>>, LedgerError>;
    /// A GPU.
    async fn gpu(&self, gpu_id: &str) -> Result<Versioned<Option<GpuInfo>>, LedgerError>;
    /// How many GPUs of a type are free in a region.
    async fn availability(&self, market: &Market)
    -> Result<Versioned<Option<TypeAvailability>>, LedgerError>;
    /// What a type costs in a region; `None` if nothing is on offer.
    async fn price(&self, market: &Market) -> Result<Versioned<Option<GpuPrice>>, LedgerError>;
    /// The free GPUs of a type in a region by price.
    async fn order_book(&self, market: &Market) -> Result<Versioned<Option<OrderBook>>, LedgerError>;
    /// Figures over one type or all, in one region or all.
    async fn market_stats(
        &self,
        gpu_type: Option<&str>,
        region: Option<&str>,
    ) -> Result<Versioned<Option<MarketStats>>, LedgerError>;
    /// A provider.
    async fn provider(&self, provider_id: &str) -> Result<Versioned<Option<ProviderStatus>>, LedgerError>;
    /// The past of a type in a region.
    async fn history(&self, market: &Market) -> Result<Versioned<Option<PriceHistory>>, LedgerError>;
    /// One page of the GPUs on offer (not those that were withdrawn), as [`Search::page`] defines it. Its version is
    /// that of the listings of the type and region searched (or of all of them): a change of any GPU there.
    async fn search(&self, search: &Search) -> Result<Versioned<SearchPage>, LedgerError>;

    /// All types in all regions that were ever offered, in order.
    async fn markets(&self) -> Result<Vec<Market>, LedgerError>;
    /// The ids of all GPUs ever offered, withdrawn ones included, in order, from behind `after` (`""` = the first),
    /// at most `limit`.
    async fn gpu_ids(&self, after: &str, limit: u32) -> Result<Vec<String>, LedgerError>;
    /// All bookings, also those that are over or cancelled, in the order of their ids, from behind `after`, at most
    /// `limit`.
    async fn bookings(&self, after: &str, limit: u32) -> Result<Vec<BookingInfo>, LedgerError>;
}
