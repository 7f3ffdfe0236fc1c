//! The coherence protocol of one node, over all partitions, as a pure state machine.
//!
//! A log per partition holds every invalidation in order; hints bring most of them early and may be lost, late,
//! repeated or out of order. Each partition has a **cursor**: everything up to it was applied, or flushed past. A hint
//! moves it only by one step; anything else is asked of the log. **Freshness** is the instant at which the last
//! *complete* sync was *sent*: whatever was acknowledged before that instant is in the answer, so it is applied.
//! A loss can therefore delay freshness but never pass it by.
//!
//! Inputs carry `now` in logical milliseconds; what is to be done comes out of [`Protocol::next_action`], in order.
//! There is no clock, no I/O and no lock in here: production, tests and simulation run the same code.

mod track;

use std::collections::VecDeque;

use bytes::Bytes;
use cache_events::wire::{self, CargoKind};
use cache_events::{CacheEvent, Partition, Position};

use crate::config::{BusConfig, Times};
use crate::view::{Counters, Standing};
use crate::{FlushCause, GroupStamp, Missed, SyncAnswer};
use track::Track;

/// What a payload says.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// An event.
    Event(CacheEvent),
    /// An event, with what changes by it. Hints alone say so much.
    Update(CacheEvent, Box<Cargo>),
    /// That a new epoch began.
    Marker,
    /// Nothing that this node can read.
    Unreadable,
}

/// What a hint brought beside its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cargo {
    /// What it is.
    pub kind: CargoKind,
    /// Its bytes, as the writer gave them.
    pub bytes: Bytes,
}

impl Told {
    /// Reads what stands behind the position of a hint: an envelope, or one with a cargo.
    pub fn of_hint(payload: &Bytes) -> Self {
        match wire::split_carrier(payload) {
            Ok((_, None)) => Self::of(payload),
            Ok((envelope, Some((kind, cargo)))) => match wire::decode(envelope) {
                Ok(event) => Self::Update(event, Box::new(Cargo { kind, bytes: payload.slice_ref(cargo) })),
                Err(_) => Self::Unreadable,
            },
            Err(_) => Self::Unreadable,
        }
    }

    /// Reads the envelope of a log entry.
    pub fn of(payload: &[u8]) -> Self {
        if payload.is_empty() {
            return Self::Marker;
        }
        wire::decode(payload).map_or(Self::Unreadable, Self::Event)
    }
}

/// What the log says to a sync, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The last position of the partition.
    pub head: Position,
    /// What the node missed.
    pub missing: Missing,
}

/// What a node missed, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Missing {
    /// These entries, contiguous from the position that was asked about.
    Entries(Vec<(Position, Told)>),
    /// Entries that the log no longer has.
    Gap(Vec<GroupStamp>),
    /// The partition has another epoch.
    Reset(Vec<GroupStamp>),
}

impl Answer {
    /// Reads all envelopes of an answer.
    pub fn of(answer: SyncAnswer) -> Self {
        let missing = match answer.missed {
            Missed::Entries(entries) => Missing::Entries(
                entries.into_iter().map(|entry| (entry.position, Told::of(&entry.payload))).collect(),
            ),
            Missed::Gap(groups) => Missing::Gap(groups),
            Missed::Reset(groups) => Missing::Reset(groups),
        };
        Self { head: answer.head, missing }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a sync. There is at most one in flight for each partition.
    Sync(SyncOrder),
    /// Tell [`Receiver::apply`](crate::Receiver::apply).
    Apply {
        /// The partition.
        partition: Partition,
        /// Its position.
        position: Position,
        /// The event.
        event: CacheEvent,
        /// Whether it is not known to have been applied before.
        first: bool,
        /// What the hint brought, unless something later was applied already: then
        /// [`Receiver::update`](crate::Receiver::update).
        cargo: Option<Box<Cargo>>,
    },
    /// Tell [`Receiver::flush`](crate::Receiver::flush).
    Flush {
        /// The partition.
        partition: Partition,
        /// The epoch in which it stands from here on.
        epoch: u64,
        /// The group stamps to take over.
        groups: Vec<GroupStamp>,
        /// Why.
        cause: FlushCause,
    },
    /// Everything before this was done: show where the partition stands.
    Publish {
        /// The partition.
        partition: Partition,
        /// Where it stands.
        standing: Standing,
    },
}

/// A sync to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncOrder {
    /// The partition.
    pub partition: Partition,
    /// What to ask about: the cursor, or [`Position::ZERO`] where the group stamps are needed too.
    pub at: Position,
    /// Names the sync in its answer; grows.
    pub id: u64,
}

/// The protocol of one node. Every input may leave actions; take them all before the next input.
#[derive(Debug)]
pub struct Protocol {
    tracks: Vec<Track>,
    desk: Desk,
}

/// What the tracks of all partitions share.
#[derive(Debug)]
struct Desk {
    times: Times,
    ahead_max: usize,
    rng: fastrand::Rng,
    born: u64,
    subscribed: bool,
    fenced: Option<String>,
    counters: Counters,
    last_id: u64,
    actions: VecDeque<Action>,
}

impl Desk {
    /// `ms` ±10 %.
    fn jittered(&mut self, ms: u64) -> u64 {
        (ms - ms / 10 + self.rng.u64(0..=ms / 5)).max(1)
    }
}

impl Protocol {
    /// A node that has seen nothing. `seed` feeds the jitter.
    pub fn new(partitions: u32, config: &BusConfig, seed: u64, now: u64) -> Self {
        let mut desk = Desk {
            times: Times::of(config),
            ahead_max: config.ahead_max,
            rng: fastrand::Rng::with_seed(seed),
            born: now,
            subscribed: false,
            fenced: None,
            counters: Counters::default(),
            last_id: 0,
            actions: VecDeque::new(),
        };
        let tracks =
            (0..partitions.max(1)).map(|number| Track::new(Partition(number), now, &mut desk)).collect();
        Self { tracks, desk }
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.desk.actions.pop_front()
    }

    /// A subscription is in force: every partition syncs before it is live.
    pub fn subscribed(&mut self, now: u64) {
        self.desk.subscribed = true;
        self.desk.fenced = None;
        self.each(now, |track, now, desk| track.subscribed(now, desk));
    }

    /// The subscription has ended, or could not be had. Syncs go on; they are enough for freshness.
    pub fn disconnected(&mut self, now: u64) {
        self.desk.subscribed = false;
        self.each(now, |track, _, _| track.disconnected());
    }

    /// A subscription is in force, but hints of this partition do not arrive. Its syncs go on.
    pub fn unheard(&mut self, now: u64, partition: Partition) {
        self.one(now, partition, |track, _| track.disconnected());
    }

    /// Hints of this partition arrive from here on: it syncs before it is live.
    pub fn heard(&mut self, now: u64, partition: Partition) {
        self.one(now, partition, |track, desk| track.subscribed(now, desk));
    }

    /// This deployment and the transport disagree on their layout.
    pub fn fenced(&mut self, now: u64, why: String) {
        self.desk.subscribed = false;
        self.desk.fenced = Some(why);
        self.each(now, |track, _, _| track.disconnected());
    }

    /// A hint came.
    pub fn hint(&mut self, now: u64, partition: Partition, position: Position, told: Told) {
        if partition.index() >= self.tracks.len() {
            return self.garbled(now);
        }
        self.desk.counters.hints += 1;
        self.one(now, partition, |track, desk| track.hint(now, position, told, desk));
    }

    /// A hint came that will have its [turn](Self::hint_in_turn), unless it is [dropped](Self::dropped): in the order in
    /// which hints come. What is missing before it is asked of the log now, and not again when it is applied before others
    /// that wait as well.
    pub fn arrived(&mut self, now: u64, partition: Partition, position: Position) {
        self.one(now, partition, |track, desk| track.arrived(now, position, desk));
    }

    /// The turn of a hint has come that has [arrived](Self::arrived) before.
    pub fn hint_in_turn(&mut self, now: u64, partition: Partition, position: Position, told: Told) {
        if partition.index() >= self.tracks.len() {
            return self.garbled(now);
        }
        self.desk.counters.hints += 1;
        self.one(now, partition, |track, desk| {
            // What is missing was asked for when it arrived.
            let _ = track.hint_in_turn(now, position, told, desk);
        });
    }

    /// A hint that has arrived need not be applied: one of the same partition and epoch was that does all that it would
    /// have done.
    pub fn covered(&mut self, now: u64, partition: Partition, position: Position) {
        self.desk.counters.hints += 1;
        self.desk.counters.conflated += 1;
        self.one(now, partition, |track, desk| track.covered(position, desk));
    }

    /// A hint of this partition that has arrived will have no turn.
    pub fn dropped(&mut self, now: u64, partition: Partition) {
        self.desk.counters.dropped += 1;
        if !mutated!("backlog_drop_unasked") {
            self.one(now, partition, |track, desk| track.ask(now, desk));
        }
    }

    /// Something came that is not a hint: it may have been one of any partition.
    pub fn garbled(&mut self, now: u64) {
        self.desk.counters.hints += 1;
        self.desk.counters.garbled += 1;
        self.each(now, |track, now, desk| track.ask(now, desk));
    }

    /// Hints were dropped.
    pub fn overflow(&mut self, now: u64) {
        self.desk.counters.overflows += 1;
        self.each(now, |track, now, desk| track.ask(now, desk));
    }

    /// The sync `id`, sent at the instant `sent`, was answered. An answer may come after the sync was given up.
    pub fn answered(&mut self, now: u64, partition: Partition, id: u64, sent: u64, answer: Answer) {
        self.one(now, partition, |track, desk| track.answered(now, id, sent, answer, desk));
    }

    /// The sync `id` failed. `fenced` says in what the layouts disagree, if that was the reason.
    pub fn failed(&mut self, now: u64, partition: Partition, id: u64, fenced: Option<String>) {
        let cut_off = fenced.is_some();
        if cut_off {
            self.desk.fenced = fenced;
        }
        self.one(now, partition, |track, desk| track.failed(now, id, cut_off, desk));
    }

    /// Time has passed. Call at [`wake_at`](Self::wake_at) or earlier.
    pub fn tick(&mut self, now: u64) {
        self.each(now, |track, now, desk| track.tick(now, desk));
    }

    /// This node's own write was acknowledged at this position, and its event was applied here already. Never
    /// causes a sync: where it is not the next position, the hint of what lies between will come.
    pub fn wrote(&mut self, now: u64, partition: Partition, position: Position) {
        self.one(now, partition, |track, desk| track.wrote(now, position, desk));
    }

    /// Somebody wants to know more. Returns the id from which on a complete sync ([`Standing::completed`]) was sent
    /// after this call; requests that come while one is in flight share the next.
    pub fn request_sync(&mut self, now: u64, partition: Partition) -> u64 {
        let mut ticket = 0;
        self.one(now, partition, |track, desk| {
            ticket = desk.last_id + 1;
            track.ask(now, desk);
        });
        ticket
    }

    /// What was handed out may not have been done (the receiver panicked): the partition is flushed with all group
    /// stamps before it counts as fresh again.
    pub fn distrust(&mut self, now: u64, partition: Partition) {
        self.one(now, partition, |track, desk| track.distrust(now, desk));
    }

    /// When [`tick`](Self::tick) is due at the latest.
    pub fn wake_at(&self) -> u64 {
        self.tracks.iter().map(|track| track.wake_at(&self.desk)).min().unwrap_or(u64::MAX)
    }

    /// Epoch and cursor of a partition.
    pub fn position(&self, partition: Partition) -> Position {
        self.tracks[partition.index()].cursor()
    }

    /// Whether a subscription is in force.
    pub fn is_subscribed(&self) -> bool {
        self.desk.subscribed
    }

    /// In what the layouts disagree, while they do.
    pub fn fenced_why(&self) -> Option<&str> {
        self.desk.fenced.as_deref()
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.desk.counters
    }

    fn one(&mut self, now: u64, partition: Partition, step: impl FnOnce(&mut Track, &mut Desk)) {
        let Some(track) = self.tracks.get_mut(partition.index()) else { return };
        step(track, &mut self.desk);
        track.publish(now, &mut self.desk);
    }

    fn each(&mut self, now: u64, mut step: impl FnMut(&mut Track, u64, &mut Desk)) {
        for track in &mut self.tracks {
            step(track, now, &mut self.desk);
            track.publish(now, &mut self.desk);
        }
    }
}
