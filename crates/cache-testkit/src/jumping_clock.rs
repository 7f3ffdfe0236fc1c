//! A clock that jumps when told, as one does that somebody sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cache_events::Clock;

/// Another clock, and its jumps. Both times follow the rules of the engine's own clock: elapsed time is the larger delta of
/// the monotonic and the wall clock, so a wall clock that is put forward (or a machine that slept) moves both, and one that
/// is put back moves the wall time alone.
pub struct JumpingClock {
    inner: Arc<dyn Clock>,
    ahead: AtomicU64,
    wall_off: AtomicI64,
}

impl JumpingClock {
    /// A clock that has not jumped yet.
    pub fn new(inner: Arc<dyn Clock>) -> Self {
        Self { inner, ahead: AtomicU64::new(0), wall_off: AtomicI64::new(0) }
    }

    /// The wall clock is put forward, or the machine slept for so long.
    pub fn forward(&self, by: Duration) {
        let by = by.as_millis() as u64;
        self.ahead.fetch_add(by, Ordering::SeqCst);
        self.wall_off.fetch_add(by as i64, Ordering::SeqCst);
    }

    /// The wall clock is put back.
    pub fn back(&self, by: Duration) {
        self.wall_off.fetch_sub(by.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> u64 {
        self.inner.now() + self.ahead.load(Ordering::SeqCst)
    }

    fn wall(&self) -> u64 {
        self.inner.wall().saturating_add_signed(self.wall_off.load(Ordering::SeqCst))
    }

    fn rebase(&self) {
        self.inner.rebase();
    }
}
