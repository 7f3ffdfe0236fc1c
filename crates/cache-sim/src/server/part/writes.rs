//! The steps that write: puts, invalidations of every kind, flushes.

use std::time::Duration;

use bytes::BytesMut;
use cache_events::{Group, Key, Namespace, Pattern, Position, Version};
use cache_l2::{Append, Invalidation, Over, position_of, stamp_position, version_of};

use super::super::Step;
use super::{Ensured, Map, Meta, NewRecord, Part, PutRefused, Right, Stamp, Until, until};

impl Part {
    pub(crate) fn put(
        &mut self,
        key: &Key,
        record: NewRecord,
        append: &Append,
        step: &mut Step<'_>,
    ) -> Result<Position, PutRefused> {
        position_of(&record.bytes).ok_or(PutRefused)?;
        let hint = append.hint(&record.bytes);
        if let Some(position) = self.append_fast(append, hint, step) {
            self.store(key, record, position, step);
            return Ok(position);
        }
        let mut ensured = self.ensure(append.at, step);
        Ok(self.put_now(key, record, append, &mut ensured, step))
    }

    pub(crate) fn put_versioned(
        &mut self,
        key: &Key,
        version: Version,
        record: NewRecord,
        append: &Append,
        step: &mut Step<'_>,
    ) -> Result<Option<Position>, PutRefused> {
        position_of(&record.bytes).ok_or(PutRefused)?;
        let mut ensured = self.ensure(append.at, step);
        // Of a dead epoch too: versions are the origin's.
        let stored = self.records.get(key).and_then(|record| record.alive(step.ms));
        let stored = stored.and_then(|record| version_of(record));
        let floor = self.stamp_of(key, step.ms).map(|stamp| stamp.floor);
        let own = self.floors.get(key).and_then(|floor| floor.alive(step.ms)).map(|stamp| stamp.floor);
        let own = own.filter(|_| !mutated!("floor_forgotten"));
        let stored = stored.filter(|_| !mutated!("older_version_put"));
        if [stored, floor, own].into_iter().flatten().any(|known| known >= version) {
            return Ok(None);
        }
        if append.over.as_ref().is_some_and(|over| !self.holds(key, over, ensured.epoch, step.ms)) {
            return Ok(None);
        }
        Ok(Some(self.put_now(key, record, append, &mut ensured, step)))
    }

    /// Removes, appends, stamps, publishes: one script.
    pub(crate) fn invalidate(
        &mut self,
        what: &Invalidation,
        append: &Append,
        step: &mut Step<'_>,
    ) -> Position {
        let unversioned = |key: &Key| {
            let record = self.records.get(key).and_then(|record| record.alive(step.ms));
            record.and_then(|record| version_of(record)).unwrap_or_default() == Version::NONE
        };
        let simple = what.resources.is_empty() && what.hold.is_zero() && what.floor == Version::NONE;
        let fast = simple && what.keys.iter().all(unversioned);
        self.remove(what, step);
        if fast && let Some(position) = self.append_fast(append, append.payload.clone(), step) {
            return position;
        }
        self.invalidate_rest(what, append, step)
    }

    /// The first half of an invalidation: records and leases go, floors stay behind.
    pub(crate) fn remove(&mut self, what: &Invalidation, step: &Step<'_>) {
        for key in &what.keys {
            self.remove_key(key, what.floor, what.keep, step.ms);
            let held = self.held_until(key, step.ms);
            let hold = until(Right::Hold, what.hold, step.ms);
            if !what.hold.is_zero() && held.is_none_or(|until| until < hold.at_ms) {
                self.leases.insert(key.clone(), hold);
            } else if held.is_none() {
                self.leases.remove(key);
            }
        }
    }

    /// The second half: the event, and the stamps of resources.
    pub(crate) fn invalidate_rest(
        &mut self,
        what: &Invalidation,
        append: &Append,
        step: &mut Step<'_>,
    ) -> Position {
        let mut ensured = self.ensure(append.at, step);
        let position = self.append(append, &mut ensured, step);
        for resource in &what.resources {
            stamp(&mut self.stamps, resource, Stamp { at: position, floor: what.floor }, what.keep, step.ms);
        }
        self.publish(position, append.payload.clone(), step)
    }

    pub(crate) fn invalidate_groups(
        &mut self,
        groups: &[Group],
        keep: Duration,
        append: &Append,
        step: &mut Step<'_>,
    ) -> Position {
        let mut ensured = self.ensure(append.at, step);
        let ids: Vec<u64> = groups.iter().map(Group::id).collect();
        let room = |meta: &Meta| {
            let new = ids.iter().filter(|id| !meta.groups.contains_key(id)).count();
            meta.groups.len() + new <= step.limits.groups_max
        };
        let mut fits = self.meta.as_ref().is_some_and(room);
        if !fits && let Some(meta) = &mut self.meta {
            meta.groups.retain(|_, (_, at)| step.ms.saturating_sub(*at) <= keep.as_millis() as u64);
            fits = room(meta);
        }
        if !fits {
            ensured.epoch = self.bump(append.at, step);
            let position = self.append(append, &mut ensured, step);
            return self.publish(position, append.payload.clone(), step);
        }
        let position = self.append(append, &mut ensured, step);
        if let Some(meta) = &mut self.meta {
            meta.groups.extend(ids.iter().map(|&id| (id, (position.seq, step.ms))));
        }
        self.publish(position, append.payload.clone(), step)
    }

    /// One pass over the records of a pattern.
    pub(crate) fn sweep_records(&mut self, namespace: &Namespace, pattern: &Pattern, step: &Step<'_>) {
        let covered = |key: &&Key| key.namespace() == namespace && pattern.covers(key);
        let keys: Vec<Key> = self.records.keys().filter(covered).cloned().collect();
        for key in keys {
            let keep = self.records.get(&key).map_or(0, |record| record.at_ms.saturating_sub(step.ms));
            self.remove_key(&key, Version::NONE, Duration::from_millis(keep), step.ms);
        }
    }

    /// One pass over the leases of a pattern.
    pub(crate) fn sweep_leases(&mut self, namespace: &Namespace, pattern: &Pattern) {
        let covered = |key: &Key| key.namespace() == namespace && pattern.covers(key);
        self.leases.retain(|key, lease| lease.what == Right::Hold || !covered(key));
    }

    /// An event whose effect has been had already.
    pub(crate) fn announce(&mut self, append: &Append, step: &mut Step<'_>) -> Position {
        self.invalidate_rest(&Invalidation::default(), append, step)
    }

    pub(crate) fn flush(&mut self, append: &Append, step: &mut Step<'_>) -> Position {
        let mut ensured = Ensured { at: append.at, epoch: self.bump(append.at, step) };
        let position = self.append(append, &mut ensured, step);
        self.publish(position, append.payload.clone(), step)
    }

    fn put_now(
        &mut self,
        key: &Key,
        record: NewRecord,
        append: &Append,
        ensured: &mut Ensured,
        step: &mut Step<'_>,
    ) -> Position {
        let hint = append.hint(&record.bytes);
        let position = self.append(append, ensured, step);
        self.store(key, record, position, step);
        self.publish(position, hint, step)
    }

    fn store(&mut self, key: &Key, record: NewRecord, position: Position, step: &Step<'_>) {
        let mut bytes = BytesMut::from(record.bytes);
        stamp_position(&mut bytes, position);
        self.records.insert(key.clone(), until(bytes.freeze(), record.ttl, step.ms));
        if self.held_until(key, step.ms).is_none() && !mutated!("put_keeps_lease") {
            self.leases.remove(key);
        }
    }

    /// Until when nothing may be filled for a key, if a hold lies on it.
    fn held_until(&self, key: &Key, ms: u64) -> Option<u64> {
        let lease = self.leases.get(key)?;
        (lease.alive(ms) == Some(&Right::Hold)).then_some(lease.at_ms)
    }

    fn remove_key(&mut self, key: &Key, floor: Version, keep: Duration, ms: u64) {
        let removed = self.records.remove(key);
        let version = removed.and_then(|record| record.alive(ms).and_then(|record| version_of(record)));
        let floor = floor.max(version.unwrap_or_default());
        if floor > Version::NONE {
            stamp(&mut self.floors, key, Stamp { at: Position::ZERO, floor }, keep, ms);
        }
    }

    /// Whether that record is stored, and worth something.
    fn holds(&self, key: &Key, over: &Over, epoch: u64, ms: u64) -> bool {
        let stored = self.records.get(key).and_then(|record| record.alive(ms));
        let at = over.position;
        let stamped = |stamp: Position| stamp.epoch == epoch && stamp.seq > at.seq;
        let group = |group: &Group| self.meta.as_ref().and_then(|meta| meta.groups.get(&group.id()));
        stored.is_some_and(|record| position_of(record) == Some(at) && at.epoch == epoch)
            && !self.stamp_of(key, ms).is_some_and(|stamp| stamped(stamp.at))
            && over.groups.iter().filter_map(group).all(|stamp| stamp.0 <= at.seq)
    }
}

/// Stamps and floors only grow, and live as long as the longest that was asked.
fn stamp<K: std::hash::Hash + Eq + Clone>(
    stamps: &mut Map<K, Until<Stamp>>,
    key: &K,
    new: Stamp,
    keep: Duration,
    ms: u64,
) {
    let old = stamps.get(key).filter(|old| old.alive(ms).is_some());
    let floor = old.map_or(new.floor, |old| old.what.floor.max(new.floor));
    let at_ms = old.map_or(0, |old| old.at_ms).max(until((), keep, ms).at_ms);
    stamps.insert(key.clone(), Until { at_ms, what: Stamp { floor, ..new } });
}
