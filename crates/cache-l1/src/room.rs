//! Storing: the fence is checked, the older value leaves, room is made, all under the shard's lock.
//!
//! Who makes room: what expired in the shard, then whom the policy of the shard names. A shard that holds
//! clearly less than its fair share must not eat itself while others hold what is old, so then the fullest
//! other shard gives; its lock is taken only after this one's was let go, hence everything is checked again
//! afterwards.

use std::sync::atomic::Ordering::Relaxed;

use cache_policy::Policy;

use crate::budget::Pressure;
use crate::cache::{L1, Shard};
use crate::shelf::{Entry, Halves, Shelf};
use crate::{Cause, Left, Refusal, Snapshot};

/// Entries an insert looks at to get rid of expired ones, wanted or not.
const STEPS_PER_INSERT: usize = 4;
/// And at most when there is no room.
const STEPS_WHEN_FULL: usize = 64;
/// Tries beyond those that a single thread can need; with that many lost to other inserts, this one gives up.
const SPARE_ROUNDS: usize = 16;

enum Attempt {
    Stored,
    Refused(Refusal),
    /// Room has to come from another shard.
    Elsewhere(Pressure),
}

impl<K, V, P> Shard<K, V, P> {
    fn measure(&self, pressure: Pressure) -> u64 {
        match pressure {
            Pressure::Entries => self.entries.load(Relaxed) as u64,
            Pressure::Bytes => self.bytes.load(Relaxed),
        }
    }
}

impl<K: Eq, V, P: Policy> L1<K, V, P> {
    /// Stores the entry, or says why not. What leaves is accounted for and put into `left`.
    pub(crate) fn store(
        &self,
        entry: Entry<K, V>,
        snapshot: &Snapshot,
        now: u64,
        left: &mut Vec<Left<K, V>>,
    ) -> Option<Refusal> {
        let shard = self.shard(entry.back.at.resource());
        let bytes = entry.halves().bytes();
        // Older than every guard below, so a refused value is dropped outside of the lock.
        let mut entry = Some(entry);
        let mut own_only = self.shards.len() == 1;
        for _ in 0..2 * self.shards.len() + SPARE_ROUNDS {
            let attempt = {
                let mut shelf = shard.shelf.write();
                let attempt = self.attempt(&mut shelf, &mut entry, snapshot, now, own_only, left);
                shard.publish(&shelf);
                attempt
            };
            match attempt {
                Attempt::Stored => return None,
                Attempt::Refused(refusal) => return Some(refusal),
                Attempt::Elsewhere(pressure) => {
                    own_only = !self.make_room_elsewhere(shard, pressure, bytes, now, left);
                }
            }
        }
        Some(Refusal::NoRoom)
    }

    fn attempt(
        &self,
        shelf: &mut Shelf<K, V, P>,
        entry: &mut Option<Entry<K, V>>,
        snapshot: &Snapshot,
        now: u64,
        own_only: bool,
        left: &mut Vec<Left<K, V>>,
    ) -> Attempt {
        self.expire(shelf, now, STEPS_PER_INSERT, left);
        let Some(newcomer) = entry.as_mut() else { return Attempt::Stored };
        if let Some(refusal) = self.refusal(shelf, newcomer, snapshot, now, left) {
            return Attempt::Refused(refusal);
        }
        let bytes = newcomer.halves().bytes();
        let mut expired_first = true;
        loop {
            match self.budget.reserve(bytes) {
                Ok(()) => {
                    if let Some(newcomer) = entry.take() {
                        shelf.put(newcomer);
                    }
                    return Attempt::Stored;
                }
                Err(_) if expired_first && self.expire(shelf, now, STEPS_WHEN_FULL, left) => {}
                Err(pressure) if own_only || self.has_its_share(shelf, pressure) => {
                    let Some(victim) = shelf.evict() else { return Attempt::Elsewhere(pressure) };
                    left.push(self.account(victim, Cause::Evicted));
                    expired_first = false;
                }
                Err(pressure) => return Attempt::Elsewhere(pressure),
            }
        }
    }

    /// Everything that forbids the insert. Takes the older value of the key out if none does, or if only the
    /// newcomer's weight does.
    fn refusal(
        &self,
        shelf: &mut Shelf<K, V, P>,
        newcomer: &mut Entry<K, V>,
        snapshot: &Snapshot,
        now: u64,
        left: &mut Vec<Left<K, V>>,
    ) -> Option<Refusal> {
        if let Some(refusal) = self.moved(&newcomer.back.at, snapshot) {
            return Some(refusal);
        }
        if !self.is_current(newcomer.halves()) {
            return Some(Refusal::Stamped);
        }
        if now >= newcomer.front.facts.hard_expiry {
            return Some(Refusal::Expired);
        }
        if let Some((slot, older)) = shelf.find(newcomer.back.at.hash(), |key| *key == newcomer.front.key) {
            let (held, new) = (older.facts.origin, newcomer.front.facts.origin);
            let cause = if now >= older.facts.hard_expiry {
                Cause::Expired
            } else if !self.is_current(Halves { front: older, back: shelf.back(slot) }) {
                Cause::Invalidated
            } else if held.epoch == new.epoch && held.seq > new.seq {
                return Some(Refusal::Newer);
            } else {
                Cause::Replaced
            };
            left.extend(shelf.take(slot).map(|older| self.account(older, cause)));
        }
        if self.budget.entries_max() == 0 {
            Some(Refusal::NoRoom)
        } else if newcomer.halves().bytes() > self.budget.bytes_max() {
            Some(Refusal::TooHeavy)
        } else {
            None
        }
    }

    /// Whether something expired.
    fn expire(&self, shelf: &mut Shelf<K, V, P>, now: u64, steps: usize, left: &mut Vec<Left<K, V>>) -> bool {
        let before = left.len();
        let mut steps = steps;
        while let Some(entry) = shelf.expire(now, &mut steps) {
            left.push(self.account(entry, Cause::Expired));
        }
        left.len() > before
    }

    /// A shard with at least seven eighths of its fair share gives room itself.
    fn has_its_share(&self, shelf: &Shelf<K, V, P>, pressure: Pressure) -> bool {
        let shards = self.shards.len() as u64;
        let (held, share) = match pressure {
            Pressure::Entries => (shelf.len() as u64, self.budget.entries_max() as u64 / shards),
            Pressure::Bytes => (shelf.bytes(), self.budget.bytes_max() / shards),
        };
        held > 0 && held >= share - share / 8
    }

    /// Takes from the fullest other shard, down to what this one holds. False if none holds more than this
    /// one.
    fn make_room_elsewhere(
        &self,
        own: &Shard<K, V, P>,
        pressure: Pressure,
        bytes: u64,
        now: u64,
        left: &mut Vec<Left<K, V>>,
    ) -> bool {
        let others = self.shards.iter().filter(|shard| !std::ptr::eq(*shard, own));
        let Some(fullest) = others.max_by_key(|shard| shard.measure(pressure)) else { return false };
        let floor = own.measure(pressure);
        if fullest.measure(pressure) <= floor {
            return false;
        }
        let mut shelf = fullest.shelf.write();
        self.expire(&mut shelf, now, STEPS_WHEN_FULL, left);
        while self.budget.missing(bytes).is_some() && fullest.measure(pressure) > floor {
            let Some(victim) = shelf.evict() else { break };
            left.push(self.account(victim, Cause::Evicted));
            fullest.publish(&shelf);
        }
        fullest.publish(&shelf);
        true
    }
}
