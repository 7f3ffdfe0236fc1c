//! Judges reads: was an older value served after a newer one was acknowledged, and for how long?
//!
//! Per key it keeps the acknowledged versions as a prefix maximum by time. A read that began at `t` and saw version
//! `v` is as stale as the time since the first acknowledgement, at or before `t`, of a version above `v`. A pure
//! module: the demo, the auditor, the simulation and the tests use it, each with its own unit of time.

use cache_events::{Key, Version};
use parking_lot::Mutex;
use std::collections::HashMap;

const SHARDS: usize = 64;
/// Acknowledgements kept for a key; the oldest beyond that are merged, which can only make a read look staler.
const HISTORY_MAX: usize = 512;

/// The checker. Times are of any monotone unit, the same for all calls.
#[derive(Debug)]
pub struct StalenessChecker {
    bound: u64,
    shards: Vec<Mutex<HashMap<Key, Vec<Acked>>>>,
}

/// Acknowledged: from `at` on, nothing below `version` should be seen.
#[derive(Debug, Clone, Copy)]
struct Acked {
    at: u64,
    version: Version,
}

impl StalenessChecker {
    /// A checker for which reads older than `bound` are stale.
    pub fn new(bound: u64) -> Self {
        Self { bound, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, key: &Key) -> &Mutex<HashMap<Key, Vec<Acked>>> {
        &self.shards[key.hash64() as usize % SHARDS]
    }

    /// Notes that a write of `version` was acknowledged at `at`. Calls may come in any order.
    pub fn acked(&self, key: &Key, version: Version, at: u64) {
        let mut shard = self.shard(key).lock();
        let history = shard.entry(key.clone()).or_default();
        let from = history.partition_point(|acked| acked.at <= at);
        if from > 0 && history[from - 1].version >= version {
            return;
        }
        // Everything later that is not newer is implied by this one: drop it, so that both columns grow.
        let to = from + history[from..].partition_point(|acked| acked.version <= version);
        history.splice(from..to, [Acked { at, version }]);
        if history.len() > HISTORY_MAX {
            // The version of the second with the time of the first: earlier than the truth, so stricter.
            history[1].at = history[0].at;
            history.remove(0);
        }
    }

    /// How stale a read is that began at `began` and saw `version`; 0 = not at all.
    pub fn staleness(&self, key: &Key, version: Version, began: u64) -> u64 {
        let shard = self.shard(key).lock();
        let Some(history) = shard.get(key) else { return 0 };
        let newer = history.partition_point(|acked| acked.version <= version);
        history.get(newer).map_or(0, |acked| began.saturating_sub(acked.at))
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
