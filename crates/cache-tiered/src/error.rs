//! What can go wrong, by what the caller does next.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{NameError, Namespace, wire::WireError};
use cache_l2::{SealError, StoreError};

use crate::freshness::Freshness;

/// What a loader may fail with.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A read failed. An outage of L2 is never one of these: it is a miss and a counter.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The loader failed; every waiter of the flight gets the same cause.
    #[error("the source failed to load {key}: {cause}")]
    Source {
        /// The key.
        key: String,
        /// What the loader said.
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The loader panicked. The key is free for another try.
    #[error("the loader of {key} panicked: {message}")]
    Panicked {
        /// The key.
        key: String,
        /// The panic's message.
        message: String,
    },
    /// The loader took longer than its hard time-out.
    #[error("the source did not load {key} within {limit:?}")]
    Timeout {
        /// The key.
        key: String,
        /// The time-out.
        limit: Duration,
    },
    /// The node is cut off and the namespace is set to fail rather than to serve what may be stale.
    #[error("{namespace} cannot be read: this node has had no proof of freshness for longer than its bound")]
    Degraded {
        /// The namespace.
        namespace: Namespace,
    },
    /// The answer cannot be as fresh as was asked for: loading it took longer than it may be old.
    #[error("no answer for {key} is as fresh as {asked}: it was read from the source {age_ms} ms ago")]
    NotFresh {
        /// The key.
        key: String,
        /// What was asked for.
        asked: Freshness,
        /// Milliseconds since it was read from the source.
        age_ms: u64,
    },
    /// The key is of another namespace than the handle.
    #[error(transparent)]
    WrongNamespace(#[from] WrongNamespace),
    /// The cache was stopped.
    #[error("the cache is stopped")]
    Stopped,
}

/// A write did not happen, or nobody knows whether it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The value cannot be stored (too large, not encodable). Nothing was done.
    #[error(transparent)]
    Value(#[from] SealError),
    /// The event cannot travel. Nothing was done.
    #[error(transparent)]
    Event(#[from] WireError),
    /// A JSON value does not have the namespace's type. Nothing was done.
    #[error("{field}: {message}")]
    Type {
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The shared tier refused for good. This node dropped its own copy.
    #[error(transparent)]
    Refused(StoreError),
    /// No acknowledgement within the deadline: it may or may not have happened. This node dropped its own copies and
    /// goes on trying to invalidate those of the others in the background.
    #[error("not acknowledged within {deadline:?} (tried {attempts} times): {last}")]
    Unacked {
        /// The deadline.
        deadline: Duration,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        last: StoreError,
    },
    /// The key is of another namespace than the handle.
    #[error(transparent)]
    WrongNamespace(#[from] WrongNamespace),
}

/// A key of one namespace was given to the handle of another.
#[derive(Debug, Clone, thiserror::Error)]
#[error("key {key} is not of namespace {expected}")]
pub struct WrongNamespace {
    /// The namespace of the handle.
    pub expected: Namespace,
    /// The key.
    pub key: String,
}

/// The cache could not be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A name was refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two namespaces of one name.
    #[error("namespace {0} is declared twice")]
    Twice(Namespace),
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(String),
}

/// A namespace was asked for that is not there, or with another type of values.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// No such namespace.
    #[error("no namespace {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// It cannot have this TTL.
    #[error("namespace {name} cannot have a TTL of {ttl:?}: it is from 1 ms to {most:?}")]
    Ttl {
        /// The namespace.
        name: String,
        /// What was asked for.
        ttl: Duration,
        /// The longest it can have.
        most: Duration,
    },
    /// It holds values of another type.
    #[error("namespace {name} holds {holds}, not {asked}")]
    OtherType {
        /// The namespace.
        name: String,
        /// The type of its values.
        holds: &'static str,
        /// The type that was asked for.
        asked: &'static str,
    },
}
