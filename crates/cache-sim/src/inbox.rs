//! Where the hints of one subscription wait: bounded, and silent while the node stands still.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use cache_bus::{Hint, HintStream};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::world::World;

/// The hints of one subscription.
pub(crate) struct Inbox {
    max: usize,
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Default)]
struct Held {
    hints: VecDeque<Hint>,
    overflowed: bool,
    closed: Option<&'static str>,
}

impl Inbox {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default(), changed: Notify::new() })
    }

    /// A hint arrived. Above the limit it is dropped and the node is told so.
    pub(crate) fn push(&self, hint: Hint) {
        let mut held = self.held.lock();
        if held.hints.len() < self.max {
            held.hints.push_back(hint);
        } else {
            held.overflowed = true;
        }
        self.changed.notify_one();
    }

    pub(crate) fn close(&self, why: &'static str) {
        self.held.lock().closed.get_or_insert(why);
        self.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.held.lock().closed.is_some()
    }

    fn take(&self) -> Option<Hint> {
        let mut held = self.held.lock();
        if std::mem::take(&mut held.overflowed) {
            return Some(Hint::Overflow);
        }
        held.hints.pop_front().or_else(|| held.closed.map(|why| Hint::Closed(why.into())))
    }
}

/// A node's end of an inbox.
pub(crate) struct Subscription {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    pub(crate) inbox: Arc<Inbox>,
}

#[async_trait]
impl HintStream for Subscription {
    async fn next(&mut self) -> Hint {
        loop {
            self.world.nodes[self.node].gate().await;
            if let Some(hint) = self.inbox.take() {
                return hint;
            }
            self.inbox.changed.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.close("dropped");
    }
}
