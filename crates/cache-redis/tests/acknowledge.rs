//! How sure a write is, and how far it has come: replicas, and where the nodes stand.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use cache_bus::Transport;
use cache_events::Position;
use cache_l2::{NodeRow, Store, StoreError};
use cache_testkit::RedisReplicated;
use support::*;

#[tokio::test]
async fn replicas_are_waited_for_and_counted() {
    let deployment = RedisReplicated::start(2);
    let store = store(&deployment.master);
    let at = event(&store).await;
    assert_eq!(store.replicated(P0, at, 2, PATIENCE).await.unwrap(), 2);
    // One that gets nothing any more does not count.
    deployment.replicas[1].pause();
    let at = event(&store).await;
    assert_eq!(store.replicated(P0, at, 1, PATIENCE).await.unwrap(), 1);
    assert_eq!(store.replicated(P0, at, 2, Duration::from_millis(50)).await.unwrap(), 1);
    deployment.replicas[1].resume();
    assert_eq!(store.replicated(P0, at, 2, PATIENCE).await.unwrap(), 2);
    // Many wait at a time, behind each other.
    let waits = (0..20).map(|_| store.replicated(P0, at, 2, PATIENCE));
    assert!(futures_util::future::join_all(waits).await.iter().all(|count| matches!(count, Ok(2))));
    let health = store.topology().await.unwrap();
    assert_eq!((health.total_nodes, health.healthy_nodes, health.replica_healthy), (3, 3, true));
}

#[tokio::test]
async fn what_another_master_may_not_have_is_unknown() {
    let deployment = RedisReplicated::start(1);
    let store = store(&deployment.master);
    let at = event(&store).await;
    assert_eq!(store.replicated(P0, at, 1, PATIENCE).await.unwrap(), 1);
    // Somebody emptied it, and a new epoch began: of what was acknowledged nothing is there to be replicated.
    deployment.master.command(&["FLUSHALL"]);
    let next = event(&store).await;
    let error = store.replicated(P0, at, 1, PATIENCE).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. }), "{error}");
    assert_eq!(store.replicated(P0, next, 1, PATIENCE).await.unwrap(), 1);
}

#[tokio::test]
async fn the_roll_says_where_nodes_stand() {
    let deployment = RedisReplicated::start(0);
    let (store, transport) = (store(&deployment.master), transport(&deployment.master));
    let first = event(&store).await;
    transport.sync(P0, &node("a"), first, 10).await.unwrap();
    let head = event(&store).await;
    transport.sync(P0, &node("b"), head, 10).await.unwrap();
    let mut roll = store.nodes(P0).await.unwrap();
    assert!(roll.head == head && roll.epoch_age_ms < 60_000, "{roll:?}");
    roll.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    let stands = |row: &NodeRow| (row.node.clone(), row.at);
    let rows: Vec<_> = roll.nodes.iter().map(stands).collect();
    assert_eq!(rows, [(node("a"), first), (node("b"), head)]);
    assert!(roll.nodes.iter().all(|row| row.age_ms < 60_000));
    // An epoch of the future is as young as can be.
    let at = Position::new(1 << 52, 0);
    store.invalidate(P0, &Default::default(), append_from(at, "event")).await.unwrap();
    assert_eq!(store.nodes(P0).await.unwrap().epoch_age_ms, 0);
}
