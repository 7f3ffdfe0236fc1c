//! Spans of what leaves L1, for whoever traces requests through the cache.
//!
//! They are at the level of debugging and under a target of their own, so that a log does not show them and a subscriber
//! that wants none of them makes each cost a look at a static. A hit in L1 makes none.

use cache_events::{Key, Namespace};
use tracing::{Span, debug_span};

/// The target of all spans for traces: a subscriber selects them by it.
pub const TRACES: &str = "edgecache::traces";

/// A read that L1 did not answer.
pub(crate) fn read(key: &Key) -> Span {
    debug_span!(target: TRACES, "cache.read", cache.namespace = key.namespace().as_str(), cache.key = %key)
}

/// A read of many keys, of which L1 did not answer so many.
pub(crate) fn read_many(namespace: &Namespace, keys: usize, missing: usize) -> Span {
    debug_span!(
        target: TRACES,
        "cache.read_many",
        cache.namespace = namespace.as_str(),
        cache.keys = keys,
        cache.missing = missing,
    )
}

/// A load that this caller leads; its waiters have only their reads.
pub(crate) fn load(key: &Key) -> Span {
    debug_span!(target: TRACES, "cache.load", cache.namespace = key.namespace().as_str(), cache.key = %key)
}

/// A put.
pub(crate) fn put(key: &Key) -> Span {
    debug_span!(target: TRACES, "cache.put", cache.namespace = key.namespace().as_str(), cache.key = %key)
}

/// An event with what it invalidates.
pub(crate) fn invalidate(kind: &str, resource: &str) -> Span {
    debug_span!(target: TRACES, "cache.invalidate", event.kind = kind, event.resource = resource)
}
