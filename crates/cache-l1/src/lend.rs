//! A tier in a [`Pool`]: joining it, and giving back what was borrowed.

use std::sync::{Arc, Weak};

use cache_policy::Policy;

use crate::cache::L1;
use crate::pool::{Borrower, Pool, Portion};
use crate::sync::Ordering::Relaxed;

/// Entries that leave while the lock of a shard is held.
const SLICE: usize = 64;

impl<K, V, P: Policy> L1<K, V, P> {
    /// Makes the tier a member of a pool: `share` bytes are its own, and more it may borrow; [`Config::bytes_max`] no
    /// longer counts. An entry may be as heavy as the share. `None` if the shares of all members would be more than the
    /// pool has.
    ///
    /// To be followed by [`open_to_claims`](Self::open_to_claims): until then the tier gives nothing back.
    ///
    /// [`Config::bytes_max`]: crate::Config::bytes_max
    #[must_use]
    pub fn within(mut self, pool: &Arc<Pool>, share: u64, critical: bool) -> Option<Self> {
        self.budget.join(Portion::new(pool, share, critical)?);
        Some(self)
    }

    /// Tells the pool whom to ask for what this tier borrowed: itself, or what it is a part of and passes the question on.
    /// Without effect outside of a pool, and for a second time.
    pub fn open_to_claims(&self, borrower: Weak<dyn Borrower>) {
        if let Some(portion) = self.budget.portion() {
            portion.open_to_claims(borrower);
        }
    }

    /// What [`Borrower::give_back`] does, for what the tier is a part of.
    pub fn give_back(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        // The fullest shard first, so that they shrink alike.
        while freed < bytes {
            let fullest = self.shards.iter().max_by_key(|shard| shard.bytes.load(Relaxed));
            let Some(shard) = fullest.filter(|shard| shard.bytes.load(Relaxed) > 0) else { break };
            let mut left = Vec::new();
            let mut shelf = shard.shelf.write();
            while freed < bytes
                && left.len() < SLICE
                && let Some(entry) = shelf.evict()
            {
                freed += entry.bytes;
                self.budget.hand_over(entry.bytes);
                left.push(entry);
            }
            shard.publish(&shelf);
            drop(shelf);
            self.listener.tell(&left);
        }
        freed
    }
}

impl<K: Send + Sync, V: Send + Sync, P: Policy> Borrower for L1<K, V, P> {
    fn give_back(&self, bytes: u64) -> u64 {
        L1::give_back(self, bytes)
    }
}
