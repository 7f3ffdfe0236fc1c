//! Nodes over one embedded server.
#![allow(dead_code, reason = "each test file uses its share")]

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Namespace, NodeId};
use cache_policy::PolicyKind;
use cache_testkit::ManualClock;
use cache_tiered::{Builder, NamespaceSettings, TieredCache, TypedCache};

pub(crate) fn ns(name: &str) -> Namespace {
    Namespace::new(name).expect("a valid name")
}

pub(crate) fn server() -> (EmbeddedServer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    (EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()), clock)
}

pub(crate) fn builder(server: &EmbeddedServer, clock: &Arc<ManualClock>, node: &str) -> Builder {
    let shared = Arc::new(server.clone());
    let node = NodeId::new(node).expect("a valid name");
    TieredCache::builder(node, shared.clone(), shared, |entries| PolicyKind::Sieve.family(entries))
        .clock(clock.clone())
}

/// A cache whose L1 is found in order when the test is done with it.
pub(crate) struct Checked(TieredCache);

pub(crate) fn checked(cache: TieredCache) -> Checked {
    Checked(cache)
}

impl Deref for Checked {
    type Target = TieredCache;

    fn deref(&self) -> &TieredCache {
        &self.0
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.validate();
        }
    }
}

/// Namespace "text" of strings, "other" of numbers.
pub(crate) async fn node(server: &EmbeddedServer, clock: &Arc<ManualClock>, name: &str) -> Checked {
    let cache = builder(server, clock, name)
        .namespace::<String>(NamespaceSettings::new(ns("text")))
        .namespace::<u64>(NamespaceSettings::new(ns("other")))
        .start()
        .expect("valid settings");
    joined(&cache).await;
    checked(cache)
}

/// Waits until the node is live.
pub(crate) async fn joined(cache: &TieredCache) {
    eventually("the node joins", || cache.health().live).await;
}

pub(crate) fn text(cache: &TieredCache) -> TypedCache<String> {
    cache.namespace("text").expect("declared")
}

/// Waits for a condition, for at most ten seconds of real time.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "timed out: {what}");
}

/// A task beside the test, which waits for it.
#[expect(clippy::disallowed_methods, reason = "the test awaits the handle")]
pub(crate) fn spawned<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
