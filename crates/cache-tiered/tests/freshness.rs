//! How fresh an answer is, as the caller asks for it.

mod support;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cache_embedded::EmbeddedServer;
use cache_events::{Key, NodeId, Partition, Position, WriteToken};
use cache_testkit::{FaultyStore, FaultyTransport, ManualClock};
use cache_tiered::{
    Degraded, Freshness, Loaded, NamespaceSettings, ReadOptions, Tier, TieredCache, TypedCache,
};
use support::{Checked, checked, joined, node, ns, server, spawned, text};
use tokio::sync::oneshot;

const SOON: Duration = Duration::from_secs(5);

fn wish(freshness: Freshness) -> ReadOptions {
    ReadOptions { freshness, ..ReadOptions::default() }
}

/// A node that can be made deaf to hints, or be cut off.
struct Far {
    cache: Checked,
    store: Arc<FaultyStore>,
    transport: Arc<FaultyTransport>,
}

impl Far {
    async fn new(server: &EmbeddedServer, clock: &Arc<ManualClock>) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(server.clone())));
        let transport = Arc::new(FaultyTransport::new(Arc::new(server.clone()), 1));
        let mut plain = NamespaceSettings::new(ns("text"));
        plain.degraded = Degraded::BoundedStale(Duration::from_secs(5));
        let mut by_time = NamespaceSettings::new(ns("by_time"));
        by_time.event_driven = false;
        let cache =
            TieredCache::builder(NodeId::new("far").expect("valid"), store.clone(), transport.clone(), |n| {
                cache_policy::PolicyKind::Sieve.family(n)
            })
            .clock(clock.clone())
            .namespace::<String>(plain)
            .namespace::<String>(NamespaceSettings::new(ns("critical")).critical())
            .namespace::<String>(by_time);
        let cache = checked(cache.start().expect("valid"));
        joined(&cache).await;
        Self { cache, store, transport }
    }

    fn cut(&self) {
        self.store.cut();
        self.transport.cut();
    }

    fn space(&self, name: &str) -> TypedCache<String> {
        self.cache.namespace(name).expect("declared")
    }

    async fn read(&self, name: &str, key: &Key, freshness: Freshness) -> Option<(String, Tier, bool)> {
        let answer = self.space(name).get_with(key, &wish(freshness)).await.expect("readable")?;
        Some((answer.value.expect("a value").to_string(), answer.tier, answer.stale))
    }

    async fn load(&self, key: &Key, freshness: Freshness) -> (String, Tier) {
        let loader = || async { Ok(Loaded::new("loaded".to_owned())) };
        let answer = self.space("text").get_or_load_with(key, &wish(freshness), loader).await;
        let answer = answer.expect("loaded");
        (answer.value.expect("a value").to_string(), answer.tier)
    }
}

/// A node that has a copy and hears no hints, and a write elsewhere that outdates the copy.
async fn outdated() -> (Far, Checked, Key, WriteToken, Arc<ManualClock>) {
    let (server, clock) = server();
    let (far, writer) = (Far::new(&server, &clock).await, node(&server, &clock, "writer").await);
    let key = text(&writer).key("k").expect("valid");
    let first = text(&writer).put(&key, "old".into()).await.expect("acknowledged");
    assert!(far.cache.reached(&first.token, SOON).await);
    assert!(far.space("text").get(&key).await.expect("readable").is_some());
    far.transport.lose_hints(true);
    clock.advance(Duration::from_millis(20));
    let second = text(&writer).put(&key, "new".into()).await.expect("acknowledged");
    (far, writer, key, second.token, clock)
}

#[tokio::test]
async fn a_token_makes_another_node_show_the_write() {
    let (far, _writer, key, token, _) = outdated().await;
    // Within the bound the old copy may be served: nothing has told this node.
    assert_eq!(far.read("text", &key, Freshness::Bounded).await, Some(("old".into(), Tier::L1, false)));
    let asked = Freshness::AtLeast(token.to_string().parse().expect("a token as text"));
    assert_eq!(far.read("text", &key, asked.clone()).await, Some(("new".into(), Tier::L2, false)));
    // From now on that is what everybody gets, at the price of nothing.
    assert_eq!(far.read("text", &key, asked).await, Some(("new".into(), Tier::L1, false)));
}

#[tokio::test]
async fn a_token_of_another_partition_or_an_earlier_write_asks_for_nothing() {
    let (far, _writer, key, token, _) = outdated().await;
    let (partition, position) = token.positions().next().expect("one");
    let earlier = WriteToken::single(partition, Position::new(position.epoch, position.seq - 1));
    let elsewhere = WriteToken::single(Partition(partition.0 + 1), position);
    for token in [earlier, elsewhere] {
        let answer = far.read("text", &key, Freshness::AtLeast(token)).await;
        assert_eq!(answer, Some(("old".into(), Tier::L1, false)));
    }
}

#[tokio::test]
async fn a_token_of_an_epoch_with_a_lesser_number_is_proven_once() {
    let (far, _writer, key, token, _) = outdated().await;
    let (partition, position) = token.positions().next().expect("one");
    // It may be the later one: of a server that lost its data while its clock was behind.
    let other = WriteToken::single(partition, Position::new(position.epoch - 1, 5));
    let asked = Freshness::AtLeast(other);
    assert_eq!(far.read("text", &key, asked.clone()).await, Some(("new".into(), Tier::L2, false)));
    assert_eq!(far.read("text", &key, asked).await, Some(("new".into(), Tier::L1, false)));
}

#[tokio::test]
async fn latest_is_what_was_acknowledged_before_the_read() {
    let (far, _writer, key, _, _) = outdated().await;
    assert_eq!(far.read("text", &key, Freshness::Latest).await, Some(("new".into(), Tier::L2, false)));
    // Each time from L2, however fresh the copy is.
    assert_eq!(far.read("text", &key, Freshness::Latest).await, Some(("new".into(), Tier::L2, false)));
}

#[tokio::test]
async fn at_most_pays_for_a_proof_only_where_what_is_known_is_older() {
    let (far, _writer, key, _, clock) = outdated().await;
    let proven = far.cache.view().fresh_as_of(Partition(0));
    let lenient = Freshness::AtMost(Duration::from_secs(1));
    assert_eq!(far.read("text", &key, lenient).await, Some(("old".into(), Tier::L1, false)));
    assert_eq!(far.cache.view().fresh_as_of(Partition(0)), proven, "no proof was needed");
    let strict = Freshness::AtMost(Duration::from_millis(10));
    assert_eq!(far.read("text", &key, strict.clone()).await, Some(("new".into(), Tier::L2, false)));
    // What is still right needs no second read of L2: the proof is enough.
    clock.advance(Duration::from_millis(50));
    assert_eq!(far.read("text", &key, strict).await, Some(("new".into(), Tier::L1, false)));
    assert!(far.cache.view().fresh_as_of(Partition(0)) > proven);
}

#[tokio::test]
async fn what_cannot_be_proven_is_a_miss_or_is_loaded() {
    let (far, _writer, key, token, clock) = outdated().await;
    far.cut();
    clock.advance(Duration::from_millis(500));
    let wishes =
        [Freshness::AtMost(Duration::from_millis(10)), Freshness::AtLeast(token.clone()), Freshness::Latest];
    for freshness in wishes {
        assert_eq!(far.read("text", &key, freshness.clone()).await, None, "{freshness}");
        // The source is asked each time: what another read has loaded may be older than what this one asks for.
        let loaded = far.load(&key, freshness.clone()).await;
        assert_eq!(loaded, ("loaded".into(), Tier::Source), "{freshness}");
        clock.advance(Duration::from_millis(50));
    }
    // What a load has brought is as fresh as the load.
    let recent = far.read("text", &key, Freshness::AtMost(Duration::from_millis(100))).await;
    assert_eq!(recent, Some(("loaded".into(), Tier::L1, false)));
}

#[tokio::test]
async fn any_takes_what_is_there_and_says_that_it_is_stale_but_not_of_a_critical_namespace() {
    let (server, clock) = server();
    let far = Far::new(&server, &clock).await;
    for name in ["text", "critical"] {
        let space = far.space(name);
        let _ = space.put(&space.key("k").expect("valid"), "copy".into()).await.expect("acknowledged");
    }
    far.cut();
    // Beyond the bound and beyond what the namespace itself would serve.
    clock.advance(Duration::from_secs(20));
    let key = |name: &str| far.space(name).key("k").expect("valid");
    assert_eq!(far.read("text", &key("text"), Freshness::Bounded).await, None);
    for freshness in [Freshness::Any, Freshness::AtMost(Duration::from_secs(60))] {
        let answer = far.read("text", &key("text"), freshness.clone()).await;
        assert_eq!(answer, Some(("copy".into(), Tier::L1, true)), "{freshness}");
        assert_eq!(far.read("critical", &key("critical"), freshness).await, None);
    }
}

#[tokio::test]
async fn where_time_alone_counts_the_age_is_what_may_not_be_exceeded() {
    let (server, clock) = server();
    let far = Far::new(&server, &clock).await;
    let space = far.space("by_time");
    let key = space.key("k").expect("valid");
    let _ = space.put(&key, "first".into()).await.expect("acknowledged");
    clock.advance(Duration::from_secs(10));
    let within = |seconds| Freshness::AtMost(Duration::from_secs(seconds));
    assert_eq!(far.read("by_time", &key, within(11)).await, Some(("first".into(), Tier::L1, false)));
    assert_eq!(far.read("by_time", &key, within(9)).await, None);
    let loader = || async { Ok(Loaded::new("again".to_owned())) };
    let answer = space.get_or_load_with(&key, &wish(within(9)), loader).await.expect("loaded");
    assert_eq!(answer.tier, Tier::Source, "what L2 has is as old as what L1 had");
    assert_eq!(far.read("by_time", &key, within(9)).await, Some(("again".into(), Tier::L1, false)));
}

/// A load of a caller that lets it end when the sender says so.
fn load_that_waits(
    space: TypedCache<String>,
    key: &Key,
) -> (impl Future<Output = Option<String>> + use<>, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let ((begun, has_begun), (end, may_end)) = (oneshot::channel(), oneshot::channel());
    let key = key.clone();
    let load = async move {
        let loader = || async move {
            let _ = begun.send(());
            let _ = may_end.await;
            Ok(Loaded::new("from before".to_owned()))
        };
        let answer = space.get_or_load(&key, loader).await.expect("loaded");
        answer.value.as_deref().cloned()
    };
    (load, has_begun, end)
}

#[tokio::test]
async fn a_load_from_before_a_silence_longer_than_the_bound_answers_nobody_who_comes_after_it() {
    let (server, clock) = server();
    let far = Far::new(&server, &clock).await;
    let key = far.space("text").key("k").expect("valid");
    let (load, has_begun, end) = load_that_waits(far.space("text"), &key);
    let first = spawned(load);
    has_begun.await.expect("the loader is called");
    // This one joins it within the bound.
    let mut joined = pin!(far.load(&key, Freshness::Bounded));
    assert!(poll_once(joined.as_mut()).await.is_none(), "it waits for the load");

    // A source read before the silence has not seen what was written meanwhile, and this node has heard of nothing.
    far.cut();
    clock.advance(Duration::from_millis(2_100));
    let mut after = pin!(far.load(&key, Freshness::Bounded));
    assert!(poll_once(after.as_mut()).await.is_none(), "it waits for the load, too");
    end.send(()).expect("the load is under way");
    assert_eq!(first.await.expect("no panic").as_deref(), Some("from before"));
    assert_eq!(joined.await, ("from before".into(), Tier::Source));
    assert_eq!(after.await, ("loaded".into(), Tier::Source), "a load of its own");
}

/// What the future gives at its first poll.
async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
