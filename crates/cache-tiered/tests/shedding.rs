//! Giving memory back.

mod support;

use cache_events::Namespace;
use cache_tiered::{NamespaceSettings, TieredCache};
use support::{builder, checked, joined, ns, server};

async fn fill(cache: &TieredCache, name: &str, entries: u64) {
    let space = cache.namespace::<u64>(name).expect("declared");
    for number in 0..entries {
        let key = space.key(format!("k{number}")).expect("valid");
        let _ = space.put(&key, number).await.expect("stored");
    }
}

fn entries(cache: &TieredCache) -> Vec<(Namespace, usize)> {
    cache.stats().into_iter().map(|(name, stats)| (name, stats.l1_entries)).collect()
}

#[tokio::test]
async fn a_quarter_leaves_and_critical_namespaces_are_spared_while_others_have_any() {
    let (server, clock) = server();
    let cache = builder(&server, &clock, "a")
        .namespace::<u64>(NamespaceSettings::new(ns("critical")).critical())
        .namespace::<u64>(NamespaceSettings::new(ns("large")))
        .namespace::<u64>(NamespaceSettings::new(ns("small")));
    let cache = checked(cache.start().expect("valid settings"));
    joined(&cache).await;
    for (name, count) in [("critical", 400), ("large", 300), ("small", 100)] {
        fill(&cache, name, count).await;
    }
    let bytes = cache.l1_bytes();
    let held =
        |critical, large, small| vec![(ns("critical"), critical), (ns("large"), large), (ns("small"), small)];
    assert_eq!(entries(&cache), held(400, 300, 100));

    let shed = cache.shed(0.25).await;
    assert_eq!(shed.entries, 200);
    assert_eq!(cache.l1_bytes(), bytes - shed.bytes);
    assert_eq!(entries(&cache), held(400, 150, 50), "in proportion");

    assert_eq!(cache.shed(0.5).await.entries, 300);
    assert_eq!(entries(&cache), held(300, 0, 0), "the others have no more");
    assert_eq!(cache.shed(7.0).await.entries, 300);
    assert_eq!((cache.l1_bytes(), cache.shed(1.0).await.entries), (0, 0));

    // L2 has kept them all.
    let space = cache.namespace::<u64>("large").expect("declared");
    let key = space.key("k299").expect("valid");
    assert_eq!(space.get(&key).await.expect("read").and_then(|answer| answer.value).as_deref(), Some(&299));
    cache.stop().await;
}
