//! Hints that come minutes late do no harm.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_events::{NodeId, Partition};
use cache_testkit::FaultyTransport;
use cache_tiered::{NamespaceSettings, Tier, TieredCache, TypedCache};
use support::{checked, eventually, joined, ns, server};

#[tokio::test]
async fn hints_that_come_minutes_late_say_nothing_new() {
    let (server, clock) = server();
    // Nothing expires meanwhile.
    let mut settings = NamespaceSettings::new(ns("n")).ttl(Duration::from_secs(3_600));
    settings.l1_ttl_max = Duration::from_secs(3_600);
    let hints = Arc::new(FaultyTransport::new(Arc::new(server.clone()), 1));
    let late = TieredCache::builder(
        NodeId::new("late").expect("valid"),
        Arc::new(server.clone()),
        hints.clone(),
        |entries| cache_policy::PolicyKind::Lru.family(entries),
    );
    let late = late.clock(clock.clone()).namespace::<String>(settings.clone());
    let late = checked(late.start().expect("valid"));
    let other = support::builder(&server, &clock, "other").namespace::<String>(settings);
    let other = checked(other.start().expect("valid"));
    joined(&late).await;
    joined(&other).await;
    let (mine, theirs): (TypedCache<String>, TypedCache<String>) =
        (late.namespace("n").expect("declared"), other.namespace("n").expect("declared"));
    let key = mine.key("k").expect("valid");
    let _ = mine.put(&key, "old".into()).await.expect("acknowledged");

    hints.hold_hints(true);
    for _ in 0..50 {
        let _ = theirs.invalidate(&key, "changed").await.expect("acknowledged");
    }
    let written = theirs.put(&key, "new".into()).await.expect("acknowledged");
    // The sync does not wait for them.
    assert!(late.sync(Duration::from_secs(5)).await);
    assert!(late.reached(&written.token, Duration::ZERO).await);
    for _ in 0..180 {
        clock.advance(Duration::from_secs(1));
        assert!(late.sync(Duration::from_secs(5)).await);
    }
    let read = mine.get(&key).await.expect("readable").expect("there");
    assert_eq!(read.value.as_deref(), Some(&"new".to_owned()));
    let position = late.position(Partition(0));

    // Three minutes later all of them arrive, and one that is new behind them.
    hints.hold_hints(false);
    let last = theirs.put(&theirs.key("other").expect("valid"), "x".into()).await.expect("acknowledged");
    eventually("the last hint is heard", || late.position(Partition(0)) > position).await;
    assert!(late.reached(&last.token, Duration::from_secs(5)).await);
    let read = mine.get(&key).await.expect("readable").expect("there");
    assert_eq!((read.tier, read.value.as_deref()), (Tier::L1, Some(&"new".to_owned())), "it is still there");
}
