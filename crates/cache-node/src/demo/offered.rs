//! What readers may ask for, and which of it a change touches.

use std::collections::HashMap;

use cache_events::{Key, Scope};
use cache_marketplace::{Ledger, Market, MarketError, MarketEvent, keys, touches};

/// Ids that are asked of the ledger at a time.
const PAGE: u32 = 1_000;

/// The GPUs and markets that readers know; grows with the feed.
#[derive(Default)]
pub(crate) struct Offered {
    pub(crate) gpus: Vec<Key>,
    /// Each with the keys of its price and its availability.
    pub(crate) markets: Vec<(Market, Key, Key)>,
    of_group: HashMap<Group, Vec<Key>>,
}

/// A provider and a model of its: all such GPUs stand in one region.
pub(crate) type Group = (String, String);

impl Offered {
    /// What the ledger has by now; `None` if `known` is that already.
    pub(crate) async fn of(ledger: &dyn Ledger, known: &Self) -> Result<Option<Self>, MarketError> {
        let (mut ids, mut after) = (Vec::new(), String::new());
        loop {
            let page = ledger.gpu_ids(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(last);
            ids.extend(page);
        }
        let markets = ledger.markets().await?;
        if ids.len() == known.gpus.len() && markets.len() == known.markets.len() {
            return Ok(None);
        }
        let mut offered = Self::default();
        for id in ids {
            let key = keys::gpu_key(&id)?;
            let mut parts = id.split('/').map(str::to_owned);
            if let (Some(provider), Some(model)) = (parts.next(), parts.next()) {
                offered.of_group.entry((provider, model)).or_default().push(key.clone());
            }
            offered.gpus.push(key);
        }
        for market in markets {
            let price = keys::price_key(&market.gpu_type, &market.region)?;
            let availability = keys::availability_key(&market.gpu_type, &market.region)?;
            offered.markets.push((market, price, availability));
        }
        Ok(Some(offered))
    }

    /// The keys that a change touches, tags resolved to the GPUs that readers know; `regions` says where they stand.
    pub(crate) fn keys_of(&self, event: &MarketEvent, regions: &HashMap<Group, String>) -> Vec<Key> {
        let scopes = touches(event).unwrap_or_default();
        let named = scopes.into_iter().filter_map(|scope| match scope {
            Scope::Key(key) => Some(key),
            _ => None,
        });
        let subject = &event.subject;
        let of_provider = subject.provider_id.as_ref().filter(|_| subject.all_of_provider);
        let stands_in = |group: &Group, market: &Market| {
            group.1 == market.gpu_type && regions.get(group) == Some(&market.region)
        };
        let covered = |group: &Group| {
            of_provider == Some(&group.0)
                || (subject.rescaled && subject.markets.iter().any(|market| stands_in(group, market)))
        };
        let tagged = self.of_group.iter().filter(|(group, _)| covered(group));
        named.chain(tagged.flat_map(|(_, keys)| keys.iter().cloned())).collect()
    }
}
