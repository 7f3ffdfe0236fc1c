//! Storing: the fence is checked, the older value leaves, room is made, all under the shard's lock.
//!
//! Who makes room: what expired in the shard, then whom the policy of the shard names. A shard that holds
//! clearly less than its fair share must not eat itself while others hold what is old, so then the fullest
//! other shard gives; its lock is taken only after this one's was let go, hence everything is checked again
//! afterwards.

use std::mem::ManuallyDrop;

use cache_policy::Policy;

use crate::budget::{Hand, Pressure};
use crate::cache::{L1, Shard};
use crate::entry::{Admission, overhead_bytes};
use crate::shelf::{Shelf, Victim};
use crate::sync::{Ordering::Relaxed, yield_now};
use crate::{Address, Cause, Departed, Inserted, Left, Meta, Refusal, Snapshot};

/// Entries an insert looks at to get rid of expired ones, wanted or not.
const STEPS_PER_INSERT: usize = 4;
/// And at most when there is no room.
const STEPS_WHEN_FULL: usize = 64;
/// Tries beyond those that a single thread can need; with that many lost to other inserts, this one gives up.
const SPARE_ROUNDS: usize = 16;

/// Claims on other tiers in vain, in turn with other threads, before the tier takes from itself.
const PATIENCE: usize = 32;

/// A value that wants in. What it is made of stays where the caller has it until it is stored: copies cost more than
/// all else here. So a refused one is also dropped outside of all locks.
pub(crate) struct Newcomer<'a, K, V> {
    pub(crate) pair: &'a mut Option<(K, V)>,
    pub(crate) meta: &'a mut Meta,
    pub(crate) at: &'a Address,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) now: u64,
}

impl<K, V> Newcomer<'_, K, V> {
    /// Overhead included.
    #[inline]
    fn bytes(&self) -> u64 {
        u64::from(self.meta.weight)
            + overhead_bytes::<K, V>(&self.meta.groups, self.at.is_variant(), self.meta.idle > 0)
    }
}

/// Who may be asked for room.
#[derive(Clone, Copy)]
struct Asks {
    /// No other shard.
    own_only: bool,
    /// Other tiers of the pool.
    claims: bool,
}

enum Attempt {
    Stored,
    Refused(Refusal),
    /// Room has to come from another shard.
    Elsewhere(Pressure),
    /// Room has to come from another tier of the pool.
    Claim,
}

/// Where the usual newcomer goes.
enum Room {
    Free,
    Of(Victim),
    Nowhere,
}

/// What left, for the caller and for the budget.
struct Leaving<'a, K, V> {
    departed: &'a mut Departed<K, V>,
    hand: Hand,
}

impl<K, V> Leaving<'_, K, V> {
    #[inline(always)]
    fn add(&mut self, left: Left<K, V>) {
        self.hand.add(left.bytes);
        self.departed.push(left);
    }

    /// Whether something expired.
    #[inline]
    fn expire<P: Policy>(&mut self, shelf: &mut Shelf<K, V, P>, now: u64, mut steps: usize) -> bool {
        let before = self.departed.len();
        while let Some(left) = shelf.expire(now, &mut steps) {
            self.add(left);
        }
        self.departed.len() > before
    }
}

impl<K, V, P> Shard<K, V, P> {
    fn measure(&self, pressure: Pressure) -> u64 {
        match pressure {
            Pressure::Entries => self.entries.load(Relaxed) as u64,
            Pressure::Bytes | Pressure::Pool => self.bytes.load(Relaxed),
        }
    }
}

impl<K: Eq, V, P: Policy> L1<K, V, P> {
    /// Stores the entry, or says why not.
    ///
    /// The usual newcomer first: nothing is due, no value of the key is there, no pool is asked, and it takes the place of
    /// one at most. What
    /// leaves stays in registers then. Written to memory for others to add to, it would be read back before it has arrived
    /// there, behind all that misses the caches.
    #[inline(always)]
    pub(crate) fn put(
        &self,
        key: K,
        value: V,
        at: &Address,
        meta: &mut Meta,
        snapshot: &Snapshot,
        now: u64,
    ) -> Inserted<K, V> {
        let bytes =
            u64::from(meta.weight) + overhead_bytes::<K, V>(&meta.groups, at.is_variant(), meta.idle > 0);
        let shard = self.shard(at.resource());
        let mut shelf = shard.shelf.write();
        if shelf.is_quiet(now)
            && now < meta.hard_expiry
            && bytes <= self.budget.heaviest()
            && self.budget.portion().is_none()
            && let Some(version) = self.admits(at, meta, snapshot)
            && !shelf.holds(at.hash(), &key)
            && !mutated!("l1_race_insert_checked_unlocked")
        {
            let mut hand = Hand::default();
            // Not dropped if something panics below, as for that it would have to lie in memory.
            let mut first = ManuallyDrop::new(None);
            let room = match self.budget.reserve(bytes, &mut hand) {
                Ok(()) => Room::Free,
                Err(pressure) if self.shards.len() == 1 || self.has_its_share(&shelf, pressure) => {
                    let victim = shelf.victim();
                    if let Some(slot) = victim
                        && let Some(out) = shelf.replaceable(slot, at, meta)
                        && self.budget.exchange(bytes, out, &mut hand)
                    {
                        Room::Of(Victim { slot, bytes: out })
                    } else {
                        first = ManuallyDrop::new(victim.and_then(|victim| shelf.leave(victim)));
                        if let Some(left) = &*first {
                            hand.add(left.bytes);
                        }
                        if self.budget.reserve(bytes, &mut hand).is_ok() { Room::Free } else { Room::Nowhere }
                    }
                }
                Err(_) => Room::Nowhere,
            };
            let stored = match room {
                Room::Free => {
                    let admission = Admission { version, stray: false };
                    shelf.put((key, value), at, meta, admission, bytes, now);
                    Ok(())
                }
                Room::Of(victim) => {
                    let left = shelf.replace(victim, (key, value), at, meta, version, bytes);
                    first = ManuallyDrop::new(left);
                    Ok(())
                }
                Room::Nowhere => Err((key, value)),
            };
            if stored.is_ok() {
                shelf.tally.inserted();
            }
            shard.publish(&shelf);
            self.budget.give_back(hand);
            drop(shelf);
            let left = Departed::of(ManuallyDrop::into_inner(first));
            return match stored {
                Ok(()) if self.listener.listens() => self.tell(left),
                Ok(()) => Inserted { refused: None, left },
                Err(pair) => self.put_slowly(pair, at, meta, snapshot, now, left),
            };
        }
        drop(shelf);
        self.put_slowly((key, value), at, meta, snapshot, now, Departed::of(None))
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, left: Departed<K, V>) -> Inserted<K, V> {
        self.listener.tell(&left);
        Inserted { refused: None, left }
    }

    /// The whole insert. What is in `left` left already.
    #[cold]
    #[inline(never)]
    fn put_slowly(
        &self,
        pair: (K, V),
        at: &Address,
        meta: &mut Meta,
        snapshot: &Snapshot,
        now: u64,
        mut left: Departed<K, V>,
    ) -> Inserted<K, V> {
        let mut newcomer = Newcomer { pair: &mut Some(pair), meta, at, snapshot, now };
        let refused = self.store(&mut newcomer, &mut left);
        self.listener.tell(&left);
        Inserted { refused, left }
    }

    /// What leaves is accounted for and put into `departed`.
    fn store(&self, newcomer: &mut Newcomer<'_, K, V>, departed: &mut Departed<K, V>) -> Option<Refusal> {
        if mutated!("l1_race_insert_checked_unlocked")
            && let Some(refusal) = self.moved(newcomer.at, newcomer.snapshot)
        {
            return Some(refusal);
        }
        let shard = self.shard(newcomer.at.resource());
        let asks = Asks { own_only: self.shards.len() == 1, claims: true };
        let mut claimed = 0;
        match self.turn(shard, newcomer, asks, &mut claimed, departed) {
            Attempt::Stored => None,
            Attempt::Refused(refusal) => Some(refusal),
            attempt => self.store_with_help(shard, newcomer, attempt, claimed, departed),
        }
    }

    /// Goes on where the shard alone had no room.
    #[cold]
    fn store_with_help(
        &self,
        shard: &Shard<K, V, P>,
        newcomer: &mut Newcomer<'_, K, V>,
        mut attempt: Attempt,
        mut claimed: u64,
        departed: &mut Departed<K, V>,
    ) -> Option<Refusal> {
        let mut asks = Asks { own_only: self.shards.len() == 1, claims: true };
        let mut patience = PATIENCE;
        let claims = if self.budget.portion().is_some() { 2 * PATIENCE } else { 0 };
        for _ in 0..2 * self.shards.len() + SPARE_ROUNDS + claims {
            match attempt {
                Attempt::Stored => return None,
                Attempt::Refused(refusal) => return Some(refusal),
                Attempt::Claim => {
                    let missing = newcomer.bytes().saturating_sub(claimed);
                    let given = self.budget.portion().map_or(0, |portion| portion.claim(missing));
                    claimed += given;
                    if given == 0 {
                        // What it may have is on its way, or nobody can give it.
                        patience -= 1;
                        asks.claims = patience > 0;
                        yield_now();
                    }
                }
                Attempt::Elsewhere(pressure) => {
                    let bytes = newcomer.bytes();
                    asks.own_only = !self.make_room_elsewhere(shard, pressure, bytes, newcomer.now, departed);
                }
            }
            attempt = self.turn(shard, newcomer, asks, &mut claimed, departed);
        }
        match attempt {
            Attempt::Stored => return None,
            Attempt::Refused(refusal) => return Some(refusal),
            Attempt::Elsewhere(_) | Attempt::Claim => {}
        }
        self.budget.give_back(Hand::with_claimed(claimed));
        shard.shelf.write().tally.refused(Refusal::NoRoom);
        Some(Refusal::NoRoom)
    }

    /// One attempt under the shard's lock.
    #[inline(always)]
    fn turn(
        &self,
        shard: &Shard<K, V, P>,
        newcomer: &mut Newcomer<'_, K, V>,
        asks: Asks,
        claimed: &mut u64,
        departed: &mut Departed<K, V>,
    ) -> Attempt {
        let mut shelf = shard.shelf.write();
        let mut leaving = Leaving { departed, hand: Hand::with_claimed(*claimed) };
        let attempt = self.attempt(&mut shelf, newcomer, asks, &mut leaving);
        match attempt {
            Attempt::Stored => shelf.tally.inserted(),
            Attempt::Refused(refusal) => shelf.tally.refused(refusal),
            Attempt::Elsewhere(_) | Attempt::Claim => *claimed = leaving.hand.take_claimed(),
        }
        shard.publish(&shelf);
        self.budget.give_back(leaving.hand);
        attempt
    }

    #[inline(always)]
    fn attempt(
        &self,
        shelf: &mut Shelf<K, V, P>,
        newcomer: &mut Newcomer<'_, K, V>,
        Asks { own_only, claims }: Asks,
        leaving: &mut Leaving<'_, K, V>,
    ) -> Attempt {
        let now = newcomer.now;
        leaving.expire(shelf, now, STEPS_PER_INSERT);
        let admission = match self.admission(shelf, newcomer, leaving) {
            Ok(admission) => admission,
            Err(refusal) => return Attempt::Refused(refusal),
        };
        let bytes = newcomer.bytes();
        let mut expired_first = true;
        loop {
            match self.budget.reserve(bytes, &mut leaving.hand) {
                Ok(()) => {
                    if let Some(pair) = newcomer.pair.take() {
                        shelf.put(pair, newcomer.at, newcomer.meta, admission, bytes, now);
                    }
                    return Attempt::Stored;
                }
                Err(_) if expired_first && leaving.expire(shelf, now, STEPS_WHEN_FULL) => {}
                Err(Pressure::Pool) if claims && self.may_claim(bytes, &leaving.hand) => {
                    return Attempt::Claim;
                }
                Err(pressure) if own_only || self.has_its_share(shelf, pressure) => {
                    let Some(victim) = shelf.evict() else { return Attempt::Elsewhere(pressure) };
                    leaving.add(victim);
                    expired_first = false;
                }
                Err(pressure) => return Attempt::Elsewhere(pressure),
            }
        }
    }

    /// Everything that forbids the insert. Takes the older value of the key out if nothing does, or if only the
    /// newcomer's weight does.
    #[inline(always)]
    fn admission(
        &self,
        shelf: &mut Shelf<K, V, P>,
        newcomer: &Newcomer<'_, K, V>,
        leaving: &mut Leaving<'_, K, V>,
    ) -> Result<Admission, Refusal> {
        let &Newcomer { ref pair, ref meta, at, snapshot, now } = newcomer;
        if !mutated!("l1_race_insert_checked_unlocked")
            && let Some(refusal) = self.moved(at, snapshot)
        {
            return Err(refusal);
        }
        let Some(admission) = self.admit(at, meta, snapshot) else { return Err(Refusal::Stamped) };
        if now >= meta.hard_expiry && !mutated!("l1_insert_expired") {
            return Err(Refusal::Expired);
        }
        let is_same = |key: &K| pair.as_ref().is_some_and(|pair| pair.0 == *key);
        if let Some((slot, older)) = shelf.find(at.hash(), is_same) {
            let older = shelf.parts(slot, older);
            let cause = if now >= shelf.deadline(slot, older) {
                Cause::Expired
            } else if !self.is_current(older) {
                Cause::Invalidated
            } else if older.notes.seq > meta.origin.seq
                && !mutated!("l1_insert_over_newer")
                && self.epoch(shelf, slot, older) == Some(meta.origin.epoch)
            {
                return Err(Refusal::Newer);
            } else {
                Cause::Replaced
            };
            if let Some(older) = shelf.take(slot, cause) {
                leaving.add(older);
            }
        }
        if self.budget.entries_max() == 0 {
            Err(Refusal::NoRoom)
        } else if newcomer.bytes() > self.budget.heaviest() && !mutated!("l1_insert_too_heavy") {
            Err(Refusal::TooHeavy)
        } else {
            Ok(admission)
        }
    }

    /// Whether other tiers of the pool have to give for an entry of so many bytes.
    #[cold]
    fn may_claim(&self, bytes: u64, hand: &Hand) -> bool {
        let missing = bytes.saturating_sub(hand.claimed());
        self.budget.portion().is_some_and(|portion| portion.may_claim(missing))
    }

    /// A shard with at least seven eighths of its fair share gives room itself.
    #[inline]
    fn has_its_share(&self, shelf: &Shelf<K, V, P>, pressure: Pressure) -> bool {
        // The number of shards is a power of two, and a division by it is slow.
        let bits = self.shards.len().trailing_zeros();
        let (held, share) = match pressure {
            Pressure::Entries => (shelf.len() as u64, self.budget.entries_max() as u64 >> bits),
            Pressure::Bytes => (shelf.bytes(), self.budget.bytes_max() >> bits),
            // What may be held changes all the time: the mean of what is.
            Pressure::Pool => (shelf.bytes(), self.budget.bytes() >> bits),
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
            leaving.add(victim);
        }
    }
}
