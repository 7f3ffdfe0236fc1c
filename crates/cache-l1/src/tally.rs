//! Counters of what came and left.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Cause, Refusal, Stats};

#[derive(Debug, Default)]
pub(crate) struct Tally {
    inserted: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
    invalidated: AtomicU64,
    replaced: AtomicU64,
    removed: AtomicU64,
    refused_outdated: AtomicU64,
    refused_unfit: AtomicU64,
}

impl Tally {
    pub(crate) fn inserted(&self) {
        self.inserted.fetch_add(1, Relaxed);
    }

    pub(crate) fn left(&self, cause: Cause) {
        let counter = match cause {
            Cause::Evicted => &self.evicted,
            Cause::Expired => &self.expired,
            Cause::Invalidated => &self.invalidated,
            Cause::Replaced => &self.replaced,
            Cause::Removed => &self.removed,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Invalidated | Refusal::Flushed | Refusal::Stamped | Refusal::Newer => {
                &self.refused_outdated
            }
            Refusal::Expired | Refusal::TooHeavy | Refusal::NoRoom => &self.refused_unfit,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self, entries: usize, bytes: u64) -> Stats {
        Stats {
            entries,
            bytes,
            inserted: self.inserted.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            expired: self.expired.load(Relaxed),
            invalidated: self.invalidated.load(Relaxed),
            replaced: self.replaced.load(Relaxed),
            removed: self.removed.load(Relaxed),
            refused_outdated: self.refused_outdated.load(Relaxed),
            refused_unfit: self.refused_unfit.load(Relaxed),
        }
    }
}
