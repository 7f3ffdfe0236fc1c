//! What happens to masters and to what they have.

use std::time::Duration;

use anyhow::bail;

use super::Field;
use crate::deployment::Servers;

/// The replica has an earlier state. It becomes the master at the address of the old one, and gives ids to other events
/// than those that had them.
pub(super) async fn lossy_failover(field: &mut Field) -> anyhow::Result<()> {
    let Servers::Replicated(deployment) = &mut field.servers else {
        bail!("a master with a replica is needed")
    };
    // From here on nothing reaches the replica; it stays with the data that it has.
    deployment.promote(0);
    tokio::time::sleep(Duration::from_millis(100)).await;
    field.storm.rages().await?;
    let Servers::Replicated(deployment) = &mut field.servers else {
        bail!("a master with a replica is needed")
    };
    // The old master takes over the replica's data, as one that comes back after a failover does, and is promoted.
    let replica = deployment.replicas[0].addr().port().to_string();
    deployment.master.command(&["REPLICAOF", "127.0.0.1", &replica]);
    while deployment.master.info("replication", "master_link_status") != "up" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    deployment.master.command(&["REPLICAOF", "NO", "ONE"]);
    field.storm.rages().await
}

pub(super) async fn kill_sentinel_master(field: &mut Field) -> anyhow::Result<()> {
    let Servers::Sentinel(deployment) = &mut field.servers else { bail!("Sentinels are needed") };
    tokio::task::block_in_place(|| {
        let killed = deployment.kill_master(0);
        deployment.wait_for_failover(0, killed);
    });
    Ok(())
}

pub(super) async fn kill_cluster_master(field: &mut Field) -> anyhow::Result<()> {
    let Servers::Cluster(cluster) = &mut field.servers else { bail!("a Cluster is needed") };
    tokio::task::block_in_place(|| {
        cluster.nodes[1].kill();
        cluster.wait_for_failover(8_000, 1);
    });
    Ok(())
}

/// Of the first node a stretch with three of its partitions goes to the third, slot by slot.
pub(super) async fn reshard(field: &mut Field) -> anyhow::Result<()> {
    let Servers::Cluster(cluster) = &mut field.servers else { bail!("a Cluster is needed") };
    tokio::task::block_in_place(|| {
        for slot in (0..1_536).filter(|slot| !cluster.keys_of(0, *slot).is_empty()) {
            cluster.move_slot(slot, 2);
        }
    });
    Ok(())
}
