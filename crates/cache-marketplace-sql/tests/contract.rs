//! The contract of the ledger, kept by all three.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod support;

use cache_marketplace::ledger::contract;
use cache_marketplace_sql::{LedgerOptions, OpenError, SqlLedger};
use cache_sql::{Database, DatabaseOptions, SqlError, query};
use support::{Postgres, open};

async fn keeps_the_contract(url: &str) {
    let ledger = open(url).await;
    let violations = contract::all(&ledger).await;
    assert!(violations.is_empty(), "{violations:#?}");
    ledger.close().await;
}

#[tokio::test]
async fn memory_of_sqlite_keeps_the_contract() {
    keeps_the_contract("sqlite::memory:").await;
}

#[tokio::test]
async fn a_file_of_sqlite_keeps_the_contract_and_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("market.db").display());
    keeps_the_contract(&url).await;
    is_kept_and_guarded(&url).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract_and_is_there_when_it_is_opened_again() {
    let postgres = Postgres::start();
    let url = postgres.fresh().await;
    keeps_the_contract(&url).await;
    is_kept_and_guarded(&url).await;
}

/// What was booked is there, the database itself refuses to book it twice, and a newer schema is not touched.
async fn is_kept_and_guarded(url: &str) {
    use cache_marketplace::Ledger;

    let ledger = open(url).await;
    assert!(ledger.booking("overlap").await.unwrap().value.is_some());
    ledger.close().await;

    let database = Database::connect(url, &DatabaseOptions::default()).await.unwrap();
    let none: [i64; 0] = [];
    let twice =
        "INSERT INTO bookings SELECT 'twice', gpu_id, user_id, start_time + 1, end_time, 0, total_cost,
        created_at, gpu_type, region, begun, created, cancelled, version, at FROM bookings
        WHERE booking_id = 'overlap'";
    let active = "UPDATE bookings SET status = 0 WHERE booking_id = 'overlap'";
    query(active, none).execute(database.pool()).await.unwrap();
    let refused = query(twice, none).execute(database.pool()).await.unwrap_err().to_string();
    assert!(refused.contains("bookings_do_not_overlap"), "{refused}");

    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT 99, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
    query(newer, none).execute(database.pool()).await.unwrap();
    database.close().await;
    let refused = SqlLedger::open(url, LedgerOptions::default()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Database(SqlError::NewerSchema { version: 99 })), "{refused}");
    assert!(refused.to_string().contains("newer than this program"), "{refused}");
}
