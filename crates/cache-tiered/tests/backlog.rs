//! A node on which more changes come down than it applies at once.

mod support;

use std::time::Duration;

use cache_events::Key;
use cache_tiered::{NamespaceSettings, TieredCache, TypedCache};
use support::{Checked, builder, checked, eventually, joined, ns, server};

const SOON: Duration = Duration::from_secs(5);

fn space(cache: &TieredCache, name: &str) -> TypedCache<u64> {
    cache.namespace(name).expect("declared")
}

fn key(cache: &TieredCache, name: &str, number: u64) -> Key {
    space(cache, name).key(format!("k{number}")).expect("valid")
}

async fn nodes() -> [Checked; 2] {
    let (server, clock) = server();
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let bulk = NamespaceSettings { l1_entries_max: 5_000, ..NamespaceSettings::new(ns("bulk")) };
        let cache = builder(&server, &clock, name)
            .namespace::<u64>(bulk)
            .namespace::<u64>(NamespaceSettings::new(ns("vital")).critical())
            .start()
            .expect("valid settings");
        joined(&cache).await;
        nodes.push(checked(cache));
    }
    nodes.try_into().unwrap_or_else(|_| panic!("two"))
}

/// Invalidates without giving way, so that nothing of it is applied elsewhere meanwhile.
async fn invalidate(cache: &TieredCache, name: &str, number: u64) {
    let key = key(cache, name, number);
    let _ = space(cache, name).invalidate(&key, "changed").await.expect("acknowledged");
}

#[tokio::test]
async fn what_is_critical_goes_before_thousands_of_others_and_nobody_asks_for_those() {
    let [a, b] = nodes().await;
    let vital = key(&a, "vital", 1);
    let written = space(&a, "vital").put(&vital, 1).await.expect("acknowledged");
    assert!(b.reached(&written.token, SOON).await);
    assert!(space(&b, "vital").get(&vital).await.expect("readable").is_some());
    let (before, partition) = (b.view().counters(), vital.partition(1));
    for number in 0..3_000 {
        invalidate(&a, "bulk", number).await;
    }
    invalidate(&a, "vital", 1).await;
    let head = a.position(partition);
    eventually("the critical one is applied", || space(&b, "vital").resident(&vital).is_none()).await;
    let behind = head.seq - b.position(partition).seq;
    assert!(behind > 2_000, "{behind} of 3,000 were still waiting");
    eventually("the others are", || b.position(partition) == head).await;
    let after = b.view().counters();
    assert_eq!((after.syncs, after.applied), (before.syncs, before.applied + 3_001));
    assert_eq!((after.conflated, after.dropped, after.overflows), (0, 0, 0));
}

#[tokio::test]
async fn of_many_changes_of_one_key_the_last_is_applied_for_all() {
    let [a, b] = nodes().await;
    let written = space(&a, "bulk").put(&key(&a, "bulk", 1), 1).await.expect("acknowledged");
    assert!(b.reached(&written.token, SOON).await);
    assert!(space(&b, "bulk").get(&key(&a, "bulk", 1)).await.expect("readable").is_some());
    let (before, partition) = (b.view().counters(), key(&a, "bulk", 1).partition(1));
    for number in 0..4_000 {
        invalidate(&a, "bulk", number % 4).await;
    }
    eventually("all are applied", || b.position(partition) == a.position(partition)).await;
    let after = b.view().counters();
    assert!(space(&b, "bulk").resident(&key(&a, "bulk", 1)).is_none());
    assert_eq!((after.syncs, after.applied), (before.syncs, before.applied + 4_000));
    assert!(after.conflated > 3_000, "{after:?}");
    let invalidations = space(&b, "bulk").stats().invalidations;
    assert!(invalidations < 1_000, "{invalidations} were applied");
}

#[tokio::test]
async fn events_that_a_handler_wants_are_told_each() {
    let (server, clock) = server();
    let (told, mut telling) = tokio::sync::mpsc::channel(10_000);
    let kind = cache_events::EventKind::MANUAL_INVALIDATION;
    let listening = builder(&server, &clock, "b").namespace::<u64>(NamespaceSettings::new(ns("bulk")));
    let listening = listening.on(kind, move |_| told.try_send(()).expect("room")).start().expect("valid");
    let a = builder(&server, &clock, "a").namespace::<u64>(NamespaceSettings::new(ns("bulk")));
    let (a, b) = (checked(a.start().expect("valid")), checked(listening));
    joined(&a).await;
    joined(&b).await;
    for _ in 0..2_000 {
        invalidate(&a, "bulk", 1).await;
    }
    let mut heard = 0;
    eventually("each is told", || {
        heard += std::iter::from_fn(|| telling.try_recv().ok()).count();
        heard == 2_000
    })
    .await;
    assert_eq!(b.view().counters().conflated, 0);
}
