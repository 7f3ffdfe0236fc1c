//! Letting entries go although there is room, because memory is short elsewhere.

use cache_policy::Policy;

use crate::Left;
use crate::cache::L1;

/// Entries that leave while the lock of a shard is held.
const SLICE: usize = 256;

impl<K, V, P: Policy> L1<K, V, P> {
    /// Lets so many entries go (all, if there are no more), those first that the policies value least. Each shard gives
    /// in proportion to what it holds, and holds its lock for no more than 256 of them at a time.
    pub fn shed(&self, entries: usize) -> Vec<Left<K, V>> {
        let held = self.len();
        let mut left = Vec::new();
        for shard in &self.shards {
            let of_shard = shard.entries.load(crate::sync::Ordering::Relaxed);
            // Rounded up, so that shards with one entry each give as well; the last ones are spared for it.
            let share = (entries as u128 * of_shard as u128).div_ceil(held.max(1) as u128) as usize;
            let mut wanted = share.min(entries.saturating_sub(left.len()));
            while wanted > 0 {
                let mut shelf = shard.shelf.write();
                let slice = wanted.min(SLICE);
                let before = left.len();
                while left.len() - before < slice
                    && let Some(entry) = shelf.evict()
                {
                    left.push(self.account(entry));
                }
                shard.publish(&shelf);
                if left.len() - before < slice {
                    break;
                }
                wanted -= slice;
            }
        }
        self.listener.tell(&left);
        left
    }
}
