//! The last invalidation of each group in the current epoch.

use std::collections::HashMap;

use cache_bus::GroupStamp;

pub(crate) struct Groups {
    stamps: HashMap<u64, Stamp>,
    max: usize,
}

struct Stamp {
    seq: u64,
    at_ms: u64,
}

impl Groups {
    pub(crate) fn new(max: usize) -> Self {
        Self { stamps: HashMap::new(), max }
    }

    /// Makes room for stamps of `ids`: what is older than `keep_ms` goes, if it must. Says whether there is room.
    pub(crate) fn make_room(&mut self, ids: &[u64], keep_ms: u64, now_ms: u64) -> bool {
        if self.has_room(ids) {
            return true;
        }
        // No record that such a stamp could kill is alive any more.
        self.stamps.retain(|_, stamp| now_ms.saturating_sub(stamp.at_ms) <= keep_ms);
        self.has_room(ids)
    }

    fn has_room(&self, ids: &[u64]) -> bool {
        let mut new: Vec<u64> = ids.iter().copied().filter(|id| !self.stamps.contains_key(id)).collect();
        new.sort_unstable();
        new.dedup();
        self.stamps.len() + new.len() <= self.max
    }

    pub(crate) fn stamp(&mut self, id: u64, seq: u64, at_ms: u64) {
        self.stamps.insert(id, Stamp { seq, at_ms });
    }

    /// The sequence of the last stamp; 0 = none.
    pub(crate) fn last(&self, id: u64) -> u64 {
        self.stamps.get(&id).map_or(0, |stamp| stamp.seq)
    }

    pub(crate) fn table(&self) -> Vec<GroupStamp> {
        self.stamps.iter().map(|(&group, stamp)| GroupStamp { group, seq: stamp.seq }).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.stamps.clear();
    }
}
