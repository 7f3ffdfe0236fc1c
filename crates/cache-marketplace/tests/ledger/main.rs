//! The in-memory ledger from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod audited;
mod bookings;
mod cached_reads;
mod contract;
mod offers;
mod operations;
mod random_operations;
mod real_feed;
mod registry;

use cache_marketplace::{BookingRequest, Market, MemoryLedger, MicroUsd, Offer};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn offer(provider: &str, region: &str, count: u32, (min, avg): (u64, u64)) -> Offer {
    Offer {
        provider: provider.into(),
        gpu_model: "H100".into(),
        region: region.into(),
        count,
        min_price: MicroUsd(min),
        avg_price: MicroUsd(avg),
    }
}

fn request(booking_id: &str, gpu_id: &str, start_time: u64, end_time: u64) -> BookingRequest {
    BookingRequest {
        booking_id: booking_id.into(),
        gpu_id: gpu_id.into(),
        user_id: "u".into(),
        start_time,
        end_time,
    }
}

fn europe() -> Market {
    Market::new("H100", "europe")
}

/// Whether the counts are right; panics with what is wrong.
fn sound(ledger: &MemoryLedger) {
    ledger.validate().unwrap();
}
