//! Doubly linked lists over slots: no node is allocated, any slot can be unlinked in O(1).

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;
/// In `prev` of a slot that is in no list.
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

/// The links of all slots, for several lists: a slot is in one of them at most. `prev` leads to the newer.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

/// The ends of one list: head is the newest, tail the oldest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) head: u32,
    pub(crate) tail: u32,
    pub(crate) len: usize,
}

impl Ends {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };
}

impl Links {
    pub(crate) fn new(capacity_hint: usize) -> Self {
        Self(Vec::with_capacity(capacity_hint))
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.0.get(slot as usize).is_some_and(|link| link.prev != UNLINKED)
    }

    /// Puts a slot that is in no list at the head of this one.
    #[inline(always)]
    pub(crate) fn push_head(&mut self, list: &mut Ends, slot: u32) {
        debug_assert!(slot < UNLINKED && !self.contains(slot));
        let index = slot as usize;
        if index >= self.0.len() {
            self.reach(index);
        }
        self.0[index] = Link { prev: NIL, next: list.head };
        match list.head {
            NIL => list.tail = slot,
            head => self.0[head as usize].prev = slot,
        }
        list.head = slot;
        list.len += 1;
    }

    /// Rare, and kept apart so that the usual way needs few registers.
    #[cold]
    #[inline(never)]
    fn reach(&mut self, index: usize) {
        self.0.resize(index + 1, Link { prev: UNLINKED, next: NIL });
    }

    /// Takes a slot out of the list it is in, which must be this one.
    #[inline(always)]
    pub(crate) fn unlink(&mut self, list: &mut Ends, slot: u32) {
        debug_assert!(self.contains(slot));
        let Link { prev, next } = self.0[slot as usize];
        match prev {
            NIL => list.head = next,
            prev => self.0[prev as usize].next = next,
        }
        match next {
            NIL => list.tail = prev,
            next => self.0[next as usize].prev = prev,
        }
        self.0[slot as usize].prev = UNLINKED;
        list.len -= 1;
    }

    /// The slots of a list, oldest first; panics if its links disagree.
    #[cfg(test)]
    pub(crate) fn oldest_first(&self, list: &Ends) -> Vec<u32> {
        let (mut slots, mut older, mut at) = (Vec::new(), NIL, list.tail);
        while at != NIL {
            assert_eq!(self.0[at as usize].next, older, "links of slot {at}");
            slots.push(at);
            (older, at) = (at, self.0[at as usize].prev);
        }
        assert_eq!((slots.len(), older), (list.len, list.head));
        slots
    }

    #[inline]
    pub(crate) fn move_to_head(&mut self, list: &mut Ends, slot: u32) {
        if list.head != slot {
            self.unlink(list, slot);
            self.push_head(list, slot);
        }
    }
}

/// One list with links of its own.
#[derive(Debug)]
pub(crate) struct List {
    links: Links,
    ends: Ends,
}

impl List {
    pub(crate) fn new(capacity_hint: usize) -> Self {
        Self { links: Links::new(capacity_hint), ends: Ends::EMPTY }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len
    }

    pub(crate) fn head(&self) -> u32 {
        self.ends.head
    }

    pub(crate) fn tail(&self) -> u32 {
        self.ends.tail
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.links.contains(slot)
    }

    /// The neighbour on the way to the head, or `NIL`.
    pub(crate) fn newer(&self, slot: u32) -> u32 {
        self.links.0[slot as usize].prev
    }

    /// Takes out a slot that is in the list, and tells its neighbour on the way to the head, or `NIL`.
    #[inline]
    pub(crate) fn take(&mut self, slot: u32) -> u32 {
        let newer = self.newer(slot);
        self.links.unlink(&mut self.ends, slot);
        newer
    }

    /// Puts a slot that is not in the list at the head.
    #[inline]
    pub(crate) fn push_head(&mut self, slot: u32) {
        self.links.push_head(&mut self.ends, slot);
    }

    /// Takes a slot out; false if it was not in.
    #[inline]
    pub(crate) fn unlink(&mut self, slot: u32) -> bool {
        let held = self.links.contains(slot);
        if held {
            self.links.unlink(&mut self.ends, slot);
        }
        held
    }
}
