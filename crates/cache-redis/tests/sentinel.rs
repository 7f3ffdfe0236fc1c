//! Several masters under Sentinel: who has what, and what becomes of it when masters change.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use cache_bus::{Hint, HintStream, Missed, Transport};
use cache_events::Partition;
use cache_l2::{Invalidation, Lease, Store, StoreError};
use cache_redis::{Pem, RedisConfig, RedisStore, RedisTransport, TlsConfig};
use cache_testkit::RedisSentinels;
use support::*;

const PARTITIONS: u32 = 8;

/// Settings with limits of time as in production, but for a busy machine.
fn brisk(deployment: &RedisSentinels) -> RedisConfig {
    RedisConfig {
        partitions: PARTITIONS,
        operation_timeout: Duration::from_millis(500),
        control_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_millis(500),
        ..RedisConfig::from_url(&deployment.url()).unwrap()
    }
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

/// The partitions whose logs a server has.
fn logs_of(server: &cache_testkit::RedisServer) -> Vec<Partition> {
    partitions()
        .filter(|partition| server.command(&["EXISTS", &format!("ec:{{{partition}}}:l")]).int() == 1)
        .collect()
}

#[tokio::test]
async fn a_killed_master_is_followed_and_the_others_do_not_notice() {
    let mut deployment = RedisSentinels::start(&["one", "two"]);
    let (store, transport) =
        (RedisStore::new(brisk(&deployment)).unwrap(), RedisTransport::new(brisk(&deployment)).unwrap());
    let mut hints = listening(&transport).await;
    let mut before = Vec::new();
    for partition in partitions() {
        before.push(event_in(&store, partition).await.unwrap());
        assert_eq!(heard(&mut *hints, partition).await, before[partition.index()]);
    }
    // Every master has some, and together they have all.
    let (of_one, of_two) = (logs_of(deployment.master(0)), logs_of(deployment.master(1)));
    assert!(!of_one.is_empty() && !of_two.is_empty() && of_one.len() + of_two.len() == PARTITIONS as usize);
    // Sentinels that have just started do not know yet how the replicas are.
    let health = eventually(async || {
        let health = store.topology().await.unwrap();
        if health.healthy_nodes == 4 { Ok(health) } else { Err(health) }
    })
    .await;
    assert!(health.total_nodes == 4 && health.primary_healthy && health.replica_healthy, "{health:?}");

    let killed = deployment.kill_master(1);
    let error = event_in(&store, of_two[0]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    for &partition in &of_one {
        before[partition.index()] = event_in(&store, partition).await.expect("its master is there");
        assert_eq!(heard(&mut *hints, partition).await, before[partition.index()]);
    }
    let health = store.topology().await.unwrap();
    assert!(!health.primary_healthy && health.healthy_nodes < 4, "{health:?}");

    deployment.wait_for_failover(1, killed);
    for &partition in &of_two {
        let at = before[partition.index()];
        let answer = eventually(async || transport.sync(partition, &node("a"), at, 10).await).await;
        assert!(answer.head.epoch > at.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
        eventually(async || event_in(&store, partition).await).await;
    }
    // Hints of the new master come again. (What is appended before that is for the syncs.)
    let partition = of_two[0];
    let mut listened = Box::pin(async { heard(&mut *hints, partition).await });
    let heard = loop {
        event_in(&store, partition).await.unwrap();
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(20), &mut listened).await {
            break heard;
        }
    };
    assert!(heard.epoch > before[partition.index()].epoch);
    for &partition in &of_one {
        let next = event_in(&store, partition).await.unwrap();
        assert_eq!(next, before[partition.index()].next(), "a partition of the other master");
    }
}

#[tokio::test]
async fn what_a_failover_loses_is_not_brought_back() {
    let mut deployment = RedisSentinels::start(&["one"]);
    let config = RedisConfig { partitions: 1, ..brisk(&deployment) };
    let (store, transport) = (RedisStore::new(config.clone()).unwrap(), RedisTransport::new(config).unwrap());
    const VALUE: &str = "ec:{0}:v:ns/a/";
    let (master, replica, key) = (deployment.master(0), &deployment.shards[0].servers[1], key("a"));
    put(&store, &key, 1).await.unwrap();
    // Opens the connection on which the invalidation goes.
    event_in(&store, P0).await.unwrap();
    eventually(async || if replica.command(&["EXISTS", VALUE]).int() == 1 { Ok(()) } else { Err(()) }).await;
    // Connections stay, but the replica cannot log in any more.
    master.command(&["CONFIG", "SET", "requirepass", "changed"]);
    master.command_as("changed", &["CLIENT", "KILL", "TYPE", "replica"]);
    let what = Invalidation { keys: vec![key.clone()], keep: LONG, ..Default::default() };
    let lost = store.invalidate(P0, &what, append("changed")).await.unwrap();
    assert!(store.read(P0, std::slice::from_ref(&key)).await.unwrap().items[0].record.is_none());

    let killed = deployment.kill_master(0);
    deployment.wait_for_failover(0, killed);
    let answer = eventually(async || transport.sync(P0, &node("a"), lost, 10).await).await;
    assert!(answer.head.epoch > lost.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    let read = eventually(async || store.read(P0, std::slice::from_ref(&key)).await).await;
    let back = read.items[0].record.as_ref().expect("the replica never heard that it was removed");
    assert_eq!(u64::from_be_bytes(back[4..12].try_into().unwrap()), lost.epoch);
    assert!(read.epoch > lost.epoch, "it is dead");
    assert_eq!(store.lease(&key, ask(1)).await.unwrap().lease, Lease::Granted);
}

#[tokio::test]
async fn a_requested_failover_is_followed_at_once() {
    let mut deployment = RedisSentinels::start(&["one"]);
    // The Sentinel that is asked first is not there.
    deployment.sentinels[0].kill();
    let config = RedisConfig { partitions: 1, ..brisk(&deployment) };
    let (store, transport) = (RedisStore::new(config.clone()).unwrap(), RedisTransport::new(config).unwrap());
    let before = eventually(async || event_in(&store, P0).await).await;
    transport.sync(P0, &node("a"), before, 1).await.unwrap();
    // A Sentinel that has just started may not know yet how the replica is.
    eventually(async || store.fail_over(P0).await).await;
    deployment.wait_for_failover(0, 0);
    let answer = eventually(async || {
        let answer = transport.sync(P0, &node("a"), before, 1).await.map_err(|error| error.to_string())?;
        if answer.head.epoch > before.epoch { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert!(matches!(answer.missed, Missed::Reset(_)));
    eventually(async || event_in(&store, P0).await).await;
}

#[tokio::test]
async fn a_master_that_hangs_is_left_when_the_sentinels_say_so() {
    let deployment = RedisSentinels::start(&["one"]);
    let config = RedisConfig { partitions: 1, ..brisk(&deployment) };
    let (store, transport) = (RedisStore::new(config.clone()).unwrap(), RedisTransport::new(config).unwrap());
    let before = event_in(&store, P0).await.unwrap();
    let mut hints = listening(&transport).await;
    // It still accepts connections, and answers nothing.
    deployment.master(0).pause();
    let after = eventually(async || event_in(&store, P0).await).await;
    assert!(after.epoch > before.epoch);
    // The one subscription leads nowhere: it ends, and the next one hears.
    let ended = async { while !matches!(hints.next().await, Hint::Closed(_)) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("it is noticed");
    let mut hints = listening(&transport).await;
    let next = event_in(&store, P0).await.unwrap();
    assert_eq!(heard(&mut *hints, P0).await, next);
    deployment.shards[0].servers[0].resume();
}

#[tokio::test]
async fn partitions_of_a_master_that_does_not_answer_are_said_not_to_be_heard() {
    let deployment = RedisSentinels::start_unhurried(&["one", "two"]);
    let (store, transport) =
        (RedisStore::new(brisk(&deployment)).unwrap(), RedisTransport::new(brisk(&deployment)).unwrap());
    for partition in partitions() {
        event_in(&store, partition).await.unwrap();
    }
    let (of_one, of_two) = (logs_of(deployment.master(0)), logs_of(deployment.master(1)));
    let paused = deployment.master(1);
    paused.pause();
    let mut hints = transport.subscribe().await.unwrap();
    let first: Vec<Hint> = std::iter::from_fn(|| hints.ready()).collect();
    let unheard =
        |hint: &Hint| if let Hint::Unheard(partition) = hint { *partition } else { panic!("{hint:?}") };
    assert_eq!(first.iter().map(unheard).collect::<Vec<_>>(), of_two);
    for &partition in &of_one {
        let at = event_in(&store, partition).await.unwrap();
        assert_eq!(heard(&mut *hints, partition).await, at);
    }

    paused.resume();
    let is_heard = |hint| if let Hint::Heard(partition) = hint { Some(partition) } else { None };
    assert_eq!(told(&mut *hints, of_two.len(), is_heard).await, of_two);
    for &partition in &of_two {
        let at = eventually(async || event_in(&store, partition).await).await;
        assert_eq!(heard(&mut *hints, partition).await, at);
    }

    // And one that falls silent later.
    paused.pause();
    let is_unheard = |hint| if let Hint::Unheard(partition) = hint { Some(partition) } else { None };
    assert_eq!(told(&mut *hints, of_two.len(), is_unheard).await, of_two);
    paused.resume();
    assert_eq!(told(&mut *hints, of_two.len(), is_heard).await, of_two);
}

/// The partitions of which so many hints say something, in order.
async fn told(
    hints: &mut dyn HintStream,
    count: usize,
    says: impl Fn(Hint) -> Option<Partition>,
) -> Vec<Partition> {
    let mut all = Vec::new();
    while all.len() < count {
        let hint = tokio::time::timeout(PATIENCE, hints.next()).await.expect("it is told");
        all.extend(says(hint));
    }
    all.sort();
    all
}

#[tokio::test]
async fn another_list_of_masters_is_fenced_off() {
    let deployment = RedisSentinels::start(&["one", "two"]);
    RedisStore::new(brisk(&deployment)).unwrap().ready().await.unwrap();
    let mut other = brisk(&deployment);
    let cache_redis::Topology::Sentinel(sentinel) = &mut other.topology else { panic!("{other:?}") };
    sentinel.masters.pop();
    let error = RedisStore::new(other).unwrap().ready().await.unwrap_err();
    assert!(matches!(&error, StoreError::Fenced { message } if message.contains("one,two")), "{error}");
}

#[tokio::test]
async fn sentinels_and_masters_are_spoken_to_with_certificates_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(folder.path());
    let mut deployment = RedisSentinels::start_tls(&["one", "two"], &files);
    assert!(deployment.url().starts_with("rediss-sentinel://"));
    let [cert, key, ca] = files.map(Pem::File);
    let tls = TlsConfig { ca: Some(ca), client: Some((cert, key)), ..Default::default() };
    let with = |tls: TlsConfig| RedisConfig { tls: Some(tls), ..brisk(&deployment) };
    let store = RedisStore::new(with(tls.clone())).unwrap();
    let transport = RedisTransport::new(with(tls.clone())).unwrap();
    store.ready().await.unwrap();
    let mut hints = listening(&transport).await;
    for partition in partitions() {
        let at = event_in(&store, partition).await.unwrap();
        assert_eq!(heard(&mut *hints, partition).await, at);
    }
    let nameless = RedisStore::new(with(TlsConfig { client: None, ..tls.clone() })).unwrap();
    assert!(matches!(nameless.ready().await, Err(StoreError::Unavailable { .. })));
    // Anybody's certificate will not do: that of an authority that is not known here.
    let stranger = RedisStore::new(with(TlsConfig { ca: None, ..tls })).unwrap();
    assert!(matches!(stranger.ready().await, Err(StoreError::Unavailable { .. })));
    // The successor of a master is found at the port that speaks TLS.
    let killed = deployment.kill_master(0);
    deployment.wait_for_failover(0, killed);
    for partition in partitions() {
        eventually(async || event_in(&store, partition).await).await;
    }
}
