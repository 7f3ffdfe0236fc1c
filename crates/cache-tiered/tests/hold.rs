//! A source whose replicas lag: while a hold lasts, what is loaded goes to those who asked and into no tier.

mod support;

use std::time::Duration;

use cache_events::{EventKind, Key, Scope, Tag};
use cache_tiered::{EventDraft, Loaded, Tier, TieredCache, WriteError};
use support::{Checked, node, server, text};

const SOON: Duration = Duration::from_secs(5);
const LAG: Duration = Duration::from_millis(800);

fn changed(key: &Key, hold: Duration) -> EventDraft {
    EventDraft::new(EventKind::MANUAL_INVALIDATION, key.resource())
        .touching(Scope::Key(key.clone()))
        .hold(hold)
}

async fn load(cache: &TieredCache, key: &Key, value: &str) -> (String, Tier) {
    let value = value.to_owned();
    let load = || async { Ok(Loaded::new(value)) };
    let answer = text(cache).get_or_load(key, load).await.expect("loaded");
    (answer.value.expect("there").to_string(), answer.tier)
}

/// Two nodes, of which the first has told of a change with a hold.
async fn held(hold: Duration) -> (Checked, Checked, Key, std::sync::Arc<cache_testkit::ManualClock>) {
    let (server, clock) = server();
    let (a, b) = (node(&server, &clock, "a").await, node(&server, &clock, "b").await);
    let key = text(&a).key("k").expect("valid");
    assert_eq!(load(&b, &key, "old").await, ("old".into(), Tier::Source));
    let written = a.publish(changed(&key, hold)).await.expect("acknowledged");
    assert!(b.reached(&written.token, SOON).await);
    (a, b, key, clock)
}

#[tokio::test]
async fn what_a_lagging_replica_gives_is_kept_nowhere_until_the_hold_is_over() {
    let (a, b, key, clock) = held(LAG).await;
    for cache in [&a, &b] {
        assert_eq!(load(cache, &key, "old").await, ("old".into(), Tier::Source), "to whoever asks");
        assert!(text(cache).resident(&key).is_none(), "and into no memory");
    }
    assert!(text(&a).get(&key).await.expect("readable").is_none(), "nor into L2");
    clock.advance(LAG);
    assert_eq!(load(&b, &key, "new").await, ("new".into(), Tier::Source));
    assert!(text(&b).resident(&key).is_some());
    assert_eq!(load(&a, &key, "never asked for").await, ("new".into(), Tier::L2));
}

#[tokio::test]
async fn without_a_hold_the_first_load_is_kept() {
    let (a, b, key, _clock) = held(Duration::ZERO).await;
    assert_eq!(load(&b, &key, "again").await, ("again".into(), Tier::Source));
    assert_eq!(load(&a, &key, "never asked for").await, ("again".into(), Tier::L2));
}

#[tokio::test]
async fn a_put_is_kept_in_spite_of_a_hold() {
    let (a, b, key, _clock) = held(LAG).await;
    let written = text(&a).put(&key, "put".into()).await.expect("acknowledged");
    assert!(b.reached(&written.token, SOON).await);
    assert_eq!(load(&b, &key, "old").await, ("put".into(), Tier::L2));
}

#[tokio::test]
async fn a_hold_on_more_than_keys_is_refused() {
    let (a, _b, key, _clock) = held(Duration::ZERO).await;
    let tagged = changed(&key, LAG).touching(Scope::Tag(Tag::new("t").expect("valid")));
    let refused = a.publish(tagged).await;
    assert!(
        matches!(&refused, Err(WriteError::Refused(why)) if why.to_string().contains("hold")),
        "{refused:?}"
    );
}
