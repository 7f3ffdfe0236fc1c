//! A Cluster: slots that move, nodes that fail, and hints that follow.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use cache_bus::{HintStream, Missed, Transport};
use cache_events::{Key, Namespace, Partition, Pattern, Position, Version};
use cache_l2::{Invalidation, Lease, Store, StoreError};
use cache_redis::{Pem, RedisConfig, RedisStore, RedisTransport, TlsConfig};
use cache_testkit::{RedisCluster, Reply};
use support::*;

const PARTITIONS: u32 = 12;

/// Settings with limits of time as in production, but for a busy machine.
fn brisk(cluster: &RedisCluster) -> RedisConfig {
    RedisConfig {
        partitions: PARTITIONS,
        operation_timeout: Duration::from_millis(500),
        control_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_millis(500),
        ..RedisConfig::from_url(&cluster.url()).unwrap()
    }
}

fn parts(cluster: &RedisCluster) -> (RedisStore, RedisTransport) {
    (RedisStore::new(brisk(cluster)).unwrap(), RedisTransport::new(brisk(cluster)).unwrap())
}

fn partitions() -> impl Iterator<Item = Partition> {
    (0..PARTITIONS).map(Partition)
}

/// Keys of a partition.
fn keys_in(partition: Partition) -> impl Iterator<Item = Key> {
    let keys = (0..).map(|number| key(&format!("key-{number}")));
    keys.filter(move |key| key.partition(PARTITIONS) == partition)
}

fn removing(keys: &[&Key]) -> Invalidation {
    Invalidation { keys: keys.iter().map(|&key| key.clone()).collect(), keep: LONG, ..Default::default() }
}

async fn is_stored(store: &RedisStore, key: &Key) -> bool {
    let read = store.read(key.partition(PARTITIONS), std::slice::from_ref(key)).await.unwrap();
    read.items[0].record.as_ref().is_some_and(|record| record[4..12] == read.epoch.to_be_bytes())
}

/// The names of meta and log of a partition, its slot, and who has it.
fn place(cluster: &RedisCluster, partition: Partition) -> ([String; 2], u16, usize) {
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        let Reply::List(logs) = node.command(&["KEYS", "ec:{*}:l"]) else { panic!("no list") };
        for log in logs.iter().map(Reply::text) {
            let stem = &log[..log.len() - 1];
            if stem[4..stem.len() - 2].parse::<u32>().unwrap() % PARTITIONS == partition.0 {
                let slot = node.command(&["CLUSTER", "KEYSLOT", &log]).int() as u16;
                return ([format!("{stem}m"), log], slot, cluster.owner_of(slot));
            }
        }
    }
    panic!("the partition has no log");
}

/// Writes until the hint of a write is heard: the subscription has followed.
async fn heard_again(store: &RedisStore, hints: &mut dyn HintStream, partition: Partition) {
    let mut listened = Box::pin(heard(hints, partition));
    loop {
        eventually(async || event_in(store, partition).await).await;
        if tokio::time::timeout(Duration::from_millis(20), &mut listened).await.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn a_slot_that_moves_loses_nothing_and_begins_one_epoch() {
    let cluster = RedisCluster::start_with(3, 0, &[]);
    let (store, transport) = parts(&cluster);
    let partition = Partition(3);
    let keys: Vec<Key> = keys_in(partition).take(7).collect();
    let [stored, leased, versioned, closed, late, other, held] = [0, 1, 2, 3, 4, 5, 6].map(|at| &keys[at]);
    for key in [stored, closed, other] {
        store.put(key, record(Position::ZERO, 0, "old"), LONG, append("put")).await.unwrap();
    }
    put(&store, versioned, 7).await.unwrap();
    for key in [leased, late] {
        assert_eq!(store.lease(key, ask(1)).await.unwrap().lease, Lease::Granted);
    }
    let hold = Invalidation { hold: LONG, ..removing(&[held]) };
    store.invalidate(partition, &hold, append("changed")).await.unwrap();
    let mut hints = listening(&transport).await;
    let before = event_in(&store, partition).await.unwrap();
    assert_eq!(heard(&mut *hints, partition).await, before);
    let (structure, slot, from) = place(&cluster, partition);
    let to = (from + 1) % 3;

    // Nothing has moved yet, but what is not there might be at the other side: keys go one by one, and the event last.
    cluster.begin_move(slot, to);
    let changed = removing(&[stored, leased, versioned, held]);
    let at = store.invalidate(partition, &changed, append("changed")).await;
    assert_eq!(at.unwrap(), before.next());
    assert_eq!(heard(&mut *hints, partition).await, before.next());
    let resources = vec![(Namespace::new("ns").unwrap(), closed.resource().to_owned())];
    let what = Invalidation { resources, keep: LONG, ..Default::default() };
    let stamped = store.invalidate(partition, &what, append("changed")).await.unwrap();
    let put_at = store.put(other, record(Position::ZERO, 0, "new"), LONG, append("put")).await.unwrap();
    assert_eq!((stamped, put_at), (before.next().next(), before.next().next().next()));
    // A read would have to see record and stamp together.
    let read = store.read(partition, std::slice::from_ref(stored)).await;
    assert!(read.is_err() || read.unwrap().items[0].record.is_none());

    // A new epoch can begin as well.
    let flushed = store.flush(partition, append_from(put_at, "flush")).await.unwrap();
    assert!(flushed.epoch > put_at.epoch && flushed.seq == 1, "{flushed}");
    let before = flushed;

    // Torn in the middle of its structure a partition cannot count: nothing is acknowledged.
    cluster.move_key(from, to, &structure[0]);
    let torn = event_in(&store, partition).await.unwrap_err();
    assert!(matches!(torn, StoreError::Unavailable { .. }), "{torn}");
    assert!(transport.sync(partition, &node("a"), before, 10).await.is_err());

    // From here on the other side counts, in another life.
    cluster.move_key(from, to, &structure[1]);
    let moved =
        store.invalidate(partition, &removing(&[late]), append_from(before, "changed")).await.unwrap();
    assert!(moved.epoch > before.epoch, "{moved} after {before}");
    cluster.finish_move(slot, from, to);

    let answer = eventually(async || transport.sync(partition, &node("a"), before, 10).await).await;
    assert!(answer.head == moved && matches!(answer.missed, Missed::Reset(_)), "one epoch: {answer:?}");
    for key in [stored, leased, versioned, closed, late, other] {
        assert!(!is_stored(&store, key).await, "{key}");
        assert!(!store.fill(key, ask(1).token, record(before, 0, "old"), LONG).await.unwrap(), "{key}");
    }
    let asked = store.lease(held, ask(1)).await.unwrap().lease;
    assert!(matches!(asked, Lease::Hold(_)), "a hold goes on and moves along: {asked:?}");
    let again = store.put_versioned(versioned, Version(7), record(before, 7, ""), LONG, append("put")).await;
    assert_eq!(again.unwrap(), None, "the floor has moved as well");
    heard_again(&store, &mut *hints, partition).await;
}

#[tokio::test]
async fn a_killed_master_takes_only_its_partitions_along() {
    let mut cluster = RedisCluster::start();
    let (store, transport) = parts(&cluster);
    store.ready().await.unwrap();
    let mut before = Vec::new();
    for partition in partitions() {
        before.push(event_in(&store, partition).await.unwrap());
    }
    let mut hints = listening(&transport).await;
    let owners: Vec<usize> = partitions().map(|partition| place(&cluster, partition).2).collect();
    let of =
        |node: usize| partitions().filter(|partition| owners[partition.index()] == node).collect::<Vec<_>>();
    assert_eq!([of(0).len(), of(1).len(), of(2).len()], [4, 4, 4], "spread evenly");
    let health = store.topology().await.unwrap();
    assert_eq!((health.total_nodes, health.healthy_nodes), (6, 6));
    assert!(health.primary_healthy && health.replica_healthy, "{health:?}");
    let told = health.cluster.unwrap();
    assert_eq!((told.state.as_str(), told.slots_ok, told.known_nodes, told.size), ("ok", 16_384, 6, 3));
    let keys: u64 = health.masters.iter().map(|master| master.keys.unwrap()).sum();
    assert_eq!(keys, u64::from(PARTITIONS) * 3, "fingerprint, meta and log of each");

    let (_, slot, _) = place(&cluster, of(1)[0]);
    cluster.nodes[1].kill();
    let mut failed = 0;
    for partition in [of(0), of(2)].concat() {
        // The hints of the others come all the while.
        before[partition.index()] = event_in(&store, partition).await.expect("its master is there");
        assert_eq!(heard(&mut *hints, partition).await, before[partition.index()]);
        transport.sync(partition, &node("a"), before[partition.index()], 10).await.unwrap();
        failed += u32::from(transport.sync(of(1)[0], &node("a"), Position::ZERO, 10).await.is_err());
    }
    assert!(failed > 0);
    let health = store.topology().await.unwrap();
    assert!(!health.primary_healthy && health.healthy_nodes < 6, "{health:?}");

    cluster.wait_for_failover(slot, 1);
    for partition in of(1) {
        let at = before[partition.index()];
        let answer = eventually(async || transport.sync(partition, &node("a"), at, 10).await).await;
        assert!(answer.head.epoch > at.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    }
    heard_again(&store, &mut *hints, of(1)[0]).await;
    for partition in [of(0), of(2)].concat() {
        assert_eq!(event_in(&store, partition).await.unwrap(), before[partition.index()].next());
    }
}

#[tokio::test]
async fn a_requested_failover_is_followed() {
    let cluster = RedisCluster::start_with(3, 1, &[]);
    let (store, transport) = parts(&cluster);
    let before = event_in(&store, P0).await.unwrap();
    let mut hints = listening(&transport).await;
    let (_, slot, owner) = place(&cluster, P0);
    store.fail_over(P0).await.unwrap();
    cluster.wait_for_failover(slot, owner);
    let answer = eventually(async || transport.sync(P0, &node("a"), before, 10).await).await;
    assert!(answer.head.epoch > before.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    heard_again(&store, &mut *hints, P0).await;
}

#[tokio::test]
async fn a_slot_that_was_away_is_greeted_again() {
    let cluster = RedisCluster::start_with(3, 0, &[]);
    let (store, reader) = (parts(&cluster).0, parts(&cluster).0);
    let partition = Partition(5);
    let keys: Vec<Key> = keys_in(partition).take(2).collect();
    let before = store.put(&keys[0], record(Position::ZERO, 0, ""), LONG, append("put")).await.unwrap();
    assert!(is_stored(&reader, &keys[0]).await);
    let (_, slot, home) = place(&cluster, partition);
    let away = (home + 1) % 3;
    cluster.move_slot(slot, away);
    let there = store.put(&keys[1], record(Position::ZERO, 0, ""), LONG, append("put")).await.unwrap();
    assert!(there.epoch > before.epoch);
    // The first read at the new place says hello before it answers.
    assert!(!is_stored(&reader, &keys[0]).await && is_stored(&reader, &keys[1]).await);
    cluster.move_slot(slot, home);
    // And so does the first one back at the old, on a connection that is known there.
    assert!(!is_stored(&reader, &keys[0]).await && !is_stored(&reader, &keys[1]).await);
}

#[tokio::test]
async fn patterns_are_not_acknowledged_while_names_are_under_way() {
    let cluster = RedisCluster::start_with(3, 0, &[]);
    let (store, _) = parts(&cluster);
    let partition = Partition(7);
    let key = keys_in(partition).next().unwrap();
    let put_at = store.put(&key, record(Position::ZERO, 0, ""), LONG, append("put")).await.unwrap();
    let (_, slot, from) = place(&cluster, partition);
    let (to, pattern) = ((from + 1) % 3, Pattern::new("key-*").unwrap());
    cluster.begin_move(slot, to);
    let refused = store.invalidate_pattern(partition, key.namespace(), &pattern, append("changed")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    cluster.finish_move(slot, from, to);
    let done = eventually(async || {
        store.invalidate_pattern(partition, key.namespace(), &pattern, append_from(put_at, "changed")).await
    })
    .await;
    assert!(done > put_at && !is_stored(&store, &key).await);
}

#[tokio::test]
async fn another_number_of_partitions_is_fenced_off() {
    let cluster = RedisCluster::start_with(3, 0, &[]);
    parts(&cluster).0.ready().await.unwrap();
    // Some of its tags are other slots, and some are the same.
    let other = RedisStore::new(RedisConfig { partitions: 2 * PARTITIONS, ..brisk(&cluster) }).unwrap();
    let error = other.ready().await.unwrap_err();
    assert!(matches!(&error, StoreError::Fenced { message } if message.contains("partitions=12")), "{error}");
}

#[tokio::test]
async fn every_node_is_spoken_to_with_certificates_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(folder.path());
    let cluster = RedisCluster::start_tls(files.clone());
    let [cert, key, ca] = files.map(Pem::File);
    let tls = TlsConfig { ca: Some(ca), client: Some((cert, key)), ..Default::default() };
    let with = |tls: TlsConfig| RedisConfig { tls: Some(tls), ..brisk(&cluster) };
    let store = RedisStore::new(with(tls.clone())).unwrap();
    let transport = RedisTransport::new(with(tls.clone())).unwrap();
    store.ready().await.unwrap();
    let mut hints = listening(&transport).await;
    for partition in partitions() {
        let at = event_in(&store, partition).await.unwrap();
        assert_eq!(heard(&mut *hints, partition).await, at);
    }
    // A slot that moves is found at the port that speaks TLS.
    let (_, slot, from) = place(&cluster, P0);
    cluster.move_slot(slot, (from + 1) % 3);
    heard_again(&store, &mut *hints, P0).await;
    let nameless = RedisStore::new(with(TlsConfig { client: None, ..tls })).unwrap();
    assert!(matches!(nameless.ready().await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_master_that_hangs_is_left_when_the_others_have_replaced_it() {
    let cluster = RedisCluster::start();
    let (store, transport) = parts(&cluster);
    let before = event_in(&store, P0).await.unwrap();
    let mut hints = listening(&transport).await;
    let (_, _, owner) = place(&cluster, P0);
    cluster.nodes[owner].pause();
    let after = eventually(async || event_in(&store, P0).await).await;
    assert!(after.epoch > before.epoch);
    heard_again(&store, &mut *hints, P0).await;
    // Awake again, it is a replica and takes no part.
    cluster.nodes[owner].resume();
    let next = eventually(async || event_in(&store, P0).await).await;
    assert_eq!(next.epoch, after.epoch);
}
