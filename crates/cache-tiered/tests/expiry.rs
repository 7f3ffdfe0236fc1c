//! When a copy leaves because of time.

mod support;

use std::time::Duration;

use cache_events::Key;
use cache_tiered::{Loaded, NamespaceSettings, ReadOptions, Tier, Tiers, TypedCache, WriteOptions};
use support::{builder, checked, joined, ns, server};

const MINUTE: Duration = Duration::from_secs(60);

/// Sessions of one hour that end after a minute without a look.
fn sessions(tiers: Tiers) -> NamespaceSettings {
    let settings = NamespaceSettings::new(ns("sessions")).ttl(60 * MINUTE);
    NamespaceSettings { idle: Some(MINUTE), l1_ttl_max: 60 * MINUTE, event_driven: false, tiers, ..settings }
}

async fn tier_of(cache: &TypedCache<u64>, key: &Key) -> Option<Tier> {
    cache.get(key).await.expect("read").map(|answer| answer.tier)
}

#[tokio::test]
async fn a_session_in_memory_lives_while_it_is_used_and_never_past_its_ttl() {
    let (server, clock) = server();
    let node = builder(&server, &clock, "a").namespace::<u64>(sessions(Tiers::L1Only));
    let node = checked(node.start().expect("valid settings"));
    joined(&node).await;
    let cache = node.namespace::<u64>("sessions").expect("declared");
    let key = cache.key("s1").expect("valid");
    let _ = cache.put(&key, 1).await.expect("stored");
    for _ in 0..60 {
        clock.advance(MINUTE - Duration::from_secs(1));
        assert_eq!(tier_of(&cache, &key).await, Some(Tier::L1));
    }
    clock.advance(MINUTE);
    assert_eq!(tier_of(&cache, &key).await, None, "an hour is over");

    let _ = cache.put(&key, 2).await.expect("stored");
    clock.advance(MINUTE);
    assert_eq!(tier_of(&cache, &key).await, None, "nobody asked for a minute");
    node.stop().await;
}

#[tokio::test]
async fn with_l2_behind_it_an_idle_copy_leaves_memory_alone() {
    let (server, clock) = server();
    let node = builder(&server, &clock, "a").namespace::<u64>(sessions(Tiers::Both));
    let node = checked(node.start().expect("valid settings"));
    joined(&node).await;
    let cache = node.namespace::<u64>("sessions").expect("declared");
    let key = cache.key("s1").expect("valid");
    let _ = cache.put(&key, 1).await.expect("stored");
    clock.advance(MINUTE);
    assert!(node.sync(Duration::from_secs(5)).await, "or L2 is not asked");
    assert_eq!(tier_of(&cache, &key).await, Some(Tier::L2), "which keeps it for the hour");
    assert_eq!(tier_of(&cache, &key).await, Some(Tier::L1), "and here it is again");
    node.stop().await;
}

#[tokio::test]
async fn a_call_may_ask_for_another_idle_time_or_for_none() {
    let (server, clock) = server();
    let node = builder(&server, &clock, "a").namespace::<u64>(sessions(Tiers::L1Only));
    let node = checked(node.start().expect("valid settings"));
    joined(&node).await;
    let cache = node.namespace::<u64>("sessions").expect("declared");
    let [usual, longer, fixed, loaded] = ["a", "b", "c", "d"].map(|name| cache.key(name).expect("valid"));
    let _ = cache.put(&usual, 1).await.expect("stored");
    for (key, idle) in [(&longer, 5 * MINUTE), (&fixed, Duration::ZERO)] {
        let options = WriteOptions { idle: Some(idle), ..WriteOptions::default() };
        let _ = cache.put_with(key, Some(1), &options).await.expect("stored");
    }
    let options = ReadOptions { idle: Some(2 * MINUTE), ..ReadOptions::default() };
    let load = || async { Ok(cache_tiered::Loaded::new(1)) };
    let _ = cache.get_or_load_with(&loaded, &options, load).await.expect("loaded");
    let at = async |minutes: u32, keys: [&Key; 2]| {
        clock.advance(MINUTE * minutes);
        [tier_of(&cache, keys[0]).await, tier_of(&cache, keys[1]).await]
    };
    assert_eq!(at(1, [&usual, &loaded]).await, [None, Some(Tier::L1)]);
    assert_eq!(at(2, [&loaded, &longer]).await, [None, Some(Tier::L1)]);
    assert_eq!(at(5, [&longer, &fixed]).await, [None, Some(Tier::L1)]);
    assert_eq!(at(52, [&fixed, &fixed]).await, [None, None], "by its TTL");
    node.stop().await;
}

#[tokio::test]
async fn an_event_driven_copy_that_is_used_all_the_time_still_leaves_at_the_ttl_of_l1() {
    let (server, clock) = server();
    let settings = NamespaceSettings { idle: Some(MINUTE / 2), ..NamespaceSettings::new(ns("text")) };
    let node = checked(builder(&server, &clock, "a").namespace::<u64>(settings).start().expect("valid"));
    joined(&node).await;
    let cache = node.namespace::<u64>("text").expect("declared");
    let key = cache.key("k").expect("valid");
    let _ = cache.put(&key, 1).await.expect("stored");
    for seconds in 1..60 {
        clock.advance(Duration::from_secs(1));
        assert!(node.sync(Duration::from_secs(5)).await);
        assert_eq!(tier_of(&cache, &key).await, Some(Tier::L1), "{seconds} s");
    }
    clock.advance(Duration::from_secs(1));
    assert!(cache.resident(&key).is_none());
    node.stop().await;
}

#[tokio::test]
async fn an_idle_time_of_nothing_is_no_setting() {
    let (server, clock) = server();
    let settings = NamespaceSettings { idle: Some(Duration::ZERO), ..NamespaceSettings::new(ns("text")) };
    let wrong = builder(&server, &clock, "a").namespace::<u64>(settings).start();
    assert!(wrong.is_err_and(|error| error.to_string().contains("idle")));
}

#[tokio::test]
async fn a_ttl_can_change_while_the_cache_runs_and_what_is_there_keeps_its_own() {
    let (server, clock) = server();
    let node = builder(&server, &clock, "a").namespace::<u64>(sessions(Tiers::L2Only));
    let node = checked(node.start().expect("valid settings"));
    joined(&node).await;
    let cache = node.namespace::<u64>("sessions").expect("declared");
    let (old, new, loaded) = (cache.key("old"), cache.key("new"), cache.key("loaded"));
    let (old, new, loaded) = (old.expect("valid"), new.expect("valid"), loaded.expect("valid"));
    let _ = cache.put(&old, 1).await.expect("stored");
    node.set_ttl("sessions", MINUTE).expect("within its bounds");
    let _ = cache.put(&new, 2).await.expect("stored");
    let _ = cache.get_or_load(&loaded, || async { Ok(Loaded::new(3)) }).await.expect("loaded");
    clock.advance(MINUTE);
    assert!(node.sync(Duration::from_secs(5)).await, "or L2 is not asked");
    assert_eq!(tier_of(&cache, &new).await, None);
    assert_eq!(tier_of(&cache, &loaded).await, None);
    assert_eq!(tier_of(&cache, &old).await, Some(Tier::L2));

    for (name, ttl) in [("sessions", Duration::ZERO), ("sessions", 61 * MINUTE), ("nobody", MINUTE)] {
        assert!(node.set_ttl(name, ttl).is_err(), "{name} {ttl:?}");
    }
    node.stop().await;
}
