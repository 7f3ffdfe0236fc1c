//! Many nodes on one database: who books, who conflicts, and what is left when one of them dies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cache_marketplace::{
    BookOutcome, BookingRequest, BookingStatus, CancelOutcome, Ledger, LedgerError, Market, MicroUsd, Offer,
};
use cache_marketplace_sql::{LedgerOptions, SqlLedger};
use cache_sql::{Database, DatabaseOptions, query};
use support::{Postgres, open};

const START: u64 = 1_760_000_000_000;
const MINUTE: u64 = 60_000;

async fn offer(ledger: &SqlLedger, count: u32) {
    let price = MicroUsd(1_000_000);
    let (provider, gpu_model, region) = ("p".into(), "H100".into(), "europe".into());
    let offer = Offer { provider, gpu_model, region, count, min_price: price, avg_price: price };
    ledger.set_offers(offer, START).await.unwrap();
}

#[derive(Default, Debug)]
struct Tally {
    created: u64,
    conflicts: u64,
    replays: u64,
    cancelled: u64,
    versions: Vec<u64>,
}

/// Clients of all nodes book, repeat themselves and cancel at random. Every attempt has one outcome, no two bookings
/// overlap, no number is given twice, and the counts are those of the facts.
async fn under_load(url: &str, nodes: usize, clients: usize, attempts: usize, gpus: u32) {
    let mut ledgers = Vec::new();
    for _ in 0..nodes {
        ledgers.push(Arc::new(open(url).await));
    }
    offer(&ledgers[0], gpus).await;
    let mut callers = tokio::task::JoinSet::new();
    for client in 0..clients {
        let ledger = ledgers[client % nodes].clone();
        callers.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(client as u64);
            let mut tally = Tally::default();
            let mut last: Option<BookingRequest> = None;
            for number in 0..attempts / clients {
                let again = last.clone().filter(|_| rng.u8(..10) == 0);
                let request = again.unwrap_or_else(|| {
                    let start_time = START + rng.u64(0..48) * 30 * MINUTE;
                    BookingRequest {
                        booking_id: format!("{client}-{number}"),
                        gpu_id: format!("p/H100/{}", rng.u32(1..=gpus)),
                        user_id: format!("u-{client}"),
                        start_time,
                        end_time: start_time + rng.u64(1..4) * 25 * MINUTE,
                    }
                });
                match ledger.book(request.clone(), START).await.unwrap() {
                    BookOutcome::Booked { repeated: true, .. } => tally.replays += 1,
                    BookOutcome::Booked { committed, .. } => {
                        tally.created += 1;
                        tally.versions.push(committed.version.0);
                        if rng.u8(..5) == 0 {
                            let CancelOutcome::Cancelled { committed, repeated: false, .. } =
                                ledger.cancel(&request.booking_id, &request.gpu_id, START).await.unwrap()
                            else {
                                panic!("what was just booked cannot be cancelled");
                            };
                            tally.cancelled += 1;
                            tally.versions.push(committed.version.0);
                        }
                        last = Some(request);
                    }
                    BookOutcome::Conflict { .. } => tally.conflicts += 1,
                    other => panic!("{other:?}"),
                }
            }
            tally
        });
    }
    let mut sum = Tally::default();
    while let Some(done) = callers.join_next().await {
        let tally = done.unwrap();
        sum.created += tally.created;
        sum.conflicts += tally.conflicts;
        sum.replays += tally.replays;
        sum.cancelled += tally.cancelled;
        sum.versions.extend(tally.versions);
    }
    let attempted = (attempts / clients * clients) as u64;
    assert_eq!(sum.created + sum.conflicts + sum.replays, attempted);
    assert!(sum.created > 0 && sum.conflicts > 0 && sum.replays > 0 && sum.cancelled > 0);
    sum.versions.sort_unstable();
    assert!(sum.versions.windows(2).all(|pair| pair[0] < pair[1]), "a number was given twice");

    let bookings = ledgers[0].bookings("", u32::MAX).await.unwrap();
    assert_eq!(bookings.len() as u64, sum.created);
    let mut taken: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
    for booking in bookings.iter().filter(|booking| booking.status == BookingStatus::Active) {
        taken.entry(booking.gpu_id.clone()).or_default().push((booking.start_time, booking.end_time));
    }
    for times in taken.values_mut() {
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "booked twice: {times:?}");
    }
    let busy = taken.values().filter(|times| times[0].0 <= START).count() as u64;
    let market = Market::new("H100", "europe");
    for ledger in &ledgers {
        let free = ledger.availability(&market).await.unwrap().value.unwrap();
        assert_eq!((free.busy, free.total), (busy, u64::from(gpus)));
        let stats = ledger.market_stats(None, None).await.unwrap();
        assert_eq!(stats.value.unwrap().total_bookings_24h, sum.created - sum.cancelled);
        // The offer was the first commit; no number is missing.
        assert_eq!(stats.version.0, sum.created + sum.cancelled + 1);
    }
    assert_eq!(ledgers[0].backlog(START).await.unwrap().waiting, sum.created + sum.cancelled + 1);
    for ledger in ledgers {
        ledger.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_on_postgres_never_book_twice() {
    let postgres = Postgres::start();
    under_load(&postgres.fresh().await, 4, 32, 1_600, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_a_file_of_sqlite_never_book_twice() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("market.db").display());
    under_load(&url, 3, 12, 600, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_of_one_node_in_memory_never_book_twice() {
    under_load("sqlite::memory:", 1, 16, 800, 10).await;
}

fn request(id: &str, gpu: u32) -> BookingRequest {
    BookingRequest {
        booking_id: id.to_owned(),
        gpu_id: format!("p/H100/{gpu}"),
        user_id: "u".to_owned(),
        start_time: START,
        end_time: START + MINUTE,
    }
}

/// A booking whose event cannot be kept is no booking.
async fn no_booking_without_its_event(url: &str, refuse: &str) {
    let ledger = open(url).await;
    offer(&ledger, 2).await;
    let database = Database::connect(url, &DatabaseOptions::default()).await.unwrap();
    let none: [i64; 0] = [];
    query(refuse, none).execute(database.pool()).await.unwrap();
    let failed = ledger.book(request("b", 1), START).await;
    assert!(matches!(failed, Err(LedgerError::Unavailable(_))), "{failed:?}");
    assert_eq!(ledger.booking("b").await.unwrap().value, None);
    let free = ledger.availability(&Market::new("H100", "europe")).await.unwrap();
    assert_eq!((free.value.unwrap().available, free.version.0), (2, 1));
    database.close().await;
    ledger.close().await;
}

#[tokio::test]
async fn a_booking_whose_event_cannot_be_kept_is_no_booking() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("market.db").display());
    no_booking_without_its_event(&url, "ALTER TABLE outbox RENAME TO gone").await;
    let postgres = Postgres::start();
    no_booking_without_its_event(&postgres.fresh().await, "ALTER TABLE outbox RENAME TO gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_killed_keeps_what_was_acknowledged_and_serves_again() {
    let mut postgres = Postgres::start();
    let url = postgres.fresh().await;
    let options = LedgerOptions { timeout: Duration::from_secs(3), ..LedgerOptions::default() };
    let ledger = Arc::new(SqlLedger::open(&url, options).await.unwrap());
    offer(&ledger, 1).await;
    let writer = ledger.clone();
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let mut callers = tokio::task::JoinSet::new();
    callers.spawn(async move {
        let mut acknowledged = Vec::new();
        for number in 0_u64.. {
            let start_time = START + number * MINUTE;
            let id = format!("b-{number}");
            let request = BookingRequest { start_time, end_time: start_time + MINUTE, ..request(&id, 1) };
            loop {
                match writer.book(request.clone(), START).await {
                    Ok(BookOutcome::Booked { .. }) => break,
                    Err(LedgerError::Unavailable(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            acknowledged.push(id);
            if told.send(()).await.is_err() {
                break;
            }
        }
        acknowledged
    });
    // In mid-run.
    for _ in 0..20 {
        heard.recv().await.unwrap();
    }
    postgres.server().revive();
    // What comes after proves that the ledger found its way back by itself.
    for _ in 0..20 {
        heard.recv().await.unwrap();
    }
    drop(heard);
    let acknowledged = callers.join_next().await.unwrap().unwrap();
    for id in &acknowledged {
        assert!(ledger.booking(id).await.unwrap().value.is_some(), "{id} was acknowledged and is gone");
    }
    let stats = ledger.market_stats(None, None).await.unwrap();
    // Those whose outcome was unknown were repeated until they were acknowledged.
    assert_eq!(stats.version.0, acknowledged.len() as u64 + 1);
    assert_eq!(ledger.backlog(START).await.unwrap().waiting, acknowledged.len() as u64 + 1);
    ledger.close().await;
}
