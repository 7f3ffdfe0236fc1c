//! Deployments of which a part does not go along.

use std::sync::Arc;
use std::time::Duration;

use cache_events::Scope;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{RedisSentinels, RedisServer};
use cache_tiered::{CoarseClock, WriteError};

use super::{Scene, cast, dismiss};
use crate::deployment::{Setup, builder, config};
use crate::keys::{handle, key, tag};
use crate::storm::until;

/// A tag is in all partitions, and one of two masters hangs: the invalidation is not acknowledged, and happens there as well
/// when the master goes on.
pub(crate) async fn group(scene: &mut Scene) -> anyhow::Result<()> {
    const KEYS: usize = 64;
    let deployment = tokio::task::spawn_blocking(|| RedisSentinels::start(&["one", "two"])).await?;
    scene.topology = "sentinel";
    let setup = Setup { write_deadline: Duration::from_millis(300), ..Setup::default() };
    let nodes = cast(&deployment.url(), &["a", "b"], &setup).await?;
    let label = tag(0);
    for number in 0..KEYS {
        let options = cache_tiered::WriteOptions { tags: vec![label.clone()], ..Default::default() };
        let _ = handle(&nodes[0]).put_with(&key(number), Some(1), &options).await?;
    }
    // Below the half second after which the Sentinels replace it.
    let hangs = deployment.master(0);
    hangs.pause();
    let told = nodes[0].invalidate(Scope::Tag(label), "changed").await;
    hangs.resume();
    anyhow::ensure!(
        matches!(told, Err(WriteError::Unacked { .. })),
        "a part is missing, and it was {told:?}"
    );
    until("what was owed is delivered", || nodes[0].health().outbox == 0).await?;
    for node in &nodes {
        anyhow::ensure!(node.sync(Duration::from_secs(5)).await, "no sync");
        for number in 0..KEYS {
            scene.seen.reads += 1;
            let answer = handle(node).get(&key(number)).await?;
            anyhow::ensure!(answer.is_none(), "{} on {} has survived: {answer:?}", key(number), node.node());
        }
    }
    dismiss(&nodes).await;
    tokio::task::spawn_blocking(move || drop(deployment)).await?;
    Ok(())
}

/// A node with another number of partitions on the same prefix is fenced off: it says why, keeps nothing from there and
/// brings nothing there.
pub(crate) async fn fenced(scene: &mut Scene) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(RedisServer::start).await?;
    scene.topology = "standalone";
    let setup = Setup { write_deadline: Duration::from_millis(300), ..Setup::default() };
    let nodes = cast(&server.url(), &["first"], &setup).await?;
    let _ = handle(&nodes[0]).put(&key(0), 1).await?;
    let other = RedisConfig { partitions: 4, ..config(&server.url())? };
    let (store, transport) = (RedisStore::new(other.clone())?, RedisTransport::new(other)?);
    let stranger =
        builder("stranger", Arc::new(store), Arc::new(transport), &setup, Arc::new(CoarseClock::new()))?;
    let stranger = stranger.start()?;
    until("it is fenced off", || stranger.health().fenced.is_some()).await?;
    let before = server.command(&["DBSIZE"]).int();
    anyhow::ensure!(!stranger.health().live, "it is live and fenced off");
    anyhow::ensure!(handle(&stranger).get(&key(0)).await?.is_none(), "it has read from there");
    anyhow::ensure!(handle(&stranger).put(&key(1), 9).await.is_err(), "it has written there");
    scene.seen.reads += 1;
    anyhow::ensure!(server.command(&["DBSIZE"]).int() == before, "it has left something there");
    anyhow::ensure!(nodes[0].health().live, "the first one has suffered");
    scene.figures.push(format!("it says: {}", stranger.health().fenced.unwrap_or_default()));
    dismiss(&nodes).await;
    stranger.stop().await;
    Ok(())
}
