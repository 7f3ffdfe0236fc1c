//! Events that must arrive, all of them and in order.

use std::sync::Arc;
use std::time::Duration;

use cache_bus::BusConfig;
use cache_events::{EventKind, Partition, Scope};
use cache_redis::{RedisStore, RedisTransport};
use cache_testkit::{FaultyTransport, RedisServer};
use cache_tiered::{CoarseClock, EventDraft, NodeSettings, Notice, TieredCache};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{Scene, cast, dismiss};
use crate::deployment::{Setup, builder, config};
use crate::keys::{handle, key};
use crate::storm::{now, until};

const EVENTS: u64 = 20_000;
const WRITERS: u64 = 16;
const KILLS: u64 = 5;
/// Keys that the other node has copies of.
const KEYS: usize = 500;

/// What a node heard.
#[derive(Default)]
struct Heard {
    /// What each event said, in the order of the log.
    said: Vec<(u64, u64)>,
    missed: u64,
}

/// Twenty thousand invalidations by one node; meanwhile the server cuts every connection, five times. The other node hears
/// of each, once, in the order of the log, which is that of each writer.
pub(crate) async fn many(scene: &mut Scene) -> anyhow::Result<()> {
    let server = Arc::new(tokio::task::spawn_blocking(RedisServer::start).await?);
    scene.topology = "standalone";
    let setup = Setup { write_deadline: Duration::from_secs(20), ..Setup::default() };
    let heard = Arc::new(Mutex::new(Heard::default()));
    let ears = heard.clone();
    let config = config(&server.url())?;
    let (store, transport) = (RedisStore::new(config.clone())?, RedisTransport::new(config)?);
    let hears = builder("hears", Arc::new(store), Arc::new(transport), &setup, Arc::new(CoarseClock::new()))?
        .settings(NodeSettings { handler_queue_max: 2 * EVENTS as usize, ..NodeSettings::default() })
        .on(EventKind::MANUAL_INVALIDATION, move |notice| match notice {
            Notice::Event(event) => {
                let said = event.event.reason.as_deref();
                let number = said.and_then(|said| said.parse().ok()).unwrap_or(u64::MAX);
                ears.lock().said.push((event.position.seq, number));
            }
            _ => ears.lock().missed += 1,
        })
        .start()?;
    let writes = cast(&server.url(), &["writes"], &setup).await?.remove(0);
    until("the other node is live", || hears.health().live).await?;
    for number in 0..KEYS {
        let _ = handle(&hears).put(&key(number), 1).await?;
    }
    let epoch = writes.position(Partition(0)).epoch;
    let began = now();
    let written = Arc::new(Mutex::new(Vec::new()));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (writes, written) = (writes.clone(), written.clone());
        writers.spawn(async move {
            for event in 0..EVENTS / WRITERS {
                let number = event * WRITERS + writer;
                invalidate(&writes, number).await?;
                written.lock().push(number);
            }
            anyhow::Ok(())
        });
    }
    for kill in 1..=KILLS {
        let due = (EVENTS * kill / (KILLS + 1)) as usize;
        until("some are written", || written.lock().len() >= due).await?;
        for kind in ["pubsub", "normal"] {
            server.command(&["CLIENT", "KILL", "TYPE", kind]);
        }
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let took = began.elapsed();
    let last = writes.position(Partition(0));
    until("the other node has applied all", || hears.position(Partition(0)) >= last).await?;
    until("and told of all", || heard.lock().said.len() as u64 >= EVENTS).await?;
    scene.seen.acked = written.lock().len() as u64;
    let said = std::mem::take(&mut heard.lock().said);
    let missed = heard.lock().missed;
    anyhow::ensure!(missed == 0, "the handler was told {missed} times that it may have missed some");
    anyhow::ensure!(last.epoch == epoch, "a new epoch began, of which nothing was cause");
    anyhow::ensure!(said.len() as u64 == EVENTS, "{} events were heard", said.len());
    let disorder = said.windows(2).filter(|pair| pair[0].0 >= pair[1].0).count();
    anyhow::ensure!(disorder == 0, "{disorder} events were heard ahead of an earlier one");
    // Each once, at positions in the order in which its writer wrote them.
    let mut next = vec![0; WRITERS as usize];
    for (seq, number) in &said {
        let writer = (number % WRITERS) as usize;
        anyhow::ensure!(number / WRITERS == next[writer], "{number} at {seq}: not the next of its writer");
        next[writer] += 1;
    }
    for number in 0..KEYS {
        anyhow::ensure!(handle(&hears).resident(&key(number)).is_none(), "{} has survived", key(number));
    }
    scene.figures.push(format!(
        "{EVENTS} invalidations by {WRITERS} writers within {} ms over {KILLS} kills of all connections: all applied, each once, none lost, none missed, heard in the order of the log",
        took.as_millis()
    ));
    dismiss(&[hears, writes]).await;
    Ok(())
}

async fn invalidate(node: &TieredCache, number: u64) -> anyhow::Result<()> {
    let at = key(number as usize % KEYS);
    let draft = EventDraft::new(EventKind::MANUAL_INVALIDATION, at.resource().to_owned());
    let _ = node.publish(draft.touching(Scope::Key(at)).reason(number.to_string())).await?;
    Ok(())
}

/// How long a node needs to make up for 2,000 events of which it heard nothing.
pub(crate) async fn gap(scene: &mut Scene) -> anyhow::Result<()> {
    const MISSED: u64 = 2_000;
    let server = tokio::task::spawn_blocking(RedisServer::start).await?;
    scene.topology = "standalone";
    let setup = Setup::default();
    let config = config(&server.url())?;
    let inner = Arc::new(RedisTransport::new(config.clone())?);
    let hints = Arc::new(FaultyTransport::new(inner, 1));
    let store = Arc::new(RedisStore::new(config)?);
    // It does not ask by itself before it is told to.
    let bus = BusConfig {
        sync_interval: Duration::from_secs(20),
        staleness_bound: Duration::from_secs(60),
        ..BusConfig::default()
    };
    let deaf = builder("deaf", store, hints.clone(), &setup, Arc::new(CoarseClock::new()))?;
    let deaf = deaf.bus(bus).start()?;
    let writes = cast(&server.url(), &["writes"], &setup).await?.remove(0);
    until("the other node is live", || deaf.health().live).await?;
    let mut took = Vec::new();
    for _ in 0..5 {
        for number in 0..KEYS {
            let _ = handle(&deaf).put(&key(number), 1).await?;
        }
        anyhow::ensure!(deaf.sync(Duration::from_secs(5)).await, "no sync");
        hints.lose_hints(true);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let writes = writes.clone();
            writers.spawn(async move {
                for event in (writer..MISSED).step_by(WRITERS as usize) {
                    invalidate(&writes, event).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        scene.seen.acked += MISSED;
        let (last, before) = (writes.position(Partition(0)), deaf.position(Partition(0)));
        anyhow::ensure!(last.seq - before.seq >= MISSED && last.epoch == before.epoch, "there is no gap");
        let began = now();
        anyhow::ensure!(deaf.sync(Duration::from_secs(5)).await, "no sync");
        took.push(began.elapsed());
        hints.heal();
        anyhow::ensure!(deaf.position(Partition(0)) >= last, "the sync left something out");
        for number in 0..KEYS {
            anyhow::ensure!(handle(&deaf).resident(&key(number)).is_none(), "{} has survived", key(number));
        }
    }
    took.sort();
    scene.figures.push(format!(
        "a gap of {MISSED} events was repaired within {:.1} ms (median of {}; {:.1} to {:.1})",
        took[took.len() / 2].as_secs_f64() * 1e3,
        took.len(),
        took[0].as_secs_f64() * 1e3,
        took[took.len() - 1].as_secs_f64() * 1e3,
    ));
    dismiss(&[deaf, writes]).await;
    Ok(())
}
