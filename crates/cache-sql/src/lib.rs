//! A relational database behind the cache, SQLite or PostgreSQL by URL.
//!
//! - [`Database`]: connections, transactions and migrations over both, with errors that tell whether to repeat
//! - [`Outbox`]: events as rows of the transaction that caused them, so that no commit loses its event
//! - [`Relay`]: the task that publishes the rows that their writer did not
//!
//! Statements are written once, in the SQL that both understand, with `$1` for values. A column is a 64-bit integer or
//! a text, never NULL; booleans are 0 and 1.

#[macro_use]
mod mutation;

mod database;
mod error;
mod outbox;
mod relay;
mod statements;

pub use database::{Database, DatabaseOptions, Kind, Migration};
pub use error::SqlError;
pub use outbox::{Backlog, Claimed, Entry, Outbox};
pub use relay::{Publish, PublishError, Relay, RelayOptions, RelayStats};
pub use statements::{Table, Value, delete_where_in, query, upsert};
