//! `auto`: one policy with four settings, and four miniature copies of it that run on a sample of the keys and
//! say which setting suits the traffic.
//!
//! The parts, each in a file: the [`Arm`](arms::Arm)s (settings), the [`Core`] (queues and rules), the miniatures (a core
//! with a table of its own) and the [`Tuner`] (the judge). A change of arm changes rules only: every resident
//! stays, and the queues drift to their new shares by later evictions.
//!
//! A cache has one [`AutoFamily`]: each shard has a core and a small buffer of samples, all share one tuner.
//! Shards read the ruling when they evict and bring their samples when they hold their own exclusive lock anyway;
//! where two come at once, one keeps its samples for later.
//!
//! What miniatures know of a key: its weight, as the core has it; until when it is good; and that it left the
//! cache for another reason than eviction. They learn what time it is from entries that expire in the cache. If
//! the cache is full with fewer entries than it may have, its bound is the weight, and theirs is.

mod arms;
mod core;
mod miniature;
#[cfg(test)]
mod model;
mod tuner;

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use arms::Ruling;
use core::Core;
use miniature::Asked;
use tuner::{SAMPLE_SHIFT, Tuner};

use crate::sketch::print_of;
use crate::{Family, Newcomer, Policy, Residents, Touch, weight};

/// Samples that a shard keeps at most.
const SAMPLES_MAX: usize = 64;
/// From here on a hit asks for the exclusive lock to bring them to the tuner …
const TEND_FROM: usize = 48;
/// … and a newcomer or a removal, which has the lock, from here on: samples of many shards that come late come out
/// of order as well.
const BRING_FROM: usize = 8;
/// In a sample: what happened, in the two lowest bits …
const KIND: u64 = 3;
const MISS: u64 = 0;
const HIT: u64 = 1;
const REMOVAL: u64 = 2;
/// … the code of the weight above them, the bits of the hash that sampling goes by in their place, and the
/// print in the upper half.
const CODE_SHIFT: u32 = 2;
const CODE: u64 = 0x7f;
const SAMPLED_BITS: u64 = 0xffff_ffff << SAMPLE_SHIFT & 0xffff_ffff;

fn sample(hash: u64, code: u8, kind: u64) -> u64 {
    u64::from(print_of(hash)) << 32 | hash & SAMPLED_BITS | u64::from(code) << CODE_SHIFT | kind
}

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
            ruling: AtomicU8::new(tuner.ruling().code()),
            mask: AtomicU64::new(tuner.mask()),
            entries_max: entries_max.max(1),
            members: AtomicUsize::new(0),
            full_members: AtomicUsize::new(0),
            residents: AtomicUsize::new(0),
            weight: AtomicU64::new(0),
            tuner: Mutex::new(tuner),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Family for AutoFamily {
    type Member = Auto;

    fn member(&self, entries_hint: usize) -> Auto {
        self.shared.members.fetch_add(1, Relaxed);
        Auto {
            core: Core::new(entries_hint),
            samples: Samples::new(),
            mask: self.shared.mask.load(Relaxed),
            now: 0,
            told: None,
            shared: self.shared.clone(),
        }
    }
}

/// What the shards of a cache have in common. Relaxed throughout: the numbers guard no other memory.
#[derive(Debug)]
struct Shared {
    /// The code of the ruling.
    ruling: AtomicU8,
    mask: AtomicU64,
    /// What the family was told.
    entries_max: usize,
    members: AtomicUsize,
    /// Those that evicted: what they hold is what they can hold.
    full_members: AtomicUsize,
    /// Residents of those and their weight, as they told when it last changed much.
    residents: AtomicUsize,
    weight: AtomicU64,
    tuner: Mutex<Tuner>,
}

/// Evicts by the rules that suit the traffic. Made by an [`AutoFamily`].
#[derive(Debug)]
pub struct Auto {
    core: Core,
    samples: Samples,
    mask: u64,
    /// The latest time that was told.
    now: u64,
    /// What the shard has added to the residents of all and their weight, if it was full already.
    told: Option<(usize, u64)>,
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

    /// Under the exclusive lock.
    fn push(&mut self, sample: u64, deadline: u64) {
        self.samples.push_with(sample, deadline);
        if *self.samples.len.get_mut() >= BRING_FROM {
            self.tend();
        }
    }

    /// Tells what a full shard holds, if it is not much what it was.
    fn tell(&mut self) {
        let (residents, weight) = (self.core.len(), self.core.weight());
        let (told, told_weight) = self.told.unwrap_or((0, 0));
        if residents.abs_diff(told) * 16 <= residents && weight.abs_diff(told_weight) <= weight / 16 {
            return;
        }
        // Wrapping: what one adds it has added before, or takes away less than it had added.
        self.shared.residents.fetch_add(residents.wrapping_sub(told), Relaxed);
        self.shared.weight.fetch_add(weight.wrapping_sub(told_weight), Relaxed);
        if self.told.replace((residents, weight)).is_none() {
            self.shared.full_members.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Auto {
    fn drop(&mut self) {
        self.shared.members.fetch_sub(1, Relaxed);
        if let Some((residents, weight)) = self.told {
            self.shared.residents.fetch_sub(residents, Relaxed);
            self.shared.weight.fetch_sub(weight, Relaxed);
            self.shared.full_members.fetch_sub(1, Relaxed);
        }
    }
}

impl Shared {
    /// What the whole cache can hold, in entries, and its weight if that is the bound; `None` if most shards are
    /// not full yet.
    fn bounds(&self) -> Option<(usize, Option<u64>)> {
        let (members, full) = (self.members.load(Relaxed), self.full_members.load(Relaxed));
        if full == 0 || full * 2 < members {
            return None;
        }
        // As the full ones, so the others.
        let residents = self.residents.load(Relaxed).max(1) * members / full;
        let weight = self.weight.load(Relaxed).saturating_mul(members as u64) / full as u64;
        let is_by_weight = residents < self.entries_max - self.entries_max / 8;
        Some((residents, is_by_weight.then_some(weight)))
    }
}

impl Policy for Auto {
    #[inline]
    fn touched(&self, slot: u32, hash: u64, mark: u8) -> Touch {
        self.core.touched(slot);
        let tend = self.is_sampled(hash) && self.samples.push(sample(hash, self.core.code(slot), HIT));
        Touch { mark, tend }
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        let Newcomer { hash, weight, deadline } = newcomer;
        if self.is_sampled(hash) {
            self.push(sample(hash, weight::code(weight), MISS), deadline);
        }
        let ruling = Ruling::of_code(self.shared.ruling.load(Relaxed));
        self.core.inserted(slot, print_of(hash), weight, ruling.arm);
    }

    fn removed(&mut self, slot: u32, hash: u64) {
        if self.is_sampled(hash) {
            self.push(sample(hash, 0, REMOVAL), 0);
        }
        self.core.removed(slot, print_of(hash));
    }

    fn expired(&mut self, slot: u32, hash: u64, now: u64) {
        self.now = self.now.max(now);
        self.removed(slot, hash);
    }

    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        self.tell();
        let ruling = Ruling::of_code(self.shared.ruling.load(Relaxed));
        self.core.evict(ruling, |slot| print_of(residents.hash(slot)))
    }

    fn tend(&mut self) {
        // Poisoned or taken: the samples stay, and are overwritten if nobody comes.
        let Ok(mut tuner) = self.shared.tuner.try_lock() else { return };
        if let Some((entries, weight)) = self.shared.bounds() {
            tuner.resize(entries, weight);
        }
        tuner.tell_time(self.now);
        self.mask = tuner.mask();
        for index in 0..self.samples.take() {
            let (sample, deadline) = self.samples.get(index);
            // Sampled under an older mask that let more through, perhaps.
            if (sample >> SAMPLE_SHIFT) & self.mask != 0 {
                continue;
            }
            let (print, code) = ((sample >> 32) as u32, (sample >> CODE_SHIFT & CODE) as u8);
            match sample & KIND {
                REMOVAL => tuner.remove(print),
                HIT => tuner.hit(print, code),
                _ => tuner.miss(Asked { print, code, deadline }),
            }
        }
        self.shared.mask.store(self.mask, Relaxed);
        self.shared.ruling.store(tuner.ruling().code(), Relaxed);
    }

    fn residents(&self) -> usize {
        self.core.len()
    }
}

/// Sampled accesses and removals that wait for the tuner, in order. Bounded and lossy, as the buffer of hits of
/// other policies: two threads may overwrite one sample, which loses a sample and nothing else.
#[derive(Debug)]
struct Samples {
    samples: [AtomicU64; SAMPLES_MAX],
    /// Of newcomers.
    deadlines: [u64; SAMPLES_MAX],
    len: AtomicUsize,
}

impl Samples {
    fn new() -> Self {
        Self {
            samples: [const { AtomicU64::new(0) }; SAMPLES_MAX],
            deadlines: [0; SAMPLES_MAX],
            len: AtomicUsize::new(0),
        }
    }

    /// True = wants to be brought to the tuner.
    #[inline]
    fn push(&self, sample: u64) -> bool {
        let len = self.len.load(Relaxed);
        if len < SAMPLES_MAX {
            self.samples[len].store(sample, Relaxed);
            self.len.store(len + 1, Relaxed);
        }
        len + 1 >= TEND_FROM
    }

    fn push_with(&mut self, sample: u64, deadline: u64) {
        if let Some(place) = self.deadlines.get_mut(*self.len.get_mut()) {
            *place = deadline;
        }
        self.push(sample);
    }

    fn take(&mut self) -> usize {
        std::mem::take(self.len.get_mut())
    }

    fn get(&mut self, index: usize) -> (u64, u64) {
        (*self.samples[index].get_mut(), self.deadlines[index])
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
                if policy.touched(slot, hash, 0).tend {
                    policy.tend();
                }
                continue;
            }
            let slot = if keys.len() < entries_max / shards {
                keys.push(key);
                keys.len() as u32 - 1
            } else {
                let victim = policy.evict(&mut |slot| mix(keys[slot as usize] + 1)).expect("full");
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

    /// A hundred keys; one leaves the cache by `leave`; then all come again. Says how many of these were hits in
    /// miniatures.
    fn hits_after(leave: impl Fn(&mut Auto, u32, u64)) -> f32 {
        let mut policy = Auto::new(300);
        let hash = |slot: u32| mix(u64::from(slot) + 1);
        for deadline in [10, 20] {
            for slot in 0..100 {
                policy.inserted(slot, Newcomer { hash: hash(slot), weight: 1, deadline });
            }
            leave(&mut policy, 0, hash(0));
        }
        policy.tend();
        policy.shared.tuner.lock().expect("sound").hits()
    }

    #[test]
    fn what_expires_in_the_cache_is_past_in_the_miniatures() {
        assert_eq!(hits_after(|policy, slot, hash| policy.expired(slot, hash, 10)), 0.0);
        let hits = hits_after(|policy, slot, hash| policy.removed(slot, hash));
        assert!((90.0..=99.0).contains(&hits), "removed, and nobody knows how late it is: {hits}");
    }
}
