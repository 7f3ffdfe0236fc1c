//! A doubly linked list over slots: no node is allocated, any slot can be unlinked in O(1).

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;
/// In `prev` of a slot that is not in the list.
const UNLINKED: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

/// Head is the newest, tail the oldest; `prev` leads towards the head.
#[derive(Debug)]
pub(crate) struct List {
    links: Vec<Link>,
    head: u32,
    tail: u32,
    len: usize,
}

impl List {
    pub(crate) fn new(capacity_hint: usize) -> Self {
        Self { links: Vec::with_capacity(capacity_hint), head: NIL, tail: NIL, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.prev != UNLINKED)
    }

    /// The neighbour on the way to the head, or `NIL`.
    pub(crate) fn newer(&self, slot: u32) -> u32 {
        self.links[slot as usize].prev
    }

    /// Puts a slot that is not in the list at the head.
    pub(crate) fn push_head(&mut self, slot: u32) {
        debug_assert!(slot < UNLINKED && !self.contains(slot));
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { prev: UNLINKED, next: NIL });
        }
        self.links[index] = Link { prev: NIL, next: self.head };
        match self.head {
            NIL => self.tail = slot,
            head => self.links[head as usize].prev = slot,
        }
        self.head = slot;
        self.len += 1;
    }

    /// Takes a slot out; false if it was not in.
    pub(crate) fn unlink(&mut self, slot: u32) -> bool {
        if !self.contains(slot) {
            return false;
        }
        let Link { prev, next } = self.links[slot as usize];
        match prev {
            NIL => self.head = next,
            prev => self.links[prev as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => self.links[next as usize].prev = prev,
        }
        self.links[slot as usize].prev = UNLINKED;
        self.len -= 1;
        true
    }
}
