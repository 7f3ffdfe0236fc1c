//! Values and deltas in hints: what a put tells the other nodes beside that it happened, and what they do with it.
//!
//! A hint is only a chance to spare a load. Whatever it brings is tried first, and then the event is applied as if it had
//! brought nothing: what was taken carries the position of the event and stays, all else is dropped. So whatever is
//! wrong with it (cut short, of another type, of another base, too late) costs a load, and a receiver never touches L2.
//!
//! Why what is taken is never older than what this node knows:
//!
//! - The bus hands out a cargo only if nothing later of its partition was applied, own writes included.
//! - An own write that the bus has not been told of yet is in the list of those under way, and what comes for its
//!   resource is not taken. The snapshot is older than the look into that list, so an own write that begins after it
//!   refuses the insert.
//! - The insert itself loses to every invalidation since the snapshot, and to a newer entry of the key.
//! - A delta is applied to the very value that it was made for: the one written at that position with that version.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache_events::wire::{self, CargoKind};
use cache_l1::{Meta, Origin};
use cache_l2::{Carry, Over, RecordHead, SealError, stamp_position};

use crate::receive::Update;
use crate::settings::Updates;
use crate::space::{Cacheable, Found, Space};
use crate::stats::count;

/// What a write asks for beside its value.
#[derive(Default)]
pub(crate) struct Change<'a> {
    /// The record in whose place alone it is stored.
    pub(crate) over: Option<Over>,
    /// Writes what the other nodes have to do to that record's value, for a record with this head.
    pub(crate) delta: Option<SealDelta<'a>>,
}

pub(crate) type SealDelta<'a> = Box<dyn FnOnce(&RecordHead) -> Result<Bytes, SealError> + Send + 'a>;

/// A delta as a namespace knows it whose type of deltas is not known.
pub(crate) trait Patcher<V>: Send + Sync {
    /// What becomes of a held value, if the delta was made for it.
    fn patched(&self, update: &Update<'_>, value: &V, held: &Meta) -> Option<Patched<V>>;
}

/// What became of a value, with what its writer says about it, and what it weighs encoded.
pub(crate) struct Patched<V> {
    pub(crate) value: V,
    pub(crate) head: RecordHead,
    pub(crate) weight: u32,
}

impl<V: Cacheable> Space<V> {
    /// What the hint of a put carries.
    pub(crate) fn carry(&self, envelope: &[u8], record: &[u8], delta: Option<Bytes>) -> Carry {
        match delta.filter(|delta| wire::fits(envelope, delta)) {
            _ if self.settings.updates == Updates::Invalidate => Carry::Nothing,
            Some(delta) => Carry::Delta(delta),
            None if wire::fits(envelope, record) => Carry::Record,
            None => Carry::Nothing,
        }
    }

    /// Takes what a hint brought in place of what L1 holds. `is_written`: whether an own write of a resource is under way.
    pub(crate) fn replace(&self, update: &Update<'_>, is_written: &dyn Fn(u64) -> bool) {
        if self.settings.updates == Updates::Invalidate || !self.settings.tiers.l1() {
            return;
        }
        let at = self.address(update.key);
        // Before all else: whatever happens from here on refuses the insert.
        let snapshot = self.l1.snapshot(&at);
        let held = self.l1.peek(update.key, &at, update.now);
        let (epoch, seq) = (update.position.epoch, update.position.seq);
        match &held {
            None if self.settings.updates != Updates::ValueEverywhere => return,
            // The insert would refuse it as well.
            Some((_, held)) if held.origin.reflects(Origin { epoch, seq }) => return,
            _ => {}
        }
        // A flush of this node's own may have begun an epoch that the bus does not know yet.
        let usable = (self.fence.epoch(at.partition()) == epoch || mutated!("update_of_another_epoch"))
            && !is_written(at.resource());
        let idle = held.as_ref().map(|(_, held)| Duration::from_millis(held.idle.into()));
        let found = match update.cargo.kind {
            _ if !usable => None,
            CargoKind::Record => self.record_of(update),
            CargoKind::Delta => held.and_then(|(value, held)| self.delta_of(update, &*value?, &held)),
        };
        let taken =
            found.is_some_and(|found| self.insert(update.key, &at, &found, &snapshot, idle, update.now));
        count(if taken { &self.counters.updates_taken } else { &self.counters.updates_left });
    }

    fn record_of(&self, update: &Update<'_>) -> Option<Found<V>> {
        let mut record = BytesMut::from(&update.cargo.bytes[..]);
        if !stamp_position(&mut record, update.position) {
            return None;
        }
        self.take_record(update.key, &record, update.position.epoch, None, update.server_now, update.now).ok()
    }

    fn delta_of(&self, update: &Update<'_>, value: &V, held: &Meta) -> Option<Found<V>> {
        let Patched { value, head, weight } = self.patcher.as_ref()?.patched(update, value, held)?;
        let head = RecordHead { origin: update.position, ..head };
        self.dated(head, Some(value), weight, update.server_now, update.now).ok()
    }
}

#[cfg(test)]
mod tests;
