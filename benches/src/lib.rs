//! What the benchmarks share: nodes, and rounds whose medians are compared side by side.

pub mod instructions;
pub mod l1;
pub mod placed;
pub mod simulate;

use std::sync::Arc;

use cache_bus::Transport;
use cache_events::{Namespace, NodeId};
use cache_l2::Store;
use cache_policy::PolicyKind;
use cache_tiered::{Builder, NamespaceSettings, TieredCache, TypedCache};

/// Values of the benchmarks: 256 bytes of text.
pub type Value = String;

/// A value.
pub fn value(n: usize) -> Value {
    format!("{n:0>256}")
}

/// A node with one namespace `bench` of [`Value`]s, uncompressed.
///
/// # Errors
/// If the node cannot be started or does not become live.
pub async fn node(
    name: &str,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    entries: usize,
) -> anyhow::Result<(TieredCache, TypedCache<Value>)> {
    node_with(name, store, transport, entries, |builder| builder).await
}

/// [`node`] with further wishes.
///
/// # Errors
/// As [`node`].
pub async fn node_with(
    name: &str,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    entries: usize,
    wishes: impl FnOnce(Builder) -> Builder,
) -> anyhow::Result<(TieredCache, TypedCache<Value>)> {
    let mut settings = NamespaceSettings::new(Namespace::new("bench")?);
    settings.l1_entries_max = entries;
    settings.l1_bytes_max = u64::MAX;
    settings.ttl = std::time::Duration::from_secs(3600);
    settings.l1_ttl_max = settings.ttl;
    settings.compress_above_bytes = None;
    let builder = TieredCache::builder(NodeId::new(name)?, store, transport, |entries| {
        PolicyKind::Sieve.family(entries)
    });
    let cache = wishes(builder).namespace::<Value>(settings).start()?;
    anyhow::ensure!(cache.sync(std::time::Duration::from_secs(5)).await, "node {name} did not join");
    let bench = cache.namespace::<Value>("bench")?;
    Ok((cache, bench))
}

/// Reads the time, for measuring.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// The value at a quantile of samples, which are sorted for it.
pub fn quantile(samples: &mut [f64], quantile: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let at = (samples.len() as f64 * quantile) as usize;
    samples.get(at.min(samples.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The median.
pub fn median(samples: &mut [f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The rounds to run: 7, or one with `--quick` (the form for CI, whose figures mean nothing).
pub fn rounds() -> usize {
    if quick() { 1 } else { 7 }
}

/// Whether `--quick` was asked for (or the bench runs as a test).
pub fn quick() -> bool {
    std::env::args().any(|arg| arg == "--quick" || arg == "--test")
}
