//! What a node does beside answering: it publishes what a crash left behind, and lets time pass.
//!
//! On every node the same runs. The database decides who does what: a step of time is taken by one transaction, and the
//! others find nothing; an outbox row is claimed by one relay at a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_events::Clock;
use cache_marketplace::{Ledger, MarketError, Marketplace};
use cache_sql::{Claimed, Publish, PublishError, Relay, RelayOptions, RelayStats};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::SqlLedger;
use crate::schema::committed_from_text;

/// How the tasks work.
#[derive(Debug, Clone)]
pub struct TaskOptions {
    /// Of the relay.
    pub relay: RelayOptions,
    /// How often it is looked whether a booking begins or ends: how late that can be noticed.
    pub tick: Duration,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self { relay: RelayOptions::default(), tick: Duration::from_millis(500) }
    }
}

/// The running tasks of a node; they end with this value, or after [`stop`](Self::stop).
pub struct LedgerTasks {
    relay: Relay,
    stop: CancellationToken,
    scheduler: Option<JoinHandle<()>>,
}

impl LedgerTasks {
    /// Starts them on the current runtime. `market` must be one over this ledger.
    pub fn start(
        ledger: Arc<SqlLedger>,
        market: Marketplace,
        clock: Arc<dyn Clock>,
        options: TaskOptions,
    ) -> Self {
        let stop = CancellationToken::new();
        let announcer: Arc<dyn Publish> = Arc::new(Announcer { market: market.clone() });
        let relay = Relay::start(ledger.outbox().clone(), announcer, clock.clone(), options.relay);
        let scheduler = schedule(ledger, market, clock, options.tick, stop.clone());
        #[expect(clippy::disallowed_methods, reason = "owned here, stopped and waited for")]
        let scheduler = tokio::spawn(scheduler);
        Self { relay, stop, scheduler: Some(scheduler) }
    }

    /// What the relay has done, and what waits in the outbox.
    pub fn stats(&self) -> RelayStats {
        self.relay.stats()
    }

    /// Ends them in order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(scheduler) = self.scheduler.take()
            && let Err(error) = scheduler.await
        {
            tracing::error!(%error, "the scheduler of the ledger ended badly");
        }
        self.relay.stop().await;
    }
}

impl Drop for LedgerTasks {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(scheduler) = &self.scheduler {
            scheduler.abort();
        }
    }
}

struct Announcer {
    market: Marketplace,
}

#[async_trait]
impl Publish for Announcer {
    async fn publish(&self, row: &Claimed) -> Result<(), PublishError> {
        let committed =
            committed_from_text(&row.payload).map_err(|error| PublishError::Never(error.into()))?;
        match self.market.announce(&committed).await {
            Ok(_) => Ok(()),
            Err(MarketError::Name(error)) => Err(PublishError::Never(error.into())),
            Err(error) => Err(PublishError::Later(error.into())),
        }
    }
}

/// Lets bookings begin and end, and announces it. If this node dies before it has announced what it committed, the
/// relay of another one does.
async fn schedule(
    ledger: Arc<SqlLedger>,
    market: Marketplace,
    clock: Arc<dyn Clock>,
    tick: Duration,
    stop: CancellationToken,
) {
    loop {
        match ledger.pass_time(clock.wall()).await {
            Ok(changes) => {
                for committed in changes {
                    if let Err(error) = market.announce(&committed).await {
                        tracing::debug!(%error, "the relay will announce it");
                    }
                }
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "time does not pass"),
        }
        if let Err(error) = ledger.forget_announced().await {
            tracing::debug!(%error, "announced events stay in the outbox and will be announced again");
        }
        tokio::select! {
            () = tokio::time::sleep(tick) => {}
            () = stop.cancelled() => return,
        }
    }
}
