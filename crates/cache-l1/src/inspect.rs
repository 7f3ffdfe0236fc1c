//! Looking into a tier: for diagnostics and for tests.

use std::borrow::Borrow;
use std::fmt;

use cache_policy::Policy;

use crate::cache::L1;
use crate::entry::Parts;
use crate::shelf::Shelf;
use crate::sync::Ordering;
use crate::{Address, Meta, Origin};

/// Whether an entry would be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It would be.
    Served,
    /// Its time is over, or nobody has asked for it for longer than its idle time.
    Expired,
    /// A flush, or a stamp of one of its groups, is later than it.
    Outdated,
}

impl<K, V, P: Policy> L1<K, V, P> {
    /// Shows every entry, dead ones included, for diagnostics: key, value, meta. Of those that a new epoch outdated the
    /// epoch is forgotten and 0. Shard by shard, under the shared lock.
    pub fn for_each(&self, mut see: impl FnMut(&K, &V, &Meta)) {
        for shard in &self.shards {
            let shelf = shard.shelf.read();
            for (slot, entry) in shelf.entries() {
                let meta = self.meta(&shelf, slot, entry);
                see(&entry.front.key, &entry.front.value, &meta);
            }
        }
    }

    /// What a [`get`](Self::get) would serve, without being one: neither policy nor idle time hear of it.
    pub fn peek<Q>(&self, key: &Q, at: &Address, now: u64) -> Option<(V, Meta)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let (value, meta, standing) = self.look(key, at, now)?;
        (standing == Standing::Served).then_some((value, meta))
    }

    /// What is held, served or not, without being a [`get`](Self::get), and whether one would serve it. Of one that a new
    /// epoch outdated the epoch is forgotten and 0.
    pub fn look<Q>(&self, key: &Q, at: &Address, now: u64) -> Option<(V, Meta, Standing)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let shelf = self.shard(at.resource()).shelf.read();
        let (slot, front) = shelf.find(at.hash(), |held| held.borrow() == key)?;
        let entry = shelf.parts(slot, front);
        let standing = match now < shelf.deadline(slot, entry) {
            false => Standing::Expired,
            true if self.is_current(entry) => Standing::Served,
            true => Standing::Outdated,
        };
        Some((front.value.clone(), self.meta(&shelf, slot, entry), standing))
    }

    /// Of one that a new epoch outdated the epoch is forgotten and 0.
    fn meta(&self, shelf: &Shelf<K, V, P>, slot: u32, entry: Parts<'_, K, V>) -> Meta {
        let Parts { notes, back, .. } = entry;
        let (hard_expiry, idle) = shelf.lifetime(slot, entry);
        Meta {
            origin: Origin { epoch: self.epoch(shelf, slot, entry).unwrap_or(0), seq: notes.seq },
            version: notes.version,
            load_start: notes.load_start(),
            born: notes.born,
            soft_expiry: notes.soft_expiry(),
            hard_expiry,
            idle,
            weight: back.weight,
            groups: back.groups.clone(),
        }
    }

    /// Panics, saying what, if an invariant is broken. Stops the world and is slow: for tests.
    pub fn validate(&self)
    where
        K: Eq,
    {
        let shelves: Vec<_> = self.shards.iter().map(|shard| shard.shelf.read()).collect();
        for (shard, shelf) in self.shards.iter().zip(&shelves) {
            shelf.validate();
            for (slot, _) in shelf.entries() {
                assert!(
                    std::ptr::eq(shard, self.shard(shelf.resource_of(slot))),
                    "an entry is in the wrong shard"
                );
            }
            let published = (shard.entries.load(Ordering::Relaxed), shard.bytes.load(Ordering::Relaxed));
            assert_eq!(published, (shelf.len(), shelf.bytes()), "published sums of a shard");
        }
        let entries = shelves.iter().map(|shelf| shelf.len()).sum::<usize>();
        let bytes = shelves.iter().map(|shelf| shelf.bytes()).sum::<u64>();
        assert_eq!((self.len(), self.bytes()), (entries, bytes), "sums of the tier");
        assert!(entries <= self.entries_max(), "{entries} entries are above the bound");
        assert!(bytes <= self.bytes_max(), "{bytes} bytes are above the bound");
        if let Some(portion) = self.budget.portion() {
            assert_eq!(portion.held(), bytes, "bytes as the pool knows them");
        }
    }
}

impl<K, V, P: Policy> fmt::Debug for L1<K, V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1")
            .field("shards", &self.shards.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
