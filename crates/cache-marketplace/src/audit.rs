//! Whether a node's answers are the ledger's: every key there is, read both ways and compared.
//!
//! Meaningful while nothing changes: between two changes, or when all is over.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use cache_tiered::{Answer, Tier};

use crate::ledger::Versioned;
use crate::touches::stats_cells;
use crate::{Availability, Cursor, Market, MarketError, Marketplace, Ranking, Search};

/// Ids that are asked of the ledger at a time.
const PAGE: u32 = 1_000;
/// Differences that are told in words; beyond that they are only counted.
const TOLD_MAX: usize = 20;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Answers that were compared.
    pub compared: u64,
    /// Of these, answered from L1.
    pub from_l1: u64,
    /// Of all, other than the ledger's.
    pub different: u64,
    /// The first of those, in words.
    pub told: Vec<String>,
}

impl Comparison {
    fn add<T, V>(&mut self, what: impl Debug, seen: &Answer<V>, truth: Versioned<Option<T>>, wrap: fn(T) -> V)
    where
        V: PartialEq + Debug,
    {
        self.compared += 1;
        self.from_l1 += u64::from(seen.tier == Tier::L1);
        let expected = truth.value.map(wrap);
        if seen.value.as_deref() != expected.as_ref() {
            self.different += 1;
            if self.told.len() < TOLD_MAX {
                self.told.push(format!("{what:?}: {:?} instead of {expected:?}", seen.value));
            }
        }
    }
}

/// Compares every GPU, market, figure, provider, booking and past that the ledger knows, and pages of searches in
/// every type and region; also the absence of what does not exist.
///
/// # Errors
/// [`MarketError`] if a read fails.
pub async fn compare(market: &Marketplace) -> Result<Comparison, MarketError> {
    let mut found = Comparison::default();
    let ledger = Arc::clone(market.ledger());
    let mut markets = ledger.markets().await?;
    markets.push(Market::new("unknown", "nowhere"));
    let mut cells = BTreeSet::from([(None, None)]);
    for at in &markets {
        found.add(at, &market.availability(at).await?, ledger.availability(at).await?, Availability::Type);
        found.add(at, &market.price(at).await?, ledger.price(at).await?, |price| price);
        found.add(at, &market.order_book(at).await?, ledger.order_book(at).await?, |book| book);
        found.add(at, &market.history(at).await?, ledger.history(at).await?, |past| past);
        cells.extend(stats_cells(at));
    }
    for cell in cells {
        let (gpu_type, region) = (cell.0.as_deref(), cell.1.as_deref());
        let truth = ledger.market_stats(gpu_type, region).await?;
        found.add(&cell, &market.stats(gpu_type, region).await?, truth, |figures| figures);
        for search in searches(&cell) {
            let Versioned { value, version } = ledger.search(&search).await?;
            let truth = Versioned { value: Some(value), version };
            found.add(&search, &market.search(&search).await?, truth, |page| page);
        }
    }
    gpus_and_providers(market, &mut found).await?;
    let mut after = String::new();
    loop {
        let ids: Vec<String> =
            ledger.bookings(&after, PAGE).await?.into_iter().map(|booking| booking.booking_id).collect();
        for id in &ids {
            found.add(id, &market.booking(id).await?, ledger.booking(id).await?, |booking| booking);
        }
        match ids.into_iter().next_back() {
            Some(last) => after = last,
            None => break,
        }
    }
    Ok(found)
}

async fn gpus_and_providers(market: &Marketplace, found: &mut Comparison) -> Result<(), MarketError> {
    let ledger = market.ledger();
    let mut providers = BTreeSet::from(["nobody".to_owned()]);
    let mut ids = vec!["nothing".to_owned()];
    let mut after = String::new();
    loop {
        for id in &ids {
            let truth = ledger.gpu(id).await?;
            providers.extend(truth.value.as_ref().map(|gpu| gpu.provider_id.clone()));
            found.add(id, &market.gpu(id).await?, truth, Availability::Gpu);
        }
        ids = ledger.gpu_ids(&after, PAGE).await?;
        match ids.last() {
            Some(last) => after.clone_from(last),
            None => break,
        }
    }
    for id in providers {
        found.add(&id, &market.provider(&id).await?, ledger.provider(&id).await?, |provider| provider);
    }
    Ok(())
}

/// The first page by either rank, and one from the middle.
fn searches((gpu_type, region): &(Option<String>, Option<String>)) -> [Search; 3] {
    let (gpu_type, region) = (gpu_type.clone(), region.clone());
    let first = Search { gpu_type, region, limit: 5, ..Search::default() };
    let after = Some(Cursor { rank: 1_500_000, gpu_id: "m".into() });
    let best = Search { ranking: Ranking::Performance, ..first.clone() };
    [Search { after, ..first.clone() }, best, first]
}
