//! What happens to one server.

use std::time::Duration;

use cache_testkit::RedisServer;

use super::{Field, LONG};
use crate::storm::{BOUND, now, until};

pub(super) async fn kill_pubsub(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..8 {
        field.servers.standalone()?.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// One node hears nothing for a moment: what happened in it and is lost now, it will never hear of.
async fn unheard(field: &Field) {
    field.lines[2].hints.cut();
    tokio::time::sleep(BOUND / 4).await;
}

pub(super) async fn restart_empty(field: &mut Field) -> anyhow::Result<()> {
    for away in [Duration::from_millis(200), LONG] {
        unheard(field).await;
        field.servers.standalone()?.kill();
        field.lines[2].hints.heal();
        tokio::time::sleep(away).await;
        field.servers.standalone()?.restart_empty();
        let live = field.storm.live().await?;
        field.figure(format!(
            "live {} ms after the server was back ({} ms away)",
            live.as_millis(),
            away.as_millis()
        ));
        field.storm.rages().await?;
    }
    Ok(())
}

pub(super) async fn old_snapshot(field: &mut Field) -> anyhow::Result<()> {
    field.servers.standalone()?.save();
    field.storm.rages().await?;
    field.servers.standalone()?.revive();
    field.storm.rages().await?;
    // Once more from the same one: positions that were given twice already.
    field.servers.standalone()?.revive();
    field.storm.rages().await
}

pub(super) async fn stop_short(field: &mut Field) -> anyhow::Result<()> {
    pause(field, BOUND / 2).await
}

pub(super) async fn stop_long(field: &mut Field) -> anyhow::Result<()> {
    pause(field, LONG).await
}

async fn pause(field: &mut Field, how_long: Duration) -> anyhow::Result<()> {
    for _ in 0..2 {
        field.servers.standalone()?.pause();
        tokio::time::sleep(how_long).await;
        field.servers.standalone()?.resume();
        let live = field.storm.live().await?;
        field.figure(format!(
            "live {} ms after SIGCONT of the server ({} ms)",
            live.as_millis(),
            how_long.as_millis()
        ));
        field.storm.rages().await?;
    }
    Ok(())
}

/// Nobody answers for so long that more writes are owed than the nodes remember: they owe a flush instead.
pub(super) async fn overflow(field: &mut Field) -> anyhow::Result<()> {
    let epoch = |field: &Field| field.storm.nodes()[0].position(cache_events::Partition(0)).epoch;
    let before = epoch(field);
    field.servers.standalone()?.pause();
    tokio::time::sleep(LONG * 2).await;
    field.servers.standalone()?.resume();
    field.storm.rages().await?;
    let nodes = field.storm.nodes();
    until("what was owed is delivered", || nodes.iter().all(|node| node.health().outbox == 0)).await?;
    // The same server, with all it had: nothing else begins an epoch.
    until("the partition was flushed", || epoch(field) > before).await
}

/// Half a minute without Redis under load: nobody is there.
pub(super) async fn away(field: &mut Field) -> anyhow::Result<()> {
    outage(field, RedisServer::kill, RedisServer::restart_empty).await
}

/// Half a minute without Redis under load: it is there and does not answer.
pub(super) async fn stopped(field: &mut Field) -> anyhow::Result<()> {
    outage(field, |server| server.pause(), |server| server.resume()).await
}

/// What callers and the source notice.
async fn outage(
    field: &mut Field,
    goes: fn(&mut RedisServer),
    comes: fn(&mut RedisServer),
) -> anyhow::Result<()> {
    const AWAY: Duration = Duration::from_secs(30);
    let calm = (field.storm.seen(), field.storm.loads());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = (field.storm.seen(), field.storm.loads());
    goes(field.servers.standalone()?);
    tokio::time::sleep(AWAY).await;
    let after = (field.storm.seen(), field.storm.loads());
    comes(field.servers.standalone()?);
    let live = field.storm.live().await?;
    let acknowledged = field.storm.acknowledged().await?;
    let back = now();
    // Normal: no more than twice the loads of before.
    let usual = (before.1 - calm.1) / 3;
    let mut loads = field.storm.loads();
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let more = field.storm.loads();
        if (more - loads) * 4 <= usual * 2 {
            break;
        }
        loads = more;
        anyhow::ensure!(back.elapsed() < Duration::from_secs(20), "the source does not come to rest");
    }
    let ((seen, loaded), (then, later)) = (before, after);
    let (reads, failed) = (then.reads - seen.reads, then.failed - seen.failed);
    let per_s = |count: u64| count / AWAY.as_secs();
    field.figure(format!(
        "{reads} reads answered ({} a second; {} before), {failed} failed; {} loads a second ({usual} before), at most {} at a time on a node",
        per_s(reads),
        (seen.reads - calm.0.reads) / 3,
        per_s(later - loaded),
        field.storm.loads_at_once(),
    ));
    field.figure(format!(
        "live {} ms after it was back, a write acknowledged {} ms after that, loads as before within {} ms more; {} writes were given up meanwhile and delivered later",
        live.as_millis(),
        acknowledged.as_millis(),
        back.elapsed().as_millis(),
        then.unacked - seen.unacked,
    ));
    anyhow::ensure!(reads > 0 && failed == 0, "{failed} reads failed, {reads} were answered");
    anyhow::ensure!(field.storm.loads_at_once() <= 64, "the bulkhead of 64 loads was passed");
    Ok(())
}

pub(super) async fn flush_all(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..5 {
        unheard(field).await;
        field.servers.standalone()?.command(&["FLUSHALL"]);
        field.lines[2].hints.heal();
        field.storm.rages().await?;
    }
    Ok(())
}

/// Removes the keys of the deployment that end so.
async fn lose(field: &mut Field, end: &str) -> anyhow::Result<()> {
    for _ in 0..5 {
        unheard(field).await;
        let server = field.servers.standalone()?;
        let pattern = format!("ec:*{end}");
        let script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";
        server.command(&["EVAL", script, "0", &pattern]);
        field.lines[2].hints.heal();
        field.storm.rages().await?;
    }
    Ok(())
}

pub(super) async fn lose_meta(field: &mut Field) -> anyhow::Result<()> {
    lose(field, ":m").await
}

pub(super) async fn lose_log(field: &mut Field) -> anyhow::Result<()> {
    lose(field, ":l").await
}

/// Two nodes go on while the third hears nothing; what it has missed is not in the log any more when it asks.
pub(super) async fn trim(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..3 {
        field.lines[2].hints.cut();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let script =
            "for _, key in ipairs(redis.call('KEYS', 'ec:*:l')) do redis.call('XTRIM', key, 'MAXLEN', 1) end";
        field.servers.standalone()?.command(&["EVAL", script, "0"]);
        field.lines[2].hints.heal();
        field.storm.rages().await?;
    }
    Ok(())
}

pub(super) async fn forget_scripts(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..10 {
        field.servers.standalone()?.command(&["SCRIPT", "FLUSH"]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

pub(super) async fn no_memory(field: &mut Field) -> anyhow::Result<()> {
    field.servers.standalone()?.command(&["CONFIG", "SET", "maxmemory", "1"]);
    tokio::time::sleep(LONG).await;
    field.servers.standalone()?.command(&["CONFIG", "SET", "maxmemory", "0"]);
    Ok(())
}
