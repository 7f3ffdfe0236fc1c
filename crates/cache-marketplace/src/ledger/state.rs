//! What the in-memory ledger knows, and the one way to change it.
//!
//! Facts are the GPUs, providers and bookings. Everything else is counted along: to change a fact about a GPU it is
//! taken out of the counts ([`State::unlist`]), changed and put back ([`State::list`]), so a count cannot be forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use cache_events::Version;

use super::Committed;
use super::commit::Draft;
use crate::{
    AvailabilityStatus, BookingInfo, Hardware, HistoricalPoint, Market, MicroUsd, Permille, Pricing,
    ProviderState,
};

/// The 24 hours of the figures.
pub(super) const DAY_MS: u64 = 24 * 3_600_000;

/// Whether a booking is no longer among those of the last 24 hours.
pub(super) fn has_left(created: u64, now: u64) -> bool {
    created.saturating_add(DAY_MS) <= now
}

/// When something last changed: by which commit, and at what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// The number of the commit.
    pub version: Version,
    /// Its time, in milliseconds since the Unix epoch.
    pub at: u64,
}

pub(super) struct State {
    pub(super) commits: u64,
    /// Never goes back.
    pub(super) now: u64,
    pub(super) pricing: Arc<dyn Pricing>,
    pub(super) gpus: HashMap<String, Gpu>,
    /// GPUs that came by themselves and not with an offer.
    pub(super) registered: BTreeSet<String>,
    /// By provider and model.
    pub(super) groups: BTreeMap<(String, String), Group>,
    pub(super) providers: BTreeMap<String, Provider>,
    pub(super) bookings: HashMap<String, Booking>,
    pub(super) markets: BTreeMap<Market, Cell>,
    pub(super) figures: BTreeMap<(Option<String>, Option<String>), Figures>,
    /// What happens when, by itself.
    pub(super) timeline: BTreeSet<(u64, Step, String)>,
}

/// At one time, what ends makes room before something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    End,
    Start,
}

pub(super) struct Gpu {
    pub(super) provider: String,
    pub(super) market: Market,
    pub(super) hardware: Hardware,
    pub(super) base: MicroUsd,
    /// What was set for this GPU alone.
    pub(super) own: AvailabilityStatus,
    /// No longer offered.
    pub(super) withdrawn: bool,
    /// Active bookings by their start: end and id. They never overlap.
    pub(super) schedule: BTreeMap<u64, (u64, String)>,
    /// How many of them have begun (one, or two for a moment between one's end and the end being noticed).
    pub(super) begun: u32,
    pub(super) stamp: Stamp,
}

/// One provider's offer of one model.
#[derive(Default)]
pub(super) struct Group {
    pub(super) region: String,
    pub(super) min_price: MicroUsd,
    pub(super) avg_price: MicroUsd,
    /// How many the provider offers; more may be live while bookings keep them.
    pub(super) wanted: u32,
    pub(super) live: u32,
    /// How many GPUs were ever made; their ids end in 1 to this.
    pub(super) made: u32,
}

pub(super) struct Provider {
    pub(super) state: ProviderState,
    pub(super) live: u64,
    pub(super) stamp: Stamp,
    /// When all its GPUs last changed together.
    pub(super) gpus: Stamp,
}

impl Provider {
    pub(super) fn new() -> Self {
        Self { state: ProviderState::Online, live: 0, stamp: Stamp::default(), gpus: Stamp::default() }
    }
}

pub(super) struct Booking {
    pub(super) info: BookingInfo,
    /// Where its GPU stood when it was booked: the figures of that market count it.
    pub(super) market: Market,
    pub(super) created: Committed,
    pub(super) cancelled: Option<Committed>,
    pub(super) stamp: Stamp,
}

/// A type in a region, counted along.
pub(super) struct Cell {
    pub(super) available: u64,
    pub(super) busy: u64,
    pub(super) offline: u64,
    pub(super) maintenance: u64,
    /// Sum of the base prices of all on offer.
    pub(super) base_sum: u128,
    /// How many on offer have this base price.
    pub(super) bases: BTreeMap<MicroUsd, u64>,
    /// The free ones by base price.
    pub(super) free: BTreeMap<MicroUsd, BTreeSet<String>>,
    pub(super) factor: Permille,
    pub(super) history: VecDeque<HistoricalPoint>,
    pub(super) availability: Stamp,
    pub(super) price: Stamp,
    pub(super) book: Stamp,
    pub(super) recorded: Stamp,
    /// When all its GPUs last changed together.
    pub(super) gpus: Stamp,
}

/// Figures over bookings for one type or all, in one region or all.
#[derive(Default)]
pub(super) struct Figures {
    /// Bookings of the 24 hours before the stamp, oldest first, with what each costs.
    pub(super) window: BTreeMap<(u64, String), MicroUsd>,
    /// How many more are of that time: a working set has only those in the window that it needs.
    pub(super) further: u64,
    /// What all of them cost.
    pub(super) volume: u128,
    pub(super) stamp: Stamp,
    /// When a GPU of these markets last changed in any way.
    pub(super) listed: Stamp,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            available: 0,
            busy: 0,
            offline: 0,
            maintenance: 0,
            base_sum: 0,
            bases: BTreeMap::new(),
            free: BTreeMap::new(),
            factor: Permille::ONE,
            history: VecDeque::new(),
            availability: Stamp::default(),
            price: Stamp::default(),
            book: Stamp::default(),
            recorded: Stamp::default(),
            gpus: Stamp::default(),
        }
    }
}

impl Cell {
    pub(super) fn total(&self) -> u64 {
        self.available + self.busy + self.offline + self.maintenance
    }

    pub(super) fn lowest_base(&self) -> Option<MicroUsd> {
        self.bases.first_key_value().map(|(&price, _)| price)
    }

    fn count(&mut self, status: AvailabilityStatus) -> &mut u64 {
        match status {
            AvailabilityStatus::Available => &mut self.available,
            AvailabilityStatus::Busy => &mut self.busy,
            AvailabilityStatus::Offline => &mut self.offline,
            AvailabilityStatus::Maintenance => &mut self.maintenance,
        }
    }
}

impl State {
    pub(super) fn new(pricing: Arc<dyn Pricing>) -> Self {
        Self {
            commits: 0,
            now: 0,
            pricing,
            gpus: HashMap::new(),
            registered: BTreeSet::new(),
            groups: BTreeMap::new(),
            providers: BTreeMap::new(),
            bookings: HashMap::new(),
            markets: BTreeMap::new(),
            figures: BTreeMap::new(),
            timeline: BTreeSet::new(),
        }
    }

    /// Makes a change at a time. The ledger's time is that of its last commit, or later while a change is made.
    pub(super) fn at<T>(&mut self, now: u64, change: impl FnOnce(&mut State) -> T) -> T {
        let (commits, before) = (self.commits, self.now);
        self.now = before.max(now);
        let done = change(self);
        if self.commits == commits {
            self.now = before;
        }
        done
    }

    /// What a GPU is to the outside.
    pub(super) fn status(&self, gpu: &Gpu) -> AvailabilityStatus {
        let state =
            self.providers.get(&gpu.provider).map_or(ProviderState::Online, |provider| provider.state);
        match (gpu.withdrawn, state, gpu.own) {
            (true, ..) | (_, ProviderState::Offline, _) => AvailabilityStatus::Offline,
            (_, ProviderState::Maintenance, _) => AvailabilityStatus::Maintenance,
            (_, ProviderState::Online, AvailabilityStatus::Available) if gpu.begun > 0 => {
                AvailabilityStatus::Busy
            }
            (_, ProviderState::Online, own) => own,
        }
    }

    /// Changes a GPU, keeping all counts and noting what the change touches.
    pub(super) fn alter(&mut self, draft: &mut Draft, gpu_id: &str, change: impl FnOnce(&mut Gpu)) {
        self.unlist(draft, gpu_id);
        if let Some(gpu) = self.gpus.get_mut(gpu_id) {
            change(gpu);
        }
        self.list(draft, gpu_id);
        draft.gpus.insert(gpu_id.to_owned());
    }

    /// Takes a GPU out of the counts of its market.
    pub(super) fn unlist(&mut self, draft: &mut Draft, gpu_id: &str) {
        let Some(gpu) = self.gpus.get(gpu_id) else { return };
        let status = self.status(gpu);
        let cell = self.markets.entry(gpu.market.clone()).or_default();
        draft.touch(&gpu.market, cell);
        if gpu.withdrawn {
            return;
        }
        *cell.count(status) -= 1;
        cell.base_sum -= u128::from(gpu.base.0);
        if let Some(count) = cell.bases.get_mut(&gpu.base) {
            *count -= 1;
            if *count == 0 {
                cell.bases.remove(&gpu.base);
            }
        }
        if let (AvailabilityStatus::Available, Some(level)) = (status, cell.free.get_mut(&gpu.base)) {
            level.remove(gpu_id);
            if level.is_empty() {
                cell.free.remove(&gpu.base);
            }
        }
    }

    /// Puts a GPU into the counts of its market.
    pub(super) fn list(&mut self, draft: &mut Draft, gpu_id: &str) {
        let Some(gpu) = self.gpus.get(gpu_id) else { return };
        let status = self.status(gpu);
        let cell = self.markets.entry(gpu.market.clone()).or_default();
        draft.touch(&gpu.market, cell);
        if gpu.withdrawn {
            return;
        }
        *cell.count(status) += 1;
        cell.base_sum += u128::from(gpu.base.0);
        *cell.bases.entry(gpu.base).or_default() += 1;
        if status == AvailabilityStatus::Available {
            cell.free.entry(gpu.base).or_default().insert(gpu_id.to_owned());
        }
    }

    /// The ids of all GPUs of a group, withdrawn ones included.
    pub(super) fn ids_of(&self, (provider, model): &(String, String), group: &Group) -> Vec<String> {
        let ids = (1..=group.made).map(|n| gpu_id(provider, model, n));
        ids.filter(|id| !self.registered.contains(id)).collect()
    }

    fn registered_where(&self, fits: impl Fn(&Gpu) -> bool) -> impl Iterator<Item = String> {
        self.registered.iter().filter(move |id| self.gpus.get(*id).is_some_and(&fits)).cloned()
    }

    /// The ids of all GPUs of a provider.
    pub(super) fn ids_of_provider(&self, provider: &str) -> Vec<String> {
        let groups = self.groups.iter().filter(|((of, _), _)| of == provider);
        let registered = self.registered_where(|gpu| gpu.provider == provider);
        groups.flat_map(|(name, group)| self.ids_of(name, group)).chain(registered).collect()
    }

    /// The ids of all GPUs of a type in a region.
    pub(super) fn ids_of_market(&self, market: &Market) -> Vec<String> {
        let of_market =
            |model: &str, group: &Group| model == market.gpu_type && group.region == market.region;
        let groups = self.groups.iter().filter(|((_, model), group)| of_market(model, group));
        let registered = self.registered_where(|gpu| gpu.market == *market);
        groups.flat_map(|(name, group)| self.ids_of(name, group)).chain(registered).collect()
    }
}

pub(super) fn gpu_id(provider: &str, model: &str, n: u32) -> String {
    format!("{provider}/{model}/{n}")
}
