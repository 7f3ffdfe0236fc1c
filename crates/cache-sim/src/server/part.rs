//! One partition: the steps of the protocol, in the order in which the scripts take them.
//!
//! Read beside `crates/cache-redis/src/lua`: `ensure`, `head`, `append` and `bump` are those of `common.lua`, and the short way
//! of a write (`fast.lua`) is here too, since it looks at the log alone and leaves the incarnation to the next sync.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache_bus::{GroupStamp, Missed, SyncAnswer};
use cache_events::{Group, Key, Namespace, NodeId, Pattern, Position, Version, hash64};
use cache_l2::{
    Append, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, Over, ReadItem, position_of,
    stamp_position, version_of,
};

use super::log::Log;
use super::{Map, Publication, Step};

/// One partition of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    meta: Option<Meta>,
    log: Option<Log>,
    records: Map<Key, Until<Bytes>>,
    leases: Map<Key, Until<Right>>,
    /// By namespace and resource.
    stamps: Map<(Namespace, String), Until<Stamp>>,
    /// Version floors of single keys.
    floors: Map<Key, Until<Stamp>>,
}

#[derive(Debug, Clone)]
struct Meta {
    epoch: u64,
    incarnation: u64,
    groups: Map<u64, (u64, u64)>,
    nodes: Map<NodeId, Position>,
}

/// Something that expires.
#[derive(Debug, Clone)]
struct Until<T> {
    at_ms: u64,
    what: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Lease(LeaseToken),
    Hold,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stamp {
    at: Position,
    floor: Version,
}

/// A record on its way in.
pub(crate) struct NewRecord {
    pub(crate) bytes: Bytes,
    pub(crate) ttl: Duration,
}

/// What was to be put is not a record.
#[derive(Debug)]
pub(crate) struct PutRefused;

impl<T> Until<T> {
    fn alive(&self, ms: u64) -> Option<&T> {
        (self.at_ms > ms).then_some(&self.what)
    }
}

fn until<T>(what: T, ttl: Duration, ms: u64) -> Until<T> {
    Until { at_ms: ms.saturating_add(ttl.as_millis() as u64).max(ms + 1), what }
}

/// Which caller's position a step begins with, and what it has found.
struct Ensured {
    at: Position,
    epoch: u64,
}

impl Ensured {
    /// Whether the caller has seen more of this epoch than there is.
    fn behind(&self, seq: u64) -> bool {
        self.at.epoch == self.epoch && self.at.seq > seq
    }
}

impl Part {
    /// Records and stamps as they are, without any guard.
    pub(crate) fn read(&self, keys: &[Key], ms: u64) -> Vec<ReadItem> {
        let item = |key: &Key| ReadItem {
            record: self.records.get(key).and_then(|record| record.alive(ms)).cloned(),
            stamp: self.stamp_of(key, ms).map(|stamp| stamp.at),
        };
        keys.iter().map(item).collect()
    }

    /// The first step of every connection.
    pub(crate) fn hello(&mut self, at: Position, step: &mut Step<'_>) -> Position {
        let mut ensured = self.ensure(at, step);
        let seq = self.head(&mut ensured, step);
        Position::new(ensured.epoch, seq)
    }

    pub(crate) fn sync(&mut self, node: &NodeId, at: Position, max: u32, step: &mut Step<'_>) -> SyncAnswer {
        let mut ensured = self.ensure(at, step);
        let seq = self.head(&mut ensured, step);
        let epoch = ensured.epoch;
        if let Some(meta) = &mut self.meta {
            meta.nodes.insert(node.clone(), at);
        }
        let missed = if at.epoch != epoch {
            Missed::Reset(self.groups())
        } else if at.seq == seq {
            Missed::Entries(Vec::new())
        } else {
            let entries = self.log.as_ref().map(|log| log.after(at.seq, max as usize)).unwrap_or_default();
            let last = entries.last().map(|entry| entry.position.seq);
            let whole = last == Some(at.seq + entries.len() as u64);
            if whole || mutated!("trim_unnoticed") {
                Missed::Entries(entries)
            } else {
                Missed::Gap(self.groups())
            }
        };
        SyncAnswer { head: Position::new(epoch, seq), server_ms: step.ms, missed }
    }

    pub(crate) fn lease(&mut self, key: &Key, ask: LeaseAsk, step: &mut Step<'_>) -> LeaseAnswer {
        let mut ensured = self.ensure(ask.at, step);
        let head = Position::new(0, self.head(&mut ensured, step));
        let head = Position { epoch: ensured.epoch, ..head };
        let stamp = self.stamp_of(key, step.ms).map(|stamp| stamp.at).filter(|at| at.epoch == head.epoch);
        let record = self.records.get(key).and_then(|record| record.alive(step.ms)).filter(|record| {
            position_of(record)
                .is_some_and(|at| at.epoch == head.epoch && stamp.is_none_or(|stamp| stamp.seq <= at.seq))
        });
        let lease = match record {
            Some(record) if !ask.refresh => Lease::Value(record.clone()),
            _ => {
                let holder = self.leases.get(key).filter(|lease| lease.alive(step.ms).is_some());
                let left = Duration::from_millis(holder.map_or(0, |lease| lease.at_ms - step.ms));
                match holder.map(|lease| lease.what) {
                    Some(Right::Hold) => Lease::Hold(left),
                    Some(Right::Lease(token)) if token != ask.token => Lease::Busy(left),
                    _ => {
                        let right = until(Right::Lease(ask.token), ask.ttl, step.ms);
                        self.leases.insert(key.clone(), right);
                        Lease::Granted
                    }
                }
            }
        };
        LeaseAnswer { head, stamp, server_ms: step.ms, lease }
    }

    pub(crate) fn fill(&mut self, key: &Key, token: LeaseToken, record: NewRecord, step: &Step<'_>) -> bool {
        let held = self.leases.get(key).and_then(|lease| lease.alive(step.ms));
        if held != Some(&Right::Lease(token)) && !mutated!("fill_without_lease") {
            return false;
        }
        self.records.insert(key.clone(), until(record.bytes, record.ttl, step.ms));
        self.leases.remove(key);
        true
    }

    pub(crate) fn release(&mut self, key: &Key, token: LeaseToken, step: &Step<'_>) {
        if self.leases.get(key).and_then(|lease| lease.alive(step.ms)) == Some(&Right::Lease(token)) {
            self.leases.remove(key);
        }
    }

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
            self.leases.remove(key);
            if !what.hold.is_zero() {
                self.leases.insert(key.clone(), until(Right::Hold, what.hold, step.ms));
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
        self.leases.retain(|key, _| key.namespace() != namespace || !pattern.covers(key));
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

    /// The record of a key that a node which knows all would take for alive.
    pub(super) fn live_record(
        &self,
        key: &Key,
        namespace_group: u64,
        incarnation: u64,
        ms: u64,
    ) -> Option<Bytes> {
        let meta = self.meta.as_ref().filter(|meta| meta.incarnation == incarnation)?;
        self.log.as_ref().filter(|log| log.epoch == meta.epoch)?;
        let record = self.records.get(key)?.alive(ms)?;
        let at = position_of(record)?;
        let stamp = self.stamp_of(key, ms).map(|stamp| stamp.at).filter(|stamp| stamp.epoch == meta.epoch);
        let alive = at.epoch == meta.epoch && stamp.is_none_or(|stamp| stamp.seq <= at.seq);
        let group_ids = groups_of(record).into_iter().chain([namespace_group]);
        let outdated = |id: u64| meta.groups.get(&id).is_some_and(|(seq, _)| *seq > at.seq);
        (alive && !group_ids.into_iter().any(outdated)).then(|| record.clone())
    }

    /// Meta is gone, by eviction or by hand.
    pub(crate) fn lose_meta(&mut self) {
        self.meta = None;
    }

    /// The log is gone, by hand.
    pub(crate) fn lose_log(&mut self) {
        self.log = None;
    }

    /// The log keeps so many entries.
    pub(crate) fn trim(&mut self, keep: usize) {
        if let Some(log) = &mut self.log {
            log.trim(keep);
        }
    }

    /// The last entry of the log becomes unreadable.
    pub(crate) fn spoil_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.spoil();
        }
    }

    /// Flips a bit in each record behind its header, or cuts it short.
    pub(crate) fn spoil_records(&mut self, cut: bool) {
        for record in self.records.values_mut() {
            let mut bytes = BytesMut::from(record.what.clone());
            let middle = bytes.len() - 3;
            if cut {
                bytes.truncate(middle);
            } else {
                bytes[middle] ^= 0x10;
            }
            record.what = bytes.freeze();
        }
    }

    /// Is the history still the one that the caller knows? If not, a new epoch begins.
    fn ensure(&mut self, at: Position, step: &mut Step<'_>) -> Ensured {
        let fits = self.meta.as_ref().is_some_and(|meta| {
            let same = meta.incarnation == step.incarnation || mutated!("incarnation_ignored");
            same && (at.epoch <= meta.epoch || mutated!("future_cursor_ignored"))
        });
        let epoch = if fits { self.epoch() } else { self.bump(at, step) };
        step.confirmed.push((step.partition, epoch));
        Ensured { at, epoch }
    }

    fn epoch(&self) -> u64 {
        self.meta.as_ref().map_or(0, |meta| meta.epoch)
    }

    /// The last sequence.
    fn head(&mut self, ensured: &mut Ensured, step: &mut Step<'_>) -> u64 {
        let last = self.log.as_ref().filter(|log| log.epoch == ensured.epoch).map(|log| log.last);
        match last {
            Some(last) if !ensured.behind(last) || mutated!("future_cursor_ignored") => last,
            _ => {
                ensured.epoch = self.bump(ensured.at, step);
                0
            }
        }
    }

    fn append(&mut self, append: &Append, ensured: &mut Ensured, step: &mut Step<'_>) -> Position {
        let fits = self.log.as_ref().is_some_and(|log| {
            log.epoch == ensured.epoch && (!ensured.behind(log.last) || mutated!("future_cursor_ignored"))
        });
        if !fits {
            ensured.epoch = self.bump(append.at, step);
        }
        let log = self.log.get_or_insert_with(|| Log::new(ensured.epoch));
        let seq = log.append(append.payload.clone(), step.limits.log_entries_max);
        Position::new(ensured.epoch, seq)
    }

    /// The short way: an append under the epoch that the caller knows, if the log takes it.
    fn append_fast(&mut self, append: &Append, hint: Bytes, step: &mut Step<'_>) -> Option<Position> {
        let log =
            self.log.as_mut().filter(|log| log.epoch == append.at.epoch && log.last >= append.at.seq)?;
        let seq = log.append(append.payload.clone(), step.limits.log_entries_max);
        Some(self.publish(Position::new(append.at.epoch, seq), hint, step))
    }

    fn publish(&self, position: Position, payload: Bytes, step: &mut Step<'_>) -> Position {
        step.published.push(Publication { partition: step.partition, position, payload });
        position
    }

    /// A new epoch, above all that this server and the caller know.
    fn bump(&mut self, at: Position, step: &mut Step<'_>) -> u64 {
        let (clock, next) = (step.ms * 1000, self.epoch().max(at.epoch) + 1);
        // Where the clock is behind, two masters that know the same past would take the same number.
        let apart = if mutated!("epochs_close_together") {
            0
        } else {
            hash64([&step.incarnation.to_be_bytes()[..]]) % (1 << 20)
        };
        let epoch = if clock >= next { clock } else { next + apart };
        let nodes = self.meta.take().map(|meta| meta.nodes).unwrap_or_default();
        self.meta = Some(Meta { epoch, incarnation: step.incarnation, groups: Map::default(), nodes });
        self.log = Some(Log::new(epoch));
        let position = Position::new(epoch, 0);
        step.published.push(Publication { partition: step.partition, position, payload: Bytes::new() });
        step.confirmed.push((step.partition, epoch));
        epoch
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
        if !mutated!("put_keeps_lease") {
            self.leases.remove(key);
        }
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

    fn stamp_of(&self, key: &Key, ms: u64) -> Option<Stamp> {
        let resource = (key.namespace().clone(), key.resource().to_owned());
        self.stamps.get(&resource).and_then(|stamp| stamp.alive(ms)).copied()
    }

    fn groups(&self) -> Vec<GroupStamp> {
        let groups = self.meta.iter().flat_map(|meta| &meta.groups);
        groups.map(|(&group, &(seq, _))| GroupStamp { group, seq }).collect()
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

/// The ids of the groups that a record names.
fn groups_of(record: &[u8]) -> Vec<u64> {
    let Some(count) = record.get(78..80) else { return Vec::new() };
    let count = usize::from(u16::from_be_bytes([count[0], count[1]]));
    let ids = record.get(cache_l2::HEADER_BYTES..cache_l2::HEADER_BYTES + count * 8).unwrap_or_default();
    ids.chunks_exact(8).map(|id| id.iter().fold(0, |id, &byte| id << 8 | u64::from(byte))).collect()
}
