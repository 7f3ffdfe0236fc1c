//! The tuner: four miniatures on sampled keys, and the judge over them.
//!
//! Only keys whose hash falls into one of 2^k classes are looked at, in caches smaller by the same factor:
//! Waldspurger, Saemundsson, Ahmad and Park, "Cache Modeling and Optimization using Miniature Simulations",
//! USENIX ATC 2017. All four see the same sample, so their differences are far less noisy than their hit
//! ratios.

use super::arms::Arm;
use super::miniature::Miniature;

/// A miniature has so many entries, and less than twice as many.
const MINIATURE_MIN: usize = 256;
/// Sampled accesses in an epoch, at least.
const EPOCH_MIN: usize = 64;
/// What is left of scores and their weight after an epoch.
const MEMORY: f64 = 0.9;
/// The lead that an arm needs, in units of the square root of the samples behind the scores.
const MARGIN: f64 = 0.5;
/// The bar rises by this factor with each change …
const BAR_RISES: f64 = 1.5;
const BAR_MAX: f64 = 4.0;
/// … and comes back to 1 by this one with each quiet epoch.
const BAR_FALLS: f64 = 0.98;

/// Which hashes are looked at: those whose bits from 12 on are zero under the mask.
pub(super) const SAMPLE_SHIFT: u32 = 12;

/// Decides which arm rules.
#[derive(Debug)]
pub(super) struct Tuner {
    miniatures: [Miniature; 4],
    scores: [f64; 4],
    weight: f64,
    bar: f64,
    seen: usize,
    arm: usize,
    entries_max: usize,
    halvings: u32,
}

fn halvings_for(entries_max: usize) -> u32 {
    (entries_max / MINIATURE_MIN).max(1).ilog2()
}

impl Tuner {
    pub(super) fn new(entries_max: usize) -> Self {
        let halvings = halvings_for(entries_max);
        Self {
            miniatures: Arm::ALL.map(|arm| Miniature::new(arm, entries_max >> halvings)),
            scores: [0.0; 4],
            weight: 0.0,
            bar: 1.0,
            seen: 0,
            arm: Arm::START as usize,
            entries_max,
            halvings,
        }
    }

    /// Over the bits of a hash from [`SAMPLE_SHIFT`] on.
    pub(super) fn mask(&self) -> u64 {
        (1 << self.halvings) - 1
    }

    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// The cache turned out to be of another size. Miniatures of another sampling rate start empty; what was
    /// learned stays.
    pub(super) fn resize(&mut self, entries_max: usize) {
        let halvings = halvings_for(entries_max);
        self.entries_max = entries_max;
        for (arm, miniature) in Arm::ALL.into_iter().zip(&mut self.miniatures) {
            if halvings == self.halvings {
                miniature.resize(entries_max >> halvings);
            } else {
                *miniature = Miniature::new(arm, entries_max >> halvings);
            }
        }
        self.halvings = halvings;
    }

    /// The arm that rules.
    pub(super) fn arm(&self) -> Arm {
        Arm::of_index(self.arm)
    }

    pub(super) fn remove(&mut self, print: u32) {
        self.miniatures.iter_mut().for_each(|miniature| miniature.remove(print));
    }

    pub(super) fn access(&mut self, print: u32) {
        for (score, miniature) in self.scores.iter_mut().zip(&mut self.miniatures) {
            *score += f64::from(u8::from(miniature.access(print)));
        }
        self.seen += 1;
        if self.seen >= ((self.entries_max >> self.halvings) / 2).max(EPOCH_MIN) {
            self.judge();
        }
    }

    fn judge(&mut self) {
        self.weight += self.seen as f64;
        self.seen = 0;
        let mut best = self.arm;
        for arm in 0..4 {
            if self.scores[arm] > self.scores[best] {
                best = arm;
            }
        }
        if self.scores[best] > self.scores[self.arm] + MARGIN * self.bar * self.weight.sqrt() {
            self.arm = best;
            self.bar = (self.bar * BAR_RISES).min(BAR_MAX);
        } else {
            self.bar = 1.0 + (self.bar - 1.0) * BAR_FALLS;
        }
        self.scores = self.scores.map(|score| score * MEMORY);
        self.weight *= MEMORY;
    }
}
