//! How long an event takes from the call to the last node.
//!
//! The origin learns the position of its event from the acknowledgement; the other nodes may have applied it before
//! that. Both sides report here by position, and whoever completes the picture records the time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cache_events::{CacheEvent, EventId, NodeId, Partition, Position};
use cache_tiered::Observer;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Events not yet seen everywhere; beyond that the oldest knowledge is not worth keeping.
const OPEN_MAX: usize = 200_000;
/// Ids by which the parts of one event are told from another event; parts come close together.
const IDS_MAX: usize = 4_096;

/// Collects the times of all events of a run.
pub(crate) struct Propagation {
    nodes: usize,
    open: Mutex<HashMap<(Partition, Position), Open>>,
    /// Microseconds.
    done: Mutex<Histogram<u64>>,
}

struct Open {
    called: Option<Instant>,
    applied: usize,
    last: Instant,
}

impl Propagation {
    pub(crate) fn new(nodes: usize) -> Arc<Self> {
        let bounded = Histogram::new_with_bounds(1, 600_000_000, 3);
        let done = bounded.unwrap_or_else(|_| unreachable!("constant bounds are valid"));
        Arc::new(Self { nodes, open: Mutex::default(), done: Mutex::new(done) })
    }

    /// The origin has the acknowledgement of an event for which it called at `called`.
    pub(crate) fn acked(&self, at: (Partition, Position), called: Instant) {
        self.note(at, Some(called));
    }

    fn note(&self, at: (Partition, Position), called: Option<Instant>) {
        let now = super::stopwatch();
        let mut open = self.open.lock();
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        let entry = open.entry(at).or_insert(Open { called: None, applied: 0, last: now });
        entry.called = entry.called.or(called);
        entry.applied += 1;
        entry.last = entry.last.max(now);
        if entry.applied >= self.nodes
            && let Some(called) = entry.called
        {
            let took = entry.last.saturating_duration_since(called);
            open.remove(&at);
            drop(open);
            self.done.lock().saturating_record((took.as_micros() as u64).max(1));
        }
    }

    /// The times so far, in microseconds.
    pub(crate) fn times(&self) -> Histogram<u64> {
        self.done.lock().clone()
    }

    /// The watch of one node.
    pub(crate) fn watch(self: &Arc<Self>, node: NodeId) -> Arc<Watch> {
        Arc::new(Watch { node, propagation: self.clone(), applied: AtomicU64::new(0), ids: Mutex::default() })
    }
}

/// Watches one node.
pub(crate) struct Watch {
    node: NodeId,
    propagation: Arc<Propagation>,
    applied: AtomicU64,
    ids: Mutex<(HashSet<EventId>, VecDeque<EventId>)>,
}

impl Watch {
    /// Events, of whatever node, that this one has applied. An event with several parts counts once.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// An event of this node was acknowledged, and so applied here.
    pub(crate) fn acked(&self) {
        self.applied.fetch_add(1, Ordering::Relaxed);
    }

    fn is_new(&self, id: EventId) -> bool {
        let mut ids = self.ids.lock();
        if !ids.0.insert(id) {
            return false;
        }
        ids.1.push_back(id);
        if ids.1.len() > IDS_MAX
            && let Some(oldest) = ids.1.pop_front()
        {
            ids.0.remove(&oldest);
        }
        true
    }
}

impl Observer for Watch {
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent) {
        // The origin reports with the acknowledgement.
        if event.source_node == self.node {
            return;
        }
        self.propagation.note((partition, position), None);
        if self.is_new(event.event_id) {
            self.applied.fetch_add(1, Ordering::Relaxed);
        }
    }
}
