//! Random operations: the counts stay those of a recomputation, and whoever cached a value hears of its change.

use std::collections::HashMap;
use std::sync::Arc;

use cache_events::{Key, Scope, Tag, Version};
use cache_marketplace::keys::gpu_tags;
use cache_marketplace::{
    Availability, BookOutcome, CancelOutcome, Committed, Ledger, LedgerError, MarketValue, MemoryLedger,
    touches,
};
use proptest::prelude::*;

use crate::operations::{Call, History, Op, op};

pub(crate) struct World {
    pub(crate) ledger: Arc<MemoryLedger>,
    history: History,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { ledger: Arc::new(MemoryLedger::new()), history: History::new(1_000) }
    }

    /// The id that the next booking will have.
    pub(crate) fn next_booking(&self) -> String {
        self.history.next_booking()
    }

    /// Does it; the changes that it made.
    pub(crate) async fn run(&mut self, op: Op) -> Vec<Committed> {
        let ledger = &self.ledger;
        let call = self.history.call(op, &ledger.gpu_ids());
        let now = self.history.now;
        match call {
            None => vec![],
            Some(Call::Offers(offer)) => ledger.set_offers(offer, now).await.unwrap(),
            Some(Call::Price(market, price)) => {
                ledger.set_price(&market, price, now).await.unwrap_or_default()
            }
            Some(Call::Register(gpu)) => ledger.put_gpu(gpu, now).await.unwrap_or_default(),
            Some(Call::Gpu(gpu_id, status)) => ledger.set_gpu_status(&gpu_id, status, now).await.unwrap(),
            Some(Call::Provider(provider, state)) => {
                ledger.set_provider_status(provider, state, now).await.unwrap_or_default()
            }
            Some(Call::Book(request)) => match ledger.book(request, now).await {
                Ok(BookOutcome::Booked { committed, repeated: false, .. }) => vec![committed],
                // Asked again, it may be over by now.
                Ok(_) | Err(LedgerError::Invalid { .. }) => vec![],
                Err(error) => panic!("{error}"),
            },
            Some(Call::Cancel(request)) => {
                match ledger.cancel(&request.booking_id, &request.gpu_id, now).await.unwrap() {
                    CancelOutcome::Cancelled { committed, repeated: false, .. } => vec![committed],
                    _ => vec![],
                }
            }
            Some(Call::PassTime(now)) => ledger.pass_time(now).await.unwrap(),
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
