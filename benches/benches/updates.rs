//! From a put on one node to the new value on another that holds the key: dropped and read from L2 again, or taken from the
//! hint.
//!
//! Both over one real Redis on loopback, each with two nodes of its own; rounds of both alternate, medians of the rounds
//! are compared. What is timed is the put with its acknowledgement, the wait until node B has applied it, and B's read.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Key, Namespace, NodeId};
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::RedisServer;
use cache_tiered::{NamespaceSettings, TieredCache, TypedCache, Updates};
use edgecache_benches::{Value, median, now, quantile, quick, rounds, value};

const PATIENCE: Duration = Duration::from_secs(5);

/// Two nodes that tell each other of puts in one way.
struct Pair {
    caches: [TieredCache; 2],
    spaces: [TypedCache<Value>; 2],
    key: Key,
}

impl Pair {
    async fn new(url: &str, updates: Updates) -> anyhow::Result<Self> {
        let name = format!("bench_{}", updates as u8);
        let settings = NamespaceSettings { updates, ..NamespaceSettings::new(Namespace::new(&name)?) };
        let mut caches = Vec::new();
        for node in ["a", "b"] {
            let config = RedisConfig::from_url(url)?;
            let (store, transport) = (RedisStore::new(config.clone())?, RedisTransport::new(config)?);
            let node = NodeId::new(format!("{node}_{name}"))?;
            let (store, transport) = (Arc::new(store), Arc::new(transport));
            let policy = |entries| PolicyKind::Sieve.family(entries);
            let builder = TieredCache::builder(node, store, transport, policy);
            let cache = builder.namespace::<Value>(settings.clone()).start()?;
            anyhow::ensure!(cache.sync(PATIENCE).await, "a node did not join");
            caches.push(cache);
        }
        let [a, b] = <[_; 2]>::try_from(caches).map_err(|_| anyhow::anyhow!("two nodes"))?;
        let spaces = [a.namespace::<Value>(&name)?, b.namespace::<Value>(&name)?];
        let key = spaces[0].key("the-key")?;
        let pair = Self { caches: [a, b], spaces, key };
        pair.change(0).await?;
        Ok(pair)
    }

    /// A put on one node until the other has read it, in microseconds.
    async fn change(&self, number: usize) -> anyhow::Result<f64> {
        let ([_, b], [on_a, on_b]) = (&self.caches, &self.spaces);
        let new = value(number);
        let began = now();
        let written = on_a.put(&self.key, new.clone()).await?;
        anyhow::ensure!(b.reached(&written.token, PATIENCE).await, "b hears of the put");
        let read = loop {
            // A read of L2 that takes too long is a miss.
            if let Some(answer) = on_b.get(&self.key).await? {
                break answer.value;
            }
        };
        let took = began.elapsed().as_secs_f64() * 1e6;
        anyhow::ensure!(read.as_deref() == Some(&new), "b reads {read:?} after put {number} at {written:?}");
        Ok(took)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = RedisServer::start();
    let pairs = [
        Pair::new(&server.url(), Updates::Invalidate).await?,
        Pair::new(&server.url(), Updates::Value).await?,
    ];
    let samples = if quick() { 100 } else { 2_000 };
    let (mut p50, mut p99) = ([vec![], vec![]], [vec![], vec![]]);
    for _ in 0..rounds() {
        for (at, pair) in pairs.iter().enumerate() {
            let mut took = Vec::with_capacity(samples);
            for number in 1..=samples {
                took.push(pair.change(number).await?);
            }
            p50[at].push(quantile(&mut took, 0.5));
            p99[at].push(quantile(&mut took, 0.99));
        }
    }
    println!("| a value of 256 bytes, put on A and read on B | p50 | p99 | reads of L2 by B, a put |");
    println!("|---|---|---|---|");
    for (at, name) in ["dropped and read again", "taken from the hint"].into_iter().enumerate() {
        let (p50, p99) = (median(&mut p50[at]), median(&mut p99[at]));
        let stats = pairs[at].spaces[1].stats();
        let reads = stats.l2_hits as f64 / (samples * rounds()) as f64;
        if stats.l2_errors + stats.records_refused > 0 {
            eprintln!("{name}: {} reads failed, {} records refused", stats.l2_errors, stats.records_refused);
        }
        println!("| {name} | {p50:.1} µs | {p99:.1} µs | {reads:.3} |");
    }
    for cache in pairs.iter().flat_map(|pair| &pair.caches) {
        cache.stop().await;
    }
    Ok(())
}
