//! Removing what a pattern covers: two passes over the names in Redis.
//!
//! SCAN gives every name that is there from its beginning to its end. A fill that was granted before the event may
//! store a record behind the first pass; its lease was still there then, so it is gone after the pass that removes
//! leases as well, and what was stored in between is found by the second pass.

use bb8_redis::redis::{self, Value};
use cache_events::{Key, Namespace, Partition, Pattern, Position};

use crate::dial::Dialer;
use crate::fault::Fault;
use crate::lanes::Lanes;
use crate::layout::{glob_escaped, is_cut};
use crate::reply;

/// Names that one SCAN looks at: some 100 µs of the server.
const SCAN_COUNT: u32 = 1000;
/// Keys that one script removes.
const WIPE_KEYS: usize = 250;
/// How long the versions of removed records stay as floors.
const FLOOR_KEEP_MS: u64 = 3_600_000;

pub(crate) async fn twice(
    dialer: &Dialer,
    lanes: &Lanes,
    partition: Partition,
    namespace: &Namespace,
    pattern: &Pattern,
    at: Position,
) -> Result<(), Fault> {
    for _ in 0..2 {
        pass(dialer, lanes, partition, namespace, pattern, at).await?;
    }
    Ok(())
}

async fn pass(
    dialer: &Dialer,
    lanes: &Lanes,
    partition: Partition,
    namespace: &Namespace,
    pattern: &Pattern,
    at: Position,
) -> Result<(), Fault> {
    let part = dialer.layout.part(partition);
    let glob = part.glob(namespace);
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&glob).arg("COUNT").arg(SCAN_COUNT);
        let (next, names) = page(lanes.run("SCAN", &scan).await?)?;
        let mut texts: Vec<&str> = names.iter().filter_map(|name| part.text_of(name)).collect();
        // Record and lease of one key are removed together.
        texts.sort_unstable();
        texts.dedup();
        texts.retain(|text| covered(text, pattern));
        for chunk in texts.chunks(WIPE_KEYS) {
            let script = &dialer.scripts.wipe;
            let mut cmd = dialer.begin(script, partition, at, 3 * chunk.len(), |cmd| {
                for text in chunk {
                    cmd.arg(&part.names_of(text));
                }
            });
            cmd.arg(FLOOR_KEEP_MS);
            lanes.eval(script, &cmd).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// Removes every name of the deployment, data and structure alike.
pub(crate) async fn everything(dialer: &Dialer, lanes: &Lanes) -> Result<(), Fault> {
    let glob = glob_escaped(&dialer.layout.stem()) + "*";
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&glob).arg("COUNT").arg(SCAN_COUNT);
        let (next, names) = page(lanes.run("SCAN", &scan).await?)?;
        if !names.is_empty() {
            let mut unlink = redis::cmd("UNLINK");
            names.iter().for_each(|name| {
                unlink.arg(name);
            });
            lanes.run("UNLINK", &unlink).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// A cut text does not tell its fields, nor does one that is not ours; to remove too much is safe.
fn covered(text: &str, pattern: &Pattern) -> bool {
    is_cut(text) || Key::parse(text).map_or(true, |key| pattern.covers(&key))
}

fn page(answer: Value) -> Result<(u64, Vec<String>), Fault> {
    let Value::Array(page) = answer else { return Err(reply::odd("SCAN")) };
    let Ok([cursor, Value::Array(names)]) = <[Value; 2]>::try_from(page) else {
        return Err(reply::odd("SCAN"));
    };
    let cursor = reply::number(&cursor).ok_or_else(|| reply::odd("SCAN"))?;
    // Names that are not UTF-8 are not ours.
    Ok((cursor, names.iter().filter_map(|name| reply::text(name).map(str::to_owned)).collect()))
}
