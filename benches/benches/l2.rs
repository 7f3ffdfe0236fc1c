//! A hit in L2 through the engine against a raw GET of the same bytes, with the same client, over the same Redis.
//!
//! One caller after the other for the latency, 64 callers at once for the throughput; rounds of both alternate, medians
//! of the rounds are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, Client, cmd};
use cache_events::{Key, Partition};
use cache_l2::Store;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::RedisServer;
use cache_tiered::{Freshness, ReadOptions, Tier, Tiers, TypedCache};
use edgecache_benches::{Value, median, node, now, quantile, quick, rounds, value};

const KEYS: usize = 1_000;
const TASKS: usize = 64;
const L2_ONLY: ReadOptions =
    ReadOptions { tiers: Some(Tiers::L2Only), ttl: None, idle: None, freshness: Freshness::Bounded };

/// As many connections as the engine's data pool has.
#[derive(Clone)]
struct Raw(Arc<[MultiplexedConnection]>);

impl Raw {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = Client::open(url)?;
        let config = AsyncConnectionConfig::new();
        let connections = RedisConfig::default().data_connections;
        let mut all = Vec::new();
        for _ in 0..connections {
            all.push(client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        Ok(Self(all.into()))
    }

    async fn get(&self, n: usize) -> anyhow::Result<Vec<u8>> {
        let mut connection = self.0[n % self.0.len()].clone();
        Ok(cmd("GET").arg(format!("raw-{}", n % KEYS)).query_async(&mut connection).await?)
    }
}

async fn engine_get(bench: &TypedCache<Value>, key: &Key) -> anyhow::Result<()> {
    let answer = bench.get_with(key, &L2_ONLY).await?;
    anyhow::ensure!(answer.is_some_and(|answer| answer.tier == Tier::L2), "{key} must be a hit in L2");
    Ok(())
}

/// Microseconds of each of `n` calls, one after the other.
async fn latencies<F: Future<Output = anyhow::Result<()>>>(
    n: usize,
    call: impl Fn(usize) -> F,
) -> anyhow::Result<Vec<f64>> {
    let mut samples = Vec::with_capacity(n);
    for at in 0..n {
        let began = now();
        call(at).await?;
        samples.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(samples)
}

/// Calls a second by 64 tasks.
async fn throughput<F>(
    span: Duration,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (began, next) = (now(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let (call, next) = (call.clone(), next.clone());
        tasks.spawn(async move {
            while began.elapsed() < span {
                call(next.fetch_add(1, Ordering::Relaxed)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(next.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = RedisServer::start();
    let mut config = RedisConfig::from_url(&server.url())?;
    // What a stall of the machine does to a read is not what is measured.
    config.operation_timeout = Duration::from_secs(5);
    let store = Arc::new(RedisStore::new(config.clone())?);
    let (cache, bench) = node("bench", store.clone(), Arc::new(RedisTransport::new(config)?), KEYS).await?;
    let raw = Raw::connect(&server.url()).await?;
    let keys: Vec<Key> = (0..KEYS).map(|n| bench.key(format!("k{n}"))).collect::<Result<_, _>>()?;
    let keys: Arc<[Key]> = keys.into();
    for (n, key) in keys.iter().enumerate() {
        let _ = bench.put(key, value(n)).await?;
        let read = store.read(Partition(0), std::slice::from_ref(key)).await?;
        let record = read.items.into_iter().next().and_then(|item| item.record);
        let record = record.ok_or_else(|| anyhow::anyhow!("{key} must be in L2"))?;
        let mut connection = raw.0[0].clone();
        let () = cmd("SET").arg(format!("raw-{n}")).arg(&record[..]).query_async(&mut connection).await?;
    }
    let (samples, span) =
        if quick() { (200, Duration::from_millis(100)) } else { (5_000, Duration::from_millis(1_500)) };
    let raw_call = |n: usize| {
        let raw = raw.clone();
        async move { raw.get(n).await.map(drop) }
    };
    let engine_call = {
        let (bench, keys) = (bench.clone(), keys.clone());
        move |n: usize| {
            let (bench, key) = (bench.clone(), keys[n % KEYS].clone());
            async move { engine_get(&bench, &key).await }
        }
    };
    let raw_task = {
        let raw = raw.clone();
        move |n: usize| {
            let raw = raw.clone();
            async move { raw.get(n).await.map(drop) }
        }
    };
    let mut rows: [Vec<f64>; 6] = Default::default();
    for _ in 0..rounds() {
        let mut plain = latencies(samples, raw_call).await?;
        let mut engine = latencies(samples, &engine_call).await?;
        rows[0].push(quantile(&mut plain, 0.5));
        rows[1].push(quantile(&mut engine, 0.5));
        rows[2].push(quantile(&mut plain, 0.99));
        rows[3].push(quantile(&mut engine, 0.99));
        rows[4].push(throughput(span, raw_task.clone()).await?);
        rows[5].push(throughput(span, engine_call.clone()).await?);
    }
    let [raw50, engine50, raw99, engine99, raw_rate, engine_rate] = rows.map(|mut row| median(&mut row));
    println!("| L2 hit | raw GET | engine | ratio |");
    println!("|---|---|---|---|");
    println!("| p50, one caller | {raw50:.1} µs | {engine50:.1} µs | {:.2} |", engine50 / raw50);
    println!("| p99, one caller | {raw99:.1} µs | {engine99:.1} µs | {:.2} |", engine99 / raw99);
    println!(
        "| throughput, {TASKS} tasks | {raw_rate:.0}/s | {engine_rate:.0}/s | {:.2} |",
        engine_rate / raw_rate
    );
    cache.stop().await;
    Ok(())
}
