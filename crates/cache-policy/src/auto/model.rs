//! The core and the miniatures against versions that are slow and obvious, with random operations.

use std::collections::HashMap;

use super::arms::Arm;
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
}

/// The rules over plain vectors, oldest first. Sketch and ghost are the real ones: they have tests of their own.
struct Dull {
    small: Vec<Entry>,
    main: Vec<Entry>,
    sketch: Sketch,
    ghost: Ghost,
    heaviest: u64,
}

impl Dull {
    fn new() -> Self {
        Self { small: vec![], main: vec![], sketch: Sketch::new(0), ghost: Ghost::default(), heaviest: 0 }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    fn touch(&mut self, slot: u32) {
        for entry in self.small.iter_mut().chain(&mut self.main) {
            if entry.slot == slot {
                entry.hits = (entry.hits + 1).min(3);
            }
        }
    }

    fn insert(&mut self, slot: u32, print: u32, weight: u64, arm: Arm) {
        self.heaviest = (self.heaviest - self.heaviest.div_ceil(256)).max(weight);
        let residents = self.len() + 1;
        self.sketch.fit(residents);
        self.sketch.add(print, 1, residents);
        let was_known = self.ghost.take(print);
        let entry = Entry { slot, print, weight, hits: 0 };
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
                self.sketch.add(entry.print, entry.hits, residents);
                if in_main {
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
            let paid = if arm == Arm::All { entry.hits } else { 1 };
            entry.hits -= paid;
            self.sketch.add(entry.print, paid, residents);
            self.main.push(entry);
        }
    }

    /// The oldest of small goes on into main, its hits paid.
    fn pass_on(&mut self) {
        let residents = self.len();
        let mut entry = self.small.remove(0);
        self.sketch.add(entry.print, std::mem::take(&mut entry.hits), residents);
        self.main.push(entry);
    }

    fn evict_main(&mut self, arm: Arm) -> u32 {
        self.settle_main(arm);
        self.main.remove(0).slot
    }

    fn evict(&mut self, arm: Arm) -> Option<u32> {
        let sum = |queue: &[Entry]| queue.iter().map(|entry| entry.weight).sum::<u64>();
        while !self.small.is_empty() {
            let residents = self.len();
            let (small, total) = (sum(&self.small), sum(&self.small) + sum(&self.main));
            let mean = (total / residents as u64).max(1);
            let (share, lead) = match arm {
                Arm::Lead => (10, 2),
                Arm::Twice => (100, 0),
                Arm::Duel => (200, 1),
                Arm::All => (0, 0),
            };
            let target = (total * share / 1_000).max(mean);
            if small < target && arm != Arm::All && !self.main.is_empty() {
                return Some(self.evict_main(arm));
            }
            let oldest = self.small[0].clone();
            let goes_on = match arm {
                Arm::All => oldest.hits >= 1,
                Arm::Twice => oldest.hits >= 2,
                Arm::Lead | Arm::Duel => small >= target + self.heaviest.saturating_sub(mean) + oldest.weight,
            };
            if goes_on {
                self.pass_on();
                continue;
            }
            if lead > 0 {
                self.sketch.add(oldest.print, oldest.hits, residents);
                self.small[0].hits = 0;
                if !self.main.is_empty() {
                    self.settle_main(arm);
                    let resident = self.sketch.count(self.main[0].print);
                    if self.sketch.count(oldest.print) >= resident + lead {
                        self.pass_on();
                        return Some(self.main.remove(0).slot);
                    }
                }
            }
            self.note(oldest.print, residents);
            return Some(self.small.remove(0).slot);
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

#[test]
fn the_core_names_the_victims_of_the_dull_version_under_every_arm() {
    for seed in 0..8 {
        let mut rng = Rng::new(seed);
        let (mut core, mut dull) = (Core::new(0), Dull::new());
        let mut residents: Vec<u32> = Vec::new();
        // Seeds below 4 stay with an arm, the others change it now and then; odd ones have weights.
        let mut arm = Arm::of_index(seed as usize);
        for step in 0..20_000 {
            if seed >= 4 && rng.below(200) == 0 {
                arm = Arm::of_index(rng.below(4) as usize);
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
                        let victim = dull.evict(arm);
                        assert_eq!(core.evict(arm, print), victim, "seed {seed}, step {step}, {arm:?}");
                        residents.retain(|&other| Some(other) != victim);
                    }
                    let weight = if seed % 2 == 1 { 1 << (slot % 9) } else { 1 };
                    core.inserted(slot, print(slot), weight, arm);
                    dull.insert(slot, print(slot), u64::from(weight), arm);
                    residents.push(slot);
                }
            }
            assert_eq!((core.len(), dull.len()), (residents.len(), residents.len()));
            core.validate();
        }
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
            let victim = self.core.evict(self.arm, |slot| prints[&slot]).expect("full");
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
