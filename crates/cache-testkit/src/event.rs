//! An event of which only what it invalidates is of interest.

use cache_events::{CacheEvent, EventId, EventKind, NodeId, Scope};

/// An event of another node that invalidates these.
///
/// # Panics
/// Never: the name of the node is one.
pub fn event(scopes: Vec<Scope>) -> CacheEvent {
    CacheEvent {
        event_type: EventKind::MANUAL_INVALIDATION,
        resource_id: "r".into(),
        data: None,
        timestamp: 0,
        source_node: NodeId::new("other").expect("letters alone"),
        event_id: EventId::from_bytes([0; 16]),
        affected_namespaces: Vec::new(),
        scopes,
        reason: None,
        announce: true,
    }
}
