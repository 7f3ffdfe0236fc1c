//! The system of record: the port, and what goes in and out of it.
//!
//! Every change is one commit with a number, and that number is the version of all values that it touched, by the
//! same table by which the caches are told ([`mod@crate::touches`]). So a reader who knows the version of an
//! acknowledged change can judge whether what it reads is older.

use async_trait::async_trait;
use cache_events::Version;

use crate::keys::ALL_TYPES;
use crate::{
    AvailabilityStatus, BookingInfo, GpuInfo, GpuPrice, Market, MarketEvent, MarketStats, MicroUsd,
    OrderBook, PriceHistory, ProviderState, ProviderStatus, TypeAvailability,
};

mod bookings;
mod commit;
mod memory;
mod offers;
mod reads;
mod recompute;
mod state;

pub use memory::MemoryLedger;

/// Most GPUs in one offer.
pub const OFFERS_MAX: u32 = 10_000;
/// Longest name of a provider, model or region, in bytes.
pub const NAME_BYTES_MAX: usize = 48;
/// Longest id of a booking or a user, in bytes.
pub const ID_BYTES_MAX: usize = 128;

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
    /// Sets the base price of all GPUs of a type in a region, until their provider's next offer.
    async fn set_price(
        &self,
        market: &Market,
        price: MicroUsd,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError>;
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

    /// A booking.
    async fn booking(&self, booking_id: &str) -> Result<Option<BookingInfo>, LedgerError>;
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
}

/// Checks the name of a provider, model or region: it becomes part of ids, keys and tags.
pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), LedgerError> {
    let wrong = |why: &str| Err(LedgerError::Invalid { field, why: format!("{name:?} {why}") });
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return wrong("does not have 1 to 48 bytes");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '/' | '@')) {
        return wrong("has a '/', a '@' or a control character");
    }
    if name == ALL_TYPES {
        return wrong("is a reserved word");
    }
    Ok(())
}

/// Checks the id of a booking or a user.
fn check_id(field: &'static str, id: &str) -> Result<(), LedgerError> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        let why = format!("does not have 1 to {ID_BYTES_MAX} bytes of printable characters");
        return Err(LedgerError::Invalid { field, why });
    }
    Ok(())
}
