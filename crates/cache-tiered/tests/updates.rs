//! Values and deltas in hints: what other nodes hold is replaced instead of dropped.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cache_embedded::EmbeddedServer;
use cache_events::{Key, NodeId, Scope, Tag, Version, WriteToken};
use cache_policy::PolicyKind;
use cache_testkit::{FaultyStore, FaultyTransport, ManualClock};
use cache_tiered::{
    Builder, Loaded, NamespaceSettings, Patch, PutOutcome, Tier, TieredCache, Tiers, TypedCache,
    UpdateOutcome, Updates, WriteError, WriteOptions, Written,
};
use serde::{Deserialize, Serialize};
use support::{Checked, builder, checked, eventually, joined, ns, server, spawned};

const SOON: Duration = Duration::from_secs(5);

fn settings(updates: Updates) -> NamespaceSettings {
    NamespaceSettings { updates, ..NamespaceSettings::new(ns("text")) }
}

async fn node(server: &EmbeddedServer, clock: &Arc<ManualClock>, name: &str, updates: Updates) -> Checked {
    let cache = builder(server, clock, name).namespace::<String>(settings(updates)).start().expect("valid");
    joined(&cache).await;
    checked(cache)
}

fn text(cache: &TieredCache) -> TypedCache<String> {
    cache.namespace("text").expect("declared")
}

async fn reaches(cache: &TieredCache, written: &Written) {
    assert!(cache.reached(&written.token, SOON).await, "{} has heard of it", cache.node());
}

/// What L1 has.
fn held(cache: &TieredCache, key: &Key) -> Option<String> {
    text(cache).resident(key).map(|answer| answer.value.as_deref().expect("a value").clone())
}

#[tokio::test]
async fn who_holds_a_value_takes_the_next_one_from_the_hint() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a", Updates::Value).await;
    let (b, c) = (
        node(&server, &clock, "b", Updates::Value).await,
        node(&server, &clock, "c", Updates::Invalidate).await,
    );
    let key = text(&a).key("k").expect("valid");
    let _ = text(&a).put(&key, "one".into()).await.expect("acknowledged");
    for cache in [&b, &c] {
        assert!(text(cache).get(&key).await.expect("readable").is_some());
    }
    let written = text(&a).put(&key, "two".into()).await.expect("acknowledged");
    for cache in [&b, &c] {
        reaches(cache, &written).await;
    }
    assert_eq!(held(&b, &key).as_deref(), Some("two"));
    assert_eq!(held(&c, &key), None, "a node that does not ask for values drops what it holds");
    let answer = text(&b).resident(&key).expect("held");
    assert_eq!(WriteToken::single(key.partition(1), answer.position), written.token);
    assert_eq!((text(&b).stats().updates_taken, text(&b).stats().l2_hits), (1, 1), "and asks nobody");
    // What was taken is invalidated like anything else.
    let written = a.invalidate(Scope::Namespace(ns("text")), "test").await.expect("acknowledged");
    reaches(&b, &written).await;
    assert_eq!(held(&b, &key), None);
}

#[tokio::test]
async fn who_holds_nothing_takes_a_value_only_where_that_is_asked_for() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a", Updates::Value).await;
    let (b, c) = (
        node(&server, &clock, "b", Updates::Value).await,
        node(&server, &clock, "c", Updates::ValueEverywhere).await,
    );
    let key = text(&a).key("k").expect("valid");
    let written = text(&a).put(&key, "one".into()).await.expect("acknowledged");
    reaches(&b, &written).await;
    reaches(&c, &written).await;
    assert_eq!((held(&b, &key), held(&c, &key).as_deref()), (None, Some("one")));
    assert_eq!(text(&c).stats().loads + text(&c).stats().l2_hits, 0);
}

#[tokio::test]
async fn absence_and_tags_and_lifetimes_travel_with_the_value() {
    let (server, clock) = server();
    let (a, b) = (
        node(&server, &clock, "a", Updates::ValueEverywhere).await,
        node(&server, &clock, "b", Updates::ValueEverywhere).await,
    );
    let (gone, tagged) = (text(&a).key("gone").expect("valid"), text(&a).key("tagged").expect("valid"));
    let tag = Tag::new("red").expect("valid");
    let options = WriteOptions {
        tags: vec![tag.clone()],
        ttl: Some(Duration::from_secs(9)),
        ..WriteOptions::default()
    };
    let _ = text(&a).put_with(&gone, None, &WriteOptions::default()).await.expect("acknowledged");
    let written = text(&a).put_with(&tagged, Some("x".into()), &options).await.expect("acknowledged");
    reaches(&b, &written).await;
    assert_eq!(text(&b).resident(&gone).map(|answer| answer.value), Some(None));
    assert_eq!(held(&b, &tagged).as_deref(), Some("x"));
    let written = a.invalidate(Scope::Tag(tag), "test").await.expect("acknowledged");
    reaches(&b, &written).await;
    assert_eq!(held(&b, &tagged), None, "its tag came with it");
    let written = text(&a).put_with(&tagged, Some("y".into()), &options).await.expect("acknowledged");
    reaches(&b, &written).await;
    assert_eq!(held(&b, &tagged).as_deref(), Some("y"));
    clock.advance(Duration::from_secs(9));
    assert_eq!(held(&b, &tagged), None, "it expires when the writer said");
}

#[tokio::test]
async fn a_value_too_large_for_a_hint_is_an_invalidation() {
    let (server, clock) = server();
    let (a, b) =
        (node(&server, &clock, "a", Updates::Value).await, node(&server, &clock, "b", Updates::Value).await);
    let key = text(&a).key("k").expect("valid");
    let _ = text(&a).put(&key, "one".into()).await.expect("acknowledged");
    assert!(text(&b).get(&key).await.expect("readable").is_some());
    // Nothing that could be compressed.
    let mut random = fastrand::Rng::with_seed(7);
    let large: String = std::iter::repeat_with(|| random.alphanumeric()).take(100_000).collect();
    let written = text(&a).put(&key, large.clone()).await.expect("acknowledged");
    reaches(&b, &written).await;
    assert_eq!((held(&b, &key), text(&b).stats().updates_taken), (None, 0));
    let read = text(&b).get(&key).await.expect("readable").expect("there");
    assert_eq!((read.value.as_deref(), read.tier), (Some(&large), Tier::L2));
}

#[tokio::test]
async fn a_value_of_another_type_is_an_invalidation() {
    let (server, clock) = server();
    let a = node(&server, &clock, "a", Updates::ValueEverywhere).await;
    let other = NamespaceSettings { schema: 2, ..settings(Updates::ValueEverywhere) };
    let b = builder(&server, &clock, "b").namespace::<String>(other).start().expect("valid");
    joined(&b).await;
    let b = checked(b);
    let key = text(&a).key("k").expect("valid");
    let loaded = text(&b).get_or_load(&key, || async { Ok(Loaded::new("mine".to_owned())) }).await;
    assert_eq!(loaded.expect("loaded").value.as_deref(), Some(&"mine".to_owned()));
    let written = text(&a).put(&key, "one".into()).await.expect("acknowledged");
    reaches(&b, &written).await;
    assert_eq!(held(&b, &key), None);
    assert_eq!((text(&b).stats().updates_taken, text(&b).stats().updates_left), (0, 1));
}

#[tokio::test]
async fn a_namespace_in_memory_alone_tells_no_values() {
    let (server, clock) = server();
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        let settings = NamespaceSettings { tiers: Tiers::L1Only, ..settings(Updates::ValueEverywhere) };
        let cache = builder(&server, &clock, name).namespace::<String>(settings).start().expect("valid");
        joined(&cache).await;
        nodes.push(checked(cache));
    }
    let key = text(&nodes[0]).key("k").expect("valid");
    let written = text(&nodes[0]).put(&key, "one".into()).await.expect("acknowledged");
    reaches(&nodes[1], &written).await;
    assert_eq!((held(&nodes[0], &key).as_deref(), held(&nodes[1], &key)), (Some("one"), None));
}

/// One side of an order book: amounts by price, and the sum of all that was ever added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Book {
    levels: BTreeMap<u32, i64>,
    changes: u64,
}

/// Adds to a level; one that would fall below nothing does not fit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Change {
    price: u32,
    by: i64,
}

impl Patch for Book {
    type Delta = Change;

    fn patched(&self, change: &Change) -> Option<Self> {
        let mut next = self.clone();
        let level = next.levels.entry(change.price).or_default();
        *level += change.by;
        next.changes += 1;
        (next.levels[&change.price] >= 0).then_some(next)
    }
}

fn books(builder: Builder) -> Checked {
    let settings = NamespaceSettings::new(ns("books"));
    checked(builder.namespace_of_deltas::<Book>(settings).start().expect("valid settings"))
}

async fn books_on(server: &EmbeddedServer, clock: &Arc<ManualClock>, name: &str) -> Checked {
    let cache = books(builder(server, clock, name));
    joined(&cache).await;
    cache
}

fn book(cache: &TieredCache) -> TypedCache<Book> {
    cache.namespace("books").expect("declared")
}

async fn update(cache: &TieredCache, key: &Key, price: u32, by: i64) -> Written {
    let outcome = book(cache).update(key, &Change { price, by }, &WriteOptions::default()).await;
    match outcome.expect("acknowledged") {
        UpdateOutcome::Stored(written) => written,
        other => panic!("{other:?}"),
    }
}

async fn read(cache: &TieredCache, key: &Key) -> Book {
    let answer = book(cache).get(key).await.expect("readable").expect("there");
    answer.value.as_deref().expect("a value").clone()
}

#[tokio::test]
async fn a_delta_changes_what_other_nodes_hold() {
    let (server, clock) = server();
    let (a, b) = (books_on(&server, &clock, "a").await, books_on(&server, &clock, "b").await);
    let key = book(&a).key("H100").expect("valid");
    let _ = book(&a).put(&key, Book::default()).await.expect("acknowledged");
    assert_eq!(read(&b, &key).await, Book::default());
    for number in 1..=20 {
        let written = update(&a, &key, 100 + number % 3, 5).await;
        reaches(&b, &written).await;
        let (ours, theirs) = (book(&a).resident(&key).expect("held"), book(&b).resident(&key).expect("held"));
        assert_eq!(
            (&ours.value, ours.position, ours.version),
            (&theirs.value, theirs.position, theirs.version)
        );
        assert_eq!(theirs.value.as_deref().expect("a value").changes, u64::from(number));
    }
    assert_eq!((book(&b).stats().updates_taken, book(&b).stats().l2_hits), (20, 1));
    // The snapshot is always there for who comes later.
    let c = books_on(&server, &clock, "c").await;
    assert_eq!(read(&c, &key).await, read(&a, &key).await);
}

#[tokio::test]
async fn two_writers_lose_no_delta() {
    let (server, clock) = server();
    let (a, b) = (books_on(&server, &clock, "a").await, books_on(&server, &clock, "b").await);
    let key = book(&a).key("H100").expect("valid");
    let _ = book(&a).put(&key, Book::default()).await.expect("acknowledged");
    let writers = [a.clone(), b.clone()].map(|cache| {
        let key = key.clone();
        spawned(async move {
            let mut done = 0;
            while done < 200 {
                let change = Change { price: 1, by: 1 };
                let outcome = book(&cache).update(&key, &change, &WriteOptions::default()).await;
                match outcome.expect("acknowledged") {
                    UpdateOutcome::Stored(_) => done += 1,
                    UpdateOutcome::Contended => {}
                    other => panic!("{other:?}"),
                }
                tokio::task::yield_now().await;
            }
        })
    });
    for writer in writers {
        writer.await.expect("no panic");
    }
    assert!(a.sync(SOON).await && b.sync(SOON).await);
    let book = read(&a, &key).await;
    assert_eq!((book.levels[&1], book.changes), (400, 400));
    assert_eq!(read(&b, &key).await, book);
}

#[tokio::test]
async fn what_cannot_be_changed_is_said_to_be_missing_or_not_to_fit() {
    let (server, clock) = server();
    let (a, b) = (books_on(&server, &clock, "a").await, books_on(&server, &clock, "b").await);
    let key = book(&a).key("H100").expect("valid");
    let tag = Tag::new("red").expect("valid");
    let (plain, tagged) =
        (WriteOptions::default(), WriteOptions { tags: vec![tag.clone()], ..WriteOptions::default() });
    let change = |by| Change { price: 1, by };
    let outcome = async |cache: &TieredCache, by, options: &WriteOptions| {
        book(cache).update(&key, &change(by), options).await.expect("no error")
    };
    assert_eq!(outcome(&a, 1, &plain).await, UpdateOutcome::Missing);
    let _ = book(&a).put_with(&key, Some(Book::default()), &tagged).await.expect("acknowledged");
    assert_eq!(
        outcome(&a, 1, &plain).await,
        UpdateOutcome::Missing,
        "it has a tag that the call does not name"
    );
    assert!(matches!(outcome(&a, 1, &tagged).await, UpdateOutcome::Stored(_)));
    assert_eq!(outcome(&a, -2, &tagged).await, UpdateOutcome::Misfit);
    // Node b holds it. What a says of the tag has not come to b when b writes, or has: either way the value is worthless.
    assert!(matches!(outcome(&b, 1, &tagged).await, UpdateOutcome::Stored(_)));
    let _ = a.invalidate(Scope::Tag(tag), "test").await.expect("acknowledged");
    assert_ne!(outcome(&b, 1, &tagged).await, UpdateOutcome::Misfit);
    assert!(!matches!(outcome(&b, 1, &tagged).await, UpdateOutcome::Stored(_)), "nothing comes back to life");
}

#[tokio::test]
async fn a_value_of_the_source_is_told_whole_once_and_by_deltas_from_then_on() {
    let (server, clock) = server();
    let (a, b) = (books_on(&server, &clock, "a").await, books_on(&server, &clock, "b").await);
    let key = book(&a).key("H100").expect("valid");
    for cache in [&a, &b] {
        let loaded = book(cache).get_or_load(&key, || async { Ok(Loaded::new(Book::default())) }).await;
        assert_eq!(loaded.expect("loaded").version, Version::NONE);
    }
    for number in 1..=3 {
        let written = update(&a, &key, 1, 1).await;
        reaches(&b, &written).await;
        let held = book(&b).resident(&key).expect("held");
        assert_eq!((held.value.expect("a value").changes, held.version > Version::NONE), (number, true));
    }
    // A version of the source is counted on.
    let (books, plain) = (book(&a), WriteOptions::default());
    let outcome = books.put_versioned(&key, Version(u64::MAX - 9), Book::default(), &plain);
    assert!(matches!(outcome.await.expect("acknowledged"), PutOutcome::Stored(_)));
    let written = update(&a, &key, 1, 1).await;
    reaches(&b, &written).await;
    assert_eq!(book(&b).resident(&key).expect("held").version, Version(u64::MAX - 8));
}

#[tokio::test]
async fn an_update_of_which_nobody_heard_whether_it_was_done_is_not_done_twice() {
    let (server, clock) = server();
    let shared = Arc::new(server.clone());
    let store = Arc::new(FaultyStore::new(shared.clone()));
    let name = NodeId::new("a").expect("valid");
    let a = books(
        TieredCache::builder(name, store.clone(), shared, |entries| PolicyKind::Sieve.family(entries))
            .clock(clock.clone()),
    );
    joined(&a).await;
    let key = book(&a).key("H100").expect("valid");
    let _ = book(&a).put(&key, Book::default()).await.expect("acknowledged");
    store.lose_one_answer();
    let outcome = book(&a).update(&key, &Change { price: 1, by: 1 }, &WriteOptions::default()).await;
    assert!(matches!(outcome, Err(WriteError::Unacked { .. })), "{outcome:?}");
    eventually("the outbox is worked off", || a.health().outbox == 0).await;
    // Nobody serves what may be or not be.
    assert!(book(&a).get(&key).await.expect("readable").is_none());
}

/// 10,000 deltas with hints lost, repeated and out of order.
#[tokio::test]
async fn an_order_book_is_the_same_everywhere_whatever_happens_to_its_hints() {
    const UPDATES: u64 = 10_000;
    let (server, clock) = server();
    let a = books_on(&server, &clock, "a").await;
    let shared = Arc::new(server.clone());
    let transport = Arc::new(FaultyTransport::new(shared.clone(), 42));
    let name = NodeId::new("b").expect("valid");
    let b = books(
        TieredCache::builder(name, shared, transport.clone(), |entries| PolicyKind::Sieve.family(entries))
            .clock(clock.clone()),
    );
    joined(&b).await;
    let key = book(&a).key("H100").expect("valid");
    let _ = book(&a).put(&key, Book::default()).await.expect("acknowledged");
    transport.disorder(4);
    let (mut truth, mut last) = (vec![Book::default()], 0);
    let mut random = fastrand::Rng::with_seed(3);
    for number in 1..=UPDATES {
        let (price, most) = (random.u32(100..120), truth.last().expect("the first"));
        let at_least = -most.levels.get(&price).copied().unwrap_or_default();
        let by = random.i64(at_least..=9);
        truth.push(most.patched(&Change { price, by }).expect("it fits"));
        let _ = update(&a, &key, price, by).await;
        if number % 7 == 0 {
            tokio::task::yield_now().await;
        }
        let seen = read(&b, &key).await;
        assert_eq!(seen, truth[seen.changes as usize], "a book that never was, after {number} changes");
        assert!(seen.changes >= last, "back from {last} to {}", seen.changes);
        last = seen.changes;
    }
    transport.heal();
    assert!(b.sync(SOON).await);
    assert_eq!(read(&b, &key).await, truth[UPDATES as usize]);
    assert_eq!(read(&a, &key).await, truth[UPDATES as usize]);
    let stats = book(&b).stats();
    assert!(stats.updates_taken > UPDATES / 20, "many came by deltas: {stats:?}");
    assert!(stats.updates_left > UPDATES / 20, "and many could not be used: {stats:?}");
}
