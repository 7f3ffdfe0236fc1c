//! Reads to which any age will do are answered by replicas, and told apart from all others.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Key, Namespace, NodeId};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{RedisReplicated, RedisServer, RedisServerOptions};
use cache_tiered::{
    Answer, CoarseClock, Freshness, NamespaceSettings, ReadOptions, Tier, TieredCache, TypedCache,
};
use support::{Serving, command};

const PATIENCE: Duration = Duration::from_secs(20);

async fn start(server: &RedisServer, name: &str) -> TieredCache {
    let config = RedisConfig {
        replica_reads: true,
        operation_timeout: Duration::from_millis(300),
        control_timeout: Duration::from_millis(300),
        ..RedisConfig::from_url(&server.url()).expect("a URL")
    };
    let (store, transport) = (RedisStore::new(config.clone()), RedisTransport::new(config));
    let (store, transport) = (Arc::new(store.expect("valid")), Arc::new(transport.expect("valid")));
    let namespace = |name: &str| NamespaceSettings::new(Namespace::new(name).expect("valid"));
    let cache = TieredCache::builder(NodeId::new(name).expect("valid"), store, transport, |entries| {
        PolicyKind::Sieve.family(entries)
    })
    .clock(Arc::new(CoarseClock::new()))
    .namespace::<u64>(namespace("plain"))
    .namespace::<u64>(namespace("strict").critical())
    .start()
    .expect("valid settings");
    assert!(cache.sync(PATIENCE).await, "it joins");
    cache
}

async fn read(cache: &TypedCache<u64>, key: &Key, freshness: Freshness) -> Option<Answer<u64>> {
    let options = ReadOptions { freshness, ..ReadOptions::default() };
    cache.get_with(key, &options).await.expect("readable")
}

fn holds(answer: &Option<Answer<u64>>) -> Option<u64> {
    answer.as_ref().and_then(|answer| answer.value.as_deref().copied())
}

#[tokio::test]
async fn an_answer_of_a_replica_is_flagged_and_kept_nowhere() {
    let deployment = RedisReplicated::start(1);
    let (a, b) = (start(&deployment.master, "a").await, start(&deployment.master, "b").await);
    for namespace in ["plain", "strict"] {
        let (writer, reader): (TypedCache<u64>, TypedCache<u64>) =
            (a.namespace(namespace).expect("declared"), b.namespace(namespace).expect("declared"));
        let key = reader.key("k").expect("valid");
        let written = writer.put(&key, 1).await.expect("acknowledged");
        assert!(b.reached(&written.token, PATIENCE).await);
        // As soon as the replica has it, where it may be asked at all.
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let found = read(&reader, &key, Freshness::Any).await;
                if namespace == "strict" || found.as_ref().is_some_and(|answer| answer.stale) {
                    return found;
                }
                // The master answered instead, and L1 has it now.
                let written = b.invalidate(cache_events::Scope::All, "test").await.expect("acknowledged");
                assert!(b.reached(&written.token, PATIENCE).await);
                let written = writer.put(&key, 1).await.expect("acknowledged");
                assert!(b.reached(&written.token, PATIENCE).await);
            }
        });
        let found = found.await.expect("a replica answers");
        let expected = (namespace == "plain", Tier::L2);
        let two = [reader.key("absent").expect("valid"), key.clone()];
        let any = ReadOptions { freshness: Freshness::Any, ..ReadOptions::default() };
        let many = reader.get_many_with(&two, &any).await.expect("readable");
        let seen: Vec<_> =
            many.iter().map(|answer| answer.as_ref().map(|answer| (answer.stale, holds(&many[1])))).collect();
        assert_eq!(seen, [None, Some((namespace == "plain", Some(1)))], "many of {namespace}");
        assert_eq!(found.as_ref().map(|answer| (answer.stale, answer.tier)), Some(expected), "{namespace}");
        assert_eq!(
            (holds(&found), found.is_some_and(|answer| answer.lag_ms == u64::MAX)),
            (Some(1), expected.0)
        );
        assert_eq!(reader.resident(&key).is_some(), namespace == "strict", "L1 keeps nothing of a replica");
    }
    for cache in [a, b] {
        cache.stop().await;
    }
}

#[tokio::test]
async fn only_a_read_to_which_any_age_will_do_sees_what_a_replica_missed() {
    let deployment = RedisReplicated::start(1);
    let (a, b) = (start(&deployment.master, "a").await, start(&deployment.master, "b").await);
    let (writer, reader): (TypedCache<u64>, TypedCache<u64>) =
        (a.namespace("plain").expect("declared"), b.namespace("plain").expect("declared"));
    let key = reader.key("k").expect("valid");
    let _ = writer.put(&key, 1).await.expect("acknowledged");
    let seen = tokio::time::timeout(PATIENCE, async {
        while read(&reader, &key, Freshness::Any).await.is_none_or(|answer| !answer.stale) {
            let _ = writer.put(&key, 1).await.expect("acknowledged");
        }
    });
    seen.await.expect("a replica answers");
    deployment.replicas[0].command(&["REPLICAOF", "127.0.0.1", "1"]);
    let written = writer.put(&key, 2).await.expect("acknowledged");
    assert!(b.reached(&written.token, PATIENCE).await);
    let any = read(&reader, &key, Freshness::Any).await;
    assert_eq!((holds(&any), any.is_some_and(|answer| answer.stale)), (Some(1), true));
    for wish in [Freshness::AtLeast(written.token), Freshness::Latest, Freshness::Bounded] {
        let read = read(&reader, &key, wish.clone()).await;
        assert_eq!((holds(&read), read.is_some_and(|answer| answer.stale)), (Some(2), false), "{wish}");
    }
    // Where no replica answers, the master does.
    deployment.replicas[0].pause();
    let other = reader.key("other").expect("valid");
    let written = writer.put(&other, 3).await.expect("acknowledged");
    assert!(b.reached(&written.token, PATIENCE).await);
    let any = read(&reader, &other, Freshness::Any).await;
    assert_eq!((holds(&any), any.is_some_and(|answer| answer.stale)), (Some(3), false));
    deployment.replicas[0].resume();
    for cache in [a, b] {
        cache.stop().await;
    }
}

#[test]
fn a_node_that_requires_guarded_masters_refuses_others_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "[redis]\nrequire_min_replicas = true\n").expect("a file");
    let arguments = ["--config", file.to_str().expect("text"), "--listen", "127.0.0.1:0"];
    let alone = RedisServer::start();
    let refused = command(&arguments, &[("REDIS_URL", &alone.url())]).output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("min-replicas-to-write"), "{told}");
    let away = command(&arguments, &[("REDIS_URL", "redis://127.0.0.1:1")]).output().expect("it runs");
    let told = String::from_utf8_lossy(&away.stderr);
    assert!(!away.status.success() && told.contains("does not answer"), "{told}");

    let args = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "10"].map(str::to_owned).to_vec();
    let guarded = RedisReplicated::start_with(1, RedisServerOptions { args, ..Default::default() });
    let node = Serving::start_with(&arguments, &[("REDIS_URL", &guarded.master.url())]);
    node.client.until_status("healthy");
}
