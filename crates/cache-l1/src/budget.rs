//! The bounds of the whole tier, shared by its shards.
//!
//! Bounds are not divided among the shards, so an entry may be as heavy as the whole bound and a small tier
//! is not ruled by the luck of its hashes. Room is reserved before an entry is stored and given back after it
//! left: the sums never exceed the bounds, at no moment and for no thread.
//!
//! An insert into a full tier takes as much out as it puts in. It keeps what became free in its [`Hand`] and takes
//! from there first, so the shared sums, which all cores would fight for, hardly ever change.

use crate::pool::Portion;
use crate::sync::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    Entries,
    Bytes,
    /// Of all tiers that share one.
    Pool,
}

/// Room that became free and was not given back yet.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    entries: usize,
    bytes: u64,
    /// What other tiers gave for this one; only in a pool.
    claimed: u64,
}

impl Hand {
    /// With what others gave before.
    pub(crate) fn with_claimed(claimed: u64) -> Self {
        Self { claimed, ..Self::default() }
    }

    pub(crate) fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Keeps what others gave for the next try.
    pub(crate) fn take_claimed(&mut self) -> u64 {
        std::mem::take(&mut self.claimed)
    }

    /// One entry of so many bytes left.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }
}

/// What is taken, and how much may be. Relaxed: the numbers guard no other memory.
#[derive(Debug)]
pub(crate) struct Budget {
    entries_max: usize,
    bytes_max: u64,
    entries: AtomicUsize,
    bytes: AtomicU64,
    portion: Option<Portion>,
}

impl Budget {
    pub(crate) fn new(entries_max: usize, bytes_max: u64) -> Self {
        Self { entries_max, bytes_max, entries: AtomicUsize::new(0), bytes: AtomicU64::new(0), portion: None }
    }

    /// To be called while nothing is held.
    pub(crate) fn join(&mut self, portion: Portion) {
        self.bytes_max = portion.pool().bytes_max();
        self.portion = Some(portion);
    }

    pub(crate) fn portion(&self) -> Option<&Portion> {
        self.portion.as_ref()
    }

    /// Bytes that one entry may have.
    #[inline]
    pub(crate) fn heaviest(&self) -> u64 {
        self.portion.as_ref().map_or(self.bytes_max, Portion::share)
    }

    pub(crate) fn entries_max(&self) -> usize {
        self.entries_max
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(crate) fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Takes room for one entry, from the hand first, or says what is missing. Whatever was taken is in the hand
    /// then.
    #[inline(always)]
    pub(crate) fn reserve(&self, bytes: u64, hand: &mut Hand) -> Result<(), Pressure> {
        if hand.entries == 0 {
            let fits = |held: usize| held <= self.entries_max || mutated!("l1_entries_unbounded");
            let more = |held: usize| Some(held + 1).filter(|&held| fits(held));
            if self.entries.fetch_update(Relaxed, Relaxed, more).is_err() {
                return Err(Pressure::Entries);
            }
            hand.entries = 1;
        }
        if let Some(missing) = bytes.checked_sub(hand.bytes).filter(|&missing| missing > 0) {
            let fits = |held: u64| held <= self.bytes_max || mutated!("l1_bytes_unbounded");
            let more = |held: u64| held.checked_add(missing).filter(|&held| fits(held));
            if self.bytes.fetch_update(Relaxed, Relaxed, more).is_err() {
                return Err(Pressure::Bytes);
            }
            if let Some(portion) = &self.portion
                && !portion.reserve(missing, &mut hand.claimed)
            {
                self.bytes.fetch_sub(missing, Relaxed);
                return Err(Pressure::Pool);
            }
            hand.bytes = bytes;
        }
        hand.entries -= 1;
        hand.bytes -= bytes;
        Ok(())
    }

    /// Takes room for one entry that comes in the place of one of `out` bytes. False if that has to leave first, and more
    /// perhaps; then nothing was taken. Not in a pool.
    #[inline(always)]
    pub(crate) fn exchange(&self, bytes: u64, out: u64, hand: &mut Hand) -> bool {
        debug_assert!(self.portion.is_none());
        let free = out + hand.bytes;
        if let Some(missing) = bytes.checked_sub(free).filter(|&missing| missing > 0) {
            let more = |held: u64| held.checked_add(missing).filter(|&held| held <= self.bytes_max);
            if self.bytes.fetch_update(Relaxed, Relaxed, more).is_err() {
                return false;
            }
        }
        hand.bytes = free.saturating_sub(bytes);
        true
    }

    /// What `reserve` would say now, with nothing in the hand.
    pub(crate) fn missing(&self, bytes: u64) -> Option<Pressure> {
        if self.entries() >= self.entries_max {
            Some(Pressure::Entries)
        } else if self.bytes().saturating_add(bytes) > self.bytes_max {
            Some(Pressure::Bytes)
        } else if self.portion.as_ref().is_some_and(|portion| portion.is_full(bytes)) {
            Some(Pressure::Pool)
        } else {
            None
        }
    }

    /// Gives back what is in the hand.
    #[inline]
    pub(crate) fn give_back(&self, hand: Hand) {
        if hand.entries > 0 {
            self.entries.fetch_sub(hand.entries, Relaxed);
        }
        if hand.bytes > 0 {
            self.bytes.fetch_sub(hand.bytes, Relaxed);
        }
        if let Some(portion) = &self.portion
            && hand.bytes + hand.claimed > 0
        {
            portion.release(hand.bytes + hand.claimed);
        }
    }

    /// One entry of so many bytes left for another tier of the pool.
    pub(crate) fn hand_over(&self, bytes: u64) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        if let Some(portion) = &self.portion {
            portion.hand_over(bytes);
        }
    }

    /// Gives back the room of one entry.
    pub(crate) fn release(&self, bytes: u64) {
        self.give_back(Hand { entries: 1, bytes, claimed: 0 });
    }
}
