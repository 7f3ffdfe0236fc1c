//! Writers and readers on three nodes, a source of truth beside them, and what the readers saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_events::{Key, Namespace, Scope, Tag, Version};
use cache_tiered::staleness::StalenessChecker;
use cache_tiered::{Loaded, ReadOptions, TieredCache, Tiers, TypedCache, WriteOptions};
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The staleness bound of the nodes.
pub const BOUND: Duration = Duration::from_millis(1_000);
/// What a busy machine may add before a row fails.
pub const MARGIN: Duration = Duration::from_millis(100);
/// Many keys, each changed every few seconds alone: where the next change comes before the bound is over, it repairs what
/// was lost, and nobody sees that.
const KEYS: usize = 2_400;
/// Between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(20);
/// Tasks that look at the end.
const INSPECTORS: usize = 32;
const WRITERS: usize = 12;
const READERS: usize = 24;
/// Keys of one tag.
const TAGGED: usize = 4;
/// Long enough that a busy machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a storm was like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Reads that were judged.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub acked: u64,
    /// Writes of which nobody knows whether they happened.
    pub unacked: u64,
    /// Reads that failed.
    pub failed: u64,
    /// The stalest read after an acknowledgement, in milliseconds.
    pub worst_ms: u64,
}

/// How loads and writes of a storm are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// The longest time that a load takes; up to this it depends on the key.
    pub load_ms_max: u64,
    /// One load in so many panics; 0 = none.
    pub panic_every: u64,
    /// What is read stays in memory: of the two fences of a load, that of L2 and that of L1, only the second is left.
    pub memory_only: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self { load_ms_max: 5, panic_every: 0, memory_only: false }
    }
}

/// A storm under way.
pub struct Storm {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    nodes: Vec<TieredCache>,
    weather: Weather,
    /// The system of record: the version of each key.
    source: Vec<AtomicU64>,
    checker: StalenessChecker,
    born: Instant,
    over: AtomicBool,
    loads: AtomicU64,
    seen: Mutex<Seen>,
}

fn handle(cache: &TieredCache) -> TypedCache<u64> {
    cache.namespace("storm").unwrap_or_else(|error| panic!("every node has the namespace: {error}"))
}

fn key(number: usize) -> Key {
    let namespace = Namespace::new("storm").unwrap_or_else(|error| panic!("a valid name: {error}"));
    // Variants of one resource are invalidated together.
    let built = Key::builder(&namespace, format!("resource-{}", number / 2)).param("n", number.to_string());
    built.build().unwrap_or_else(|error| panic!("a valid key: {error}"))
}

fn tag(number: usize) -> Tag {
    Tag::new(format!("tag-{}", number / TAGGED)).unwrap_or_else(|error| panic!("a valid tag: {error}"))
}

/// The time of the machine: reads are judged by it, not by the clock of the cache that is under test.
#[expect(clippy::disallowed_methods, reason = "the judge does not use the clock of what it judges")]
fn now() -> Instant {
    Instant::now()
}

/// Waits until a condition holds.
///
/// # Errors
/// After 30 seconds, with what was waited for.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.map_err(|_| anyhow::anyhow!("it did not happen within {PATIENCE:?}: {what}"))
}

impl Storm {
    /// Lets it begin; returns when there is something that can be lost.
    ///
    /// # Errors
    /// If the nodes do not come to life or nothing is acknowledged.
    pub async fn begin(nodes: Vec<TieredCache>, weather: Weather, seed: u64) -> anyhow::Result<Self> {
        until("all nodes are live", || nodes.iter().all(|node| node.health().live)).await?;
        let shared = Arc::new(Shared {
            nodes,
            weather,
            source: (0..KEYS).map(|_| AtomicU64::new(1)).collect(),
            checker: StalenessChecker::new(BOUND.as_millis() as u64),
            born: now(),
            over: AtomicBool::new(false),
            loads: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        // All nodes have all keys: what is not there cannot be stale.
        shared.inspected().await?;
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(shared.clone().write(writer, seed));
        }
        for reader in 0..READERS {
            tasks.spawn(shared.clone().read(reader, seed));
        }
        let storm = Self { shared, tasks };
        storm.rages().await?;
        Ok(storm)
    }

    /// Waits until a hundred more writes are acknowledged and a thousand more reads judged.
    ///
    /// # Errors
    /// If that does not happen.
    pub async fn rages(&self) -> anyhow::Result<()> {
        let before = *self.shared.seen.lock();
        until("writes are acknowledged and reads are judged", || {
            let seen = *self.shared.seen.lock();
            seen.acked >= before.acked + 100 && seen.reads >= before.reads + 1_000
        })
        .await
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        *self.shared.seen.lock()
    }

    /// The nodes.
    pub fn nodes(&self) -> &[TieredCache] {
        &self.shared.nodes
    }

    /// Ends it: all nodes must be live, writes acknowledged, and then every node must read the last value of every key.
    ///
    /// # Errors
    /// What of this is not so, or a task that panicked.
    pub async fn end(mut self) -> anyhow::Result<Seen> {
        let nodes = &self.shared.nodes;
        until("all nodes are live again", || nodes.iter().all(|node| node.health().live)).await?;
        self.rages().await?;
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| anyhow::anyhow!("a task of the storm: {error}"))?;
        }
        // Writes that were not acknowledged wait for the store.
        until("what was owed is delivered", || nodes.iter().all(|node| node.health().outbox == 0)).await?;
        self.shared.inspected().await?;
        let seen = self.seen();
        for node in nodes {
            node.validate();
            node.stop().await;
        }
        Ok(seen)
    }
}

impl Shared {
    fn ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// Waits until every node reads the last value of every key.
    async fn inspected(self: &Arc<Self>) -> anyhow::Result<()> {
        let mut inspections = JoinSet::new();
        for inspector in 0..INSPECTORS {
            inspections.spawn(self.clone().inspect(inspector));
        }
        while let Some(inspected) = inspections.join_next().await {
            inspected.map_err(|error| anyhow::anyhow!("an inspection: {error}"))??;
        }
        Ok(())
    }

    /// Reads the keys of one inspector on all nodes until that is their last value.
    async fn inspect(self: Arc<Self>, inspector: usize) -> anyhow::Result<()> {
        for node in &self.nodes {
            for number in (inspector..KEYS).step_by(INSPECTORS) {
                let last = self.source[number].load(Ordering::SeqCst);
                let settled = async {
                    while self.get(node, number).await != Some(last) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::time::timeout(BOUND * 5, settled).await.map_err(|_| {
                    anyhow::anyhow!("{} does not come to read the last value of {}", node.node(), key(number))
                })?;
            }
        }
        Ok(())
    }

    fn note(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen.lock());
    }

    /// Each writer has keys of its own, of which it alone decides the version.
    async fn write(self: Arc<Self>, writer: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed ^ (writer as u64) << 32);
        let cache = &self.nodes[writer % self.nodes.len()];
        while !self.over.load(Ordering::Relaxed) {
            let number = random.usize(0..KEYS / WRITERS) * WRITERS + writer;
            let (at, version) = (key(number), self.source[number].fetch_add(1, Ordering::SeqCst) + 1);
            let written = match random.u8(0..20) {
                0..13 => cache.invalidate(Scope::Key(at.clone()), "changed").await.map(drop),
                13 => cache.invalidate(Scope::Tag(tag(number)), "changed").await.map(drop),
                14..16 => {
                    let (namespace, resource) = (at.namespace().clone(), at.resource().to_owned());
                    cache.invalidate(Scope::Resource { namespace, resource }, "changed").await.map(drop)
                }
                _ => {
                    // With its version: of two puts that overtake each other on the way, the later counts.
                    let options = WriteOptions { tags: vec![tag(number)], ..WriteOptions::default() };
                    handle(cache).put_versioned(&at, Version(version), version, &options).await.map(drop)
                }
            };
            if written.is_ok() {
                self.checker.acked(&at, Version(version), self.ms());
            }
            self.note(|seen| match written {
                Ok(()) => seen.acked += 1,
                Err(_) => seen.unacked += 1,
            });
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(self: Arc<Self>, reader: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(!seed ^ reader as u64);
        let node = &self.nodes[reader % self.nodes.len()];
        while !self.over.load(Ordering::Relaxed) {
            let number = random.usize(0..KEYS);
            let began = self.ms();
            let version = self.get(node, number).await;
            let stale = version.map(|version| self.checker.staleness(&key(number), Version(version), began));
            self.note(|seen| match stale {
                Some(stale) => {
                    seen.reads += 1;
                    seen.worst_ms = seen.worst_ms.max(stale);
                }
                None => seen.failed += 1,
            });
            tokio::task::yield_now().await;
        }
    }

    async fn get(self: &Arc<Self>, node: &TieredCache, number: usize) -> Option<u64> {
        let (shared, slowness) = (self.clone(), self.weather.load_ms_max.max(1));
        let load = move || async move {
            let version = shared.source[number].load(Ordering::SeqCst);
            let turn = shared.loads.fetch_add(1, Ordering::Relaxed) + 1;
            // Slow enough to be overtaken.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=slowness))).await;
            let every = shared.weather.panic_every;
            assert!(every == 0 || turn % every != 0, "a loader that panics now and then");
            Ok(Loaded::new(version).versioned(Version(version)).tagged(tag(number)))
        };
        let tiers = self.weather.memory_only.then_some(Tiers::L1Only);
        let options = ReadOptions { tiers, ..ReadOptions::default() };
        let answer = handle(node).get_or_load_with(&key(number), &options, load).await.ok()?;
        answer.value.map(|version| *version)
    }
}
