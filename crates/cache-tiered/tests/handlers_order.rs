//! Handlers hear events in the order of the log, also where hints come ahead of others that were lost.

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_events::{EventKind, NodeId};
use cache_policy::PolicyKind;
use cache_testkit::FaultyTransport;
use cache_tiered::{NamespaceSettings, Notice, TieredCache};
use parking_lot::Mutex;
use support::{checked, eventually, joined, node, ns, server, text};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_event_ahead_of_a_lost_one_is_applied_at_once_and_heard_behind_it() {
    let (server, clock) = server();
    let line = Arc::new(FaultyTransport::new(Arc::new(server.clone()), 1));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let hears = TieredCache::builder(
        NodeId::new("hears").expect("valid"),
        Arc::new(server.clone()),
        line.clone(),
        |entries| PolicyKind::Sieve.family(entries),
    )
    .clock(clock.clone())
    .namespace::<String>(NamespaceSettings::new(ns("text")))
    .on(EventKind::MANUAL_INVALIDATION, move |notice| {
        ears.lock().push(match notice {
            Notice::Event(event) => event.event.resource_id.clone(),
            other => format!("{other:?}"),
        });
    });
    let hears = checked(hears.start().expect("valid settings"));
    joined(&hears).await;
    let tells = node(&server, &clock, "tells").await;
    let keys = ["first", "second", "third"].map(|name| text(&tells).key(name).expect("valid"));
    let mut last = None;
    for key in &keys {
        last = Some(text(&hears).put(key, "old".into()).await.expect("acknowledged"));
    }
    assert!(tells.reached(&last.expect("some").token, SOON).await);

    line.lose_hints(true);
    line.claim_head(true);
    let _ = text(&tells).invalidate(&keys[0], "lost").await.expect("acknowledged");
    eventually("the hint is lost", || line.lost() > 0).await;
    line.lose_hints(false);
    let _ = text(&tells).invalidate(&keys[1], "ahead").await.expect("acknowledged");
    eventually("the second is dropped", || text(&hears).resident(&keys[1]).is_none()).await;
    assert!(text(&hears).resident(&keys[0]).is_some(), "nobody has told of the first");
    assert_eq!(*heard.lock(), [""; 0], "of what is ahead handlers hear when the rest is known");

    line.claim_head(false);
    let written = text(&tells).invalidate(&keys[2], "next").await.expect("acknowledged");
    assert!(hears.sync(SOON).await && hears.reached(&written.token, SOON).await);
    eventually("all are heard", || heard.lock().len() >= 3).await;
    assert_eq!(*heard.lock(), ["first", "second", "third"]);
}
