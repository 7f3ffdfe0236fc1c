//! What happens to processes and to clocks.

use std::time::Duration;

use super::{Field, LONG};

const HOUR: Duration = Duration::from_secs(3_600);

/// The process of the node apart stands still for longer than the bound. While it does, every key is asked for there, so
/// that it has to answer in the instant in which it goes on, before it can have heard of anything.
pub(super) async fn pause_node(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..2 {
        field.storm.apart()?.pause();
        tokio::time::sleep(LONG).await;
        let asked = field.storm.ask_apart();
        // The questions are written before it goes on.
        tokio::time::sleep(Duration::from_millis(200)).await;
        field.storm.apart()?.resume();
        let live = field.storm.live().await?;
        field.figure(format!("live {} ms after SIGCONT", live.as_millis()));
        asked.join_all().await;
        field.storm.rages().await?;
    }
    Ok(())
}

/// The wall clock of one node after the other is put forward by an hour, which is also what a suspended machine sees when
/// it wakes up (the engine's clock goes by the larger delta), and put back.
pub(super) async fn node_clocks(field: &mut Field) -> anyhow::Result<()> {
    for node in 0..field.lines.len() {
        field.lines[node].clock.forward(HOUR);
        field.storm.rages().await?;
        field.lines[node].clock.back(HOUR * 2);
        field.storm.rages().await?;
        field.lines[node].clock.forward(HOUR);
        field.storm.rages().await?;
    }
    Ok(())
}

/// The epoch is one that the server began while its clock was an hour ahead; now that clock is right again, and the
/// server loses everything: what it begins next must lie above.
pub(super) async fn server_clock(field: &mut Field) -> anyhow::Result<()> {
    let ahead = r"
        for _, meta in ipairs(redis.call('KEYS', 'ec:*:m')) do
          local now = redis.call('TIME')
          redis.call('HSET', meta, 'e', string.format('%.0f', (now[1] + 3600) * 1e6 + now[2]))
        end
        for _, log in ipairs(redis.call('KEYS', 'ec:*:l')) do redis.call('DEL', log) end";
    let epoch = |field: &Field| field.storm.nodes()[0].position(cache_events::Partition(0)).epoch;
    let before = epoch(field);
    field.servers.standalone()?.command(&["EVAL", ahead, "0"]);
    field.storm.rages().await?;
    field.storm.live().await?;
    let future = epoch(field);
    anyhow::ensure!(future > before + HOUR.as_micros() as u64 / 2, "{future} does not lie ahead of {before}");
    for _ in 0..3 {
        field.servers.standalone()?.command(&["FLUSHALL"]);
        field.storm.rages().await?;
    }
    field.storm.live().await?;
    anyhow::ensure!(epoch(field) > future, "{} after {future}", epoch(field));
    Ok(())
}
