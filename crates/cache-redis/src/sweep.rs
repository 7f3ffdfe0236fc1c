//! Removing what a pattern covers: two passes over the names in Redis.
//!
//! SCAN gives every name that is there from its beginning to its end. A fill that was granted before the event may
//! store a record behind the first pass; its lease was still there then, so it is gone after the pass that removes
//! leases as well, and what was stored in between is found by the second pass.

use bb8_redis::redis::{self, Value};
use cache_events::{Key, Namespace, Partition, Pattern, Position};

use crate::dial::{Dialer, Target};
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::layout::{glob_escaped, is_cut};
use crate::nodes::Nodes;
use crate::reply;

/// Names that one SCAN looks at: some 100 µs of the server.
const SCAN_COUNT: u32 = 1000;
/// Keys that one script removes.
const WIPE_KEYS: usize = 250;
/// How long the versions of removed records stay as floors.
const FLOOR_KEEP_MS: u64 = 3_600_000;

pub(crate) async fn twice(
    dialer: &Dialer,
    fleet: &Fleet,
    partition: Partition,
    namespace: &Namespace,
    pattern: &Pattern,
    at: Position,
) -> Result<(), Fault> {
    let master = fleet.master_of(partition).await?;
    firm(dialer, fleet, &master, partition).await?;
    for _ in 0..2 {
        pass(dialer, fleet, &master, partition, namespace, pattern, at).await?;
    }
    firm(dialer, fleet, &master, partition).await
}

/// Whether a node of a Cluster has the slot and is not giving it away: a pass over its names would miss what is under
/// way to another one.
async fn firm(dialer: &Dialer, fleet: &Fleet, master: &Target, partition: Partition) -> Result<(), Fault> {
    if dialer.slots.is_none() {
        return Ok(());
    }
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("NODES");
    let answer = fleet.run_at(master, "CLUSTER NODES", &ask).await?;
    let table = reply::text(&answer).ok_or_else(|| reply::odd("CLUSTER NODES"))?;
    match Nodes::parse(table, "").holds_firmly(dialer.layout.part(partition).slot) {
        true => Ok(()),
        false => Err(Fault::NotDone("the slot is moving: its names cannot be listed".into())),
    }
}

async fn pass(
    dialer: &Dialer,
    fleet: &Fleet,
    master: &Target,
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
        let (next, names) = page(fleet.run_at(master, "SCAN", &scan).await?)?;
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
            fleet.eval(partition, script, &cmd).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

/// Removes every name of the deployment, data and structure alike, from all masters.
pub(crate) async fn everything(dialer: &Dialer, fleet: &Fleet) -> Result<(), Fault> {
    let glob = glob_escaped(&dialer.layout.stem()) + "*";
    for master in fleet.masters().await? {
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&glob).arg("COUNT").arg(SCAN_COUNT);
            let (next, mut names) = page(fleet.run_at(&master, "SCAN", &scan).await?)?;
            // In a Cluster one command is about one slot.
            names.sort_unstable_by(|a, b| tag_of(a).cmp(tag_of(b)));
            let in_cluster = dialer.slots.is_some();
            for names in names.chunk_by(|a, b| !in_cluster || tag_of(a) == tag_of(b)) {
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(names);
                fleet.run_at(&master, "UNLINK", &unlink).await?;
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    Ok(())
}

/// What stands between the braces of a name.
fn tag_of(name: &str) -> &str {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    tag.map_or("", |(tag, _)| tag)
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
