//! A clock that only a test moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_events::Clock;

/// Logical and wall time that stand still until [`advance`](Self::advance) moves both.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    wall: AtomicU64,
}

impl Default for ManualClock {
    /// Starts at a logical second and in November 2025.
    fn default() -> Self {
        Self { now: AtomicU64::new(1_000), wall: AtomicU64::new(1_762_000_000_000) }
    }
}

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by = by.as_millis() as u64;
        self.now.fetch_add(by, Ordering::SeqCst);
        self.wall.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an operator might; logical time goes on unmoved.
    pub fn set_wall(&self, unix_ms: u64) {
        self.wall.store(unix_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn wall(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }
}
