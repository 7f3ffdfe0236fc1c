//! The port to what carries invalidations between nodes.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_events::{NodeId, Partition, Position};

/// Carries invalidations: lossy, fast hints and the log that makes up for them.
///
/// The receiving side of a node holds a `Transport` and never a store: it cannot touch L2.
/// [`contract`](crate::contract) is the suite that every implementation runs.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// How many partitions the deployment has: at least 1, the same on every node.
    fn partitions(&self) -> u32;

    /// What it is, for diagnostics: `embedded` or `redis`.
    fn kind(&self) -> &'static str;

    /// Opens a stream of hints of all partitions. When it returns, the subscription is in force: everything
    /// published from then on is delivered, overflows or ends the stream. Where partitions are at several servers some of
    /// them may not be heard: the stream says so of each ([`Hint::Unheard`], first thing where it is so from the start),
    /// and what is published there until it says [`Hint::Heard`] is left to syncs.
    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError>;

    /// Asks the log what follows a position, and notes that `node` has applied everything up to it. A write: only
    /// a true master answers it. Returns at most `max` entries.
    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError>;

    /// Says who a node is, for [`roster`](Self::roster), in place of what it said before; with nothing it leaves.
    /// Beside the log: what is said here touches no position, no epoch and no sync. Does nothing where nodes
    /// cannot know of each other.
    async fn introduce(
        &self,
        node: &NodeId,
        description: Option<&Description>,
    ) -> Result<(), TransportError> {
        let _ = (node, description);
        Ok(())
    }

    /// The nodes that said who they are within [`ROSTER_TTL`], in any order.
    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        Ok(Vec::new())
    }
}

/// How long a node stands in the roster that says nothing.
pub const ROSTER_TTL: Duration = Duration::from_secs(30);
/// Nodes in the roster; above it new ones are not noted.
pub const ROSTER_ROWS_MAX: usize = 1_000;

/// What a node says of itself: any bytes, not empty, at most [`BYTES_MAX`](Self::BYTES_MAX) of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description(Bytes);

impl Description {
    /// The most bytes.
    pub const BYTES_MAX: usize = 4096;

    /// A description; `None` where it is empty or too long.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        (!bytes.is_empty() && bytes.len() <= Self::BYTES_MAX).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// A node that said who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterRow {
    /// The node.
    pub node: NodeId,
    /// What it said.
    pub description: Bytes,
    /// How long ago, in milliseconds by the server's clock.
    pub age_ms: u64,
}

/// A subscription. Dropping it ends it.
#[async_trait]
pub trait HintStream: Send {
    /// The next thing that the subscription says. Cancel safe. After [`Hint::Closed`] it says nothing more.
    async fn next(&mut self) -> Hint;

    /// What [`next`](Self::next) would say at once, if anything: never waits. Each hint is followed by this question, so
    /// a stream that has a shorter way to the answer should go it.
    fn ready(&mut self) -> Option<Hint> {
        // Or a stream would seem to have nothing when the task has had its share; who calls this gives way by itself.
        let next = tokio::task::unconstrained(self.next());
        match pin!(next).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(hint) => Some(hint),
            Poll::Pending => None,
        }
    }
}

/// What a subscription says.
#[derive(Debug, Clone)]
pub enum Hint {
    /// An event was appended at this position (an empty payload: a new epoch began).
    Event {
        /// The partition.
        partition: Partition,
        /// The position in its log.
        position: Position,
        /// The envelope, or a carrier with the envelope and what changes (`cache_events::wire::split_carrier`), undecoded.
        payload: Bytes,
    },
    /// Something was received that is not a hint.
    Garbled,
    /// Hints were dropped because this receiver was too slow.
    Overflow,
    /// Hints of this partition do not arrive until [`Heard`](Self::Heard) says so. Those of the others do.
    Unheard(Partition),
    /// Hints of this partition arrive from here on; what was published before may be missing.
    Heard(Partition),
    /// The subscription has ended; subscribe again.
    Closed(String),
}

/// What the log says to a sync.
#[derive(Debug, Clone)]
pub struct SyncAnswer {
    /// The last position of the partition.
    pub head: Position,
    /// Milliseconds since the Unix epoch by the server's clock.
    pub server_ms: u64,
    /// What the node missed.
    pub missed: Missed,
}

/// What a node missed between its position and the head.
#[derive(Debug, Clone)]
pub enum Missed {
    /// These entries, contiguous from the position that was asked about; perhaps not all of them yet.
    Entries(Vec<LogEntry>),
    /// Entries that the log no longer has: flush the partition, take over the group stamps, stand at the head.
    Gap(Vec<GroupStamp>),
    /// The partition has another epoch: flush it, take over the group stamps, stand at the head.
    Reset(Vec<GroupStamp>),
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its position.
    pub position: Position,
    /// The envelope, undecoded.
    pub payload: Bytes,
}

/// The last invalidation of a group in the current epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStamp {
    /// The id of the group (`cache_events::Group::id`).
    pub group: u64,
    /// The sequence of the invalidation.
    pub seq: u64,
}

/// Why the transport did not do what it was asked, by what the caller does next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// It cannot be reached, or did not answer in time. Try again.
    #[error("the invalidation transport is unavailable: {message}")]
    Unavailable {
        /// What was tried and what it said.
        message: String,
    },
    /// This deployment and the transport disagree on their layout; trying again does not help.
    #[error("fenced off from the invalidation transport: {message}")]
    Fenced {
        /// In what they disagree.
        message: String,
    },
}
