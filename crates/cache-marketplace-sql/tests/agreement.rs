//! Random operations: the ledger in a database answers every step, and every read after it, as the one in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod support;

use cache_marketplace::ledger::GpuRegistration;
use cache_marketplace::{
    AvailabilityStatus, BookingRequest, Hardware, Ledger, Market, MemoryLedger, MicroUsd, Offer,
    ProviderState, Ranking, Search,
};
use cache_marketplace_sql::SqlLedger;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Postgres, open};

const HOUR: u64 = 3_600_000;
const START: u64 = 1_760_000_000_000;
const PROVIDERS: [&str; 2] = ["p", "q"];
const MODELS: [&str; 2] = ["A100_80GB_PCIe", "H100_80GB_SXM5"];
const REGIONS: [&str; 2] = ["europe", "us-east"];

#[derive(Debug, Clone)]
enum Op {
    Offers { provider: usize, model: usize, region: usize, count: u32, min: u64, more: u64 },
    Price { model: usize, region: usize, price: u64 },
    Register { id: usize, provider: usize, model: usize, region: usize, price: u64 },
    Gpu { at: prop::sample::Index, status: AvailabilityStatus },
    Provider { provider: usize, state: ProviderState },
    Book { at: prop::sample::Index, starts_in: u64, lasts: u64 },
    Again { at: prop::sample::Index, longer: bool },
    Cancel { at: prop::sample::Index },
    Wait { ms: u64 },
    Back { ms: u64 },
}

/// Ids of GPUs put up one by one; some look as if they came with an offer.
const IDS: [&str; 4] = ["own-1", "p/A100_80GB_PCIe/2", "q/H100_80GB_SXM5/1", "z:9"];

fn op() -> impl Strategy<Value = Op> {
    let offers = (0..2_usize, 0..2_usize, 0..2_usize, 0..7_u32, 1..4_u64, 0..2_u64);
    let status = prop::sample::select(vec![
        AvailabilityStatus::Available,
        AvailabilityStatus::Available,
        AvailabilityStatus::Offline,
        AvailabilityStatus::Maintenance,
        AvailabilityStatus::Busy,
    ]);
    let state =
        prop::sample::select(vec![ProviderState::Online, ProviderState::Offline, ProviderState::Maintenance]);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => offers.prop_map(|(provider, model, region, count, min, more)| {
            Op::Offers { provider, model, region, count, min, more }
        }),
        1 => (0..2_usize, 0..2_usize, 1..4_u64)
            .prop_map(|(model, region, price)| Op::Price { model, region, price }),
        1 => (0..4_usize, 0..2_usize, 0..2_usize, 0..2_usize, 1..4_u64)
            .prop_map(|(id, provider, model, region, price)| Op::Register { id, provider, model, region, price }),
        2 => (index(), status).prop_map(|(at, status)| Op::Gpu { at, status }),
        1 => (0..2_usize, state).prop_map(|(provider, state)| Op::Provider { provider, state }),
        6 => (index(), prop_oneof![Just(0), 0..3 * HOUR], 1..3 * HOUR)
            .prop_map(|(at, starts_in, lasts)| Op::Book { at, starts_in, lasts }),
        1 => (index(), any::<bool>()).prop_map(|(at, longer)| Op::Again { at, longer }),
        2 => index().prop_map(|at| Op::Cancel { at }),
        3 => prop_oneof![3 => 0..2 * HOUR, 1 => 20 * HOUR..30 * HOUR].prop_map(|ms| Op::Wait { ms }),
        1 => (1..HOUR).prop_map(|ms| Op::Back { ms }),
    ]
}

struct Pair {
    sql: SqlLedger,
    memory: MemoryLedger,
    now: u64,
    asked: Vec<BookingRequest>,
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
        let now = self.now;
        let gpus = self.memory.gpu_ids();
        match op.clone() {
            Op::Offers { provider, model, region, count, min, more } => {
                let offer = Offer {
                    provider: PROVIDERS[provider].into(),
                    gpu_model: MODELS[model].into(),
                    region: REGIONS[region].into(),
                    count,
                    min_price: MicroUsd(min * 1_000_001),
                    avg_price: MicroUsd((min + more) * 1_000_001),
                };
                both!(self, "offers", |ledger| ledger.set_offers(offer.clone(), now));
            }
            Op::Price { model, region, price } => {
                let (market, price) =
                    (Market::new(MODELS[model], REGIONS[region]), MicroUsd(price * 333_333));
                both!(self, "price", |ledger| ledger.set_price(&market, price, now));
            }
            Op::Register { id, provider, model, region, price } => {
                let gpu = GpuRegistration {
                    gpu_id: IDS[id].into(),
                    provider_id: PROVIDERS[provider].into(),
                    gpu_type: MODELS[model].into(),
                    region: REGIONS[region].into(),
                    hardware: Hardware::of(MODELS[model]),
                    base_price_per_hour: MicroUsd(price * 777_777),
                    status: None,
                };
                both!(self, "register", |ledger| ledger.put_gpu(gpu.clone(), now));
            }
            Op::Gpu { at, status } if !gpus.is_empty() => {
                both!(self, "status", |ledger| ledger.set_gpu_status(
                    &gpus[at.index(gpus.len())],
                    status,
                    now
                ));
            }
            Op::Provider { provider, state } => {
                both!(self, "provider", |ledger| ledger.set_provider_status(PROVIDERS[provider], state, now));
            }
            Op::Book { at, starts_in, lasts } if !gpus.is_empty() => {
                let request = BookingRequest {
                    booking_id: format!("b{}", self.asked.len()),
                    gpu_id: at.get(&gpus).clone(),
                    user_id: "u".into(),
                    start_time: now + starts_in,
                    end_time: now + starts_in + lasts,
                };
                both!(self, "book", |ledger| ledger.book(request.clone(), now));
                self.asked.push(request);
            }
            Op::Again { at, longer } if !self.asked.is_empty() => {
                let mut request = at.get(&self.asked).clone();
                request.end_time += u64::from(longer);
                both!(self, "book again", |ledger| ledger.book(request.clone(), now));
            }
            Op::Cancel { at } if !self.asked.is_empty() => {
                let request = at.get(&self.asked);
                both!(self, "cancel", |ledger| ledger.cancel(&request.booking_id, &request.gpu_id, now));
            }
            Op::Wait { ms } => {
                self.now += ms;
                both!(self, "time", |ledger| ledger.pass_time(self.now));
            }
            Op::Back { ms } => both!(self, "time back", |ledger| ledger.pass_time(now - ms)),
            _ => {}
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
        if let Some(request) = self.asked.last() {
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
                Pair { sql: open(&url).await, memory: MemoryLedger::new(), now: START, asked: vec![] };
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
