//! Who may load, and what becomes of those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_bus::{BusConfig, Transport};
use cache_events::{NodeId, Version};
use cache_l2::Store;
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use cache_testkit::{RedisServer, Reply};
use cache_tiered::{CoarseClock, Loaded, NamespaceSettings, NodeSettings, ReadOptions, TieredCache, Tiers};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Scene, cast, dismiss};
use crate::apart::Apart;
use crate::deployment::{Setup, config};
use crate::keys::{handle, key, namespace};
use crate::source::Source;
use crate::storm::{now, until};

const NODES: usize = 1_000;
/// Nodes that share their connections: each has its own subscription.
const TOGETHER: usize = 50;

/// A thousand engines in this process, and one key that all of them miss at once: as many loads as leases, which is one.
pub(crate) async fn thousand(scene: &mut Scene) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(RedisServer::start).await?;
    scene.topology = "standalone";
    let config = RedisConfig {
        // Nobody is to give up: a thousand nodes on this machine are slow.
        operation_timeout: Duration::from_secs(10),
        control_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        ..config(&server.url())?
    };
    let mut nodes = Vec::new();
    let mut shared: Option<(Arc<dyn Store>, Arc<dyn Transport>)> = None;
    for number in 0..NODES {
        if number % TOGETHER == 0 {
            shared = Some((
                Arc::new(RedisStore::new(config.clone())?),
                Arc::new(RedisTransport::new(config.clone())?),
            ));
        }
        let Some((store, transport)) = &shared else { continue };
        let bus = BusConfig {
            sync_interval: Duration::from_secs(5),
            sync_timeout: Duration::from_secs(10),
            staleness_bound: Duration::from_secs(40),
            ..BusConfig::default()
        };
        let mut settings = NamespaceSettings::new(namespace());
        settings.l1_entries_max = 16;
        settings.staleness_bound = bus.staleness_bound;
        let family = |entries| PolicyKind::Sieve.family(entries);
        let id = NodeId::new(format!("node-{number}"))?;
        let node = TieredCache::builder(id, store.clone(), transport.clone(), family)
            .clock(Arc::new(CoarseClock::new()))
            .bus(bus)
            // The wait and the lease outlast the load on any machine: what is counted is leases.
            .settings(NodeSettings {
                lease_ttl: Duration::from_secs(30),
                lease_wait: Duration::from_secs(20),
                ..NodeSettings::default()
            })
            .namespace::<u64>(settings)
            .start()?;
        nodes.push(node);
    }
    until("a thousand nodes are live", || nodes.iter().all(|node| node.health().live)).await?;
    for round in 0..3 {
        let loads = Arc::new(AtomicU64::new(0));
        let began = now();
        let mut asking = JoinSet::new();
        for node in &nodes {
            let (node, loads) = (node.clone(), loads.clone());
            asking.spawn(async move {
                let load = move || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(Loaded::new(7).versioned(Version(7)))
                };
                handle(&node).get_or_load(&key(round), load).await.map(|answer| answer.value)
            });
        }
        for answer in asking.join_all().await {
            anyhow::ensure!(answer?.as_deref() == Some(&7), "somebody was answered something else");
            scene.seen.reads += 1;
        }
        let loads = loads.load(Ordering::SeqCst);
        scene.figures.push(format!("{loads} load, all answered after {} ms", began.elapsed().as_millis()));
        anyhow::ensure!(loads == 1, "{loads} loads of one key");
    }
    dismiss(&nodes).await;
    Ok(())
}

/// The first loader outlives its right to load, and a second on another node gets it: what the first brings is older and
/// stored nowhere.
pub(crate) async fn expired_lease(scene: &mut Scene) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(RedisServer::start).await?;
    scene.topology = "standalone";
    let setup = Setup { lease_ttl: Duration::from_millis(50), ..Setup::default() };
    let nodes = cast(&server.url(), &["first", "second"], &setup).await?;
    let l2 = ReadOptions { tiers: Some(Tiers::L2Only), ..ReadOptions::default() };
    for number in 0..5 {
        let (asked, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait, node) = (asked.clone(), release.clone(), nodes[0].clone());
        let mut first = JoinSet::new();
        first.spawn(async move {
            let load = move || async move {
                tell.notify_one();
                wait.notified().await;
                Ok(Loaded::new(1))
            };
            handle(&node).get_or_load(&key(number), load).await
        });
        asked.notified().await;
        until("the lease has expired", || leases(&server) == 0).await?;
        let second = handle(&nodes[1]).get_or_load(&key(number), || async { Ok(Loaded::new(2)) }).await?;
        anyhow::ensure!(second.value.as_deref() == Some(&2), "the second loader answered {second:?}");
        release.notify_one();
        first.join_all().await;
        let stored = handle(&nodes[1]).get_with(&key(number), &l2).await?.and_then(|answer| answer.value);
        anyhow::ensure!(stored.as_deref() == Some(&2), "L2 has {stored:?}, which the first loader brought");
        scene.seen.reads += 2;
    }
    dismiss(&nodes).await;
    Ok(())
}

/// The process of a node that loads is killed: others answer after their wait, and the key is free within the lease.
pub(crate) async fn loader_dies(scene: &mut Scene) -> anyhow::Result<()> {
    let server = tokio::task::spawn_blocking(RedisServer::start).await?;
    scene.topology = "standalone";
    let source = Source::new(16)?;
    // Its loads take up to an hour.
    let dying = Apart::start(&server.url(), &source.path(), 3_600_000)?;
    let setup = Setup { lease_ttl: Duration::from_secs(5), ..Setup::default() };
    let nodes = cast(&server.url(), &["heir"], &setup).await?;
    until_live(&dying).await?;
    tokio::select! {
        _ = dying.get(0) => anyhow::bail!("a load of an hour has ended"),
        held = until("the lease is held", || leases(&server) == 1) => held?,
    }
    dying.kill();
    let began = now();
    let answer = handle(&nodes[0]).get_or_load(&key(0), || async { Ok(Loaded::new(1)) }).await?;
    anyhow::ensure!(answer.value.as_deref() == Some(&1), "{answer:?}");
    let answered = began.elapsed();
    until("the key is free", || leases(&server) == 0).await?;
    let free = began.elapsed();
    scene.figures.push(format!(
        "a reader was answered {} ms after the loader's end, the key was free after {} ms of a lease of 5,000",
        answered.as_millis(),
        free.as_millis()
    ));
    anyhow::ensure!(answered < Duration::from_secs(2), "a reader waited for {answered:?}");
    anyhow::ensure!(free <= Duration::from_millis(5_100), "the key was free only after {free:?}");
    scene.seen.reads += 1;
    dismiss(&nodes).await;
    Ok(())
}

/// How many keys are being loaded, as the server sees it.
fn leases(server: &RedisServer) -> usize {
    match server.command(&["KEYS", "ec:*:w:*"]) {
        Reply::List(leases) => leases.len(),
        _ => 0,
    }
}

async fn until_live(node: &Apart) -> anyhow::Result<()> {
    for _ in 0..1_000 {
        if node.live().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the node apart does not come to life")
}
