//! One partition: the steps of the protocol, in the order in which the scripts take them.
//!
//! Read beside `crates/cache-redis/src/lua`: `ensure`, `head`, `append` and `bump` are those of `common.lua`, and the short way
//! of a write (`fast.lua`) is here too, since it looks at the log alone and leaves the incarnation to the next sync. What
//! writes is in `part/writes.rs`, what damages the data in `part/mishaps.rs`.

mod mishaps;
mod writes;

use std::time::Duration;

use bytes::Bytes;
use cache_bus::{GroupStamp, Missed, Roster, SyncAnswer};
use cache_events::{Key, Namespace, NodeId, Position, Version, hash64};
use cache_l2::{Append, Lease, LeaseAnswer, LeaseAsk, LeaseToken, NodeRoll, NodeRow, ReadItem, position_of};

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
    /// Who the nodes say they are; in the first partition.
    roster: Roster,
}

#[derive(Debug, Clone)]
struct Meta {
    epoch: u64,
    incarnation: u64,
    groups: Map<u64, (u64, u64)>,
    /// Where each stood, and when by the clock of the server.
    nodes: Map<NodeId, (Position, u64)>,
    /// The latest that the clock of the server has shown, to the second.
    latest_ms: u64,
}

/// By how much the clock may go back before an epoch ends.
const CLOCK_BACK_MS: u64 = 2_000;

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

    /// How long the log is; `None` if meta and log do not belong together, and the next step begins an epoch.
    pub(crate) fn position(&self) -> Option<Position> {
        let epoch = self.meta.as_ref()?.epoch;
        let log = self.log.as_ref().filter(|log| log.epoch == epoch)?;
        Some(Position::new(epoch, log.last))
    }

    /// Beside meta and log: touches no position and no epoch.
    pub(crate) fn roster(&mut self) -> &mut Roster {
        &mut self.roster
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
            meta.nodes.insert(node.clone(), (at, step.ms));
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

    /// Where the nodes stand.
    pub(crate) fn nodes(&mut self, step: &mut Step<'_>) -> NodeRoll {
        let mut ensured = self.ensure(Position::ZERO, step);
        let seq = self.head(&mut ensured, step);
        let row = |(node, &(at, ms)): (&NodeId, &(Position, u64))| NodeRow {
            node: node.clone(),
            at,
            age_ms: step.ms.saturating_sub(ms),
        };
        NodeRoll {
            head: Position::new(ensured.epoch, seq),
            epoch_age_ms: step.ms.saturating_sub(ensured.epoch / 1000),
            nodes: self.meta.iter().flat_map(|meta| &meta.nodes).map(row).collect(),
        }
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

    /// Is the history still the one that the caller knows? If not, a new epoch begins.
    fn ensure(&mut self, at: Position, step: &mut Step<'_>) -> Ensured {
        let fits = self.meta.as_ref().is_some_and(|meta| {
            let same = meta.incarnation == step.incarnation || mutated!("incarnation_ignored");
            // A stamp of now would not outlive what was stored before, once the clock is right again.
            let went_back = meta.latest_ms.saturating_sub(step.ms) > CLOCK_BACK_MS;
            same && (at.epoch <= meta.epoch || mutated!("future_cursor_ignored"))
                && (!went_back || mutated!("clock_gone_back_unnoticed"))
        });
        if let Some(meta) = self.meta.as_mut().filter(|meta| fits && step.ms >= meta.latest_ms + 1_000) {
            meta.latest_ms = step.ms;
        }
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
        // Where meta is gone, the log may still tell how far the epochs had come.
        let known = self.meta.as_ref().map(|meta| meta.epoch).or(self.log.as_ref().map(|log| log.epoch));
        let known = known.filter(|_| self.meta.is_some() || !mutated!("epoch_of_the_log_forgotten"));
        let (clock, next) = (step.ms * 1000, known.unwrap_or_default().max(at.epoch) + 1);
        // Where the clock is behind, two masters that know the same past would take the same number, and one that was
        // emptied meanwhile that which it gave before.
        let mut apart = hash64([&step.incarnation.to_be_bytes()[..]]) % (1 << 20);
        if !mutated!("epoch_apart_by_incarnation_alone") {
            apart = (apart + clock) % (1 << 20);
        }
        if mutated!("epochs_close_together") {
            apart = 0;
        }
        let epoch = if clock >= next { clock } else { next + apart };
        let nodes = self.meta.take().map(|meta| meta.nodes).unwrap_or_default();
        let (incarnation, latest_ms) = (step.incarnation, step.ms);
        self.meta = Some(Meta { epoch, incarnation, groups: Map::default(), nodes, latest_ms });
        self.log = Some(Log::new(epoch));
        let position = Position::new(epoch, 0);
        step.published.push(Publication { partition: step.partition, position, payload: Bytes::new() });
        step.confirmed.push((step.partition, epoch));
        epoch
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

/// The ids of the groups that a record names.
fn groups_of(record: &[u8]) -> Vec<u64> {
    let Some(count) = record.get(78..80) else { return Vec::new() };
    let count = usize::from(u16::from_be_bytes([count[0], count[1]]));
    let ids = record.get(cache_l2::HEADER_BYTES..cache_l2::HEADER_BYTES + count * 8).unwrap_or_default();
    ids.chunks_exact(8).map(|id| id.iter().fold(0, |id, &byte| id << 8 | u64::from(byte))).collect()
}
