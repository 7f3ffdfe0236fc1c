//! Entries that leave when nobody asks for them: their deadline moves with each hit.
//!
//! A hit holds the shard's lock shared, so it stores the new deadline in an atomic beside the entry and changes nothing
//! else. The timing wheel keeps the entry where it was filed first; when that time comes, it reads the deadline and files
//! the entry anew, so an entry that is read all the time costs the wheel one step an idle time.
//!
//! What expires at a fixed time pays nothing for this: a sliding entry bears a time at which it is always expired, and
//! who finds an entry expired looks here before believing it.

use hashbrown::HashTable;

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// What a sliding entry bears in place of its hard expiry. One that really expires at 1 is not listed here.
pub(crate) const LOOK_HERE: u64 = 1;
/// What a sliding entry costs, with its part of the table.
pub(crate) const BYTES: usize = 48;

/// The sliding entries of a shard, by slot.
#[derive(Debug, Default)]
pub(crate) struct Sliding(HashTable<Slide>);

#[derive(Debug)]
pub(crate) struct Slide {
    slot: u32,
    idle: u32,
    hard: u64,
    /// From here on it is expired, unless it is hit before.
    deadline: AtomicU64,
}

impl Sliding {
    /// Lists an entry and tells when it expires if nobody asks for it.
    #[cold]
    pub(crate) fn add(&mut self, slot: u32, idle: u32, hard: u64, now: u64) -> u64 {
        let deadline = deadline(now, idle, hard);
        let slide = Slide { slot, idle, hard, deadline: AtomicU64::new(deadline) };
        self.0.insert_unique(spread(slot), slide, |slide| spread(slide.slot));
        deadline
    }

    #[cold]
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Ok(slide) = self.0.find_entry(spread(slot), |slide| slide.slot == slot) {
            slide.remove();
        }
    }

    #[cold]
    pub(crate) fn get(&self, slot: u32) -> Option<&Slide> {
        self.0.find(spread(slot), |slide| slide.slot == slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Slide {
    /// When it can be served no longer, however often it is asked for.
    pub(crate) fn hard(&self) -> u64 {
        self.hard
    }

    pub(crate) fn idle(&self) -> u32 {
        self.idle
    }

    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Relaxed)
    }

    /// Moves the deadline, unless it has passed: then false.
    pub(crate) fn hit(&self, now: u64) -> bool {
        // Relaxed: it guards nothing but itself.
        let before = self.deadline();
        let next = deadline(now, self.idle, self.hard);
        if now >= before && !mutated!("l1_idle_ignored") {
            return false;
        }
        if mutated!("l1_race_slide_goes_back") {
            self.deadline.store(next, Relaxed);
        } else if next > before {
            // Threads may bring their times in another order.
            self.deadline.fetch_max(next, Relaxed);
        }
        true
    }
}

fn deadline(now: u64, idle: u32, hard: u64) -> u64 {
    let idle_over = now.saturating_add(u64::from(idle)).min(u64::MAX - 1);
    if mutated!("l1_slide_past_hard") { idle_over } else { idle_over.min(hard) }
}

fn spread(slot: u32) -> u64 {
    u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
