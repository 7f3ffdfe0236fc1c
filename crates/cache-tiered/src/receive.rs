//! The receiving side: what other nodes say is done to this node's own L1, and to nothing else.
//!
//! [`Local`] holds no store: by type, an event that arrives cannot touch L2.

use std::sync::Arc;

use cache_bus::{FlushCause, GroupStamp, Receiver};
use cache_events::{
    CacheEvent, EventId, Key, Namespace, NodeId, Partition, Pattern, Position, Scope, Sequenced,
};
use cache_l1::{Fence, Origin};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

use crate::handlers::Handlers;

/// Watches what this node applies; for measuring and for tests. Called under the lock of the bus: keep it short.
pub trait Observer: Send + Sync + 'static {
    /// An event was applied here, for the first time at this position.
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent);

    /// A partition was flushed; it stands in this epoch now.
    fn flushed(&self, partition: Partition, epoch: u64, cause: FlushCause) {
        let _ = (partition, epoch, cause);
    }
}

/// What the receiving side may do to one namespace.
pub(crate) trait LocalSpace: Send + Sync {
    fn invalidate_key(&self, key: &Key, event: Origin);
    fn invalidate_resource(&self, resource_hash: u64, event: Origin);
    fn invalidate_pattern(&self, pattern: &Pattern, partition: Partition, event: Origin);
    fn count_invalidation(&self);
}

/// This node's own tier, as the bus and the local half of a write see it.
pub(crate) struct Local {
    pub(crate) node: NodeId,
    pub(crate) fence: Arc<Fence>,
    pub(crate) spaces: HashMap<Namespace, Arc<dyn LocalSpace>>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Own events whose step has not been answered yet: the writer applies them itself when it has the answer (and
    /// unconditionally when it gets none), so that an own put is not dropped by its own hint.
    pending: Mutex<HashSet<EventId>>,
}

/// An own event in flight. Dropped without having been applied (no answer, cancelled), it drops whatever its scopes
/// cover, since its hint may have come and been left to the writer.
pub(crate) struct Pending<'a> {
    local: &'a Local,
    id: EventId,
    partition: Partition,
    scopes: &'a [Scope],
    applied: bool,
}

impl Pending<'_> {
    /// The writer has applied the event at its position.
    pub(crate) fn applied(mut self) {
        self.applied = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // First out of the set: a hint that comes from here on is applied like any other.
        self.local.pending.lock().remove(&self.id);
        if !self.applied {
            self.local.apply_scopes(self.partition, Origin::MAX, self.scopes);
        }
    }
}

impl Local {
    pub(crate) fn new(
        node: NodeId,
        fence: Arc<Fence>,
        spaces: HashMap<Namespace, Arc<dyn LocalSpace>>,
        handlers: Arc<Handlers>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        Self { node, fence, spaces, handlers, observer, pending: Mutex::default() }
    }

    /// The local half of a write before it is sent: drops what the event covers, detaches the flights, and leaves
    /// applying the event itself to the caller.
    pub(crate) fn begin<'a>(&'a self, partition: Partition, event: &'a CacheEvent) -> Pending<'a> {
        self.pending.lock().insert(event.event_id);
        self.apply_scopes(partition, Origin::MAX, &event.scopes);
        Pending { local: self, id: event.event_id, partition, scopes: &event.scopes, applied: false }
    }

    /// Drops what the scopes cover and is older than the event; [`Origin::MAX`] drops whatever is there.
    pub(crate) fn apply_scopes(&self, partition: Partition, event: Origin, scopes: &[Scope]) {
        for scope in scopes {
            let space = scope.namespace().and_then(|namespace| self.spaces.get(namespace));
            match scope {
                Scope::Key(key) => {
                    if let Some(space) = space {
                        space.invalidate_key(key, event);
                    }
                }
                Scope::Resource { namespace, resource } => {
                    if let Some(space) = space {
                        let hash = cache_events::resource_hash(namespace, resource);
                        space.invalidate_resource(hash, event);
                    }
                }
                Scope::Pattern { pattern, .. } => {
                    if let Some(space) = space {
                        space.invalidate_pattern(pattern, partition, event);
                    }
                }
                // A stamp needs a position: before the answer there is nothing to stamp with, and nothing to do,
                // since nothing was acknowledged yet.
                Scope::Tag(_) | Scope::Namespace(_) => {
                    if let Some(group) = scope.group()
                        && event != Origin::MAX
                    {
                        self.fence.stamp(partition.0, group.id(), event.seq);
                    }
                }
                // Everything: the new epoch that carries the event has flushed it already.
                _ => {}
            }
            if let Some(space) = space
                && event != Origin::MAX
            {
                space.count_invalidation();
            }
        }
    }
}

impl Receiver for Local {
    fn apply(&self, partition: Partition, position: Position, event: &CacheEvent, first: bool) {
        let own = event.source_node == self.node;
        if !(own && self.pending.lock().contains(&event.event_id)) {
            self.apply_scopes(partition, Origin { epoch: position.epoch, seq: position.seq }, &event.scopes);
        }
        if first {
            if let Some(observer) = &self.observer {
                observer.applied(partition, position, event);
            }
            if !own {
                self.handlers.offer(&Sequenced { partition, position, event: event.clone() });
            }
        }
    }

    fn flush(&self, partition: Partition, epoch: u64, groups: &[GroupStamp], cause: FlushCause) {
        let groups: Vec<(u64, u64)> = groups.iter().map(|stamp| (stamp.group, stamp.seq)).collect();
        self.fence.flush(partition.0, epoch, &groups);
        tracing::info!(%partition, epoch, ?cause, "flushed L1");
        if let Some(observer) = &self.observer {
            observer.flushed(partition, epoch, cause);
        }
        if cause != FlushCause::Joined {
            self.handlers.missed(partition);
        }
    }
}
