//! What went wrong with the database, by what the caller does next.

use sqlx::migrate::MigrateError;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// Another transaction was in the way; this one was rolled back. Repeating it is safe and will usually work.
    #[error("another transaction was in the way")]
    Busy(#[source] sqlx::Error),
    /// The database cannot be reached or did not answer in time. A transaction that was being committed may have been.
    #[error("the database cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    /// The schema in the database was made by a newer program.
    #[error(
        "the database has schema version {version}, which is newer than this program; use a newer program"
    )]
    NewerSchema {
        /// The version that this program does not know.
        version: i64,
    },
    /// The database refused the statement; repeating it does not help.
    #[error("the database refused")]
    Refused(#[source] sqlx::Error),
    /// The schema could not be made.
    #[error("the schema could not be made")]
    Schema(#[source] MigrateError),
}

impl SqlError {
    /// Whether the transaction was rolled back and may simply be repeated.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(refused) => {
                refused.code().map(|code| code.into_owned()).unwrap_or_default()
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => return Self::Unreachable(error),
            _ => return Self::Refused(error),
        };
        match code.as_str() {
            // Serialization failure, deadlock, lock not available, statement timeout: most likely behind a lock.
            "40001" | "40P01" | "55P03" | "57014" => Self::Busy(error),
            // The server shuts down, starts or has no connection left.
            "57P01" | "57P02" | "57P03" | "53300" => Self::Unreachable(error),
            code if code.len() == 5 && code.starts_with("08") => Self::Unreachable(error),
            // SQLITE_BUSY and SQLITE_LOCKED, with what they extend to.
            code if code.len() < 5 && code.parse().is_ok_and(|code: u32| matches!(code % 256, 5 | 6)) => {
                Self::Busy(error)
            }
            _ => Self::Refused(error),
        }
    }
}

impl From<MigrateError> for SqlError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::NewerSchema { version },
            MigrateError::Execute(error) => error.into(),
            other => Self::Schema(other),
        }
    }
}
