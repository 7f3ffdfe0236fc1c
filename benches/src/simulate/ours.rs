//! The tier of this project, with any of its policies.

use std::sync::Arc;

use cache_l1::{Address, Config, Fence, L1, Meta};
use cache_policy::PolicyKind;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::subject::{ONE_SHARD_BELOW, Subject};

/// Milliseconds an entry lives; a request takes one, so no entry of a trace gets that old.
///
/// All live equally long, so that a policy that goes by expiry has something to go by.
const LIFE: u64 = 1 << 40;

struct Ours {
    l1: L1<u32, ()>,
    seed: u64,
    now: u64,
}

pub(crate) fn build(kind: PolicyKind, capacity: usize, seed: u64) -> Box<dyn Subject> {
    let shards = (capacity < ONE_SHARD_BELOW).then_some(1);
    let config = Config { entries_max: capacity, bytes_max: u64::MAX, shards, own_group: 1 };
    let l1 = L1::new(config, Arc::new(Fence::new(1)), kind.family(capacity));
    Box::new(Ours { l1, seed, now: 0 })
}

impl Subject for Ours {
    fn request(&mut self, key: u32) -> bool {
        self.now += 1;
        let at = Address::bare(xxh3_64_with_seed(&key.to_le_bytes(), self.seed), 0);
        if self.l1.get_with(&key, &at, self.now, |(), _| Some(())).is_some() {
            return true;
        }
        let meta = Meta { hard_expiry: self.now + LIFE, ..Meta::default() };
        let snapshot = self.l1.snapshot(&at);
        drop(self.l1.insert(key, (), &at, meta, &snapshot, self.now));
        false
    }

    fn entries(&mut self) -> Option<usize> {
        Some(self.l1.len())
    }
}
