//! What every [`Ledger`] must keep, as plain functions for the tests of whoever implements it.
//!
//! One function a rule, and [`all`] for all of them, one after the other on one ledger that was empty before: each rule
//! works on GPUs, providers and bookings of its own. Nobody else may change the ledger meanwhile. A rule that is broken
//! comes back as a [`Violation`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use cache_marketplace::{MemoryLedger, ledger::contract};
//! let violations = contract::all(&MemoryLedger::new()).await;
//! assert!(violations.is_empty(), "{violations:#?}");
//! # }
//! ```

use std::fmt;

use cache_events::Version;

use super::{
    BookOutcome, BookingRequest, CancelOutcome, Committed, Ledger, LedgerError, Offer, PRICE_MAX, TIME_MAX,
};
use crate::{AvailabilityStatus, BookingStatus, Market, MicroUsd, ProviderState, kinds};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// When each rule begins; later rules begin days later, so that the ledger's time never goes back.
const START: u64 = 1_760_000_000_000;
const MODEL: &str = "H100_80GB_SXM5";
const PRICE: MicroUsd = MicroUsd(1_000_000);

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule's function.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

type Outcome = Result<(), String>;

/// All rules; empty if all are kept.
pub async fn all(ledger: &dyn Ledger) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut note = |rule: &'static str, outcome: Outcome| {
        if let Err(what) = outcome {
            violations.push(Violation { rule, what });
        }
    };
    let at = |number: u64| START + number * 3 * DAY;
    note("a_booking_shows_everywhere", a_booking_shows_everywhere(ledger, at(0)).await);
    note("no_two_bookings_overlap", no_two_bookings_overlap(ledger, at(1)).await);
    note("an_id_is_one_booking", an_id_is_one_booking(ledger, at(2)).await);
    note("a_cancellation_frees", a_cancellation_frees(ledger, at(3)).await);
    note("times_take_effect", times_take_effect(ledger, at(4)).await);
    note("bad_requests_change_nothing", bad_requests_change_nothing(ledger, at(5)).await);
    note("figures_are_of_a_day", figures_are_of_a_day(ledger, at(6)).await);
    note("a_provider_takes_its_gpus_along", a_provider_takes_its_gpus_along(ledger, at(9)).await);
    note("what_is_repeated_is_no_commit", what_is_repeated_is_no_commit(ledger, at(10)).await);
    violations
}

/// Prepares four GPUs of a provider in a market of its own; returns that.
async fn market(ledger: &dyn Ledger, name: &str, now: u64) -> Result<Market, String> {
    let offer = Offer {
        provider: name.to_owned(),
        gpu_model: MODEL.to_owned(),
        region: format!("region-{name}"),
        count: 4,
        min_price: PRICE,
        avg_price: PRICE,
    };
    ledger.set_offers(offer.clone(), now).await.map_err(told)?;
    Ok(Market::new(MODEL, offer.region))
}

fn told(error: impl fmt::Debug) -> String {
    format!("{error:?}")
}

fn gpu(name: &str, number: u32) -> String {
    format!("{name}/{MODEL}/{number}")
}

fn request(id: &str, gpu_id: &str, start_time: u64, end_time: u64) -> BookingRequest {
    let (booking_id, gpu_id, user_id) = (id.to_owned(), gpu_id.to_owned(), "u".to_owned());
    BookingRequest { booking_id, gpu_id, user_id, start_time, end_time }
}

fn expect<T: PartialEq + fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} instead of {expected:?}")) }
}

async fn booked(ledger: &dyn Ledger, request: BookingRequest, now: u64) -> Result<Committed, String> {
    match ledger.book(request, now).await {
        Ok(BookOutcome::Booked { committed, repeated: false, .. }) => Ok(committed),
        other => Err(format!("not booked: {other:?}")),
    }
}

async fn status(ledger: &dyn Ledger, gpu_id: &str) -> Result<AvailabilityStatus, String> {
    let gpu = ledger.gpu(gpu_id).await.map_err(told)?.value.ok_or("the GPU is gone")?;
    Ok(gpu.availability_status)
}

/// A booking is in every read that begins after it, with its version.
///
/// # Errors
/// What was seen instead; likewise for all rules.
pub async fn a_booking_shows_everywhere(ledger: &dyn Ledger, now: u64) -> Outcome {
    let market = market(ledger, "shows", now).await?;
    let id = gpu("shows", 1);
    let committed = booked(ledger, request("shows", &id, now, now + 2 * HOUR), now).await?;
    expect("kind", &committed.event.kind, &kinds::BOOKING_CREATED)?;
    let version = committed.version;
    let gpu = ledger.gpu(&id).await.map_err(told)?;
    expect("version of the GPU", gpu.version, version)?;
    expect("status", gpu.value.map(|gpu| gpu.availability_status), Some(AvailabilityStatus::Busy))?;
    let booking = ledger.booking("shows").await.map_err(told)?;
    expect("version of the booking", booking.version, version)?;
    let cost = booking.value.map(|booking| (booking.status, booking.total_cost));
    expect("the booking", cost, Some((BookingStatus::Active, MicroUsd(2_000_000))))?;
    let free = ledger.availability(&market).await.map_err(told)?;
    expect("version of the availability", free.version, version)?;
    expect("free", free.value.map(|free| (free.available, free.busy, free.total)), Some((3, 1, 4)))?;
    let book = ledger.order_book(&market).await.map_err(told)?;
    expect("version of the order book", book.version, version)?;
    let free: Option<u64> = book.value.map(|book| book.levels.iter().map(|level| level.count).sum());
    expect("in the order book", free, Some(3))?;
    for (gpu_type, region) in [
        (None, None),
        (Some(MODEL), None),
        (None, Some(&*market.region)),
        (Some(MODEL), Some(&*market.region)),
    ] {
        let stats = ledger.market_stats(gpu_type, region).await.map_err(told)?;
        expect("version of the figures", stats.version, version)?;
    }
    Ok(())
}

/// Two active bookings of a GPU never overlap; those that only touch do not.
pub async fn no_two_bookings_overlap(ledger: &dyn Ledger, now: u64) -> Outcome {
    market(ledger, "overlap", now).await?;
    let id = gpu("overlap", 1);
    booked(ledger, request("overlap", &id, now + 100, now + 200), now).await?;
    let conflict = BookOutcome::Conflict { with: "overlap".to_owned() };
    for (start, end) in [(50, 101), (199, 300), (100, 200), (120, 130), (1, 1_000)] {
        let other = request("overlap-2", &id, now + start, now + end);
        expect("overlapping", ledger.book(other, now).await.map_err(told)?, conflict.clone())?;
    }
    booked(ledger, request("overlap-3", &id, now + 200, now + 300), now).await?;
    booked(ledger, request("overlap-4", &id, now + 50, now + 100), now).await?;
    booked(ledger, request("overlap-5", &gpu("overlap", 2), now + 100, now + 200), now).await?;
    Ok(())
}

/// Asking twice with one id and the same fields is asking once; with other fields it is refused.
pub async fn an_id_is_one_booking(ledger: &dyn Ledger, now: u64) -> Outcome {
    market(ledger, "once", now).await?;
    let first = request("once", &gpu("once", 1), now, now + HOUR);
    let committed = booked(ledger, first.clone(), now).await?;
    match ledger.book(first.clone(), now + 7).await.map_err(told)? {
        BookOutcome::Booked { repeated: true, committed: again, .. } => {
            expect("the commit of a repetition", again, committed)?;
        }
        other => return Err(format!("a repetition: {other:?}")),
    }
    let others = [
        BookingRequest { end_time: now + 2 * HOUR, ..first.clone() },
        BookingRequest { gpu_id: gpu("once", 2), ..first.clone() },
        BookingRequest { user_id: "v".to_owned(), ..first },
    ];
    for other in others {
        expect("another body", ledger.book(other, now).await.map_err(told)?, BookOutcome::IdTaken)?;
    }
    Ok(())
}

/// A cancelled booking frees its GPU at once; to cancel twice is to cancel once.
pub async fn a_cancellation_frees(ledger: &dyn Ledger, now: u64) -> Outcome {
    market(ledger, "free", now).await?;
    let id = gpu("free", 1);
    booked(ledger, request("free", &id, now, now + HOUR), now).await?;
    expect("of another GPU", ledger.cancel("free", "x", now).await.map_err(told)?, CancelOutcome::Unknown)?;
    expect("unknown", ledger.cancel("nothing", &id, now).await.map_err(told)?, CancelOutcome::Unknown)?;
    let first = ledger.cancel("free", &id, now + 1).await.map_err(told)?;
    let CancelOutcome::Cancelled { committed, repeated: false, .. } = first else {
        return Err(format!("cancelled: {first:?}"));
    };
    expect("status", status(ledger, &id).await?, AvailabilityStatus::Available)?;
    let version = ledger.booking("free").await.map_err(told)?.version;
    expect("version of the booking", version, committed.version)?;
    match ledger.cancel("free", &id, now + 2).await.map_err(told)? {
        CancelOutcome::Cancelled { committed: again, repeated: true, .. } => {
            expect("the commit of a repetition", again, committed)?;
        }
        other => return Err(format!("cancelled twice: {other:?}")),
    }
    booked(ledger, request("free-2", &id, now, now + HOUR), now + 3).await.map(|_| ())
}

/// Bookings begin and end when time passes, each once, what ends before what begins.
pub async fn times_take_effect(ledger: &dyn Ledger, now: u64) -> Outcome {
    market(ledger, "times", now).await?;
    let id = gpu("times", 1);
    ledger.pass_time(now).await.map_err(told)?;
    booked(ledger, request("times", &id, now + 100, now + 200), now).await?;
    booked(ledger, request("times-2", &id, now + 200, now + 300), now).await?;
    expect("nothing is due", ledger.pass_time(now + 99).await.map_err(told)?, vec![])?;
    expect("not begun", status(ledger, &id).await?, AvailabilityStatus::Available)?;
    expect("begun", ledger.pass_time(now + 100).await.map_err(told)?.len(), 1)?;
    expect("busy", status(ledger, &id).await?, AvailabilityStatus::Busy)?;
    expect("again", ledger.pass_time(now + 100).await.map_err(told)?, vec![])?;
    expect("one ends, one begins", ledger.pass_time(now + 250).await.map_err(told)?.len(), 2)?;
    expect("still busy", status(ledger, &id).await?, AvailabilityStatus::Busy)?;
    let first = ledger.booking("times").await.map_err(told)?.value.map(|booking| booking.status);
    expect("over", first, Some(BookingStatus::Completed))?;
    let over = ledger.cancel("times", &id, now + 250).await.map_err(told)?;
    expect("cancelled when over", over, CancelOutcome::Completed)?;
    ledger.pass_time(now + 300).await.map_err(told)?;
    expect("free", status(ledger, &id).await?, AvailabilityStatus::Available)
}

/// What cannot be is refused with the field's name, and changes nothing.
pub async fn bad_requests_change_nothing(ledger: &dyn Ledger, now: u64) -> Outcome {
    let market = market(ledger, "bad", now).await?;
    let id = gpu("bad", 1);
    let gone = Market::new("gone-type", &market.region);
    let mut offer = Offer {
        provider: "gone".to_owned(),
        gpu_model: gone.gpu_type.clone(),
        region: gone.region.clone(),
        count: 1,
        min_price: PRICE,
        avg_price: PRICE,
    };
    ledger.set_offers(offer.clone(), now).await.map_err(told)?;
    offer.count = 0;
    ledger.set_offers(offer, now).await.map_err(told)?;
    ledger.pass_time(now).await.map_err(told)?;
    let before = ledger.market_stats(None, None).await.map_err(told)?;
    let rows = [
        ("end_time", request("bad", &id, now + 10, now + 10)),
        ("end_time", request("bad", &id, now + 10, now + 5)),
        ("end_time", request("bad", &id, now - 20, now - 10)),
        ("start_time", request("bad", &id, now - DAY, now + DAY)),
        ("end_time", request("bad", &id, now, u64::MAX)),
        ("end_time", request("bad", &id, TIME_MAX, TIME_MAX + 1)),
        ("booking_id", request("", &id, now, now + 1)),
        ("booking_id", request("a\0b", &id, now, now + 1)),
    ];
    for (field, wrong) in rows {
        let what = format!("{wrong:?}");
        match ledger.book(wrong, now).await {
            Err(LedgerError::Invalid { field: found, .. }) => expect(&what, found, field)?,
            other => return Err(format!("{what}: {other:?}")),
        }
    }
    let unknown = ledger.book(request("bad", "nothing", now, now + 1), now).await.map_err(told)?;
    expect("of no GPU", unknown, BookOutcome::UnknownGpu)?;
    let dear = MicroUsd(PRICE_MAX.0 + 1);
    let refused = ledger.set_price(&market, dear, now).await;
    expect("too dear", matches!(refused, Err(LedgerError::Invalid { .. })), true)?;
    let refused = ledger.set_price(&Market::new("nothing", "nowhere"), PRICE, now).await;
    expect("of no market", matches!(refused, Err(LedgerError::Unknown { .. })), true)?;
    let refused = ledger.set_price(&gone, PRICE, now).await;
    expect("of nothing on offer", matches!(refused, Err(LedgerError::Unknown { .. })), true)?;
    let refused = ledger.set_gpu_status("nothing", AvailabilityStatus::Offline, now).await;
    expect("of no GPU", matches!(refused, Err(LedgerError::Unknown { .. })), true)?;
    let refused = ledger.set_provider_status("nobody", ProviderState::Offline, now).await;
    expect("of nobody", matches!(refused, Err(LedgerError::Unknown { .. })), true)?;
    expect("the figures", ledger.market_stats(None, None).await.map_err(told)?, before)?;
    for absent in ["bad", "a\0b", ""] {
        let found = ledger.booking(absent).await.map_err(told)?;
        expect("a booking that was refused", (found.value, found.version), (None, Version::NONE))?;
    }
    Ok(())
}

/// The figures count the bookings of 24 hours, and say so when one leaves.
pub async fn figures_are_of_a_day(ledger: &dyn Ledger, now: u64) -> Outcome {
    let market = market(ledger, "day", now).await?;
    ledger.pass_time(now).await.map_err(told)?;
    booked(ledger, request("day", &gpu("day", 1), now, now + HOUR), now).await?;
    booked(ledger, request("day-2", &gpu("day", 2), now, now + HOUR), now).await?;
    ledger.cancel("day-2", &gpu("day", 2), now).await.map_err(told)?;
    ledger.pass_time(now + DAY - 1).await.map_err(told)?;
    let figures = async |what: &str, expected: (u64, MicroUsd)| {
        let stats = ledger.market_stats(Some(MODEL), Some(&market.region)).await.map_err(told)?;
        let found = stats.value.map(|stats| (stats.total_bookings_24h, stats.total_volume_24h));
        expect(what, found, Some(expected))
    };
    figures("within the day", (1, PRICE)).await?;
    let left = ledger.pass_time(now + DAY).await.map_err(told)?;
    let told_so = left.iter().any(|committed| committed.event.kind == kinds::MARKET_STATS_UPDATED);
    expect("told that it left", told_so, true)?;
    figures("after the day", (0, MicroUsd::ZERO)).await?;
    expect("told once", ledger.pass_time(now + DAY).await.map_err(told)?, vec![])
}

/// A provider that goes takes all its GPUs along; they come back with it.
pub async fn a_provider_takes_its_gpus_along(ledger: &dyn Ledger, now: u64) -> Outcome {
    market(ledger, "along", now).await?;
    let made = ledger.set_provider_status("along", ProviderState::Offline, now).await.map_err(told)?;
    expect("commits", made.len(), 1)?;
    for number in 1..=4 {
        expect("with it", status(ledger, &gpu("along", number)).await?, AvailabilityStatus::Offline)?;
    }
    let refused =
        ledger.book(request("along", &gpu("along", 1), now, now + HOUR), now).await.map_err(told)?;
    expect("not for rent", refused, BookOutcome::NotForRent(AvailabilityStatus::Offline))?;
    ledger.set_provider_status("along", ProviderState::Online, now).await.map_err(told)?;
    expect("back", status(ledger, &gpu("along", 4)).await?, AvailabilityStatus::Available)
}

/// What was asked before and changes nothing makes no commit.
pub async fn what_is_repeated_is_no_commit(ledger: &dyn Ledger, now: u64) -> Outcome {
    let market = market(ledger, "again", now).await?;
    ledger.set_price(&market, MicroUsd(5), now).await.map_err(told)?;
    expect("price", ledger.set_price(&market, MicroUsd(5), now).await.map_err(told)?, vec![])?;
    let id = gpu("again", 1);
    ledger.set_gpu_status(&id, AvailabilityStatus::Maintenance, now).await.map_err(told)?;
    let again = ledger.set_gpu_status(&id, AvailabilityStatus::Maintenance, now).await.map_err(told)?;
    expect("status", again, vec![])?;
    let again = ledger.set_provider_status("again", ProviderState::Online, now).await.map_err(told)?;
    expect("provider", again, vec![])
}
