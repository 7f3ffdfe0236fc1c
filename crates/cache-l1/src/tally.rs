//! Counters of what came and left, one set a shard: written under its exclusive lock, so plain numbers.

use crate::{Cause, Refusal, Stats};

#[derive(Debug, Default)]
pub(crate) struct Tally {
    inserted: u64,
    evicted: u64,
    expired: u64,
    invalidated: u64,
    replaced: u64,
    removed: u64,
    refused_outdated: u64,
    refused_unfit: u64,
}

impl Tally {
    pub(crate) fn inserted(&mut self) {
        self.inserted += 1;
    }

    pub(crate) fn left(&mut self, cause: Cause) {
        *match cause {
            Cause::Evicted => &mut self.evicted,
            Cause::Expired => &mut self.expired,
            Cause::Invalidated => &mut self.invalidated,
            Cause::Replaced => &mut self.replaced,
            Cause::Removed => &mut self.removed,
        } += 1;
    }

    pub(crate) fn refused(&mut self, refusal: Refusal) {
        *match refusal {
            Refusal::Invalidated | Refusal::Flushed | Refusal::Stamped | Refusal::Newer => {
                &mut self.refused_outdated
            }
            Refusal::Expired | Refusal::TooHeavy | Refusal::NoRoom => &mut self.refused_unfit,
        } += 1;
    }

    pub(crate) fn add_to(&self, stats: &mut Stats) {
        stats.inserted += self.inserted;
        stats.evicted += self.evicted;
        stats.expired += self.expired;
        stats.invalidated += self.invalidated;
        stats.replaced += self.replaced;
        stats.removed += self.removed;
        stats.refused_outdated += self.refused_outdated;
        stats.refused_unfit += self.refused_unfit;
    }
}
