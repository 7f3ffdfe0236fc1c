//! A small cache of prints without values, ruled by one arm for good: what would the hits be?

use super::arms::Arm;
use super::core::Core;

/// Nothing in this cell of the table.
const EMPTY: u32 = u32::MAX;

/// A core with a table of its own.
#[derive(Debug)]
pub(super) struct Miniature {
    core: Core,
    arm: Arm,
    entries_max: usize,
    /// Slots by print, with linear probing; a power of two, at most half full.
    table: Vec<u32>,
    /// By slot.
    prints: Vec<u32>,
    free: Vec<u32>,
}

impl Miniature {
    pub(super) fn new(arm: Arm, entries_max: usize) -> Self {
        let table = vec![EMPTY; (entries_max.max(1) * 2).next_power_of_two()];
        // All at once: hits of the cache may end up here, and they allocate nothing.
        let (prints, free) = (Vec::with_capacity(entries_max), Vec::with_capacity(entries_max));
        Self { core: Core::new(entries_max), arm, entries_max, table, prints, free }
    }

    /// The arm may change while the contents stay.
    pub(super) fn resize(&mut self, entries_max: usize) {
        self.entries_max = entries_max;
        let len = (entries_max.max(self.core.len()).max(1) * 2).next_power_of_two();
        if len != self.table.len() {
            let slots: Vec<u32> = self.table.iter().copied().filter(|&slot| slot != EMPTY).collect();
            self.table = vec![EMPTY; len];
            for slot in slots {
                let cell = self.cell_for(self.prints[slot as usize]).1;
                self.table[cell] = slot;
            }
        }
    }

    /// An access; says whether it was a hit.
    pub(super) fn access(&mut self, print: u32) -> bool {
        let (slot, _) = self.cell_for(print);
        if let Some(slot) = slot {
            self.core.touched(slot);
            return true;
        }
        while self.core.len() >= self.entries_max.max(1) {
            let prints = &self.prints;
            let Some(victim) = self.core.evict(self.arm, |slot| prints[slot as usize]) else { break };
            self.unlink(victim);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.prints.push(0);
            self.prints.len() as u32 - 1
        });
        self.prints[slot as usize] = print;
        let cell = self.cell_for(print).1;
        self.table[cell] = slot;
        self.core.inserted(slot, print, 1, self.arm);
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
}
