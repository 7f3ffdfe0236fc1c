//! The marketplace's system of record on SQLite and PostgreSQL.
//!
//! [`SqlLedger`] keeps facts and counts in tables and runs the rules of `cache_marketplace` over the rows that a change
//! concerns, so it answers as the ledger in memory does. Each change is one transaction together with the outbox row
//! that tells of it; [`start_relay`] publishes what a crash left behind.
//!
//! ```
//! use std::sync::Arc;
//! use cache_marketplace::{BookOutcome, BookingRequest, Ledger, MicroUsd, Offer};
//! use cache_marketplace_sql::{LedgerOptions, SqlLedger};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ledger = SqlLedger::open("sqlite::memory:", LedgerOptions::default()).await?;
//! let price = MicroUsd(1_650_000);
//! let (provider, gpu_model, region) = ("vultr".into(), "H100".into(), "europe".into());
//! ledger.set_offers(Offer { provider, gpu_model, region, count: 4, min_price: price, avg_price: price }, 1_000).await?;
//!
//! let request = BookingRequest {
//!     booking_id: "b-1".into(),
//!     gpu_id: "vultr/H100/1".into(),
//!     user_id: "u-1".into(),
//!     start_time: 1_000,
//!     end_time: 3_601_000,
//! };
//! let BookOutcome::Booked { booking, .. } = ledger.book(request, 1_000).await? else { panic!() };
//! assert_eq!(booking.total_cost, price);
//! ledger.close().await;
//! # Ok(()) }
//! ```

#[macro_use]
mod mutation;

mod ledger;
mod load;
mod migrations;
mod relay;
mod schema;
mod writer;

pub use ledger::{LedgerOptions, OpenError, SqlLedger};
pub use relay::start_relay;
