//! What happens between nodes and servers.

use std::time::Duration;

use cache_testkit::Fault;
use cache_tiered::{ReadOptions, Tiers};
use tokio::task::JoinSet;

use super::{Field, LONG};
use crate::keys::{handle, key};

/// Lets the storm go on for a while.
pub(super) async fn wait(field: &mut Field) -> anyhow::Result<()> {
    tokio::time::sleep(LONG).await;
    field.storm.rages().await
}

pub(super) async fn disorder(field: &mut Field) -> anyhow::Result<()> {
    field.lines.iter().for_each(|line| line.hints.disorder(51));
    wait(field).await?;
    field.lines.iter().for_each(|line| line.hints.heal());
    Ok(())
}

pub(super) async fn deaf(field: &mut Field) -> anyhow::Result<()> {
    field.lines.iter().for_each(|line| line.hints.lose_hints(true));
    wait(field).await?;
    field.lines.iter().for_each(|line| line.hints.heal());
    Ok(())
}

/// Nothing closes: only time-outs tell.
pub(super) async fn black_hole_open(field: &mut Field) -> anyhow::Result<()> {
    for line in &field.lines {
        line.proxies.iter().for_each(|proxy| proxy.set_current(Fault::BlackHole));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    wait(field).await
}

pub(super) async fn resets(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..10 {
        for line in &field.lines {
            line.set(Fault::Reset);
            tokio::time::sleep(Duration::from_millis(30)).await;
            line.set(Fault::Pass);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    Ok(())
}

pub(super) async fn swallow(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::SwallowAnswers, LONG).await
}

pub(super) async fn partition(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::BlackHole, LONG).await
}

pub(super) async fn silence(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::BlackHole, Duration::from_secs(6)).await
}

pub(super) async fn delay(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::Delay(Duration::from_millis(80)), LONG).await
}

/// The node hears everything, hints as well, and nobody hears it.
pub(super) async fn speechless(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::SwallowRequests, LONG).await
}

/// One node takes nothing from its server for a while, and so much is published meanwhile that the server cuts it off.
pub(super) async fn slow_consumer(field: &mut Field) -> anyhow::Result<()> {
    let server = field.servers.standalone()?;
    server.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 256kb 64kb 1"]);
    field.lines[2].proxies.iter().for_each(|proxy| proxy.set_current(Fault::Stall));
    let server = field.servers.standalone()?;
    let shout = r"
        for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS', 'ec:*')) do
          redis.call('PUBLISH', channel, string.rep('x', 4 * 1024 * 1024))
        end";
    for _ in 0..8 {
        server.command(&["EVAL", shout, "0"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let cut = server.info("stats", "client_output_buffer_limit_disconnections");
    tokio::time::sleep(LONG).await;
    field.lines[2].set(Fault::Pass);
    // Other versions of Redis do not count this; then the log says it.
    let told = server.log().contains("overcoming of output buffer limits");
    anyhow::ensure!(
        told || cut.parse::<u64>().is_ok_and(|cut| cut > 0),
        "nobody was too slow for the server"
    );
    Ok(())
}

/// The line of the bus is down for two seconds, in which everything changes; L2 can be reached all the time.
pub(super) async fn bus_cut(field: &mut Field) -> anyhow::Result<()> {
    let failed = field.storm.seen().failed;
    for _ in 0..3 {
        field.lines[2].hints.cut();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let hits = l1_hits(field);
        tokio::time::sleep(Duration::from_secs(1)).await;
        anyhow::ensure!(l1_hits(field) > hits, "L1 was switched off by the cut");
        field.lines[2].hints.heal();
        let live = field.storm.live().await?;
        anyhow::ensure!(field.storm.nodes()[2].sync(Duration::from_secs(5)).await, "no sync after the cut");
        field.storm.mark();
        field.storm.rages().await?;
        let after = field.storm.seen().worst_ms_since;
        field.figure(format!("live {} ms after the cut, then {after} ms at most", live.as_millis()));
        anyhow::ensure!(after <= 200, "{after} ms stale though the cut is over");
    }
    let failed = field.storm.seen().failed - failed;
    anyhow::ensure!(failed == 0, "{failed} reads failed");
    Ok(())
}

fn l1_hits(field: &Field) -> u64 {
    handle(&field.storm.nodes()[2]).stats().l1_hits
}

/// Tasks of a burst on each node, and reads of each.
const READERS: usize = 700;
const ROUNDS: usize = 10;

/// Far more reads of L2 than the connections for records can carry, over lines that let little through at a time; syncs and
/// invalidations have connections of their own.
pub(super) async fn burst(field: &mut Field) -> anyhow::Result<()> {
    let failed = |field: &Field| -> u64 {
        field.storm.nodes().iter().map(|node| handle(node).stats().l2_errors).sum()
    };
    let before = (failed(field), field.storm.seen().acked);
    // The first proxy of a line is the store's: records, and invalidations.
    let delay = |fault| field.lines.iter().for_each(|line| line.proxies[0].set(fault));
    delay(Fault::Delay(Duration::from_millis(40)));
    let mut burst = JoinSet::new();
    for node in field.storm.nodes() {
        for task in 0..READERS {
            let node = node.clone();
            burst.spawn(async move {
                let options = ReadOptions { tiers: Some(Tiers::L2Only), ..ReadOptions::default() };
                for round in 0..ROUNDS {
                    // A read that fails is a read that was too many: that is what is asked for here.
                    let _ = handle(&node).get_with(&key((task + round * 7) % 2_400), &options).await;
                }
            });
        }
    }
    let (mut looked, mut dead) = (0_u32, 0_u32);
    while !burst.is_empty() {
        tokio::select! {
            _ = burst.join_next() => {}
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                looked += 1;
                dead += u32::from(!field.storm.nodes().iter().all(|node| node.health().live));
            }
        }
    }
    delay(Fault::Pass);
    let (failed, acked) = (failed(field) - before.0, field.storm.seen().acked - before.1);
    field.figure(format!(
        "{} reads of L2 by {READERS} tasks on each node, 80 ms away, {failed} trips to it failed; {acked} writes were acknowledged meanwhile, and a node was not live at {dead} of {looked} looks",
        3 * READERS * ROUNDS,
    ));
    anyhow::ensure!(failed > 0, "the connections were not exhausted");
    anyhow::ensure!(acked > 0, "no write was acknowledged during a burst of reads");
    // A machine that is busy otherwise may cost a node its trust for a moment.
    anyhow::ensure!(dead * 2 < looked, "a burst of reads has cost a node its trust");
    Ok(())
}

async fn one_suffers(field: &mut Field, fault: Fault, how_long: Duration) -> anyhow::Result<()> {
    field.lines[2].set(fault);
    tokio::time::sleep(how_long).await;
    field.lines[2].set(Fault::Pass);
    Ok(())
}
