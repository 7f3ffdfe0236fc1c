//! Changes that providers make: what they offer, at what price, and whether they are there.

use super::commit::Draft;
use super::state::{Cell, Gpu, Group, Provider, Stamp, State, gpu_id};
use super::{Committed, LedgerError, Offer, check_price};
use crate::{AvailabilityStatus, Hardware, Market, MicroUsd, ProviderState, kinds};

impl State {
    pub(super) fn set_offers(&mut self, offer: Offer) -> Result<Vec<Committed>, LedgerError> {
        offer.check()?;
        self.providers.entry(offer.provider.clone()).or_insert_with(Provider::new);
        let name = (offer.provider.clone(), offer.gpu_model.clone());
        let group = self.groups.entry(name.clone()).or_default();
        let moved = group.region != offer.region;
        let repriced =
            offer.count > 0 && (group.min_price, group.avg_price) != (offer.min_price, offer.avg_price);
        group.region.clone_from(&offer.region);
        group.wanted = offer.count;
        if offer.count > 0 {
            (group.min_price, group.avg_price) = (offer.min_price, offer.avg_price);
        }
        let ids = self.groups.get(&name).map_or_else(Vec::new, |group| self.ids_of(&name, group));

        let mut committed = Vec::new();
        let mut prices = Draft::default();
        if repriced {
            let first = gpu_id(&name.0, &name.1, 1);
            for id in &ids {
                let price = if *id == first { offer.min_price } else { offer.avg_price };
                if self.gpus.get(id).is_some_and(|gpu| gpu.base != price) {
                    self.alter(&mut prices, id, |gpu| gpu.base = price);
                }
            }
        }
        if !prices.is_empty() {
            prices.provider = Some(offer.provider.clone());
            committed.push(self.commit(prices, kinds::PRICING_UPDATED));
        }
        let mut numbers = Draft::default();
        if moved {
            for id in &ids {
                self.alter(&mut numbers, id, |gpu| gpu.market.region.clone_from(&offer.region));
            }
        }
        self.balance(&mut numbers, &name);
        if !numbers.is_empty() {
            numbers.provider = Some(offer.provider);
            committed.push(self.commit(numbers, kinds::GPU_AVAILABILITY_CHANGED));
        }
        Ok(committed)
    }

    /// Adds GPUs to a group, or withdraws those with the highest n that nobody has booked, until there are as many as
    /// the provider offers.
    pub(super) fn balance(&mut self, draft: &mut Draft, name: &(String, String)) {
        let Some(Group { wanted, live, made, .. }) = self.groups.get(name) else { return };
        let (wanted, before, made) = (*wanted, *live, *made);
        let mut live = before;
        for n in (1..=made).rev().take_while(|_| before > wanted) {
            let id = gpu_id(&name.0, &name.1, n);
            let registered = self.registered.contains(&id);
            let idle = |gpu: &Gpu| !gpu.withdrawn && gpu.schedule.is_empty() && !registered;
            if live > wanted && self.gpus.get(&id).is_some_and(idle) {
                self.alter(draft, &id, |gpu| gpu.withdrawn = true);
                live -= 1;
            }
        }
        let mut n = 0;
        while live < wanted {
            n += 1;
            let id = gpu_id(&name.0, &name.1, n);
            match self.gpus.get(&id) {
                Some(gpu) if !gpu.withdrawn || self.registered.contains(&id) => continue,
                Some(_) => self.alter(draft, &id, |gpu| gpu.withdrawn = false),
                None => self.make(draft, name, n),
            }
            live += 1;
        }
        if let Some(group) = self.groups.get_mut(name) {
            group.live = live;
            group.made = group.made.max(n);
        }
        if live != before {
            draft.provider = Some(name.0.clone());
            if let Some(provider) = self.providers.get_mut(&name.0) {
                provider.live = provider.live + u64::from(live) - u64::from(before);
            }
        }
    }

    fn make(&mut self, draft: &mut Draft, name: &(String, String), n: u32) {
        let Some(group) = self.groups.get(name) else { return };
        let gpu = Gpu {
            provider: name.0.clone(),
            market: Market::new(&name.1, &group.region),
            hardware: Hardware::of(&name.1),
            base: if n == 1 { group.min_price } else { group.avg_price },
            own: AvailabilityStatus::Available,
            withdrawn: false,
            schedule: std::collections::BTreeMap::new(),
            begun: 0,
            stamp: Stamp::default(),
        };
        let id = gpu_id(&name.0, &name.1, n);
        self.gpus.insert(id.clone(), gpu);
        self.list(draft, &id);
        draft.gpus.insert(id);
    }

    pub(super) fn set_price(
        &mut self,
        market: &Market,
        price: MicroUsd,
    ) -> Result<Vec<Committed>, LedgerError> {
        check_price("base_price_per_hour", price)?;
        if self.markets.get(market).and_then(Cell::lowest_base).is_none() {
            let id = format!("{} in {}", market.gpu_type, market.region);
            return Err(LedgerError::Unknown { what: "offer of GPU type", id });
        }
        let mut draft = Draft { all_of_markets: true, ..Draft::default() };
        for id in self.ids_of_market(market) {
            if self.gpus.get(&id).is_some_and(|gpu| gpu.base != price) {
                self.alter(&mut draft, &id, |gpu| gpu.base = price);
            }
        }
        for ((_, model), group) in &mut self.groups {
            if *model == market.gpu_type && group.region == market.region {
                (group.min_price, group.avg_price) = (price, price);
            }
        }
        // One tag names them all.
        draft.gpus.clear();
        Ok(if draft.is_empty() { vec![] } else { vec![self.commit(draft, kinds::PRICING_UPDATED)] })
    }

    pub(super) fn set_gpu_status(
        &mut self,
        gpu_id: &str,
        status: AvailabilityStatus,
    ) -> Result<Vec<Committed>, LedgerError> {
        let gpu = self.gpus.get(gpu_id);
        let gpu = gpu.ok_or_else(|| LedgerError::Unknown { what: "GPU", id: gpu_id.to_owned() })?;
        if gpu.own == status {
            return Ok(vec![]);
        }
        let mut draft = Draft::default();
        self.alter(&mut draft, gpu_id, |gpu| gpu.own = status);
        Ok(vec![self.commit(draft, kinds::GPU_AVAILABILITY_CHANGED)])
    }

    pub(super) fn set_provider_status(
        &mut self,
        provider_id: &str,
        state: ProviderState,
    ) -> Result<Vec<Committed>, LedgerError> {
        let provider = self.providers.get(provider_id);
        let unknown = || LedgerError::Unknown { what: "provider", id: provider_id.to_owned() };
        if provider.ok_or_else(unknown)?.state == state {
            return Ok(vec![]);
        }
        let provider = Some(provider_id.to_owned());
        let mut draft = Draft { provider, all_of_provider: true, ..Draft::default() };
        let ids = self.ids_of_provider(provider_id);
        ids.iter().for_each(|id| self.unlist(&mut draft, id));
        if let Some(provider) = self.providers.get_mut(provider_id) {
            provider.state = state;
        }
        ids.iter().for_each(|id| self.list(&mut draft, id));
        Ok(vec![self.commit(draft, kinds::PROVIDER_STATUS_CHANGED)])
    }
}
