//! Random operations: the ledger in a database answers every step, and every read after it, as the one in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "../../cache-marketplace/tests/ledger/operations.rs"]
mod operations;
mod support;

use cache_marketplace::{AvailabilityStatus, Ledger, Market, MemoryLedger, Ranking, Search};
use cache_marketplace_sql::SqlLedger;
use operations::{Call, History, MODELS, Op, PROVIDERS, REGIONS, op};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Postgres, open};

const START: u64 = 1_760_000_000_000;

struct Pair {
    sql: SqlLedger,
    memory: MemoryLedger,
    history: History,
}

/// Asks both ledgers the same, and fails if they answer differently.
macro_rules! both {
    ($pair:expr, $what:expr, |$ledger:ident| $call:expr) => {{
        let expected = {
            let $ledger: &dyn Ledger = &$pair.memory;
            format!("{:?}", $call.await)
        };
        let found = {
            let $ledger: &dyn Ledger = &$pair.sql;
            format!("{:?}", $call.await)
        };
        prop_assert_eq!(found, expected, "{}", $what);
    }};
}

impl Pair {
    async fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let call = self.history.call(op.clone(), &self.memory.gpu_ids());
        let now = self.history.now;
        match call {
            None => {}
            Some(Call::Offers(offer)) => {
                both!(self, "offers", |ledger| ledger.set_offers(offer.clone(), now))
            }
            Some(Call::Price(market, price)) => {
                both!(self, "price", |ledger| ledger.set_price(&market, price, now));
            }
            Some(Call::Register(gpu)) => both!(self, "register", |ledger| ledger.put_gpu(gpu.clone(), now)),
            Some(Call::Gpu(gpu_id, status)) => {
                both!(self, "status", |ledger| ledger.set_gpu_status(&gpu_id, status, now));
            }
            Some(Call::Provider(provider, state)) => {
                both!(self, "provider", |ledger| ledger.set_provider_status(provider, state, now));
            }
            Some(Call::Book(request)) => both!(self, "book", |ledger| ledger.book(request.clone(), now)),
            Some(Call::Cancel(request)) => {
                both!(self, "cancel", |ledger| ledger.cancel(&request.booking_id, &request.gpu_id, now));
            }
            Some(Call::PassTime(now)) => both!(self, "time", |ledger| ledger.pass_time(now)),
        }
        self.agree().await
    }

    /// Every read of both.
    async fn agree(&self) -> Result<(), TestCaseError> {
        both!(self, "markets", |ledger| ledger.markets());
        both!(self, "GPUs", |ledger| ledger.gpu_ids("", 1_000));
        both!(self, "bookings", |ledger| ledger.bookings("", 1_000));
        for gpu_id in self.memory.gpu_ids() {
            both!(self, gpu_id, |ledger| ledger.gpu(&gpu_id));
        }
        for provider in PROVIDERS {
            both!(self, provider, |ledger| ledger.provider(provider));
        }
        if let Some(request) = self.history.asked.last() {
            both!(self, "booking", |ledger| ledger.booking(&request.booking_id));
        }
        for gpu_type in [None, Some(MODELS[0]), Some(MODELS[1])] {
            for region in [None, Some(REGIONS[0]), Some(REGIONS[1])] {
                let what = format!("{gpu_type:?} in {region:?}");
                both!(self, what, |ledger| ledger.market_stats(gpu_type, region));
                let (of_type, of_region) = (gpu_type.map(str::to_owned), region.map(str::to_owned));
                let search = Search { gpu_type: of_type, region: of_region, limit: 3, ..Search::default() };
                both!(self, what, |ledger| ledger.search(&search));
                let (Some(gpu_type), Some(region)) = (gpu_type, region) else { continue };
                let market = Market::new(gpu_type, region);
                both!(self, what, |ledger| ledger.availability(&market));
                both!(self, what, |ledger| ledger.price(&market));
                both!(self, what, |ledger| ledger.order_book(&market));
                both!(self, what, |ledger| ledger.history(&market));
            }
        }
        let search = Search {
            ranking: Ranking::Performance,
            provider_id: Some("p".into()),
            status: Some(AvailabilityStatus::Available),
            ..Search::default()
        };
        both!(self, "search", |ledger| ledger.search(&search));
        Ok(())
    }
}

fn check(cases: u32, url: impl Fn(&tokio::runtime::Runtime) -> String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&proptest::collection::vec(op(), 1..40), |ops| {
        let url = url(&runtime);
        runtime.block_on(async {
            let mut pair =
                Pair { sql: open(&url).await, memory: MemoryLedger::new(), history: History::new(START) };
            let mut outcome = Ok(());
            for op in &ops {
                outcome = pair.run(op).await;
                if outcome.is_err() {
                    break;
                }
            }
            pair.sql.close().await;
            outcome
        })
    });
    if let Err(failure) = ran {
        panic!("{failure}");
    }
}

#[test]
fn sqlite_answers_as_memory_does() {
    check(60, |_| "sqlite::memory:".to_owned());
}

#[test]
fn postgres_answers_as_memory_does() {
    let postgres = Postgres::start();
    check(6, |runtime| runtime.block_on(postgres.fresh()));
}
