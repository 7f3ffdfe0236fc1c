//! Storing: the fence is checked, the older value leaves, room is made, all under the shard's lock.
//!
//! Who makes room: what expired in the shard, then whom the policy of the shard names. A shard that holds
//! clearly less than its fair share must not eat itself while others hold what is old, so then the fullest
//! other shard gives; its lock is taken only after this one's was let go, hence everything is checked again
//! afterwards.

use std::sync::atomic::Ordering::Relaxed;

use cache_policy::Policy;

use crate::budget::{Hand, Pressure};
use crate::cache::{L1, Shard};
use crate::entry::{Entry, Halves};
use crate::shelf::Shelf;
use crate::{Address, Cause, Departed, Left, Origin, Refusal, Snapshot};

/// Entries an insert looks at to get rid of expired ones, wanted or not.
const STEPS_PER_INSERT: usize = 4;
/// And at most when there is no room.
const STEPS_WHEN_FULL: usize = 64;
/// Tries beyond those that a single thread can need; with that many lost to other inserts, this one gives up.
const SPARE_ROUNDS: usize = 16;

/// A value that wants in.
pub(crate) struct Newcomer<'a, K, V> {
    /// Until it is stored. Dropped with the newcomer, so outside of all locks.
    pub(crate) entry: Option<Entry<K, V>>,
    pub(crate) at: &'a Address,
    pub(crate) origin: Origin,
    pub(crate) hard_expiry: u64,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) now: u64,
}

enum Attempt {
    Stored,
    Refused(Refusal),
    /// Room has to come from another shard.
    Elsewhere(Pressure),
}

/// What left, for the caller and for the budget.
struct Leaving<'a, K, V> {
    departed: &'a mut Departed<K, V>,
    hand: Hand,
}

impl<K, V> Leaving<'_, K, V> {
    fn add<P: Policy>(&mut self, shelf: &mut Shelf<K, V, P>, entry: Entry<K, V>, cause: Cause) {
        let left: Left<K, V> = entry.leave(cause);
        shelf.tally.left(cause);
        self.hand.add(left.bytes);
        self.departed.push(left);
    }

    /// Whether something expired.
    fn expire<P: Policy>(&mut self, shelf: &mut Shelf<K, V, P>, now: u64, mut steps: usize) -> bool {
        let before = self.departed.len();
        while let Some(entry) = shelf.expire(now, &mut steps) {
            self.add(shelf, entry, Cause::Expired);
        }
        self.departed.len() > before
    }
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
    /// Stores the entry, or says why not. What leaves is accounted for and put into `departed`.
    pub(crate) fn store(
        &self,
        mut newcomer: Newcomer<'_, K, V>,
        departed: &mut Departed<K, V>,
    ) -> Option<Refusal> {
        let shard = self.shard(newcomer.at.resource());
        let mut own_only = self.shards.len() == 1;
        for _ in 0..2 * self.shards.len() + SPARE_ROUNDS {
            let attempt = {
                let mut shelf = shard.shelf.write();
                let mut leaving = Leaving { departed: &mut *departed, hand: Hand::default() };
                let attempt = self.attempt(&mut shelf, &mut newcomer, own_only, &mut leaving);
                match attempt {
                    Attempt::Stored => shelf.tally.inserted(),
                    Attempt::Refused(refusal) => shelf.tally.refused(refusal),
                    Attempt::Elsewhere(_) => {}
                }
                shard.publish(&shelf);
                self.budget.give_back(leaving.hand);
                attempt
            };
            match attempt {
                Attempt::Stored => return None,
                Attempt::Refused(refusal) => return Some(refusal),
                Attempt::Elsewhere(pressure) => {
                    let bytes = newcomer.entry.as_ref().map_or(0, |entry| entry.halves().bytes());
                    own_only = !self.make_room_elsewhere(shard, pressure, bytes, newcomer.now, departed);
                }
            }
        }
        shard.shelf.write().tally.refused(Refusal::NoRoom);
        Some(Refusal::NoRoom)
    }

    fn attempt(
        &self,
        shelf: &mut Shelf<K, V, P>,
        newcomer: &mut Newcomer<'_, K, V>,
        own_only: bool,
        leaving: &mut Leaving<'_, K, V>,
    ) -> Attempt {
        let now = newcomer.now;
        leaving.expire(shelf, now, STEPS_PER_INSERT);
        let stray = match self.admission(shelf, newcomer, leaving) {
            Ok(stray) => stray,
            Err(refusal) => return Attempt::Refused(refusal),
        };
        let bytes = newcomer.entry.as_ref().map_or(0, |entry| entry.halves().bytes());
        let mut expired_first = true;
        loop {
            match self.budget.reserve(bytes, &mut leaving.hand) {
                Ok(()) => {
                    if let Some(entry) = newcomer.entry.take() {
                        shelf.put(entry, newcomer.at, stray);
                    }
                    return Attempt::Stored;
                }
                Err(_) if expired_first && leaving.expire(shelf, now, STEPS_WHEN_FULL) => {}
                Err(pressure) if own_only || self.has_its_share(shelf, pressure) => {
                    let Some(victim) = shelf.evict() else { return Attempt::Elsewhere(pressure) };
                    leaving.add(shelf, victim, Cause::Evicted);
                    expired_first = false;
                }
                Err(pressure) => return Attempt::Elsewhere(pressure),
            }
        }
    }

    /// Everything that forbids the insert. Takes the older value of the key out if nothing does, or if only the
    /// newcomer's weight does. The answer is the newcomer's epoch if the fence knows another.
    fn admission(
        &self,
        shelf: &mut Shelf<K, V, P>,
        newcomer: &mut Newcomer<'_, K, V>,
        leaving: &mut Leaving<'_, K, V>,
    ) -> Result<Option<u64>, Refusal> {
        let &mut Newcomer { ref mut entry, at, origin, hard_expiry, snapshot, now } = newcomer;
        let Some(entry) = entry.as_mut() else { return Ok(None) };
        if let Some(refusal) = self.moved(at, snapshot) {
            return Err(refusal);
        }
        let Some(regular) = self.admit(entry, origin, snapshot) else { return Err(Refusal::Stamped) };
        if now >= hard_expiry {
            return Err(Refusal::Expired);
        }
        if let Some((slot, older)) = shelf.find(at.hash(), |key| *key == entry.front.key) {
            let halves = Halves { front: older, back: shelf.back(slot) };
            let cause = if now >= older.times.hard_expiry() {
                Cause::Expired
            } else if !self.is_current(halves) {
                Cause::Invalidated
            } else if older.seq > origin.seq && self.epoch(shelf, slot, older) == Some(origin.epoch) {
                return Err(Refusal::Newer);
            } else {
                Cause::Replaced
            };
            if let Some(older) = shelf.take(slot) {
                leaving.add(shelf, older, cause);
            }
        }
        if self.budget.entries_max() == 0 {
            Err(Refusal::NoRoom)
        } else if entry.halves().bytes() > self.budget.bytes_max() {
            Err(Refusal::TooHeavy)
        } else {
            Ok((!regular).then_some(origin.epoch))
        }
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
    #[cold]
    fn make_room_elsewhere(
        &self,
        own: &Shard<K, V, P>,
        pressure: Pressure,
        bytes: u64,
        now: u64,
        departed: &mut Departed<K, V>,
    ) -> bool {
        let others = self.shards.iter().filter(|shard| !std::ptr::eq(*shard, own));
        let Some(fullest) = others.max_by_key(|shard| shard.measure(pressure)) else { return false };
        let floor = own.measure(pressure);
        if fullest.measure(pressure) <= floor {
            return false;
        }
        let mut shelf = fullest.shelf.write();
        let mut leaving = Leaving { departed, hand: Hand::default() };
        leaving.expire(&mut shelf, now, STEPS_WHEN_FULL);
        loop {
            fullest.publish(&shelf);
            // At once: the other shards wait for it.
            self.budget.give_back(std::mem::take(&mut leaving.hand));
            if self.budget.missing(bytes).is_none() || fullest.measure(pressure) <= floor {
                return true;
            }
            let Some(victim) = shelf.evict() else { return true };
            leaving.add(&mut shelf, victim, Cause::Evicted);
        }
    }
}
