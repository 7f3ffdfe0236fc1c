//! Judges reads: was an older value served after a newer one was acknowledged, and for how long?
//!
//! Per key it keeps the acknowledged versions as a prefix maximum by time. A read that began at `t` and saw version
//! `v` is as stale as the time since the first acknowledgement, at or before `t`, of a version above `v`. A pure
//! module: the demo, the auditor, the simulation and the tests use it, each with its own unit of time.

use cache_events::{Key, Version};
use parking_lot::Mutex;
use std::collections::HashMap;

const SHARDS: usize = 64;
/// Acknowledgements kept for a key.
const HISTORY_MAX: usize = 512;

/// The checker. Times are of any monotone unit, the same for all calls. `V` is what tells older from newer: versions of the
/// source, or positions of the log.
#[derive(Debug)]
pub struct StalenessChecker<V = Version> {
    bound: u64,
    history_max: usize,
    forgets: bool,
    shards: Vec<Mutex<Histories<V>>>,
}

type Histories<V> = HashMap<Key, Vec<Acked<V>>>;

/// Acknowledged: from `at` on, nothing below `version` should be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked<V> {
    /// When that was known.
    pub at: u64,
    /// What was acknowledged.
    pub version: V,
}

impl<V: Ord + Copy> StalenessChecker<V> {
    /// A checker for which reads older than `bound` are stale. Of more than 512 acknowledgements of a key it merges the oldest,
    /// which can only make a read look staler.
    pub fn new(bound: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { bound, history_max: HISTORY_MAX, forgets: false, shards }
    }

    /// One that keeps so many acknowledgements of a key (at least 2) and forgets the oldest beyond that, which can only make
    /// a read look fresher: for where a false alarm is worse than a missed one.
    #[must_use]
    pub fn forgetting(self, history_max: usize) -> Self {
        Self { history_max: history_max.max(2), forgets: true, ..self }
    }

    fn shard(&self, key: &Key) -> &Mutex<Histories<V>> {
        &self.shards[key.hash64() as usize % SHARDS]
    }

    /// Forgets a key.
    pub fn forget(&self, key: &Key) {
        self.shard(key).lock().remove(key);
    }

    /// Notes that a write of `version` was acknowledged at `at`. Calls may come in any order.
    pub fn acked(&self, key: &Key, version: V, at: u64) {
        let mut shard = self.shard(key).lock();
        let history = shard.entry(key.clone()).or_default();
        let from = history.partition_point(|acked| acked.at <= at);
        if from > 0 && history[from - 1].version >= version {
            return;
        }
        // Everything later that is not newer is implied by this one: drop it, so that both columns grow.
        let to = from + history[from..].partition_point(|acked| acked.version <= version);
        history.splice(from..to, [Acked { at, version }]);
        if history.len() > self.history_max {
            if !self.forgets {
                // The version of the second with the time of the first: earlier than the truth, so stricter.
                history[1].at = history[0].at;
            }
            history.remove(0);
        }
    }

    /// How stale a read is that began at `began` and saw `version`; 0 = not at all.
    pub fn staleness(&self, key: &Key, version: V, began: u64) -> u64 {
        self.outdated(key, version).map_or(0, |acked| began.saturating_sub(acked.at))
    }

    /// What outdated a version first, as far as is known.
    pub fn outdated(&self, key: &Key, version: V) -> Option<Acked<V>> {
        let shard = self.shard(key).lock();
        let history = shard.get(key)?;
        history.get(history.partition_point(|acked| acked.version <= version)).copied()
    }

    /// Whether a staleness is beyond the bound.
    pub fn is_stale(&self, staleness: u64) -> bool {
        staleness > self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_events::Namespace;

    fn key() -> Key {
        Key::new(&Namespace::new("n").expect("valid"), "k").expect("valid")
    }

    #[test]
    fn a_read_is_as_stale_as_the_first_newer_acknowledgement_before_it() {
        let checker = StalenessChecker::new(100);
        checker.acked(&key(), Version(2), 1_000);
        checker.acked(&key(), Version(3), 1_500);
        assert_eq!(checker.staleness(&key(), Version(3), 9_000), 0);
        assert_eq!(checker.staleness(&key(), Version(2), 1_450), 0, "3 was not yet acknowledged");
        assert_eq!(checker.staleness(&key(), Version(2), 1_700), 200);
        assert_eq!(checker.staleness(&key(), Version(1), 1_700), 700, "2 was acknowledged first");
        assert!(checker.is_stale(101) && !checker.is_stale(100));
    }

    #[test]
    fn what_is_forgotten_makes_nothing_look_staler() {
        let (strict, mild) = (StalenessChecker::new(0), StalenessChecker::new(0).forgetting(2));
        for checker in [&strict, &mild] {
            (1..=600).for_each(|n| checker.acked(&key(), Version(n), n * 10));
        }
        assert_eq!(strict.staleness(&key(), Version(0), 6_000), 5_990, "the first was at 10");
        assert_eq!(mild.staleness(&key(), Version(0), 6_000), 10, "the last but one was at 5,990");
        mild.forget(&key());
        assert_eq!(mild.outdated(&key(), Version(0)), None);
    }

    #[test]
    fn acknowledgements_out_of_order_judge_alike() {
        let orders = [[(3, 30), (1, 10), (2, 40)], [(2, 40), (3, 30), (1, 10)], [(1, 10), (2, 40), (3, 30)]];
        for order in orders {
            let checker = StalenessChecker::new(0);
            for (version, at) in order {
                checker.acked(&key(), Version(version), at);
            }
            let seen: Vec<u64> = (0..4).map(|v| checker.staleness(&key(), Version(v), 100)).collect();
            assert_eq!(seen, [90, 70, 70, 0]);
        }
    }
}
