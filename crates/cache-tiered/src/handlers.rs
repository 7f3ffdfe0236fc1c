//! Handlers of events: called once for each event of another node, in a task of their own.
//!
//! Delivery is at least once, made once in practice by remembering the last 10,000 event ids, and in the order of each
//! partition's log: an event that comes ahead of others (their hints were lost) is applied to L1 at once and waits here
//! until the log has told what lies before it. After a gap, or when the queue was full, handlers get one
//! [`Notice::Missed`] instead of a replay.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cache_events::{CacheEvent, EventId, EventKind, Partition, Position, Sequenced};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use tokio::sync::mpsc;

/// Event ids remembered for the recognition of duplicates.
const REMEMBERED_MAX: usize = 10_000;

/// Events that wait for those before them, over all partitions; beyond, handlers are told that they have missed some.
const WAITING_MAX: usize = 10_000;

/// What a handler is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// An event of the kind it is registered for.
    Event(Arc<Sequenced>),
    /// Events may have been missed in this partition; whatever is derived from them must be rebuilt.
    Missed(Partition),
}

/// A handler: called from one task, one notice at a time. Long work belongs elsewhere.
pub type EventHandler = Arc<dyn Fn(&Notice) + Send + Sync>;

/// The registered handlers and the queue in front of them.
pub(crate) struct Handlers {
    by_kind: HashMap<EventKind, Vec<EventHandler>>,
    queue: mpsc::Sender<Notice>,
    /// Applied, and not yet reached by the cursor.
    waiting: Mutex<BTreeMap<(Partition, Position), Arc<Sequenced>>>,
    /// The queue was full: say `Missed` as soon as there is room.
    overflowed: AtomicBool,
    remembered: Mutex<Remembered>,
    pub(crate) panics: AtomicU64,
}

#[derive(Default)]
struct Remembered {
    order: VecDeque<EventId>,
    ids: HashSet<EventId>,
}

impl Remembered {
    /// Whether the id is new.
    fn insert(&mut self, id: EventId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl Handlers {
    pub(crate) fn new(
        by_kind: HashMap<EventKind, Vec<EventHandler>>,
        queue_max: usize,
    ) -> (Self, mpsc::Receiver<Notice>) {
        let (queue, inbox) = mpsc::channel(queue_max.max(1));
        let handlers = Self {
            by_kind,
            queue,
            waiting: Mutex::default(),
            overflowed: AtomicBool::new(false),
            remembered: Mutex::default(),
            panics: AtomicU64::new(0),
        };
        (handlers, inbox)
    }

    /// Whether there is a handler of this kind.
    pub(crate) fn listen_to(&self, kind: &EventKind) -> bool {
        self.by_kind.contains_key(kind)
    }

    /// Takes an event of another node that was applied; handlers hear of it when this node [stands](Self::stands) there.
    pub(crate) fn offer(&self, partition: Partition, position: Position, event: &CacheEvent) {
        if !event.announce || !self.listen_to(&event.event_type) {
            return;
        }
        let event = Arc::new(Sequenced { partition, position, event: event.clone() });
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            let given_up = std::mem::take(&mut *waiting);
            let partitions: BTreeSet<Partition> =
                given_up.into_keys().map(|(partition, _)| partition).collect();
            partitions.into_iter().for_each(|partition| self.missed(partition));
        }
        waiting.insert((partition, position), event);
    }

    /// Everything up to here was applied: handlers are told of what waited for that. Never blocks.
    pub(crate) fn stands(&self, partition: Partition, at: Position) {
        if self.by_kind.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        while let Some((&place, _)) = waiting.range((partition, Position::ZERO)..=(partition, at)).next() {
            if let Some(event) = waiting.remove(&place) {
                self.tell(event);
            }
        }
    }

    fn tell(&self, event: Arc<Sequenced>) {
        if !self.remembered.lock().insert(event.event.event_id) {
            return;
        }
        if self.overflowed.load(Ordering::Relaxed) {
            self.missed(event.partition);
        }
        if self.queue.try_send(Notice::Event(event)).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// Says that events of a partition may have been missed.
    pub(crate) fn missed(&self, partition: Partition) {
        if self.by_kind.is_empty() {
            return;
        }
        let told = self.queue.try_send(Notice::Missed(partition)).is_ok();
        self.overflowed.store(!told, Ordering::Relaxed);
    }

    /// Calls handlers until the sending side is gone.
    pub(crate) async fn run(self: Arc<Self>, mut inbox: mpsc::Receiver<Notice>) {
        while let Some(notice) = inbox.recv().await {
            let called: Vec<&EventHandler> = match &notice {
                Notice::Event(event) => {
                    self.by_kind.get(&event.event.event_type).into_iter().flatten().collect()
                }
                Notice::Missed(_) => self.by_kind.values().flatten().collect(),
            };
            for handler in called {
                if catch_unwind(AssertUnwindSafe(|| handler(&notice))).is_err() {
                    self.panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("an event handler panicked");
                }
            }
        }
    }
}
