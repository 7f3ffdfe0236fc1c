//! The cache: memory in front of a shared store, kept coherent by events.
//!
//! A [`TieredCache`] has typed namespaces. A read looks into L1 (this process), then into L2 (the store), then asks the
//! source; a change drops every copy on every node. What holds whatever is lost, late or repeated on the way: after
//! an invalidation was acknowledged no node serves the old value for longer than the staleness bound, and a slow
//! load never puts back what an invalidation removed.

#[macro_use]
mod mutation;

mod acknowledge;
mod answer;
mod audit;
mod cache;
mod coarse_clock;
mod core;
mod error;
mod event_draft;
mod explain;
mod flight;
mod freshness;
mod handlers;
mod hot;
mod json;
mod load;
mod outbox;
mod parts;
mod patch;
mod read;
mod receive;
mod settings;
mod shed;
mod space;
pub mod staleness;
mod stats;
mod times;
mod traces;
mod typed;
mod updates;
mod write;

pub use acknowledge::Acknowledge;
pub use answer::{Answer, Loaded, PutOutcome, ReadOptions, Tier, Tiers, WriteOptions, Written};
pub use audit::{AuditSettings, AuditSource, AuditStats, Cause, Violation};
pub use cache::{Builder, Health, PolicyFactory, TieredCache};
pub use coarse_clock::CoarseClock;
pub use error::{BuildError, NamespaceError, ReadError, SourceError, WriteError, WrongNamespace};
pub use event_draft::EventDraft;
pub use explain::{Explained, Fact, Judged, Looked, Refusal, Resident};
pub use freshness::{Freshness, FreshnessError};
pub use handlers::{EventHandler, Notice};
pub use json::JsonCache;
pub use patch::{Patch, UpdateOutcome};
pub use receive::Observer;
pub use settings::{CodecChoice, Degraded, NamespaceSettings, NodeSettings, Updates};
pub use shed::Shed;
pub use space::Cacheable;
pub use stats::{Latency, NamespaceStats};
pub use times::{L2Op, OpTimes, ReadTimes, SpaceTimes, Times, Timings};
pub use traces::TRACES;
pub use typed::TypedCache;

pub use cache_bus::{BusConfig, FlushCause, State};

/// The example of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
