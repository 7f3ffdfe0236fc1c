//! What the bus tells the tier that it keeps coherent.

use cache_events::{CacheEvent, Partition, Position};

use crate::{Cargo, GroupStamp};

/// Takes what the bus learns into this node's own tier. It never reaches the store.
///
/// All methods are called in order, one at a time, under the lock of the bus and before the cursor, epoch or
/// freshness that they lead to shows in the [`View`](crate::View). So they must be short, must not wait and must not
/// call the [`Bus`](crate::Bus) (reading its view is fine). A panic is caught and answered with a flush.
pub trait Receiver: Send + Sync + 'static {
    /// An event was appended at this position. Must be idempotent and indifferent to order: an event may come
    /// ahead of its predecessors and again later.
    ///
    /// `first` is false if the bus knows that it has applied this position before, so that handlers and figures can
    /// count once. It remembers the last `ahead_max` positions; beyond them, and after a flush, a repetition counts
    /// as first. Writes reported with [`Bus::wrote`](crate::Bus::wrote) count as applied.
    fn apply(&self, partition: Partition, position: Position, event: &CacheEvent, first: bool);

    /// Like [`apply`](Self::apply), for an event whose hint brought what changes by it. Nothing later of the partition
    /// was applied, save what [`Bus::wrote`](crate::Bus::wrote) has not reported yet. The cargo is only a chance to spare a
    /// load: a receiver that does not take it must do what the event says, and that is what this does if left out.
    fn update(
        &self,
        partition: Partition,
        position: Position,
        event: &CacheEvent,
        cargo: &Cargo,
        first: bool,
    ) {
        let _ = cargo;
        self.apply(partition, position, event, first);
    }

    /// Everything up to here was applied, or flushed past: what was applied ahead of its predecessors has them now.
    fn stands(&self, partition: Partition, position: Position) {
        let _ = (partition, position);
    }

    /// How an event is treated while hints come faster than they are applied. Asked only then, without the lock of the bus
    /// and in any order.
    fn turn(&self, event: &CacheEvent) -> Turn {
        let _ = event;
        Turn::Each
    }

    /// Events may be missing: nothing of this partition that was there before may be served as fresh. From here on
    /// the partition stands in `epoch`.
    ///
    /// `groups` are the stamps that the log's meta knows. In a new epoch they replace the table; in the same epoch
    /// they are merged into it, the later stamp of each group wins (an event applied ahead may know more).
    fn flush(&self, partition: Partition, epoch: u64, groups: &[GroupStamp], cause: FlushCause);
}

/// How an event is treated while hints wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turn {
    /// Before all that is not so urgent.
    First,
    /// In the order in which it came.
    Each,
    /// The same; and if it concerns one key alone, a later such event may stand for it, so that it is never applied itself.
    Latest,
}

/// Why a partition was flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlushCause {
    /// The first answer after the start: there was nothing to miss.
    Joined,
    /// The log no longer has what was missed.
    Gap,
    /// The partition has another epoch.
    Epoch,
    /// The log holds something that this node cannot read, or the answer did not fit together, or the receiver
    /// panicked. The first such flush has no groups (those known stay); a second one brings them before the
    /// partition is fresh again.
    Unreadable,
}
