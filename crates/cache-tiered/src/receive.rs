//! The receiving side: what other nodes say is done to this node's own L1, and to nothing else.
//!
//! [`Local`] holds no store: by type, an event that arrives cannot touch L2.

use std::sync::{Arc, OnceLock};

use cache_bus::{Cargo, FlushCause, GroupStamp, Receiver, Turn};
use cache_events::{CacheEvent, EventId, Key, Namespace, NodeId, Partition, Pattern, Position, Scope};
use cache_l1::{Fence, Origin};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

use crate::audit::{Audit, Covers, said};
use crate::handlers::Handlers;
use crate::times::NodeTimes;

/// Watches what this node applies. Called under the lock of the bus (save [`wrote`](Self::wrote)): it must be short, must not
/// wait and must not call the cache.
pub trait Observer: Send + Sync + 'static {
    /// An event was applied here, for the first time at this position.
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent);

    /// An event of this node was acknowledged at this position, and its writer has applied it here. Where its hint was
    /// faster, [`applied`](Self::applied) has told of it before. Called by the writer, before the
    /// cursor can have reached the position by that.
    fn wrote(&self, partition: Partition, position: Position, event: &CacheEvent) {
        let _ = (partition, position, event);
    }

    /// Everything up to here was applied, or flushed past: what was applied ahead of its predecessors has them now.
    fn stands(&self, partition: Partition, position: Position) {
        let _ = (partition, position);
    }

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
    fn audit(&self) -> Option<&Audit>;
    fn is_critical(&self) -> bool;
    /// What a hint brought for a key: takes it in place of what L1 holds, if it is of use.
    fn take_update(&self, update: &Update<'_>, is_written: &dyn Fn(u64) -> bool);
}

/// What a hint brought for a key.
pub(crate) struct Update<'a> {
    pub(crate) key: &'a Key,
    pub(crate) position: Position,
    pub(crate) cargo: &'a Cargo,
    /// By this node's clock, in logical milliseconds.
    pub(crate) now: u64,
    /// By the store's, in milliseconds since the Unix epoch.
    pub(crate) server_now: u64,
}

/// What an own event covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// One resource, by its hash.
    Resource(u64),
    /// More.
    Wide,
}

impl Reach {
    fn of(scopes: &[Scope]) -> Self {
        match scopes {
            [Scope::Key(key)] => Self::Resource(key.resource_hash()),
            [Scope::Resource { namespace, resource }] => {
                Self::Resource(cache_events::resource_hash(namespace, resource))
            }
            _ => Self::Wide,
        }
    }
}

/// Tells the time by this node's clock, in logical milliseconds, and by the store's, in milliseconds since the Unix epoch.
pub(crate) type Times = Box<dyn Fn() -> (u64, u64) + Send + Sync>;

/// This node's own tier, as the bus and the local half of a write see it.
pub(crate) struct Local {
    pub(crate) node: NodeId,
    pub(crate) fence: Arc<Fence>,
    pub(crate) spaces: HashMap<Namespace, Arc<dyn LocalSpace>>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    /// Some namespace is watched by the auditor.
    audited: bool,
    /// Known as soon as the bus runs.
    pub(crate) times: OnceLock<Times>,
    taken: Arc<NodeTimes>,
    /// Own events that the bus has not been told of yet. Until their step is answered the writer has to apply them itself
    /// (unconditionally if there is no answer), so that an own put is not dropped by its own hint. And what a hint brings
    /// for what they cover may be older than they are.
    pending: Mutex<HashMap<EventId, Reach>>,
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
    /// The writer has applied the event at its position, and the bus knows.
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
        observers: Vec<Arc<dyn Observer>>,
        taken: Arc<NodeTimes>,
    ) -> Self {
        let (times, pending) = (OnceLock::new(), Mutex::default());
        let audited = spaces.values().any(|space| space.audit().is_some());
        Self { node, fence, spaces, handlers, observers, audited, times, taken, pending }
    }

    /// Notes how long another node's event was on its way.
    fn propagated(&self, event: &CacheEvent) {
        if let Some(times) = self.times.get() {
            // Both offsets are estimates: an event that seems to come from the future came at once.
            let took = times().1.saturating_sub(event.timestamp);
            self.taken.propagation.record(Duration::from_millis(took));
        }
    }

    /// The local half of a write before it is sent: drops what the event covers, detaches the flights, and leaves
    /// applying the event itself to the caller.
    pub(crate) fn begin<'a>(&'a self, partition: Partition, event: &'a CacheEvent) -> Pending<'a> {
        self.pending.lock().insert(event.event_id, Reach::of(&event.scopes));
        self.apply_scopes(partition, Origin::MAX, &event.scopes);
        Pending { local: self, id: event.event_id, partition, scopes: &event.scopes, applied: false }
    }

    /// Whether an own event is under way that covers a resource.
    fn is_written(&self, resource: u64) -> bool {
        let covers = |reach: &Reach| *reach == Reach::Wide || *reach == Reach::Resource(resource);
        self.pending.lock().values().any(covers) && !mutated!("update_over_own_write")
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

    /// Tells those who watch of an own event that was acknowledged; before the bus is told.
    pub(crate) fn wrote(&self, partition: Partition, position: Position, event: &CacheEvent) {
        self.observers.iter().for_each(|observer| observer.wrote(partition, position, event));
    }

    fn audits(&self) -> impl Iterator<Item = &Audit> {
        self.spaces.values().filter_map(|space| space.audit())
    }

    /// Tells the auditor of an event that is in the log here, before it is applied.
    pub(crate) fn heard(&self, partition: Partition, position: Position, event: &CacheEvent) {
        if !self.audited {
            return;
        }
        let Some((now, server_now)) = self.times.get().map(|times| times()) else { return };
        let said = said(event, now, server_now);
        for scope in &event.scopes {
            let audit = scope.namespace().and_then(|namespace| self.spaces.get(namespace)?.audit());
            match (scope, audit) {
                (Scope::Key(key), Some(audit)) => {
                    let hash = if key.has_params() { key.hash64() } else { key.resource_hash() };
                    audit.applied(key.resource_hash(), Some(hash), position, said);
                }
                (Scope::Resource { namespace, resource }, Some(audit)) => {
                    let hash = cache_events::resource_hash(namespace, resource);
                    audit.applied(hash, None, position, said);
                }
                (Scope::Pattern { pattern, .. }, Some(audit)) => {
                    let of = (partition, self.fence.partitions());
                    audit.applied_where(of, position, said, |key| pattern.covers(key));
                }
                (Scope::Namespace(_), Some(audit)) => {
                    audit.applied_to_many(partition, Covers::All, position, said);
                }
                (Scope::Tag(tag), _) => {
                    let group = Covers::Group(cache_events::Group::tag(tag).id());
                    self.audits().for_each(|audit| {
                        audit.applied_to_many(partition, group, position, said);
                    });
                }
                _ => {}
            }
        }
    }
}

impl Receiver for Local {
    fn apply(&self, partition: Partition, position: Position, event: &CacheEvent, first: bool) {
        let own = event.source_node == self.node;
        if first {
            self.heard(partition, position, event);
        }
        if !(own && self.pending.lock().contains_key(&event.event_id)) {
            self.apply_scopes(partition, Origin { epoch: position.epoch, seq: position.seq }, &event.scopes);
        }
        if first {
            self.observers.iter().for_each(|observer| observer.applied(partition, position, event));
            if !own {
                self.propagated(event);
                self.handlers.offer(partition, position, event);
            }
        }
    }

    fn update(
        &self,
        partition: Partition,
        position: Position,
        event: &CacheEvent,
        cargo: &Cargo,
        first: bool,
    ) {
        if let [Scope::Key(key)] = event.scopes.as_slice()
            && let (Some(space), Some(times)) = (self.spaces.get(key.namespace()), self.times.get())
        {
            let (now, server_now) = times();
            let update = Update { key, position, cargo, now, server_now };
            space.take_update(&update, &|resource| self.is_written(resource));
        }
        // In any case: what was taken reflects the event and stays, all else goes as it would have gone.
        self.apply(partition, position, event, first);
    }

    fn turn(&self, event: &CacheEvent) -> Turn {
        let critical =
            |scope: &Scope| match scope.namespace().and_then(|namespace| self.spaces.get(namespace)) {
                Some(space) => space.is_critical(),
                // Of several namespaces, or of all.
                None => scope.namespace().is_none(),
            };
        if event.scopes.iter().any(critical) {
            return Turn::First;
        }
        // Handlers hear of every event that is announced.
        let heard =
            event.announce && event.source_node != self.node && self.handlers.listen_to(&event.event_type);
        // And so does who keeps the history of keys.
        let noted = !self.observers.is_empty() || self.audited;
        if heard || noted { Turn::Each } else { Turn::Latest }
    }

    fn flush(&self, partition: Partition, epoch: u64, groups: &[GroupStamp], cause: FlushCause) {
        let groups: Vec<(u64, u64)> = groups.iter().map(|stamp| (stamp.group, stamp.seq)).collect();
        self.fence.flush(partition.0, epoch, &groups);
        self.audits().for_each(|audit| audit.flushed(partition, epoch, cause));
        tracing::info!(%partition, epoch, ?cause, "flushed L1");
        self.observers.iter().for_each(|observer| observer.flushed(partition, epoch, cause));
        // Whatever came ahead of what is missing now.
        self.handlers.stands(partition, Position::new(u64::MAX, u64::MAX));
        if cause != FlushCause::Joined {
            self.handlers.missed(partition);
        }
    }

    fn stands(&self, partition: Partition, position: Position) {
        self.handlers.stands(partition, position);
        self.observers.iter().for_each(|observer| observer.stands(partition, position));
    }
}
