//! `auto`: one policy with four settings, and four miniature copies of it that run on a sample of the keys and
//! say which setting suits the traffic.
//!
//! The parts, each in a file: the [`Arm`]s (settings), the [`Core`] (queues and rules), the miniatures (a core
//! with a table of its own) and the [`Tuner`] (the judge). A change of arm changes rules only: every resident
//! stays, and the queues drift to their new shares by later evictions.
//!
//! A cache has one [`AutoFamily`]: each shard has a core and a small buffer of samples, all share one tuner.
//! Shards read the arm when they evict and bring their samples when they hold their own exclusive lock anyway;
//! where two come at once, one keeps its samples for later.

mod arms;
mod core;
mod miniature;
mod tuner;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arms::Arm;
use core::Core;
use tuner::{SAMPLE_SHIFT, Tuner};

use crate::sketch::print_of;
use crate::{Family, Newcomer, Policy};

/// Samples that a shard keeps at most.
const SAMPLES_MAX: usize = 64;
/// From here on it wants to bring them to the tuner.
const TEND_FROM: usize = 48;
/// In a sample: what happened, in two bits that the hash gives up.
const KIND: u64 = 3;
const MISS: u64 = 0;
const HIT: u64 = 1;
const REMOVAL: u64 = 2;

/// Makes the cores of one cache around one tuner.
#[derive(Debug)]
pub struct AutoFamily {
    shared: Arc<Shared>,
}

impl AutoFamily {
    /// For a cache of so many entries at most over all shards. If its real bound is another (bytes), it finds
    /// out when the cache is full for the first time.
    pub fn new(entries_max: usize) -> Self {
        let tuner = Tuner::new(entries_max.max(1));
        let shared = Shared {
            arm: AtomicU8::new(tuner.arm() as u8),
            mask: AtomicU64::new(tuner.mask()),
            residents: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            tuner: Mutex::new(tuner),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Family for AutoFamily {
    type Member = Auto;

    fn member(&self, entries_hint: usize) -> Auto {
        Auto {
            core: Core::new(entries_hint),
            samples: Samples::new(),
            mask: self.shared.mask.load(Relaxed),
            told: 0,
            shared: self.shared.clone(),
        }
    }
}

/// What the shards of a cache have in common. Relaxed throughout: the numbers guard no other memory.
#[derive(Debug)]
struct Shared {
    /// Index of the arm that rules.
    arm: AtomicU8,
    mask: AtomicU64,
    /// Residents of all shards, as they told when they last evicted.
    residents: AtomicUsize,
    /// Somebody evicted, so `residents` is what the cache can hold.
    is_full: AtomicBool,
    tuner: Mutex<Tuner>,
}

/// Evicts by the rules that suit the traffic. Made by an [`AutoFamily`].
#[derive(Debug)]
pub struct Auto {
    core: Core,
    samples: Samples,
    mask: u64,
    /// What the shard has added to the residents of all.
    told: usize,
    shared: Arc<Shared>,
}

impl Auto {
    /// For a cache of one shard.
    pub fn new(entries_max: usize) -> Self {
        AutoFamily::new(entries_max).member(entries_max)
    }

    #[inline]
    fn is_sampled(&self, hash: u64) -> bool {
        (hash >> SAMPLE_SHIFT) & self.mask == 0
    }

    fn sample(&mut self, sample: u64) {
        if self.samples.push(sample) {
            self.tend();
        }
    }

    /// Tells how many residents a full shard has, if it is not much what it was.
    fn tell(&mut self) {
        let residents = self.core.len();
        if residents.abs_diff(self.told) * 16 > residents {
            if residents > self.told {
                self.shared.residents.fetch_add(residents - self.told, Relaxed);
            } else {
                self.shared.residents.fetch_sub(self.told - residents, Relaxed);
            }
            self.told = residents;
            self.shared.is_full.store(true, Relaxed);
        }
    }
}

impl Policy for Auto {
    #[inline]
    fn touched(&self, slot: u32, hash: u64) -> bool {
        self.core.touched(slot);
        self.is_sampled(hash) && self.samples.push(hash & !KIND | HIT)
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        if self.is_sampled(newcomer.hash) {
            self.sample(newcomer.hash & !KIND | MISS);
        }
        let arm = Arm::of_index(usize::from(self.shared.arm.load(Relaxed)));
        self.core.inserted(slot, print_of(newcomer.hash), newcomer.weight, arm);
    }

    fn removed(&mut self, slot: u32, hash: u64) {
        if self.is_sampled(hash) {
            self.sample(hash & !KIND | REMOVAL);
        }
        self.core.removed(slot, print_of(hash));
    }

    fn evict(&mut self, hash_of: &dyn Fn(u32) -> u64) -> Option<u32> {
        self.tell();
        let arm = Arm::of_index(usize::from(self.shared.arm.load(Relaxed)));
        self.core.evict(arm, |slot| print_of(hash_of(slot)))
    }

    fn tend(&mut self) {
        // Poisoned or taken: the samples stay, and are overwritten if nobody comes.
        let Ok(mut tuner) = self.shared.tuner.try_lock() else { return };
        let residents = self.shared.residents.load(Relaxed).max(1);
        if self.shared.is_full.load(Relaxed)
            && residents.abs_diff(tuner.entries_max()) * 8 > tuner.entries_max()
        {
            tuner.resize(residents);
        }
        self.mask = tuner.mask();
        for index in 0..self.samples.take() {
            let sample = self.samples.get(index);
            // Sampled under an older, coarser mask, perhaps.
            if (sample >> SAMPLE_SHIFT) & self.mask != 0 {
                continue;
            }
            let print = print_of(sample & !KIND);
            match sample & KIND {
                REMOVAL => tuner.remove(print),
                kind => tuner.access(print, kind == HIT),
            }
        }
        self.shared.mask.store(self.mask, Relaxed);
        self.shared.arm.store(tuner.arm() as u8, Relaxed);
    }

    fn residents(&self) -> usize {
        self.core.len()
    }
}

/// Hashes of sampled accesses and removals that wait for the tuner, in order. Bounded and lossy, as the buffer
/// of hits of other policies: two threads may overwrite one sample, which loses a sample and nothing else.
#[derive(Debug)]
struct Samples {
    hashes: [AtomicU64; SAMPLES_MAX],
    len: AtomicUsize,
}

impl Samples {
    fn new() -> Self {
        Self { hashes: [const { AtomicU64::new(0) }; SAMPLES_MAX], len: AtomicUsize::new(0) }
    }

    /// True = wants to be brought to the tuner.
    fn push(&self, sample: u64) -> bool {
        let len = self.len.load(Relaxed);
        if len < SAMPLES_MAX {
            self.hashes[len].store(sample, Relaxed);
            self.len.store(len + 1, Relaxed);
        }
        len + 1 >= TEND_FROM
    }

    fn take(&mut self) -> usize {
        std::mem::take(self.len.get_mut())
    }

    fn get(&mut self, index: usize) -> u64 {
        *self.hashes[index].get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, mix};

    #[test]
    fn keeps_the_contract() {
        contract::check_family(|| AutoFamily::new(400));
    }

    /// A store of several shards whose bound is shared; says how many hits there were.
    fn hits(
        family: &AutoFamily,
        shards: usize,
        entries_max: usize,
        keys: impl Iterator<Item = u64>,
    ) -> usize {
        struct Shard {
            policy: Auto,
            slots: std::collections::HashMap<u64, u32>,
            keys: Vec<u64>,
        }
        let shard = |_| Shard { policy: family.member(8), slots: Default::default(), keys: Vec::new() };
        let mut all: Vec<Shard> = (0..shards).map(shard).collect();
        let mut hits = 0;
        for key in keys {
            let hash = mix(key + 1);
            let Shard { policy, slots, keys } = &mut all[(hash >> 40) as usize % shards];
            if let Some(&slot) = slots.get(&key) {
                hits += 1;
                if policy.touched(slot, hash) {
                    policy.tend();
                }
                continue;
            }
            let slot = if keys.len() < entries_max / shards {
                keys.push(key);
                keys.len() as u32 - 1
            } else {
                let victim = policy.evict(&|slot| mix(keys[slot as usize] + 1)).expect("full");
                slots.remove(&keys[victim as usize]);
                keys[victim as usize] = key;
                victim
            };
            slots.insert(key, slot);
            policy.inserted(slot, Newcomer { hash, weight: 1, deadline: u64::MAX });
        }
        hits
    }

    /// Each key twice, half a cache of 2,000 apart, then never: frequency says nothing, recency all.
    fn twice_and_never(step: u64) -> u64 {
        if step.is_multiple_of(2) { step } else { step.saturating_sub(1_001) }
    }

    #[test]
    fn shards_learn_recency_together() {
        for shards in [1, 8] {
            let family = AutoFamily::new(2_000);
            let hits = hits(&family, shards, 2_000, (0..200_000).map(twice_and_never));
            assert!(hits > 80_000, "{hits} of 100,000 with {shards} shards");
        }
    }

    #[test]
    fn a_loop_is_held_as_far_as_there_is_room() {
        let family = AutoFamily::new(2_000);
        let hits = hits(&family, 4, 2_000, (0..100_000).map(|step| step % 4_000));
        assert!(hits > 43_000, "{hits} of 50,000 that are possible");
    }

    #[test]
    fn it_follows_when_the_traffic_changes() {
        let family = AutoFamily::new(2_000);
        let all = (0..150_000).map(twice_and_never).chain((0..150_000).map(|step| 1_000_000 + step % 4_000));
        let hits = hits(&family, 4, 2_000, all);
        // Who stays with what suits one of the two gets 75,000 at most.
        assert!(hits > 100_000, "{hits} of 150,000 that are possible");
    }

    #[test]
    fn a_bound_in_bytes_is_found_out() {
        // Told a million entries, really 2,000.
        let family = AutoFamily::new(1_000_000);
        let mask = family.shared.mask.load(Relaxed);
        hits(&family, 4, 2_000, (0..200_000).map(|step| step % 5_000));
        let entries_max = family.shared.tuner.lock().expect("sound").entries_max();
        assert!((1_700..=2_000).contains(&entries_max), "{entries_max}");
        assert!(family.shared.mask.load(Relaxed) < mask);
    }
}
