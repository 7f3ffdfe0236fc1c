//! A hit in L1 through the whole engine, statistics on, against a bare `quick_cache` get of an `Arc`.
//!
//! Both hold the same 10,000 keys and the same values (the very same allocations, so that the layout of the heap is not
//! what is compared) and are asked for the same keys in the same random order; once with keys that are there already,
//! once with the key built in the loop.

use std::hint::black_box;
use std::sync::Arc;

use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Key, Namespace};
use cache_tiered::CoarseClock;
use criterion::Criterion;
use edgecache_benches::{node, value};

const KEYS: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let namespace = Namespace::new("bench")?;
    let build = |n: usize| Key::new(&namespace, format!("gpu-{n}"));
    let keys = (0..KEYS).map(build).collect::<Result<Vec<Key>, _>>()?;
    let mut order: Vec<usize> = (0..65_536).map(|n: usize| n.wrapping_mul(2_654_435_761) % KEYS).collect();
    order.rotate_left(7);

    let peer = quick_cache::sync::Cache::new(KEYS * 2);
    let engine = runtime.block_on(async {
        let server = EmbeddedServer::new(EmbeddedConfig::default(), Arc::new(CoarseClock::new()));
        let shared = Arc::new(server);
        let (cache, bench) = node("bench", shared.clone(), shared, KEYS * 2).await?;
        for (n, key) in keys.iter().enumerate() {
            let _ = bench.put(key, value(n)).await?;
        }
        for key in &keys {
            let answer = bench.resident(key).and_then(|answer| answer.value);
            peer.insert(key.clone(), answer.ok_or_else(|| anyhow::anyhow!("{key} is not there"))?);
        }
        anyhow::Ok((cache, bench))
    })?;
    let (cache, bench) = engine;
    for key in &keys {
        anyhow::ensure!(bench.resident(key).is_some() && peer.get(key).is_some(), "{key} is in both");
    }

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("l1_hit");
    let mut at = 0;
    let mut next = || {
        at = (at + 1) & 0xFFFF;
        order[at]
    };
    // Each row makes the answer, has it looked at where it lies, and drops it.
    group.bench_function("quick_cache/prebuilt", |b| {
        b.iter(|| {
            black_box(&peer.get(&keys[next()]));
        })
    });
    group.bench_function("engine/prebuilt", |b| {
        b.iter(|| {
            black_box(&bench.resident(&keys[next()]));
        })
    });
    // From a task, as the engine's `get` is called: what entering a future costs in this harness is in both.
    group.bench_function("quick_cache_async/prebuilt", |b| {
        b.to_async(&runtime).iter(|| {
            let (key, peer) = (&keys[next()], &peer);
            async move {
                black_box(&peer.get(key));
            }
        })
    });
    group.bench_function("engine_async/prebuilt", |b| {
        b.to_async(&runtime).iter(|| {
            let key = &keys[next()];
            let bench = &bench;
            async move {
                black_box(&bench.get(key).await);
            }
        })
    });
    group.bench_function("quick_cache/built", |b| {
        b.iter(|| {
            black_box(&build(next()).map(|key| peer.get(&key)));
        })
    });
    group.bench_function("engine/built", |b| {
        b.iter(|| {
            black_box(&build(next()).map(|key| bench.resident(&key)));
        })
    });
    group.finish();

    // What was measured were hits: the engine counted every one of them as such.
    let stats = bench.stats();
    anyhow::ensure!(stats.l1_misses == 0, "{} of {} reads were misses", stats.l1_misses, stats.reads);
    runtime.block_on(cache.stop());
    criterion.final_summary();
    Ok(())
}
