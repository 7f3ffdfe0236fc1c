//! The tier's own [`Curve`]: fed by look-ups, asked by whoever plans its size.

use std::sync::Mutex;

use cache_policy::Policy;

use crate::cache::L1;
use crate::curve::Curve;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// Nobody watches: the threshold is 0, which no hash is below.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// A copy of the curve's, so that most look-ups need one comparison.
    threshold: AtomicU64,
    curve: Option<Mutex<Curve>>,
}

impl Watch {
    /// Whether the look-up belongs to the sample.
    #[inline(always)]
    pub(crate) fn wants(&self, hash: u64) -> bool {
        hash < self.threshold.load(Relaxed)
    }

    pub(crate) fn saw(&self, hash: u64) {
        if self.wants(hash) {
            self.note(hash);
        }
    }

    /// Never waits: where two threads meet, one reference is lost, as if the sample were a little smaller.
    #[cold]
    fn note(&self, hash: u64) {
        if let Some(curve) = &self.curve
            && let Ok(mut curve) = curve.try_lock()
        {
            curve.record(hash);
            self.threshold.store(curve.threshold(), Relaxed);
        }
    }
}

impl<K, V, P: Policy> L1<K, V, P> {
    /// Begins to watch the look-ups, hits and misses alike, to learn which hit ratio they would have with another number
    /// of entries. See [`Curve::new`] for the two numbers and for what it costs; 128 and
    /// [`KEYS_WATCHED`](crate::KEYS_WATCHED) add 1.3 % to the
    /// instructions of a look-up (counted by `cargo xtask bench l1 --instructions`, which fails above 3 %).
    #[must_use]
    pub fn watched(mut self, one_in: u32, keys_max: usize) -> Self {
        let curve = Curve::new(one_in, keys_max);
        self.watch = Watch { threshold: AtomicU64::new(curve.threshold()), curve: Some(Mutex::new(curve)) };
        self
    }

    /// What the curve of a [watched](Self::watched) tier says; `None` for one that is not watched.
    ///
    /// The curve is that of LRU. Most policies of `cache-policy` lie above it, so a size that it recommends is enough.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use cache_l1::{Address, Config, Fence, L1};
    /// # use cache_policy::{PolicyKind, build};
    /// # let config = Config { entries_max: 100, bytes_max: 1 << 20, shards: None, own_group: 1 };
    /// # let mix = |n: u64| n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    /// let l1: L1<u64, Arc<str>> = L1::new(config, Arc::new(Fence::new(1)), |hint| build(PolicyKind::Lru, hint));
    /// let l1 = l1.watched(1, cache_l1::KEYS_WATCHED);
    /// let lookups = 4_000;
    /// for n in 0..lookups {
    ///     // Four hundred keys, one after the other, again and again.
    ///     let key = n % 400;
    ///     l1.get(&key, &Address::bare(mix(key), 0), 0);
    /// }
    /// let said = l1.curve(|curve| (curve.hit_ratio(300, lookups), curve.entries_for(0.8, lookups)));
    /// let Some((Some(ratio), Some(entries))) = said else { panic!("it was watched for long enough") };
    /// assert!(ratio < 0.1 && (390..=415).contains(&entries));
    /// ```
    pub fn curve<T>(&self, ask: impl FnOnce(&Curve) -> T) -> Option<T> {
        let curve = self.watch.curve.as_ref()?;
        // Nothing panics while it is held.
        let curve = curve.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Some(ask(&curve))
    }
}
