//! Giving memory back: entries leave L1 although it has room for them.

use crate::cache::TieredCache;
use crate::typed::AnySpace;

/// Entries that leave before other tasks may run.
const SLICE: usize = 4_096;

/// What left L1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shed {
    /// Entries.
    pub entries: usize,
    /// Their bytes, overhead included.
    pub bytes: u64,
}

impl TieredCache {
    /// Bytes in L1 over all namespaces, overhead included.
    pub fn l1_bytes(&self) -> u64 {
        self.spaces().map(|space| space.l1_bytes()).sum()
    }

    /// Most bytes that L1 can have over all namespaces, overhead included.
    pub fn l1_bytes_max(&self) -> u64 {
        match self.node_bytes_max() {
            Some(bytes) => bytes,
            None => self.spaces().map(|space| space.settings().l1_bytes_max).sum(),
        }
    }

    /// Lets a share of all entries leave L1 (0.25 = a quarter): those that the policies value least, and those of
    /// critical namespaces only where the others have no more. L2 keeps them. Other tasks run in between; dropped, it
    /// stops there.
    pub async fn shed(&self, share: f64) -> Shed {
        let all: usize = self.spaces().map(|space| space.l1_entries()).sum();
        let wanted = (all as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        let mut shed = Shed::default();
        for critical in [false, true] {
            let spaces: Vec<_> =
                self.spaces().filter(|space| space.settings().critical == critical).collect();
            let held: usize = spaces.iter().map(|space| space.l1_entries()).sum();
            let from_here = wanted.saturating_sub(shed.entries).min(held);
            for space in spaces {
                let share = (from_here as u128 * space.l1_entries() as u128).div_ceil(held.max(1) as u128);
                shed_from(&**space, (share as usize).min(wanted.saturating_sub(shed.entries)), &mut shed)
                    .await;
            }
        }
        shed
    }
}

async fn shed_from(space: &dyn AnySpace, entries: usize, shed: &mut Shed) {
    let mut wanted = entries;
    while wanted > 0 {
        let left = space.shed(wanted.min(SLICE));
        shed.entries += left.entries;
        shed.bytes += left.bytes;
        if left.entries == 0 {
            return;
        }
        wanted = wanted.saturating_sub(left.entries);
        tokio::task::yield_now().await;
    }
}
