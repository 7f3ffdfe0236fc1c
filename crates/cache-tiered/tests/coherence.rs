//! What one node changes, the others see.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_events::{EventKind, Key, Pattern, Scope, Tag, Version};
use cache_tiered::{EventDraft, Loaded, Notice, PutOutcome, ReadOptions, Tier, Tiers, WriteOptions};
use support::{builder, checked, eventually, joined, node, ns, server, text};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_put_on_one_node_is_read_on_another_from_l2_and_then_from_l1() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let key = text(&a).key("k").expect("valid");
    let written = text(&a).put(&key, "one".into()).await.expect("acknowledged");
    assert!(b.reached(&written.token, SOON).await);
    let first = text(&b).get(&key).await.expect("readable").expect("there");
    assert_eq!((first.value.as_deref(), first.tier), (Some(&"one".to_owned()), Tier::L2));
    let second = text(&b).get(&key).await.expect("readable").expect("there");
    assert_eq!(second.tier, Tier::L1);
    assert!(Arc::ptr_eq(&first.value.expect("some"), &second.value.expect("some")), "L1 copies nothing");
    let own = text(&a).get(&key).await.expect("readable").expect("there");
    assert_eq!(own.tier, Tier::L1, "the writer keeps its own put");
}

#[tokio::test]
async fn every_scope_reaches_the_other_node_and_nothing_else_leaves() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let tag = Tag::new("red").expect("valid");
    let key = |resource: &str| text(&b).key(resource).expect("valid");
    let variant = |resource: &str, region: &str| {
        text(&b).key_with(resource).param("region", region).build().expect("valid")
    };
    let all = [key("plain"), key("tagged"), variant("many", "us"), variant("many", "eu"), key("run/1")];
    let scopes: Vec<(Scope, Vec<&Key>)> = vec![
        (Scope::Key(all[0].clone()), vec![&all[0]]),
        (Scope::Key(all[2].clone()), vec![&all[2]]),
        (Scope::Resource { namespace: ns("text"), resource: "many".into() }, vec![&all[2], &all[3]]),
        (Scope::Tag(tag.clone()), vec![&all[1]]),
        (pattern("run/*"), vec![&all[4]]),
        (pattern("region=e*"), vec![&all[3]]),
        (pattern("*"), all.iter().collect()),
        (Scope::Namespace(ns("text")), all.iter().collect()),
        (Scope::All, all.iter().collect()),
    ];
    let mut version = 0;
    for (scope, covered) in scopes {
        for key in &all {
            version += 1;
            let tags = if *key == all[1] { vec![tag.clone()] } else { vec![] };
            let options = WriteOptions { tags, ..WriteOptions::default() };
            let written = text(&a).put_with(key, Some(format!("v{version}")), &options).await.expect("acked");
            assert!(b.reached(&written.token, SOON).await);
            assert!(text(&b).get(key).await.expect("readable").is_some());
            assert!(text(&b).resident(key).is_some(), "{key} is in L1 of b");
        }
        let written = a.invalidate(scope.clone(), "test").await.expect("acknowledged");
        // A new epoch is asked about a little later, so that not all nodes ask at once.
        clock.advance(Duration::from_millis(60));
        assert!(b.reached(&written.token, SOON).await, "{scope}");
        for cache in [&a, &b] {
            for key in &all {
                let resident = text(cache).resident(key).is_some();
                assert_eq!(resident, !covered.contains(&key), "{scope}: {key} in L1 of {}", cache.node());
                let found = text(cache).get(key).await.expect("readable").is_some();
                assert_eq!(
                    found,
                    !covered.contains(&key),
                    "{scope}: {key} in L2 as {} sees it",
                    cache.node()
                );
            }
        }
        text(&a).validate();
        text(&b).validate();
    }
}

fn pattern(text: &str) -> Scope {
    Scope::Pattern { namespace: ns("text"), pattern: Pattern::new(text).expect("valid") }
}

#[tokio::test]
async fn a_load_that_an_invalidation_overtakes_is_kept_nowhere() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let key = text(&a).key("k").expect("valid");
    let (entered, mut entrances) = tokio::sync::mpsc::channel(1);
    let (leave, exit) = tokio::sync::oneshot::channel::<()>();
    let slow = {
        let (cache, key) = (text(&a), key.clone());
        async move {
            cache
                .get_or_load(&key, move || async move {
                    entered.send(()).await.expect("the test listens");
                    exit.await.expect("the test lets go");
                    Ok(Loaded::new("old".to_owned()))
                })
                .await
        }
    };
    let ((), slow) = tokio::join!(
        async {
            entrances.recv().await.expect("the load begins");
            // The other node changes the truth while the load holds the old value.
            let written = text(&b).invalidate(&key, "changed").await.expect("acknowledged");
            assert!(a.reached(&written.token, SOON).await);
            leave.send(()).expect("the load waits");
        },
        slow
    );
    assert_eq!(slow.expect("loaded").value.as_deref(), Some(&"old".to_owned()), "the waiter is answered");
    for cache in [&a, &b] {
        assert!(
            text(cache).get(&key).await.expect("readable").is_none(),
            "{} kept a stale load",
            cache.node()
        );
    }
    assert!(text(&a).stats().fills_refused > 0);
}

#[tokio::test]
async fn a_thousand_callers_on_two_nodes_load_once() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let key = text(&a).key("k").expect("valid");
    let loads = Arc::new(AtomicU64::new(0));
    let callers = (0..1000).map(|n| {
        let (cache, key, loads) = (text(if n % 2 == 0 { &a } else { &b }), key.clone(), loads.clone());
        async move {
            cache
                .get_or_load(&key, move || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok(Loaded::new("value".to_owned()))
                })
                .await
                .expect("loaded")
                .value
        }
    });
    let values = futures_util::future::join_all(callers).await;
    assert!(values.iter().all(|value| value.as_deref() == Some(&"value".to_owned())));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn dropping_the_caller_does_not_stop_its_load() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a").await;
    let key = text(&a).key("k").expect("valid");
    let (entered, mut entrances) = tokio::sync::mpsc::channel(1);
    let (leave, exit) = tokio::sync::oneshot::channel::<()>();
    let cache = text(&a);
    let load = cache.get_or_load(&key, move || async move {
        entered.send(()).await.expect("the test listens");
        exit.await.expect("the test lets go");
        Ok(Loaded::new("kept".to_owned()))
    });
    tokio::select! {
        _ = load => panic!("the load waits for the test"),
        _ = entrances.recv() => {}
    }
    leave.send(()).expect("the load goes on without its caller");
    eventually("the load lands", || text(&a).resident(&key).is_some()).await;
}

#[tokio::test]
async fn a_loader_that_fails_or_panics_answers_and_frees_the_key() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a").await;
    let key = text(&a).key("k").expect("valid");
    let failed = text(&a).get_or_load(&key, || async { Err("database gone".into()) }).await;
    assert!(failed.expect_err("fails").to_string().contains("database gone"));
    let panicked = text(&a).get_or_load(&key, || async { panic!("boom") }).await;
    assert!(panicked.expect_err("fails").to_string().contains("boom"));
    let loaded = text(&a).get_or_load(&key, || async { Ok(Loaded::new("fine".to_owned())) }).await;
    assert_eq!(loaded.expect("loaded").tier, Tier::Source);
}

#[tokio::test]
async fn absent_is_an_answer_and_not_a_miss() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let key = text(&a).key("nobody").expect("valid");
    assert!(text(&a).get(&key).await.expect("readable").is_none());
    let loaded = text(&a).get_or_load(&key, || async { Ok(Loaded::absent()) }).await.expect("loaded");
    assert!(loaded.value.is_none());
    let cached = text(&b).get(&key).await.expect("readable").expect("absence is in L2");
    assert_eq!((cached.value, cached.tier), (None, Tier::L2));
    clock.advance(Duration::from_millis(5_001));
    a.sync(SOON).await;
    assert!(text(&a).get(&key).await.expect("readable").is_none(), "absence has a short life of its own");
}

#[tokio::test]
async fn versions_decide_and_an_invalidation_leaves_a_floor() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a").await;
    let key = text(&a).key("k").expect("valid");
    let put = |version: u64, value: &str| {
        let (cache, key, value) = (text(&a), key.clone(), value.to_owned());
        async move {
            let options = WriteOptions::default();
            cache.put_versioned(&key, Version(version), value, &options).await.expect("acknowledged")
        }
    };
    assert!(matches!(put(10, "ten").await, PutOutcome::Stored(_)));
    assert_eq!(put(9, "nine").await, PutOutcome::Outdated);
    let answer = text(&a).get(&key).await.expect("readable").expect("there");
    assert_eq!((answer.value.as_deref(), answer.version), (Some(&"ten".to_owned()), Version(10)));
    let _ = text(&a).invalidate(&key, "changed").await.expect("acknowledged");
    assert_eq!(put(10, "ten").await, PutOutcome::Outdated, "the invalidation outdated version 10");
    assert!(matches!(put(11, "eleven").await, PutOutcome::Stored(_)));
}

#[tokio::test]
async fn a_bulk_read_answers_in_order_from_both_tiers() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let keys: Vec<Key> = (0..50).map(|n| text(&a).key(format!("k{n}")).expect("valid")).collect();
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let written = text(&a).put(key, format!("v{n}")).await.expect("acknowledged");
        assert!(b.reached(&written.token, SOON).await);
    }
    for expected in [Tier::L2, Tier::L1] {
        let answers = text(&b).get_many(&keys).await.expect("readable");
        for (n, answer) in answers.into_iter().enumerate() {
            let seen = answer.map(|answer| (answer.value.expect("present").to_string(), answer.tier));
            assert_eq!(seen, (n % 2 == 0).then(|| (format!("v{n}"), expected)));
        }
    }
}

#[tokio::test]
async fn tiers_can_be_chosen_for_a_call() {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let key = text(&a).key("k").expect("valid");
    let local = WriteOptions { tiers: Some(Tiers::L1Only), ..WriteOptions::default() };
    let written = text(&a).put_with(&key, Some("mine".into()), &local).await.expect("acknowledged");
    assert!(b.reached(&written.token, SOON).await);
    assert_eq!(text(&a).get(&key).await.expect("readable").expect("there").tier, Tier::L1);
    assert!(text(&b).get(&key).await.expect("readable").is_none(), "L1 only: L2 has nothing");
    let shared = WriteOptions { tiers: Some(Tiers::L2Only), ..WriteOptions::default() };
    let _ = text(&a).put_with(&key, Some("shared".into()), &shared).await.expect("acknowledged");
    assert!(text(&a).resident(&key).is_none());
    let only = ReadOptions { tiers: Some(Tiers::L2Only), ..ReadOptions::default() };
    for _ in 0..2 {
        let answer = text(&a).get_with(&key, &only).await.expect("readable").expect("there");
        assert_eq!((answer.tier, answer.value.as_deref()), (Tier::L2, Some(&"shared".to_owned())));
    }
}

#[tokio::test]
async fn a_ttl_of_one_call_outranks_the_namespace() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a").await;
    let key = text(&a).key("k").expect("valid");
    let short = WriteOptions { ttl: Some(Duration::from_millis(300)), ..WriteOptions::default() };
    let _ = text(&a).put_with(&key, Some("brief".into()), &short).await.expect("acknowledged");
    clock.advance(Duration::from_millis(299));
    assert!(text(&a).get(&key).await.expect("readable").is_some());
    clock.advance(Duration::from_millis(2));
    assert!(text(&a).get(&key).await.expect("readable").is_none());
}

#[tokio::test]
async fn handlers_of_other_nodes_are_called_once_and_silent_writes_stay_silent() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a").await;
    let (heard, mut hearing) = tokio::sync::mpsc::channel(64);
    let kind = EventKind::from_static("price_changed");
    let b = builder(&server, &clock, "b")
        .namespace::<String>(cache_tiered::NamespaceSettings::new(ns("text")))
        .on(kind.clone(), move |notice| heard.try_send(notice.clone()).expect("room"));
    let b = checked(b.start().expect("valid"));
    joined(&b).await;
    let quiet = EventDraft::new(kind.clone(), "quiet").silent();
    let _ = a.publish(quiet).await.expect("acknowledged");
    let loud = EventDraft::new(kind.clone(), "loud").data(serde_json::json!({"price": 7}));
    let _ = a.publish(loud).await.expect("acknowledged");
    let _ = b.publish(EventDraft::new(kind.clone(), "own")).await.expect("acknowledged");
    let _ = a.publish(EventDraft::new(kind, "last")).await.expect("acknowledged");
    let mut resources = Vec::new();
    while resources.last().is_none_or(|last| last != "last") {
        let notice = tokio::time::timeout(SOON, hearing.recv()).await.expect("in time").expect("open");
        let Notice::Event(event) = notice else { panic!("nothing was missed") };
        resources.push(event.event.resource_id.clone());
    }
    assert_eq!(resources, ["loud", "last"]);
}

#[tokio::test]
async fn namespaces_are_typed() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a").await;
    let unknown = a.namespace::<String>("nope").err().expect("unknown").to_string();
    assert!(unknown.contains("nope") && unknown.contains("text"), "{unknown}");
    assert!(a.namespace::<u64>("text").is_err());
    let foreign = Key::new(&ns("other"), "k").expect("valid");
    assert!(text(&a).get(&foreign).await.is_err());
    let json = a.json("other").expect("declared");
    let refused = json.put(&foreign, serde_json::json!("seven"), &WriteOptions::default()).await;
    assert!(refused.expect_err("a number is wanted").to_string().contains("u64"));
}
