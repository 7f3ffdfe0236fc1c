//! The inside of one shard: entries, the ways to find them, and the policy. Plain `&mut` code; the lock is
//! around it.

use std::sync::atomic::AtomicU64;

use cache_policy::{Newcomer, Policy};
use hashbrown::HashTable;

use crate::index::Index;
use crate::wheel::Wheel;
use crate::{Address, Cause, Left, Meta};

/// One entry. In this order, so that a hit reads its first two cache lines and nothing behind them.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry<K, V> {
    pub(crate) at: Address,
    /// The fence's version at which the entry was last found alive.
    pub(crate) judged: AtomicU64,
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) meta: Meta,
    /// The partition's generation at insert.
    pub(crate) generation: u64,
    /// Overhead included.
    pub(crate) bytes: u64,
}

impl<K, V> Entry<K, V> {
    pub(crate) fn leave(self, cause: Cause) -> Left<K, V> {
        Left { key: self.key, value: self.value, cause, bytes: self.bytes }
    }
}

/// Entries in slots; table, index, wheel and policy all speak of slots.
#[derive(Debug)]
pub(crate) struct Shelf<K, V, P> {
    table: HashTable<u32>,
    slots: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    index: Index,
    wheel: Wheel,
    policy: P,
    bytes: u64,
    /// Where the walk for dead entries goes on, and the fence's version it began at and last completed.
    walk: Walk,
}

#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    next: usize,
    began_at: u64,
    completed: u64,
}

impl<K, V, P: Policy> Shelf<K, V, P> {
    pub(crate) fn new(policy: P) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            index: Index::default(),
            wheel: Wheel::new(),
            policy,
            bytes: 0,
            walk: Walk::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn policy(&self) -> &P {
        &self.policy
    }

    pub(crate) fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<(u32, &Entry<K, V>)> {
        let entry_of = |slot: u32| self.slots.get(slot as usize).and_then(Option::as_ref);
        let slot = *self.table.find(hash, |&slot| {
            entry_of(slot).is_some_and(|entry| entry.at.hash() == hash && matches(&entry.key))
        })?;
        entry_of(slot).map(|entry| (slot, entry))
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Entry<K, V>> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    /// The key must not be there.
    pub(crate) fn put(&mut self, entry: Entry<K, V>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let (at, deadline) = (entry.at, entry.meta.hard_expiry);
        let weight = u32::try_from(entry.bytes).unwrap_or(u32::MAX);
        self.bytes += entry.bytes;
        self.slots[slot as usize] = Some(entry);
        let slots = &self.slots;
        self.table.insert_unique(at.hash(), slot, |&slot| hash_of(slots, slot));
        if at.is_variant() {
            self.index.add(slot, at.resource());
        }
        self.wheel.schedule(slot, deadline);
        self.policy.inserted(slot, Newcomer { hash: at.hash(), weight, deadline });
    }

    /// Takes an entry out, for any reason but eviction.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Entry<K, V>> {
        let entry = self.unlink(slot)?;
        self.policy.removed(slot);
        Some(entry)
    }

    /// Takes out whom the policy names.
    pub(crate) fn evict(&mut self) -> Option<Entry<K, V>> {
        let slots = &self.slots;
        let slot = self.policy.evict(&|slot| hash_of(slots, slot))?;
        let entry = self.unlink(slot);
        debug_assert!(entry.is_some(), "the policy named a slot that holds nothing");
        entry
    }

    /// Takes out one entry whose hard expiry is at or before `now`; looks at no more than `steps` entries.
    pub(crate) fn expire(&mut self, now: u64, steps: &mut usize) -> Option<Entry<K, V>> {
        let slot = self.wheel.due(now, steps)?;
        self.take(slot)
    }

    /// Takes out one entry that is dead by flush or stamp. One walk over the slots follows each change of the
    /// fence's `version`, in portions of `steps`.
    pub(crate) fn reap(
        &mut self,
        version: u64,
        steps: &mut usize,
        alive: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<Entry<K, V>> {
        if self.walk.next == 0 {
            if self.walk.completed == version {
                return None;
            }
            self.walk.began_at = version;
        }
        while *steps > 0 && self.walk.next < self.slots.len() {
            *steps -= 1;
            let slot = self.walk.next as u32;
            self.walk.next += 1;
            if self.get(slot).is_some_and(|entry| !alive(entry)) {
                return self.take(slot);
            }
        }
        if self.walk.next >= self.slots.len() {
            self.walk = Walk { next: 0, began_at: 0, completed: self.walk.began_at };
        }
        None
    }

    /// The slots of a resource: its variants, and its key without parameters.
    pub(crate) fn slots_of(&self, resource: u64) -> Vec<u32> {
        let bare = self.table.iter_hash(resource).copied().filter(|&slot| {
            self.get(slot).is_some_and(|entry| !entry.at.is_variant() && entry.at.resource() == resource)
        });
        self.index.slots(resource).chain(bare).collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &Entry<K, V>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, entry)| entry.as_ref().map(|entry| (slot as u32, entry)))
    }

    fn unlink(&mut self, slot: u32) -> Option<Entry<K, V>> {
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        if let Ok(place) = self.table.find_entry(entry.at.hash(), |&other| other == slot) {
            place.remove();
        }
        if entry.at.is_variant() {
            self.index.remove(slot);
        }
        self.wheel.cancel(slot);
        self.bytes -= entry.bytes;
        self.free.push(slot);
        Some(entry)
    }

    /// Panics, saying what, if an invariant is broken.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        let (mut bytes, mut variants, mut mortal, mut count) = (0, 0, 0, 0);
        for (slot, entry) in self.entries() {
            let found = self.find(entry.at.hash(), |key| *key == entry.key).map(|(slot, _)| slot);
            assert_eq!(found, Some(slot), "table: slot {slot} is not found by its key");
            if entry.at.is_variant() {
                assert!(self.index.lists(slot, entry.at.resource()), "index: slot {slot} is missing");
                variants += 1;
            } else {
                assert_eq!(entry.at.hash(), entry.at.resource(), "a bare key's hash is its resource's");
            }
            let waits = entry.meta.hard_expiry != u64::MAX;
            assert_eq!(self.wheel.is_scheduled(slot), waits, "wheel: slot {slot}");
            mortal += usize::from(waits);
            bytes += entry.bytes;
            count += 1;
        }
        assert_eq!(self.table.len(), count, "table: count");
        assert_eq!(self.slots.len(), count + self.free.len(), "slots: free ones");
        assert!(self.free.iter().all(|&slot| self.get(slot).is_none()), "slots: a free one is taken");
        assert_eq!(self.index.validate(), variants, "index: count");
        assert_eq!(self.wheel.validate(), mortal, "wheel: count");
        assert_eq!(self.policy.residents(), count, "policy: count of residents");
        assert_eq!(self.bytes, bytes, "bytes: sum");
    }
}

fn hash_of<K, V>(slots: &[Option<Entry<K, V>>], slot: u32) -> u64 {
    slots.get(slot as usize).and_then(Option::as_ref).map_or(0, |entry| entry.at.hash())
}
