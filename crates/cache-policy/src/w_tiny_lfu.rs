//! W-TinyLFU: Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM
//! Transactions on Storage 2017; the window that adapts: Einziger, Eytan, Friedman and Manes, "Adaptive
//! Software Cache Management", Middleware 2018.
//!
//! Newcomers go into a *window*, an LRU list. Who falls out of it meets the victim of the main part: the one
//! that a sketch saw clearly more often of late stays. Main is a segmented LRU: newcomers are on *probation*, a hit
//! makes them *protected* (three fifths of main; with the paper's four, who comes into main has little time to
//! be hit), and the oldest protected fall back on probation.
//!
//! How large the window should be depends on the traffic: large for recency, small for frequency. Hill
//! climbing finds it: a step is tried for a sample of accesses, and kept if hits became more; then the next one
//! follows at once in the same direction. Else it is taken back, and the next one goes the other way. Beyond the
//! paper, which steps at every sample: after a step in vain it waits, each time twice as long, for on loops and
//! steady traffic each step in vain costs hits. A great change of the hit ratio ends the wait.
//!
//! Hits wait in a buffer for the exclusive lock, as in [`Lru`](crate::Lru). Shares are by weight.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::hit_buffer::HitBuffer;
use crate::list::{Ends, Links};
use crate::sketch::{Sketch, print_of};
use crate::{Newcomer, Policy, Residents, Touch, weight};

/// Parts of a thousand that the window has at the start.
const WINDOW_START: f64 = 10.0;
/// And at most: main is not given up.
const WINDOW_MAX: f64 = 800.0;
/// A step, in parts of a thousand.
const STEP: f64 = 62.5;
/// The share of a new difference between samples in their mean.
const NOISE_SHARE: f64 = 0.25;
/// Samples between steps that were in vain, at most.
const WAIT_MAX: u32 = 64;
/// A change of the hit ratio by so much ends the wait.
const RESTART: f64 = 0.05;
/// Accesses in a sample for each resident.
const SAMPLE_PER_RESIDENT: usize = 10;
/// Residents that a sample is sized for at least.
const SAMPLE_RESIDENTS_MIN: usize = 64;

const QUEUES: usize = 3;
const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    queue: u8,
    code: u8,
}

/// Evicts what was asked for less than what would take its place.
#[derive(Debug)]
pub struct WTinyLfu {
    links: Links,
    /// Window, probation, protected.
    queues: [Ends; QUEUES],
    weights: [u64; QUEUES],
    /// By slot.
    places: Vec<Place>,
    sketch: Sketch,
    buffer: HitBuffer,
    climber: Climber,
    /// Hits that the buffer had no room for; the climber must not take them for misses.
    lost: AtomicU32,
}

impl WTinyLfu {
    /// An empty policy; the hint saves growing.
    pub fn new(capacity_hint: usize) -> Self {
        Self {
            links: Links::new(capacity_hint),
            queues: [Ends::EMPTY; QUEUES],
            weights: [0; QUEUES],
            places: Vec::with_capacity(capacity_hint),
            sketch: Sketch::new(capacity_hint),
            buffer: HitBuffer::new(),
            climber: Climber::default(),
            lost: AtomicU32::new(0),
        }
    }

    fn push(&mut self, slot: u32, queue: usize) {
        let place = &mut self.places[slot as usize];
        place.queue = queue as u8;
        self.weights[queue] += weight::of_code(place.code);
        self.links.push_head(&mut self.queues[queue], slot);
    }

    fn unlink(&mut self, slot: u32) {
        let Place { queue, code } = self.places[slot as usize];
        let queue = usize::from(queue);
        self.weights[queue] -= weight::of_code(code);
        self.links.unlink(&mut self.queues[queue], slot);
    }

    fn move_to(&mut self, slot: u32, queue: usize) {
        self.unlink(slot);
        self.push(slot, queue);
    }

    fn weight(&self) -> u64 {
        self.weights.iter().sum()
    }

    /// The window's share, one entry at least.
    fn window_target(&self) -> u64 {
        let mean = self.weight() / self.residents().max(1) as u64;
        ((self.weight() as f64 * self.climber.window / 1_000.0) as u64).max(mean)
    }

    fn hit(&mut self, slot: u32, print: u32) {
        let residents = self.residents();
        self.sketch.add(print, 1, residents);
        if !self.links.contains(slot) {
            return;
        }
        match usize::from(self.places[slot as usize].queue) {
            PROBATION => {
                self.move_to(slot, PROTECTED);
                let main = self.weights[PROBATION] + self.weights[PROTECTED];
                while self.weights[PROTECTED] > main / 5 * 3 && self.queues[PROTECTED].len > 1 {
                    self.move_to(self.queues[PROTECTED].tail, PROBATION);
                }
            }
            queue => self.links.move_to_head(&mut self.queues[queue], slot),
        }
    }

    /// Whom main would give up first.
    fn main_victim(&self) -> Option<u32> {
        let first = [PROBATION, PROTECTED].into_iter().find(|&queue| self.queues[queue].len > 0)?;
        Some(self.queues[first].tail)
    }
}

impl Policy for WTinyLfu {
    #[inline]
    fn touched(&self, slot: u32, hash: u64, mark: u8) -> Touch {
        let buffered = self.buffer.len();
        let tend = self.buffer.push(buffered, slot, print_of(hash));
        if buffered >= crate::hit_buffer::BUFFERED_HITS_MAX {
            self.lost.store(self.lost.load(Relaxed).saturating_add(1), Relaxed);
        }
        Touch { mark, tend }
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        self.tend();
        if self.links.contains(slot) {
            self.unlink(slot);
        }
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, Place::default());
        }
        self.places[index].code = weight::code(newcomer.weight);
        self.push(slot, WINDOW);
        let residents = self.residents();
        self.sketch.fit(residents);
        self.sketch.add(print_of(newcomer.hash), 1, residents);
        self.climber.count(0, 1, residents);
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        self.tend();
        if self.links.contains(slot) {
            self.unlink(slot);
        }
    }

    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        self.tend();
        let target = self.window_target();
        let victim = loop {
            let candidate = self.queues[WINDOW].tail;
            if self.weights[WINDOW] < target || self.queues[WINDOW].len == 0 {
                break self.main_victim().or((self.queues[WINDOW].len > 0).then_some(candidate))?;
            }
            let own = weight::of_code(self.places[candidate as usize].code);
            if self.weights[WINDOW] >= target + own {
                // Main has not its share yet (the first filling, or the window shrank): nobody has to leave it.
                self.move_to(candidate, PROBATION);
                continue;
            }
            let Some(resident) = self.main_victim() else { break candidate };
            let count = |slot: u32| self.sketch.count(print_of(residents.hash(slot)));
            // The candidate's count holds the access that brought it, the resident's not yet its next.
            if count(candidate) > count(resident) + 1 {
                self.move_to(candidate, PROBATION);
                break resident;
            }
            break candidate;
        };
        self.unlink(victim);
        Some(victim)
    }

    fn tend(&mut self) {
        let mut hits = self.buffer.take();
        for index in 0..hits {
            let (slot, print) = self.buffer.get(index);
            self.hit(slot, print);
        }
        hits += std::mem::take(self.lost.get_mut()) as usize;
        let residents = self.residents();
        self.climber.count(hits, 0, residents);
    }

    fn residents(&self) -> usize {
        self.queues.iter().map(|queue| queue.len).sum()
    }
}

/// Climbs towards the window with the most hits.
#[derive(Debug)]
struct Climber {
    /// Parts of a thousand of the weight.
    window: f64,
    /// Where the step that is being tried came from.
    tried_from: Option<f64>,
    /// 1 or -1.
    direction: f64,
    /// Samples until the next step is tried, and how many it will be after one in vain.
    wait: u32,
    next_wait: u32,
    /// How much the ratio of late differed from sample to sample without a step.
    noise: f64,
    hits: usize,
    misses: usize,
    last_ratio: Option<f64>,
}

impl Default for Climber {
    fn default() -> Self {
        Self {
            window: WINDOW_START,
            tried_from: None,
            direction: 1.0,
            wait: 0,
            next_wait: 1,
            noise: 0.0,
            hits: 0,
            misses: 0,
            last_ratio: None,
        }
    }
}

impl Climber {
    fn count(&mut self, hits: usize, misses: usize, residents: usize) {
        self.hits += hits;
        self.misses += misses;
        let accesses = self.hits + self.misses;
        if accesses < SAMPLE_PER_RESIDENT * residents.max(SAMPLE_RESIDENTS_MIN) {
            return;
        }
        let ratio = self.hits as f64 / accesses as f64;
        (self.hits, self.misses) = (0, 0);
        let Some(change) = self.last_ratio.replace(ratio).map(|last| ratio - last) else { return };
        let jumped = change.abs() >= RESTART.max(2.0 * self.noise);
        match self.tried_from.take() {
            Some(_) if change > self.noise => self.next_wait = 1,
            Some(before) => {
                self.window = before;
                self.direction = -self.direction;
                self.wait = if jumped { 1 } else { self.next_wait };
                self.next_wait = (self.wait * 2).min(WAIT_MAX);
                // To be compared with what it is worth once it is back.
                self.last_ratio = None;
                return;
            }
            None => {
                if jumped {
                    (self.wait, self.next_wait) = (0, 1);
                }
                // A single jump is no noise.
                self.noise += (change.abs() - self.noise).min(RESTART) * NOISE_SHARE;
            }
        }
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        let to = |direction: f64| (self.window + direction * STEP).clamp(WINDOW_START, WINDOW_MAX);
        if to(self.direction) == self.window {
            self.direction = -self.direction;
        }
        self.tried_from = Some(self.window);
        self.window = (self.window + self.direction * STEP).clamp(WINDOW_START, WINDOW_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, mix};

    fn hash(slot: u32) -> u64 {
        mix(u64::from(slot) + 1)
    }

    fn insert(policy: &mut WTinyLfu, slot: u32) {
        policy.inserted(slot, Newcomer { hash: hash(slot), weight: 1, deadline: u64::MAX });
    }

    fn hit(policy: &mut WTinyLfu, slot: u32) {
        policy.touched(slot, hash(slot), 0);
        policy.tend();
    }

    #[test]
    fn keeps_the_contract() {
        contract::check(WTinyLfu::new);
    }

    #[test]
    fn who_falls_out_of_the_window_stays_only_if_asked_for_more_often() {
        let mut policy = WTinyLfu::new(10);
        (0..10).for_each(|slot| insert(&mut policy, slot));
        hit(&mut policy, 0);
        // The window keeps one; the others go into main for lack of anyone there. Slot 9 was asked for once, as
        // the victim of main.
        hit(&mut policy, 9);
        hit(&mut policy, 9);
        assert_eq!(policy.evict(&mut hash), Some(1), "9 was asked for three times, 1 once");
        insert(&mut policy, 10);
        assert_eq!(policy.evict(&mut hash), Some(10), "as often as main's victim is not enough");
    }

    #[test]
    fn a_hit_on_probation_protects_and_the_oldest_protected_fall_back() {
        let mut policy = WTinyLfu::new(11);
        (0..11).for_each(|slot| insert(&mut policy, slot));
        policy.evict(&mut hash); // main has ten now, or nine and the window one
        let main: Vec<u32> = (0..11)
            .filter(|&slot| {
                policy.links.contains(slot) && policy.places[slot as usize].queue == PROBATION as u8
            })
            .collect();
        for &slot in &main {
            hit(&mut policy, slot);
        }
        assert_eq!(policy.queues[PROTECTED].len, main.len() * 3 / 5);
        assert_eq!(
            policy.places[main[0] as usize].queue, PROBATION as u8,
            "the first hit is the oldest protected"
        );
    }

    #[test]
    fn the_climber_finds_the_top_of_a_hill_and_follows_it() {
        let mut climber = Climber::default();
        for top in [700.0, 100.0] {
            for _ in 0..60 {
                let ratio = 0.9 - (climber.window - top).abs() / 1_000.0;
                let hits = (ratio * 1_000.0) as usize;
                climber.count(hits, 1_000 - hits, 100);
            }
            assert!((climber.window - top).abs() < 130.0, "{} for a top at {top}", climber.window);
        }
    }

    #[test]
    fn the_climber_rests_where_steps_are_in_vain() {
        // As on a loop: each step costs hits, less than samples differ anyway.
        let mut climber = Climber::default();
        let mut rng = contract::Rng::new(3);
        let mut windows = 0.0;
        for _ in 0..400 {
            let noise = rng.below(100) as f64 / 1_000.0;
            let ratio = (0.2 + noise) * (1.0 - climber.window / 1_000.0);
            let hits = (ratio * 1_000.0) as usize;
            climber.count(hits, 1_000 - hits, 100);
            windows += climber.window;
        }
        assert!(windows / 400.0 < WINDOW_START + 1.5 * STEP, "{} on average", windows / 400.0);
    }
}
