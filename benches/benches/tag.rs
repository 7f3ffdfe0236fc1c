//! Invalidating a tag that a million entries carry: what the call costs the node, how many commands it sends, and what a
//! hit costs before and after.
//!
//! Half of the entries carry the tag and half another one, which keeps them; hits of the second half are timed before
//! and twice after it: the first hit of an entry compares it with the new stamp. Medians of the rounds.

use std::sync::Arc;

use cache_events::{Key, Scope, Tag};
use cache_redis::RedisConfig;
use cache_testkit::RedisServer;
use cache_tiered::{TypedCache, WriteOptions};
use edgecache_benches::placed::ports;
use edgecache_benches::{Value, median, node, now, quick, rounds};
use tokio::task::JoinSet;

const TASKS: usize = 64;

/// Puts all keys, the even ones with one tag and the odd ones with the other.
async fn fill(bench: &TypedCache<Value>, keys: &Arc<[Key]>, tags: &[Tag; 2]) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (bench, keys, tags) = (bench.clone(), keys.clone(), tags.clone());
        tasks.spawn(async move {
            for n in (task..keys.len()).step_by(TASKS) {
                let options = WriteOptions { tags: vec![tags[n % 2].clone()], ..WriteOptions::default() };
                let _ = bench.put_with(&keys[n], Some(format!("{n:0>16}")), &options).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    // What was put while another put of the same stripe was under way is in L2 alone.
    for key in keys.iter() {
        if bench.resident(key).is_none() {
            let _ = bench.get(key).await?;
        }
    }
    Ok(())
}

/// Nanoseconds of a hit, over as many keys of the kept half as there are, in an order that no cache line follows.
fn hits(bench: &TypedCache<Value>, keys: &[Key]) -> anyhow::Result<f64> {
    let (began, mut at) = (now(), 1);
    let reads = keys.len() / 2;
    for _ in 0..reads {
        anyhow::ensure!(bench.resident(&keys[at]).is_some(), "{} must be a hit", keys[at]);
        at = (at + 2 * 104_729) % keys.len();
    }
    Ok(began.elapsed().as_secs_f64() * 1e9 / reads as f64)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let count = if quick() { 2_000 } else { 1_000_000 };
    let server = RedisServer::start();
    let (store, transport) = ports(&RedisConfig::from_url(&server.url())?)?;
    let (cache, bench) = node("bench", store, transport, 2 * count).await?;
    let keys: Arc<[Key]> =
        (0..count).map(|n| bench.key(format!("k{n}"))).collect::<Result<Vec<_>, _>>()?.into();
    let tags = [Tag::new("gone")?, Tag::new("kept")?];
    fill(&bench, &keys, &tags).await?;
    let [mut before, mut first, mut after, mut calls, mut commands] = [const { Vec::new() }; 5];
    for _ in 0..rounds() {
        before.push(hits(&bench, &keys)?);
        let scripts = || server.info("commandstats", "cmdstat_evalsha");
        let calls_of = |stats: String| -> anyhow::Result<f64> {
            let calls = stats.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
            Ok(calls.ok_or_else(|| anyhow::anyhow!("no count in {stats:?}"))?.parse()?)
        };
        let had = calls_of(scripts())?;
        let began = now();
        let _ = cache.invalidate(Scope::Tag(tags[0].clone()), "bench").await?;
        calls.push(began.elapsed().as_secs_f64() * 1e6);
        commands.push(calls_of(scripts())? - had);
        first.push(hits(&bench, &keys)?);
        after.push(hits(&bench, &keys)?);
        for n in (0..count).step_by(2) {
            anyhow::ensure!(bench.resident(&keys[n]).is_none(), "{} must be gone", keys[n]);
        }
    }
    let held = cache.stats().iter().map(|(_, stats)| stats.l1_entries).sum::<usize>();
    let call = median(&mut calls);
    let worst = calls.last().copied().unwrap_or(f64::NAN);
    let [before, first, after, commands] = [before, first, after, commands].map(|mut all| median(&mut all));
    println!("| {count} entries in L1, half of them with the tag | |");
    println!("|---|---|");
    println!("| the call, median (most) | {call:.0} µs ({worst:.0} µs) |");
    println!("| scripts sent (the timer of sync may add one) | {commands:.0} |");
    println!("| a hit before | {before:.0} ns |");
    println!(
        "| the first hit of an entry after, which judges it again | {first:.0} ns ({:.2}) |",
        first / before
    );
    println!("| further hits after | {after:.0} ns ({:.2}) |", after / before);
    println!("| entries still held at the end | {held} |");
    cache.stop().await;
    Ok(())
}
