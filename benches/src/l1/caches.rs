//! Ours and the peers behind one small trait, each set up as its documents tell, with the hash it comes with.
//! Ours takes the hash that quick_cache comes with.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use cache_l1::{Address, Config, Fence, L1, Meta, Origin};
use cache_policy::{Family, Policy};
use mini_moka::sync::ConcurrentCacheExt;
use quick_cache::DefaultHashBuilder;

/// What is cached: 64 bytes behind a shared pointer.
pub type Value = Arc<[u64; 8]>;

/// A value.
pub fn value(n: u64) -> Value {
    Arc::new([n; 8])
}

/// The logical time of all reads and writes, in milliseconds.
pub const NOW: u64 = 1_000_000;

/// What keys of the benchmarks can do.
pub trait Key: Hash + Eq + Clone + Send + Sync + 'static {
    /// The n-th key.
    fn nth(n: u64) -> Self;
}

impl Key for u64 {
    fn nth(n: u64) -> Self {
        n
    }
}

impl Key for String {
    fn nth(n: u64) -> Self {
        format!("gpu-offers/{n}?region=us-east")
    }
}

/// A cache of [`Value`]s that takes part.
pub trait Cache<K>: Send + Sync + Sized + 'static {
    /// Looks a key up and clones the value.
    fn get(&self, key: &K) -> Option<Value>;

    /// Stores a value, and makes room for it.
    fn insert(&self, key: K, value: Value);

    /// Finishes work that was put off.
    fn settle(&self) {}

    /// Entries held, where it can tell.
    fn held(&self) -> Option<usize>;
}

/// The tier with a policy known at compile time. Entries have expiry, weight and a place in the log.
pub struct Ours<K, P: Policy> {
    l1: L1<K, Value, P>,
    hasher: DefaultHashBuilder,
}

impl<K: Key, P: Policy> Ours<K, P> {
    /// With room for so many entries.
    pub fn new(capacity: usize, family: impl Family<Member = P>) -> Self {
        let config = Config { entries_max: capacity, bytes_max: u64::MAX, shards: None, own_group: 1 };
        Self { l1: L1::new(config, Arc::new(Fence::new(1)), family), hasher: DefaultHashBuilder::default() }
    }

    /// The tier.
    pub fn tier(&self) -> &L1<K, Value, P> {
        &self.l1
    }

    /// With a curve.
    #[must_use]
    pub fn watched(self, one_in: u32, keys_max: usize) -> Self {
        Self { l1: self.l1.watched(one_in, keys_max), ..self }
    }

    /// A hit that is not held against the fence.
    #[inline]
    pub fn unfenced(&self, key: &K) -> Option<Value> {
        self.l1.get_unfenced(key, &self.at(key), NOW, |value, _| Some(value.clone()))
    }

    /// The same, held against it.
    #[inline]
    pub fn fenced(&self, key: &K) -> Option<Value> {
        self.l1.get_with(key, &self.at(key), NOW, |value, _| Some(value.clone()))
    }

    /// Where a key lives; hashes it.
    #[inline]
    pub fn at(&self, key: &K) -> Address {
        Address::bare(self.hasher.hash_one(key), 0)
    }

    /// What an entry is stored with.
    #[inline]
    pub fn meta() -> Meta {
        Meta {
            origin: Origin { epoch: 0, seq: 41 },
            version: 7,
            load_start: NOW - 5,
            born: NOW - 4,
            soft_expiry: NOW + 50_000,
            hard_expiry: NOW + 60_000,
            weight: 72,
            ..Meta::default()
        }
    }
}

impl<K: Key, P: Policy> Cache<K> for Ours<K, P> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.l1.get(key, &self.at(key), NOW).map(|hit| hit.value)
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        let at = self.at(&key);
        let snapshot = self.l1.snapshot(&at);
        drop(self.l1.insert(key, value, &at, Self::meta(), &snapshot, NOW));
    }

    fn held(&self) -> Option<usize> {
        Some(self.l1.len())
    }
}

impl<K: Key> Cache<K> for quick_cache::sync::Cache<K, Value> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        self.insert(key, value);
    }

    fn held(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<K: Key, S: BuildHasher + Clone + Send + Sync + 'static> Cache<K> for moka::sync::Cache<K, Value, S> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        self.insert(key, value);
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }

    fn held(&self) -> Option<usize> {
        Some(self.entry_count() as usize)
    }
}

impl<K: Key> Cache<K> for mini_moka::sync::Cache<K, Value> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        self.insert(key, value);
    }

    fn settle(&self) {
        self.sync();
    }

    fn held(&self) -> Option<usize> {
        Some(self.entry_count() as usize)
    }
}

impl<K: Key> Cache<K> for stretto::Cache<K, Value> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.get(key).map(|held| held.value().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        self.insert(key, value, 1);
    }

    fn settle(&self) {
        // It fails if the cache is closed, and then there is nothing to settle.
        let _ = self.wait();
    }

    fn held(&self) -> Option<usize> {
        Some(self.len())
    }
}

impl<K: Key> Cache<K> for foyer_memory::Cache<K, Value> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.get(key).map(|held| held.value().clone())
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        self.insert(key, value);
    }

    fn held(&self) -> Option<usize> {
        Some(self.entries())
    }
}

impl<K: Key> Cache<K> for tinyufo::TinyUfo<K, Value> {
    #[inline]
    fn get(&self, key: &K) -> Option<Value> {
        self.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: Value) {
        drop(self.put(key, value, 1));
    }

    fn held(&self) -> Option<usize> {
        None
    }
}
