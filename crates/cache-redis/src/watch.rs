//! Following masters that change, for as long as somebody uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::dial::Dialer;
use crate::{sentinels, slots};

/// Owns the task that follows the masters of a deployment. It begins with the first call, since a store may be made
/// outside of a runtime.
#[derive(Default)]
pub(crate) struct Watch {
    begun: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

impl Watch {
    /// Begins, once; nothing changes where there is one server.
    pub(crate) fn begin(&self, dialer: &Arc<Dialer>) {
        if self.begun.load(Ordering::Relaxed) || self.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        if dialer.sentinels.is_some() {
            self.tasks.lock().spawn(sentinels::listen(dialer.clone()));
        }
        if dialer.slots.is_some() {
            self.tasks.lock().spawn(slots::keep(dialer.clone()));
        }
    }
}
