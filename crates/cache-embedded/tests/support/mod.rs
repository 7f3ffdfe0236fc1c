//! A clock that the tests move by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_events::Clock;

pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn wall(&self) -> u64 {
        1_700_000_000_000 + self.now()
    }
}
