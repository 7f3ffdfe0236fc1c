//! What happens to masters and to what they have.

use std::time::Duration;

use cache_testkit::{Fault, FaultProxy, RedisServer};

use super::{Field, LONG};
use crate::storm::{BOUND, until};

/// The replica has an earlier state. It becomes the master at the address of the old one, and gives ids to other events
/// than those that had them.
pub(super) async fn lossy_failover(field: &mut Field) -> anyhow::Result<()> {
    // From here on nothing reaches the replica; it stays with the data that it has.
    field.servers.replicated()?.promote(0);
    field.storm.rages().await?;
    let deployment = field.servers.replicated()?;
    // The old master takes over the replica's data, as one that comes back after a failover does, and is promoted.
    let replica = deployment.replicas[0].addr().port().to_string();
    deployment.master.command(&["REPLICAOF", "127.0.0.1", &replica]);
    while deployment.master.info("replication", "master_link_status") != "up" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    deployment.master.command(&["REPLICAOF", "NO", "ONE"]);
    field.storm.rages().await
}

/// From A to B and back to A, which knows nothing of what happened at B: its records of then are all still there.
pub(super) async fn there_and_back(field: &mut Field) -> anyhow::Result<()> {
    let Field { servers, lines, storm, .. } = field;
    let deployment = servers.replicated()?;
    for _ in 0..2 {
        deployment.promote(0);
        lines.iter().for_each(|line| line.lead_to(&deployment.replicas[0]));
        storm.rages().await?;
        storm.live().await?;
        storm.rages().await?;
        lines.iter().for_each(|line| line.lead_to(&deployment.master));
        storm.rages().await?;
        storm.live().await?;
    }
    Ok(())
}

/// Two nodes and one replica on the one side, where the replica becomes the master; the old master and one node on the
/// other. Nobody is told: bytes between the sides vanish. Nodes on the side of the old master only read: what it
/// acknowledges before it has noticed is known to nobody else.
pub(super) async fn split_brain(field: &mut Field) -> anyhow::Result<()> {
    let Field { servers, lines, storm, figures } = field;
    let deployment = servers.replicated()?;
    let (old, new, witness) = (&deployment.master, &deployment.replicas[0], &deployment.replicas[1]);
    // The replicas follow over lines that can be cut without a word.
    let mut between = Vec::new();
    for replica in [new, witness] {
        let line = FaultProxy::start(old.addr()).await?;
        replica.command(&["REPLICAOF", "127.0.0.1", &line.addr().port().to_string()]);
        between.push(line);
    }
    until("the replicas follow", || {
        [new, witness].iter().all(|replica| replica.info("replication", "master_link_status") == "up")
    })
    .await?;
    storm.live().await?;
    storm.rages().await?;

    between.iter().for_each(|line| line.set(Fault::BlackHole));
    new.command(&["REPLICAOF", "NO", "ONE"]);
    witness.command(&["REPLICAOF", "127.0.0.1", &new.addr().port().to_string()]);
    lines[..2].iter().for_each(|line| line.lead_to(new));
    let refuses = |server: &RedisServer| match server.try_command(&[b"SET", b"outside", b"x"]) {
        Ok(reply) => format!("{reply:?}").contains("NOREPLICAS"),
        Err(_) => false,
    };
    let began = crate::storm::now();
    until("the old master refuses writes", || refuses(old)).await?;
    figures
        .push(format!("the old master refused writes {} ms after it was alone", began.elapsed().as_millis()));
    let nodes = storm.nodes();
    until("the node beside it has no trust", || !nodes[2].health().live).await?;
    until("the others are live", || nodes[..2].iter().all(|node| node.health().live)).await?;
    tokio::time::sleep(LONG).await;
    anyhow::ensure!(refuses(old) && !refuses(new), "the wrong one of the two masters takes writes");

    // It is over: the old master follows the new one, and the node finds that.
    old.command(&["REPLICAOF", "127.0.0.1", &new.addr().port().to_string()]);
    lines[2].lead_to(new);
    let live = storm.live().await?;
    figures.push(format!("the node beside it was live {} ms after it found the new one", live.as_millis()));
    Ok(())
}

/// How stale a read may be when the sides part in the instant of the promotion. A lag of 1 s is allowed; Redis counts it in
/// whole seconds and looks once a second, so that up to 2 s more go by before the old master refuses.
pub(super) const SPLIT_BOUND: Duration = BOUND.saturating_add(Duration::from_secs(3));

pub(super) async fn kill_sentinel_master(field: &mut Field) -> anyhow::Result<()> {
    let deployment = field.servers.sentinel()?;
    let away = waiting(|| {
        let killed = deployment.kill_master(0);
        deployment.wait_for_failover(0, killed);
    });
    live_again(field, away).await
}

pub(super) async fn ask_sentinel(field: &mut Field) -> anyhow::Result<()> {
    let deployment = field.servers.sentinel()?;
    let away = waiting(|| {
        let from = deployment.master_of(0);
        deployment.sentinels[0].command(&["SENTINEL", "FAILOVER", &deployment.shards[0].name]);
        deployment.wait_for_failover(0, from);
    });
    live_again(field, away).await
}

pub(super) async fn kill_cluster_master(field: &mut Field) -> anyhow::Result<()> {
    let cluster = field.servers.cluster()?;
    let away = waiting(|| {
        cluster.nodes[1].kill();
        cluster.wait_for_failover(8_000, 1);
    });
    live_again(field, away).await
}

pub(super) async fn ask_cluster(field: &mut Field) -> anyhow::Result<()> {
    let cluster = field.servers.cluster()?;
    let away = waiting(|| cluster.fail_over_to(3));
    live_again(field, away).await
}

/// Waits for servers, in a thread that may; says how long that took.
fn waiting(what: impl FnOnce()) -> Duration {
    let began = crate::storm::now();
    tokio::task::block_in_place(what);
    began.elapsed()
}

async fn live_again(field: &mut Field, away: Duration) -> anyhow::Result<()> {
    let live = field.storm.live().await?;
    field.figure(format!(
        "another master after {} ms, all nodes live {} ms after that",
        away.as_millis(),
        live.as_millis()
    ));
    Ok(())
}

/// Of the first node a stretch with three of its partitions goes to the third, slot by slot.
pub(super) async fn reshard(field: &mut Field) -> anyhow::Result<()> {
    let cluster = field.servers.cluster()?;
    tokio::task::block_in_place(|| {
        for slot in (0..1_536).filter(|slot| !cluster.keys_of(0, *slot).is_empty()) {
            cluster.move_slot(slot, 2);
        }
    });
    Ok(())
}
