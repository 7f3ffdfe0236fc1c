//! The tuner: four miniatures on sampled keys, and the judge over them.
//!
//! Only keys whose hash falls into one of 2^k classes are looked at, in caches smaller by the same factor:
//! Waldspurger, Saemundsson, Ahmad and Park, "Cache Modeling and Optimization using Miniature Simulations",
//! USENIX ATC 2017. All four see the same sample. Two arms are compared over the accesses on which they differ
//! only (McNemar, "Note on the Sampling Error of the Difference Between Correlated Proportions or
//! Percentages", Psychometrika 1947): a lead counts if it is large against the root of their number.
//!
//! A miniature has lived under its arm from birth, while the real cache took over what another arm left in its
//! queues and may be unable to come to the same place. So the arm that rules must keep what its miniature
//! promises, else it is barred for a while, in favour of one that promises more than what was kept.
//!
//! What cannot be undone waits for more evidence than a change of rules: see [`Ruling`].

use super::arms::{Arm, Ruling};
use super::miniature::{Asked, Bounds, Miniature};

/// A miniature has so many entries, and less than twice as many …
const MINIATURE_MIN: usize = 256;
/// … but one key in 2^5 is looked at, at least: a large cache has few requests for each entry before it is full, and
/// a miniature of a sample ten times smaller would still be learning when the time to choose has come.
const HALVINGS_MAX: u32 = 5;
/// Parts of a miniature's entries that are the sampled accesses between two looks …
const LOOKS_PER_MINIATURE: usize = 16;
/// … of which there are so many, at least.
const LOOK_MIN: usize = 16;
/// What is left of the outcomes after a look.
const MEMORY: f32 = 0.992;
/// The lead that an arm needs, in roots of the number of accesses on which it differs from the one that rules.
const MARGIN: f32 = 2.0;
/// The bar rises by this factor with each change …
const BAR_RISES: f32 = 1.5;
const BAR_MAX: f32 = 4.0;
/// … and comes back to 1 by this one with each quiet look. Without it, phases of a loop would make two good arms
/// alternate.
const BAR_FALLS: f32 = 0.9975;

/// An arm that took over has so many sampled accesses for each entry of a miniature to come to where its
/// miniature is …
const PATIENCE: usize = 4;
/// … and is barred for so many looks if it then has not half of the hits that its miniature promises, of
/// which there must be some.
const BARRED_LOOKS: u16 = 2_048;
const PROMISED_MIN: f32 = 64.0;
/// `All` throws out what every other arm keeps longer, so of two that do about equally well it is the one to regret:
/// it must be ahead by so many hits for each entry of a miniature, and loses to who is not that much behind.
const REGRET: f32 = 1.0 / 32.0;
/// An arm is settled with so many more hits for each entry of a miniature than the one that ruled at the start.
const SETTLED_LEAD: f32 = 1.0 / 8.0;

/// Which hashes are looked at: those whose bits from here on are zero under the mask.
pub(super) const SAMPLE_SHIFT: u32 = 12;

/// Decides which arm rules.
#[derive(Debug)]
pub(super) struct Tuner {
    miniatures: [Miniature; 4],
    /// How often each combination of hits came, of late: bit a of the index = a hit under arm a.
    outcomes: [f32; 16],
    bar: f32,
    seen: usize,
    /// Sampled accesses since the last change.
    ruled: usize,
    /// Hits of its miniature since, and hits of the cache, of late.
    promised: f32,
    kept: f32,
    /// By arm: looks until it may rule again.
    barred: [u16; 4],
    arm: Arm,
    entries_max: usize,
    /// The bound is this weight, not the number of entries.
    weight_max: Option<u64>,
    halvings: u32,
    /// The latest time that was heard of.
    now: u64,
    /// The deadline of the newcomer seen last, a draw from those that newcomers have.
    last_deadline: u64,
}

fn halvings_for(entries_max: usize) -> u32 {
    (entries_max / MINIATURE_MIN).max(1).ilog2().min(HALVINGS_MAX)
}

/// A bound by weight may be met with more entries than expected; so many times as many are enough.
const LIGHTER_MAX: usize = 2;

impl Tuner {
    pub(super) fn new(entries_max: usize) -> Self {
        let halvings = halvings_for(entries_max);
        let bounds = Bounds { entries: entries_max >> halvings, weight: u64::MAX };
        Self {
            miniatures: Arm::ALL.map(|arm| Miniature::new(arm, bounds)),
            outcomes: [0.0; 16],
            bar: 1.0,
            seen: 0,
            ruled: 0,
            promised: 0.0,
            kept: 0.0,
            barred: [0; 4],
            arm: Arm::START,
            entries_max,
            weight_max: None,
            halvings,
            now: 0,
            last_deadline: u64::MAX,
        }
    }

    /// Over the bits of a hash from [`SAMPLE_SHIFT`] on.
    pub(super) fn mask(&self) -> u64 {
        (1 << self.halvings) - 1
    }

    #[cfg(test)]
    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// The cache turned out to be of another size, or bound by weight. Miniatures of another sampling rate start
    /// empty; the arm and what was learned stay.
    pub(super) fn resize(&mut self, entries_max: usize, weight_max: Option<u64>) {
        if !differ(self.entries_max as u64, entries_max as u64)
            && self.weight_max.is_some() == weight_max.is_some()
            && !differ(self.weight_max.unwrap_or(0), weight_max.unwrap_or(0))
        {
            return;
        }
        let halvings = halvings_for(entries_max);
        let entries = entries_max >> halvings;
        let bounds = match weight_max {
            None => Bounds { entries, weight: u64::MAX },
            Some(weight) => Bounds { entries: entries * LIGHTER_MAX, weight: (weight >> halvings).max(1) },
        };
        for (arm, miniature) in Arm::ALL.into_iter().zip(&mut self.miniatures) {
            if halvings == self.halvings {
                miniature.resize(bounds);
            } else {
                *miniature = Miniature::new(arm, bounds);
            }
        }
        (self.entries_max, self.weight_max, self.halvings) = (entries_max, weight_max, halvings);
    }

    /// It is that late at least.
    pub(super) fn tell_time(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The arm that rules, and how sure that is.
    pub(super) fn ruling(&self) -> Ruling {
        let start = Arm::START;
        let lead = self.hits_without(self.arm, start) - self.hits_without(start, self.arm);
        Ruling { arm: self.arm, settled: lead > SETTLED_LEAD * self.entries() as f32 }
    }

    /// Of a miniature.
    fn entries(&self) -> usize {
        self.entries_max >> self.halvings
    }

    /// A sampled key left the real cache for another reason than eviction, so no arm would have kept it.
    pub(super) fn remove(&mut self, print: u32) {
        self.miniatures.iter_mut().for_each(|miniature| miniature.remove(print));
    }

    /// A sampled access that was a hit in the real cache; the weight by its code. Whose miniature has not got it takes
    /// it in, with a deadline as newcomers have it.
    pub(super) fn hit(&mut self, print: u32, code: u8) {
        self.access(Asked { print, code, deadline: self.last_deadline }, true);
    }

    /// A sampled access that brought a newcomer to the real cache.
    pub(super) fn miss(&mut self, asked: Asked) {
        self.last_deadline = asked.deadline;
        self.access(asked, false);
    }

    fn access(&mut self, asked: Asked, was_hit: bool) {
        let mut hits = 0;
        for (arm, miniature) in self.miniatures.iter_mut().enumerate() {
            hits |= usize::from(miniature.access(asked, self.now)) << arm;
        }
        self.ruled += 1;
        self.promised += f32::from(u8::from(hits >> (self.arm as usize) & 1 == 1));
        self.kept += f32::from(u8::from(was_hit));
        self.outcomes[hits] += 1.0;
        self.seen += 1;
        if self.seen >= (self.entries() / LOOKS_PER_MINIATURE).max(LOOK_MIN) {
            self.seen = 0;
            self.look();
        }
    }

    fn look(&mut self) {
        self.barred = self.barred.map(|looks| looks.saturating_sub(1));
        let broken = self.ruled > PATIENCE * self.entries()
            && self.promised > PROMISED_MIN
            && self.kept < self.promised / 2.0;
        // Of the hits that the arm's miniature had of late, the cache had so many.
        let kept = self.hits_of(self.arm) * self.kept / self.promised.max(1.0);
        let (mut best, mut best_lead) = (self.arm, if broken { f32::NEG_INFINITY } else { 0.0 });
        for arm in Arm::ALL {
            if arm == self.arm || self.barred[arm as usize] > 0 {
                continue;
            }
            let (wins, losses) = (self.hits_without(arm, self.arm), self.hits_without(self.arm, arm));
            let lead = wins - losses + self.regret(self.arm) - self.regret(arm);
            let is_better = match broken {
                true => self.hits_of(arm) > kept,
                false => lead > MARGIN * self.bar * (wins + losses).sqrt(),
            };
            if is_better && lead > best_lead {
                (best, best_lead) = (arm, lead);
            }
        }
        if broken && best != self.arm {
            self.barred[self.arm as usize] = BARRED_LOOKS;
        }
        if best == self.arm {
            self.bar = 1.0 + (self.bar - 1.0) * BAR_FALLS;
        } else {
            self.arm = best;
            (self.ruled, self.promised, self.kept) = (0, 0.0, 0.0);
            self.bar = (self.bar * BAR_RISES).min(BAR_MAX);
        }
        self.outcomes = self.outcomes.map(|count| count * MEMORY);
        (self.promised, self.kept) = (self.promised * MEMORY, self.kept * MEMORY);
    }

    /// Hits that an arm's lead must have beyond what others need.
    fn regret(&self, arm: Arm) -> f32 {
        if arm == Arm::All { REGRET * self.entries() as f32 } else { 0.0 }
    }

    /// How often an arm had a hit, of late.
    fn hits_of(&self, arm: Arm) -> f32 {
        let counted = self.outcomes.iter().enumerate();
        counted.filter(|&(hits, _)| (hits >> (arm as usize)) & 1 == 1).map(|(_, count)| count).sum()
    }

    /// How often any arm had a hit, of late.
    #[cfg(test)]
    pub(super) fn hits(&self) -> f32 {
        self.outcomes[1..].iter().sum()
    }

    /// How often the one had a hit and the other had not.
    fn hits_without(&self, one: Arm, other: Arm) -> f32 {
        let has = |hits: usize, arm: Arm| (hits >> (arm as usize)) & 1 == 1;
        let counted = self.outcomes.iter().enumerate();
        counted.filter(|&(hits, _)| has(hits, one) && !has(hits, other)).map(|(_, count)| count).sum()
    }
}

/// By more than an eighth.
fn differ(one: u64, other: u64) -> bool {
    one.abs_diff(other) > one / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::mix;
    use crate::sketch::print_of;

    fn ask(tuner: &mut Tuner, keys: std::ops::Range<u64>) {
        keys.for_each(|key| tuner.hit(print_of(mix(key)), 1));
    }

    #[test]
    fn a_removed_key_is_a_miss_for_every_arm() {
        let mut tuner = Tuner::new(300);
        ask(&mut tuner, 0..100);
        (0..100).for_each(|key| tuner.remove(print_of(mix(key))));
        ask(&mut tuner, 0..100);
        assert_eq!(tuner.hits(), 0.0);
        ask(&mut tuner, 0..100);
        assert!(tuner.hits() > 90.0);
    }

    #[test]
    fn a_key_past_its_deadline_is_a_miss_for_every_arm() {
        let mut tuner = Tuner::new(300);
        let miss = |tuner: &mut Tuner, deadline| {
            (0..100).for_each(|key| tuner.miss(Asked { print: print_of(mix(key)), code: 1, deadline }));
        };
        tuner.tell_time(5);
        miss(&mut tuner, 10);
        tuner.tell_time(10);
        miss(&mut tuner, 20);
        assert_eq!(tuner.hits(), 0.0);
        tuner.tell_time(19);
        ask(&mut tuner, 0..100);
        assert!(tuner.hits() > 90.0);
        // Who comes in by a hit of the real cache lives as long as newcomers do.
        ask(&mut tuner, 100..101);
        tuner.tell_time(20);
        let before = tuner.hits();
        ask(&mut tuner, 100..101);
        assert!(tuner.hits() <= before);
    }

    #[test]
    fn a_bound_by_weight_holds_fewer_of_the_heavy_ones() {
        let mut tuner = Tuner::new(300);
        tuner.resize(300, Some(300 * 8));
        let heavy = crate::weight::code(32);
        for key in 0..300 {
            tuner.hit(print_of(mix(key)), heavy);
            tuner.miniatures.iter().for_each(Miniature::validate);
        }
        for miniature in &mut tuner.miniatures {
            let held = (0..300).filter(|&key| {
                let asked = Asked { print: print_of(mix(key)), code: heavy, deadline: u64::MAX };
                miniature.access(asked, 0)
            });
            assert!(held.count() <= 300 / 4);
        }
    }

    #[test]
    fn the_sampling_rate_follows_the_size_and_what_was_learned_stays() {
        let mut tuner = Tuner::new(1 << 20);
        assert_eq!(tuner.mask(), (1 << 5) - 1);
        tuner.arm = Arm::Duel;
        tuner.resize(300, None);
        assert_eq!((tuner.mask(), tuner.ruling().arm), (0, Arm::Duel));
        ask(&mut tuner, 0..1_000);
        tuner.resize(200, None);
        ask(&mut tuner, 0..1_000);
        assert_eq!(tuner.mask(), 0);
    }

    /// So many sampled accesses, of which each was a hit under these arms and in no other.
    fn outcome(tuner: &mut Tuner, arms: &[Arm], times: usize) {
        let hits: usize = arms.iter().map(|&arm| 1 << arm as usize).sum();
        tuner.outcomes[hits] += times as f32;
    }

    #[test]
    fn of_two_arms_that_do_equally_well_the_one_that_throws_out_more_is_not_taken() {
        let mut tuner = Tuner::new(300);
        outcome(&mut tuner, &[Arm::Twice, Arm::All], 1_000);
        outcome(&mut tuner, &[Arm::All], 5);
        tuner.look();
        assert_eq!(tuner.ruling().arm, Arm::Twice);
        outcome(&mut tuner, &[Arm::All], 300);
        tuner.look();
        assert_eq!(tuner.ruling().arm, Arm::All, "clearly better");
    }

    #[test]
    fn what_cannot_be_undone_waits_until_an_arm_has_won_more_than_a_change_needs() {
        let mut tuner = Tuner::new(300);
        outcome(&mut tuner, &[Arm::Twice], 20);
        tuner.look();
        assert_eq!(tuner.ruling(), Ruling { arm: Arm::Twice, settled: false });
        outcome(&mut tuner, &[Arm::Twice], 30);
        assert!(tuner.ruling().settled);
    }

    /// It has 200 of the 1,000 hits that its miniature promises.
    fn broken() -> Tuner {
        let mut tuner = Tuner::new(300);
        outcome(&mut tuner, &[Arm::Lead], 1_000);
        (tuner.ruled, tuner.promised, tuner.kept) = (usize::MAX, 1_000.0, 200.0);
        tuner
    }

    #[test]
    fn an_arm_that_breaks_its_promise_is_left_for_one_that_promises_more_than_was_kept() {
        let mut tuner = broken();
        outcome(&mut tuner, &[Arm::Duel], 100);
        tuner.look();
        assert_eq!(tuner.ruling().arm, Arm::Lead, "the other promises even less than was kept");
        let mut tuner = broken();
        outcome(&mut tuner, &[Arm::Duel], 300);
        tuner.look();
        assert_eq!(tuner.ruling().arm, Arm::Duel);
        outcome(&mut tuner, &[Arm::Lead], 5_000);
        tuner.look();
        assert_eq!(tuner.ruling().arm, Arm::Duel, "barred for a while");
    }
}
