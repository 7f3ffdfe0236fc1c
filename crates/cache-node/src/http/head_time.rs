//! How long the head of a request may take, without a timer of the runtime for every request: hyper's is taken and given back
//! with each head, and nearly always in vain. Here heads only note when they have to be there, and one timer for the
//! connection, which sleeps as long as a head may take, looks whether one is late.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// The timer that hyper has for one connection. What sleeps by it never wakes: who serves the connection ends it with
/// [`late`](Self::late).
#[derive(Debug, Clone)]
pub(crate) struct HeadTimer(Arc<Head>);

#[derive(Debug)]
struct Head {
    opened: Instant,
    /// When the head has to be there, in nanoseconds since the connection was opened; 0 = none is waited for.
    due: AtomicU64,
}

impl HeadTimer {
    #[expect(clippy::disallowed_methods, reason = "hyper tells deadlines as instants of the system")]
    pub(crate) fn new() -> Self {
        Self(Arc::new(Head { opened: Instant::now(), due: AtomicU64::new(0) }))
    }

    /// Returns once a head is late, where each may take so long. Cancel-safe: it is the heads that are looked at.
    pub(crate) async fn late(&self, may_take: Duration) {
        let mut look_in = may_take;
        loop {
            tokio::time::sleep(look_in).await;
            look_in = match self.0.left() {
                Some(Duration::ZERO) => return,
                Some(left) => left,
                // The next one begins later than now.
                None => may_take,
            };
        }
    }
}

impl Head {
    fn await_until(&self, due: Instant) {
        let since = due.saturating_duration_since(self.opened).as_nanos();
        self.due.store(u64::try_from(since).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// How long the head may still take; `None` = none is waited for.
    fn left(&self) -> Option<Duration> {
        let due = self.due.load(Ordering::Relaxed);
        (due != 0).then(|| Duration::from_nanos(due).saturating_sub(self.opened.elapsed()))
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.await_until(deadline);
        Box::pin(Awaited(self.0.clone()))
    }

    fn reset(&self, _sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        self.0.await_until(new_deadline);
    }
}

/// A head that is waited for.
struct Awaited(Arc<Head>);

impl Future for Awaited {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Sleep for Awaited {}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.due.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_waited_for_until_it_is_there() {
        let timer = HeadTimer::new();
        assert_eq!(timer.0.left(), None);
        let mut head = timer.sleep(Duration::from_secs(60));
        assert!(timer.0.left().is_some_and(|left| left > Duration::from_secs(50)));
        timer.reset(&mut head, timer.now());
        assert_eq!(timer.0.left(), Some(Duration::ZERO));
        drop(head);
        assert_eq!(timer.0.left(), None);
    }
}
