//! Defects that a simulation found first, each as the few steps that it takes.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Clock, Version};
use cache_tiered::{Loaded, PutOutcome, ReadOptions, Tiers, WriteOptions};
use support::{eventually, node, server, spawned, text};
use tokio::sync::Notify;

/// A load fills L2 and tells nobody. A versioned put that then finds its own version there must tell the others all the
/// same, or they keep what they have until it expires.
#[tokio::test]
async fn a_versioned_put_that_finds_its_value_there_already_is_told_to_the_other_nodes() {
    let (server, clock) = server();
    let (one, other) = (node(&server, &clock, "one").await, node(&server, &clock, "other").await);
    let key = text(&one).key("k").expect("valid");
    let in_memory = ReadOptions { tiers: Some(Tiers::L1Only), ..ReadOptions::default() };
    let old = || async { Ok(Loaded::new("old".to_owned()).versioned(Version(3))) };
    let held = text(&one).get_or_load_with(&key, &in_memory, old).await.expect("loaded");
    assert_eq!(held.version, Version(3));
    let new = || async { Ok(Loaded::new("new".to_owned()).versioned(Version(4))) };
    let loaded = text(&other).get_or_load(&key, new).await.expect("loaded");
    assert_eq!(loaded.version, Version(4));
    let put = text(&other).put_versioned(&key, Version(4), "new".into(), &WriteOptions::default()).await;
    assert_eq!(put.expect("acknowledged"), PutOutcome::Outdated);
    eventually("the copy of the old version leaves", || text(&one).resident(&key).is_none()).await;
    let read = text(&one).get(&key).await.expect("readable").expect("in L2");
    assert_eq!(read.version, Version(4));
}

/// A sync that completes while a load is under way proves nothing about what is loaded: it may be the one that outdates
/// it. The answer says as of when the value was right.
#[tokio::test]
async fn the_lag_of_a_slow_load_reaches_back_to_its_beginning() {
    let (server, clock) = server();
    let (one, other) = (node(&server, &clock, "one").await, node(&server, &clock, "other").await);
    let key = text(&one).key("k").expect("valid");
    let (began, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (cache, wanted, begins, released) = (text(&one), key.clone(), began.clone(), release.clone());
    let slow = spawned(async move {
        let load = cache.get_or_load(&wanted, move || async move {
            begins.notify_one();
            released.notified().await;
            Ok(Loaded::new("old".to_owned()))
        });
        load.await
    });
    began.notified().await;
    clock.advance(Duration::from_millis(300));
    let _ = text(&other).invalidate(&key, "changed").await.expect("acknowledged");
    clock.advance(Duration::from_millis(300));
    assert!(one.sync(Duration::from_secs(5)).await);
    release.notify_one();
    let answer = slow.await.expect("no panic").expect("loaded");
    assert!(answer.lag_ms >= 600, "as of {} ms ago, which was after the change", answer.lag_ms);
}

/// A record that seems to live longer than any of its namespace may was written before the store's clock was put back: it
/// would outlive the stamps that outdate it.
#[tokio::test]
async fn a_record_that_lives_longer_than_it_may_is_a_miss() {
    let (server, clock) = server();
    let (one, other) = (node(&server, &clock, "one").await, node(&server, &clock, "other").await);
    let key = text(&one).key("k").expect("valid");
    let _ = text(&one).put(&key, "value".into()).await.expect("acknowledged");
    // The embedded server's clock goes on; to a node whose own is two hours behind it is the same as the other way round.
    clock.set_wall(clock.wall() - 2 * 3_600_000);
    assert!(text(&other).get(&key).await.expect("readable").is_none());
    clock.set_wall(clock.wall() + 2 * 3_600_000);
    assert!(text(&other).get(&key).await.expect("readable").is_some());
}
