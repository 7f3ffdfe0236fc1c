//! The core: two queues, a sketch and a ghost, under the rules of an [`Arm`]. A shard has one, and so has each
//! miniature.
//!
//! Hits are only counted, up to three. They reach the sketch late, when the turn of their slot comes ("paid"),
//! which is why a hit costs one load and mostly no store.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::arms::{Arm, Ruling};
use crate::ghost::Ghost;
use crate::list::{Ends, Links};
use crate::sketch::Sketch;
use crate::weight;

/// Hits that count; the bits of `hits` that count them.
const HITS_MAX: u8 = 3;
/// In `hits`: it is in main because there was room or because all go there, and nothing was asked of it.
const UNEARNED: u8 = 4;
/// In `at`: the slot is in main. The other bits are the weight's code.
const IN_MAIN: u8 = weight::CODES;
/// What is remembered of the heaviest newcomer fades by this part with each further one.
const HEAVIEST_FADES: u64 = 256;

/// Slots in two queues; knows keys by their prints.
#[derive(Debug)]
pub(super) struct Core {
    links: Links,
    small: Ends,
    main: Ends,
    small_weight: u64,
    main_weight: u64,
    /// By slot: the hits, and whether it has earned its place.
    hits: Vec<AtomicU8>,
    /// By slot: queue and weight.
    at: Vec<u8>,
    sketch: Sketch,
    ghost: Ghost,
    heaviest: u64,
}

impl Core {
    pub(super) fn new(capacity_hint: usize) -> Self {
        let mut ghost = Ghost::default();
        if capacity_hint > 0 {
            ghost.fit(capacity_hint);
        }
        Self {
            links: Links::new(capacity_hint),
            small: Ends::EMPTY,
            main: Ends::EMPTY,
            small_weight: 0,
            main_weight: 0,
            hits: Vec::with_capacity(capacity_hint),
            at: Vec::with_capacity(capacity_hint),
            sketch: Sketch::new(capacity_hint),
            ghost,
            heaviest: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.small.len + self.main.len
    }

    /// Of all residents, in steps of the weight's code.
    pub(super) fn weight(&self) -> u64 {
        self.small_weight + self.main_weight
    }

    /// The code of a slot's weight.
    pub(super) fn code(&self, slot: u32) -> u8 {
        self.at.get(slot as usize).map_or(0, |at| at & !IN_MAIN)
    }

    /// At three hits only the load, so that the line of a hot entry stays clean.
    #[inline]
    pub(super) fn touched(&self, slot: u32) {
        if let Some(hits) = self.hits.get(slot as usize) {
            let counted = hits.load(Relaxed);
            if counted & HITS_MAX < HITS_MAX {
                hits.store(counted + 1, Relaxed);
            }
        }
    }

    pub(super) fn inserted(&mut self, slot: u32, print: u32, weight: u32, arm: Arm) {
        if self.links.contains(slot) {
            self.unlink(slot);
        }
        let index = slot as usize;
        if index >= self.hits.len() {
            self.hits.resize_with(index + 1, AtomicU8::default);
            self.at.resize(index + 1, 0);
        }
        *self.hits[index].get_mut() = if arm == Arm::All { UNEARNED } else { 0 };
        self.at[index] = weight::code(weight);
        let own = self.weight_of(slot);
        self.heaviest = own.max(self.heaviest - self.heaviest.div_ceil(HEAVIEST_FADES));
        let residents = self.len() + 1;
        self.sketch.fit(residents);
        self.sketch.add(print, 1, residents);
        let returns = self.ghost.take(print);
        self.push(slot, arm == Arm::All || (arm == Arm::Twice && returns));
    }

    /// Its hits are paid, and who had reached main is remembered: its key is no less popular than before.
    pub(super) fn removed(&mut self, slot: u32, print: u32) {
        if !self.links.contains(slot) {
            return;
        }
        self.pay(slot, print, true);
        let in_main = self.unlink(slot);
        if in_main {
            self.note(print);
        }
    }

    /// Names a victim and forgets it.
    pub(super) fn evict(&mut self, ruling: Ruling, print_of: impl Fn(u32) -> u32) -> Option<u32> {
        let arm = ruling.arm;
        // Ends: each round takes one out of small.
        loop {
            if self.small.len == 0 {
                return (self.main.len > 0).then(|| {
                    let victim = self.main_victim(arm, &print_of);
                    self.unlink(victim);
                    victim
                });
            }
            let (total, residents) = (self.small_weight + self.main_weight, self.len() as u64);
            let mean = (total / residents).max(1);
            let target = (total * arm.small_permille() / 1_000).max(mean);
            if self.small_weight < target && arm != Arm::All && self.main.len > 0 {
                let victim = self.main_victim(arm, &print_of);
                self.unlink(victim);
                return Some(victim);
            }
            let clears = arm == Arm::Twice && ruling.settled;
            let unearned = clears.then(|| self.unearned()).flatten();
            let slot = unearned.unwrap_or(self.small.tail);
            let print = print_of(slot);
            let Some(lead) = arm.duel_lead() else {
                if self.hits_of(slot) >= arm.hits_for_main() {
                    self.pay(slot, print, true);
                    self.promote(slot);
                    continue;
                }
                self.note(print);
                self.unlink(slot);
                return Some(slot);
            };
            // Main has not its share yet: nobody has to leave it. A heavy newcomer that has just pushed others
            // out of main is not taken for that.
            let spare = self.heaviest.saturating_sub(mean);
            if self.small_weight >= target + spare + self.weight_of(slot) {
                self.pay(slot, print, true);
                self.promote(slot);
                *self.hits[slot as usize].get_mut() |= UNEARNED;
                continue;
            }
            self.pay(slot, print, true);
            if self.main.len > 0 {
                let resident = self.main_victim(arm, &print_of);
                if self.sketch.count(print) >= self.sketch.count(print_of(resident)) + lead {
                    self.promote(slot);
                    self.unlink(resident);
                    return Some(resident);
                }
            }
            self.note(print);
            self.unlink(slot);
            return Some(slot);
        }
    }

    /// The first of main without a hit; those with hits pay and go round. Main must not be empty.
    fn main_victim(&mut self, arm: Arm, print_of: impl Fn(u32) -> u32) -> u32 {
        // Ends: `&mut self` means that nobody hits meanwhile.
        loop {
            let slot = self.main.tail;
            if self.hits_of(slot) == 0 {
                return slot;
            }
            self.pay(slot, print_of(slot), arm.spends_all());
            *self.hits[slot as usize].get_mut() &= HITS_MAX;
            self.links.move_to_head(&mut self.main, slot);
        }
    }

    /// Main's oldest, if it is there by the leave of another arm: under `Twice` it would still be the oldest of
    /// small. Without this, what filled the cache first would stay for as long as nobody comes into main.
    fn unearned(&mut self) -> Option<u32> {
        let slot = self.main.tail;
        (self.main.len > 0 && *self.hits[slot as usize].get_mut() & UNEARNED != 0).then_some(slot)
    }

    fn hits_of(&mut self, slot: u32) -> u8 {
        *self.hits[slot as usize].get_mut() & HITS_MAX
    }

    /// Hits reach the sketch: all, or one.
    fn pay(&mut self, slot: u32, print: u32, all: bool) {
        let residents = self.len();
        let hits = self.hits_of(slot);
        let paid = if all { hits } else { hits.min(1) };
        *self.hits[slot as usize].get_mut() -= paid;
        self.sketch.add(print, paid, residents);
    }

    fn promote(&mut self, slot: u32) {
        self.unlink(slot);
        *self.hits[slot as usize].get_mut() &= HITS_MAX;
        self.push(slot, true);
    }

    fn note(&mut self, print: u32) {
        let residents = self.len();
        self.ghost.fit(residents);
        self.ghost.note(print, residents - residents / 10);
    }

    fn weight_of(&self, slot: u32) -> u64 {
        weight::of_code(self.at[slot as usize] & !IN_MAIN)
    }

    fn push(&mut self, slot: u32, to_main: bool) {
        let weight = self.weight_of(slot);
        let at = &mut self.at[slot as usize];
        if to_main {
            *at |= IN_MAIN;
            self.main_weight += weight;
            self.links.push_head(&mut self.main, slot);
        } else {
            *at &= !IN_MAIN;
            self.small_weight += weight;
            self.links.push_head(&mut self.small, slot);
        }
    }

    /// Says whether it was in main.
    fn unlink(&mut self, slot: u32) -> bool {
        let weight = self.weight_of(slot);
        let in_main = self.at[slot as usize] & IN_MAIN != 0;
        if in_main {
            self.main_weight -= weight;
            self.links.unlink(&mut self.main, slot);
        } else {
            self.small_weight -= weight;
            self.links.unlink(&mut self.small, slot);
        }
        in_main
    }

    /// Whether the parts agree with each other. Slow.
    #[cfg(test)]
    pub(super) fn validate(&self) {
        let mut seen = std::collections::HashSet::new();
        for (list, weight, in_main) in
            [(&self.small, self.small_weight, false), (&self.main, self.main_weight, true)]
        {
            let slots = self.links.oldest_first(list);
            assert_eq!(slots.iter().map(|&slot| self.weight_of(slot)).sum::<u64>(), weight);
            for slot in slots {
                assert!(seen.insert(slot), "slot {slot} is in two queues");
                assert_eq!(self.at[slot as usize] & IN_MAIN != 0, in_main, "slot {slot}");
                let hits = self.hits[slot as usize].load(Relaxed);
                assert!(hits <= HITS_MAX | UNEARNED, "slot {slot}");
                assert!(
                    in_main || hits & UNEARNED == 0,
                    "slot {slot} is in small and owes its place in main"
                );
            }
        }
    }
}
