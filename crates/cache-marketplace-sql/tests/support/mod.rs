//! Databases for tests.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cache_marketplace_sql::{LedgerOptions, SqlLedger};
use cache_sql::{Database, DatabaseOptions, query};
use cache_testkit::PostgresServer;

/// A PostgreSQL server with as many empty databases as are asked for.
pub(crate) struct Postgres {
    server: PostgresServer,
    made: AtomicU32,
}

#[allow(dead_code, reason = "not every test needs all")]
impl Postgres {
    pub(crate) fn start() -> Self {
        Self { server: PostgresServer::start(), made: AtomicU32::new(0) }
    }

    pub(crate) fn server(&mut self) -> &mut PostgresServer {
        &mut self.server
    }

    /// The URL of a new, empty database.
    pub(crate) async fn fresh(&self) -> String {
        let name = format!("market{}", self.made.fetch_add(1, Relaxed));
        let admin = Database::connect(&self.server.url(), &DatabaseOptions::default()).await.unwrap();
        let none: [i64; 0] = [];
        query(format!("CREATE DATABASE {name}"), none).execute(admin.pool()).await.unwrap();
        admin.close().await;
        self.server.url_of(&name)
    }
}

#[allow(dead_code, reason = "not every test needs all")]
pub(crate) async fn open(url: &str) -> SqlLedger {
    SqlLedger::open(url, LedgerOptions::default()).await.unwrap()
}
