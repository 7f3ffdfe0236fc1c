//! Whole caches over real deployments whose masters fail and whose slots move: nobody reads what is older than the bound
//! allows, and everything works again afterwards. And what the levels of acknowledgement promise.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cache_bus::Transport;
use cache_events::{EventKind, Key, Namespace, NodeId, Pattern, Scope, Version};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{FaultyTransport, RedisCluster, RedisReplicated, RedisSentinels, RedisServer};
use cache_tiered::staleness::StalenessChecker;
use cache_tiered::{
    Acknowledge, BusConfig, CoarseClock, EventDraft, Loaded, NamespaceSettings, NodeSettings, TieredCache,
    TypedCache, WriteError,
};
use parking_lot::Mutex;
use serde_json::json;
use support::Serving;
use tokio::task::JoinSet;

/// D. Short, so that a fault outlasts it.
const BOUND: Duration = Duration::from_millis(1000);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_millis(100);
const KEYS: usize = 240;
const WRITERS: usize = 12;
/// Long enough that a busy machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(url: &str) -> RedisConfig {
    RedisConfig {
        operation_timeout: Duration::from_millis(200),
        control_timeout: Duration::from_millis(250),
        ..RedisConfig::from_url(url).expect("a URL")
    }
}

fn start(config: &RedisConfig, name: &str) -> TieredCache {
    let transport = Arc::new(RedisTransport::new(config.clone()).expect("valid"));
    start_over(config, transport, name, Duration::from_secs(5))
}

fn start_over(
    config: &RedisConfig,
    transport: Arc<dyn Transport>,
    name: &str,
    deadline: Duration,
) -> TieredCache {
    let store = Arc::new(RedisStore::new(config.clone()).expect("valid"));
    let mut settings = NamespaceSettings::new(Namespace::new("ns").expect("valid"));
    settings.staleness_bound = BOUND;
    // Nothing is served beyond the bound.
    let settings = settings.critical();
    let bus = BusConfig {
        sync_interval: Duration::from_millis(200),
        sync_timeout: Duration::from_millis(250),
        staleness_bound: BOUND,
        ..BusConfig::default()
    };
    TieredCache::builder(NodeId::new(name).expect("valid"), store, transport, |entries| {
        PolicyKind::Sieve.family(entries)
    })
    .clock(Arc::new(CoarseClock::new()))
    .bus(bus)
    .settings(NodeSettings { write_deadline: deadline, ..NodeSettings::default() })
    .namespace::<u64>(settings)
    .start()
    .expect("valid settings")
}

fn handle(cache: &TieredCache) -> TypedCache<u64> {
    cache.namespace("ns").expect("declared")
}

fn key(number: usize) -> Key {
    Key::new(&Namespace::new("ns").expect("valid"), format!("key-{number}")).expect("valid")
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "timed out: {what}");
}

async fn live(caches: &[&TieredCache]) {
    until("all nodes are live", || caches.iter().all(|cache| cache.health().live)).await;
}

/// Writers and readers, and what they saw.
struct Storm {
    writer: TieredCache,
    readers: Vec<TieredCache>,
    /// The system of record.
    source: Mutex<HashMap<Key, u64>>,
    checker: StalenessChecker,
    over: AtomicBool,
    reads: AtomicU64,
    acked: AtomicU64,
    unacked: AtomicU64,
    worst: AtomicU64,
}

impl Storm {
    fn now(&self) -> u64 {
        self.writer.clock().now()
    }

    /// Each writer has keys of its own, so that those of a partition that is away do not hold up the others.
    async fn write(self: Arc<Self>, writer: usize) {
        let cache = &self.writer;
        let (mut random, mut version) = (fastrand::Rng::with_seed(writer as u64), 0);
        while !self.over.load(Ordering::Relaxed) {
            let key = key(random.usize(0..KEYS / WRITERS) * WRITERS + writer);
            version += 1;
            self.source.lock().insert(key.clone(), version);
            match handle(cache).invalidate(&key, "changed").await {
                Ok(_) => {
                    self.checker.acked(&key, Version(version), self.now());
                    self.acked.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.unacked.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn read(self: Arc<Self>, reader: usize, seed: u64) {
        let handle = handle(&self.readers[reader]);
        let mut random = fastrand::Rng::with_seed(seed);
        while !self.over.load(Ordering::Relaxed) {
            let key = key(random.usize(0..KEYS));
            let began = self.now();
            let (storm, asked) = (self.clone(), key.clone());
            let load = move || async move {
                let version = storm.source.lock().get(&asked).copied().unwrap_or_default();
                // Slow enough to be overtaken.
                tokio::time::sleep(Duration::from_millis(asked.hash64() % 5)).await;
                Ok(Loaded::new(version))
            };
            if let Ok(answer) = handle.get_or_load(&key, load).await {
                let seen = answer.value.map_or(0, |value| *value);
                let staleness = self.checker.staleness(&key, Version(seen), began);
                self.worst.fetch_max(staleness, Ordering::Relaxed);
                self.reads.fetch_add(1, Ordering::Relaxed);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Lets them write and read while the faults go on, and until all is well again.
    async fn rage<D: Send + 'static>(url: &str, faults: impl FnOnce() -> D + Send + 'static) {
        let config = config(url);
        let storm = Arc::new(Self {
            writer: start(&config, "writer"),
            readers: vec![start(&config, "reader-1"), start(&config, "reader-2")],
            source: Mutex::default(),
            checker: StalenessChecker::new(BOUND.as_millis() as u64),
            over: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            unacked: AtomicU64::new(0),
            worst: AtomicU64::new(0),
        });
        let caches = [&storm.writer, &storm.readers[0], &storm.readers[1]];
        live(&caches).await;
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(storm.clone().write(writer));
        }
        for reader in 0..4 {
            tasks.spawn(storm.clone().read(reader % 2, reader as u64));
        }
        until("there is something to be lost", || storm.acked.load(Ordering::Relaxed) > 100).await;
        // The servers end with it.
        let began = support::stopwatch();
        let _deployment = tokio::task::spawn_blocking(faults).await.expect("the faults happen");
        println!("the faults took {:?}", began.elapsed());
        live(&caches).await;
        let acked = storm.acked.load(Ordering::Relaxed);
        until("writes are acknowledged again", || storm.acked.load(Ordering::Relaxed) > acked + 100).await;
        until("there was enough to judge", || storm.reads.load(Ordering::Relaxed) > 1_000).await;
        storm.over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task panics");
        }
        // Everybody sees the last version of everything, as soon as the bound allows.
        let last = storm.source.lock().clone();
        for cache in &storm.readers {
            for (key, version) in &last {
                until("the last version is read", || {
                    let resident = handle(cache).resident(key);
                    resident.is_none_or(|answer| answer.value.map(|value| *value) == Some(*version))
                })
                .await;
            }
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let worst = Duration::from_millis(count(&storm.worst));
        println!(
            "{} reads, {} writes acknowledged, {} not; the stalest read was {worst:?} old",
            count(&storm.reads),
            count(&storm.acked),
            count(&storm.unacked)
        );
        assert!(worst <= BOUND + MARGIN, "a read was {worst:?} stale");
        for cache in caches {
            cache.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_resharded_under_load() {
    let cluster = RedisCluster::start_with(3, 0, &[]);
    let url = cluster.url();
    Storm::rage(&url, move || {
        // Of the first node a stretch with three of its partitions goes to the third, slot by slot.
        for slot in (0..1_536).filter(|slot| !cluster.keys_of(0, *slot).is_empty()) {
            cluster.move_slot(slot, 2);
        }
        cluster
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_is_killed_under_load() {
    let mut cluster = RedisCluster::start();
    let url = cluster.url();
    Storm::rage(&url, move || {
        cluster.nodes[1].kill();
        cluster.wait_for_failover(8_000, 1);
        cluster
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_under_sentinel_is_killed_under_load() {
    let mut deployment = RedisSentinels::start(&["one", "two"]);
    let url = deployment.url();
    Storm::rage(&url, move || {
        let killed = deployment.kill_master(0);
        deployment.wait_for_failover(0, killed);
        deployment
    })
    .await;
}

#[tokio::test]
async fn a_pattern_in_a_cluster_reaches_the_whole_namespace() {
    let cluster = RedisCluster::start_with(3, 0, &[]);
    let config = config(&cluster.url());
    let (a, b) = (start(&config, "a"), start(&config, "b"));
    live(&[&a, &b]).await;
    let keys: Vec<Key> = (0..20).map(key).collect();
    for key in &keys {
        let written = handle(&a).put(key, 1).await.expect("acknowledged");
        assert!(b.reached(&written.token, PATIENCE).await);
        assert!(handle(&b).get(key).await.expect("readable").is_some());
    }
    let pattern = Pattern::new("key-1*").expect("valid");
    let namespace = Namespace::new("ns").expect("valid");
    let written = a.invalidate(Scope::Pattern { namespace, pattern }, "test").await.expect("acknowledged");
    assert!(b.reached(&written.token, PATIENCE).await);
    for key in &keys {
        // More than asked for, never less.
        assert!(handle(&b).get(key).await.expect("readable").is_none(), "{key}");
    }
    for cache in [a, b] {
        cache.stop().await;
    }
}

/// Two caches of which the second hears no hints, and a key that both have in L1.
async fn one_that_is_deaf(server: &RedisServer) -> (TieredCache, TieredCache, Arc<FaultyTransport>, Key) {
    let config = config(&server.url());
    let inner = Arc::new(RedisTransport::new(config.clone()).expect("valid"));
    let deaf = Arc::new(FaultyTransport::new(inner, 1));
    let (a, b) = (start(&config, "a"), start_over(&config, deaf.clone(), "b", Duration::from_secs(5)));
    live(&[&a, &b]).await;
    let key = key(1);
    let written = handle(&a).put(&key, 1).await.expect("acknowledged");
    assert!(b.reached(&written.token, PATIENCE).await);
    handle(&b).get(&key).await.expect("readable").expect("there");
    deaf.lose_hints(true);
    (a, b, deaf, key)
}

fn change(key: &Key, level: Acknowledge) -> EventDraft {
    EventDraft::new(EventKind::MANUAL_INVALIDATION, key.resource())
        .touching(Scope::Key(key.clone()))
        .acknowledge(level)
}

#[tokio::test]
async fn behind_a_barrier_nobody_serves_what_was_there_before() {
    let server = RedisServer::start();
    let (a, b, deaf, key) = one_that_is_deaf(&server).await;
    // The epoch is young: for the bound nobody knows who may be missing from the roll.
    tokio::time::sleep(BOUND).await;
    handle(&b).get(&key).await.expect("readable").expect("there");
    let old = handle(&b).resident(&key).is_some();
    let began = b.clock().now();
    let _ = a.publish(change(&key, Acknowledge::Master)).await.expect("acknowledged");
    // The control: a copy is still served, as it may be.
    assert!(old && (handle(&b).resident(&key).is_some() || b.clock().now() - began > 100));

    let written = handle(&a).put(&key, 2).await.expect("acknowledged");
    assert!(b.reached(&written.token, PATIENCE).await);
    handle(&b).get(&key).await.expect("readable").expect("there");
    let _ = a.publish(change(&key, Acknowledge::Barrier)).await.expect("acknowledged");
    assert!(handle(&b).resident(&key).is_none(), "its sync has brought it");

    // One that cannot even sync stops trusting, and the barrier waits for that.
    let written = handle(&a).put(&key, 3).await.expect("acknowledged");
    assert!(b.reached(&written.token, PATIENCE).await);
    handle(&b).get(&key).await.expect("readable").expect("there");
    deaf.cut();
    let began = a.clock().now();
    let _ = a.publish(change(&key, Acknowledge::Barrier)).await.expect("acknowledged");
    assert!(handle(&b).resident(&key).is_none(), "it trusts nothing any more");
    assert!(a.clock().now() - began >= 300, "it was waited for");
    for cache in [a, b] {
        cache.stop().await;
    }
}

#[tokio::test]
async fn a_write_that_replicas_do_not_have_is_not_acknowledged() {
    let deployment = RedisReplicated::start(1);
    let config = config(&deployment.master.url());
    let with_deadline = |name: &str, deadline: Duration| {
        let transport = Arc::new(RedisTransport::new(config.clone()).expect("valid"));
        start_over(&config, transport, name, deadline)
    };
    // One that waits however busy the machine is, and one that gives up.
    let (cache, hasty) = (with_deadline("a", PATIENCE), with_deadline("b", Duration::from_millis(600)));
    live(&[&cache, &hasty]).await;
    let key = key(1);
    let _ = cache.publish(change(&key, Acknowledge::Replicated(1))).await.expect("the replica has it");
    deployment.replicas[0].pause();
    let _ = cache.publish(change(&key, Acknowledge::Master)).await.expect("the master has it");
    let error = hasty.publish(change(&key, Acknowledge::Replicated(1))).await.expect_err("nobody else has");
    assert!(
        matches!(&error, WriteError::Unacked { last, .. } if last.to_string().contains("0 of 1")),
        "{error}"
    );
    deployment.replicas[0].resume();
    let _ = cache.publish(change(&key, Acknowledge::Replicated(1))).await.expect("the replica has it");
    for cache in [cache, hasty] {
        cache.stop().await;
    }
}

#[test]
fn a_node_on_a_cluster_serves_and_says_how_its_servers_are() {
    let mut cluster = RedisCluster::start();
    let url = cluster.url();
    let nodes = [0, 1].map(|_| Serving::start(&[("REDIS_URL", &url)]));
    nodes.iter().for_each(|node| node.client.until_status("healthy"));
    for number in 0..20 {
        let path = format!("/cache/session/s{number}");
        assert_eq!(nodes[0].client.put(&path, &json!(number)).status, 200);
        assert_eq!(nodes[1].client.get(&path).body, json!(number));
    }
    let health = nodes[0].client.get("/health").body;
    let topology = &health["topology"];
    assert_eq!(
        (&topology["total_nodes"], &topology["healthy_nodes"], &topology["topology"]),
        (&json!(6), &json!(6), &json!("cluster"))
    );
    assert_eq!((&topology["primary_healthy"], &topology["replica_healthy"]), (&json!(true), &json!(true)));
    assert_eq!(
        (&topology["cluster"]["slots_ok"], &topology["cluster"]["state"]),
        (&json!(16_384), &json!("ok"))
    );
    assert!(topology["masters"][0]["keyspace"].as_u64().is_some_and(|keys| keys > 30), "{topology}");

    cluster.nodes[2].kill();
    nodes[0].client.until("/health", "a master that is away", |answer| {
        answer.body["topology"]["primary_healthy"] == json!(false)
            && answer.body["status"] == json!("degraded")
    });
    nodes.iter().for_each(|node| node.client.until_status("healthy"));
    let topology = nodes[0].client.get("/health").body["topology"].clone();
    let nodes_of = |name: &str| topology[name].as_u64();
    assert_eq!((nodes_of("total_nodes"), nodes_of("healthy_nodes")), (Some(6), Some(5)), "{topology}");
    assert_eq!(topology["primary_healthy"], json!(true));
    for node in nodes {
        assert!(node.terminate().0.success());
    }
}
