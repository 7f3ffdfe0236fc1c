//! What a request must be, whatever the ledger: names, amounts and times within their bounds.
//!
//! The bounds keep every figure that follows from them (costs, sums of a day, keys, tags) within 63 bits, so that any
//! database can hold it.

use super::{BookingRequest, GpuRegistration, LedgerError, Offer};
use crate::keys::ALL_TYPES;
use crate::{Market, MicroUsd, Search};

/// Most GPUs in one offer.
pub const OFFERS_MAX: u32 = 10_000;
/// Longest name of a provider, model or region, in bytes.
pub const NAME_BYTES_MAX: usize = 48;
/// Longest id of a booking, a user or a GPU, in bytes.
pub const ID_BYTES_MAX: usize = 160;
/// The highest base price per hour: a million dollars.
pub const PRICE_MAX: MicroUsd = MicroUsd(1_000_000_000_000);
/// The highest sum of money, of one booking and of all of a day: what a signed integer of 64 bits holds.
pub const SUM_MAX: MicroUsd = MicroUsd(i64::MAX as u64);
/// The longest booking: 366 days, in milliseconds.
pub const BOOKING_MS_MAX: u64 = 366 * 24 * 3_600_000;
/// The last time that can be named: the end of the year 9999, in milliseconds since the Unix epoch.
pub const TIME_MAX: u64 = 253_402_300_799_999;
/// How far in the past a booking may begin: clocks differ and requests travel.
pub const START_LAG_MS_MAX: u64 = 60_000;
/// The highest figure of a GPU's hardware.
pub const FIGURE_MAX: u32 = 1_000_000_000;
/// Most GPUs on one page of a search.
pub const PAGE_MAX: u32 = 100;

impl Offer {
    /// Checks names, number and prices.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`], which names the field.
    pub fn check(&self) -> Result<(), LedgerError> {
        check_name("provider", &self.provider)?;
        check_name("gpu_model", &self.gpu_model)?;
        check_name("region", &self.region)?;
        if self.count > OFFERS_MAX {
            return invalid("count", format!("{}; the limit is {OFFERS_MAX}", self.count));
        }
        if self.count > 0 {
            check_price("min_price", self.min_price)?;
            check_price("avg_price", self.avg_price)?;
        }
        Ok(())
    }
}

impl BookingRequest {
    /// Checks what does not depend on the time of asking, so that a repetition is judged like the first request.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`], which names the field.
    pub fn check(&self) -> Result<(), LedgerError> {
        check_id("booking_id", &self.booking_id)?;
        check_id("gpu_id", &self.gpu_id)?;
        check_id("user_id", &self.user_id)?;
        let (start, end) = (self.start_time, self.end_time);
        if end > TIME_MAX {
            return invalid("end_time", format!("{end} is behind the year 9999"));
        }
        if end <= start {
            return invalid("end_time", format!("{end} is not behind the start {start}"));
        }
        if end - start > BOOKING_MS_MAX {
            return invalid("end_time", format!("{end} is more than 366 days behind the start {start}"));
        }
        Ok(())
    }

    /// Checks that it does not lie in the past, for a request that is new.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`], which names the field.
    pub fn check_now(&self, now: u64) -> Result<(), LedgerError> {
        if self.end_time <= now {
            return invalid("end_time", format!("{} is past; it is {now}", self.end_time));
        }
        if self.start_time.saturating_add(START_LAG_MS_MAX) < now {
            return invalid("start_time", format!("{} is past; it is {now}", self.start_time));
        }
        Ok(())
    }
}

impl GpuRegistration {
    /// Checks names and figures.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`], which names the field.
    pub fn check(&self) -> Result<(), LedgerError> {
        check_id("gpu_id", &self.gpu_id)?;
        check_name("provider_id", &self.provider_id)?;
        check_name("gpu_type", &self.gpu_type)?;
        check_name("region", &self.region)?;
        check_price("base_price_per_hour", self.base_price_per_hour)?;
        let figures = [
            ("memory_gb", self.hardware.memory_gb),
            ("cuda_cores", self.hardware.cuda_cores),
            ("performance_score", self.hardware.performance_score),
        ];
        match figures.into_iter().find(|(_, figure)| *figure > FIGURE_MAX) {
            Some((field, figure)) => invalid(field, format!("{figure}; the limit is {FIGURE_MAX}")),
            None => Ok(()),
        }
    }
}

impl Search {
    /// Checks names, bounds and the size of the page.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`], which names the field.
    pub fn check(&self) -> Result<(), LedgerError> {
        let names =
            [("gpu_type", &self.gpu_type), ("region", &self.region), ("provider_id", &self.provider_id)];
        for (field, name) in names {
            if let Some(name) = name {
                check_name(field, name)?;
            }
        }
        if let Some(price) = self.max_price_per_hour
            && price.0 > i64::MAX.unsigned_abs()
        {
            return invalid("max_price_per_hour", format!("{} is too large", price.0));
        }
        if let Some(after) = &self.after {
            check_id("cursor", &after.gpu_id)?;
            if after.rank > i64::MAX.unsigned_abs() {
                return invalid("cursor", format!("{} is too large", after.rank));
            }
        }
        if self.limit == 0 || self.limit > PAGE_MAX {
            return invalid("limit", format!("{} is not between 1 and {PAGE_MAX}", self.limit));
        }
        Ok(())
    }
}

/// Checks a base price.
///
/// # Errors
/// [`LedgerError::Invalid`] with that field.
pub fn check_price(field: &'static str, price: MicroUsd) -> Result<(), LedgerError> {
    if price > PRICE_MAX {
        return invalid(field, format!("{price} an hour; the limit is {PRICE_MAX}"));
    }
    Ok(())
}

/// Checks the names of a market.
///
/// # Errors
/// [`LedgerError::Invalid`], which names the field.
pub fn check_market(market: &Market) -> Result<(), LedgerError> {
    check_name("gpu_type", &market.gpu_type)?;
    check_name("region", &market.region)
}

/// Checks the name of a provider, model or region: it becomes part of ids, keys and tags.
///
/// # Errors
/// [`LedgerError::Invalid`] with that field.
pub fn check_name(field: &'static str, name: &str) -> Result<(), LedgerError> {
    let wrong = |why: &str| invalid(field, format!("{name:?} {why}"));
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

/// Checks the id of a booking, a user or a GPU.
///
/// # Errors
/// [`LedgerError::Invalid`] with that field.
pub fn check_id(field: &'static str, id: &str) -> Result<(), LedgerError> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return invalid(field, format!("does not have 1 to {ID_BYTES_MAX} bytes of printable characters"));
    }
    Ok(())
}

fn invalid(field: &'static str, why: String) -> Result<(), LedgerError> {
    Err(LedgerError::Invalid { field, why })
}
