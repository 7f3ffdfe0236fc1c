//! The auditor finds nothing where nothing is wrong, whatever is lost on the way; and where a guard is broken it counts the
//! violations and names the cause.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Clock, Key, NodeId, Scope, Tag, Version};
use cache_policy::PolicyKind;
use cache_testkit::{FaultyStore, FaultyTransport, ManualClock};
use cache_tiered::{
    AuditSettings, AuditSource, AuditStats, BusConfig, Cause, CoarseClock, Degraded, Loaded,
    NamespaceSettings, NodeSettings, SourceError, TieredCache, TypedCache, Violation, WriteOptions,
};
use parking_lot::Mutex;
use support::{eventually, joined, ns, server, spawned, text};
use tokio::sync::oneshot;

const SOON: Duration = Duration::from_secs(5);

/// All keys are watched; rounds come when the test asks for them.
fn all_keys() -> NodeSettings {
    let audit = AuditSettings { rate: 1.0, every: Duration::from_secs(3600), ..AuditSettings::default() };
    NodeSettings { audit: Some(audit), ..NodeSettings::default() }
}

/// The truth, by key.
#[derive(Default)]
struct Records(Mutex<HashMap<Key, u64>>);

impl Records {
    fn set(&self, key: &Key, version: u64) {
        self.0.lock().insert(key.clone(), version);
    }

    fn load(&self, key: &Key) -> Loaded<String> {
        let version = self.0.lock().get(key).copied().unwrap_or(1);
        Loaded::new(version.to_string()).versioned(Version(version))
    }
}

#[async_trait]
impl AuditSource for Records {
    async fn version(&self, key: &Key) -> Option<Version> {
        self.0.lock().get(key).copied().map(Version)
    }
}

/// A node "b" whose line to what the nodes share has faults, beside an honest "a".
struct Pair {
    clock: Arc<ManualClock>,
    a: TieredCache,
    b: TieredCache,
    line: Arc<FaultyTransport>,
    store: Arc<FaultyStore>,
    records: Arc<Records>,
}

impl Pair {
    async fn start() -> Self {
        let (server, clock) = server();
        let honest = Arc::new(server);
        let (line, store) =
            (Arc::new(FaultyTransport::new(honest.clone(), 7)), Arc::new(FaultyStore::new(honest.clone())));
        let records = Arc::<Records>::default();
        let start =
            |name: &str, store: Arc<dyn cache_l2::Store>, transport: Arc<dyn cache_bus::Transport>| {
                let node = NodeId::new(name).expect("valid");
                TieredCache::builder(node, store, transport, |entries| PolicyKind::Sieve.family(entries))
                    .clock(clock.clone())
                    .settings(all_keys())
                    .audit_source(ns("text"), records.clone())
                    .namespace::<String>(NamespaceSettings::new(ns("text")))
                    .start()
                    .expect("valid settings")
            };
        let (a, b) = (start("a", honest.clone(), honest), start("b", store.clone(), line.clone()));
        joined(&a).await;
        joined(&b).await;
        Self { clock, a, b, line, store, records }
    }

    fn key(&self) -> Key {
        text(&self.a).key("k").expect("valid")
    }

    /// A value that b has in L1.
    async fn shared(&self, key: &Key) {
        let written = text(&self.a).put(key, "old".into()).await.expect("acknowledged");
        assert!(self.b.reached(&written.token, SOON).await);
        text(&self.b).get(key).await.expect("readable").expect("there");
        text(&self.b).resident(key).expect("in L1");
        // What is said from here on was not said in the same millisecond.
        self.clock.advance(Duration::from_millis(5));
    }

    /// Lets so much time pass, with a proof (or what b takes for one) every half second.
    async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(500);
        for _ in 0..time.as_millis().div_ceil(step.as_millis()) {
            self.clock.advance(step);
            self.a.sync(SOON).await;
            self.b.sync(SOON).await;
        }
    }

    /// What the auditor of b makes of reads past the bound.
    async fn judged(&self, key: &Key) -> (AuditStats, Vec<Violation>) {
        // A first read, so that L2 is asked about the key; then one that must show what L2 said.
        text(&self.b).get(key).await.expect("readable");
        self.b.audit_now().await;
        self.pass(Duration::from_millis(2_500)).await;
        text(&self.b).get(key).await.expect("readable");
        self.b.audit_now().await;
        self.found()
    }

    fn found(&self) -> (AuditStats, Vec<Violation>) {
        let stats = text(&self.b).stats().audit.expect("it is watched");
        (stats, self.b.violations().pop().map(|(_, found)| found).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_hint_that_says_nothing_is_found_and_named() {
    for (by_put, tag) in [(true, false), (false, false), (false, true)] {
        let pair = Pair::start().await;
        let key = pair.key();
        pair.shared(&key).await;
        assert_eq!(pair.judged(&key).await.0.violations, 0);
        pair.line.empty_hints(true);
        let written = if by_put {
            text(&pair.a).put(&key, "new".into()).await.expect("acknowledged")
        } else {
            let scope = match tag {
                true => Scope::Namespace(ns("text")),
                false => Scope::Key(key.clone()),
            };
            let written = pair.a.invalidate(scope, "changed").await.expect("acknowledged");
            // Another node loads it anew: then L2 has something to compare with.
            let load = || async { Ok(Loaded::new("new".to_owned())) };
            text(&pair.a).get_or_load(&key, load).await.expect("loaded");
            written
        };
        assert!(pair.b.reached(&written.token, SOON).await);
        let (stats, found) = pair.judged(&key).await;
        // By the one that the first look made known; the read before it could not be judged.
        assert!(stats.violations >= 1 && stats.worst_ms >= 2_000, "{stats:?}");
        let (_, event) = written.token.positions().next().expect("one");
        assert!(
            matches!(found[0].cause, Cause::NeverApplied { event: named, cursor } if named == event && cursor >= event),
            "{found:?}"
        );
        assert!(found[0].cause.to_string().contains(&event.to_string()));
        assert!(stats.nines().is_some_and(|nines| nines < 1.0));
    }
}

#[tokio::test]
async fn a_node_that_trusts_what_nobody_proved_is_found_and_named() {
    let pair = Pair::start().await;
    let key = pair.key();
    pair.shared(&key).await;
    pair.line.lose_hints(true);
    pair.line.claim_head(true);
    let written = text(&pair.a).put(&key, "new".into()).await.expect("acknowledged");
    let (stats, found) = pair.judged(&key).await;
    let (_, event) = written.token.positions().next().expect("one");
    assert!(stats.violations >= 1, "{stats:?}");
    assert!(matches!(found[0].cause, Cause::Unproven { event: named, .. } if named == event), "{found:?}");
    assert!(found[0].history.iter().any(|line| line.contains("L2 has a record that was put")), "{found:?}");
}

/// A loader that waits to be let go with what it read before.
fn slow(
    records: &Arc<Records>,
    key: &Key,
) -> (oneshot::Sender<()>, impl Future<Output = Result<Loaded<String>, SourceError>> + Send + 'static) {
    let (go, gone) = oneshot::channel::<()>();
    let read = records.load(key);
    (go, async move {
        let _ = gone.await;
        Ok(read)
    })
}

#[tokio::test]
async fn a_fill_that_an_invalidation_had_overtaken_is_found_and_named() {
    for broken in [true, false] {
        let pair = Pair::start().await;
        let key = pair.key();
        pair.records.set(&key, 1);
        if broken {
            pair.store.fill_anyway();
        }
        let (go, loading) = slow(&pair.records, &key);
        let load = spawned({
            let (cache, key) = (text(&pair.b), key.clone());
            async move { cache.get_or_load(&key, || loading).await.expect("loaded") }
        });
        eventually("the load is under way", || text(&pair.b).stats().loads == 1).await;
        pair.clock.advance(Duration::from_millis(20));
        pair.records.set(&key, 2);
        let written = text(&pair.a).invalidate(&key, "changed").await.expect("acknowledged");
        assert!(pair.b.reached(&written.token, SOON).await);
        go.send(()).expect("it waits");
        load.await.expect("no panic");
        assert_eq!(text(&pair.b).get(&key).await.expect("readable").is_some(), broken);
        let (stats, found) = pair.judged(&key).await;
        let (_, event) = written.token.positions().next().expect("one");
        assert_eq!(stats.violations > 0, broken, "{stats:?}");
        assert_eq!(
            found.first().map(|found| found.cause),
            broken.then_some(Cause::Overtaken { event }),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_record_that_outlived_its_invalidation_in_l2_is_found_and_named() {
    let pair = Pair::start().await;
    let key = pair.key();
    pair.shared(&key).await;
    pair.store.stand_still();
    // Past L1, so that the store has something to stand still with.
    text(&pair.b).get_many(std::slice::from_ref(&key)).await.expect("readable");
    pair.b.audit_now().await;
    let written = text(&pair.a).invalidate(&key, "changed").await.expect("acknowledged");
    assert!(pair.b.reached(&written.token, SOON).await);
    pair.pass(Duration::from_millis(2_500)).await;
    let read = text(&pair.b).get(&key).await.expect("readable").expect("L2 still gives it");
    assert_eq!(read.tier, cache_tiered::Tier::L2);
    pair.b.audit_now().await;
    let (stats, found) = pair.found();
    let (_, event) = written.token.positions().next().expect("one");
    assert_eq!(
        found.first().map(|found| found.cause),
        Some(Cause::OldRecord { event }),
        "{stats:?} {found:?}"
    );
}

#[tokio::test]
async fn what_came_into_memory_after_its_invalidation_is_found_and_named() {
    for broken in [true, false] {
        let pair = Pair::start().await;
        let key = pair.key();
        pair.shared(&key).await;
        if broken {
            pair.store.stand_still();
        }
        pair.b.audit_now().await;
        text(&pair.b).get(&key).await.expect("readable").expect("still right");
        pair.b.audit_now().await;
        let written = text(&pair.a).invalidate(&key, "changed").await.expect("acknowledged");
        assert!(pair.b.reached(&written.token, SOON).await);
        // Within the bound: what is read here may be old. What it leaves in memory must not.
        pair.clock.advance(Duration::from_millis(5));
        let read = text(&pair.b).get(&key).await.expect("readable");
        assert_eq!((read.is_some(), text(&pair.b).resident(&key).is_some()), (broken, broken));
        pair.pass(Duration::from_millis(2_500)).await;
        let read = text(&pair.b).get(&key).await.expect("readable");
        assert_eq!(read.map(|answer| answer.tier), broken.then_some(cache_tiered::Tier::L1));
        pair.b.audit_now().await;
        let (stats, found) = pair.found();
        let (_, event) = written.token.positions().next().expect("one");
        assert_eq!(
            found.first().map(|found| found.cause),
            broken.then_some(Cause::InsertedAfter { event }),
            "{stats:?} {found:?}"
        );
    }
}

#[tokio::test]
async fn a_change_that_nobody_announced_is_told_and_is_no_violation() {
    let pair = Pair::start().await;
    let key = pair.key();
    pair.records.set(&key, 1);
    let first = pair.records.load(&key);
    text(&pair.b).get_or_load(&key, || async { Ok(first) }).await.expect("loaded");
    pair.records.set(&key, 2);
    let (stats, found) = pair.judged(&key).await;
    assert!(stats.outside >= 1 && stats.violations == 0 && found.is_empty(), "{stats:?} {found:?}");
}

#[tokio::test]
async fn what_is_flagged_as_stale_is_not_judged() {
    let pair = Pair::start().await;
    let key = pair.key();
    pair.shared(&key).await;
    pair.line.cut();
    let _ = text(&pair.a).put(&key, "new".into()).await.expect("acknowledged");
    assert_eq!(text(&pair.b).settings().degraded, Degraded::BoundedStale(Duration::from_secs(60)));
    for _ in 0..5 {
        pair.clock.advance(Duration::from_millis(1_000));
        text(&pair.b).get(&key).await.expect("readable").expect("served, flagged");
        pair.b.audit_now().await;
    }
    let (stats, _) = pair.found();
    assert!(stats.flagged >= 2 && stats.violations == 0, "{stats:?}");
}

#[tokio::test]
async fn all_nodes_watch_the_same_keys_and_so_many_as_they_are_told() {
    let (server, clock) = server();
    let start = |name: &str, rate: f64| {
        let audit = AuditSettings { rate, keys_max: 4_096, ..AuditSettings::default() };
        support::builder(&server, &clock, name)
            .settings(NodeSettings { audit: Some(audit), ..NodeSettings::default() })
            .namespace::<String>(NamespaceSettings {
                l1_entries_max: 4_000,
                ..NamespaceSettings::new(ns("text"))
            })
            .start()
            .expect("valid settings")
    };
    let caches = [start("a", 0.1), start("b", 0.1), start("c", 0.0), start("d", 1.0)];
    let watched = |cache: &TieredCache| text(cache).stats().audit.expect("it is watched").keys;
    for cache in &caches {
        joined(cache).await;
        for number in 0..2_000 {
            let key = text(cache).key(format!("k-{number}")).expect("valid");
            text(cache)
                .get_or_load(&key, || async { Ok(Loaded::new("v".to_owned())) })
                .await
                .expect("loaded");
        }
    }
    let counted: Vec<u64> = caches.iter().map(watched).collect();
    assert_eq!(counted[0], counted[1]);
    assert!((120..=280).contains(&counted[0]), "{counted:?}");
    assert_eq!((counted[2], counted[3]), (0, 2_000));
}

/// A storm in real time: writers and readers on two nodes, the hints of one of which are lost, repeated and
/// reordered.
struct Storm {
    caches: [TieredCache; 2],
    records: Arc<Records>,
    over: AtomicBool,
}

const BOUND: Duration = Duration::from_millis(400);
/// So many that a change that is lost is not repaired by the next one before the bound is over.
const KEYS: u64 = 600;

impl Storm {
    async fn start(disorder: u8) -> Arc<Self> {
        let clock = Arc::new(CoarseClock::new());
        let honest = Arc::new(EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()));
        let line = Arc::new(FaultyTransport::new(honest.clone(), 3));
        line.disorder(disorder);
        let records = Arc::<Records>::default();
        let start = |name: &str, transport: Arc<dyn cache_bus::Transport>| {
            let bus = BusConfig {
                sync_interval: Duration::from_millis(100),
                sync_timeout: Duration::from_millis(100),
                staleness_bound: BOUND,
                ..BusConfig::default()
            };
            let audit =
                AuditSettings { rate: 1.0, every: Duration::from_millis(50), ..AuditSettings::default() };
            let node = NodeId::new(name).expect("valid");
            TieredCache::builder(node, honest.clone(), transport, |entries| PolicyKind::Sieve.family(entries))
                .clock(clock.clone())
                .bus(bus)
                .settings(NodeSettings { audit: Some(audit), ..NodeSettings::default() })
                .audit_source(ns("text"), records.clone())
                .namespace::<String>(NamespaceSettings {
                    staleness_bound: BOUND,
                    ..NamespaceSettings::new(ns("text"))
                })
                .start()
                .expect("valid settings")
        };
        let caches = [start("a", honest.clone()), start("b", line)];
        for cache in &caches {
            joined(cache).await;
        }
        Arc::new(Self { caches, records, over: AtomicBool::new(false) })
    }

    fn key(cache: &TypedCache<String>, number: u64) -> Key {
        cache
            .key_with(format!("k-{}", number / 2))
            .param("n", (number % 2).to_string())
            .build()
            .expect("valid")
    }

    async fn write(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut version = 0;
        while !self.over.load(Ordering::Relaxed) {
            version += 1;
            let cache = &self.caches[random.usize(0..2)];
            let typed = text(cache);
            // Each writer has keys of its own.
            let number = random.u64(0..KEYS / 4) * 4 + seed;
            let key = Self::key(&typed, number);
            self.records.set(&key, version);
            let tagged =
                WriteOptions { tags: vec![Tag::new("t").expect("valid")], ..WriteOptions::default() };
            match random.u16(0..2_000) {
                0..500 => {
                    drop(typed.put_versioned(&key, Version(version), version.to_string(), &tagged).await)
                }
                500..1_800 => drop(typed.invalidate(&key, "changed").await),
                1_800..1_997 => {
                    let (namespace, resource) = (ns("text"), key.resource().to_owned());
                    drop(cache.invalidate(Scope::Resource { namespace, resource }, "changed").await);
                }
                1_997..1_999 => drop(cache.invalidate(Scope::Namespace(ns("text")), "changed").await),
                _ => {
                    let namespace = ns("text");
                    let pattern = cache_events::Pattern::new("k-*").expect("valid");
                    drop(cache.invalidate(Scope::Pattern { namespace, pattern }, "changed").await);
                }
            }
            tokio::time::sleep(Duration::from_millis(random.u64(0..8))).await;
        }
    }

    async fn read(self: Arc<Self>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while !self.over.load(Ordering::Relaxed) {
            let typed = text(&self.caches[random.usize(0..2)]);
            let key = Self::key(&typed, random.u64(0..KEYS));
            let (records, asked, slow) = (self.records.clone(), key.clone(), random.u64(0..5));
            let load = move || async move {
                let loaded = records.load(&asked);
                tokio::time::sleep(Duration::from_millis(slow)).await;
                Ok(loaded)
            };
            drop(typed.get_or_load(&key, load).await);
            tokio::task::yield_now().await;
        }
    }

    /// What the auditors found in two seconds.
    async fn rage(disorder: u8) -> [AuditStats; 2] {
        let storm = Self::start(disorder).await;
        let mut tasks: Vec<_> = (0..4).map(|seed| spawned(storm.clone().write(seed))).collect();
        tasks.extend((4..8).map(|seed| spawned(storm.clone().read(seed))));
        let (clock, stats) = (storm.caches[0].clock().clone(), |at: usize| {
            text(&storm.caches[at]).stats().audit.expect("it is watched")
        });
        let until = clock.now() + 2_000;
        let enough = async {
            while clock.now() < until || stats(0).judged.min(stats(1).judged) < 2_000 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), enough).await;
        assert!(waited.is_ok(), "there is not enough to judge: {:?}", text(&storm.caches[0]).stats());
        storm.over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("no panic");
        }
        for cache in &storm.caches {
            cache.audit_now().await;
            let found = cache.violations();
            assert!(found.is_empty(), "{found:#?}");
            cache.stop().await;
        }
        [stats(0), stats(1)]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_where_nothing_is_wrong() {
    for stats in Storm::rage(0).await {
        assert_eq!((stats.violations, stats.worst_ms), (0, 0), "{stats:?}");
        assert!(stats.nines().is_some_and(|nines| nines > 3.0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_where_hints_are_lost_repeated_and_reordered() {
    for stats in Storm::rage(60).await {
        assert_eq!((stats.violations, stats.worst_ms), (0, 0), "{stats:?}");
    }
}
