//! How long an event takes from the call to the last node.
//!
//! The origin learns the position of its event from the acknowledgement; the other nodes may have applied it before
//! that. Both sides report here by position, and whoever completes the picture records the time.

use std::time::Instant;

use cache_events::{CacheEvent, NodeId, Partition, Position};
use cache_tiered::Observer;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Events not yet seen everywhere; beyond that the oldest knowledge is not worth keeping.
const OPEN_MAX: usize = 200_000;

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
    pub(crate) fn watch(self: &Arc<Self>, node: NodeId) -> Arc<dyn Observer> {
        Arc::new(Watch { node, propagation: self.clone() })
    }
}

struct Watch {
    node: NodeId,
    propagation: Arc<Propagation>,
}

impl Observer for Watch {
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent) {
        // The origin reports with the acknowledgement.
        if event.source_node != self.node {
            self.propagation.note((partition, position), None);
        }
    }
}
