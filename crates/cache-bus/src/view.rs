//! Where each partition stands, for many readers at no cost to the writer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering, fence};

use cache_events::{Partition, Position};
use parking_lot::Mutex;

/// How a partition stands with its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not subscribed, or its hints do not arrive, or the last sync failed. What was proven before is trusted while the window runs.
    Connecting = 0,
    /// Subscribed; what was missed is being fetched.
    Replaying = 1,
    /// Subscribed and at the head.
    Live = 2,
    /// Nothing proven within the staleness bound.
    Degraded = 3,
    /// This deployment and the transport disagree on their layout; [`View::fenced`] says in what.
    Fenced = 4,
}

impl State {
    fn of(code: u8) -> Self {
        match code {
            0 => Self::Connecting,
            1 => Self::Replaying,
            2 => Self::Live,
            4 => Self::Fenced,
            _ => Self::Degraded,
        }
    }
}

/// Where one partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Epoch and cursor: everything up to here was applied, or flushed past.
    pub position: Position,
    /// The logical instant at which the last complete sync was sent; 0 = never.
    pub fresh_as_of: u64,
    /// How the partition stands with its log.
    pub state: State,
    /// The highest id of a sync that was complete, as [`Protocol::request_sync`](crate::Protocol) gives them; 0 = none.
    pub completed: u64,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What the bus has counted since it started, over all partitions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),* }

        #[derive(Debug, Default)]
        struct Cells { $($name: AtomicU64),* }

        impl Cells {
            fn store(&self, counters: &Counters) { $(self.$name.store(counters.$name, Ordering::Relaxed);)* }
            fn load(&self) -> Counters { Counters { $($name: self.$name.load(Ordering::Relaxed)),* } }
        }
    };
}

counters! {
    /// Hints received, readable or not.
    hints,
    /// Positions that the cursor advanced over by applying their event, each once.
    applied,
    /// Syncs started.
    syncs,
    /// Syncs that failed or timed out.
    sync_failures,
    /// Flushes because the log no longer had what was missed.
    gaps,
    /// Flushes because the partition has another epoch; joining at the start is none.
    resets,
    /// Flushes because something in the log (or an answer) could not be read.
    unreadable,
    /// Hints and answers that said nothing new: behind the cursor, repeated, or of an older epoch.
    ignored,
    /// Hints that could not be read.
    garbled,
    /// Times that the transport dropped hints because this node was too slow.
    overflows,
    /// Hints that this node dropped because too many waited.
    dropped,
    /// Events for which a later one of their key was applied.
    conflated,
    /// Logical instant of the last event that was applied, own (when it was acknowledged) or another's; 0 = never.
    last_event_at,
}

/// Where each partition stands. Shared with the hit path of the engine: all reads are a few atomic loads.
#[derive(Debug)]
pub struct View {
    slots: Box<[Slot]>,
    counters: Cells,
    subscribed: AtomicBool,
    offset_known: AtomicBool,
    offset: AtomicI64,
    fenced: Mutex<Option<String>>,
    /// Epochs that a sync has shown to be over, the latest last.
    over: Mutex<VecDeque<(Partition, u64)>>,
}

/// How many epochs are remembered to be over, those of all partitions together. Past that the next token of a forgotten
/// one costs a sync.
const OVER_MAX: usize = 256;

/// Epoch and sequence are read as a pair by a sequence lock: one writer at a time (the bus, under its lock), readers
/// retry while `turn` is odd or has changed. On a cache line of its own, for the sake of the readers of others.
#[derive(Debug)]
#[repr(align(128))]
struct Slot {
    turn: AtomicU64,
    epoch: AtomicU64,
    seq: AtomicU64,
    fresh_as_of: AtomicU64,
    completed: AtomicU64,
    state: AtomicU8,
}

impl View {
    pub(crate) fn new(partitions: u32) -> Self {
        let slot = || Slot {
            turn: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            seq: AtomicU64::new(0),
            fresh_as_of: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            state: AtomicU8::new(State::Connecting as u8),
        };
        Self {
            slots: (0..partitions.max(1)).map(|_| slot()).collect(),
            counters: Cells::default(),
            subscribed: AtomicBool::new(false),
            offset_known: AtomicBool::new(false),
            offset: AtomicI64::new(0),
            fenced: Mutex::new(None),
            over: Mutex::default(),
        }
    }

    /// How many partitions there are. The methods that take a partition panic at or above it.
    pub fn partitions(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The logical instant at which the last complete sync of the partition was sent; 0 = never. One load: whoever
    /// sees the instant also sees everything that was applied before it was published.
    #[inline]
    pub fn fresh_as_of(&self, partition: Partition) -> u64 {
        self.slots[partition.index()].fresh_as_of.load(Ordering::Acquire)
    }

    /// The epoch of the partition; 0 = none yet.
    #[inline]
    pub fn epoch(&self, partition: Partition) -> u64 {
        self.slots[partition.index()].epoch.load(Ordering::Acquire)
    }

    /// Epoch and cursor, as a consistent pair.
    pub fn position(&self, partition: Partition) -> Position {
        let slot = &self.slots[partition.index()];
        let mut spins = 0_u32;
        loop {
            let before = slot.turn.load(Ordering::Acquire);
            let position =
                Position::new(slot.epoch.load(Ordering::Relaxed), slot.seq.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && slot.turn.load(Ordering::Relaxed) == before {
                return position;
            }
            spins += 1;
            // The writer may have been preempted between its two stores.
            if spins.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// Whether everything up to the position was applied here, or flushed past. Of two epochs the one with the greater
    /// number is the later one, except where a server lost its data and its clock was behind: until a node that knows the
    /// greater number asks it, it counts from below. So a position of a lesser epoch has been passed only when a sync
    /// has shown that ([`Bus::shows`](crate::Bus::shows)).
    pub fn shows(&self, partition: Partition, position: Position) -> bool {
        let at = self.position(partition);
        if at.epoch == position.epoch {
            return at.seq >= position.seq;
        }
        at.epoch > position.epoch
            && (mutated!("epoch_over_by_number") || self.over.lock().contains(&(partition, position.epoch)))
    }

    /// A sync that was sent when the epoch was known of found a later one in its place.
    pub(crate) fn remember_over(&self, partition: Partition, epoch: u64) {
        let mut over = self.over.lock();
        if !over.contains(&(partition, epoch)) {
            if over.len() == OVER_MAX {
                over.pop_front();
            }
            over.push_back((partition, epoch));
        }
    }

    /// How the partition stands with its log, as of the last event or tick of the bus (at most 50 ms ago).
    pub fn state(&self, partition: Partition) -> State {
        State::of(self.slots[partition.index()].state.load(Ordering::Acquire))
    }

    /// Whether a subscription is in force.
    pub fn subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    /// In what this deployment and the transport disagree, while they do.
    pub fn fenced(&self) -> Option<String> {
        self.fenced.lock().clone()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters.load()
    }

    /// What the server's clock is ahead of this machine's, in milliseconds, from the sync with the least round trip
    /// lately; `None` before the first answer.
    pub fn clock_offset(&self) -> Option<i64> {
        self.offset_known.load(Ordering::Acquire).then(|| self.offset.load(Ordering::Relaxed))
    }

    /// What the server's clock shows when this machine's shows `wall_ms`; the same before the first answer.
    pub fn server_now(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_add_signed(self.clock_offset().unwrap_or(0))
    }

    pub(crate) fn completed(&self, partition: Partition) -> u64 {
        self.slots[partition.index()].completed.load(Ordering::Acquire)
    }

    /// Shows where a partition stands. Only under the lock of the bus, after the receiver was told.
    pub(crate) fn publish(&self, partition: Partition, standing: &Standing) {
        let slot = &self.slots[partition.index()];
        let turn = slot.turn.load(Ordering::Relaxed);
        slot.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        slot.epoch.store(standing.position.epoch, Ordering::Release);
        slot.seq.store(standing.position.seq, Ordering::Release);
        slot.turn.store(turn.wrapping_add(2), Ordering::Release);
        // Freshness last: nobody may see it together with an older cursor.
        slot.state.store(standing.state as u8, Ordering::Release);
        slot.fresh_as_of.store(standing.fresh_as_of, Ordering::Release);
        slot.completed.store(standing.completed, Ordering::Release);
    }

    pub(crate) fn publish_counters(&self, counters: &Counters) {
        self.counters.store(counters);
    }

    pub(crate) fn publish_offset(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
        self.offset_known.store(true, Ordering::Release);
    }

    pub(crate) fn publish_link(&self, subscribed: bool, fenced: Option<&str>) {
        self.subscribed.store(subscribed, Ordering::Release);
        let mut shown = self.fenced.lock();
        if shown.as_deref() != fenced {
            *shown = fenced.map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_and_sequence_are_never_torn() {
        let view = View::new(1);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers = [(); 2].map(|()| {
                scope.spawn(|| {
                    let mut last = Position::ZERO;
                    while !done.load(Ordering::Acquire) {
                        let position = view.position(Partition(0));
                        assert_eq!(position.epoch, position.seq);
                        assert!(position >= last);
                        last = position;
                    }
                })
            });
            for n in 1..=200_000 {
                let position = Position::new(n, n);
                let standing = Standing { position, fresh_as_of: n, state: State::Live, completed: n };
                view.publish(Partition(0), &standing);
            }
            done.store(true, Ordering::Release);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
        assert_eq!(view.position(Partition(0)), Position::new(200_000, 200_000));
    }
}
