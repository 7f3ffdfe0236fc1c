//! The time of the world: one paused Tokio clock, which moves when nobody has anything to do at the present instant.

use tokio::time::{Duration, Instant};

/// Counts milliseconds since the world began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline(Instant);

impl Timeline {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the simulated time")]
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// The present instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the simulated time")]
    pub(crate) fn ms(&self) -> u64 {
        Instant::now().duration_since(self.0).as_millis() as u64
    }

    /// An instant of the world, as Tokio's timers want it.
    pub(crate) fn at(&self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms)
    }
}

/// Lets time pass.
pub(crate) async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
