//! The rules of the ledger over a part of its facts: what a ledger in a database loads, changes and stores.
//!
//! A [`WorkingSet`] is given the rows that a change can concern, runs the same code as [`MemoryLedger`](crate::MemoryLedger)
//! over them, and tells which rows are different afterwards. So the rules are written once, and a database keeps
//! facts and counts without knowing what they mean. Which rows a change can concern is told at [`Change`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::bookings::overlap;
use super::rows::{BookingRow, FiguresRow, GpuRow, GroupRow, MarketRow, ProviderRow};
use super::state::{Booking, Cell, Figures, Gpu, Group, Provider, State, Step};
use super::{
    BookOutcome, BookingRequest, CancelOutcome, Committed, GpuRegistration, LedgerError, Offer, Versioned,
};
use crate::{
    AvailabilityStatus, BookingInfo, BookingStatus, GpuInfo, GpuPrice, HistoricalPoint, Market, MarketStats,
    MicroUsd, OrderBook, PriceHistory, Pricing, ProviderState, ProviderStatus, Search, SearchPage,
    TypeAvailability,
};

/// A change that a [`WorkingSet`] can make, and which rows it must have been given.
///
/// With a GPU always goes its provider, and with a market (a type in a region) its four figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The booking of that id; the GPU, its market, and of its active bookings the last one that starts before the
    /// wanted end.
    Book(BookingRequest),
    /// The booking, its market; its GPU with all active bookings, the GPU's market; the group of the GPU. If the group
    /// has more GPUs than wanted, all of them with all their active bookings.
    Cancel {
        /// The booking.
        booking_id: String,
        /// Its GPU.
        gpu_id: String,
    },
    /// The provider, the group, all its GPUs with their active bookings, its market and the wanted one.
    Offers(Offer),
    /// The market, its groups and all their GPUs.
    Price(Market, MicroUsd),
    /// The GPU, its market and the wanted one, the wanted provider.
    Gpu(GpuRegistration),
    /// The GPU and its market.
    GpuStatus(String, AvailabilityStatus),
    /// The provider, all its groups, GPUs and their markets.
    ProviderStatus(String, ProviderState),
    /// The active bookings that begin or end until then, each as in [`Cancel`](Self::Cancel) but without its own
    /// market. If that is now, also the markets of bookings that are about to leave the 24-hour figures.
    PassTime {
        /// Later steps wait for another change. In milliseconds since the Unix epoch.
        until: u64,
    },
}

/// What came of a [`Change`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Of [`Change::Book`].
    Booked(BookOutcome),
    /// Of [`Change::Cancel`].
    Cancelled(CancelOutcome),
    /// Of all others.
    Committed(Vec<Committed>),
}

impl Done {
    /// The commits that this change made; none if it only repeated an earlier one.
    pub fn commits(&self) -> &[Committed] {
        match self {
            Self::Booked(BookOutcome::Booked { committed, repeated: false, .. })
            | Self::Cancelled(CancelOutcome::Cancelled { committed, repeated: false, .. }) => {
                std::slice::from_ref(committed)
            }
            Self::Committed(committed) => committed,
            Self::Booked(_) | Self::Cancelled(_) => &[],
        }
    }
}

/// Rows to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// GPUs.
    pub gpus: Vec<GpuRow>,
    /// Offers of providers.
    pub groups: Vec<GroupRow>,
    /// Providers.
    pub providers: Vec<ProviderRow>,
    /// Markets, without what the next two tell.
    pub markets: Vec<MarketRow>,
    /// How many GPUs on offer of a market have a base price; 0 if none has it any more.
    pub levels: Vec<(Market, MicroUsd, u64)>,
    /// Points of the history of a market, new or in the place of the one with their number, counted from 1.
    pub points: Vec<(Market, u64, HistoricalPoint)>,
    /// Figures.
    pub figures: Vec<FiguresRow>,
    /// Bookings.
    pub bookings: Vec<BookingRow>,
}

impl Changed {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A change went to a row that was neither given nor declared absent: storing it would overwrite what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the change concerns {0}, which was not loaded")]
pub struct NotLoaded(pub String);

/// A part of the facts, and the rules.
pub struct WorkingSet {
    state: State,
    /// Rows as they were given; `None` for those that are known to be absent.
    gpus: HashMap<String, GpuRow>,
    groups: HashMap<(String, String), Option<GroupRow>>,
    providers: HashMap<String, Option<ProviderRow>>,
    markets: HashMap<Market, Option<MarketRow>>,
    figures: HashMap<(Option<String>, Option<String>), Option<FiguresRow>>,
    bookings: HashMap<String, BookingRow>,
}

impl WorkingSet {
    /// Nothing but the number of the last commit and its time.
    pub fn new(commits: u64, now: u64, pricing: Arc<dyn Pricing>) -> Self {
        let mut state = State::new(pricing);
        (state.commits, state.now) = (commits, now);
        Self {
            state,
            gpus: HashMap::new(),
            groups: HashMap::new(),
            providers: HashMap::new(),
            markets: HashMap::new(),
            figures: HashMap::new(),
            bookings: HashMap::new(),
        }
    }

    /// The number of the last commit.
    pub fn commits(&self) -> u64 {
        self.state.commits
    }

    /// The time of the last commit, in milliseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.state.now
    }

    /// The GPUs that were given.
    pub fn gpu_ids(&self) -> Vec<String> {
        self.gpus.keys().cloned().collect()
    }

    /// The markets of the GPUs that were given.
    pub fn markets_of_gpus(&self) -> BTreeSet<Market> {
        self.gpus.values().map(|gpu| gpu.market.clone()).collect()
    }

    /// The market of a booking that was given.
    pub fn market_of_booking(&self, booking_id: &str) -> Option<Market> {
        self.bookings.get(booking_id).map(|booking| booking.market.clone())
    }

    /// Provider and type of a GPU that was given.
    pub fn group_of_gpu(&self, gpu_id: &str) -> Option<(String, String)> {
        self.gpus.get(gpu_id).map(|gpu| (gpu.provider.clone(), gpu.market.gpu_type.clone()))
    }

    /// Whether the group was given, or declared absent.
    pub fn has_group(&self, provider: &str, gpu_type: &str) -> bool {
        self.groups.contains_key(&(provider.to_owned(), gpu_type.to_owned()))
    }

    /// Whether the group, which was given, has more GPUs than wanted: those that are idle may leave.
    pub fn has_too_many(&self, provider: &str, gpu_type: &str) -> bool {
        let group = self.groups.get(&(provider.to_owned(), gpu_type.to_owned()));
        group.and_then(Option::as_ref).is_some_and(|group| group.live > group.wanted)
    }

    /// Whether a booking is going to change nothing, so that the market is not needed: the GPU is unknown, its time
    /// taken, or the booking known.
    pub fn would_refuse(&self, request: &BookingRequest) -> bool {
        let Some(gpu) = self.state.gpus.get(&request.gpu_id) else { return true };
        self.state.bookings.contains_key(&request.booking_id)
            || overlap(gpu, request.start_time, request.end_time).is_some()
    }

    /// Whether the GPU was given.
    pub fn has_gpu(&self, gpu_id: &str) -> bool {
        self.gpus.contains_key(gpu_id)
    }

    /// Whether the provider was given, or declared absent.
    pub fn has_provider(&self, provider_id: &str) -> bool {
        self.providers.contains_key(provider_id)
    }

    /// Whether the market was given, or declared absent.
    pub fn has_market(&self, market: &Market) -> bool {
        self.markets.contains_key(market)
    }

    /// Gives a provider; the row is `None` if there is none. A second time does nothing; likewise for all rows.
    pub fn add_provider(&mut self, provider_id: &str, row: Option<ProviderRow>) {
        if self.has_provider(provider_id) {
            return;
        }
        if let Some(ProviderRow { state, live, stamp, gpus, .. }) = row.clone() {
            self.state.providers.insert(provider_id.to_owned(), Provider { state, live, stamp, gpus });
        }
        self.providers.insert(provider_id.to_owned(), row);
    }

    /// Gives a group, that is what a provider offers of a model.
    pub fn add_group(&mut self, provider: &str, gpu_type: &str, row: Option<GroupRow>) {
        let name = (provider.to_owned(), gpu_type.to_owned());
        if self.groups.contains_key(&name) {
            return;
        }
        if let Some(GroupRow { region, min_price, avg_price, wanted, live, made, .. }) = row.clone() {
            let group = Group { region, min_price, avg_price, wanted, live, made };
            self.state.groups.insert(name.clone(), group);
        }
        self.groups.insert(name, row);
    }

    /// Gives a GPU. Its active bookings follow, with [`add_booking`](Self::add_booking).
    pub fn add_gpu(&mut self, row: GpuRow) {
        if self.has_gpu(&row.gpu_id) {
            return;
        }
        let GpuRow { gpu_id, provider, market, hardware, registered, base, own, withdrawn, begun, stamp } =
            row.clone();
        if registered {
            self.state.registered.insert(gpu_id.clone());
        }
        let schedule = BTreeMap::new();
        let gpu = Gpu { provider, market, hardware, base, own, withdrawn, schedule, begun, stamp };
        self.state.gpus.insert(gpu_id.clone(), gpu);
        self.gpus.insert(gpu_id, row);
    }

    /// Gives a booking, after its GPU.
    pub fn add_booking(&mut self, row: BookingRow) {
        if self.bookings.contains_key(&row.info.booking_id) {
            return;
        }
        let BookingRow { info, market, begun, created, cancelled, stamp } = row.clone();
        self.bookings.insert(info.booking_id.clone(), row);
        if info.status == BookingStatus::Active {
            let entry = (info.end_time, info.booking_id.clone());
            if let Some(gpu) = self.state.gpus.get_mut(&info.gpu_id) {
                gpu.schedule.insert(info.start_time, entry);
            }
            if !begun {
                self.state.timeline.insert((info.start_time, Step::Start, info.booking_id.clone()));
            }
            self.state.timeline.insert((info.end_time, Step::End, info.booking_id.clone()));
        }
        self.state
            .bookings
            .insert(info.booking_id.clone(), Booking { info, market, created, cancelled, stamp });
    }

    /// Gives a market.
    pub fn add_market(&mut self, market: &Market, row: Option<MarketRow>) {
        if self.has_market(market) {
            return;
        }
        if let Some(row) = row.clone() {
            let [available, busy, offline, maintenance] = row.counts;
            let [availability, price, book, recorded, gpus] = row.stamps;
            let cell = Cell {
                available,
                busy,
                offline,
                maintenance,
                base_sum: row.base_sum,
                bases: row.bases,
                factor: row.factor,
                history: row.history.into(),
                availability,
                price,
                book,
                recorded,
                gpus,
                ..Cell::default()
            };
            self.state.markets.insert(market.clone(), cell);
        }
        self.markets.insert(market.clone(), row);
    }

    /// Gives the figures of a type or all, in a region or all.
    pub fn add_figures(&mut self, of: (Option<String>, Option<String>), row: Option<FiguresRow>) {
        if self.figures.contains_key(&of) {
            return;
        }
        if let Some(FiguresRow { bookings, volume, stamp, listed, window, .. }) = row.clone() {
            let further = bookings - (window.len() as u64).min(bookings);
            self.state.figures.insert(of.clone(), Figures { window, further, volume, stamp, listed });
        }
        self.figures.insert(of, row);
    }

    /// Lists the GPUs that are free, for an order book: all of the market must have been given.
    pub fn list_free(&mut self) {
        for (id, gpu) in &self.state.gpus {
            if let (AvailabilityStatus::Available, Some(cell)) =
                (self.state.status(gpu), self.state.markets.get_mut(&gpu.market))
            {
                cell.free.entry(gpu.base).or_default().insert(id.clone());
            }
        }
    }

    /// Makes a change.
    ///
    /// # Errors
    /// [`LedgerError`] as the methods of [`Ledger`](crate::Ledger).
    pub fn run(&mut self, change: &Change, now: u64) -> Result<Done, LedgerError> {
        self.state.at(now, |state| match change {
            Change::Book(request) => state.book(request.clone()).map(Done::Booked),
            Change::Cancel { booking_id, gpu_id } => Ok(Done::Cancelled(state.cancel(booking_id, gpu_id))),
            Change::Offers(offer) => state.set_offers(offer.clone()).map(Done::Committed),
            Change::Price(market, price) => state.set_price(market, *price).map(Done::Committed),
            Change::Gpu(gpu) => state.put_gpu(gpu.clone()).map(Done::Committed),
            Change::GpuStatus(id, status) => state.set_gpu_status(id, *status).map(Done::Committed),
            Change::ProviderStatus(id, to) => state.set_provider_status(id, *to).map(Done::Committed),
            Change::PassTime { until } => Ok(Done::Committed(state.pass_time(*until))),
        })
    }

    /// The rows that are different from what was given.
    ///
    /// # Errors
    /// [`NotLoaded`]: nothing may be stored then.
    pub fn changed(&self) -> Result<Changed, NotLoaded> {
        let state = &self.state;
        let mut changed = Changed::default();
        for (id, gpu) in &state.gpus {
            let row = GpuRow::of(id, gpu, state.registered.contains(id));
            if self.gpus.get(id) != Some(&row) {
                changed.gpus.push(row);
            }
        }
        for (name, group) in &state.groups {
            keep(&self.groups, name, GroupRow::of(name, group), &mut changed.groups)?;
        }
        for (id, provider) in &state.providers {
            keep(&self.providers, id, ProviderRow::of(id, provider), &mut changed.providers)?;
        }
        for (market, cell) in &state.markets {
            let before = self.markets.get(market).and_then(Option::as_ref);
            let row = MarketRow::of(market, cell, before);
            row.levels_since(before, &mut changed.levels);
            row.points_since(before, &mut changed.points);
            keep(&self.markets, market, row, &mut changed.markets)?;
        }
        for (of, figures) in &state.figures {
            keep(&self.figures, of, FiguresRow::of(of, figures), &mut changed.figures)?;
        }
        for (id, booking) in &state.bookings {
            let row = BookingRow::of(booking, self.begun(id, booking));
            if self.bookings.get(id) != Some(&row) {
                changed.bookings.push(row);
            }
        }
        Ok(changed)
    }

    /// Whether a booking has begun: what is no longer to come has.
    fn begun(&self, id: &str, booking: &Booking) -> bool {
        !self.state.timeline.contains(&(booking.info.start_time, Step::Start, id.to_owned()))
    }

    /// A booking that was given.
    pub fn booking(&self, booking_id: &str) -> Versioned<Option<BookingInfo>> {
        self.state.booking(booking_id)
    }

    /// A page of all GPUs that were given, with given figures.
    pub fn search(&self, search: &Search) -> Versioned<SearchPage> {
        self.state.search(search)
    }

    /// A GPU that was given.
    pub fn gpu(&self, gpu_id: &str) -> Versioned<Option<GpuInfo>> {
        self.state.gpu(gpu_id)
    }

    /// How many GPUs of a given market are free.
    pub fn availability(&self, market: &Market) -> Versioned<Option<TypeAvailability>> {
        self.state.availability(market)
    }

    /// The price of a given market.
    pub fn price(&self, market: &Market) -> Versioned<Option<GpuPrice>> {
        self.state.price(market)
    }

    /// The order book of a given market, after [`list_free`](Self::list_free).
    pub fn order_book(&self, market: &Market) -> Versioned<Option<OrderBook>> {
        self.state.order_book(market)
    }

    /// Given figures over all given markets.
    pub fn market_stats(&self, of: (Option<&str>, Option<&str>)) -> Versioned<Option<MarketStats>> {
        self.state.market_stats(of)
    }

    /// A provider that was given.
    pub fn provider(&self, provider_id: &str) -> Versioned<Option<ProviderStatus>> {
        self.state.provider(provider_id)
    }

    /// The history of a market that was given with it.
    pub fn history(&self, market: &Market) -> Versioned<Option<PriceHistory>> {
        self.state.history(market)
    }
}

/// Keeps a row that is not as it was given.
fn keep<K: Hash + Eq + std::fmt::Debug, R: PartialEq>(
    given: &HashMap<K, Option<R>>,
    key: &K,
    row: R,
    changed: &mut Vec<R>,
) -> Result<(), NotLoaded> {
    let before = given.get(key).ok_or_else(|| NotLoaded(format!("{key:?}")))?;
    if before.as_ref() != Some(&row) {
        changed.push(row);
    }
    Ok(())
}
