//! Hits that wait for the exclusive lock, for policies that keep their residents in order of use.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Hits that wait at most.
pub(crate) const BUFFERED_HITS_MAX: usize = 64;
/// From here on `push` says that a drain is wanted; what is above is slack for when the lock is taken.
pub(crate) const TEND_FROM: usize = 48;

/// Slots that were hit, in order, each with 32 bits for its policy. Relaxed throughout: the store's lock orders
/// a drain after the hits told under it, and a hit overwritten by another thread is only a hit lost.
#[derive(Debug)]
pub(crate) struct HitBuffer {
    hits: [AtomicU64; BUFFERED_HITS_MAX],
    len: AtomicUsize,
}

impl HitBuffer {
    pub(crate) fn new() -> Self {
        Self { hits: [const { AtomicU64::new(0) }; BUFFERED_HITS_MAX], len: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Notes a hit behind the `len` that the caller has just read; no read-modify-write. True = drain wanted.
    #[inline]
    pub(crate) fn push(&self, len: usize, slot: u32, print: u32) -> bool {
        if len >= BUFFERED_HITS_MAX {
            return true;
        }
        self.hits[len].store(u64::from(print) << 32 | u64::from(slot), Relaxed);
        self.len.store(len + 1, Relaxed);
        len + 1 >= TEND_FROM
    }

    /// Whether the hit just before was for the same slot.
    pub(crate) fn ends_with(&self, len: usize, slot: u32) -> bool {
        len > 0 && len <= BUFFERED_HITS_MAX && self.hits[len - 1].load(Relaxed) as u32 == slot
    }

    /// Empties the buffer; says how many there were, to be read with [`get`](Self::get).
    pub(crate) fn take(&mut self) -> usize {
        std::mem::take(self.len.get_mut())
    }

    /// Slot and print of a hit, 0 being the oldest.
    pub(crate) fn get(&mut self, index: usize) -> (u32, u32) {
        let hit = *self.hits[index].get_mut();
        (hit as u32, (hit >> 32) as u32)
    }
}
