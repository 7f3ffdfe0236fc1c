//! Bookings: made, called off, begun and over.

use super::commit::Draft;
use super::state::{Booking, Gpu, Stamp, State, Step, has_left};
use super::{BookOutcome, BookingRequest, CancelOutcome, Committed, LedgerError, SUM_MAX};
use crate::touches::stats_cells;
use crate::{AvailabilityStatus, BookingInfo, BookingStatus, Market, MicroUsd, ProviderState, kinds};

impl State {
    pub(super) fn book(&mut self, request: BookingRequest) -> Result<BookOutcome, LedgerError> {
        request.check()?;
        if let Some(known) =
            self.bookings.get(&request.booking_id).filter(|_| !mutated!("repetition_unnoticed"))
        {
            return Ok(repeated(known, &request));
        }
        request.check_now(self.now)?;
        let Some(gpu) = self.gpus.get(&request.gpu_id) else { return Ok(BookOutcome::UnknownGpu) };
        if let Some(status) = self.not_for_rent(gpu) {
            return Ok(BookOutcome::NotForRent(status));
        }
        if let Some(with) = overlap(gpu, request.start_time, request.end_time) {
            return Ok(BookOutcome::Conflict { with: with.to_owned() });
        }
        let market = gpu.market.clone();
        let factor = self.markets.get(&market).map_or(crate::Permille::ONE, |cell| cell.factor);
        let total_cost = gpu.base.scaled(factor).for_duration(request.end_time - request.start_time);
        self.check_sum(&market, total_cost)?;
        let BookingRequest { booking_id, gpu_id, user_id, start_time, end_time } = request;
        let info = BookingInfo {
            booking_id: booking_id.clone(),
            gpu_id: gpu_id.clone(),
            user_id,
            start_time,
            end_time,
            status: BookingStatus::Active,
            total_cost,
            created_at: self.now,
        };
        let begun = start_time <= self.now;
        let mut draft = Draft { booking: Some(booking_id.clone()), ..Draft::default() };
        self.alter(&mut draft, &gpu_id, |gpu| {
            gpu.schedule.insert(start_time, (end_time, booking_id.clone()));
            gpu.begun += u32::from(begun);
        });
        if !begun {
            self.timeline.insert((start_time, Step::Start, booking_id.clone()));
        }
        self.timeline.insert((end_time, Step::End, booking_id.clone()));
        for cell in stats_cells(&market) {
            let figures = self.figures.entry(cell).or_default();
            figures.window.insert((info.created_at, booking_id.clone()), info.total_cost);
            figures.volume += u128::from(info.total_cost.0);
        }
        let committed = self.commit(draft, kinds::BOOKING_CREATED);
        let stamp = Stamp { version: committed.version, at: committed.at };
        let created = committed.clone();
        let record = Booking { info: info.clone(), market, created, cancelled: None, stamp };
        self.bookings.insert(booking_id, record);
        Ok(BookOutcome::Booked { booking: info, committed, repeated: false })
    }

    /// Whether a cost, and all that was spent within a day together with it, can be told.
    fn check_sum(&self, market: &Market, cost: MicroUsd) -> Result<(), LedgerError> {
        let spent =
            stats_cells(market).map(|cell| self.figures.get(&cell).map_or(0, |figures| figures.volume));
        let most = spent.into_iter().max().unwrap_or_default();
        match most + u128::from(cost.0) <= u128::from(SUM_MAX.0) {
            true => Ok(()),
            false => {
                let why = format!("the booking would cost {cost}, more than can be counted");
                Err(LedgerError::Invalid { field: "end_time", why })
            }
        }
    }

    /// Why a GPU cannot be rented at any time, if so.
    fn not_for_rent(&self, gpu: &Gpu) -> Option<AvailabilityStatus> {
        let online = self.providers.get(&gpu.provider).is_some_and(|p| p.state == ProviderState::Online);
        let open = !gpu.withdrawn && online && gpu.own == AvailabilityStatus::Available;
        (!open).then(|| self.status(gpu))
    }

    pub(super) fn cancel(&mut self, booking_id: &str, gpu_id: &str) -> CancelOutcome {
        let Some(known) = self.bookings.get_mut(booking_id).filter(|known| known.info.gpu_id == gpu_id)
        else {
            return CancelOutcome::Unknown;
        };
        match (known.info.status, &known.cancelled) {
            (BookingStatus::Completed, _) => return CancelOutcome::Completed,
            (BookingStatus::Cancelled, Some(committed)) => {
                let (booking, committed) = (known.info.clone(), committed.clone());
                return CancelOutcome::Cancelled { booking, committed, repeated: true };
            }
            _ => known.info.status = BookingStatus::Cancelled,
        }
        let (info, market) = (known.info.clone(), known.market.clone());
        for cell in stats_cells(&market) {
            let figures = self.figures.entry(cell).or_default();
            if let Some(cost) = figures.window.remove(&(info.created_at, info.booking_id.clone())) {
                figures.volume -= u128::from(cost.0);
            }
        }
        let mut draft = Draft { booking: Some(info.booking_id.clone()), ..Draft::default() };
        draft.touch(&market, self.markets.entry(market.clone()).or_default());
        self.free(&mut draft, &info);
        let committed = self.commit(draft, kinds::BOOKING_CANCELLED);
        if let Some(known) = self.bookings.get_mut(booking_id) {
            known.cancelled = Some(committed.clone());
        }
        CancelOutcome::Cancelled { booking: info, committed, repeated: false }
    }

    /// Takes a booking off its GPU and the timeline; the GPU may then leave the market, if it only stayed for it.
    fn free(&mut self, draft: &mut Draft, info: &BookingInfo) {
        let waiting = self.timeline.remove(&(info.start_time, Step::Start, info.booking_id.clone()));
        self.timeline.remove(&(info.end_time, Step::End, info.booking_id.clone()));
        self.alter(draft, &info.gpu_id, |gpu| {
            gpu.schedule.remove(&info.start_time);
            gpu.begun -= u32::from(!waiting);
        });
        let Some(gpu) = self.gpus.get(&info.gpu_id) else { return };
        let name = (gpu.provider.clone(), gpu.market.gpu_type.clone());
        self.balance(draft, &name);
    }

    /// Lets happen what was to happen until then, and then, if that is now, what the passing day takes along.
    pub(super) fn pass_time(&mut self, until: u64) -> Vec<Committed> {
        let mut committed = Vec::new();
        while self.timeline.first().is_some_and(|(at, ..)| *at <= until) {
            let Some((_, step, id)) = self.timeline.pop_first() else { break };
            let Some(info) = self.bookings.get(&id).map(|booking| booking.info.clone()) else { continue };
            let mut draft = Draft::default();
            match step {
                Step::Start => self.alter(&mut draft, &info.gpu_id, |gpu| gpu.begun += 1),
                Step::End => {
                    self.free(&mut draft, &info);
                    if let Some(booking) = self.bookings.get_mut(&id) {
                        booking.info.status = BookingStatus::Completed;
                    }
                    draft.booking = Some(id);
                }
            }
            committed.push(self.commit(draft, kinds::GPU_AVAILABILITY_CHANGED));
        }
        if until < self.now {
            return committed;
        }
        let mut draft = Draft::default();
        for market in self.markets_with_old_bookings() {
            draft.touch(&market, self.markets.entry(market.clone()).or_default());
        }
        if !draft.is_empty() {
            committed.push(self.commit(draft, kinds::MARKET_STATS_UPDATED));
        }
        committed
    }

    fn markets_with_old_bookings(&self) -> Vec<Market> {
        let mut markets = Vec::new();
        for (cell, figures) in &self.figures {
            let old = figures
                .window
                .first_key_value()
                .is_some_and(|((created, _), _)| has_left(*created, self.now));
            if let ((Some(gpu_type), Some(region)), true) = (cell, old) {
                markets.push(Market::new(gpu_type, region));
            }
        }
        markets
    }
}

fn repeated(known: &Booking, request: &BookingRequest) -> BookOutcome {
    let BookingInfo { gpu_id, user_id, start_time, end_time, .. } = &known.info;
    let same = (gpu_id, user_id) == (&request.gpu_id, &request.user_id)
        && (*start_time, *end_time) == (request.start_time, request.end_time);
    if same {
        BookOutcome::Booked { booking: known.info.clone(), committed: known.created.clone(), repeated: true }
    } else {
        BookOutcome::IdTaken
    }
}

/// The booking that overlaps `start..end`. Those in the schedule do not overlap each other, so of all that start
/// before `end` only the last can reach behind `start`.
pub(super) fn overlap(gpu: &Gpu, start: u64, end: u64) -> Option<&str> {
    let (_, (other_end, id)) = gpu.schedule.range(..end).next_back()?;
    (*other_end > start && !mutated!("overlap_unchecked")).then_some(id)
}
