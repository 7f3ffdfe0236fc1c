//! What an event says.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Namespace, NodeId, Partition, Position, Scope};

/// The kind of an event. Open: every application adds its own; only `manual_invalidation` is built in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventKind(Cow<'static, str>);

impl EventKind {
    /// An invalidation that somebody asked for.
    pub const MANUAL_INVALIDATION: Self = Self::from_static("manual_invalidation");

    /// A kind known at compile time.
    pub const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// A kind known at run time.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// A kind that came over the wire. The one that every node knows takes no memory.
    pub(crate) fn read(name: &str) -> Self {
        if name == Self::MANUAL_INVALIDATION.as_str() { Self::MANUAL_INVALIDATION } else { Self::new(name) }
    }

    /// The name of the kind.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of an event: a UUID of version 7, by which handlers recognise duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// An id from the caller's clock (milliseconds since the Unix epoch) and ten random bytes.
    pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The id with these sixteen bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The UUID.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something happened to the truth: what, to which resource, and which cached copies it concerns.
///
/// As JSON this is what the public channel carries; in the log and in hints it travels in the binary [`wire`]
/// format.
///
/// [`wire`]: crate::wire
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheEvent {
    /// What happened.
    pub event_type: EventKind,
    /// The resource that it happened to, in the words of the application.
    pub resource_id: String,
    /// Anything else that handlers want to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// When, in milliseconds since the Unix epoch, by the clock of the store as well as the origin knows that (by its own before
    /// it has heard of the store).
    pub timestamp: u64,
    /// The node where it happened.
    pub source_node: NodeId,
    /// The identity of the event; the parts of one event in several partitions share it.
    pub event_id: EventId,
    /// The namespaces whose entries it concerns.
    pub affected_namespaces: Vec<Namespace>,
    /// The entries that it invalidates. Empty for an event without a write.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// Why, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether handlers and the public channel hear of it. Coherence always does.
    #[serde(default = "yes")]
    pub announce: bool,
}

fn yes() -> bool {
    true
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequenced {
    /// The partition.
    pub partition: Partition,
    /// The position in that partition's log.
    pub position: Position,
    /// The event.
    pub event: CacheEvent,
}
