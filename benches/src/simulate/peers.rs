//! Caches from the registry, each as its documents tell to set it up, with a hash that the seed decides where
//! they take one (TinyUFO does not, and stretto draws samples of its own, so both differ a little from run to
//! run).
//!
//! Those that do their work later are driven to rest after each insert; otherwise they would hold more than
//! their capacity, and win by that, or less, and lose.

use std::hash::{BuildHasher, Hash};

use anyhow::{Context, Result};
use foyer_memory::{CacheBuilder, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig};
use mini_moka::sync::ConcurrentCacheExt;
use xxhash_rust::xxh3::Xxh3Builder;

use super::subject::{Maker, ONE_SHARD_BELOW, Subject};

/// Names and makers. foyer has several policies to choose from; its default is LRU.
pub(crate) const ALL: &[(&str, Maker)] = &[
    ("quick_cache", quick_cache),
    ("moka", moka),
    ("mini-moka", mini_moka),
    ("stretto", stretto),
    ("foyer", |capacity, seed| foyer(LruConfig::default().into(), capacity, seed)),
    ("foyer/lfu", |capacity, seed| foyer(LfuConfig::default().into(), capacity, seed)),
    ("foyer/s3fifo", |capacity, seed| foyer(S3FifoConfig::default().into(), capacity, seed)),
    ("TinyUFO", tiny_ufo),
];

/// Draws the sample that it looks for a victim in by walking over all its entries, so an insert takes longer the
/// larger the cache is (75 µs with 19,000 entries) and a long trace takes hours.
pub(crate) const SLOW: &str = "stretto";
/// Up to so many entries it is replayed without being asked for.
pub(crate) const SLOW_ENTRIES_MAX: usize = 8_192;

type Seeded = Xxh3Builder;

fn seeded(seed: u64) -> Seeded {
    Xxh3Builder::new().with_seed(seed)
}

type QuickCache = quick_cache::sync::Cache<u32, (), quick_cache::UnitWeighter, Seeded>;

fn quick_cache(capacity: usize, seed: u64) -> Result<Box<dyn Subject>> {
    let mut options = quick_cache::OptionsBuilder::new();
    options.estimated_items_capacity(capacity).weight_capacity(capacity as u64);
    if capacity < ONE_SHARD_BELOW {
        options.shards(1);
    }
    let options = options.build().context("quick_cache")?;
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    Ok(Box::new(QuickCache::with_options(options, quick_cache::UnitWeighter, seeded(seed), lifecycle)))
}

impl Subject for QuickCache {
    fn request(&mut self, key: u32) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, ());
        }
        hit
    }

    fn entries(&mut self) -> Option<usize> {
        Some(self.len())
    }
}

type Moka = moka::sync::Cache<u32, (), Seeded>;

fn moka(capacity: usize, seed: u64) -> Result<Box<dyn Subject>> {
    let builder = moka::sync::Cache::builder().max_capacity(capacity as u64);
    let cache: Moka = builder.build_with_hasher(seeded(seed));
    Ok(Box::new(cache))
}

impl Subject for Moka {
    fn request(&mut self, key: u32) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, ());
            self.run_pending_tasks();
        }
        hit
    }

    fn entries(&mut self) -> Option<usize> {
        self.run_pending_tasks();
        Some(self.entry_count() as usize)
    }
}

type MiniMoka = mini_moka::sync::Cache<u32, (), Seeded>;

fn mini_moka(capacity: usize, seed: u64) -> Result<Box<dyn Subject>> {
    let builder = mini_moka::sync::Cache::builder().max_capacity(capacity as u64);
    let cache: MiniMoka = builder.build_with_hasher(seeded(seed));
    Ok(Box::new(cache))
}

impl Subject for MiniMoka {
    fn request(&mut self, key: u32) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, ());
            self.sync();
        }
        hit
    }

    fn entries(&mut self) -> Option<usize> {
        self.sync();
        Some(self.entry_count() as usize)
    }
}

type Stretto = stretto::Cache<u32, (), SeededKeys>;

/// Counters for each entry, as its documents advise.
const STRETTO_COUNTERS: usize = 10;

struct SeededKeys(Seeded);

impl stretto::KeyBuilder for SeededKeys {
    type Key = u32;

    fn hash_index<Q>(&self, key: &Q) -> u64
    where
        u32: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.hash_one(key)
    }
}

fn stretto(capacity: usize, seed: u64) -> Result<Box<dyn Subject>> {
    let counters = capacity.saturating_mul(STRETTO_COUNTERS);
    let builder =
        stretto::CacheBuilder::new_with_key_builder(counters, capacity as i64, SeededKeys(seeded(seed)));
    let cache: Stretto = builder.set_ignore_internal_cost(true).finalize().context("stretto")?;
    Ok(Box::new(cache))
}

impl Subject for Stretto {
    fn request(&mut self, key: u32) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, (), 1);
            self.wait().expect("the cache's thread runs as long as the cache");
        }
        hit
    }

    fn entries(&mut self) -> Option<usize> {
        Some(self.len())
    }
}

type Foyer = foyer_memory::Cache<u32, (), Seeded>;

fn foyer(policy: EvictionConfig, capacity: usize, seed: u64) -> Result<Box<dyn Subject>> {
    let mut builder =
        CacheBuilder::new(capacity).with_eviction_config(policy).with_hash_builder(seeded(seed));
    if capacity < ONE_SHARD_BELOW {
        builder = builder.with_shards(1);
    }
    let cache: Foyer = builder.build();
    Ok(Box::new(cache))
}

impl Subject for Foyer {
    fn request(&mut self, key: u32) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.insert(key, ());
        }
        hit
    }

    fn entries(&mut self) -> Option<usize> {
        Some(Foyer::entries(self))
    }
}

type TinyUfo = tinyufo::TinyUfo<u32, ()>;

fn tiny_ufo(capacity: usize, _seed: u64) -> Result<Box<dyn Subject>> {
    Ok(Box::new(TinyUfo::new(capacity, capacity)))
}

impl Subject for TinyUfo {
    fn request(&mut self, key: u32) -> bool {
        let hit = self.get(&key).is_some();
        if !hit {
            self.put(key, (), 1);
        }
        hit
    }

    fn entries(&mut self) -> Option<usize> {
        None
    }
}
