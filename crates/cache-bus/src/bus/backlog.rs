//! Hints that wait for their turn: what the listener has heard beyond one batch.
//!
//! As long as a node keeps up there is none. When more comes than one batch, all that has come is heard at once, so that
//! what is urgent need not stand behind what is not: critical events go first, all others in the order in which they
//! came. Of bulk events that concern one key alone, and of which nobody wants to be told each, the last stands for all,
//! in the place of the first: whatever it drops, the others would have dropped.
//!
//! The backlog is bounded. Beyond the bound hints are dropped, bulk before critical ones, and the log is asked.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use cache_events::{Key, Partition, Position, Scope};

use crate::Turn;
use crate::protocol::Told;

/// Positions for which others stand, as a multiple of the hints that may wait.
const COVERED_PER_WAITING: usize = 8;

/// A hint that waits.
pub(super) struct Waiting {
    pub(super) partition: Partition,
    pub(super) position: Position,
    pub(super) told: Told,
    /// Earlier and later ones of its key for which it stands; it is the last of them.
    pub(super) covers: Vec<Position>,
}

/// What became of a hint that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It waits, or another one stands for it.
    Kept,
    /// There was no room for it, or for a bulk event that had to go instead: one of this partition.
    Dropped(Partition),
}

pub(super) struct Backlog {
    urgent: VecDeque<Waiting>,
    bulk: VecDeque<Waiting>,
    /// How many bulk events have left at the front: what the numbers in `of_key` count from.
    left: u64,
    /// The number of the one that stands for a key.
    of_key: HashMap<(Partition, Key), u64>,
    /// How many positions are covered.
    covered: usize,
    max: usize,
}

impl Backlog {
    pub(super) fn new(max: usize) -> Self {
        Self {
            urgent: VecDeque::new(),
            bulk: VecDeque::new(),
            left: 0,
            of_key: HashMap::new(),
            covered: 0,
            max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.bulk.is_empty()
    }

    fn is_full(&self) -> bool {
        self.urgent.len() + self.bulk.len() >= self.max && !mutated!("backlog_unbounded")
    }

    pub(super) fn push(&mut self, partition: Partition, position: Position, told: Told, turn: Turn) -> Came {
        let waiting = Waiting { partition, position, told, covers: Vec::new() };
        match turn {
            Turn::First => {
                let instead = if self.is_full() { self.drop_bulk() } else { None };
                if self.is_full() {
                    return Came::Dropped(partition);
                }
                self.urgent.push_back(waiting);
                instead.map_or(Came::Kept, Came::Dropped)
            }
            Turn::Latest => match key_of(&waiting) {
                Some(key) => self.push_latest(key, waiting),
                None => self.push_bulk(waiting),
            },
            Turn::Each if mutated!("backlog_conflates_all") => match key_of(&waiting) {
                Some(key) => self.push_latest(key, waiting),
                None => self.push_bulk(waiting),
            },
            Turn::Each => self.push_bulk(waiting),
        }
    }

    fn push_bulk(&mut self, waiting: Waiting) -> Came {
        if self.is_full() {
            return Came::Dropped(waiting.partition);
        }
        self.bulk.push_back(waiting);
        Came::Kept
    }

    fn push_latest(&mut self, key: Key, waiting: Waiting) -> Came {
        let of_key = (waiting.partition, key);
        let number = self.of_key.get(&of_key).and_then(|number| number.checked_sub(self.left));
        let stands = number.and_then(|number| self.bulk.get_mut(number as usize));
        // Positions of different epochs do not stand for each other.
        let stands = stands.filter(|stands| {
            stands.position.epoch == waiting.position.epoch || mutated!("backlog_conflates_epochs")
        });
        let Some(stands) = stands else {
            let number = self.left + self.bulk.len() as u64;
            let came = self.push_bulk(waiting);
            if came == Came::Kept {
                self.of_key.insert(of_key, number);
            }
            return came;
        };
        if self.covered >= self.max.saturating_mul(COVERED_PER_WAITING) {
            return Came::Dropped(waiting.partition);
        }
        self.covered += 1;
        if waiting.position > stands.position || mutated!("backlog_keeps_older") {
            stands.covers.push(stands.position);
            (stands.position, stands.told) = (waiting.position, waiting.told);
        } else {
            stands.covers.push(waiting.position);
        }
        Came::Kept
    }

    /// Drops the bulk event that came last.
    fn drop_bulk(&mut self) -> Option<Partition> {
        let dropped = self.bulk.pop_back()?;
        self.forget(&dropped, self.left + self.bulk.len() as u64);
        Some(dropped.partition)
    }

    /// The next in turn.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let first = self.bulk.is_empty() || !mutated!("backlog_critical_waits");
        if first && let Some(urgent) = self.urgent.pop_front() {
            return Some(urgent);
        }
        let bulk = self.bulk.pop_front()?;
        self.forget(&bulk, self.left);
        self.left += 1;
        Some(bulk)
    }

    fn forget(&mut self, gone: &Waiting, number: u64) {
        self.covered -= gone.covers.len();
        if let Some(key) = key_of(gone)
            && let Entry::Occupied(of_key) = self.of_key.entry((gone.partition, key))
            && *of_key.get() == number
        {
            of_key.remove();
        }
    }
}

/// The only key that an event concerns. What brings more than its event is wanted in its own place.
fn key_of(waiting: &Waiting) -> Option<Key> {
    match &waiting.told {
        Told::Event(event) => match event.scopes.as_slice() {
            [Scope::Key(key)] => Some(key.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
