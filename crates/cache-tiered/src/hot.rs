//! The keys that are read most of late, from the sample of reads that is timed anyway.
//!
//! Space-Saving (A. Metwally, D. Agrawal, A. El Abbadi: *Efficient Computation of Frequent and Top-k Elements in Data
//! Streams*, ICDT 2005): so many counters, each of a key; a key without one takes over the least, and remembers how much of
//! the count was not its own. Whatever has more than one part in [`COUNTERS`] of all reads is among them. All counts decay
//! alike with time (forward decay: G. Cormode, V. Shkapenyuk, D. Srivastava, B. Xu, ICDE 2009), which changes no order
//! between them, so what was hot yesterday makes room.
//!
//! A sampled read counts for all reads of its thread since the one before: the counts estimate reads, not samples.

use cache_events::Key;
use parking_lot::Mutex;

/// Counters of a namespace: about 6 KB, and the keys themselves.
const COUNTERS: usize = 128;
/// In this time a count decays to 1/e.
const MEMORY_MS: f64 = 60_000.0;
/// Counts are not made to decay more often than this.
const STEP_MS: u64 = 1_000;

/// The heavy hitters of one namespace.
pub(crate) struct Hot(Mutex<Counts>);

struct Counts {
    /// By which a key is found; beside them what belongs to it.
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    began: Option<u64>,
    decayed_at: u64,
}

struct Slot {
    key: Key,
    count: f64,
    /// How much of it may be of other keys.
    foreign: f64,
}

impl Hot {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Counts {
            hashes: Vec::with_capacity(COUNTERS),
            slots: Vec::with_capacity(COUNTERS),
            began: None,
            decayed_at: 0,
        }))
    }

    /// A sampled read of a key, which stands for so many.
    pub(crate) fn read(&self, key: &Key, reads: u64, now: u64) {
        let displaced = self.0.lock().read(key, reads as f64, now);
        drop(displaced);
    }

    /// The keys with their reads a second, at least: what may be another key's is not counted. Hottest first.
    pub(crate) fn hottest(&self, limit: usize, now: u64) -> Vec<(Key, f64)> {
        let mut counts = self.0.lock();
        counts.decay(now);
        // As much time as the decayed weights of its moments are.
        let age = now.saturating_sub(counts.began.unwrap_or(now)).max(STEP_MS) as f64;
        let seconds = MEMORY_MS * (1.0 - (-age / MEMORY_MS).exp()) / 1e3;
        let rate = |slot: &Slot| (slot.key.clone(), (slot.count - slot.foreign) / seconds);
        let mut rates: Vec<_> = counts.slots.iter().map(rate).collect();
        drop(counts);
        rates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.hash64().cmp(&b.0.hash64())));
        rates.truncate(limit);
        rates
    }
}

impl Counts {
    fn read(&mut self, key: &Key, reads: f64, now: u64) -> Option<Key> {
        self.decay(now);
        let hash = key.hash64();
        let known =
            self.hashes.iter().zip(&self.slots).position(|(known, slot)| *known == hash && slot.key == *key);
        if let Some(known) = known {
            self.slots[known].count += reads;
            return None;
        }
        if self.slots.len() < COUNTERS {
            self.hashes.push(hash);
            self.slots.push(Slot { key: key.clone(), count: reads, foreign: 0.0 });
            return None;
        }
        let least = (0..COUNTERS).min_by(|&a, &b| self.slots[a].count.total_cmp(&self.slots[b].count))?;
        let foreign = self.slots[least].count;
        self.hashes[least] = hash;
        let slot = Slot { key: key.clone(), count: foreign + reads, foreign };
        Some(std::mem::replace(&mut self.slots[least], slot).key)
    }

    fn decay(&mut self, now: u64) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_sub(self.decayed_at.max(began));
        if passed < STEP_MS {
            return;
        }
        self.decayed_at = now;
        let left = (-(passed as f64) / MEMORY_MS).exp();
        for slot in &mut self.slots {
            slot.count *= left;
            slot.foreign *= left;
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_events::Namespace;

    use super::*;

    fn key(n: usize) -> Key {
        Key::new(&Namespace::new("hot").expect("valid"), format!("k{n}")).expect("valid")
    }

    #[test]
    fn keys_that_are_read_most_are_found_among_many_more_than_there_are_counters() {
        let hot = Hot::new();
        // 100 s; in each millisecond key 0 is read four times, key 1 twice, and two of 10,000 others.
        for ms in 0..100_000_u64 {
            hot.read(&key(0), 4, ms);
            hot.read(&key(1), 2, ms);
            hot.read(&key(2 + (ms as usize * 7919) % 10_000), 2, ms);
        }
        let hottest = hot.hottest(3, 100_000);
        assert_eq!((&hottest[0].0, &hottest[1].0), (&key(0), &key(1)));
        assert!((hottest[0].1 - 4_000.0).abs() < 100.0, "reads a second: {}", hottest[0].1);
        assert!((hottest[1].1 - 2_000.0).abs() < 50.0, "reads a second: {}", hottest[1].1);
        assert!(hottest[2].1 < 200.0, "an inherited count is not its own: {}", hottest[2].1);
        assert_eq!(hot.0.lock().slots.len(), COUNTERS);
    }

    #[test]
    fn what_was_hot_is_forgotten() {
        let hot = Hot::new();
        (0..10_000).for_each(|ms| hot.read(&key(0), 10, ms));
        (600_000..601_000).for_each(|ms| hot.read(&key(1), 1, ms));
        let hottest = hot.hottest(9, 601_000);
        assert_eq!(hottest[0].0, key(1));
        assert!(hottest[1].1 < 1.0, "{} reads a second", hottest[1].1);
    }

    #[test]
    fn a_young_node_divides_by_the_time_that_it_has_seen() {
        let hot = Hot::new();
        (0..5_000).for_each(|ms| hot.read(&key(0), 1, ms));
        let rate = hot.hottest(1, 5_000)[0].1;
        assert!((rate - 1_000.0).abs() < 30.0, "{rate}");
    }
}
