//! Replicas: what they refuse, what becomes of a master that is one for a while, and of one that is cut off from its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use cache_bus::{Missed, Transport};
use cache_events::{Key, Position};
use cache_l2::{Invalidation, Lease, Store, StoreError};
use cache_redis::{RedisConfig, RedisStore};
use cache_testkit::{RedisCluster, RedisReplicated, RedisSentinels, RedisServer, RedisServerOptions, Reply};
use support::*;

/// A field of the meta.
fn meta(server: &RedisServer, field: &str) -> Option<String> {
    match server.command(&["HGET", "ec:{0}:m", field]) {
        Reply::Nil => None,
        reply => Some(reply.text()),
    }
}

fn keys(keys: &[&Key]) -> Invalidation {
    Invalidation { keys: keys.iter().map(|&key| key.clone()).collect(), keep: LONG, ..Default::default() }
}

/// Makes `server` a replica of `master` and waits until it has its data.
async fn follow(server: &RedisServer, master: &RedisServer) {
    master.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    server.command(&["REPLICAOF", "127.0.0.1", &master.addr().port().to_string()]);
    eventually(async || {
        let info = server.command(&["INFO", "replication"]).text();
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
}

#[tokio::test]
async fn a_promoted_replica_begins_an_epoch() {
    let (a, b) = (RedisServer::start(), RedisServer::start());
    let before = event(&store(&a)).await;
    follow(&b, &a).await;
    b.command(&["REPLICAOF", "NO", "ONE"]);
    let next = event(&store(&b)).await;
    assert!(next.epoch > before.epoch, "{next} after {before}");
    assert_eq!(meta(&b, "why").as_deref(), Some("incarnation"));
}

#[tokio::test]
async fn a_master_that_was_a_replica_for_a_moment_begins_an_epoch_with_the_next_sync() {
    let (a, b) = (RedisServer::start(), RedisServer::start());
    let (store, transport) = (store(&a), transport(&a));
    follow(&b, &a).await;
    let before = event(&store).await;
    eventually(async || if meta(&b, "e").is_some() { Ok(()) } else { Err(()) }).await;
    b.command(&["REPLICAOF", "NO", "ONE"]);
    // Acknowledged by the one, unknown to the other.
    let lost = event(&store).await;
    follow(&a, &b).await;
    a.command(&["REPLICAOF", "NO", "ONE"]);
    // A writer that missed the lost event, on a connection from before, gets its position again: nothing looked.
    let again = store.invalidate(P0, &Invalidation::default(), append_from(before, "event")).await.unwrap();
    assert_eq!(again, lost);
    // But a node that saw it trusts nothing for longer than its last sync allows, and its next one looks.
    let answer = transport.sync(P0, &node("a"), lost, 10).await.unwrap();
    assert!(answer.head.epoch > lost.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    assert_eq!(meta(&a, "why").as_deref(), Some("incarnation"));
}

#[tokio::test]
async fn a_replica_takes_no_part() {
    let server = RedisServer::start();
    // Of a master that is not there.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = store(&server).ready().await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused { message } if message.contains("READONLY")), "{error}");
    assert!(transport(&server).sync(P0, &node("a"), Position::ZERO, 10).await.is_err());
}

#[tokio::test]
async fn a_master_that_became_a_replica_grants_stores_and_proves_nothing() {
    let (server, other) = (RedisServer::start(), RedisServer::start());
    let (store, transport, key) = (store(&server), transport(&server), key("a"));
    let at = put(&store, &key, 1).await.unwrap();
    assert_eq!(store.lease(&support::key("b"), ask(1)).await.unwrap().lease, Lease::Granted);
    event(&store).await;
    transport.sync(P0, &node("a"), at, 10).await.unwrap();
    follow(&other, &server).await;
    other.command(&["REPLICAOF", "NO", "ONE"]);
    // Its successor has begun an epoch and stored something in it; connections that are open stay so.
    put(&support::store(&other), &key, 2).await.unwrap();
    follow(&server, &other).await;
    let held = ask(1).token;
    for refused in [
        // One that is only read, and one that would be granted.
        store.lease(&key, ask(2)).await.map(drop),
        store.lease(&support::key("c"), ask(2)).await.map(drop),
        store.fill(&support::key("b"), held, record(at, 0, ""), LONG).await.map(drop),
        store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("READONLY"), "{refused}");
    }
    assert!(transport.sync(P0, &node("a"), at, 10).await.is_err());
}

#[tokio::test]
async fn a_master_without_its_replicas_refuses_writes() {
    let args = ["--min-replicas-to-write", "1"].map(str::to_owned).to_vec();
    let server = RedisServer::start_with(RedisServerOptions { args, ..Default::default() });
    let error = store(&server).ready().await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused { message } if message.contains("NOREPLICAS")), "{error}");
}

#[tokio::test]
async fn of_two_masters_the_one_without_replicas_fences_itself() {
    let args = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"].map(str::to_owned).to_vec();
    let options = RedisServerOptions { args, ..Default::default() };
    let deployment = RedisReplicated::start_with(2, options);
    let (old, new) = (&deployment.master, &deployment.replicas[0]);
    let (store, transport, key) = (store(old), transport(old), key("a"));
    let at = put(&store, &key, 1).await.unwrap();
    assert_eq!(store.lease(&support::key("b"), ask(1)).await.unwrap().lease, Lease::Granted);
    let health = store.topology().await.unwrap();
    assert!(health.masters[0].guarded && health.replica_healthy, "{health:?}");
    assert_eq!(store.replicated(P0, at, 2, PATIENCE).await.unwrap(), 2);

    // The others go on without it, and it does not know.
    deployment.promote(0);
    follow(&deployment.replicas[1], new).await;
    eventually(async || if old.info("replication", "connected_slaves") == "0" { Ok(()) } else { Err(()) })
        .await;
    let next = event(&support::store(new)).await;
    assert!(next.epoch > at.epoch);

    // Whoever still talks to it can read what was there, until D; nothing is granted, stored, counted or proven.
    assert!(store.read(P0, std::slice::from_ref(&key)).await.unwrap().items[0].record.is_some());
    for refused in [
        store.lease(&support::key("c"), ask(2)).await.map(drop),
        store.fill(&support::key("b"), ask(1).token, record(at, 0, ""), LONG).await.map(drop),
        store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, StoreError::Refused { message } if message.contains("NOREPLICAS")),
            "{refused}"
        );
    }
    assert!(transport.sync(P0, &node("a"), at, 10).await.is_err());
}

/// A store that may read replicas, with a limit that a test can wait for.
fn reading(url: &str) -> RedisStore {
    let operation_timeout = std::time::Duration::from_millis(300);
    RedisStore::new(RedisConfig { replica_reads: true, operation_timeout, ..config_of(url) }).unwrap()
}

/// What a replica has of a key; an error if none answers.
async fn at_a_replica(store: &RedisStore, key: &Key) -> Result<Option<u64>, &'static str> {
    let partition = key.partition(store.partitions());
    let answer = store.read_replica(partition, std::slice::from_ref(key)).await.unwrap();
    Ok(answer.ok_or("no replica answers")?.items[0].record.as_deref().map(version))
}

/// The version in the header of a record of [`record`].
fn version(record: &[u8]) -> u64 {
    let at = cache_l2::VERSION_OFFSET;
    u64::from_be_bytes(record[at..at + 8].try_into().unwrap())
}

async fn has(store: &RedisStore, key: &Key, version: u64) {
    eventually(async || match at_a_replica(store, key).await {
        Ok(Some(found)) if found == version => Ok(()),
        other => Err(other),
    })
    .await;
}

fn reads_of(server: &RedisServer) -> bool {
    server.command(&["INFO", "commandstats"]).text().contains("cmdstat_mget")
}

#[tokio::test]
async fn a_replica_answers_reads_to_which_any_age_will_do() {
    let mut deployment = RedisReplicated::start(1);
    let (store, plain) = (reading(&deployment.master.url()), store(&deployment.master));
    let key = key("k");
    put(&plain, &key, 1).await.unwrap();
    has(&store, &key, 1).await;
    assert!(reads_of(&deployment.replicas[0]) && !reads_of(&deployment.master));
    assert!(
        plain.read_replica(P0, std::slice::from_ref(&key)).await.unwrap().is_none(),
        "it was not asked for"
    );
    // Cut off from its master it goes on with what it has.
    deployment.replicas[0].command(&["REPLICAOF", "127.0.0.1", "1"]);
    put(&plain, &key, 2).await.unwrap();
    assert_eq!(at_a_replica(&store, &key).await, Ok(Some(1)));
    let at_master =
        plain.read(P0, std::slice::from_ref(&key)).await.unwrap().items[0].record.clone().unwrap();
    assert_eq!(version(&at_master), 2);
    // And also while the master is away.
    deployment.master.kill();
    assert_eq!(at_a_replica(&store, &key).await, Ok(Some(1)));
    deployment.replicas[0].pause();
    assert!(at_a_replica(&store, &key).await.is_err(), "it does not answer");
    deployment.replicas[0].resume();
    has(&store, &key, 1).await;
}

#[tokio::test]
async fn replicas_answer_under_sentinel_and_in_a_cluster() {
    let sentinels = RedisSentinels::start(&["one"]);
    let store = reading(&sentinels.url());
    let key = key("k");
    put(&store, &key, 1).await.unwrap();
    has(&store, &key, 1).await;
    assert!(reads_of(&sentinels.shards[0].servers[1]));

    let cluster = RedisCluster::start();
    let store = reading(&cluster.url());
    for number in 0..20 {
        let key = self::key(&format!("k-{number}"));
        eventually(async || {
            let record = record(Position::ZERO, 1, "value");
            store.put_versioned(&key, cache_events::Version(1), record, LONG, append("put")).await
        })
        .await;
        has(&store, &key, 1).await;
    }
    // One replica of each master that has some of them; no master.
    assert!(cluster.nodes[..3].iter().all(|master| !reads_of(master)));
    assert!(cluster.nodes[3..].iter().all(reads_of));
}
