//! Dropping what the truth has left behind: by key, resource or pattern. Why no load under way puts it back is told in
//! [`cache`](crate::cache).

use std::borrow::Borrow;

use cache_policy::Policy;

use crate::cache::L1;
use crate::entry::Parts;
use crate::shelf::Shelf;
use crate::sync::Ordering;
use crate::{Address, Cause, Left, Origin};

impl<K, V, P: Policy> L1<K, V, P> {
    /// The key's value is outdated by an event: nothing loaded before this call is stored or served after it.
    ///
    /// An entry that [reflects](Origin::reflects) the event stays; [`Origin::MAX`] spares none.
    pub fn invalidate_key<Q>(&self, key: &Q, at: &Address, event: Origin) -> Option<Left<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let left = self.take_key(key, at, Cause::Invalidated, |shelf, slot, held| {
            !self.reflects(shelf, slot, held, event)
        });
        self.listener.tell(&left);
        left
    }

    /// Drops the key because somebody asked for it. As for an invalidation, what was loaded before does not
    /// come back.
    pub fn remove<Q>(&self, key: &Q, at: &Address) -> Option<Left<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let left = self.take_key(key, at, Cause::Removed, |_, _, _| true);
        self.listener.tell(&left);
        left
    }

    /// [`invalidate_key`](Self::invalidate_key) for the resource's key without parameters and all with.
    pub fn invalidate_resource(&self, resource: u64, event: Origin) -> Vec<Left<K, V>> {
        if !mutated!("l1_race_resource_dropped_first") {
            self.stripe(resource).fetch_add(1, Ordering::AcqRel);
        }
        let shard = self.shard(resource);
        let mut shelf = shard.shelf.write();
        let mut left = Vec::new();
        for slot in shelf.slots_of(resource) {
            if shelf.get(slot).is_some_and(|entry| !self.reflects(&shelf, slot, entry, event))
                && let Some(entry) = shelf.take(slot, Cause::Invalidated)
            {
                left.push(self.account(entry));
            }
        }
        shard.publish(&shelf);
        drop(shelf);
        if mutated!("l1_race_resource_dropped_first") {
            self.stripe(resource).fetch_add(1, Ordering::AcqRel);
        }
        self.listener.tell(&left);
        left
    }

    /// [`invalidate_key`](Self::invalidate_key) for all keys of a partition that the predicate matches;
    /// refuses all inserts of the tier whose snapshot is older, as nobody knows which keys they will have.
    ///
    /// Walks all entries, a shard at a time, under the shared lock; `matches` runs under it.
    pub fn invalidate_matching(
        &self,
        event: Origin,
        partition: u32,
        matches: impl Fn(&K) -> bool,
    ) -> Vec<Left<K, V>> {
        if !mutated!("l1_race_pattern_dropped_first") {
            self.patterns.fetch_add(1, Ordering::AcqRel);
        }
        let outdated = |shelf: &Shelf<K, V, P>, slot, entry: Parts<'_, K, V>| {
            entry.back.home.partition() == partition
                && matches(&entry.front.key)
                && !self.reflects(shelf, slot, entry, event)
        };
        let mut left = Vec::new();
        for shard in &self.shards {
            // Found under the shared lock and looked at again under the exclusive one: what comes between has
            // a newer snapshot.
            let found: Vec<u32> = {
                let shelf = shard.shelf.read();
                let found = shelf.entries().filter(|&(slot, entry)| outdated(&shelf, slot, entry));
                found.map(|(slot, _)| slot).collect()
            };
            if found.is_empty() {
                continue;
            }
            let mut shelf = shard.shelf.write();
            for slot in found {
                let still = |entry| mutated!("l1_race_pattern_found_once") || outdated(&shelf, slot, entry);
                if shelf.get(slot).is_some_and(still)
                    && let Some(entry) = shelf.take(slot, Cause::Invalidated)
                {
                    left.push(self.account(entry));
                }
            }
            shard.publish(&shelf);
        }
        if mutated!("l1_race_pattern_dropped_first") {
            self.patterns.fetch_add(1, Ordering::AcqRel);
        }
        self.listener.tell(&left);
        left
    }

    /// Refuses every insert of the resource whose snapshot is older, and drops nothing.
    pub fn bump_stripe(&self, at: &Address) {
        self.stripe(at.resource()).fetch_add(1, Ordering::AcqRel);
    }

    fn take_key<Q>(
        &self,
        key: &Q,
        at: &Address,
        cause: Cause,
        outdated: impl Fn(&Shelf<K, V, P>, u32, Parts<'_, K, V>) -> bool,
    ) -> Option<Left<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        if !mutated!("l1_race_key_dropped_first") {
            self.bump_stripe(at);
        }
        let _late = mutated!("l1_race_key_dropped_first").then(|| Late(|| self.bump_stripe(at)));
        let shard = self.shard(at.resource());
        let mut shelf = shard.shelf.write();
        let (slot, front) = shelf.find(at.hash(), |held| held.borrow() == key)?;
        if !outdated(&shelf, slot, shelf.parts(slot, front)) {
            return None;
        }
        let left = shelf.take(slot, cause)?;
        shard.publish(&shelf);
        Some(self.account(left))
    }
}

/// Does its work when it goes: a mutation of the order above.
struct Late<F: Fn()>(F);

impl<F: Fn()> Drop for Late<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
