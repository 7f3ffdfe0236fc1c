//! What somebody else writes where only nodes should.

use std::time::Duration;

use super::Field;

/// Bytes that are no record, parts of records, and records under the key of another.
pub(super) async fn records(field: &mut Field) -> anyhow::Result<()> {
    let script = r"
        local keys = redis.call('KEYS', 'ec:*:v:*')
        for i, key in ipairs(keys) do
          local bytes = redis.call('GET', key)
          local kind = i % 4
          -- One that has just expired.
          if not bytes or bytes == '' then bytes = 'x' end
          if kind == 0 then bytes = 'nonsense'
          elseif kind == 1 then bytes = bytes:sub(1, math.floor(#bytes / 2))
          elseif kind == 2 then bytes = redis.call('GET', keys[1]) or 'x'
          else bytes = bytes:sub(1, -2) .. string.char((bytes:byte(-1) + 1) % 256) end
          redis.call('SET', key, bytes, 'PX', 60000)
        end";
    for _ in 0..10 {
        field.servers.standalone()?.command(&["EVAL", script, "0"]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Hints of no form and of epochs far ahead, and entries of the log that nobody can read.
pub(super) async fn events(field: &mut Field) -> anyhow::Result<()> {
    let script = r"
        for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS')) do
          redis.call('PUBLISH', channel, 'nonsense')
          redis.call('PUBLISH', channel, struct.pack('>I4I8I8', 0, 9007199254740000, 1) .. 'forged')
        end
        for _, log in ipairs(redis.call('KEYS', 'ec:*:l')) do
          redis.call('XADD', log, redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1][1]:match('^%d+') .. '-*', 'd', 'forged')
        end";
    for _ in 0..5 {
        field.servers.standalone()?.command(&["EVAL", script, "0"]);
        field.storm.rages().await?;
    }
    Ok(())
}
