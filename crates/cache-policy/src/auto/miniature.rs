//! A small cache of prints without values, ruled by one arm for good: what would the hits be?

use super::arms::{Arm, Ruling};
use super::core::Core;
use crate::weight;

/// Nothing in this cell of the table.
const EMPTY: u32 = u32::MAX;

/// What a miniature may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) entries: usize,
    /// In the steps of the weight's code.
    pub(super) weight: u64,
}

/// A key that is asked for, as the real cache knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) print: u32,
    /// The code of its weight.
    pub(super) code: u8,
    /// Until when it is good if it comes in now.
    pub(super) deadline: u64,
}

/// A core with a table of its own.
#[derive(Debug)]
pub(super) struct Miniature {
    core: Core,
    arm: Arm,
    bounds: Bounds,
    /// Slots by print, with linear probing; a power of two, at most half full.
    table: Vec<u32>,
    /// By slot.
    prints: Vec<u32>,
    deadlines: Vec<u64>,
    free: Vec<u32>,
}

impl Miniature {
    pub(super) fn new(arm: Arm, bounds: Bounds) -> Self {
        let entries = bounds.entries;
        let table = vec![EMPTY; (entries.max(1) * 2).next_power_of_two()];
        Self {
            core: Core::new(entries),
            arm,
            bounds,
            table,
            // All at once: hits of the cache may end up here, and they allocate nothing.
            prints: Vec::with_capacity(entries),
            deadlines: Vec::with_capacity(entries),
            free: Vec::with_capacity(entries),
        }
    }

    /// The contents stay.
    pub(super) fn resize(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        let len = (bounds.entries.max(self.core.len()).max(1) * 2).next_power_of_two();
        if len != self.table.len() {
            let slots: Vec<u32> = self.table.iter().copied().filter(|&slot| slot != EMPTY).collect();
            self.table = vec![EMPTY; len];
            for slot in slots {
                let cell = self.cell_for(self.prints[slot as usize]).1;
                self.table[cell] = slot;
            }
        }
    }

    /// An access; says whether it was a hit. What is past its deadline is none.
    pub(super) fn access(&mut self, asked: Asked, now: u64) -> bool {
        let Asked { print, code, deadline } = asked;
        if let (Some(slot), _) = self.cell_for(print) {
            if self.deadlines[slot as usize] > now {
                self.core.touched(slot);
                return true;
            }
            self.core.removed(slot, print);
            self.unlink(slot);
        }
        let weight = weight::of_code(code);
        // The real cache is many times larger and does not lose all for one either.
        if weight > self.bounds.weight {
            return false;
        }
        while self.core.len() >= self.bounds.entries.max(1)
            || self.core.weight() + weight > self.bounds.weight
        {
            let (prints, ruling) = (&self.prints, Ruling { arm: self.arm, settled: true });
            let Some(victim) = self.core.evict(ruling, |slot| prints[slot as usize]) else { break };
            self.unlink(victim);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.prints.push(0);
            self.deadlines.push(0);
            self.prints.len() as u32 - 1
        });
        self.prints[slot as usize] = print;
        self.deadlines[slot as usize] = deadline;
        let cell = self.cell_for(print).1;
        self.table[cell] = slot;
        self.core.inserted(slot, print, u32::try_from(weight).unwrap_or(u32::MAX), self.arm);
        false
    }

    /// The real cache lost it for another reason than eviction.
    pub(super) fn remove(&mut self, print: u32) {
        if let (Some(slot), _) = self.cell_for(print) {
            self.core.removed(slot, print);
            self.unlink(slot);
        }
    }

    fn home(&self, print: u32) -> usize {
        let mixed = print.wrapping_mul(0x9e37_79b1);
        (mixed ^ (mixed >> 16)) as usize & (self.table.len() - 1)
    }

    /// The slot of the print and its cell, or the free cell where it would go.
    fn cell_for(&self, print: u32) -> (Option<u32>, usize) {
        let mut cell = self.home(print);
        loop {
            let slot = self.table[cell];
            if slot == EMPTY {
                return (None, cell);
            }
            if self.prints[slot as usize] == print {
                return (Some(slot), cell);
            }
            cell = (cell + 1) & (self.table.len() - 1);
        }
    }

    /// Out of the table; those behind it move up, so that no search meets a gap.
    fn unlink(&mut self, slot: u32) {
        let mask = self.table.len() - 1;
        let (_, mut gap) = self.cell_for(self.prints[slot as usize]);
        let mut cell = gap;
        loop {
            cell = (cell + 1) & mask;
            let next = self.table[cell];
            if next == EMPTY {
                break;
            }
            let home = self.home(self.prints[next as usize]);
            if cell.wrapping_sub(home) & mask >= cell.wrapping_sub(gap) & mask {
                self.table[gap] = next;
                gap = cell;
            }
        }
        self.table[gap] = EMPTY;
        self.free.push(slot);
    }

    /// Whether the parts agree with each other. Slow.
    #[cfg(test)]
    pub(super) fn validate(&self) {
        self.core.validate();
        let held: Vec<u32> = self.table.iter().copied().filter(|&slot| slot != EMPTY).collect();
        assert_eq!(held.len(), self.core.len());
        assert_eq!(held.len() + self.free.len(), self.prints.len());
        for slot in held {
            assert_eq!(self.cell_for(self.prints[slot as usize]).0, Some(slot), "slot {slot} is not found");
        }
        assert!(self.core.len() <= self.bounds.entries.max(1) && self.core.weight() <= self.bounds.weight);
    }
}
