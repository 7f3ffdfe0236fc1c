//! One bound for the L1 of a node: namespaces have their share of it and borrow the rest.

mod support;

use cache_tiered::{NamespaceSettings, NodeSettings, TieredCache, Tiers};
use support::{Checked, builder, checked, joined, ns, server};

const NODE: u64 = 1_000_000;

fn space(name: &str, share: u64) -> NamespaceSettings {
    NamespaceSettings { l1_entries_max: 100_000, l1_bytes_max: share, ..NamespaceSettings::new(ns(name)) }
}

async fn node(spaces: Vec<NamespaceSettings>, bytes_max: Option<u64>) -> Checked {
    let (server, clock) = server();
    let settings = NodeSettings { l1_bytes_max: bytes_max, ..NodeSettings::default() };
    let node = spaces.into_iter().fold(builder(&server, &clock, "a").settings(settings), |node, space| {
        node.namespace::<String>(space)
    });
    let node = checked(node.start().expect("valid settings"));
    joined(&node).await;
    node
}

/// Values of about a thousand bytes.
async fn fill(node: &TieredCache, name: &str, entries: u64) {
    let space = node.namespace::<String>(name).expect("declared");
    for number in 0..entries {
        let key = space.key(format!("k{number}")).expect("valid");
        let _ = space.put(&key, "x".repeat(700)).await.expect("stored");
        assert!(node.l1_bytes() <= node.l1_bytes_max());
    }
}

fn bytes(node: &TieredCache, name: &str) -> u64 {
    node.namespace::<String>(name).expect("declared").stats().l1_bytes
}

#[tokio::test]
async fn a_namespace_borrows_what_others_leave_and_gives_it_back() {
    let node = node(vec![space("owner", 600_000), space("guest", 100_000)], Some(NODE)).await;
    assert_eq!(node.l1_bytes_max(), NODE);
    fill(&node, "guest", 2_000).await;
    assert!(bytes(&node, "guest") > 990_000, "{}", bytes(&node, "guest"));
    fill(&node, "owner", 2_000).await;
    assert!(bytes(&node, "owner") > 600_000 - 2_000, "{}", bytes(&node, "owner"));
    assert!(bytes(&node, "guest") > 100_000 - 2_000, "its own share is its own too");
    node.stop().await;
}

#[tokio::test]
async fn critical_namespaces_give_back_last() {
    let spaces =
        vec![space("critical", 100_000).critical(), space("guest", 100_000), space("owner", 500_000)];
    let node = node(spaces, Some(NODE)).await;
    fill(&node, "critical", 400).await;
    let held = bytes(&node, "critical");
    assert!(held > 300_000);
    fill(&node, "guest", 2_000).await;
    fill(&node, "owner", 400).await;
    assert_eq!(bytes(&node, "critical"), held, "the guest's loan was enough");
    node.stop().await;
}

#[tokio::test]
async fn without_a_bound_of_the_node_each_namespace_is_bounded_by_itself() {
    let node = node(vec![space("owner", 600_000), space("guest", 100_000)], None).await;
    assert_eq!(node.l1_bytes_max(), 700_000);
    fill(&node, "guest", 2_000).await;
    assert!(bytes(&node, "guest") <= 100_000);
    node.stop().await;
}

#[tokio::test]
async fn a_node_cannot_promise_more_than_it_has() {
    let (server, clock) = server();
    let start = |guest: NamespaceSettings| {
        let settings = NodeSettings { l1_bytes_max: Some(NODE), ..NodeSettings::default() };
        let node = builder(&server, &clock, "a").settings(settings);
        node.namespace::<String>(space("owner", 600_000)).namespace::<String>(guest).start()
    };
    let error = start(space("guest", 400_001)).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("guest") && error.contains("l1_bytes_max"), "{error}");
    let without_l1 = NamespaceSettings { tiers: Tiers::L2Only, ..space("guest", 400_001) };
    start(without_l1).expect("what is not in L1 needs none of it").stop().await;
}
