//! The core and the miniatures against versions that are slow and obvious, with random operations.

use std::collections::HashMap;

use super::arms::{Arm, Ruling};
use super::core::Core;
use super::miniature::{Asked, Bounds, Miniature};
use crate::contract::{Rng, mix};
use crate::ghost::Ghost;
use crate::sketch::{Sketch, print_of};
use crate::weight;

#[derive(Clone, Debug)]
struct Entry {
    slot: u32,
    print: u32,
    weight: u64,
    hits: u8,
    unearned: bool,
}

/// What can be wrong with the rules: the comparison has to see each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    LeadOfOne,
    DuelLost,
    OneHitIsEnough,
    ReturnsUnknown,
    RemovedIsNotNoted,
    HitsOfTheRemovedAreNotPaid,
    AllSpendsOne,
    HitsUncounted,
    SharesByNumber,
    HeaviestForgotten,
    UnearnedStays,
    UnearnedGoesAtOnce,
    RoundEarnsNothing,
}

const FLAWS: [Flaw; 13] = [
    Flaw::LeadOfOne,
    Flaw::DuelLost,
    Flaw::OneHitIsEnough,
    Flaw::ReturnsUnknown,
    Flaw::RemovedIsNotNoted,
    Flaw::HitsOfTheRemovedAreNotPaid,
    Flaw::AllSpendsOne,
    Flaw::HitsUncounted,
    Flaw::SharesByNumber,
    Flaw::HeaviestForgotten,
    Flaw::UnearnedStays,
    Flaw::UnearnedGoesAtOnce,
    Flaw::RoundEarnsNothing,
];

/// The rules over plain vectors, oldest first. Sketch and ghost are the real ones: they have tests of their own.
struct Dull {
    small: Vec<Entry>,
    main: Vec<Entry>,
    sketch: Sketch,
    ghost: Ghost,
    heaviest: u64,
    flaw: Option<Flaw>,
}

impl Dull {
    fn new(flaw: Option<Flaw>) -> Self {
        let (sketch, ghost) = (Sketch::new(0), Ghost::default());
        Self { small: vec![], main: vec![], sketch, ghost, heaviest: 0, flaw }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    fn touch(&mut self, slot: u32) {
        if self.has(Flaw::HitsUncounted) {
            return;
        }
        for entry in self.small.iter_mut().chain(&mut self.main) {
            if entry.slot == slot {
                entry.hits = (entry.hits + 1).min(3);
            }
        }
    }

    fn insert(&mut self, slot: u32, print: u32, weight: u64, arm: Arm) {
        let faded = self.heaviest - self.heaviest.div_ceil(256);
        self.heaviest = if self.has(Flaw::HeaviestForgotten) { weight } else { faded.max(weight) };
        let residents = self.len() + 1;
        self.sketch.fit(residents);
        self.sketch.add(print, 1, residents);
        let was_known = self.ghost.take(print) && !self.has(Flaw::ReturnsUnknown);
        let entry = Entry { slot, print, weight, hits: 0, unearned: arm == Arm::All };
        match arm {
            Arm::All => self.main.push(entry),
            Arm::Twice if was_known => self.main.push(entry),
            _ => self.small.push(entry),
        }
    }

    fn note(&mut self, print: u32, residents: usize) {
        self.ghost.fit(residents);
        self.ghost.note(print, residents - residents / 10);
    }

    fn remove(&mut self, slot: u32) {
        let residents = self.len();
        for in_main in [false, true] {
            let queue = if in_main { &mut self.main } else { &mut self.small };
            if let Some(at) = queue.iter().position(|entry| entry.slot == slot) {
                let entry = queue.remove(at);
                if !self.has(Flaw::HitsOfTheRemovedAreNotPaid) {
                    self.sketch.add(entry.print, entry.hits, residents);
                }
                if in_main && !self.has(Flaw::RemovedIsNotNoted) {
                    self.note(entry.print, residents - 1);
                }
            }
        }
    }

    /// Main's oldest without a hit is brought to the front.
    fn settle_main(&mut self, arm: Arm) {
        let residents = self.len();
        while self.main[0].hits > 0 {
            let mut entry = self.main.remove(0);
            let all = arm == Arm::All && !self.has(Flaw::AllSpendsOne);
            let paid = if all { entry.hits } else { 1 };
            entry.hits -= paid;
            entry.unearned &= self.has(Flaw::RoundEarnsNothing);
            self.sketch.add(entry.print, paid, residents);
            self.main.push(entry);
        }
    }

    /// The oldest of a queue goes on into main, its hits paid.
    fn pass_on(&mut self, from_main: bool, unearned: bool) {
        let residents = self.len();
        let mut entry = if from_main { self.main.remove(0) } else { self.small.remove(0) };
        self.sketch.add(entry.print, std::mem::take(&mut entry.hits), residents);
        self.main.push(Entry { unearned, ..entry });
    }

    fn evict_main(&mut self, arm: Arm) -> u32 {
        self.settle_main(arm);
        self.main.remove(0).slot
    }

    fn evict(&mut self, Ruling { arm, settled }: Ruling) -> Option<u32> {
        let by_number = self.has(Flaw::SharesByNumber);
        let weight = |entry: &Entry| if by_number { 1 } else { entry.weight };
        let sum = |queue: &[Entry]| queue.iter().map(weight).sum::<u64>();
        while !self.small.is_empty() {
            let residents = self.len();
            let (small, total) = (sum(&self.small), sum(&self.small) + sum(&self.main));
            let mean = (total / residents as u64).max(1);
            let (share, lead) = match arm {
                Arm::Lead if self.has(Flaw::LeadOfOne) => (10, 1),
                Arm::Lead => (10, 2),
                Arm::Twice => (100, 0),
                Arm::Duel => (200, 1),
                Arm::All => (0, 0),
            };
            let target = (total * share / 1_000).max(mean);
            if small < target && arm != Arm::All && !self.main.is_empty() {
                return Some(self.evict_main(arm));
            }
            let clears = settled && !self.has(Flaw::UnearnedStays) || self.has(Flaw::UnearnedGoesAtOnce);
            let in_main =
                clears && arm == Arm::Twice && self.main.first().is_some_and(|entry| entry.unearned);
            let oldest = if in_main { self.main[0].clone() } else { self.small[0].clone() };
            let goes_on = match arm {
                Arm::All => oldest.hits >= 1,
                Arm::Twice => oldest.hits >= if self.has(Flaw::OneHitIsEnough) { 1 } else { 2 },
                Arm::Lead | Arm::Duel => small >= target + self.heaviest.saturating_sub(mean) + oldest.weight,
            };
            if goes_on {
                self.pass_on(in_main, lead > 0);
                continue;
            }
            if lead > 0 {
                self.sketch.add(oldest.print, oldest.hits, residents);
                self.small[0].hits = 0;
                if !self.main.is_empty() {
                    self.settle_main(arm);
                    let resident = self.sketch.count(self.main[0].print);
                    if self.sketch.count(oldest.print) >= resident + lead && !self.has(Flaw::DuelLost) {
                        self.pass_on(false, false);
                        return Some(self.main.remove(0).slot);
                    }
                }
            }
            self.note(oldest.print, residents);
            let queue = if in_main { &mut self.main } else { &mut self.small };
            return Some(queue.remove(0).slot);
        }
        (!self.main.is_empty()).then(|| self.evict_main(arm))
    }
}

fn print(slot: u32) -> u32 {
    print_of(mix(u64::from(slot) + 1))
}

/// Low numbers come more often.
fn skewed(rng: &mut Rng, below: u64) -> u32 {
    (rng.below(below) * rng.below(below) / below) as u32
}

/// Replays random operations on the core and on the dull version; the step at which they name different victims.
fn first_difference(seed: u64, flaw: Option<Flaw>) -> Option<usize> {
    let mut rng = Rng::new(seed);
    let (mut core, mut dull) = (Core::new(0), Dull::new(flaw));
    let mut residents: Vec<u32> = Vec::new();
    // Seeds below 4 stay with an arm, the others change it now and then; odd ones have weights.
    let mut ruling = Ruling { arm: Arm::of_index(seed as usize), settled: true };
    for step in 0..20_000 {
        if seed >= 4 && rng.below(200) == 0 {
            ruling = Ruling::of_code(rng.below(8) as u8);
        }
        let slot = skewed(&mut rng, 120);
        let at = residents.iter().position(|&other| other == slot);
        match at {
            Some(at) if rng.below(30) == 0 => {
                core.removed(slot, print(slot));
                dull.remove(slot);
                residents.remove(at);
            }
            Some(_) => {
                core.touched(slot);
                dull.touch(slot);
            }
            None => {
                if residents.len() == 40 {
                    let victim = core.evict(ruling, print);
                    if dull.evict(ruling) != victim {
                        return Some(step);
                    }
                    residents.retain(|&other| Some(other) != victim);
                }
                let weight = if seed % 2 == 1 { 1 << (slot % 9) } else { 1 };
                core.inserted(slot, print(slot), weight, ruling.arm);
                dull.insert(slot, print(slot), u64::from(weight), ruling.arm);
                residents.push(slot);
            }
        }
        assert_eq!((core.len(), dull.len()), (residents.len(), residents.len()));
        // Slow, and the control is after other things.
        if flaw.is_none() && step % 4 == 0 {
            core.validate();
        }
    }
    None
}

#[test]
fn the_core_names_the_victims_of_the_dull_version_under_every_arm() {
    for seed in 0..8 {
        assert_eq!(first_difference(seed, None), None, "seed {seed}");
    }
}

/// The control of the test above: with any one rule wrong the two part.
#[test]
fn a_core_with_a_flaw_is_told_from_the_dull_version() {
    for flaw in FLAWS {
        let found = (0..8).rev().any(|seed| first_difference(seed, Some(flaw)).is_some());
        assert!(found, "{flaw:?} makes no difference that is seen");
    }
}

/// A core with a map of keys.
struct DullCache {
    core: Core,
    arm: Arm,
    bounds: Bounds,
    /// Slot, weight and deadline.
    held: HashMap<u32, (u32, u64, u64)>,
    free: Vec<u32>,
}

impl DullCache {
    fn access(&mut self, asked: Asked, now: u64) -> bool {
        let Asked { print, code, deadline } = asked;
        match self.held.get(&print) {
            Some(&(slot, _, deadline)) if now < deadline => {
                self.core.touched(slot);
                return true;
            }
            Some(_) => self.remove(print),
            None => {}
        }
        let weight = weight::of_code(code);
        if weight > self.bounds.weight {
            return false;
        }
        let full = |held: &HashMap<u32, (u32, u64, u64)>| {
            held.len() >= self.bounds.entries
                || held.values().map(|&(_, weight, _)| weight).sum::<u64>() + weight > self.bounds.weight
        };
        while full(&self.held) {
            let prints: HashMap<u32, u32> = self.held.iter().map(|(&print, held)| (held.0, print)).collect();
            let victim =
                self.core.evict(Ruling { arm: self.arm, settled: true }, |slot| prints[&slot]).expect("full");
            self.held.remove(&prints[&victim]);
            self.free.push(victim);
        }
        let slot = self.free.pop().unwrap_or(self.held.len() as u32);
        self.core.inserted(slot, print, weight as u32, self.arm);
        self.held.insert(print, (slot, weight, deadline));
        false
    }

    fn remove(&mut self, print: u32) {
        if let Some((slot, ..)) = self.held.remove(&print) {
            self.core.removed(slot, print);
            self.free.push(slot);
        }
    }
}

#[test]
fn a_miniature_hits_where_the_dull_version_does() {
    for arm in Arm::ALL {
        for weight_max in [u64::MAX, 200] {
            let mut rng = Rng::new(7);
            let mut bounds = Bounds { entries: 30, weight: weight_max };
            let mut miniature = Miniature::new(arm, bounds);
            let (held, free) = (HashMap::new(), Vec::new());
            let mut dull = DullCache { core: Core::new(30), arm, bounds, held, free };
            for now in 0..8_000 {
                let key = skewed(&mut rng, 100);
                // Weights differ by key; one key is heavier than all room.
                let code = if key == 99 { 60 } else { weight::code(key % 13) };
                let asked = Asked { print: print(key), code, deadline: now + 1 + rng.below(400) };
                match rng.below(40) {
                    0 => {
                        miniature.remove(asked.print);
                        dull.remove(asked.print);
                    }
                    1 if rng.below(20) == 0 => {
                        bounds.entries += 1;
                        miniature.resize(bounds);
                        dull.bounds = bounds;
                    }
                    _ => assert_eq!(
                        miniature.access(asked, now),
                        dull.access(asked, now),
                        "{arm:?}, step {now}"
                    ),
                }
                miniature.validate();
            }
        }
    }
}
