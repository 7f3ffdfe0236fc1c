//! The one task of a node that writes: it takes changes from a bounded queue, and bookings that wait together become
//! one transaction.
//!
//! Since every change moves the head of the ledger, changes of all nodes come one after the other anyway. One writer a
//! node keeps those that wait out of the pool, so that readers always get a connection; and as it makes one transaction
//! of all bookings that came while the last one was being forced to disk, 64 callers do not wait for 64 of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use cache_marketplace::ledger::HISTORY_POINTS_MAX;
use cache_marketplace::ledger::working_set::{Change, Changed, Done};
use cache_marketplace::{Committed, LedgerError, Pricing};
use cache_sql::{Database, Entry, Outbox, SqlError, Value, delete_where_in, query, upsert};
use parking_lot::Mutex;
use sqlx::AnyConnection;
use tokio::sync::{mpsc, oneshot};

use crate::load::Loading;
use crate::schema;

/// Most bookings of one transaction.
const BATCH_MAX: usize = 64;
/// Without a change for so long, the rows of announced events are deleted in a transaction of their own.
const IDLE: Duration = Duration::from_millis(200);
/// How often a transaction is repeated that others were in the way of.
const ATTEMPTS_MAX: u32 = 10;
/// Most announcements that wait to be noted; what is above that is told again by the relay.
const ANNOUNCED_MAX: usize = 10_000;

/// A change, and where its outcome goes.
pub(crate) struct Job {
    pub(crate) change: Change,
    pub(crate) now: u64,
    pub(crate) reply: oneshot::Sender<Result<Done, LedgerError>>,
}

/// The numbers of commits that were announced and whose outbox rows may go.
#[derive(Default)]
pub(crate) struct Announced(Mutex<Vec<String>>);

impl Announced {
    pub(crate) fn note(&self, committed: &Committed) {
        let mut waiting = self.0.lock();
        if waiting.len() < ANNOUNCED_MAX {
            waiting.push(event_id(committed));
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    /// Deletes the outbox rows of what was announced since the last change.
    pub(crate) async fn forget(&self, database: &Database, outbox: &Outbox) -> Result<(), SqlError> {
        let announced = self.take();
        if announced.is_empty() {
            return Ok(());
        }
        let mut transaction = database.write().await?;
        outbox.forget(&mut transaction, &announced).await?;
        Ok(transaction.commit().await?)
    }
}

/// What tells a commit from all others.
fn event_id(committed: &Committed) -> String {
    format!("commit-{}", committed.version.0)
}

/// Rows of one GPU are published in their order; what concerns many follows the order of its provider or market.
fn aggregate(committed: &Committed) -> String {
    let subject = &committed.event.subject;
    match subject.gpu_ids.as_slice() {
        [only] => format!("gpu {only}"),
        _ => match (&subject.provider_id, subject.markets.first()) {
            (Some(provider), _) => format!("provider {provider}"),
            (None, Some(market)) => format!("market {}@{}", market.gpu_type, market.region),
            (None, None) => "all".to_owned(),
        },
    }
}

pub(crate) struct Writer {
    pub(crate) database: Database,
    pub(crate) outbox: Outbox,
    pub(crate) pricing: Arc<dyn Pricing>,
    pub(crate) announced: Arc<Announced>,
    pub(crate) timeout: Duration,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(crate) async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match tokio::time::timeout(IDLE, queue.recv()).await {
                    Ok(Some(job)) => waiting.push_back(job),
                    Ok(None) => break,
                    // No change comes that could take them along.
                    Err(_) => self.forget().await,
                }
                if waiting.is_empty() {
                    continue;
                }
            }
            while waiting.len() < BATCH_MAX
                && let Ok(job) = queue.try_recv()
            {
                waiting.push_back(job);
            }
            let bookings = waiting.iter().take_while(|job| matches!(job.change, Change::Book(_))).count();
            self.work(waiting.drain(..bookings.max(1)).collect()).await;
        }
        self.forget().await;
    }

    /// Deletes the outbox rows of what was announced since the last change.
    async fn forget(&self) {
        if let Err(error) = self.announced.forget(&self.database, &self.outbox).await {
            tracing::debug!(%error, "announced events stay in the outbox and will be announced again");
        }
    }

    async fn work(&self, jobs: Vec<Job>) {
        let changes: Vec<(Change, u64)> = jobs.iter().map(|job| (job.change.clone(), job.now)).collect();
        let outcomes = match tokio::time::timeout(self.timeout, self.repeat(&changes)).await {
            Ok(outcomes) => outcomes,
            Err(elapsed) => Err(SqlError::Unreachable(std::io::Error::other(elapsed).into())),
        };
        match outcomes {
            Ok(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    // Whoever asked may be gone; the change stands.
                    let _ = job.reply.send(outcome);
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a change was not made");
                let error = Arc::new(error);
                for job in jobs {
                    let _ = job.reply.send(Err(LedgerError::Unavailable(Box::new(error.clone()))));
                }
            }
        }
    }

    /// Makes a transaction, again if another one was in the way or the connection had gone stale. Once it may have been
    /// committed it is not repeated: then it is unknown whether the change happened.
    async fn repeat(&self, changes: &[(Change, u64)]) -> Result<Vec<Result<Done, LedgerError>>, SqlError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.transact(changes).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Failed::Before(error)) => error,
                Err(Failed::AtCommit(error)) if error.is_busy() => error,
                Err(Failed::AtCommit(error)) => return Err(error),
            };
            let again = matches!(error, SqlError::Busy(_) | SqlError::Unreachable(_));
            if !again || attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(1 << attempt)).await;
        }
    }

    async fn transact(&self, changes: &[(Change, u64)]) -> Result<Vec<Result<Done, LedgerError>>, Failed> {
        let kind = self.database.kind();
        let mut transaction = self.database.write().await?;
        let mut loading = Loading::begin(&mut transaction, kind, self.pricing.clone()).await?;
        for (change, now) in changes {
            loading.change(change, *now).await?;
        }
        let mut set = loading.set;
        let outcomes: Vec<Result<Done, LedgerError>> =
            changes.iter().map(|(change, now)| set.run(change, *now)).collect();
        let changed = set.changed().map_err(|error| {
            // A defect of this crate: refused rather than stored.
            SqlError::Refused(sqlx::Error::Encode(Box::new(error)))
        })?;
        if changed.is_empty() {
            transaction.rollback().await.map_err(SqlError::from)?;
            return Ok(outcomes);
        }
        let commits: Vec<&Committed> = outcomes.iter().flatten().flat_map(Done::commits).collect();
        self.store(&mut transaction, &changed).await?;
        if !mutated!("outbox_apart") {
            self.tell(&mut transaction, &commits).await?;
        }
        let statement = "UPDATE head SET version = $1, at = $2 WHERE id = 1";
        query(statement, [set.commits(), set.now()])
            .execute(&mut *transaction)
            .await
            .map_err(SqlError::from)?;
        let announced = self.announced.take();
        self.outbox.forget(&mut transaction, &announced).await?;
        transaction.commit().await.map_err(|error| Failed::AtCommit(error.into()))?;
        if mutated!("outbox_apart") {
            let mut later = self.database.write().await?;
            self.tell(&mut later, &commits).await?;
            later.commit().await.map_err(SqlError::from)?;
        }
        Ok(outcomes)
    }

    async fn store(&self, transaction: &mut AnyConnection, changed: &Changed) -> Result<(), SqlError> {
        for (table, rows) in schema::stored(changed)? {
            upsert(transaction, table, rows).await?;
        }
        if changed.levels.iter().any(|(.., count)| *count == 0) {
            delete_where_in(transaction, schema::LEVELS.name, "on_offer", vec![0_i64.into()]).await?;
        }
        for (market, number, _) in &changed.points {
            if let Some(old) = number.checked_sub(HISTORY_POINTS_MAX as u64).filter(|old| *old > 0) {
                let statement = "DELETE FROM history WHERE gpu_type = $1 AND region = $2 AND number <= $3";
                let values = [Value::from(&market.gpu_type), (&market.region).into(), old.into()];
                query(statement, values).execute(&mut *transaction).await?;
            }
        }
        Ok(())
    }

    /// Writes the commits into the outbox.
    async fn tell(&self, transaction: &mut AnyConnection, commits: &[&Committed]) -> Result<(), SqlError> {
        let mut entries = Vec::with_capacity(commits.len());
        for committed in commits {
            let payload = schema::committed_to_text(committed)?;
            entries.push(Entry { event_id: event_id(committed), aggregate: aggregate(committed), payload });
        }
        let now = commits.last().map_or(0, |committed| committed.at);
        self.outbox.write(transaction, entries, now).await
    }
}

/// Why a transaction failed, and whether it can have been committed.
enum Failed {
    Before(SqlError),
    AtCommit(SqlError),
}

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Self::Before(error)
    }
}
