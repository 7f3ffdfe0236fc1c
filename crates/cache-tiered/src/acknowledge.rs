//! When a write counts as acknowledged: how sure it is to stay, and how far it has come.

use std::time::Duration;

use cache_events::{Partition, Position};
use cache_l2::StoreError;

use crate::core::Core;

/// Waits between two looks at where the nodes stand: doubles from the first to the second.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// What two clocks may differ by: one part in a thousand in rate each, and the error of the coarse clock of the hit path.
const RATE: u32 = 500;
const COARSE: Duration = Duration::from_millis(10);

/// When a write counts as acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// The master has it. Other nodes serve the old value for at most the staleness bound; a failover may lose the write,
    /// and then everything is invalidated.
    #[default]
    Master,
    /// So many replicas of the master have it as well, so that a failover to one of them does not lose it.
    Replicated(u32),
    /// Every node has applied it or trusts nothing from before: none serves the old value unless flagged as stale. Takes until
    /// the next sync of the slowest node, and the staleness bound where one does not sync. The store forgets a node that was cut
    /// off for ten times the bound, or for the bound when the data of the store was lost: such a node may go on serving for
    /// the bound what it loaded from the source just before.
    Barrier,
}

impl Core {
    /// Waits until a step that the master has acknowledged counts as acknowledged.
    pub(crate) async fn acknowledged(
        &self,
        partition: Partition,
        at: Position,
        level: Acknowledge,
    ) -> Result<(), StoreError> {
        match level {
            Acknowledge::Master => Ok(()),
            Acknowledge::Replicated(wanted) => {
                // Half of the deadline, so that there is time for another try with the next master.
                let within = self.settings.write_deadline / 2;
                let replicas = self.store.replicated(partition, at, wanted, within).await?;
                if replicas >= wanted || mutated!("replicas_uncounted") {
                    return Ok(());
                }
                Err(StoreError::Unknown {
                    message: format!("{replicas} of {wanted} replicas have it after {within:?}"),
                })
            }
            Acknowledge::Barrier => self.barrier(partition, at).await,
        }
    }

    /// Waits until every node stands at or behind a position, or the staleness bound is over: by then a node that has
    /// not heard of it trusts nothing that it heard or loaded before.
    async fn barrier(&self, partition: Partition, at: Position) -> Result<(), StoreError> {
        if mutated!("barrier_unwaited") {
            return Ok(());
        }
        let bound =
            self.spaces.values().map(|space| space.settings().staleness_bound).max().unwrap_or_default();
        let bound = bound + bound / RATE + COARSE;
        let all_passed = async {
            let mut wait = LOOK.0;
            while !self.all_passed(partition, at, bound).await {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LOOK.1);
            }
        };
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => {
                Err(StoreError::Unknown { message: "the node stops; who has applied it is not known".into() })
            }
            // By the timer and not by the node's clock: that one leaps when its machine wakes or is set, and the clocks of
            // the others, who still trust what they have, do not.
            _ = tokio::time::timeout(bound, all_passed) => Ok(()),
        }
    }

    async fn all_passed(&self, partition: Partition, at: Position, bound: Duration) -> bool {
        // Who cannot be asked, and who has forgotten: the time decides. A new epoch may have begun on a server that
        // never heard of some node.
        let Ok(roll) = self.store.nodes(partition).await else { return false };
        let bound = bound.as_millis() as u64;
        if roll.epoch_age_ms < bound && !mutated!("barrier_of_a_young_epoch") || roll.head < at {
            return false;
        }
        // However long it was not heard of: one that is cut off trusts what it loads from the source.
        let gone = |age_ms: u64| age_ms > bound && mutated!("barrier_without_the_silent");
        roll.nodes.iter().all(|row| row.node == self.node || row.at >= at || gone(row.age_ms))
    }
}
