//! A load that began before a change and ends after it: what it brings may be answered to whoever waited for it, and
//! nothing else.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Scope, Version};
use cache_testkit::RedisServer;
use cache_tiered::staleness::StalenessChecker;
use cache_tiered::{Loaded, ReadOptions, TieredCache, Tiers};
use tokio::sync::Notify;

use super::{Scene, cast, dismiss};
use crate::deployment::Setup;
use crate::keys::{handle, key};
use crate::storm::{BOUND, now};

/// Rounds, each with another key: the change comes by turns from the node that loads and from the other.
const ROUNDS: usize = 6;

pub(crate) async fn against_put(scene: &mut Scene) -> anyhow::Result<()> {
    play(scene, async |node, number| {
        let put = handle(node).put(&key(number), 2).await?;
        let _ = put;
        Ok(())
    })
    .await
}

pub(crate) async fn against_invalidation(scene: &mut Scene) -> anyhow::Result<()> {
    play(scene, async |node, number| {
        let _ = node.invalidate(Scope::Key(key(number)), "changed").await?;
        Ok(())
    })
    .await
}

async fn play(
    scene: &mut Scene,
    change: impl AsyncFn(&TieredCache, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(RedisServer::start).await?;
    scene.topology = "standalone";
    let nodes = cast(&server.url(), &["loads", "other"], &Setup::default()).await?;
    let checker = StalenessChecker::new(BOUND.as_millis() as u64);
    let began = now();
    let ms = || began.elapsed().as_millis() as u64;
    let mut loading = tokio::task::JoinSet::new();
    let mut releases = Vec::new();
    for number in 0..ROUNDS {
        // The tiers by turns: with both the lease of L2 refuses such a load before the fence of L1 has to.
        let tiers = (number >= ROUNDS / 2).then_some(Tiers::L1Only);
        let options = ReadOptions { tiers, ..ReadOptions::default() };
        let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait, node) = (asked.clone(), release.clone(), nodes[0].clone());
        loading.spawn(async move {
            let load = move || async move {
                tell.notify_one();
                wait.notified().await;
                Ok(Loaded::new(1).versioned(Version(1)))
            };
            handle(&node).get_or_load_with(&key(number), &options, load).await
        });
        asked.notified().await;
        releases.push(release);
        change(&nodes[number % 2], number).await?;
        checker.acked(&key(number), Version(2), ms());
        scene.seen.acked += 1;
    }
    // The one who loads has heard of all that the other changed.
    anyhow::ensure!(nodes[0].sync(Duration::from_secs(5)).await, "no sync");
    releases.iter().for_each(|release| release.notify_one());
    loading.join_all().await;
    // What is served for longer than the bound was stored.
    while ms() < (BOUND + Duration::from_millis(500)).as_millis() as u64 {
        for number in 0..ROUNDS {
            for node in &nodes {
                for tiers in [Tiers::Both, Tiers::L1Only, Tiers::L2Only] {
                    let options = ReadOptions { tiers: Some(tiers), ..ReadOptions::default() };
                    let at = ms();
                    let answer = handle(node).get_with(&key(number), &options).await?;
                    scene.seen.reads += 1;
                    let Some(version) = answer.and_then(|answer| answer.value) else { continue };
                    let stale = checker.staleness(&key(number), Version(*version), at);
                    scene.seen.worst_ms = scene.seen.worst_ms.max(stale);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dismiss(&nodes).await;
    anyhow::ensure!(scene.seen.worst_ms == 0, "what a slow load brought was stored");
    Ok(())
}
