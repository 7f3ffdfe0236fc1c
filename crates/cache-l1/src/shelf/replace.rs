//! What a full tier does all the time: a newcomer takes the place of whom the policy gives up.
//!
//! Slot, place on the wheel and room stay where they are, so nothing is given back to be taken again at once. Where either
//! of the two is listed in more than the table, taking out and [putting](Shelf::put) is the way.

use cache_policy::{Newcomer, Policy};

use super::Shelf;
use crate::entry::{Admission, Front, Home, Notes, overhead_bytes};
use crate::{Address, Cause, Left, Meta};

/// An entry that leaves for another that takes its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Victim {
    pub(crate) slot: u32,
    /// Overhead included.
    pub(crate) bytes: u64,
}

impl<K, V, P: Policy> Shelf<K, V, P> {
    /// What leaves with the entry in the slot, if a newcomer of these kinds can take its place as it is: both are listed
    /// nowhere but in the table, and the newcomer may lie on the wheel where the victim does.
    #[inline(always)]
    pub(crate) fn replaceable(&self, slot: u32, at: &Address, meta: &Meta) -> Option<u64> {
        let front = self.fronts.get(slot)?;
        let back = self.backs.get(slot as usize)?;
        let (before, after) = (front.hard_expiry(), meta.hard_expiry);
        // Comes up too early, and is filed where it belongs then. One that never expires is not on the wheel.
        let may_stay = before <= after && (before == u64::MAX) == (after == u64::MAX)
            || mutated!("l1_replaced_on_a_later_place");
        let plain = back.home.is_plain() && !at.is_variant() && meta.idle == 0 && !front.is_stray();
        (may_stay && plain)
            .then(|| u64::from(back.weight) + overhead_bytes::<K, V>(&back.groups, false, false))
    }

    /// Takes out the victim, which is [replaceable](Self::replaceable), and puts the newcomer into its place. The key must
    /// not be there, and it must be of the fence's epoch. `meta` loses its groups.
    #[inline(always)]
    pub(crate) fn replace(
        &mut self,
        Victim { slot, bytes: out }: Victim,
        (key, value): (K, V),
        at: &Address,
        meta: &mut Meta,
        version: u64,
        bytes: u64,
    ) -> Option<Left<K, V>> {
        let hash = at.hash();
        let admission = Admission { version, stray: false };
        let front = self.fronts.place(slot).replace(Front::new(key, value, admission, meta));
        self.notes[slot as usize] = Notes::new(meta);
        let back = &mut self.backs[slot as usize];
        let before = std::mem::replace(&mut back.hash, hash);
        back.groups = std::mem::take(&mut meta.groups);
        back.weight = meta.weight;
        back.home = Home::new(at, false);
        self.table.replace(before, hash, slot);
        self.bytes = self.bytes + bytes - out;
        self.tally.left(Cause::Evicted);
        let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.policy.inserted(slot, Newcomer { hash, weight, deadline: meta.hard_expiry });
        let front = front?;
        Some(Left { key: front.key, value: front.value, cause: Cause::Evicted, bytes: out })
    }
}
