//! A node that hears nothing knows it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_embedded::EmbeddedServer;
use cache_events::{Key, NodeId, Version};
use cache_testkit::{FaultyStore, FaultyTransport, ManualClock};
use cache_tiered::{
    Degraded, Loaded, NamespaceSettings, NodeSettings, PutOutcome, ReadError, Tier, TieredCache, TypedCache,
    WriteError, WriteOptions,
};
use support::{Checked, checked, eventually, joined, ns, server};

struct Cut {
    cache: Checked,
    store: Arc<FaultyStore>,
    transport: Arc<FaultyTransport>,
}

impl Cut {
    async fn node(server: &EmbeddedServer, clock: &Arc<ManualClock>, outbox_max: usize) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(server.clone())));
        let transport = Arc::new(FaultyTransport::new(Arc::new(server.clone()), 7));
        let settings = |name: &str, degraded| {
            let mut settings = NamespaceSettings::new(ns(name));
            settings.degraded = degraded;
            settings
        };
        let cache = TieredCache::builder(
            NodeId::new("cut").expect("valid"),
            store.clone(),
            transport.clone(),
            |entries| cache_policy::PolicyKind::Lru.family(entries),
        )
        .clock(clock.clone())
        .settings(NodeSettings {
            outbox_max,
            write_deadline: Duration::from_millis(20),
            ..Default::default()
        })
        .namespace::<String>(settings("strict", Degraded::Strict))
        .namespace::<String>(settings("stale", Degraded::BoundedStale(Duration::from_secs(30))))
        .namespace::<String>(settings("fail", Degraded::Fail));
        let cache = checked(cache.start().expect("valid"));
        joined(&cache).await;
        Self { cache, store, transport }
    }

    fn cut(&self) {
        self.store.cut();
        self.transport.cut();
    }

    fn heal(&self) {
        self.store.heal();
        self.transport.heal();
    }

    fn space(&self, name: &str) -> TypedCache<String> {
        self.cache.namespace(name).expect("declared")
    }

    /// Nobody acknowledges it: the outbox has it.
    async fn fails_to_invalidate(&self, clock: &ManualClock, key: &str) {
        let cache = self.space("stale");
        let key = cache.key(key).expect("valid");
        let told = given_up(clock, async move { cache.invalidate(&key, "changed").await }).await;
        assert!(matches!(told, Err(WriteError::Unacked { .. })), "{told:?}");
    }

    /// Nobody acknowledges it: the outbox has it.
    async fn fails_to_put(&self, clock: &ManualClock, key: &Key, version: Version) {
        let (cache, key) = (self.space("stale"), key.clone());
        let put =
            async move { cache.put_versioned(&key, version, "newer".into(), &WriteOptions::default()).await };
        let told = given_up(clock, put).await;
        assert!(matches!(told, Err(WriteError::Unacked { .. })), "{told:?}");
    }
}

/// What a write says whose deadline passes, which runs by the logical clock.
async fn given_up<T: Send + 'static>(
    clock: &ManualClock,
    write: impl Future<Output = T> + Send + 'static,
) -> T {
    let write = support::spawned(write);
    while !write.is_finished() {
        clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    write.await.expect("no panic")
}

/// Another node, which is not cut off, and a key of which it has put the first version.
struct Versions {
    space: TypedCache<String>,
    key: Key,
    _node: Checked,
}

impl Versions {
    async fn begun(server: &EmbeddedServer, clock: &Arc<ManualClock>) -> Self {
        let node = support::builder(server, clock, "other")
            .namespace::<String>(NamespaceSettings::new(ns("stale")))
            .start();
        let node = checked(node.expect("valid"));
        joined(&node).await;
        let space: TypedCache<String> = node.namespace("stale").expect("declared");
        let key = space.key("k").expect("valid");
        let versions = Self { space, key, _node: node };
        let first = versions.put(Version(1)).await;
        assert!(matches!(first, PutOutcome::Stored(_)), "{first:?}");
        versions
    }

    async fn put(&self, version: Version) -> PutOutcome {
        let plain = WriteOptions::default();
        let put = self.space.put_versioned(&self.key, version, "a value".into(), &plain);
        put.await.expect("acknowledged")
    }

    /// A put of the version before was under way all the time; the source has `newer`.
    async fn have_no_room_below(&self, newer: Version) {
        let older = self.put(Version(newer.0 - 1)).await;
        assert!(matches!(older, PutOutcome::Outdated), "{older:?}");
        let again = self.put(newer).await;
        assert!(matches!(again, PutOutcome::Stored(_)), "{again:?}");
    }
}

#[tokio::test]
async fn a_deaf_node_stops_trusting_its_copies_after_the_bound() {
    let (server, clock) = server();
    let node = Cut::node(&server, &clock, 10).await;
    for name in ["strict", "stale", "fail"] {
        let space = node.space(name);
        let key = space.key("k").expect("valid");
        let _ = space.put(&key, "copy".into()).await.expect("acknowledged");
    }
    node.cut();
    // Within the bound a blip is invisible.
    for name in ["strict", "stale", "fail"] {
        let space = node.space(name);
        let answer = space.get(&space.key("k").expect("valid")).await.expect("readable").expect("there");
        assert!(answer.tier == Tier::L1 && !answer.stale);
    }
    clock.advance(Duration::from_millis(2_100));
    let strict = node.space("strict");
    let key = strict.key("k").expect("valid");
    assert!(strict.get(&key).await.expect("readable").is_none(), "strict: a copy that nobody vouches for");
    let loaded =
        strict.get_or_load(&key, || async { Ok(Loaded::new("fresh".to_owned())) }).await.expect("loaded");
    assert_eq!((loaded.tier, loaded.value.as_deref()), (Tier::Source, Some(&"fresh".to_owned())));
    let again = strict.get(&key).await.expect("readable").expect("loaded within the bound");
    assert_eq!((again.tier, again.value.as_deref()), (Tier::L1, Some(&"fresh".to_owned())));
    clock.advance(Duration::from_millis(2_100));
    assert!(strict.get(&key).await.expect("readable").is_none(), "its own load has aged too");
    let stale = node.space("stale");
    let answer = stale.get(&stale.key("k").expect("valid")).await.expect("readable").expect("there");
    assert!(answer.stale && answer.lag() >= Duration::from_millis(4_200));
    let fail = node.space("fail");
    let failed = fail.get(&fail.key("k").expect("valid")).await;
    assert!(matches!(failed, Err(ReadError::Degraded { .. })));
    node.heal();
    joined(&node.cache).await;
    assert!(node.cache.sync(Duration::from_secs(5)).await);
    let healed = fail.get(&fail.key("k").expect("valid")).await.expect("readable");
    assert!(healed.is_some_and(|answer| !answer.stale));
}

#[tokio::test]
async fn an_unacknowledged_invalidation_is_told_and_arrives_later() {
    let (server, clock) = server();
    let node = Cut::node(&server, &clock, 10).await;
    let other =
        support::builder(&server, &clock, "other").namespace::<String>(NamespaceSettings::new(ns("stale")));
    let other = checked(other.start().expect("valid"));
    joined(&other).await;
    let theirs: TypedCache<String> = other.namespace("stale").expect("declared");
    let key = theirs.key("k").expect("valid");
    let _ = theirs.put(&key, "old".into()).await.expect("acknowledged");
    node.cut();
    node.fails_to_invalidate(&clock, "k").await;
    assert_eq!(node.cache.health().outbox, 1);
    node.heal();
    eventually("the outbox empties", || node.cache.health().outbox == 0).await;
    eventually("the other node drops its copy", || theirs.resident(&key).is_none()).await;
}

#[tokio::test]
async fn an_unacknowledged_put_leaves_no_room_for_an_older_one() {
    let (server, clock) = server();
    let node = Cut::node(&server, &clock, 10).await;
    let theirs = Versions::begun(&server, &clock).await;
    node.cut();
    node.fails_to_put(&clock, &theirs.key, Version(3)).await;
    node.heal();
    eventually("the outbox empties", || node.cache.health().outbox == 0).await;
    theirs.have_no_room_below(Version(3)).await;
}

#[tokio::test]
async fn nor_does_one_whose_outbox_overflows_before_it_or_behind_it() {
    for put_at in [0, 4] {
        let (server, clock) = server();
        let node = Cut::node(&server, &clock, 2).await;
        let theirs = Versions::begun(&server, &clock).await;
        let epoch = node.cache.position(cache_events::Partition(0)).epoch;
        node.cut();
        for n in 0..5 {
            if n == put_at {
                node.fails_to_put(&clock, &theirs.key, Version(3)).await;
            } else {
                node.fails_to_invalidate(&clock, &format!("k{n}")).await;
            }
        }
        node.heal();
        eventually("the outbox empties", || node.cache.health().outbox == 0).await;
        assert!(node.cache.position(cache_events::Partition(0)).epoch > epoch, "flushed");
        theirs.have_no_room_below(Version(3)).await;
    }
}

#[tokio::test]
async fn an_outbox_that_overflows_flushes_on_return() {
    let (server, clock) = server();
    let node = Cut::node(&server, &clock, 2).await;
    let epoch = node.cache.position(cache_events::Partition(0)).epoch;
    node.cut();
    for n in 0..4 {
        node.fails_to_invalidate(&clock, &format!("k{n}")).await;
    }
    assert_eq!(node.cache.health().outbox, 1, "one flush in place of the many");
    node.heal();
    eventually("the outbox empties", || node.cache.health().outbox == 0).await;
    assert!(node.cache.position(cache_events::Partition(0)).epoch > epoch);
}

#[tokio::test]
async fn lost_hints_are_made_up_for_by_a_sync() {
    let (server, clock) = server();
    let node = Cut::node(&server, &clock, 10).await;
    let other =
        support::builder(&server, &clock, "other").namespace::<String>(NamespaceSettings::new(ns("stale")));
    let other = checked(other.start().expect("valid"));
    joined(&other).await;
    let (mine, theirs): (_, TypedCache<String>) =
        (node.space("stale"), other.namespace("stale").expect("declared"));
    let key = mine.key("k").expect("valid");
    let _ = mine.put(&key, "old".into()).await.expect("acknowledged");
    node.transport.lose_hints(true);
    let written = theirs.invalidate(&key, "changed").await.expect("acknowledged");
    assert!(node.cache.sync(Duration::from_secs(5)).await);
    assert!(node.cache.reached(&written.token, Duration::ZERO).await);
    assert!(mine.get(&key).await.expect("readable").is_none());
}

#[tokio::test]
async fn a_server_that_lost_everything_starts_a_new_epoch_and_old_copies_die() {
    let (server, clock) = server();
    let node = Cut::node(&server, &clock, 10).await;
    let cache = node.space("strict");
    let key = cache.key("k").expect("valid");
    let _ = cache.put(&key, "old".into()).await.expect("acknowledged");
    let before = node.cache.position(cache_events::Partition(0));
    server.restart_empty();
    eventually("the node adopts the epoch", || {
        clock.advance(Duration::from_millis(10));
        node.cache.position(cache_events::Partition(0)).epoch > before.epoch
    })
    .await;
    assert!(cache.resident(&key).is_none());
    let _ = cache.put(&key, "new".into()).await.expect("acknowledged");
    assert!(cache.get(&key).await.expect("readable").is_some());
}
