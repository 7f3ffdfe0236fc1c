//! How long things took: what is counted where, and by whose clock.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_events::NodeId;
use cache_policy::PolicyKind;
use cache_testkit::{FaultyStore, FaultyTransport, ManualClock};
use cache_tiered::{L2Op, Loaded, NamespaceSettings, TieredCache};
use support::{Checked, checked, joined, node, ns, server, text};

const SOON: Duration = Duration::from_secs(5);
const WRONG: Duration = Duration::from_secs(5);
const ON_ITS_WAY: Duration = Duration::from_millis(70);

/// A node with a clock of its own that hears of changes by syncs alone.
async fn deaf(server: &cache_embedded::EmbeddedServer, name: &str, wall: u64) -> (Checked, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    clock.set_wall(wall);
    let hints = Arc::new(FaultyTransport::new(Arc::new(server.clone()), 1));
    let cache = TieredCache::builder(
        NodeId::new(name).expect("valid"),
        Arc::new(server.clone()),
        hints.clone(),
        |entries| PolicyKind::Sieve.family(entries),
    );
    let cache = cache.clock(clock.clone()).namespace::<String>(NamespaceSettings::new(ns("text")));
    let cache = checked(cache.start().expect("valid settings"));
    joined(&cache).await;
    hints.lose_hints(true);
    (cache, clock)
}

/// An event of `from` is applied at `to` after so long by the server's clock.
async fn travels(from: &TieredCache, to: &TieredCache, clocks: &[&ManualClock]) {
    let key = text(from).key("k").expect("valid");
    let written = text(from).invalidate(&key, "changed").await.expect("acknowledged");
    clocks.iter().for_each(|clock| clock.advance(ON_ITS_WAY));
    assert!(to.sync(SOON).await && to.reached(&written.token, SOON).await);
}

fn is_near(found: Option<Duration>, asked: Duration) -> bool {
    let (found, asked) = (found.unwrap_or_default().as_secs_f64(), asked.as_secs_f64());
    (found - asked).abs() <= asked * 0.02
}

#[tokio::test]
async fn propagation_is_measured_in_the_time_of_the_server_whatever_the_nodes_clocks_show() {
    use cache_events::Clock;
    let (server, time) = server();
    let (early, late) = (time.wall() - WRONG.as_millis() as u64, time.wall() + WRONG.as_millis() as u64);
    let (behind, its_clock) = deaf(&server, "behind", early).await;
    let (ahead, other_clock) = deaf(&server, "ahead", late).await;
    let clocks = [&*time, &*its_clock, &*other_clock];

    travels(&ahead, &behind, &clocks).await;
    let heard = behind.timings().propagation;
    assert!(heard.count() == 1 && is_near(heard.quantile(0.5), ON_ITS_WAY), "{heard:?}");
    assert_eq!(ahead.timings().propagation.count(), 0, "an event of its own is not on its way");

    travels(&behind, &ahead, &clocks).await;
    let heard = ahead.timings().propagation;
    assert!(heard.count() == 1 && is_near(heard.quantile(0.5), ON_ITS_WAY), "{heard:?}");
    assert_eq!(behind.timings().propagation.count(), 1);
}

#[tokio::test]
async fn each_call_is_counted_where_it_took_its_time() {
    let (server, clock) = server();
    let cache = node(&server, &clock, "a").await;
    let text = text(&cache);
    let keys: Vec<_> = (0..4).map(|n| text.key(format!("k{n}")).expect("valid")).collect();
    let before = cache.timings();
    let _ = text.put(&keys[0], "put".into()).await.expect("acknowledged");
    let load = || async { Ok(Loaded::new("loaded".to_owned())) };
    let _ = text.get_or_load(&keys[1], load).await.expect("loaded");
    assert!(text.get(&keys[2]).await.expect("readable").is_none());
    assert_eq!(text.get_many(&keys).await.expect("readable").iter().flatten().count(), 2);
    let _ = text.invalidate(&keys[3], "changed").await.expect("acknowledged");

    let times = cache.timings().since(&before);
    assert_eq!(times.all.reads.l1_hits, 2);
    assert_eq!(times.all.reads.below.count(), 4, "a load, a miss, and two of many");
    assert_eq!(times.all.reads.all().count(), 6);
    assert_eq!((times.all.writes.count(), times.invalidation.count()), (1, 1));
    let calls = L2Op::ALL.map(|op| times.l2_op(op).answered.count());
    assert_eq!(calls, [3, 1, 1, 1, 1], "reads, puts, leases, fills, invalidations");
    let stats = text.stats();
    assert_eq!((stats.response_time.samples, stats.write_latency.samples), (6, 1));
    assert_eq!(cache.timings().since(&cache.timings()).all.reads.all().count(), 0);
}

#[tokio::test]
async fn what_fails_is_no_latency() {
    let (server, clock) = server();
    let store = Arc::new(FaultyStore::new(Arc::new(server.clone())));
    let id = NodeId::new("a").expect("valid");
    let family = |entries| -> cache_l1::BoxedFamily { PolicyKind::Sieve.family(entries) };
    let cache = TieredCache::builder(id, store.clone(), Arc::new(server), family).clock(clock);
    let cache = cache.namespace::<String>(NamespaceSettings::new(ns("text"))).start().expect("valid");
    joined(&cache).await;
    let key = text(&cache).key("k").expect("valid");
    store.cut();
    // Which does not try again.
    cache.stop().await;
    assert!(text(&cache).invalidate(&key, "changed").await.is_err());
    let times = cache.timings();
    assert_eq!((times.invalidation.count(), times.l2_op(L2Op::Invalidate).answered.count()), (0, 0));
    assert_eq!(times.l2_op(L2Op::Invalidate).failed, 1);
}

#[tokio::test]
async fn the_hottest_keys_are_those_read_most() {
    let (server, clock) = server();
    let cache = node(&server, &clock, "a").await;
    let text = text(&cache);
    let keys: Vec<_> = (0..8).map(|n| text.key(format!("k{n}")).expect("valid")).collect();
    for key in &keys {
        let _ = text.put(key, "value".into()).await.expect("acknowledged");
    }
    // In a rhythm of 256 reads, of which a sample at equal distances would see always the same key.
    const READS: usize = 256 * 2_000;
    for n in 0..READS {
        let key = if n % 256 < 192 { &keys[0] } else { &keys[1 + n % 7] };
        assert!(text.resident(key).is_some());
    }
    clock.advance(Duration::from_secs(1));
    let hot = cache.hot_keys(3);
    assert!(hot.len() == 3 && hot[0].0 == keys[0], "{hot:?}");
    let share = hot[0].1 / READS as f64;
    assert!((0.65..0.85).contains(&share), "three quarters of the reads, not {share}");
}
