//! One partition: the steps of the protocol, each whole under the caller's lock.
//!
//! Every writing step begins with `ensure`: a caller who stands ahead of this partition has seen history that it does
//! not have, so its epoch ends. Order within a step: delete, count, append, publish.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache_bus::{Missed, SyncAnswer};
use cache_events::wire::ENVELOPE_BYTES_MAX;
use cache_events::{Group, Key, Namespace, NodeId, Partition, Pattern, Position, Version};
use cache_l2::{
    Append, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, Over, ReadAnswer, ReadItem, position_of,
    stamp_position, version_of,
};

use crate::config::EmbeddedConfig;
use crate::expiring::Expiring;
use crate::groups::Groups;
use crate::log::Log;
use crate::outlets::Outlets;
use crate::stamps::{Now, Stamp, deadline, millis, resource_of, stamp};

/// Expired entries that one step removes of each kind: more than it can add, so that expiry keeps up.
const EXPIRED_PER_STEP: usize = 16;

/// Node rows of one partition; above it new nodes are served, but not noted.
const NODES_MAX: usize = 1_000;

pub(crate) struct Shard {
    partition: Partition,
    position: Position,
    why: &'static str,
    log: Log,
    groups: Groups,
    nodes: HashMap<NodeId, NodeRow>,
    node_rows_kept_ms: u64,
    bytes_max: usize,
    records: Expiring<Key, Bytes>,
    leases: Expiring<Key, Right>,
    /// By the key of the resource without parameters.
    resources: Expiring<Key, Stamp>,
    /// Version floors of single keys.
    floors: Expiring<Key, Stamp>,
}

/// A record on its way in.
pub(crate) struct NewRecord {
    pub(crate) bytes: Bytes,
    pub(crate) ttl: Duration,
}

/// Where a node stood when it last synced.
#[derive(Clone, Copy)]
pub(crate) struct NodeRow {
    pub(crate) position: Position,
    pub(crate) tick: u64,
}

/// Who may fill a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    /// The holder of the token, while this epoch lives: what was loaded in another would be dead when it is stored.
    Lease(LeaseToken, u64),
    /// Nobody.
    Hold,
}

impl Shard {
    /// A partition that begins its first epoch now.
    pub(crate) fn new(partition: Partition, config: &EmbeddedConfig, now: Now) -> Self {
        Self {
            partition,
            position: Position::new(now.server_ms.saturating_mul(1000).clamp(1, Position::LIMIT / 2), 0),
            why: "init",
            log: Log::new(config.log_entries_max, config.share(config.log_bytes_max)),
            groups: Groups::new(config.groups_max),
            nodes: HashMap::new(),
            node_rows_kept_ms: millis(config.node_rows_kept),
            bytes_max: config.share(config.bytes_max),
            records: Expiring::new(),
            leases: Expiring::new(),
            resources: Expiring::new(),
            floors: Expiring::new(),
        }
    }

    pub(crate) fn read(&self, keys: &[Key], now: Now) -> ReadAnswer {
        let item = |key: &Key| ReadItem {
            record: self.records.get(key, now.tick).cloned(),
            stamp: self.live_stamp(key, now),
        };
        ReadAnswer { epoch: self.position.epoch, items: keys.iter().map(item).collect() }
    }

    pub(crate) fn lease(
        &mut self,
        key: &Key,
        ask: LeaseAsk,
        now: Now,
        out: &Outlets,
    ) -> Result<LeaseAnswer, Refusal> {
        self.ensure(ask.at, now, out)?;
        let stamp = self.live_stamp(key, now);
        let record = self.records.get(key, now.tick).filter(|record| self.is_live(record, stamp));
        let lease = match record {
            Some(record) if !ask.refresh => Lease::Value(record.clone()),
            _ => {
                let left = Duration::from_millis(self.leases.remaining(key, now.tick).unwrap_or_default());
                match self.leases.get(key, now.tick) {
                    Some(Right::Hold) => Lease::Hold(left),
                    Some(&Right::Lease(token, epoch))
                        if token != ask.token && epoch == self.position.epoch =>
                    {
                        Lease::Busy(left)
                    }
                    // Also where it is the caller's own: it repeats a request whose answer it never got.
                    _ => {
                        let right = Right::Lease(ask.token, self.position.epoch);
                        self.leases.insert(key.clone(), right, key.weight(), deadline(now, ask.ttl));
                        Lease::Granted
                    }
                }
            }
        };
        let head = self.position;
        self.make_room(now, out);
        Ok(LeaseAnswer { head, stamp, server_ms: now.server_ms, lease })
    }

    pub(crate) fn fill(
        &mut self,
        key: &Key,
        token: LeaseToken,
        record: NewRecord,
        now: Now,
        out: &Outlets,
    ) -> bool {
        let held = self.leases.get(key, now.tick) == Some(&Right::Lease(token, self.position.epoch));
        if !held && !mutated!("embedded_fill_without_lease") {
            return false;
        }
        self.leases.remove(key);
        self.store(key, record, now);
        self.make_room(now, out);
        true
    }

    pub(crate) fn release(&mut self, key: &Key, token: LeaseToken, now: Now) {
        if self.leases.get(key, now.tick) == Some(&Right::Lease(token, self.position.epoch)) {
            self.leases.remove(key);
        }
    }

    pub(crate) fn put(
        &mut self,
        key: &Key,
        record: NewRecord,
        append: Append,
        now: Now,
        out: &Outlets,
    ) -> Result<Position, Refusal> {
        check(&append)?;
        self.ensure(append.at, now, out)?;
        self.put_now(key, record, append, now, out)
    }

    pub(crate) fn put_versioned(
        &mut self,
        key: &Key,
        version: Version,
        record: NewRecord,
        append: Append,
        now: Now,
        out: &Outlets,
    ) -> Result<Option<Position>, Refusal> {
        check(&append)?;
        self.ensure(append.at, now, out)?;
        let stored = self.records.get(key, now.tick).and_then(|record| version_of(record));
        let floor = self.resources.get(&resource_of(key), now.tick).map(|stamp| stamp.floor);
        let key_floor = self.floors.get(key, now.tick).map(|stamp| stamp.floor);
        if [stored, floor, key_floor].into_iter().flatten().any(|known| known >= version) {
            return Ok(None);
        }
        if let Some(over) = &append.over
            && !self.is_stored(key, over, now)
            && !mutated!("embedded_put_over_any")
        {
            return Ok(None);
        }
        self.put_now(key, record, append, now, out).map(Some)
    }

    pub(crate) fn invalidate(
        &mut self,
        what: &Invalidation,
        append: Append,
        now: Now,
        out: &Outlets,
    ) -> Result<Position, Refusal> {
        check(&append)?;
        let mut resources = Vec::with_capacity(what.resources.len());
        for (namespace, resource) in &what.resources {
            resources.push(Key::new(namespace, resource).map_err(|error| Refusal(error.to_string()))?);
        }
        self.ensure(append.at, now, out)?;
        let next = self.position.next();
        for key in &what.keys {
            self.remove_key(key, what.floor, what.keep, next, now);
            if !what.hold.is_zero() {
                let until = deadline(now, what.hold).max(self.hold_deadline(key, now));
                self.leases.insert(key.clone(), Right::Hold, key.weight(), until);
            }
        }
        for resource in resources {
            stamp(&mut self.resources, &resource, what.floor, what.keep, next, now);
        }
        Ok(self.append(append, now, out))
    }

    pub(crate) fn invalidate_groups(
        &mut self,
        groups: &[Group],
        keep: Duration,
        append: Append,
        now: Now,
        out: &Outlets,
    ) -> Result<Position, Refusal> {
        check(&append)?;
        self.ensure(append.at, now, out)?;
        let ids: Vec<u64> = groups.iter().map(Group::id).collect();
        if self.groups.make_room(&ids, millis(keep), now.tick) {
            let seq = self.position.next().seq;
            for id in ids {
                self.groups.stamp(id, seq, now.tick);
            }
        } else {
            // In the new epoch everything is dead, the groups too: no stamp is needed.
            self.bump(0, "group_overflow", now, out)?;
        }
        Ok(self.append(append, now, out))
    }

    pub(crate) fn invalidate_pattern(
        &mut self,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
        now: Now,
        out: &Outlets,
    ) -> Result<Position, Refusal> {
        check(&append)?;
        self.ensure(append.at, now, out)?;
        let next = self.position.next();
        let covered = |key: &&Key| key.namespace() == namespace && pattern.covers(key);
        let mut keys: Vec<Key> = self.records.keys().filter(covered).cloned().collect();
        keys.extend(self.leases.keys().filter(covered).cloned());
        for key in keys {
            let keep = Duration::from_millis(self.records.remaining(&key, now.tick).unwrap_or_default());
            self.remove_key(&key, Version::NONE, keep, next, now);
        }
        Ok(self.append(append, now, out))
    }

    pub(crate) fn flush(&mut self, append: Append, now: Now, out: &Outlets) -> Result<Position, Refusal> {
        check(&append)?;
        judge(append.at)?;
        self.bump(append.at.epoch, "flush", now, out)?;
        Ok(self.append(append, now, out))
    }

    pub(crate) fn sync(
        &mut self,
        node: &NodeId,
        at: Position,
        max: u32,
        now: Now,
        out: &Outlets,
    ) -> Result<SyncAnswer, Refusal> {
        self.ensure(at, now, out)?;
        self.note_node(node, at, now);
        let missed = if at.epoch != self.position.epoch {
            Missed::Reset(self.groups.table())
        } else if at.seq == self.position.seq {
            Missed::Entries(Vec::new())
        } else {
            match self.log.after(at.seq, max as usize) {
                Some(entries) => Missed::Entries(entries),
                None if mutated!("embedded_trim_unnoticed") => Missed::Entries(Vec::new()),
                None => Missed::Gap(self.groups.table()),
            }
        };
        Ok(SyncAnswer { head: self.position, server_ms: now.server_ms, missed })
    }

    /// Forgets everything but that its epochs must grow: what a server does that comes back without its data.
    pub(crate) fn restart_empty(&mut self, now: Now, out: &Outlets) -> Result<(), Refusal> {
        self.nodes.clear();
        self.resources.clear();
        self.floors.clear();
        self.leases.clear();
        self.records.clear();
        self.bump(0, "restart", now, out)
    }

    pub(crate) fn trim_log(&mut self) {
        self.log.clear();
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn why(&self) -> &'static str {
        self.why
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&NodeId, &NodeRow)> {
        self.nodes.iter()
    }

    pub(crate) fn records_len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn log_len(&self) -> usize {
        self.log.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.records.bytes() + self.leases.bytes() + self.resources.bytes() + self.floors.bytes()
    }

    /// The beginning of every step that writes.
    fn ensure(&mut self, at: Position, now: Now, out: &Outlets) -> Result<(), Refusal> {
        judge(at)?;
        self.records.expire(now.tick, EXPIRED_PER_STEP);
        self.leases.expire(now.tick, EXPIRED_PER_STEP);
        self.resources.expire(now.tick, EXPIRED_PER_STEP);
        self.floors.expire(now.tick, EXPIRED_PER_STEP);
        let lost = at > self.position && !mutated!("embedded_future_cursor_ignored");
        if lost { self.bump(at.epoch, "future_cursor", now, out) } else { Ok(()) }
    }

    /// Begins a new epoch, above the old one, the caller's and the clock. Records of the old one are dead and leave their
    /// versions as floors, for as long as they would have lived; holds, floors and node rows outlive it.
    fn bump(&mut self, caller: u64, why: &'static str, now: Now, out: &Outlets) -> Result<(), Refusal> {
        let clock = now.server_ms.saturating_mul(1000).min(Position::LIMIT / 2);
        let epoch = clock.max(self.position.epoch + 1).max(caller.saturating_add(1));
        if epoch >= Position::LIMIT {
            return Err(Refusal(format!("no epoch is left above {caller}")));
        }
        self.position = Position::new(epoch, 0);
        self.why = why;
        self.log.clear();
        self.groups.clear();
        for (key, record, left) in self.records.take_all(now.tick) {
            if let Some(floor) = version_of(&record).filter(|version| *version > Version::NONE) {
                let keep = Duration::from_millis(left);
                stamp(&mut self.floors, &key, floor, keep, self.position, now);
            }
        }
        out.hint(self.partition, self.position, Bytes::new());
        Ok(())
    }

    fn note_node(&mut self, node: &NodeId, position: Position, now: Now) {
        let kept = self.node_rows_kept_ms;
        self.nodes.retain(|_, row| now.tick.saturating_sub(row.tick) <= kept);
        if self.nodes.len() < NODES_MAX || self.nodes.contains_key(node) {
            self.nodes.insert(node.clone(), NodeRow { position, tick: now.tick });
        }
    }

    fn append(&mut self, append: Append, now: Now, out: &Outlets) -> Position {
        let hint = append.payload.clone();
        self.append_with(append, hint, now, out)
    }

    /// Appends; `hint` is what is published.
    fn append_with(&mut self, append: Append, hint: Bytes, now: Now, out: &Outlets) -> Position {
        self.position = self.position.next();
        let position = self.position;
        self.log.push(position, append.payload);
        out.hint(self.partition, position, hint);
        if let Some(object) = append.public {
            out.publish(&object, position);
        }
        self.make_room(now, out);
        position
    }

    fn put_now(
        &mut self,
        key: &Key,
        record: NewRecord,
        append: Append,
        now: Now,
        out: &Outlets,
    ) -> Result<Position, Refusal> {
        let hint = append.hint(&record.bytes);
        let mut bytes = BytesMut::from(record.bytes);
        if !stamp_position(&mut bytes, self.position.next()) {
            return Err(Refusal("what is put is not a record".into()));
        }
        // A hold stays: this value is what the writer knows, what a lagging replica would give later is not.
        if self.leases.get(key, now.tick) != Some(&Right::Hold) {
            self.leases.remove(key);
        }
        self.store(key, NewRecord { bytes: bytes.freeze(), ttl: record.ttl }, now);
        Ok(self.append_with(append, hint, now, out))
    }

    /// Whether that record is stored, and worth something.
    fn is_stored(&self, key: &Key, over: &Over, now: Now) -> bool {
        let stored = self.records.get(key, now.tick);
        stored.is_some_and(|record| {
            position_of(record) == Some(over.position) && self.is_live(record, self.live_stamp(key, now))
        }) && over.groups.iter().all(|group| self.groups.last(group.id()) <= over.position.seq)
    }

    fn store(&mut self, key: &Key, record: NewRecord, now: Now) {
        let weight = record.bytes.len() + key.weight();
        self.records.insert(key.clone(), record.bytes, weight, deadline(now, record.ttl));
    }

    /// Removes the record and the lease of a key; a hold stays. The version of the record becomes a floor.
    fn remove_key(&mut self, key: &Key, floor: Version, keep: Duration, at: Position, now: Now) {
        if self.leases.get(key, now.tick) != Some(&Right::Hold) {
            self.leases.remove(key);
        }
        let removed = self.records.remove(key).and_then(|record| version_of(&record));
        let floor = floor.max(removed.unwrap_or_default());
        if floor > Version::NONE && !mutated!("embedded_floor_forgotten") {
            stamp(&mut self.floors, key, floor, keep, at, now);
        }
    }

    fn hold_deadline(&self, key: &Key, now: Now) -> u64 {
        match self.leases.get(key, now.tick) {
            Some(Right::Hold) => now.tick + self.leases.remaining(key, now.tick).unwrap_or_default(),
            _ => 0,
        }
    }

    fn live_stamp(&self, key: &Key, now: Now) -> Option<Position> {
        let stamp = self.resources.get(&resource_of(key), now.tick)?;
        Some(stamp.at).filter(|at| at.epoch == self.position.epoch)
    }

    fn is_live(&self, record: &[u8], stamp: Option<Position>) -> bool {
        position_of(record).is_some_and(|at| {
            at.epoch == self.position.epoch && stamp.is_none_or(|stamp| stamp.seq <= at.seq)
        })
    }

    /// Keeps the limit on bytes. Stamps may not leave one by one, since what they have killed would come back to life.
    fn make_room(&mut self, now: Now, out: &Outlets) {
        while self.bytes() > self.bytes_max {
            if self.records.pop_first() || self.leases.pop_first() {
                continue;
            }
            self.resources.clear();
            self.floors.clear();
            // Without an epoch above this one nothing could be stored anyway.
            let _ = self.bump(0, "stamp_overflow", now, out);
        }
    }
}

/// Why a step was refused; nothing was done.
pub(crate) struct Refusal(pub(crate) String);

fn check(append: &Append) -> Result<(), Refusal> {
    if append.payload.len() > ENVELOPE_BYTES_MAX {
        let size = append.payload.len();
        return Err(Refusal(format!("an event of {size} bytes; the limit is {ENVELOPE_BYTES_MAX}")));
    }
    Ok(())
}

fn judge(at: Position) -> Result<(), Refusal> {
    if at.epoch >= Position::LIMIT || at.seq >= Position::LIMIT {
        return Err(Refusal(format!("a position at or above 2^53: {at}")));
    }
    Ok(())
}
