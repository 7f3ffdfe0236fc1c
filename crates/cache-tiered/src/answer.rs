//! What a read gives, and what a caller may ask of it.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Position, Tag, Version, WriteToken};

use crate::acknowledge::Acknowledge;
use crate::freshness::Freshness;

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The memory of this process.
    L1,
    /// The shared tier.
    L2,
    /// The source, asked for this very read (or for another caller's that this one joined).
    Source,
}

impl Tier {
    /// `l1`, `l2` or `source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Source => "source",
        }
    }
}

/// A value with what is known about its freshness.
#[derive(Debug)]
pub struct Answer<V> {
    /// The value; `None` = it is known (and cached) that there is none.
    pub value: Option<Arc<V>>,
    /// Where it came from.
    pub tier: Tier,
    /// Milliseconds since it was read from the source.
    pub age_ms: u64,
    /// How many milliseconds ago it was last known that no acknowledged change is missing. The age for a namespace that is
    /// not event-driven; [`u64::MAX`] for a node that never had contact.
    pub lag_ms: u64,
    /// The state of the log that it reflects, at least.
    pub position: Position,
    /// The version that the source gave it.
    pub version: Version,
    /// Served although the staleness bound had passed (only where the namespace permits that).
    pub stale: bool,
}

impl<V> Answer<V> {
    /// Time since it was read from the source.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms)
    }

    /// How long ago it was last known that no acknowledged change is missing.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag_ms)
    }
}

impl<V> Clone for Answer<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), ..*self }
    }
}

/// Which tiers a namespace or one call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tiers {
    /// Memory in front of the shared tier.
    #[default]
    Both,
    /// Memory only; other nodes are still told of changes.
    L1Only,
    /// The shared tier only: nothing stays in memory.
    L2Only,
}

impl Tiers {
    /// Whether L1 takes part.
    pub fn l1(self) -> bool {
        self != Self::L2Only
    }

    /// Whether L2 takes part.
    pub fn l2(self) -> bool {
        self != Self::L1Only
    }
}

/// Wishes of one read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How fresh the answer must be.
    pub freshness: Freshness,
    /// Other tiers than the namespace's.
    pub tiers: Option<Tiers>,
    /// Another hard TTL for a value that this call loads.
    pub ttl: Option<Duration>,
    /// Another [idle time](crate::NamespaceSettings::idle) for what this call puts into L1; zero = none. What is there
    /// already keeps its own.
    pub idle: Option<Duration>,
}

/// Wishes of one write.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Other tiers than the namespace's.
    pub tiers: Option<Tiers>,
    /// Another hard TTL.
    pub ttl: Option<Duration>,
    /// Another [idle time](crate::NamespaceSettings::idle); zero = none.
    pub idle: Option<Duration>,
    /// Labels by which the value can be invalidated.
    pub tags: Vec<Tag>,
    /// Keep the write from handlers and the public channel. Coherence still travels.
    pub silent: bool,
    /// When the write counts as acknowledged.
    pub acknowledge: Acknowledge,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Written {
    /// Where it stands; to be shown to other nodes.
    pub token: WriteToken,
}

/// What a versioned write did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum PutOutcome {
    /// It was stored.
    Stored(Written),
    /// Something at least as new was there (or an invalidation had said that this version is outdated).
    Outdated,
}

/// What a loader brings.
#[derive(Debug, Clone)]
pub struct Loaded<V> {
    /// The value; `None` = there is none, which is cached too (shortly).
    pub value: Option<V>,
    /// The version that the source gives it.
    pub version: Version,
    /// Labels by which the value can be invalidated.
    pub tags: Vec<Tag>,
    /// A hard TTL decided by the value.
    pub ttl: Option<Duration>,
}

impl<V> Loaded<V> {
    /// A value without a version or tags.
    pub fn new(value: V) -> Self {
        Self { value: Some(value), version: Version::NONE, tags: Vec::new(), ttl: None }
    }

    /// "There is none".
    pub fn absent() -> Self {
        Self { value: None, version: Version::NONE, tags: Vec::new(), ttl: None }
    }

    /// Adds the version that the source gives the value.
    #[must_use]
    pub fn versioned(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn tagged(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Sets the hard TTL of this value.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        Self { value, ..Self::absent() }
    }
}
