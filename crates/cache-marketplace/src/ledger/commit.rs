//! Turning what a change touched into a numbered commit.

use std::collections::{BTreeMap, BTreeSet};

use cache_events::{EventKind, Version};

use super::Committed;
use super::state::{Cell, Stamp, State, has_left};
use crate::touches::{GPUS_LISTED_MAX, Touch, row, stats_cells};
use crate::{HistoricalPoint, Market, MarketEvent, MicroUsd, Permille, Subject};

/// Points of history per market: a day of minutes.
pub const HISTORY_POINTS_MAX: usize = 1_440;
const MINUTE_MS: u64 = 60_000;

/// What a change has touched so far.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) gpus: BTreeSet<String>,
    pub(super) provider: Option<String>,
    pub(super) all_of_provider: bool,
    /// Whether each GPU of the markets changed, for a reason other than the factor.
    pub(super) all_of_markets: bool,
    pub(super) booking: Option<String>,
    /// With the price that each had before.
    pub(super) markets: BTreeMap<Market, (Option<MicroUsd>, Permille)>,
}

impl Draft {
    /// Notes a market, and what it cost before the first change of this draft.
    pub(super) fn touch(&mut self, market: &Market, cell: &Cell) {
        if !self.markets.contains_key(market) {
            self.markets.insert(market.clone(), (cell.lowest_base(), cell.factor));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.markets.is_empty()
    }
}

impl State {
    /// Makes a change the truth: settles prices, numbers it, and stamps all values that its row of the table names.
    pub(super) fn commit(&mut self, draft: Draft, kind: EventKind) -> Committed {
        let mut subject = Subject {
            all_of_provider: draft.all_of_provider,
            booking_id: draft.booking,
            rescaled: draft.all_of_markets,
            ..Subject::default()
        };
        for (market, before) in draft.markets {
            if let Some(cell) = self.markets.get_mut(&market) {
                cell.factor = self.pricing.multiplier(cell.available, cell.total());
                subject.repriced |= before != (cell.lowest_base(), cell.factor);
                subject.rescaled |= before.1 != cell.factor;
            }
            subject.markets.push(market);
        }
        subject.provider_id = draft.provider;
        if draft.gpus.len() > GPUS_LISTED_MAX {
            subject.rescaled = true;
        } else if !subject.all_of_provider {
            subject.gpu_ids = draft.gpus.into_iter().collect();
        }
        self.commits += 1;
        let stamp = Stamp { version: Version(self.commits), at: self.now };
        for touch in row(&kind).unwrap_or_default() {
            self.stamp(*touch, &subject, stamp);
        }
        Committed { event: MarketEvent { kind, subject }, version: stamp.version, at: stamp.at }
    }

    fn stamp(&mut self, touch: Touch, subject: &Subject, stamp: Stamp) {
        match touch {
            Touch::Gpus => {
                for gpu_id in &subject.gpu_ids {
                    if let Some(gpu) = self.gpus.get_mut(gpu_id) {
                        gpu.stamp = stamp;
                    }
                }
                if let (true, Some(provider)) = (subject.all_of_provider, self.provider_of(subject)) {
                    provider.gpus = stamp;
                }
            }
            Touch::Provider => {
                if let Some(provider) = self.provider_of(subject) {
                    provider.stamp = stamp;
                }
            }
            Touch::Availability => self.each_cell(subject, |cell| cell.availability = stamp),
            Touch::Pricing => self.each_cell(subject, |cell| cell.price = stamp),
            Touch::PricingIfMoved => self.each_cell(subject, |cell| {
                if subject.repriced {
                    cell.price = stamp;
                }
                if subject.rescaled {
                    cell.gpus = stamp;
                }
            }),
            Touch::OrderBook => self.each_cell(subject, |cell| cell.book = stamp),
            Touch::Statistics => {
                for cells in subject.markets.iter().map(stats_cells) {
                    cells.into_iter().for_each(|cell| self.move_window(cell, stamp));
                }
            }
            Touch::Listings => {
                for cell in subject.markets.iter().flat_map(stats_cells) {
                    self.figures.entry(cell).or_default().listed = stamp;
                }
            }
            Touch::History => self.record(subject, stamp),
            Touch::Booking => {
                let booking = subject.booking_id.as_ref().and_then(|id| self.bookings.get_mut(id));
                if let Some(booking) = booking {
                    booking.stamp = stamp;
                }
            }
        }
    }

    fn provider_of(&mut self, subject: &Subject) -> Option<&mut super::state::Provider> {
        self.providers.get_mut(subject.provider_id.as_deref()?)
    }

    fn each_cell(&mut self, subject: &Subject, mut change: impl FnMut(&mut Cell)) {
        for market in &subject.markets {
            if let Some(cell) = self.markets.get_mut(market) {
                change(cell);
            }
        }
    }

    /// Figures are those of the 24 hours before their stamp, so they change only when they are stamped.
    fn move_window(&mut self, cell: (Option<String>, Option<String>), stamp: Stamp) {
        let figures = self.figures.entry(cell).or_default();
        figures.stamp = stamp;
        while let Some(oldest) =
            figures.window.first_entry().filter(|oldest| has_left(oldest.key().0, stamp.at))
        {
            figures.volume -= u128::from(oldest.remove().0);
        }
    }

    fn record(&mut self, subject: &Subject, stamp: Stamp) {
        self.each_cell(subject, |cell| {
            let point = HistoricalPoint {
                timestamp: stamp.at,
                current_price_per_hour: cell.lowest_base().map(|base| base.scaled(cell.factor)),
                available: cell.available,
                total: cell.total(),
            };
            match cell.history.back_mut() {
                Some(last) if last.timestamp / MINUTE_MS == stamp.at / MINUTE_MS => *last = point,
                _ => cell.history.push_back(point),
            }
            if cell.history.len() > HISTORY_POINTS_MAX {
                cell.history.pop_front();
            }
            cell.recorded = stamp;
        });
    }
}
