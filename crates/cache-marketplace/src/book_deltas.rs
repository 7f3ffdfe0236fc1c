//! Order books for those who follow them: what has changed since the book that they hold.
//!
//! A book is named by its version, the number of the commit that last touched it; two answers with one version are
//! equal. A delta lists the levels that differ, whole, so applying it twice does no harm. Whoever holds a version that
//! this node no longer remembers (or never saw) gets the book as it is: that is the snapshot after a gap.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use cache_events::Version;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Market, MicroUsd, OrderBook, PriceLevel};

/// Books that are remembered of one market.
const VERSIONS_MAX: usize = 16;
/// Markets of which books are remembered; beyond that, the one that was asked for least recently is forgotten.
const MARKETS_MAX: usize = 256;

/// What has changed between two versions of an order book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BookDelta {
    /// The model.
    pub gpu_type: String,
    /// The region.
    pub region: String,
    /// The lowest price now.
    pub best_price: Option<MicroUsd>,
    /// The levels that differ, as they are now; one without GPUs is gone.
    pub changes: Vec<PriceLevel>,
    /// When the book last changed.
    pub last_updated: u64,
}

impl OrderBook {
    /// What turns this book into `newer`, a later one of the same market.
    pub fn delta_to(&self, newer: &Self) -> BookDelta {
        let levels = |book: &'_ Self| -> BTreeMap<MicroUsd, Vec<String>> {
            book.levels.iter().map(|level| (level.price_per_hour, level.gpu_ids.clone())).collect()
        };
        let (old, new) = (levels(self), levels(newer));
        let gone = old.keys().filter(|price| !new.contains_key(price)).map(|&price| (price, Vec::new()));
        let differ = new.iter().filter(|(price, ids)| old.get(price) != Some(ids));
        let changed: BTreeMap<MicroUsd, Vec<String>> =
            gone.chain(differ.map(|(&price, ids)| (price, ids.clone()))).collect();
        BookDelta {
            gpu_type: newer.gpu_type.clone(),
            region: newer.region.clone(),
            best_price: newer.best_price,
            changes: changed.into_iter().map(level).collect(),
            last_updated: newer.last_updated,
        }
    }

    /// The book after a delta that was made from it.
    #[must_use]
    pub fn applied(&self, delta: &BookDelta) -> Self {
        let mut levels: BTreeMap<MicroUsd, Vec<String>> =
            self.levels.iter().map(|level| (level.price_per_hour, level.gpu_ids.clone())).collect();
        for change in &delta.changes {
            if change.gpu_ids.is_empty() {
                levels.remove(&change.price_per_hour);
            } else {
                levels.insert(change.price_per_hour, change.gpu_ids.clone());
            }
        }
        Self {
            gpu_type: delta.gpu_type.clone(),
            region: delta.region.clone(),
            best_price: delta.best_price,
            levels: levels.into_iter().map(level).collect(),
            last_updated: delta.last_updated,
        }
    }
}

fn level((price_per_hour, gpu_ids): (MicroUsd, Vec<String>)) -> PriceLevel {
    PriceLevel { price_per_hour, count: gpu_ids.len() as u64, gpu_ids }
}

/// The last books that were answered, by market and version. Bounded; what is forgotten is answered whole.
#[derive(Debug, Default)]
pub struct RecentBooks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    books: HashMap<Market, Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    last_asked: u64,
    versions: VecDeque<(Version, Arc<OrderBook>)>,
}

impl RecentBooks {
    /// Remembers a book that is answered, and says what has changed since `since`; `None` if that version is not
    /// remembered.
    pub fn since(
        &self,
        market: &Market,
        since: Option<Version>,
        (version, book): (Version, &Arc<OrderBook>),
    ) -> Option<BookDelta> {
        let mut state = self.state.lock();
        state.asked += 1;
        let asked = state.asked;
        if !state.books.contains_key(market) && state.books.len() >= MARKETS_MAX {
            let oldest = state.books.iter().min_by_key(|(_, remembered)| remembered.last_asked);
            if let Some(oldest) = oldest.map(|(market, _)| market.clone()) {
                state.books.remove(&oldest);
            }
        }
        let remembered = state.books.entry(market.clone()).or_default();
        remembered.last_asked = asked;
        if version != Version::NONE && remembered.versions.iter().all(|(known, _)| *known != version) {
            if remembered.versions.len() == VERSIONS_MAX {
                remembered.versions.pop_front();
            }
            remembered.versions.push_back((version, book.clone()));
        }
        let old =
            remembered.versions.iter().find(|(known, _)| Some(*known) == since).map(|(_, old)| old.clone());
        drop(state);
        old.map(|old| old.delta_to(book))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn book(levels: BTreeMap<u64, Vec<u8>>) -> OrderBook {
        let levels: Vec<PriceLevel> = levels
            .into_iter()
            .map(|(price, ids)| level((MicroUsd(price), ids.iter().map(ToString::to_string).collect())))
            .collect();
        OrderBook {
            gpu_type: "H100".into(),
            region: "europe".into(),
            best_price: levels.first().map(|level| level.price_per_hour),
            levels,
            last_updated: 1,
        }
    }

    fn books() -> impl Strategy<Value = OrderBook> {
        proptest::collection::btree_map(0..6_u64, proptest::collection::vec(0..9_u8, 1..4), 0..6)
            .prop_map(book)
    }

    proptest! {
        #[test]
        fn a_delta_turns_the_old_book_into_the_new_one_however_often(old in books(), new in books()) {
            let delta = old.delta_to(&new);
            let once = old.applied(&delta);
            prop_assert_eq!(&once, &new);
            prop_assert_eq!(&once.applied(&delta), &new);
            prop_assert!(new.delta_to(&new).changes.is_empty());
        }
    }

    #[test]
    fn what_is_not_remembered_is_answered_whole() {
        let (recent, market) = (RecentBooks::default(), Market::new("H100", "europe"));
        let at = |price| Arc::new(book(BTreeMap::from([(price, vec![1])])));
        assert_eq!(recent.since(&market, Some(Version(1)), (Version(2), &at(5))), None);
        let delta = recent.since(&market, Some(Version(2)), (Version(3), &at(6))).unwrap();
        assert_eq!(delta.changes.iter().map(|level| level.count).collect::<Vec<_>>(), [0, 1]);
        for version in 4..4 + VERSIONS_MAX as u64 {
            recent.since(&market, None, (Version(version), &at(version)));
        }
        assert_eq!(recent.since(&market, Some(Version(3)), (Version(90), &at(6))), None);
        for n in 0..MARKETS_MAX {
            recent.since(&Market::new(n.to_string(), "europe"), None, (Version(1), &at(5)));
        }
        assert_eq!(recent.since(&market, Some(Version(90)), (Version(91), &at(6))), None);
        assert!(recent.state.lock().books.len() <= MARKETS_MAX);
    }
}
