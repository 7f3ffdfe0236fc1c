//! The miss-ratio curve: which hit ratio the same traffic would have at other sizes.
//!
//! SHARDS: Waldspurger, Park, Garthwaite and Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015, in its
//! fixed-size form with the adjustment that the authors call SHARDS-adj.
//!
//! A key is watched iff its hash is below a threshold, so either all of its references are seen or none. For each the
//! *reuse distance* is found: how many different watched keys were asked for since the last time. Divided by the
//! sampling rate that is the size from which on an LRU cache would have had a hit. A histogram of these distances is
//! the curve. When more than `keys_max` keys are watched, the threshold falls to the largest hash, which leaves, and
//! what was counted is scaled down: memory is bounded, whatever the traffic.
//!
//! Whether a very hot key is among the watched ones is luck. So the caller says how many references there were in all:
//! what was seen too much or too little is taken for references at the smallest distance, which hot keys have.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Watches a sample of the keys, as SHARDS does (Waldspurger and others, FAST 2015), and knows the hit ratio of an LRU cache
/// of any size.
///
/// It counts since it was made; to see only what is recent, make a new one now and then.
#[derive(Debug)]
pub struct Curve {
    /// Keys with a hash below it are watched.
    threshold: u64,
    keys_max: usize,
    /// When each watched key was last asked for, as a place in `order`.
    last: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    /// The watched keys by hash, to find the largest.
    hashes: BTreeSet<u64>,
    order: Order,
    /// References by distance, see [`bucket_of`]; scaled to the present threshold.
    histogram: Vec<f64>,
    /// References that were seen, scaled alike.
    seen: f64,
}

/// Keys that are watched at most, if the caller has no wish: some 0.4 MB.
pub const KEYS_WATCHED: usize = 4_096;

impl Curve {
    /// Watches one key in `one_in` (at least 1) at first, and never more than `keys_max` (at least 1) of them.
    ///
    /// The cost of a reference is that of [`wants`](Self::wants) and, for one in `one_in`, of
    /// [`record`](Self::record). The error of the curve falls with the root of the number of keys watched: with 4,096
    /// it is below 0.02, with 400 mostly below 0.05 and at worst 0.1. Sizes below some ten times `one_in` cannot be told apart.
    pub fn new(one_in: u32, keys_max: usize) -> Self {
        let keys_max = keys_max.max(1);
        Self {
            threshold: u64::MAX / u64::from(one_in.max(1)),
            keys_max,
            last: HashMap::default(),
            hashes: BTreeSet::new(),
            order: Order::new(keys_max),
            histogram: vec![0.0; bucket_of(u64::MAX) + 1],
            seen: 0.0,
        }
    }

    /// Keys with a hash below this are watched; it only falls. A caller that shares the curve keeps a copy, so that
    /// most references need no more than a comparison.
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Whether a reference to this key is to be recorded.
    pub fn wants(&self, hash: u64) -> bool {
        hash < self.threshold
    }

    /// Notes a reference, hit or miss alike. One to a key that is not watched is ignored.
    pub fn record(&mut self, hash: u64) {
        if !self.wants(hash) {
            return;
        }
        self.seen += 1.0;
        if self.order.is_full() {
            let last = &mut self.last;
            self.order.compact(|key, place| {
                last.insert(key, place);
            });
        }
        let place = self.order.append(hash);
        match self.last.insert(hash, place) {
            Some(before) => {
                let between = self.order.since(before);
                self.order.remove(before);
                // The key itself takes room as well.
                let distance = (between + 1) as f64 / self.rate();
                self.histogram[bucket_of(distance as u64)] += 1.0;
            }
            None => {
                self.hashes.insert(hash);
                if self.hashes.len() > self.keys_max {
                    self.lower();
                }
            }
        }
    }

    /// The share of references that an LRU cache of so many entries would have answered, of `references` in all since
    /// the start; nothing before enough was seen to say (100 references).
    pub fn hit_ratio(&self, entries: usize, references: u64) -> Option<f64> {
        let expected = references as f64 * self.rate();
        if entries == 0 {
            return Some(0.0);
        }
        if self.seen < 100.0 || expected < 1.0 {
            return None;
        }
        // Distances of the last bucket count in part, as if they were spread evenly over it.
        let bucket = bucket_of(entries as u64);
        let (from, to) = (bucket_start(bucket), bucket_start(bucket + 1));
        let part = (entries as u64 + 1 - from) as f64 / (to - from) as f64;
        let within = self.histogram[..bucket].iter().sum::<f64>() + self.histogram[bucket] * part;
        let hits = within + expected - self.seen;
        Some((hits / expected).clamp(0.0, 1.0))
    }

    /// The fewest entries with which at least that share of `references` would have been hits; nothing if no size
    /// would do (too much is asked for the first time), or before enough was seen.
    pub fn entries_for(&self, hit_ratio: f64, references: u64) -> Option<usize> {
        let reaches = |entries: u64| {
            self.hit_ratio(usize::try_from(entries).ok()?, references).map(|ratio| ratio >= hit_ratio)
        };
        let (mut low, mut high) = (0, 1 << 40);
        if !reaches(high)? {
            return None;
        }
        // The curve never falls.
        while low < high {
            let middle = low + (high - low) / 2;
            if reaches(middle)? { high = middle } else { low = middle + 1 }
        }
        usize::try_from(low).ok()
    }

    /// Keys that are watched now.
    pub fn keys_watched(&self) -> usize {
        self.hashes.len()
    }

    fn rate(&self) -> f64 {
        self.threshold as f64 / u64::MAX as f64
    }

    /// Stops watching the key with the largest hash, and all above it from now on.
    fn lower(&mut self) {
        let Some(largest) = self.hashes.pop_last() else { return };
        if let Some(place) = self.last.remove(&largest) {
            self.order.remove(place);
        }
        let scale = largest as f64 / self.threshold as f64;
        self.threshold = largest;
        self.seen *= scale;
        self.histogram.iter_mut().for_each(|count| *count *= scale);
    }
}

/// Buckets in each doubling of the distance; up to that, each distance has its own.
const FINE: u64 = 32;

/// Where distances of about this size are counted: 3 % wide.
fn bucket_of(distance: u64) -> usize {
    if distance < FINE {
        return distance as usize;
    }
    let doublings = distance.ilog2() - FINE.ilog2();
    ((u64::from(doublings) + 1) * FINE + (distance >> doublings) - FINE) as usize
}

/// The smallest distance of a bucket.
fn bucket_start(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * FINE {
        return bucket;
    }
    let doublings = bucket / FINE - 1;
    (bucket % FINE + FINE).checked_shl(doublings as u32).unwrap_or(u64::MAX)
}

/// The order in which the watched keys were last asked for: a Fenwick tree over places, of which each new reference
/// takes the next. When all are taken, those that are left move together.
#[derive(Debug)]
struct Order {
    /// The key at each place; `None` where it has left.
    keys: Vec<Option<u64>>,
    /// Sums of keys that are there, as Fenwick had them.
    sums: Vec<u32>,
    /// Keys that are there.
    there: u32,
    places: usize,
}

impl Order {
    fn new(keys_max: usize) -> Self {
        let places = 2 * (keys_max + 2);
        Self { keys: Vec::with_capacity(places), sums: vec![0; places + 1], there: 0, places }
    }

    fn is_full(&self) -> bool {
        self.keys.len() == self.places
    }

    fn append(&mut self, key: u64) -> u32 {
        let place = self.keys.len();
        self.keys.push(Some(key));
        self.there += 1;
        self.add(place, 1);
        place as u32
    }

    fn remove(&mut self, place: u32) {
        if self.keys[place as usize].take().is_some() {
            self.there -= 1;
            self.add(place as usize, u32::MAX);
        }
    }

    /// Keys strictly between a place and the last one.
    fn since(&self, before: u32) -> u32 {
        (self.there - 1).wrapping_sub(self.below(before as usize + 1))
    }

    fn add(&mut self, place: usize, delta: u32) {
        let mut at = place + 1;
        while at <= self.places {
            self.sums[at] = self.sums[at].wrapping_add(delta);
            at += at & at.wrapping_neg();
        }
    }

    /// Keys at places below this one.
    fn below(&self, place: usize) -> u32 {
        let (mut at, mut sum) = (place, 0_u32);
        while at > 0 {
            sum = sum.wrapping_add(self.sums[at]);
            at &= at - 1;
        }
        sum
    }

    fn compact(&mut self, mut moved: impl FnMut(u64, u32)) {
        let keys = std::mem::take(&mut self.keys);
        self.sums.fill(0);
        self.there = 0;
        self.keys.reserve(self.places);
        for key in keys.into_iter().flatten() {
            let place = self.append(key);
            moved(key, place);
        }
    }
}

/// The keys of the map are hashes.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        // All watched hashes are small, and tables look at the uppermost bits too.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use cache_policy::contract::{Rng, mix};

    /// LRU hit ratios the dull way: a cache of each size.
    fn exact(trace: &[u64], sizes: &[usize]) -> Vec<f64> {
        let hit_ratio = |&size: &usize| {
            let (mut last, mut by_time) = (HashMap::new(), BTreeMap::new());
            let mut hits = 0;
            for (time, &key) in trace.iter().enumerate() {
                by_time.insert(time, key);
                if let Some(before) = last.insert(key, time) {
                    hits += 1;
                    by_time.remove(&before);
                } else if last.len() > size
                    && let Some((_, oldest)) = by_time.pop_first()
                {
                    last.remove(&oldest);
                }
            }
            f64::from(hits) / trace.len() as f64
        };
        sizes.iter().map(hit_ratio).collect()
    }

    fn watch(trace: &[u64], one_in: u32, keys_max: usize) -> Curve {
        let mut curve = Curve::new(one_in, keys_max);
        for &key in trace {
            curve.record(mix(key + 1));
        }
        curve
    }

    /// Keys by Zipf with exponent about 1, by inversion of the harmonic sum.
    fn zipf(keys: u64, length: usize, seed: u64) -> Vec<u64> {
        let mut rng = Rng::new(seed);
        let span = (keys as f64).ln();
        (0..length)
            .map(|_| {
                let at = rng.below(1 << 53) as f64 / (1_u64 << 53) as f64;
                ((at * span).exp() as u64).min(keys - 1)
            })
            .collect()
    }

    #[test]
    fn with_all_keys_watched_it_is_exact_up_to_the_width_of_a_bucket() {
        let trace = zipf(2_000, 40_000, 1);
        let sizes = [1, 2, 10, 31, 32, 33, 100, 500, 1_000, 2_000];
        let curve = watch(&trace, 1, 10_000);
        for (size, exact) in sizes.iter().zip(exact(&trace, &sizes)) {
            let said = curve.hit_ratio(*size, trace.len() as u64).unwrap();
            assert!((said - exact).abs() < 0.005, "{size} entries: {said} instead of {exact}");
        }
    }

    #[test]
    fn a_sample_of_bounded_size_is_near_it() {
        let trace = zipf(50_000, 300_000, 2);
        let sizes = [100, 1_000, 5_000, 20_000];
        let exact = exact(&trace, &sizes);
        for (one_in, keys_max, error) in
            [(1, 4_096, 0.02), (8, 4_096, 0.02), (1, 400, 0.05), (128, 4_096, 0.1)]
        {
            let curve = watch(&trace, one_in, keys_max);
            assert!(curve.keys_watched() <= keys_max);
            let told_apart = |size: usize| size > 16 * one_in as usize;
            for (size, exact) in sizes.iter().zip(&exact).filter(|(size, _)| told_apart(**size)) {
                let said = curve.hit_ratio(*size, trace.len() as u64).unwrap();
                assert!(
                    (said - exact).abs() < error,
                    "1 in {one_in}, {keys_max} keys: {size} entries {said} instead of {exact}"
                );
            }
        }
    }

    #[test]
    fn a_loop_is_a_cliff_and_the_size_behind_it_is_recommended() {
        let trace: Vec<u64> = (0..200_000).map(|n| n % 10_000).collect();
        let curve = watch(&trace, 4, 4_096);
        let references = trace.len() as u64;
        assert!(curve.hit_ratio(8_000, references).unwrap() < 0.1);
        assert!(curve.hit_ratio(12_000, references).unwrap() > 0.9);
        let entries = curve.entries_for(0.9, references).unwrap();
        assert!((9_000..=11_000).contains(&entries), "{entries}");
        assert_eq!(curve.entries_for(0.99, references), None, "5 % are asked for the first time");
    }

    #[test]
    fn it_says_nothing_before_it_has_seen_enough() {
        let curve = watch(&[1, 2, 3], 1, 10);
        assert_eq!((curve.hit_ratio(10, 3), curve.entries_for(0.5, 3)), (None, None));
        assert_eq!(curve.hit_ratio(0, 3), Some(0.0));
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 0..1_000 {
            let start = bucket_start(bucket);
            assert_eq!(bucket_of(start), bucket, "{start}");
            assert_eq!(bucket_of(bucket_start(bucket + 1) - 1), bucket, "{start}");
        }
        assert!(bucket_of(u64::MAX) < 2_000);
    }
}
