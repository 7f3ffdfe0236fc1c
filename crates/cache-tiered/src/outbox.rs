//! Invalidations that were not acknowledged: tried again until they are, within a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::Core;
use crate::parts::Part;

/// Wait between two tries.
const RETRY: Duration = Duration::from_millis(250);

/// The queue. When it is full, the partitions of what it held are flushed on return instead: nothing is forgotten. What names
/// a version has as much room of its own and stays beside the flush, which says of no key which version its source has: an
/// older put that is under way elsewhere would be stored behind it. Beyond that room the flush is all.
pub(crate) struct Outbox {
    parts: Mutex<Queue>,
    max: usize,
}

#[derive(Default)]
struct Queue {
    /// Steps whose effect a flush of their partition has as well.
    waiting: VecDeque<Part>,
    /// Steps that leave a version behind.
    versioned: VecDeque<Part>,
    /// A flush of these partitions, as the event that overflowed.
    flushes: Vec<Part>,
    /// One was taken out to be tried.
    trying: bool,
}

impl Outbox {
    pub(crate) fn new(max: usize) -> Self {
        Self { parts: Mutex::default(), max }
    }

    /// Keeps a step for later.
    pub(crate) fn push(&self, part: Part) {
        let mut queue = self.parts.lock();
        if names_version(&part) && queue.versioned.len() < self.max {
            queue.versioned.push_back(part);
            return;
        }
        if queue.flushes.iter().any(|flush| flush.partition == part.partition) {
            return;
        }
        if queue.waiting.len() < self.max && !part.is_flush() && !names_version(&part) {
            queue.waiting.push_back(part);
            return;
        }
        let partition = part.partition;
        tracing::warn!(%partition, "the outbox is full: the partition will be flushed when the store is back");
        queue.waiting.retain(|waiting| waiting.partition != partition);
        let mut event = part.event;
        event.scopes = vec![cache_events::Scope::All];
        // An event that was encoded before is encoded again with one scope: it cannot be too large.
        if let Ok(flush) = Part::flush(partition, event) {
            queue.flushes.push(flush);
        }
    }

    /// How many steps are not acknowledged yet: those that wait and the one that is being tried.
    pub(crate) fn len(&self) -> usize {
        let queue = self.parts.lock();
        queue.waiting.len() + queue.versioned.len() + queue.flushes.len() + usize::from(queue.trying)
    }

    fn next(&self) -> Option<Part> {
        let mut queue = self.parts.lock();
        let next = queue.flushes.pop().or_else(|| queue.versioned.pop_front());
        let next = next.or_else(|| queue.waiting.pop_front());
        queue.trying = next.is_some();
        next
    }

    fn put_back(&self, part: Part) {
        let mut queue = self.parts.lock();
        queue.trying = false;
        if part.is_flush() {
            queue.flushes.push(part);
        } else if names_version(&part) {
            queue.versioned.push_front(part);
        } else {
            queue.waiting.push_front(part);
        }
    }
}

fn names_version(part: &Part) -> bool {
    part.has_floor() && !mutated!("overflow_forgets_versions")
}

/// Works the outbox off until the cache stops.
pub(crate) async fn work_off(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = core.outbox_filled.notified() => {}
            () = tokio::time::sleep(RETRY), if core.outbox.len() > 0 => {}
        }
        while let Some(part) = core.outbox.next() {
            if let Err(error) = core.step(&part).await {
                tracing::debug!(%error, partition = %part.partition, "the outbox waits for the store");
                core.outbox.put_back(part);
                break;
            }
        }
    }
}
