//! The task that publishes what its writer did not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use cache_events::Clock;
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Claimed, Outbox, SqlError};

/// Why a row was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not now: whoever takes it is away. It is tried again for ever.
    #[error("not now: {0}")]
    Later(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not ever: the row makes no sense. It is parked.
    #[error("not ever: {0}")]
    Never(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where rows go. Publishing one twice must be harmless.
#[async_trait]
pub trait Publish: Send + Sync + 'static {
    /// Publishes a row; when it returns, the row may be forgotten. It is called for several rows at once, never for two
    /// of one aggregate.
    async fn publish(&self, row: &Claimed) -> Result<(), PublishError>;
}

/// How a [`Relay`] works.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// How often it looks, when there was nothing.
    pub interval: Duration,
    /// Most rows claimed and published at once.
    pub batch_rows_max: u32,
    /// Longest pause after failures in a row; the first is `interval`, and each is twice the one before.
    pub backoff_max: Duration,
    /// A row that was claimed more often than this and never came through is parked: whoever took it may have died
    /// of it. Failures that are [`Later`](PublishError::Later) do not count.
    pub attempts_max: u64,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            batch_rows_max: 64,
            backoff_max: Duration::from_secs(10),
            attempts_max: 10,
        }
    }
}

/// What a relay has done and what it last saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayStats {
    /// Rows published.
    pub published: u64,
    /// Publications that failed and are to be repeated.
    pub failed: u64,
    /// Rows parked.
    pub parked: u64,
    /// Rows of all nodes that waited when it looked last.
    pub waiting: u64,
    /// Age of the oldest of these, in milliseconds.
    pub oldest_ms: u64,
}

#[derive(Default)]
struct Counters {
    published: AtomicU64,
    failed: AtomicU64,
    parked: AtomicU64,
    waiting: AtomicU64,
    oldest_ms: AtomicU64,
}

/// The running relay; it ends with this value, or after [`stop`](Self::stop).
pub struct Relay {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

impl Relay {
    /// Starts it on the current runtime.
    pub fn start(
        outbox: Outbox,
        publish: Arc<dyn Publish>,
        clock: Arc<dyn Clock>,
        options: RelayOptions,
    ) -> Self {
        let stop = CancellationToken::new();
        let counters = Arc::new(Counters::default());
        let work = Work { outbox, publish, clock, options, counters: counters.clone(), stop: stop.clone() };
        #[expect(clippy::disallowed_methods, reason = "the relay owns its task, stops it and waits for it")]
        let task = tokio::spawn(work.run());
        Self { stop, task: Some(task), counters }
    }

    /// What it has done.
    pub fn stats(&self) -> RelayStats {
        let Counters { published, failed, parked, waiting, oldest_ms } = &*self.counters;
        let [published, failed, parked, waiting, oldest_ms] =
            [published, failed, parked, waiting, oldest_ms].map(|counter| counter.load(Relaxed));
        RelayStats { published, failed, parked, waiting, oldest_ms }
    }

    /// Lets it finish the rows it has claimed, and waits for that.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the relay of the outbox ended badly");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Work {
    outbox: Outbox,
    publish: Arc<dyn Publish>,
    clock: Arc<dyn Clock>,
    options: RelayOptions,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Work {
    async fn run(self) {
        let mut pause = self.options.interval;
        while !self.stop.is_cancelled() {
            pause = match self.drain().await {
                Ok(true) => self.options.interval,
                Ok(false) => (pause * 2).min(self.options.backoff_max),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the outbox cannot be read");
                    (pause * 2).min(self.options.backoff_max)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Publishes until nothing is due; whether all went through.
    async fn drain(&self) -> Result<bool, SqlError> {
        loop {
            let claimed = self.outbox.claim(self.options.batch_rows_max, self.clock.wall()).await?;
            let backlog = self.outbox.backlog(self.clock.wall()).await?;
            self.counters.waiting.store(backlog.waiting, Relaxed);
            self.counters.oldest_ms.store(backlog.oldest_ms, Relaxed);
            if claimed.is_empty() {
                return Ok(true);
            }
            if !self.publish(claimed).await? {
                return Ok(false);
            }
            if self.stop.is_cancelled() {
                return Ok(true);
            }
        }
    }

    async fn publish(&self, claimed: Vec<Claimed>) -> Result<bool, SqlError> {
        let outcomes = join_all(claimed.iter().map(|row| async {
            if row.attempts > self.options.attempts_max {
                let why = format!("claimed {} times and never published", row.attempts - 1);
                return Err(PublishError::Never(why.into()));
            }
            self.publish.publish(row).await
        }));
        let (mut done, mut later) = (Vec::new(), Vec::new());
        for (row, outcome) in claimed.iter().zip(outcomes.await) {
            match outcome {
                Ok(()) => done.push(row.id),
                Err(PublishError::Later(error)) => {
                    tracing::debug!(error = &*error as &dyn std::error::Error, row.id, "an event waits");
                    later.push(row.id);
                }
                Err(PublishError::Never(error)) => {
                    tracing::error!(error = &*error as &dyn std::error::Error, row.id, "an event was parked");
                    self.outbox.park(row.id, &error.to_string()).await?;
                    self.counters.parked.fetch_add(1, Relaxed);
                }
            }
        }
        self.outbox.done(&done).await?;
        self.counters.published.fetch_add(done.len() as u64, Relaxed);
        if !later.is_empty() {
            self.counters.failed.fetch_add(later.len() as u64, Relaxed);
            self.outbox.release(&later, self.clock.wall()).await?;
        }
        Ok(later.is_empty())
    }
}
