//! A hierarchical timing wheel: finds what expired without a scan.
//!
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987. Deadlines are milliseconds. Level
//! 0 has a bucket for each of the 64 milliseconds around the present, level 1 one for each 64 of these, and
//! so on; eleven levels hold any `u64`. An entry lies on the level of the highest digit (base 64) in which
//! its deadline differs from the wheel's time. When time gets to a bucket of a higher level, its entries move
//! down, so an entry moves at most once a level (three times for a life of a day) and the caller bounds the
//! work of a call.
//!
//! All entries of a level share the digits above it with the wheel's time, so the begin of a level's first
//! bucket in use follows from the time and one word of occupancy: no empty bucket is ever visited, however
//! long nobody called.

use crate::slots::reach;

/// Digits are base 64, so that a level's occupancy is one word.
const DIGIT_BITS: u32 = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 11;
/// This deadline never comes and is not scheduled.
const NEVER: u64 = u64::MAX;

const NIL: u32 = u32::MAX;
/// In `prev` of a slot that is not scheduled.
const IDLE: u32 = u32::MAX - 1;
/// In `prev` of the first slot of a bucket, beside the bucket's number.
const FIRST: u32 = 1 << 31;

/// 8 bytes a slot: the deadlines are the caller's, and the bucket stands only in its first slot.
#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

const UNUSED: Link = Link { prev: IDLE, next: NIL };

/// Deadlines of slots, intrusive: a slot has one place in an array, and nothing is allocated per entry.
///
/// A deadline that was moved to later is noticed when the earlier one comes.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Time the wheel has come to; everything due before has been handed out or lies in the bucket it stopped
    /// in.
    time: u64,
    /// Nothing is due and no bucket begins before.
    quiet_until: u64,
    /// A bit for each bucket with entries.
    occupied: [u64; LEVELS],
    heads: Box<[u32]>,
    links: Vec<Link>,
    expected: usize,
}

impl Wheel {
    /// Reserves room for so many slots when the first is scheduled.
    pub(crate) fn new(expected: usize) -> Self {
        Self {
            time: 0,
            quiet_until: NEVER,
            occupied: [0; LEVELS],
            heads: vec![NIL; LEVELS * BUCKETS].into_boxed_slice(),
            links: Vec::new(),
            expected,
        }
    }

    /// Notes when the slot, below 2^31 - 2, is due. The slot must be idle.
    #[inline]
    pub(crate) fn schedule(&mut self, slot: u32, deadline: u64) {
        if deadline == NEVER {
            return;
        }
        if self.links.is_empty() {
            self.links.reserve_exact(self.expected);
        }
        reach(&mut self.links, slot as usize, UNUSED);
        debug_assert_eq!(self.links[slot as usize].prev, IDLE);
        self.link(slot, deadline.max(self.time));
        self.quiet_until = self.quiet_until.min(deadline);
    }

    /// Forgets the slot, if it is scheduled.
    #[inline]
    pub(crate) fn cancel(&mut self, slot: u32) {
        let Some(&Link { prev, next }) = self.links.get(slot as usize) else { return };
        if prev == IDLE {
            return;
        }
        self.links[slot as usize].prev = IDLE;
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        if prev & FIRST == 0 {
            self.links[prev as usize].next = next;
            return;
        }
        let bucket = (prev & !FIRST) as usize;
        self.heads[bucket] = next;
        if next == NIL {
            self.occupied[bucket / BUCKETS] &= !(1 << (bucket % BUCKETS));
        }
    }

    /// Whether there is nothing to do yet.
    #[inline]
    pub(crate) fn is_quiet(&self, now: u64) -> bool {
        now < self.quiet_until
    }

    /// Takes out one slot whose deadline is at or before `now`. Each entry looked at costs one of `steps`;
    /// with none left the answer is `None` and the next call goes on from there.
    pub(crate) fn due(
        &mut self,
        now: u64,
        steps: &mut usize,
        deadline_of: impl Fn(u32) -> u64,
    ) -> Option<u32> {
        loop {
            let begin_of_next = self.next_bucket();
            let Some((level, begin)) = begin_of_next.filter(|&(_, begin)| begin <= now) else {
                self.time = self.time.max(now);
                self.quiet_until = begin_of_next.map_or(NEVER, |(_, begin)| begin);
                return None;
            };
            if *steps == 0 {
                return None;
            }
            *steps -= 1;
            self.time = self.time.max(begin);
            let bucket = level * BUCKETS + digit(begin, level);
            let slot = self.heads[bucket];
            let deadline = deadline_of(slot);
            self.cancel(slot);
            if deadline <= now {
                return Some(slot);
            }
            if deadline != NEVER {
                self.link(slot, deadline);
            }
        }
    }

    /// Whether the slot waits for a deadline.
    pub(crate) fn is_scheduled(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.prev != IDLE)
    }

    /// Panics if the structure is broken; the answer is the number of scheduled slots. A deadline may have been moved to
    /// later, so a slot may lie in a bucket that begins before.
    pub(crate) fn validate(&self, deadline_of: impl Fn(u32) -> u64) -> usize {
        let mut count = 0;
        for bucket in 0..LEVELS * BUCKETS {
            let (level, at) = (bucket / BUCKETS, bucket % BUCKETS);
            let (mut slot, mut prev) = (self.heads[bucket], FIRST | bucket as u32);
            assert_eq!(
                self.occupied[level] >> at & 1 == 1,
                slot != NIL,
                "wheel: occupancy of bucket {bucket}"
            );
            while slot != NIL {
                let link = self.links[slot as usize];
                assert_eq!(link.prev, prev, "wheel: link of slot {slot}");
                // One in the past lies where the time was when it came.
                let deadline = deadline_of(slot);
                let begin = self.begin(level, at);
                assert!(
                    deadline < self.time || begin <= deadline,
                    "wheel: slot {slot} lies in the wrong bucket"
                );
                assert!(deadline >= self.quiet_until.min(self.time), "wheel: slot {slot} is missed");
                count += 1;
                (prev, slot) = (slot, link.next);
            }
        }
        let scheduled = self.links.iter().filter(|link| link.prev != IDLE).count();
        assert_eq!(count, scheduled, "wheel: slots outside of buckets");
        count
    }

    fn link(&mut self, slot: u32, deadline: u64) {
        // `| 63`: what differs in the lowest digit only, or not at all, is level 0.
        let level = ((63 - ((deadline ^ self.time) | 63).leading_zeros()) / DIGIT_BITS) as usize;
        let at = digit(deadline, level);
        let bucket = level * BUCKETS + at;
        let next = std::mem::replace(&mut self.heads[bucket], slot);
        if next != NIL {
            self.links[next as usize].prev = slot;
        }
        self.links[slot as usize] = Link { prev: FIRST | bucket as u32, next };
        self.occupied[level] |= 1 << at;
    }

    /// The bucket that begins first, as its level and begin. A bucket that a call stopped in has begun
    /// already, so it comes before all others and time cannot pass it.
    fn next_bucket(&self) -> Option<(usize, u64)> {
        let used = (0..LEVELS).rev().filter(|&level| self.occupied[level] != 0);
        used.map(|level| (level, self.begin(level, self.occupied[level].trailing_zeros() as usize)))
            .min_by_key(|&(_, begin)| begin)
    }

    /// When a bucket begins that holds what lies ahead.
    #[inline]
    fn begin(&self, level: usize, at: usize) -> u64 {
        let shift = DIGIT_BITS * level as u32;
        let above = self.time >> shift >> DIGIT_BITS << DIGIT_BITS;
        (above | at as u64) << shift
    }
}

fn digit(time: u64, level: usize) -> usize {
    (time >> (DIGIT_BITS * level as u32)) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cache_policy::contract::Rng;
    use proptest::prelude::*;

    use super::*;

    /// A wheel with the deadlines beside it.
    struct Alarm {
        wheel: Wheel,
        deadlines: Vec<u64>,
    }

    impl Alarm {
        fn new() -> Self {
            Self { wheel: Wheel::new(0), deadlines: vec![0; 1_000] }
        }

        fn schedule(&mut self, slot: u32, deadline: u64) {
            self.deadlines[slot as usize] = deadline;
            self.wheel.schedule(slot, deadline);
        }

        fn due(&mut self, now: u64, steps: &mut usize) -> Option<u32> {
            let quiet = self.wheel.is_quiet(now);
            let slot = self.wheel.due(now, steps, |slot| self.deadlines[slot as usize]);
            assert!(slot.is_none() || !quiet, "due while all was quiet");
            slot
        }

        fn drain(&mut self, now: u64) -> Vec<u32> {
            let mut slots: Vec<u32> = std::iter::from_fn(|| self.due(now, &mut usize::MAX.clone())).collect();
            slots.sort_unstable();
            slots
        }

        fn validate(&self) -> usize {
            self.wheel.validate(|slot| self.deadlines[slot as usize])
        }
    }

    #[test]
    fn due_exactly_at_the_deadline() {
        for deadline in [1, 63, 64, 65, 4_095, 4_096, 1_000_000_007, u64::MAX - 1] {
            let mut wheel = Alarm::new();
            wheel.schedule(0, deadline);
            assert_eq!(wheel.drain(deadline - 1), [], "{deadline}");
            assert_eq!(wheel.drain(deadline), [0], "{deadline}");
            assert_eq!(wheel.validate(), 0);
        }
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_once_and_never_is_never() {
        let mut wheel = Alarm::new();
        assert_eq!(wheel.drain(10_000), []);
        wheel.schedule(3, 5);
        wheel.schedule(4, u64::MAX);
        assert!(!wheel.wheel.is_scheduled(4));
        assert_eq!(wheel.drain(10_000), [3]);
        assert_eq!(wheel.drain(u64::MAX), []);
    }

    #[test]
    fn no_call_does_more_than_its_steps() {
        let mut wheel = Alarm::new();
        for slot in 0..1_000 {
            wheel.schedule(slot, 100_000 + u64::from(slot));
        }
        let mut calls = 0;
        let mut found = 0;
        while found < 1_000 {
            let mut steps = 7;
            while wheel.due(100_999, &mut steps).is_some() {
                found += 1;
            }
            wheel.validate();
            calls += 1;
        }
        assert!((1_000 / 7..2_000).contains(&calls), "{calls}");
    }

    #[test]
    fn a_deadline_moved_to_later_is_due_later() {
        let mut wheel = Alarm::new();
        wheel.schedule(0, 100);
        wheel.schedule(1, 100);
        wheel.deadlines[0] = 70_000;
        assert_eq!(wheel.drain(100), [1]);
        assert_eq!(wheel.drain(69_999), []);
        assert_eq!(wheel.drain(70_000), [0]);
    }

    proptest! {
        /// Any schedule, cancellations and interrupted calls: the same slots as a sorted map, at the same
        /// times.
        #[test]
        fn same_as_a_sorted_map(seed: u64, spread in 1_u32..40) {
            let mut rng = Rng::new(seed);
            let mut wheel = Alarm::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = rng.below(1 << 42);
            for _ in 0..300 {
                let slot = rng.below(64) as u32;
                match rng.below(4) {
                    0 | 1 if !model.contains_key(&slot) => {
                        let deadline = now + rng.below(1 << spread);
                        wheel.schedule(slot, deadline);
                        model.insert(slot, deadline);
                    }
                    2 => {
                        wheel.wheel.cancel(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        now += rng.below(1 << spread);
                        let mut steps = rng.below(8) as usize;
                        while let Some(slot) = wheel.due(now, &mut steps) {
                            let deadline = model.remove(&slot);
                            prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                        }
                        if rng.below(2) == 0 {
                            let expected: Vec<u32> = model.iter().filter(|entry| *entry.1 <= now).map(|entry| *entry.0).collect();
                            model.retain(|_, deadline| *deadline > now);
                            prop_assert_eq!(wheel.drain(now), expected);
                        }
                    }
                }
                prop_assert_eq!(wheel.validate(), model.len());
            }
        }
    }
}
