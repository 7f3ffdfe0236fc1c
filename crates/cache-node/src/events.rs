//! The latest events of a node: what made copies change, here and elsewhere.
//!
//! A bounded memory, filled by the cache as it applies events, own ones included, each once, in the order of each
//! partition's log: one that came ahead of others waits here, as it does for handlers, until the cursor has reached it. Whoever
//! follows has no queue of his own: he reads the memory from the [place](Place) that he has come to and is woken when there
//! is more. One who falls behind what is remembered is told how many he missed; nobody can slow the node.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, OnceLock};

use cache_bus::View;
use cache_events::{CacheEvent, Clock, NodeId, Partition, Position, Sequenced};
use cache_tiered::{FlushCause, Observer};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Events that are remembered.
pub const REMEMBERED_MAX: usize = 1_000;
/// Bytes of events that are remembered, about; beyond, the oldest go.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;
/// Events that wait for those before them; beyond, they are told out of order.
const WAITING_MAX: usize = 1_000;
/// What an event weighs beside its texts.
const EVENT_BYTES: usize = 400;

/// An event that this node has applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The event and where it stands.
    pub sequenced: Sequenced,
    /// Milliseconds from the event to its being applied here, by the store's clock; `None` for own events, and before the
    /// store's clock is known.
    pub propagation_ms: Option<f64>,
}

/// What is remembered, in order.
#[derive(Debug, Clone)]
enum Item {
    Event(Arc<Heard>),
    /// Events of a partition may be missing here.
    Gap(FlushCause),
}

/// How far a reader has come: the number of what is told next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

/// What a reader is told next.
#[derive(Debug, Default)]
pub struct Told {
    /// Before these events so many were missed, at least.
    pub missed: u64,
    /// Why, where it was the node that may have missed them and not this reader.
    pub why: Option<FlushCause>,
    /// The events, oldest first.
    pub events: Vec<Arc<Heard>>,
}

#[derive(Default)]
struct Memory {
    /// Applied, and not yet reached by the cursor.
    waiting: BTreeMap<(Partition, Position), Arc<Heard>>,
    latest: VecDeque<Item>,
    /// The number of the first of the latest.
    first: u64,
    bytes: usize,
    /// Of all that waits or is remembered.
    places: HashSet<(Partition, Position)>,
    gaps: u64,
}

/// The latest events of a node. Given to its cache as an [`Observer`].
pub struct Events {
    node: NodeId,
    clock: Arc<dyn Clock>,
    view: OnceLock<Arc<View>>,
    memory: Mutex<Memory>,
    /// The number of what comes next.
    next: watch::Sender<u64>,
    /// Who may follow at the same time.
    followers: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Events {
    /// A memory of what a node applies, that at most so many may follow at the same time.
    pub fn new(node: NodeId, clock: Arc<dyn Clock>, followers_max: usize) -> Self {
        Self {
            node,
            clock,
            view: OnceLock::new(),
            memory: Mutex::default(),
            next: watch::Sender::new(0),
            followers: Arc::new(Semaphore::new(followers_max)),
            closed: CancellationToken::new(),
        }
    }

    /// From here on the store's clock is known.
    pub fn attach(&self, view: Arc<View>) {
        let _ = self.view.set(view);
    }

    /// Ends all who follow.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Becomes one of those who follow, from what comes next or, after a position, from what followed that here. `None`: they
    /// are too many.
    pub fn follow(self: &Arc<Self>, after: Option<(Partition, Position)>) -> Option<Follower> {
        let permit = self.followers.clone().try_acquire_owned().ok()?;
        let memory = self.memory.lock();
        let next = memory.next();
        let (place, missed) = match after {
            None => (next, 0),
            Some(after) => match memory.after(after) {
                Some(place) => (place, 0),
                // It is not remembered, or was never heard here: what is remembered may be all new.
                None => (memory.first, 1),
            },
        };
        let more = self.next.subscribe();
        drop(memory);
        Some(Follower { events: self.clone(), place: Place(place), missed, more, _permit: permit })
    }

    /// What is remembered, newest first, as far as it is wanted.
    pub fn latest(&self, limit: usize, wanted: impl Fn(&Heard) -> bool) -> Vec<Arc<Heard>> {
        let memory = self.memory.lock();
        let events = memory.latest.iter().rev().filter_map(|item| match item {
            Item::Event(heard) => Some(heard),
            Item::Gap(_) => None,
        });
        events.filter(|heard| wanted(heard)).take(limit).cloned().collect()
    }

    /// How often events may have been missed since the start.
    pub fn gaps(&self) -> u64 {
        self.memory.lock().gaps
    }

    /// What is told after a place, at most so many; moves the place.
    fn told(&self, place: &mut Place, max: usize) -> Told {
        let memory = self.memory.lock();
        let mut told = Told { missed: memory.first.saturating_sub(place.0), ..Told::default() };
        place.0 = place.0.max(memory.first);
        let skipped = usize::try_from(place.0 - memory.first).unwrap_or(usize::MAX);
        for item in memory.latest.iter().skip(skipped).take(max) {
            match item {
                Item::Event(heard) => told.events.push(heard.clone()),
                Item::Gap(cause) if told.events.is_empty() => {
                    told.missed += 1;
                    told.why = Some(*cause);
                }
                // Told at its place: with the next ones.
                Item::Gap(_) => break,
            }
            place.0 += 1;
        }
        told
    }

    fn note(&self, partition: Partition, position: Position, event: &CacheEvent) {
        let own = event.source_node == self.node;
        let known = self.view.get().filter(|view| !own && view.clock_offset().is_some());
        let propagation_ms =
            known.map(|view| view.server_now(self.clock.wall()).saturating_sub(event.timestamp) as f64);
        let mut memory = self.memory.lock();
        if !memory.places.insert((partition, position)) {
            return;
        }
        let sequenced = Sequenced { partition, position, event: event.clone() };
        memory.waiting.insert((partition, position), Arc::new(Heard { sequenced, propagation_ms }));
        if memory.waiting.len() > WAITING_MAX {
            let all = std::mem::take(&mut memory.waiting);
            all.into_values().for_each(|heard| memory.push(Item::Event(heard)));
            self.tell(&memory);
        }
    }

    fn release(&self, partition: Partition, at: Position) {
        let mut memory = self.memory.lock();
        let before = memory.next();
        while let Some((&place, _)) =
            memory.waiting.range((partition, Position::ZERO)..=(partition, at)).next()
        {
            if let Some(heard) = memory.waiting.remove(&place) {
                memory.push(Item::Event(heard));
            }
        }
        if memory.next() != before {
            self.tell(&memory);
        }
    }

    /// Under the lock of the memory, so that nobody is told of an earlier end after a later one.
    fn tell(&self, memory: &Memory) {
        self.next.send_replace(memory.next());
    }
}

impl Memory {
    fn next(&self) -> u64 {
        self.first + self.latest.len() as u64
    }

    /// The number of what followed a position here; `None` if it is not remembered.
    fn after(&self, (partition, position): (Partition, Position)) -> Option<u64> {
        let is_it = |item: &Item| match item {
            Item::Event(heard) => {
                heard.sequenced.partition == partition && heard.sequenced.position == position
            }
            Item::Gap(_) => false,
        };
        let index = self.latest.iter().rposition(is_it)?;
        Some(self.first + index as u64 + 1)
    }

    fn push(&mut self, item: Item) {
        self.bytes += weight(&item);
        self.latest.push_back(item);
        while self.latest.len() > REMEMBERED_MAX || self.bytes > REMEMBERED_BYTES_MAX {
            let Some(oldest) = self.latest.pop_front() else { return };
            self.first += 1;
            self.bytes -= weight(&oldest);
            if let Item::Event(heard) = oldest {
                self.places.remove(&(heard.sequenced.partition, heard.sequenced.position));
            }
        }
    }
}

impl Observer for Events {
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent) {
        self.note(partition, position, event);
    }

    fn wrote(&self, partition: Partition, position: Position, event: &CacheEvent) {
        self.note(partition, position, event);
        // Where the cursor has passed it already, it has nothing to wait for.
        if self.view.get().is_some_and(|view| view.position(partition) >= position) {
            self.release(partition, position);
        }
    }

    fn stands(&self, partition: Partition, position: Position) {
        self.release(partition, position);
    }

    fn flushed(&self, partition: Partition, _epoch: u64, cause: FlushCause) {
        // Whatever came ahead of what is missing now.
        self.release(partition, Position::new(u64::MAX, u64::MAX));
        if cause != FlushCause::Joined {
            let mut memory = self.memory.lock();
            memory.gaps += 1;
            memory.push(Item::Gap(cause));
            self.tell(&memory);
        }
    }
}

/// One who follows the events of a node. Dropping it makes room for another.
pub struct Follower {
    events: Arc<Events>,
    place: Place,
    missed: u64,
    more: watch::Receiver<u64>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Follower {
    /// What comes next, at most `max` events; waits for it. `None` when the node stops. Cancel safe.
    pub async fn next(&mut self, max: usize) -> Option<Told> {
        loop {
            self.more.mark_unchanged();
            let mut told = self.events.told(&mut self.place, max);
            told.missed += std::mem::take(&mut self.missed);
            if told.missed > 0 || !told.events.is_empty() {
                return Some(told);
            }
            tokio::select! {
                biased;
                () = self.events.closed.cancelled() => return None,
                changed = self.more.changed() => changed.ok()?,
            }
        }
    }
}

/// What an item keeps in memory, about.
fn weight(item: &Item) -> usize {
    let Item::Event(heard) = item else { return size_of::<Item>() };
    let event = &heard.sequenced.event;
    let data = event.data.as_ref().map_or(0, weight_of);
    EVENT_BYTES + event.resource_id.len() + data + event.scopes.len() * 96
}

fn weight_of(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight_of).sum(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| 48 + name.len() + weight_of(value)).sum()
            }
            _ => 0,
        }
}

#[cfg(test)]
mod tests;
