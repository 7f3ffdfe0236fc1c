//! One partition: its cursor, the sync that is in flight, and what is due when.

use std::collections::BTreeSet;

use cache_events::{CacheEvent, Partition, Position};

use super::{Action, Answer, Cargo, Desk, Missing, SyncOrder, Told};
use crate::view::{Standing, State};
use crate::{FlushCause, GroupStamp};

/// How a partition stands apart from time: [`State`] adds what the clock and the fence say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Replaying,
    Live,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    id: u64,
    started: u64,
}

#[derive(Debug)]
pub(super) struct Track {
    partition: Partition,
    /// Everything up to here was applied, or flushed past.
    cursor: Position,
    /// Sequences beyond the cursor that were applied in this epoch, since the last flush.
    ahead: BTreeSet<u64>,
    /// The last position that was applied, whatever came between: perhaps an own write in an epoch still to be adopted.
    applied_to: Position,
    /// The last position of a hint that has come to wait for its turn.
    arrived_to: Position,
    /// Something up to here could not be applied and its group stamps are unknown: only an answer that carries the
    /// group table, with its head at or past this, makes the partition fresh again.
    unknown_to: Option<Position>,
    fresh_as_of: u64,
    completed: u64,
    phase: Phase,
    /// A complete sync with this id or a later one was sent under the current subscription.
    live_from: u64,
    flight: Option<Flight>,
    /// Ask once more when the flight lands: what asked may be younger than what the flight saw.
    again: bool,
    /// When the timer asks.
    due: u64,
    /// After a failure nobody asks before this.
    hold_until: u64,
    failures: u32,
    /// Hints of another epoch cause no sync before this.
    epoch_quiet_until: u64,
    published: Option<Standing>,
}

impl Track {
    pub(super) fn new(partition: Partition, now: u64, desk: &mut Desk) -> Self {
        Self {
            partition,
            cursor: Position::ZERO,
            ahead: BTreeSet::new(),
            applied_to: Position::ZERO,
            arrived_to: Position::ZERO,
            unknown_to: None,
            fresh_as_of: 0,
            completed: 0,
            phase: Phase::Connecting,
            live_from: u64::MAX,
            flight: None,
            again: false,
            due: now + desk.jittered(desk.times.interval),
            hold_until: 0,
            failures: 0,
            epoch_quiet_until: 0,
            published: None,
        }
    }

    pub(super) fn cursor(&self) -> Position {
        self.cursor
    }

    pub(super) fn subscribed(&mut self, now: u64, desk: &mut Desk) {
        self.phase = Phase::Replaying;
        self.live_from = desk.last_id + 1;
        // A connection that works again is a reason not to wait for the retry.
        self.hold_until = 0;
        self.ask(now, desk);
    }

    pub(super) fn disconnected(&mut self) {
        self.phase = Phase::Connecting;
        self.live_from = u64::MAX;
    }

    pub(super) fn hint(&mut self, now: u64, position: Position, told: Told, desk: &mut Desk) {
        if self.hint_in_turn(now, position, told, desk) {
            self.ask(now, desk);
        }
    }

    /// Whether something is missing before it.
    pub(super) fn hint_in_turn(&mut self, now: u64, position: Position, told: Told, desk: &mut Desk) -> bool {
        if position.epoch != self.cursor.epoch {
            self.hint_of_another_epoch(now, desk);
            return false;
        }
        if position.seq <= self.cursor.seq || self.ahead.contains(&position.seq) {
            desk.counters.ignored += 1;
            return false;
        }
        let (event, cargo) = match told {
            Told::Event(event) => (event, None),
            Told::Update(event, cargo) => (event, Some(cargo)),
            Told::Marker | Told::Unreadable => {
                desk.counters.garbled += 1;
                self.ask(now, desk);
                return false;
            }
        };
        desk.counters.last_event_at = now;
        // What came later may have outdated it, and nobody would say so again.
        let last = position > self.applied_to || mutated!("update_behind_applied");
        self.apply(position, event, true, cargo.filter(|_| last), desk);
        !self.advance_past(position.seq, mutated!("advance_over_gap"), desk)
    }

    pub(super) fn arrived(&mut self, now: u64, position: Position, desk: &mut Desk) {
        if position.epoch != self.cursor.epoch {
            // When its turn comes.
            return;
        }
        let ahead = self.ahead.last().map_or(0, |&seq| seq);
        let known = self.cursor.max(self.arrived_to).seq.max(ahead);
        if position.seq > known + 1 && !mutated!("backlog_gap_unasked") {
            self.ask(now, desk);
        }
        self.arrived_to = self.arrived_to.max(position);
    }

    pub(super) fn covered(&mut self, position: Position, desk: &mut Desk) {
        let known = position.seq <= self.cursor.seq || self.ahead.contains(&position.seq);
        if position.epoch == self.cursor.epoch && !known {
            self.advance_past(position.seq, false, desk);
        }
    }

    /// What it says is only told by the log. Limited, since forged or very late hints look the same; at once but for
    /// a jitter, since every node of the deployment heard it in the same instant.
    fn hint_of_another_epoch(&mut self, now: u64, desk: &mut Desk) {
        if now < self.epoch_quiet_until && !mutated!("epoch_hints_unlimited") {
            desk.counters.ignored += 1;
            return;
        }
        self.epoch_quiet_until = now + desk.times.interval;
        let jitter = desk.rng.u64(0..=desk.times.epoch_jitter);
        self.due = self.due.min(now + jitter);
        self.again |= self.flight.is_some();
    }

    pub(super) fn wrote(&mut self, now: u64, position: Position, desk: &mut Desk) {
        // Its own hint says nothing new when it comes, so that this is where an own event is counted.
        desk.counters.last_event_at = now;
        if !mutated!("update_behind_own") {
            self.applied_to = self.applied_to.max(position);
        }
        if position.epoch != self.cursor.epoch || position.seq <= self.cursor.seq {
            return;
        }
        self.advance_past(position.seq, mutated!("wrote_jumps"), desk);
    }

    /// Asks the log now, or as soon as the sync in flight has landed, or when a retry is due.
    pub(super) fn ask(&mut self, now: u64, desk: &mut Desk) {
        if self.flight.is_some() {
            self.again = true;
        } else if now >= self.hold_until {
            self.start(now, desk);
        } else {
            self.due = self.due.min(self.hold_until);
        }
    }

    pub(super) fn answered(&mut self, now: u64, id: u64, sent: u64, answer: Answer, desk: &mut Desk) {
        let landed = self.flight.is_some_and(|flight| flight.id == id);
        if landed {
            self.flight = None;
        }
        let head = answer.head;
        if head.epoch < self.cursor.epoch && !mutated!("accept_old_epoch") {
            desk.counters.ignored += 1;
            if landed {
                self.back_off(now, desk);
            }
            return;
        }
        let before = (self.cursor, self.unknown_to);
        match answer.missing {
            Missing::Entries(entries) => self.replay(now, head, entries, desk),
            Missing::Gap(groups) => self.take_over(head, &groups, FlushCause::Gap, desk),
            Missing::Reset(groups) => self.take_over(head, &groups, FlushCause::Epoch, desk),
        }
        desk.fenced = None;
        let reached = self.cursor.epoch == head.epoch && self.cursor.seq >= head.seq;
        if (reached || mutated!("fresh_below_head")) && self.unknown_to.is_none() {
            self.completed(now, id, sent);
            if landed {
                self.failures = 0;
                if std::mem::take(&mut self.again) {
                    self.start(now, desk);
                }
            }
        } else if landed {
            if self.phase == Phase::Live {
                self.phase = Phase::Replaying;
            }
            // Below the head: the rest, at once. An answer that moved nothing must not be asked for in a loop.
            if before == (self.cursor, self.unknown_to) {
                self.back_off(now, desk);
            } else {
                self.start(now, desk);
            }
        }
    }

    pub(super) fn failed(&mut self, now: u64, id: u64, cut_off: bool, desk: &mut Desk) {
        if self.flight.is_none_or(|flight| flight.id != id) {
            return;
        }
        self.flight = None;
        desk.counters.sync_failures += 1;
        self.phase = Phase::Connecting;
        self.back_off(now, desk);
        if cut_off {
            self.hold_until = now + desk.jittered(desk.times.fenced_retry);
            self.due = self.hold_until;
        }
    }

    pub(super) fn tick(&mut self, now: u64, desk: &mut Desk) {
        if let Some(flight) = self.flight {
            if now >= flight.started + desk.times.timeout {
                self.failed(now, flight.id, false, desk);
            }
        } else if now >= self.due.max(self.hold_until) {
            self.start(now, desk);
        }
    }

    pub(super) fn wake_at(&self, desk: &Desk) -> u64 {
        match self.flight {
            Some(flight) => flight.started + desk.times.timeout,
            None => self.due.max(self.hold_until),
        }
    }

    pub(super) fn distrust(&mut self, now: u64, desk: &mut Desk) {
        self.unknown_to = Some(self.unknown_to.map_or(self.cursor, |to| to.max(self.cursor)));
        self.ahead.clear();
        // The one case in which freshness falls back: what it stood on may not be there.
        self.fresh_as_of = 0;
        let partition = self.partition;
        desk.actions
            .retain(|action| !matches!(action, Action::Publish { partition: at, .. } if *at == partition));
        // With the back-off, so that a receiver that always panics does not keep the log busy.
        if self.flight.is_none() {
            self.back_off(now, desk);
        } else {
            self.again = true;
        }
    }

    /// Shows where the partition stands if that has changed.
    pub(super) fn publish(&mut self, now: u64, desk: &mut Desk) {
        let proven = if self.fresh_as_of == 0 { desk.born } else { self.fresh_as_of };
        let state = if desk.fenced.is_some() {
            State::Fenced
        } else if now.saturating_sub(proven) > desk.times.bound {
            State::Degraded
        } else {
            match self.phase {
                Phase::Connecting => State::Connecting,
                Phase::Replaying => State::Replaying,
                Phase::Live => State::Live,
            }
        };
        let standing = Standing {
            position: self.cursor,
            fresh_as_of: self.fresh_as_of,
            state,
            completed: self.completed,
        };
        if self.published != Some(standing) {
            self.published = Some(standing);
            desk.actions.push_back(Action::Publish { partition: self.partition, standing });
        }
    }

    fn start(&mut self, now: u64, desk: &mut Desk) {
        desk.last_id += 1;
        desk.counters.syncs += 1;
        self.flight = Some(Flight { id: desk.last_id, started: now });
        self.again = false;
        self.due = now + desk.jittered(desk.times.interval);
        // From zero every log answers with its group table.
        let at = if self.unknown_to.is_some() { Position::ZERO } else { self.cursor };
        let order = SyncOrder { partition: self.partition, at, id: desk.last_id };
        desk.actions.push_back(Action::Sync(order));
    }

    fn back_off(&mut self, now: u64, desk: &mut Desk) {
        let doubled = desk.times.retry_after.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.hold_until = now + desk.jittered(doubled.min(desk.times.interval));
        self.due = self.hold_until;
        // The retry is younger than whatever asked.
        self.again = false;
    }

    fn completed(&mut self, now: u64, id: u64, sent: u64) {
        let sent = if mutated!("fresh_at_receive") { now } else { sent };
        self.fresh_as_of = self.fresh_as_of.max(sent);
        self.completed = self.completed.max(id);
        if id >= self.live_from {
            self.phase = Phase::Live;
        }
    }

    fn replay(&mut self, now: u64, head: Position, entries: Vec<(Position, Told)>, desk: &mut Desk) {
        let mut fits = head.epoch == self.cursor.epoch;
        let mut told_any = false;
        for (position, told) in entries {
            told_any = true;
            let next = position.seq <= self.cursor.seq + 1 || mutated!("entries_unchecked");
            fits = fits && position.epoch == self.cursor.epoch && next;
            if !fits {
                break;
            }
            if position.seq <= self.cursor.seq {
                continue;
            }
            match told {
                Told::Event(event) | Told::Update(event, _) => {
                    desk.counters.last_event_at = now;
                    let first = !self.ahead.contains(&position.seq);
                    self.apply(position, event, first, None, desk);
                    self.advance_to(position.seq, desk);
                }
                Told::Marker | Told::Unreadable => {
                    self.cursor.seq = position.seq;
                    if !mutated!("unreadable_skipped") {
                        self.flush_unknown(position, desk);
                    }
                }
            }
        }
        if fits {
            self.advance_over_ahead(desk);
        }
        // A log with a hole, or one that names a head and has nothing on the way to it.
        if !fits || (!told_any && self.cursor.seq < head.seq) {
            self.flush_unknown(head, desk);
        }
    }

    /// Takes over the head and the group stamps of an answer that cannot tell what happened in between.
    fn take_over(&mut self, head: Position, groups: &[GroupStamp], cause: FlushCause, desk: &mut Desk) {
        let same_epoch = head.epoch == self.cursor.epoch;
        if same_epoch && head.seq <= self.cursor.seq && self.unknown_to.is_none() {
            // Late: by now everything up to its head was applied one by one.
            desk.counters.ignored += 1;
            return;
        }
        let joined = self.cursor == Position::ZERO;
        let cause = match cause {
            FlushCause::Epoch if joined => FlushCause::Joined,
            FlushCause::Epoch if same_epoch => FlushCause::Unreadable,
            cause => cause,
        };
        match cause {
            FlushCause::Gap => desk.counters.gaps += 1,
            FlushCause::Epoch => desk.counters.resets += 1,
            FlushCause::Unreadable => desk.counters.unreadable += 1,
            FlushCause::Joined => {}
        }
        let skipped = match cause {
            FlushCause::Gap => mutated!("gap_without_flush"),
            FlushCause::Epoch => mutated!("epoch_without_flush"),
            _ => false,
        };
        if !skipped {
            self.flush(head.epoch, groups.to_vec(), cause, desk);
        }
        // In the same epoch the cursor never moves back: what lies between was applied.
        self.cursor = if same_epoch { self.cursor.max(head) } else { head };
        self.unknown_to = self.unknown_to.filter(|&to| to > head);
    }

    /// Something at or before `position` cannot be applied: flush at once, with the stamps known, and fetch the
    /// group table before anything counts as fresh, since what was missed may have been a group's invalidation.
    fn flush_unknown(&mut self, position: Position, desk: &mut Desk) {
        desk.counters.unreadable += 1;
        self.flush(self.cursor.epoch, Vec::new(), FlushCause::Unreadable, desk);
        if !mutated!("unreadable_without_groups") {
            self.unknown_to = Some(self.unknown_to.map_or(position, |to| to.max(position)));
        }
    }

    fn flush(&mut self, epoch: u64, groups: Vec<GroupStamp>, cause: FlushCause, desk: &mut Desk) {
        if !mutated!("ahead_survives_flush") {
            self.ahead.clear();
        }
        desk.actions.push_back(Action::Flush { partition: self.partition, epoch, groups, cause });
    }

    fn apply(
        &mut self,
        position: Position,
        event: CacheEvent,
        first: bool,
        cargo: Option<Box<Cargo>>,
        desk: &mut Desk,
    ) {
        self.applied_to = self.applied_to.max(position);
        let partition = self.partition;
        desk.actions.push_back(Action::Apply { partition, position, event, first, cargo });
    }

    /// Moves the cursor past a position that was applied if it is the next one (or is taken for it), and remembers it
    /// otherwise. Says whether it moved.
    fn advance_past(&mut self, seq: u64, in_any_case: bool, desk: &mut Desk) -> bool {
        let next = seq == self.cursor.seq + 1 || in_any_case;
        if next {
            self.advance_to(seq, desk);
            self.advance_over_ahead(desk);
        } else {
            self.remember_ahead(seq, desk);
        }
        next
    }

    fn advance_to(&mut self, seq: u64, desk: &mut Desk) {
        self.ahead.remove(&seq);
        self.cursor.seq = seq;
        desk.counters.applied += 1;
    }

    /// Positions that follow the cursor and were applied before their predecessors need not be applied again.
    fn advance_over_ahead(&mut self, desk: &mut Desk) {
        while self.ahead.first().is_some_and(|&seq| seq <= self.cursor.seq + 1) {
            let seq = self.ahead.pop_first().unwrap_or_default();
            if seq == self.cursor.seq + 1 {
                self.advance_to(seq, desk);
            }
        }
    }

    fn remember_ahead(&mut self, seq: u64, desk: &Desk) {
        if self.ahead.len() < desk.ahead_max {
            self.ahead.insert(seq);
        }
    }
}
