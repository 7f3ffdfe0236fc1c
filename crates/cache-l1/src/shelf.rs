//! The inside of one shard: entries, the ways to find them, and the policy. Plain `&mut` code; the lock is
//! around it.

use std::sync::atomic::AtomicU64;

use cache_policy::{Newcomer, Policy};
use hashbrown::HashTable;

use crate::index::Index;
use crate::wheel::Wheel;
use crate::{Address, Cause, Facts, Groups, Left, Meta};

/// One entry on its way in or out. On the shelf its halves lie apart, so that hits fill the processor's caches
/// with what they read and nothing else.
#[derive(Debug)]
pub(crate) struct Entry<K, V> {
    pub(crate) front: Front<K, V>,
    pub(crate) back: Back,
}

/// The half that a hit reads.
#[derive(Debug)]
pub(crate) struct Front<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    /// The fence's version at which the entry was last found alive.
    pub(crate) judged: AtomicU64,
    pub(crate) facts: Facts,
}

/// The half that only changes read, and hits after the fence has moved.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) at: Address,
    /// The partition's generation at insert.
    pub(crate) generation: u64,
    pub(crate) soft_expiry: u64,
    pub(crate) groups: Groups,
    pub(crate) weight: u32,
}

impl Back {
    /// What lies behind a free slot.
    fn vacant() -> Self {
        Self { at: Address::bare(0, 0), generation: 0, soft_expiry: 0, groups: Groups::default(), weight: 0 }
    }
}

/// Both halves of an entry, wherever they lie.
#[derive(Debug)]
pub(crate) struct Halves<'a, K, V> {
    pub(crate) front: &'a Front<K, V>,
    pub(crate) back: &'a Back,
}

impl<K, V> Clone for Halves<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Halves<'_, K, V> {}

impl<K, V> Halves<'_, K, V> {
    /// What the entry was stored with.
    pub(crate) fn meta(&self) -> Meta {
        let Facts { origin, version, load_start, born, hard_expiry } = self.front.facts;
        let &Back { soft_expiry, ref groups, weight, .. } = self.back;
        let groups = groups.clone();
        Meta { origin, version, load_start, born, soft_expiry, hard_expiry, weight, groups }
    }

    /// Overhead included.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.back.weight) + overhead_bytes::<K, V>(&self.back.groups)
    }
}

impl<K, V> Entry<K, V> {
    pub(crate) fn new(key: K, value: V, at: &Address, generation: u64, meta: Meta) -> Self {
        let Meta { origin, version, load_start, born, soft_expiry, hard_expiry, weight, groups } = meta;
        let facts = Facts { origin, version, load_start, born, hard_expiry };
        Self {
            front: Front { key, value, judged: AtomicU64::new(0), facts },
            back: Back { at: *at, generation, soft_expiry, groups, weight },
        }
    }

    pub(crate) fn halves(&self) -> Halves<'_, K, V> {
        Halves { front: &self.front, back: &self.back }
    }

    pub(crate) fn leave(self, cause: Cause) -> Left<K, V> {
        let bytes = self.halves().bytes();
        Left { key: self.front.key, value: self.front.value, cause, bytes }
    }
}

/// What an entry costs beside its weight.
pub(crate) fn overhead_bytes<K, V>(groups: &[u64]) -> u64 {
    // Both halves, then free list, table, index, wheel, policy.
    let fixed = size_of::<Option<Front<K, V>>>() + size_of::<Back>() + 4 + 8 + 21 + 24 + 16;
    (fixed + size_of_val(groups)) as u64
}

/// Entries in slots; table, index, wheel and policy all speak of slots.
#[derive(Debug)]
pub(crate) struct Shelf<K, V, P> {
    table: HashTable<u32>,
    fronts: Vec<Option<Front<K, V>>>,
    /// As many as fronts.
    backs: Vec<Back>,
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
            fronts: Vec::new(),
            backs: Vec::new(),
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

    /// The key decides: two that are equal have the same hash.
    #[inline]
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Option<(u32, &Front<K, V>)> {
        let front_of = |slot: u32| self.fronts.get(slot as usize).and_then(Option::as_ref);
        let slot = *self.table.find(hash, |&slot| front_of(slot).is_some_and(|front| matches(&front.key)))?;
        front_of(slot).map(|front| (slot, front))
    }

    /// The half behind a slot that has been given out at some time.
    pub(crate) fn back(&self, slot: u32) -> &Back {
        &self.backs[slot as usize]
    }

    pub(crate) fn get(&self, slot: u32) -> Option<Halves<'_, K, V>> {
        let front = self.fronts.get(slot as usize)?.as_ref()?;
        Some(Halves { front, back: self.back(slot) })
    }

    /// The key must not be there.
    pub(crate) fn put(&mut self, entry: Entry<K, V>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.fronts.push(None);
            self.backs.push(Back::vacant());
            self.fronts.len() as u32 - 1
        });
        let (at, deadline) = (entry.back.at, entry.front.facts.hard_expiry);
        let bytes = entry.halves().bytes();
        let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes += bytes;
        self.fronts[slot as usize] = Some(entry.front);
        self.backs[slot as usize] = entry.back;
        let backs = &self.backs;
        self.table.insert_unique(at.hash(), slot, |&slot| hash_of(backs, slot));
        if at.is_variant() {
            self.index.add(slot, at.resource());
        }
        self.wheel.schedule(slot, deadline);
        self.policy.inserted(slot, Newcomer { hash: at.hash(), weight, deadline });
    }

    /// Takes an entry out, for any reason but eviction.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Entry<K, V>> {
        let entry = self.unlink(slot)?;
        self.policy.removed(slot, entry.back.at.hash());
        Some(entry)
    }

    /// Takes out whom the policy names.
    pub(crate) fn evict(&mut self) -> Option<Entry<K, V>> {
        let backs = &self.backs;
        let slot = self.policy.evict(&|slot| hash_of(backs, slot))?;
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
        alive: impl Fn(Halves<'_, K, V>) -> bool,
    ) -> Option<Entry<K, V>> {
        if self.walk.next == 0 {
            if self.walk.completed == version {
                return None;
            }
            self.walk.began_at = version;
        }
        while *steps > 0 && self.walk.next < self.fronts.len() {
            *steps -= 1;
            let slot = self.walk.next as u32;
            self.walk.next += 1;
            if self.get(slot).is_some_and(|entry| !alive(entry)) {
                return self.take(slot);
            }
        }
        if self.walk.next >= self.fronts.len() {
            self.walk = Walk { next: 0, began_at: 0, completed: self.walk.began_at };
        }
        None
    }

    /// The slots of a resource: its variants, and its key without parameters.
    pub(crate) fn slots_of(&self, resource: u64) -> Vec<u32> {
        let bare = self.table.iter_hash(resource).copied().filter(|&slot| {
            self.get(slot)
                .is_some_and(|entry| !entry.back.at.is_variant() && entry.back.at.resource() == resource)
        });
        self.index.slots(resource).chain(bare).collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, Halves<'_, K, V>)> {
        let halves = self.fronts.iter().zip(&self.backs).enumerate();
        halves
            .filter_map(|(slot, (front, back))| Some((slot as u32, Halves { front: front.as_ref()?, back })))
    }

    fn unlink(&mut self, slot: u32) -> Option<Entry<K, V>> {
        let front = self.fronts.get_mut(slot as usize)?.take()?;
        let back = std::mem::replace(&mut self.backs[slot as usize], Back::vacant());
        let entry = Entry { front, back };
        if let Ok(place) = self.table.find_entry(entry.back.at.hash(), |&other| other == slot) {
            place.remove();
        }
        if entry.back.at.is_variant() {
            self.index.remove(slot);
        }
        self.wheel.cancel(slot);
        self.bytes -= entry.halves().bytes();
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
            let found = self.find(entry.back.at.hash(), |key| *key == entry.front.key).map(|(slot, _)| slot);
            assert_eq!(found, Some(slot), "table: slot {slot} is not found by its key");
            if entry.back.at.is_variant() {
                assert!(self.index.lists(slot, entry.back.at.resource()), "index: slot {slot} is missing");
                variants += 1;
            } else {
                assert_eq!(
                    entry.back.at.hash(),
                    entry.back.at.resource(),
                    "a bare key's hash is its resource's"
                );
            }
            let waits = entry.front.facts.hard_expiry != u64::MAX;
            assert_eq!(self.wheel.is_scheduled(slot), waits, "wheel: slot {slot}");
            mortal += usize::from(waits);
            bytes += entry.bytes();
            count += 1;
        }
        assert_eq!(self.table.len(), count, "table: count");
        assert_eq!(self.fronts.len(), count + self.free.len(), "slots: free ones");
        assert_eq!(self.backs.len(), self.fronts.len(), "slots: halves");
        assert!(self.free.iter().all(|&slot| self.get(slot).is_none()), "slots: a free one is taken");
        assert!(
            self.free.iter().all(|&slot| self.back(slot).groups.is_empty()),
            "slots: a free one has groups"
        );
        assert_eq!(self.index.validate(), variants, "index: count");
        assert_eq!(self.wheel.validate(), mortal, "wheel: count");
        assert_eq!(self.policy.residents(), count, "policy: count of residents");
        assert_eq!(self.bytes, bytes, "bytes: sum");
    }
}

/// Of a slot that holds an entry.
fn hash_of(backs: &[Back], slot: u32) -> u64 {
    backs.get(slot as usize).map_or(0, |back| back.at.hash())
}
