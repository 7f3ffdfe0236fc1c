//! Whole caches and nodes over real deployments: what reaches whom, what the levels of acknowledgement promise, and what a
//! node says of its servers. What happens to them under load is in the fault matrix (`cache-faults`).

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_bus::Transport;
use cache_events::{EventKind, Key, Namespace, NodeId, Pattern, Scope};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{FaultyTransport, RedisCluster, RedisReplicated, RedisServer, RedisServerOptions};
use cache_tiered::{
    Acknowledge, BusConfig, CoarseClock, EventDraft, NamespaceSettings, NodeSettings, TieredCache,
    TypedCache, WriteError,
};
use serde_json::json;
use support::Serving;

/// D. Short, so that a fault outlasts it.
const BOUND: Duration = Duration::from_millis(1000);
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

#[test]
fn a_node_warns_of_a_master_that_would_go_on_alone() {
    let guarded = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"].map(str::to_owned).to_vec();
    for (args, warned) in [(Vec::new(), true), (guarded, false)] {
        let options = RedisServerOptions { args, ..Default::default() };
        let deployment = RedisReplicated::start_with(1, options);
        let node = Serving::start(&[("REDIS_URL", &deployment.master.url())]);
        // Each look at its health ends with the verdict; what is to be warned of comes before that.
        node.until_log("cache_node::node: healthy");
        let (status, log) = node.terminate();
        assert!(status.success(), "{log}");
        assert_eq!(log.contains("min-replicas-to-write"), warned, "{log}");
    }
}
