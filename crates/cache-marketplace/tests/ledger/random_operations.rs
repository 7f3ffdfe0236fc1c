//! Random operations: the counts stay those of a recomputation, and whoever cached a value hears of its change.

use std::collections::HashMap;
use std::sync::Arc;

use cache_events::{Key, Scope, Tag, Version};
use cache_marketplace::keys::gpu_tags;
use cache_marketplace::{
    Availability, AvailabilityStatus, BookOutcome, BookingRequest, CancelOutcome, Committed, GpuRegistration,
    Hardware, Ledger, Market, MarketValue, MemoryLedger, MicroUsd, Offer, ProviderState, touches,
};
use proptest::prelude::*;

use crate::HOUR;

const PROVIDERS: [&str; 2] = ["p", "q"];
const MODELS: [&str; 2] = ["A100_80GB_PCIe", "H100_80GB_SXM5"];
const REGIONS: [&str; 2] = ["europe", "us-east"];

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Offers { provider: usize, model: usize, region: usize, count: u32, min: u64, more: u64 },
    Price { model: usize, region: usize, price: u64 },
    Gpu { at: prop::sample::Index, status: AvailabilityStatus },
    Put { id: usize, model: usize, region: usize, price: u64 },
    Provider { provider: usize, state: ProviderState },
    Book { at: prop::sample::Index, starts_in: u64, lasts: u64 },
    Cancel { at: prop::sample::Index },
    Wait { ms: u64 },
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
    prop_oneof![
        4 => offers.prop_map(|(provider, model, region, count, min, more)| {
            Op::Offers { provider, model, region, count, min, more }
        }),
        1 => (0..2_usize, 0..2_usize, 1..4_u64).prop_map(|(model, region, price)| Op::Price { model, region, price }),
        2 => (any::<prop::sample::Index>(), status).prop_map(|(at, status)| Op::Gpu { at, status }),
        2 => (0..3_usize, 0..2_usize, 0..2_usize, 1..4_u64)
            .prop_map(|(id, model, region, price)| Op::Put { id, model, region, price }),
        1 => (0..2_usize, state).prop_map(|(provider, state)| Op::Provider { provider, state }),
        6 => (any::<prop::sample::Index>(), prop_oneof![Just(0), 0..3 * HOUR], 1..3 * HOUR)
            .prop_map(|(at, starts_in, lasts)| Op::Book { at, starts_in, lasts }),
        2 => any::<prop::sample::Index>().prop_map(|at| Op::Cancel { at }),
        3 => prop_oneof![3 => 0..2 * HOUR, 1 => 20 * HOUR..30 * HOUR].prop_map(|ms| Op::Wait { ms }),
    ]
}

pub(crate) struct World {
    pub(crate) ledger: Arc<MemoryLedger>,
    now: u64,
    booked: Vec<(String, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { ledger: Arc::new(MemoryLedger::new()), now: 1_000, booked: vec![] }
    }

    /// The id that the next booking will have.
    pub(crate) fn next_booking(&self) -> String {
        format!("b{}", self.booked.len())
    }

    pub(crate) async fn run(&mut self, op: Op) -> Vec<Committed> {
        let (ledger, now) = (&self.ledger, self.now);
        let gpus = ledger.gpu_ids();
        match op {
            Op::Offers { provider, model, region, count, min, more } => {
                let offer = Offer {
                    provider: PROVIDERS[provider].into(),
                    gpu_model: MODELS[model].into(),
                    region: REGIONS[region].into(),
                    count,
                    min_price: MicroUsd(min * 1_000_001),
                    avg_price: MicroUsd((min + more) * 1_000_001),
                };
                ledger.set_offers(offer, now).await.unwrap()
            }
            Op::Price { model, region, price } => {
                let market = Market::new(MODELS[model], REGIONS[region]);
                ledger.set_price(&market, MicroUsd(price * 333_333), now).await.unwrap_or_default()
            }
            Op::Gpu { at, status } if !gpus.is_empty() => {
                ledger.set_gpu_status(&gpus[at.index(gpus.len())], status, now).await.unwrap()
            }
            Op::Put { id, model, region, price } => {
                let gpu = GpuRegistration {
                    gpu_id: ["mine", "p/A100_80GB_PCIe/1", "p/A100_80GB_PCIe/3"][id].into(),
                    provider_id: "p".into(),
                    gpu_type: MODELS[model].into(),
                    region: REGIONS[region].into(),
                    hardware: Hardware { memory_gb: 8, cuda_cores: 8, performance_score: id as u32 },
                    base_price_per_hour: MicroUsd(price * 1_000_001),
                    status: None,
                };
                ledger.put_gpu(gpu, now).await.unwrap_or_default()
            }
            Op::Provider { provider, state } => {
                ledger.set_provider_status(PROVIDERS[provider], state, now).await.unwrap_or_default()
            }
            Op::Book { at, starts_in, lasts } if !gpus.is_empty() => {
                let (gpu_id, booking_id) = (at.get(&gpus).clone(), self.next_booking());
                let (start_time, end_time) = (now + starts_in, now + starts_in + lasts);
                let (id, user_id) = (booking_id.clone(), "u".into());
                let request =
                    BookingRequest { booking_id, gpu_id: gpu_id.clone(), user_id, start_time, end_time };
                match ledger.book(request, now).await.unwrap() {
                    BookOutcome::Booked { committed, .. } => {
                        self.booked.push((id, gpu_id));
                        vec![committed]
                    }
                    _ => vec![],
                }
            }
            Op::Cancel { at } if !self.booked.is_empty() => {
                let (booking_id, gpu_id) = at.get(&self.booked);
                match ledger.cancel(booking_id, gpu_id, now).await.unwrap() {
                    CancelOutcome::Cancelled { committed, repeated: false, .. } => vec![committed],
                    _ => vec![],
                }
            }
            Op::Wait { ms } => {
                self.now += ms;
                ledger.pass_time(self.now).await.unwrap()
            }
            _ => vec![],
        }
    }

    /// What a cache would hold: each value with its version.
    fn cached(&self) -> HashMap<Key, (MarketValue, Version)> {
        let values = self.ledger.recompute().unwrap();
        values
            .into_iter()
            .map(|(key, value)| (key.clone(), (value, self.ledger.value(&key).version)))
            .collect()
    }
}

/// Whether a cached entry goes when the scope is invalidated: by its key, or by the tags that it was stored with.
fn covers(scope: &Scope, key: &Key, tags: &[Tag]) -> bool {
    match scope {
        Scope::Key(covered) => covered == key,
        Scope::Tag(tag) => tags.contains(tag),
        _ => false,
    }
}

fn tags_of(value: Option<&(MarketValue, Version)>) -> Vec<Tag> {
    match value {
        Some((MarketValue::Availability(Availability::Gpu(gpu)), _)) => gpu_tags(gpu).unwrap(),
        _ => vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn counts_are_right_and_no_cached_value_misses_its_change(ops in proptest::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut world = World::new();
        for op in ops {
            let before = world.cached();
            let changes = runtime.block_on(world.run(op.clone()));
            world.ledger.validate().map_err(|wrong| TestCaseError::fail(format!("{op:?}: {wrong}")))?;
            let after = world.cached();

            let mut scopes = Vec::new();
            for change in &changes {
                scopes.extend(touches(&change.event).unwrap());
            }
            let latest = changes.last().map_or(Version::NONE, |change| change.version);
            for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(key))) {
                let (old, new) = (before.get(key), after.get(key));
                let covered = scopes.iter().any(|scope| covers(scope, key, &tags_of(old)));
                let changed = old.map(|(value, _)| value) != new.map(|(value, _)| value);
                if changed {
                    prop_assert!(covered, "{op:?} changed {key} from {old:?} to {new:?}, and told nobody");
                }
                // A value that is gone has a version too.
                let version = world.ledger.value(key).version;
                let known = old.map_or(Version::NONE, |(_, version)| *version);
                if covered {
                    prop_assert!(version > known && version <= latest, "{op:?}: {key} has {version:?} after {known:?}");
                } else {
                    prop_assert_eq!(version, known, "{:?} gave {} a version, and told nobody", op, key);
                }
            }
            for key in changes.iter().flat_map(|change| world.ledger.keys_of(&change.event).unwrap()) {
                let covered = scopes.iter().any(|scope| covers(scope, &key, &tags_of(before.get(&key).or(after.get(&key)))));
                prop_assert!(covered, "{op:?} lists {key}, which none of its scopes covers");
            }
        }
    }
}
