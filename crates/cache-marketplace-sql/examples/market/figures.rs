//! What bookings and reads take.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cache_events::{CacheEvent, Partition, Position};
use cache_marketplace::{BookOutcome, BookingRequest, Ledger};
use cache_testkit::{PostgresServer, RedisServer};
use cache_tiered::{Observer, Tier};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::world::{Node, stopwatch};

const MINUTE: u64 = 60_000;
const NODES: usize = 8;

pub(crate) async fn run(rounds: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = RedisServer::start();
    let postgres = PostgresServer::start_durable();
    let file = format!("sqlite:{}", folder.path().join("market.db").display());
    for (name, url) in [("SQLite file", file.as_str()), ("PostgreSQL", &postgres.url())] {
        redis.command(&["FLUSHALL"]);
        let node = Node::start("figures", url, &redis.url()).await?;
        for clients in [1, 64] {
            bookings(name, &node, clients, rounds).await?;
        }
        cold_and_hot(name, &node, rounds.min(200)).await?;
        node.stop().await;
    }
    redis.command(&["FLUSHALL"]);
    propagation(&postgres.url(), &redis.url(), rounds.min(300)).await
}

fn print(what: &str, times: &Histogram<u64>) {
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
    println!("{what}: p50 {:.1} us, p99 {:.1} us, {} times", at(0.5), at(0.99), times.len());
}

/// Bookings that all succeed, each client on a GPU of its own: committed, forced to disk and announced.
async fn bookings(name: &str, node: &Node, clients: usize, rounds: usize) -> anyhow::Result<()> {
    let gpu_type = format!("type-{clients}");
    node.offer(&gpu_type, u32::try_from(clients)?).await?;
    let (from, began) = (node.now() + MINUTE, stopwatch());
    let mut callers = JoinSet::new();
    for client in 1..=clients {
        let (ledger, market) = (node.ledger.clone(), node.market.clone());
        let (gpu_id, now) = (format!("p/{gpu_type}/{client}"), node.now());
        callers.spawn(async move {
            let (mut committing, mut answering) = (Vec::new(), Vec::new());
            for number in 0..rounds.div_ceil(clients).max(20) as u64 {
                let start_time = from + number * MINUTE;
                let request = BookingRequest {
                    booking_id: format!("{gpu_id}-{number}"),
                    gpu_id: gpu_id.clone(),
                    user_id: "u".to_owned(),
                    start_time,
                    end_time: start_time + MINUTE,
                };
                let begun = stopwatch();
                let outcome = ledger.book(request, now).await?;
                committing.push(begun.elapsed());
                let BookOutcome::Booked { committed, .. } = outcome else { anyhow::bail!("{outcome:?}") };
                let _ = market.announce(&committed).await?;
                answering.push(begun.elapsed());
            }
            Ok((committing, answering))
        });
    }
    let (mut committing, mut answering) = (Histogram::new(3)?, Histogram::new(3)?);
    while let Some(done) = callers.join_next().await {
        let (of_commit, of_answer) = done??;
        of_commit.into_iter().try_for_each(|took| committing.record(nanos(took)))?;
        of_answer.into_iter().try_for_each(|took| answering.record(nanos(took)))?;
    }
    let rate = committing.len() as f64 / began.elapsed().as_secs_f64();
    print(&format!("{name}, {clients} clients, booking committed ({rate:.0}/s)"), &committing);
    print(&format!("{name}, {clients} clients, booking committed and announced"), &answering);
    Ok(())
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Availability of types that nobody has read before, and of one that is in L1.
async fn cold_and_hot(name: &str, node: &Node, rounds: usize) -> anyhow::Result<()> {
    let (mut cold, mut hot) = (Histogram::new(3)?, Histogram::new(3)?);
    let mut markets = Vec::new();
    for number in 0..rounds {
        markets.push(node.offer(&format!("cold-{number}"), 4).await?);
    }
    for market in &markets {
        let begun = stopwatch();
        let answer = node.market.availability(market).await?;
        cold.record(nanos(begun.elapsed()))?;
        ensure!(answer.tier == Tier::Source, "{market:?} came from {:?}", answer.tier);
    }
    for _ in 0..100_000 {
        let begun = stopwatch();
        let answer = node.market.availability(&markets[0]).await?;
        hot.record(nanos(begun.elapsed()))?;
        ensure!(answer.tier == Tier::L1, "it came from {:?}", answer.tier);
    }
    print(&format!("{name}, availability from the database through the cache"), &cold);
    print(&format!("{name}, availability from L1"), &hot);
    Ok(())
}

/// Tells when a node has applied the event of a booking.
struct Heard(mpsc::Sender<(String, Instant)>);

impl Observer for Heard {
    fn applied(&self, _: Partition, _: Position, event: &CacheEvent) {
        let _ = self.0.try_send((event.resource_id.clone(), stopwatch()));
    }
}

/// From a booking that is committed to the last of the nodes that has dropped what it held.
async fn propagation(database: &str, redis: &str, rounds: usize) -> anyhow::Result<()> {
    let (told, mut heard) = mpsc::channel(10_000);
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let observer = Arc::new(Heard(told.clone()));
        nodes.push(Node::start_with(&format!("n{number}"), database, redis, Some(observer)).await?);
    }
    let market = nodes[0].offer("far", 2).await?;
    let (mut times, from) = (Histogram::<u64>::new(3)?, nodes[0].now() + MINUTE);
    for number in 0..rounds as u64 {
        for node in &nodes {
            node.market.availability(&market).await?;
        }
        let start_time = from + number * MINUTE;
        let booking_id = format!("far-{number}");
        let request = BookingRequest {
            booking_id: booking_id.clone(),
            gpu_id: "p/far/1".to_owned(),
            user_id: "u".to_owned(),
            start_time,
            end_time: start_time + MINUTE,
        };
        let outcome = nodes[0].ledger.book(request, nodes[0].now()).await?;
        let committed_at = stopwatch();
        let BookOutcome::Booked { committed, .. } = outcome else { anyhow::bail!("{outcome:?}") };
        let _ = nodes[0].market.announce(&committed).await?;
        let mut applied: HashMap<usize, Instant> = HashMap::new();
        // A node applies an event once at each position, so as many reports as there are nodes are all of them.
        while applied.len() < NODES {
            let next = tokio::time::timeout(Duration::from_secs(5), heard.recv()).await;
            let (of, at) = next.context("a node did not hear of it")?.context("nobody tells")?;
            if of == booking_id {
                applied.insert(applied.len(), at);
            }
        }
        let last = applied.values().max().context("somebody heard")?;
        times.record(nanos(last.saturating_duration_since(committed_at)))?;
    }
    print("from a committed booking to the last of 8 nodes", &times);
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}
