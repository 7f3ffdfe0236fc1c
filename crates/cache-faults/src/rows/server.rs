//! What happens to one server.

use std::time::Duration;

use super::{Field, LONG};
use crate::storm::BOUND;

pub(super) async fn kill_pubsub(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..8 {
        field.servers.standalone()?.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

pub(super) async fn restart_empty(field: &mut Field) -> anyhow::Result<()> {
    for away in [Duration::from_millis(200), LONG] {
        field.servers.standalone()?.kill();
        tokio::time::sleep(away).await;
        field.servers.standalone()?.restart_empty();
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
        field.storm.rages().await?;
    }
    Ok(())
}

pub(super) async fn flush_all(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..5 {
        field.servers.standalone()?.command(&["FLUSHALL"]);
        field.storm.rages().await?;
    }
    Ok(())
}

/// Removes the keys of the deployment that end so.
async fn lose(field: &mut Field, end: &str) -> anyhow::Result<()> {
    for _ in 0..5 {
        let server = field.servers.standalone()?;
        let pattern = format!("ec:*{end}");
        let script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";
        server.command(&["EVAL", script, "0", &pattern]);
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
