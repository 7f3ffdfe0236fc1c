//! Writers and readers on three nodes, a source of truth beside them, and what the readers saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_events::{Scope, Version};
use cache_tiered::staleness::StalenessChecker;
use cache_tiered::{Loaded, ReadOptions, TieredCache, Tiers, WriteOptions};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::apart::Apart;
use crate::keys::{handle, key, tag};
use crate::source::Source;

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
    /// The same of the reads since [`Storm::mark`].
    pub worst_ms_since: u64,
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
    /// Readers, over all nodes.
    pub readers: usize,
    /// Nodes that write: the first ones.
    pub writing: usize,
}

impl Default for Weather {
    fn default() -> Self {
        Self { load_ms_max: 5, panic_every: 0, memory_only: false, readers: 24, writing: 3 }
    }
}

/// A storm under way.
pub struct Storm {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    nodes: Vec<TieredCache>,
    apart: Option<Apart>,
    weather: Weather,
    source: Arc<Source>,
    checker: StalenessChecker,
    born: Instant,
    /// From when on reads count for [`Seen::worst_ms_since`].
    marked: AtomicU64,
    over: AtomicBool,
    loads: AtomicU64,
    loading: Vec<Arc<Loading>>,
    seen: Mutex<Seen>,
}

/// The loads under way on one node.
#[derive(Default)]
struct Loading {
    now: AtomicU64,
    most: AtomicU64,
}

impl Loading {
    /// One more, until what is given back goes.
    fn begin(self: Arc<Self>) -> Under {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Under(self)
    }
}

struct Under(Arc<Loading>);

impl Drop for Under {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time of the machine: reads are judged by it, not by the clock of the cache that is under test.
#[expect(clippy::disallowed_methods, reason = "the judge does not use the clock of what it judges")]
pub fn now() -> Instant {
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
    /// Lets it begin; returns when there is something that can be lost. `apart`: the servers of one more node, in a process
    /// of its own, that only reads.
    ///
    /// # Errors
    /// If the nodes do not come to life or nothing is acknowledged.
    pub async fn begin(
        nodes: Vec<TieredCache>,
        apart: Option<&str>,
        weather: Weather,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let source = Arc::new(Source::new(KEYS)?);
        let apart = apart.map(|url| Apart::start(url, &source.path(), weather.load_ms_max)).transpose()?;
        let shared = Arc::new(Shared {
            loading: nodes.iter().map(|_| Arc::default()).collect(),
            nodes,
            apart,
            weather,
            source,
            checker: StalenessChecker::new(BOUND.as_millis() as u64),
            born: now(),
            marked: AtomicU64::new(0),
            over: AtomicBool::new(false),
            loads: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        shared.live().await?;
        // All nodes have all keys: what is not there cannot be stale.
        shared.inspected().await?;
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(shared.clone().write(writer, seed));
        }
        for reader in 0..weather.readers {
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

    /// The nodes in this process.
    pub fn nodes(&self) -> &[TieredCache] {
        &self.shared.nodes
    }

    /// The node in a process of its own.
    ///
    /// # Errors
    /// If there is none.
    pub fn apart(&self) -> anyhow::Result<&Apart> {
        self.shared.apart.as_ref().ok_or_else(|| anyhow::anyhow!("this row has no node apart"))
    }

    /// Reads that begin from now on count for [`Seen::worst_ms_since`] as well.
    pub fn mark(&self) {
        self.shared.marked.store(self.shared.ms(), Ordering::SeqCst);
        self.shared.note(|seen| seen.worst_ms_since = 0);
    }

    /// How often the source was asked by the nodes in this process.
    pub fn loads(&self) -> u64 {
        self.shared.loads.load(Ordering::Relaxed)
    }

    /// The most loads that one of them had under way at a time.
    pub fn loads_at_once(&self) -> u64 {
        self.shared.loading.iter().map(|node| node.most.load(Ordering::Relaxed)).max().unwrap_or_default()
    }

    /// One read of each key on the node apart, all begun now, judged when they are answered.
    pub fn ask_apart(&self) -> JoinSet<Option<u64>> {
        let mut asked = JoinSet::new();
        let began = self.shared.ms();
        for number in 0..KEYS {
            asked.spawn(self.shared.clone().look(self.shared.nodes.len(), number, began));
        }
        asked
    }

    /// Waits until all nodes are live, and says how long that took.
    ///
    /// # Errors
    /// If that does not happen.
    pub async fn live(&self) -> anyhow::Result<Duration> {
        let began = now();
        self.shared.live().await?;
        Ok(began.elapsed())
    }

    /// Waits until one more write is acknowledged.
    ///
    /// # Errors
    /// If that does not happen.
    pub async fn acknowledged(&self) -> anyhow::Result<Duration> {
        let (began, before) = (now(), self.seen().acked);
        until("a write is acknowledged", || self.seen().acked > before).await?;
        Ok(began.elapsed())
    }

    /// Ends it: all nodes must be live, writes acknowledged, and then every node must read the last value of every key. Says
    /// what was seen, these last reads included, and what of this is not so.
    pub async fn end(mut self) -> (Seen, anyhow::Result<()>) {
        let ended = self.calm_down().await;
        (self.seen(), ended)
    }

    async fn calm_down(&mut self) -> anyhow::Result<()> {
        self.shared.live().await?;
        self.rages().await?;
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|error| anyhow::anyhow!("a task of the storm: {error}"))?;
        }
        let nodes = &self.shared.nodes;
        // Writes that were not acknowledged wait for the store.
        until("what was owed is delivered", || nodes.iter().all(|node| node.health().outbox == 0)).await?;
        self.shared.inspected().await?;
        for node in nodes {
            node.validate();
            node.stop().await;
        }
        Ok(())
    }
}

impl Shared {
    fn ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// How many nodes there are.
    fn count(&self) -> usize {
        self.nodes.len() + usize::from(self.apart.is_some())
    }

    async fn live(&self) -> anyhow::Result<()> {
        until("all nodes are live", || self.nodes.iter().all(|node| node.health().live)).await?;
        let Some(apart) = &self.apart else { return Ok(()) };
        let live = async {
            while !apart.live().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, live).await;
        waited.map_err(|_| anyhow::anyhow!("it did not happen within {PATIENCE:?}: the node apart is live"))
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
        for node in 0..self.count() {
            for number in (inspector..KEYS).step_by(INSPECTORS) {
                let last = self.source.version(number);
                let settled = async {
                    while self.clone().look(node, number, self.ms()).await != Some(last) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::time::timeout(BOUND * 5, settled).await.map_err(|_| {
                    anyhow::anyhow!("node {node} does not come to read the last value of {}", key(number))
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
        let cache = &self.nodes[writer % self.weather.writing.min(self.nodes.len())];
        while !self.over.load(Ordering::Relaxed) {
            let number = random.usize(0..KEYS / WRITERS) * WRITERS + writer;
            let (at, version) = (key(number), self.source.change(number));
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
        while !self.over.load(Ordering::Relaxed) {
            self.clone().look(reader % self.count(), random.usize(0..KEYS), self.ms()).await;
            tokio::task::yield_now().await;
        }
    }

    /// Reads a key and judges what was seen.
    async fn look(self: Arc<Self>, node: usize, number: usize, began: u64) -> Option<u64> {
        let version = self.get(node, number).await;
        let stale = version.map(|version| self.checker.staleness(&key(number), Version(version), began));
        let counts = began >= self.marked.load(Ordering::SeqCst);
        self.note(|seen| match stale {
            Some(stale) => {
                seen.reads += 1;
                seen.worst_ms = seen.worst_ms.max(stale);
                if counts {
                    seen.worst_ms_since = seen.worst_ms_since.max(stale);
                }
            }
            None => seen.failed += 1,
        });
        version
    }

    async fn get(self: &Arc<Self>, node: usize, number: usize) -> Option<u64> {
        let Some(cache) = self.nodes.get(node) else { return self.apart.as_ref()?.get(number).await };
        let (shared, slowness) = (self.clone(), self.weather.load_ms_max.max(1));
        let load = move || async move {
            let _under = shared.loading[node].clone().begin();
            let version = shared.source.version(number);
            let turn = shared.loads.fetch_add(1, Ordering::Relaxed) + 1;
            // Slow enough to be overtaken.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=slowness))).await;
            let every = shared.weather.panic_every;
            assert!(every == 0 || turn % every != 0, "a loader that panics now and then");
            Ok(Loaded::new(version).versioned(Version(version)).tagged(tag(number)))
        };
        let tiers = self.weather.memory_only.then_some(Tiers::L1Only);
        let options = ReadOptions { tiers, ..ReadOptions::default() };
        let answer = handle(cache).get_or_load_with(&key(number), &options, load).await.ok()?;
        answer.value.map(|version| *version)
    }
}
