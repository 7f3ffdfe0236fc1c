//! The transactional outbox: what a commit has to tell others is a row of the same transaction.
//!
//! The writer publishes right after its commit and then [forgets](Outbox::forget) the row. What a crash or a failed
//! publication left is taken by a [`Relay`](crate::Relay) on any node, when the row's grace is over.
//!
//! - *Nothing is skipped.* Rows are taken one by one and deleted one by one; nobody remembers "read up to number n". So
//!   a row with a lower number that becomes visible later, since its transaction took longer, is taken then.
//! - *Order per aggregate.* Only the oldest visible row of an aggregate can be taken, also while another relay is at
//!   work on it. Transactions that hold a lock on the aggregate until they commit are so published in their order.
//! - *Two relays* never take the same row at once: the one that claims a row moves its due time in the same statement,
//!   and in PostgreSQL passes over rows that another is just claiming (`SKIP LOCKED`). If the claimer dies, the row
//!   comes due again. So a row is published at least once, and twice only if a claim outlasts its lease.
//! - *A poisoned row* is parked: it stays in the table and in the figures, and its aggregate goes on.

use std::time::Duration;

use sqlx::{AnyConnection, Row};

use crate::{Database, Kind, SqlError, Table, Value, delete_where_in, query, upsert};

const TABLE: Table = Table {
    name: "outbox",
    key: 1,
    columns: &["event_id", "aggregate", "payload", "created_at", "due_at", "attempts", "parked", "note"],
};
/// Longest note on why a row is parked, in characters.
const NOTE_CHARS_MAX: usize = 500;
/// Rows beyond this are not counted.
const COUNTED_MAX: i64 = 1_000_000;

/// A row to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Tells it from all others, for example a commit's number.
    pub event_id: String,
    /// Rows of one aggregate are published in order.
    pub aggregate: String,
    /// What to publish.
    pub payload: String,
}

/// A row that a relay has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its number in the table.
    pub id: i64,
    /// Tells it from all others.
    pub event_id: String,
    /// Rows of one aggregate are published in order.
    pub aggregate: String,
    /// What to publish.
    pub payload: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// How often it was claimed, this time included.
    pub attempts: u64,
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Rows that are to be published; counted up to a million.
    pub waiting: u64,
    /// Age of the oldest of them, in milliseconds.
    pub oldest_ms: u64,
    /// Rows that could not be published and wait for somebody to look at them.
    pub parked: u64,
}

/// The table of events that are yet to be published.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    /// How long the writer may take to publish by itself.
    pub grace: Duration,
    /// How long a claim lasts.
    pub lease: Duration,
}

impl Outbox {
    /// The statements that make the table, for a [`Migration`](crate::Migration).
    pub const SCHEMA: &'static str = "
        CREATE TABLE outbox (
            id {serial},
            event_id {text} NOT NULL UNIQUE,
            aggregate {text} NOT NULL,
            payload TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            due_at BIGINT NOT NULL,
            attempts BIGINT NOT NULL,
            parked BIGINT NOT NULL,
            note TEXT NOT NULL
        );
        CREATE INDEX outbox_order ON outbox (aggregate, id);
        CREATE INDEX outbox_due ON outbox (parked, due_at);
    ";

    /// The outbox of a database that has its table. Grace 1 s, lease 10 s.
    pub fn new(database: Database) -> Self {
        Self { database, grace: Duration::from_secs(1), lease: Duration::from_secs(10) }
    }

    /// Writes rows in the caller's transaction. `now` is milliseconds since the Unix epoch, here and below.
    ///
    /// # Errors
    /// [`SqlError`]; the transaction is to be rolled back.
    pub async fn write(
        &self,
        transaction: &mut AnyConnection,
        entries: Vec<Entry>,
        now: u64,
    ) -> Result<(), SqlError> {
        let due = now.saturating_add(millis(self.grace));
        let row = |entry: Entry| {
            let Entry { event_id, aggregate, payload } = entry;
            let texts = [&event_id, &aggregate, &payload].map(Value::from);
            texts.into_iter().chain([now, due, 0, 0].map(Value::from)).chain(["".into()]).collect()
        };
        upsert(transaction, &TABLE, entries.into_iter().map(row).collect()).await
    }

    /// Deletes rows that were published, by their event ids; in the caller's transaction. Returns how many there were.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn forget(
        &self,
        transaction: &mut AnyConnection,
        event_ids: &[String],
    ) -> Result<u64, SqlError> {
        let ids = event_ids.iter().map(Value::from).collect();
        delete_where_in(transaction, TABLE.name, "event_id", ids).await
    }

    /// Takes up to `rows_max` due rows, at most one of each aggregate, oldest first. Until the lease is over nobody
    /// else gets them.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn claim(&self, rows_max: u32, now: u64) -> Result<Vec<Claimed>, SqlError> {
        let skip = match self.database.kind() {
            Kind::Sqlite => "",
            Kind::Postgres if mutated!("claim_unlocked") => "",
            Kind::Postgres if mutated!("claim_waits_for_others") => "FOR UPDATE OF o",
            Kind::Postgres => "FOR UPDATE OF o SKIP LOCKED",
        };
        let due = if mutated!("claim_before_due") { "o.due_at < $1 + o.due_at" } else { "o.due_at <= $1" };
        let is_older = if mutated!("claim_out_of_order") { "e.id < 0" } else { "e.id < o.id" };
        let statement = format!(
            "WITH picked AS MATERIALIZED (
                SELECT o.id FROM outbox o
                WHERE o.parked = 0 AND {due} AND NOT EXISTS (
                    SELECT 1 FROM outbox e
                    WHERE e.aggregate = o.aggregate AND {is_older} AND e.parked = 0
                )
                ORDER BY o.id LIMIT $2 {skip}
            )
            UPDATE outbox SET due_at = $3, attempts = attempts + 1 WHERE id IN (SELECT id FROM picked)
            RETURNING id, event_id, aggregate, payload, created_at, attempts"
        );
        let lease = if mutated!("claim_without_lease") { 0 } else { millis(self.lease) };
        let until = now.saturating_add(lease);
        let values = [Value::from(now), rows_max.into(), until.into()];
        let mut transaction = self.database.write().await?;
        let rows = query(statement, values).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            claimed.push(Claimed {
                id: row.try_get(0)?,
                event_id: row.try_get(1)?,
                aggregate: row.try_get(2)?,
                payload: row.try_get(3)?,
                created_at: row.try_get::<i64, _>(4)?.unsigned_abs(),
                attempts: row.try_get::<i64, _>(5)?.unsigned_abs(),
            });
        }
        claimed.sort_by_key(|row| row.id);
        Ok(claimed)
    }

    /// Deletes rows that were published.
    ///
    /// # Errors
    /// [`SqlError`]; they will be published again.
    pub async fn done(&self, ids: &[i64]) -> Result<(), SqlError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.write().await?;
        let ids = ids.iter().copied().map(Value::from).collect();
        delete_where_in(&mut transaction, TABLE.name, "id", ids).await?;
        Ok(transaction.commit().await?)
    }

    /// Gives claimed rows back: they come due at `due_at`, and the claim does not count as an attempt.
    ///
    /// # Errors
    /// [`SqlError`]; they come due when the lease is over.
    pub async fn release(&self, ids: &[i64], due_at: u64) -> Result<(), SqlError> {
        let mut transaction = self.database.write().await?;
        for id in ids {
            let statement = "UPDATE outbox SET due_at = $1, attempts = attempts - 1 WHERE id = $2";
            query(statement, [Value::from(due_at), (*id).into()]).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Puts a row aside that cannot be published, with the reason.
    ///
    /// # Errors
    /// [`SqlError`]; it will be tried again.
    pub async fn park(&self, id: i64, why: &str) -> Result<(), SqlError> {
        let note: String = why.chars().take(NOTE_CHARS_MAX).collect();
        let mut transaction = self.database.write().await?;
        let statement = "UPDATE outbox SET parked = 1, note = $1 WHERE id = $2";
        query(statement, [Value::from(&note), id.into()]).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// What waits.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn backlog(&self, now: u64) -> Result<Backlog, SqlError> {
        let statement = "SELECT parked, COUNT(*), MIN(created_at)
            FROM (SELECT parked, created_at FROM outbox ORDER BY parked LIMIT $1) AS counted GROUP BY parked";
        let mut backlog = Backlog::default();
        for row in query(statement, [COUNTED_MAX]).fetch_all(self.database.pool()).await? {
            let rows = row.try_get::<i64, _>(1)?.unsigned_abs();
            if row.try_get::<i64, _>(0)? != 0 {
                backlog.parked = rows;
            } else {
                backlog.waiting = rows;
                backlog.oldest_ms = now.saturating_sub(row.try_get::<i64, _>(2)?.unsigned_abs());
            }
        }
        Ok(backlog)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
