//! Connections to SQLite or PostgreSQL, chosen by the URL.

use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::MigrateError::ExecuteMigration;
use sqlx::migrate::{MigrationType, Migrator};
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor, SqlSafeStr, Transaction};

use crate::SqlError;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file or memory of this process. One writer at a time.
    Sqlite,
    /// A server.
    Postgres,
}

/// How a [`Database`] is opened.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Most connections. In SQLite's memory there is always one, since each would have a database of its own.
    pub connections_max: u32,
    /// Longest time to get a connection, to wait for another writer's lock in SQLite, and for a statement in
    /// PostgreSQL.
    pub timeout: Duration,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self { connections_max: 8, timeout: Duration::from_secs(5) }
    }
}

/// One step of the schema.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Its number; they are applied in this order, each once.
    pub version: i64,
    /// What it does, in a few words.
    pub description: &'static str,
    /// Statements, separated by `;`. `{text}` is the type of texts that are compared by their bytes, `{serial}` that of
    /// a column that counts up by itself.
    pub statements: String,
}

/// A database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    kind: Kind,
}

impl Database {
    /// Opens `sqlite::memory:`, `sqlite:FILE` (made if it is not there) or `postgres://…`.
    ///
    /// # Errors
    /// [`SqlError::Unreachable`] if nobody answers, [`SqlError::Refused`] if the URL is none of these.
    pub async fn connect(url: &str, options: &DatabaseOptions) -> Result<Self, SqlError> {
        sqlx::any::install_default_drivers();
        let kind = if url.starts_with("sqlite:") { Kind::Sqlite } else { Kind::Postgres };
        let in_memory = kind == Kind::Sqlite && url.contains(":memory:");
        let made = match kind == Kind::Sqlite && !in_memory && !url.contains("mode=") {
            true => format!("{url}{}mode=rwc", if url.contains('?') { '&' } else { '?' }),
            false => url.to_owned(),
        };
        let parsed = AnyConnectOptions::from_str(&made)?;
        let milliseconds = options.timeout.as_millis();
        let settings = match kind {
            // A reader never waits for a writer, and each commit is forced to disk.
            Kind::Sqlite => format!(
                "PRAGMA busy_timeout = {milliseconds}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            ),
            Kind::Postgres => format!(
                "SET statement_timeout = {milliseconds}; SET idle_in_transaction_session_timeout = {milliseconds}; \
                 SET default_transaction_isolation = 'read committed';"
            ),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(if in_memory { 1 } else { options.connections_max.max(2) })
            .acquire_timeout(options.timeout)
            .test_before_acquire(false)
            // With the last connection SQLite's memory would go.
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(move |connection, _| {
                let settings = settings.clone();
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.map(|_| ())
                })
            });
        Ok(Self { pool: pool.connect_with(parsed).await?, kind })
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its connections.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that writes. In SQLite it is the only one from here on.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn write(&self) -> Result<Transaction<'static, Any>, SqlError> {
        Ok(self.pool.begin_with(self.kind.either("BEGIN IMMEDIATE", "BEGIN")).await?)
    }

    /// Begins a transaction whose reads all see the state of one moment.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn snapshot(&self) -> Result<Transaction<'static, Any>, SqlError> {
        let begin = self.kind.either("BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        Ok(self.pool.begin_with(begin).await?)
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`SqlError::NewerSchema`] if a newer program was here, [`SqlError::Schema`] if a migration is not what it was
    /// when it was applied, or as any statement.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<(), SqlError> {
        let resolved = migrations.iter().map(|migration| {
            let statements = migration
                .statements
                .replace("{text}", self.kind.either("TEXT", "TEXT COLLATE \"C\""))
                .replace(
                    "{serial}",
                    self.kind.either(
                        "INTEGER PRIMARY KEY AUTOINCREMENT",
                        "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                    ),
                );
            let statements = AssertSqlSafe(statements).into_sql_str();
            let description = migration.description.into();
            sqlx::migrate::Migration::new(
                migration.version,
                description,
                MigrationType::Simple,
                statements,
                false,
            )
        });
        let migrator = Migrator::with_migrations(resolved.collect());
        let mut attempts = 0;
        loop {
            attempts += 1;
            match migrator.run(&self.pool).await.map_err(SqlError::from) {
                // SQLite has no lock for migrations: another process may just be making the same tables. It is done when
                // the next attempt looks.
                Err(SqlError::Busy(_) | SqlError::Refused(_) | SqlError::Schema(ExecuteMigration(..)))
                    if self.kind == Kind::Sqlite && attempts < 10 =>
                {
                    tokio::time::sleep(Duration::from_millis(20 * attempts)).await;
                }
                done => return done,
            }
        }
    }

    /// Closes all connections, when those in use have come back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Kind {
    /// What differs between the two.
    pub fn either(self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}
