//! What is explained is what a read then does, and explaining changes nothing.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_embedded::EmbeddedServer;
use cache_events::{Group, Key, NodeId, Partition, Scope, Tag};
use cache_testkit::{FaultyStore, FaultyTransport, ManualClock};
use cache_tiered::{
    Degraded, Explained, Judged, NamespaceSettings, NodeSettings, ReadOptions, Refusal, Tier, TieredCache,
    Tiers, WriteOptions,
};
use serde_json::{Value, json};
use support::{Checked, checked, eventually, joined, ns, server};

const TTL: Duration = Duration::from_secs(60);

struct Node {
    cache: Checked,
    store: Arc<FaultyStore>,
    transport: Arc<FaultyTransport>,
    clock: Arc<ManualClock>,
}

impl Node {
    async fn start(server: &EmbeddedServer, clock: &Arc<ManualClock>, name: &str, schema: u32) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(server.clone())));
        let transport = Arc::new(FaultyTransport::new(Arc::new(server.clone()), 7));
        let settings = |name: &str, change: fn(&mut NamespaceSettings)| {
            let mut settings = NamespaceSettings::new(ns(name)).ttl(TTL);
            settings.schema = schema;
            settings.degraded = Degraded::Strict;
            change(&mut settings);
            settings
        };
        let node = NodeId::new(name).expect("valid");
        let cache = TieredCache::builder(node, store.clone(), transport.clone(), |entries| {
            cache_policy::PolicyKind::Lru.family(entries)
        })
        .clock(clock.clone())
        .settings(NodeSettings { write_deadline: Duration::from_millis(20), ..Default::default() })
        .namespace::<String>(settings("strict", |_| {}))
        .namespace::<String>(settings("stale", |settings| {
            settings.degraded = Degraded::BoundedStale(Duration::from_secs(30));
        }))
        .namespace::<String>(settings("fail", |settings| settings.degraded = Degraded::Fail))
        .namespace::<String>(settings("memory", |settings| settings.tiers = Tiers::L1Only))
        .namespace::<String>(settings("shared", |settings| settings.tiers = Tiers::L2Only));
        let cache = checked(cache.start().expect("valid"));
        joined(&cache).await;
        Self { cache, store, transport, clock: clock.clone() }
    }

    async fn put(&self, key: &Key, value: Option<&str>) {
        let cache = self.cache.namespace::<String>(key.namespace().as_str()).expect("declared");
        let options = WriteOptions { tags: vec![Tag::new("t").expect("valid")], ..WriteOptions::default() };
        let _ = cache.put_with(key, value.map(str::to_owned), &options).await.expect("acknowledged");
    }

    /// Waits until the node has applied a write. Time passes, or a sync that came too late would never be tried again.
    async fn reached(&self, token: &cache_events::WriteToken) {
        for _ in 0..100 {
            if self.cache.reached(token, Duration::from_millis(100)).await {
                return;
            }
            self.clock.advance(Duration::from_millis(50));
        }
        panic!("{token} is not reached: the node stands at {}", self.cache.position(Partition(0)));
    }

    /// Cut off for longer than the bound.
    async fn beyond_the_bound(&self) {
        self.transport.cut();
        eventually("the node hears nothing", || !self.cache.health().live).await;
        self.clock.advance(Duration::from_secs(3));
    }

    /// Explains a key, twice the same, and finds that nothing was counted; then reads it, and finds what was explained.
    async fn explained(&self, key: &Key) -> Explained {
        let json = self.cache.json(key.namespace().as_str()).expect("declared");
        let counted = format!("{:?}", json.stats());
        let explained = json.explain(key).await.expect("of this namespace");
        let again = json.explain(key).await.expect("of this namespace");
        assert_eq!(format!("{explained:?}"), format!("{again:?}"), "explaining has changed something");
        assert_eq!(format!("{:?}", json.stats()), counted, "explaining was counted");
        let read = json.get(key, &ReadOptions::default()).await;
        assert_eq!(read.is_err(), explained.fails, "{read:?} {explained:#?}");
        let answer = read.ok().flatten();
        assert_eq!(answer.as_ref().map(|answer| answer.tier), explained.tier, "{explained:#?}");
        let value = answer.as_ref().and_then(|answer| answer.value.as_deref());
        assert_eq!(value, explained.value.as_ref(), "{explained:#?}");
        if let Some(answer) = &answer {
            let looked = if answer.tier == Tier::L1 { &explained.l1 } else { &explained.l2 };
            let held = looked.held.expect("it was answered");
            assert_eq!((held.position, held.version), (answer.position, answer.version));
            assert_eq!(held.absent, value.is_none());
            assert_eq!(matches!(looked.judged, Judged::ServedStale), answer.stale, "{explained:#?}");
        }
        explained
    }
}

fn key(namespace: &str) -> Key {
    Key::new(&ns(namespace), "k").expect("valid")
}

async fn two() -> (Node, Node) {
    let (server, clock) = server();
    (Node::start(&server, &clock, "a", 1).await, Node::start(&server, &clock, "b", 1).await)
}

#[tokio::test]
async fn what_is_nowhere_in_memory_or_shared_alone() {
    let (a, b) = two().await;
    let key = key("strict");
    let nothing = a.explained(&key).await;
    assert!(matches!((&nothing.l1.judged, &nothing.l2.judged), (Judged::Nothing, Judged::Nothing)));
    a.put(&key, Some("v")).await;
    let both = a.explained(&key).await;
    assert!(matches!((&both.l1.judged, &both.l2.judged), (Judged::Served, Judged::Served)), "{both:#?}");
    assert_eq!((both.tier, &both.value), (Some(Tier::L1), &Some(json!("v"))));
    assert_eq!(both.groups, [Group::tag(&Tag::new("t").expect("valid")).id()]);
    assert_eq!(both.lag_ms, Some(0));
    let held = both.l1.held.expect("it is there");
    assert!(held.expires_in_ms > Some(0) && held.expires_in_ms <= Some(TTL.as_millis() as u64), "{held:?}");
    assert_eq!(b.explained(&key).await.tier, Some(Tier::L2));
    assert_eq!(b.explained(&key).await.tier, Some(Tier::L1), "the read has filled it");
}

#[tokio::test]
async fn a_known_absence() {
    let (a, _) = two().await;
    let key = key("strict");
    a.put(&key, None).await;
    let explained = a.explained(&key).await;
    assert_eq!((explained.tier, &explained.value), (Some(Tier::L1), &None::<Value>));
    assert!(explained.l2.held.expect("it is there").absent);
}

#[tokio::test]
async fn what_was_invalidated() {
    let (a, b) = two().await;
    let key = key("strict");
    for (scope, held, l1, l2) in [
        (Scope::Tag(Tag::new("t").expect("valid")), true, "Outdated", "Refused(Group)"),
        (Scope::Namespace(ns("strict")), true, "Outdated", "Refused(Group)"),
        (Scope::Key(key.clone()), false, "Nothing", "Nothing"),
        (Scope::All, true, "Outdated", "Nothing"),
    ] {
        a.put(&key, Some("v")).await;
        assert_eq!(b.explained(&key).await.value, Some(json!("v")));
        let written = a.cache.invalidate(scope.clone(), "test").await.expect("acknowledged");
        for node in [&a, &b] {
            node.reached(&written.token).await;
            let explained = node.explained(&key).await;
            let judged = [&explained.l1, &explained.l2].map(|looked| format!("{:?}", looked.judged));
            assert_eq!(judged, [l1, l2], "{scope}");
            assert_eq!(explained.l1.held.is_some(), held, "{scope}");
            assert_eq!(explained.tier, None);
        }
    }
}

#[tokio::test]
async fn what_has_expired() {
    let (a, _) = two().await;
    let key = key("strict");
    a.put(&key, Some("v")).await;
    a.clock.advance(TTL + Duration::from_millis(1));
    let explained = a.explained(&key).await;
    assert!(matches!(explained.l1.judged, Judged::Expired), "{explained:#?}");
    assert_eq!(explained.l1.held.expect("not swept yet").expires_in_ms, Some(0));
    assert!(matches!(explained.l2.judged, Judged::Unasked { lag_ms: Some(_) }), "{explained:#?}");
    assert!(a.cache.sync(Duration::from_secs(5)).await);
    let explained = a.explained(&key).await;
    assert!(matches!(explained.l2.judged, Judged::Nothing | Judged::Refused(Refusal::Expired)));
}

#[tokio::test]
async fn a_node_that_cannot_prove_its_copies() {
    let (a, _) = two().await;
    let keys = ["strict", "stale", "fail"].map(key);
    for key in &keys {
        a.put(key, Some("v")).await;
    }
    a.beyond_the_bound().await;
    let strict = a.explained(&keys[0]).await;
    assert!(matches!(strict.l1.judged, Judged::BeyondBound { lag_ms: Some(3_000..) }), "{strict:#?}");
    assert!(matches!(strict.l2.judged, Judged::Unasked { .. }) && !strict.fails, "{strict:#?}");
    assert!(strict.l2.held.is_some(), "shown all the same");
    let stale = a.explained(&keys[1]).await;
    assert!(matches!(stale.l1.judged, Judged::ServedStale), "{stale:#?}");
    assert_eq!(stale.value, Some(json!("v")));
    let fail = a.explained(&keys[2]).await;
    assert!(fail.fails && fail.tier.is_none(), "{fail:#?}");
    let said = strict.l1.judged.to_string();
    assert!(said.contains("beyond the staleness bound") && said.contains(" ms"), "{said}");
}

#[tokio::test]
async fn a_store_that_does_not_answer() {
    let (a, b) = two().await;
    let key = key("strict");
    a.put(&key, Some("v")).await;
    b.store.cut();
    let explained = b.explained(&key).await;
    assert!(matches!(explained.l2.judged, Judged::Unanswered(_)), "{explained:#?}");
}

#[tokio::test]
async fn a_record_of_another_type() {
    let (server, clock) = server();
    let a = Node::start(&server, &clock, "a", 1).await;
    let b = Node::start(&server, &clock, "b", 2).await;
    let key = key("strict");
    a.put(&key, Some("v")).await;
    let explained = b.explained(&key).await;
    assert!(matches!(explained.l2.judged, Judged::Refused(Refusal::Unreadable(_))), "{explained:#?}");
    let held = explained.l2.held.expect("its header can be read");
    assert!(held.position.seq > 0 && held.age_ms.is_none(), "{held:?}");
}

#[tokio::test]
async fn tiers_that_are_not_used() {
    let (a, _) = two().await;
    let (memory, shared) = (key("memory"), key("shared"));
    a.put(&memory, Some("v")).await;
    a.put(&shared, Some("v")).await;
    let explained = a.explained(&memory).await;
    assert!(matches!((&explained.tier, &explained.l2.judged), (Some(Tier::L1), Judged::Unused)));
    let explained = a.explained(&shared).await;
    assert!(matches!((&explained.tier, &explained.l1.judged), (Some(Tier::L2), Judged::Unused)));
}

#[tokio::test]
async fn residents_are_the_first_by_name_and_alike_on_all_nodes() {
    let (a, b) = two().await;
    let keys: Vec<Key> = (0..5).map(|n| Key::new(&ns("strict"), format!("k{n}")).expect("valid")).collect();
    for key in keys.iter().rev() {
        a.put(key, Some(&format!("value of {key}"))).await;
        b.explained(key).await;
    }
    let residents = |node: &Node, limit| {
        let (all, more) = node.cache.json("strict").expect("declared").residents(limit);
        let row =
            |resident: cache_tiered::Resident| (resident.key.to_string(), resident.position, resident.digest);
        (all.into_iter().map(row).collect::<Vec<_>>(), more)
    };
    let (all, more) = residents(&a, 5);
    assert!(!more && all.len() == 5 && all.is_sorted(), "{all:?}");
    assert_eq!(residents(&b, 5).0, all);
    assert_eq!(residents(&a, 2), (all[..2].to_vec(), true));
    assert_ne!(all[0].2, all[1].2, "another value");
    let written = a.cache.invalidate(Scope::Tag(Tag::new("t").expect("valid")), "test").await;
    assert!(written.is_ok() && residents(&a, 5).0.is_empty(), "what would not be served is not told");
}
