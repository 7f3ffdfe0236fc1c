//! Random changes of a marketplace. The tests of every ledger draw from here; those of the ledger in a database include
//! this file.

use cache_marketplace::ledger::GpuRegistration;
use cache_marketplace::{
    AvailabilityStatus, BookingRequest, Hardware, Market, MicroUsd, Offer, ProviderState,
};
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;
pub(crate) const PROVIDERS: [&str; 2] = ["p", "q"];
pub(crate) const MODELS: [&str; 2] = ["A100_80GB_PCIe", "H100_80GB_SXM5"];
pub(crate) const REGIONS: [&str; 2] = ["europe", "us-east"];
/// Ids of GPUs put up one by one; some look as if they came with an offer.
const IDS: [&str; 4] = ["own-1", "p/A100_80GB_PCIe/1", "q/H100_80GB_SXM5/2", "z:9"];

/// Something that is done, whatever there is to be done it to.
#[derive(Debug, Clone)]
pub(crate) enum Op {
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

/// The call of a ledger that an [`Op`] comes to.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Offers(Offer),
    Price(Market, MicroUsd),
    Register(GpuRegistration),
    Gpu(String, AvailabilityStatus),
    Provider(&'static str, ProviderState),
    Book(BookingRequest),
    Cancel(BookingRequest),
    PassTime(u64),
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
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
        2 => (0..4_usize, 0..2_usize, 0..2_usize, 0..2_usize, 1..4_u64)
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

/// Where a random history stands.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) now: u64,
    /// All bookings that were asked for, whatever came of them.
    pub(crate) asked: Vec<BookingRequest>,
}

impl History {
    pub(crate) fn new(now: u64) -> Self {
        Self { now, asked: Vec::new() }
    }

    /// The id that the next booking will have.
    pub(crate) fn next_booking(&self) -> String {
        format!("b{}", self.asked.len())
    }

    /// What an operation comes to where there are these GPUs; nothing where it needs what is not there.
    pub(crate) fn call(&mut self, op: Op, gpus: &[String]) -> Option<Call> {
        Some(match op {
            Op::Offers { provider, model, region, count, min, more } => Call::Offers(Offer {
                provider: PROVIDERS[provider].into(),
                gpu_model: MODELS[model].into(),
                region: REGIONS[region].into(),
                count,
                min_price: MicroUsd(min * 1_000_001),
                avg_price: MicroUsd((min + more) * 1_000_001),
            }),
            Op::Price { model, region, price } => {
                Call::Price(Market::new(MODELS[model], REGIONS[region]), MicroUsd(price * 333_333))
            }
            Op::Register { id, provider, model, region, price } => Call::Register(GpuRegistration {
                gpu_id: IDS[id].into(),
                provider_id: PROVIDERS[provider].into(),
                gpu_type: MODELS[model].into(),
                region: REGIONS[region].into(),
                hardware: Hardware { performance_score: id as u32, ..Hardware::of(MODELS[model]) },
                base_price_per_hour: MicroUsd(price * 777_777),
                status: None,
            }),
            Op::Gpu { at, status } => Call::Gpu(pick(at, gpus)?.clone(), status),
            Op::Provider { provider, state } => Call::Provider(PROVIDERS[provider], state),
            Op::Book { at, starts_in, lasts } => {
                let request = BookingRequest {
                    booking_id: self.next_booking(),
                    gpu_id: pick(at, gpus)?.clone(),
                    user_id: "u".into(),
                    start_time: self.now + starts_in,
                    end_time: self.now + starts_in + lasts,
                };
                self.asked.push(request.clone());
                Call::Book(request)
            }
            Op::Again { at, longer } => {
                let mut request = pick(at, &self.asked)?.clone();
                request.end_time += u64::from(longer);
                Call::Book(request)
            }
            Op::Cancel { at } => Call::Cancel(pick(at, &self.asked)?.clone()),
            Op::Wait { ms } => {
                self.now += ms;
                Call::PassTime(self.now)
            }
            Op::Back { ms } => Call::PassTime(self.now.saturating_sub(ms)),
        })
    }
}

fn pick<T>(at: prop::sample::Index, from: &[T]) -> Option<&T> {
    (!from.is_empty()).then(|| at.get(from))
}
