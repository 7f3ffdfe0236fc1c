//! The outbox and its relay, on both databases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_sql::{
    Claimed, Database, DatabaseOptions, Entry, Migration, Outbox, Publish, PublishError, Relay, RelayOptions,
    query,
};
use cache_testkit::{ManualClock, PostgresServer};
use parking_lot::Mutex;

async fn outbox(url: &str) -> (Database, Outbox) {
    let database = Database::connect(url, &DatabaseOptions::default()).await.unwrap();
    let schema = Migration { version: 1, description: "outbox", statements: Outbox::SCHEMA.to_owned() };
    database.migrate(&[schema]).await.unwrap();
    (database.clone(), Outbox::new(database))
}

async fn write(database: &Database, outbox: &Outbox, rows: &[(&str, &str)], now: u64) {
    let mut transaction = database.write().await.unwrap();
    outbox.write(&mut transaction, rows.iter().map(entry).collect(), now).await.unwrap();
    transaction.commit().await.unwrap();
}

fn entry((event_id, aggregate): &(&str, &str)) -> Entry {
    Entry { event_id: (*event_id).into(), aggregate: (*aggregate).into(), payload: format!("of {event_id}") }
}

fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|row| &*row.event_id).collect()
}

/// Everything that both databases must do alike, one after the other.
async fn behaves(url: &str) {
    let (database, outbox) = outbox(url).await;

    // A row is the writer's until its grace is over, and gone when the transaction is rolled back.
    write(&database, &outbox, &[("a1", "a"), ("a2", "a"), ("b1", "b")], 1_000).await;
    let mut transaction = database.write().await.unwrap();
    outbox.write(&mut transaction, vec![entry(&("never", "n"))], 0).await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(outbox.claim(10, 1_999).await.unwrap().is_empty());
    let backlog = outbox.backlog(1_500).await.unwrap();
    assert_eq!((backlog.waiting, backlog.oldest_ms, backlog.parked), (3, 500, 0));

    // Only the oldest of an aggregate is claimed, and by one claimer; the next when that one is done.
    let first = outbox.claim(10, 2_000).await.unwrap();
    assert_eq!(ids(&first), ["a1", "b1"]);
    assert!(outbox.claim(10, 2_000).await.unwrap().is_empty(), "claimed twice");
    outbox.done(&[first[0].id]).await.unwrap();
    assert_eq!(ids(&outbox.claim(10, 2_000).await.unwrap()), ["a2"]);

    // Who claimed and died keeps nobody out for longer than the lease.
    assert!(outbox.claim(10, 11_999).await.unwrap().is_empty());
    let again = outbox.claim(10, 12_000).await.unwrap();
    assert_eq!(ids(&again), ["a2", "b1"].map(|id| id));
    assert_eq!(again.iter().map(|row| row.attempts).collect::<Vec<_>>(), [2, 2]);

    // A row that is parked lets its aggregate go on.
    write(&database, &outbox, &[("a3", "a")], 12_000).await;
    outbox.park(again[0].id, "poison").await.unwrap();
    assert_eq!(ids(&outbox.claim(10, 13_000).await.unwrap()), ["a3"]);
    assert_eq!(outbox.backlog(13_000).await.unwrap().parked, 1);

    // What the writer published itself is forgotten by its id, and a batch is bounded.
    let mut transaction = database.write().await.unwrap();
    assert_eq!(outbox.forget(&mut transaction, &["a3".into(), "b1".into(), "x".into()]).await.unwrap(), 2);
    transaction.commit().await.unwrap();
    write(&database, &outbox, &[("c1", "c"), ("d1", "d"), ("e1", "e")], 13_000).await;
    assert_eq!(ids(&outbox.claim(2, 20_000).await.unwrap()), ["c1", "d1"]);
    database.close().await;
}

#[tokio::test]
async fn rows_are_claimed_in_order_and_come_back_on_sqlite() {
    behaves("sqlite::memory:").await;
}

#[tokio::test]
async fn rows_are_claimed_in_order_and_come_back_on_postgres() {
    let server = PostgresServer::start();
    behaves(&server.url()).await;
    commits_late(&server.url_of("postgres")).await;
    passes_over_what_another_claims(&server.url()).await;
}

/// A row that got its number first and becomes visible last is published all the same.
async fn commits_late(url: &str) {
    let (database, outbox) = outbox(url).await;
    let mut early = database.write().await.unwrap();
    outbox.write(&mut early, vec![entry(&("early", "early"))], 30_000).await.unwrap();
    write(&database, &outbox, &[("late", "late")], 30_000).await;
    let claimed = outbox.claim(100, 40_000).await.unwrap();
    assert!(ids(&claimed).contains(&"late") && !ids(&claimed).contains(&"early"));
    outbox.done(&claimed.iter().map(|row| row.id).collect::<Vec<_>>()).await.unwrap();
    early.commit().await.unwrap();
    assert_eq!(ids(&outbox.claim(100, 40_000).await.unwrap()), ["early"]);
    database.close().await;
}

/// A row that another relay is just claiming is passed over, and not waited for.
async fn passes_over_what_another_claims(url: &str) {
    let (database, outbox) = outbox(url).await;
    write(&database, &outbox, &[("held", "held"), ("free", "free")], 50_000).await;
    let mut other = database.write().await.unwrap();
    let claims = "UPDATE outbox SET due_at = 90000 WHERE event_id = $1";
    query(claims, ["held"]).execute(&mut *other).await.unwrap();
    let claimed = outbox.claim(100, 60_000).await.unwrap();
    assert!(ids(&claimed).contains(&"free") && !ids(&claimed).contains(&"held"), "{claimed:?}");
    other.commit().await.unwrap();
    database.close().await;
}

/// Takes all, after refusing some for a while.
#[derive(Default)]
struct Taker {
    taken: Mutex<Vec<(String, String)>>,
    refuse: Mutex<u32>,
}

#[async_trait]
impl Publish for Taker {
    async fn publish(&self, row: &Claimed) -> Result<(), PublishError> {
        if row.event_id.starts_with("poison") {
            return Err(PublishError::Never("cannot be read".into()));
        }
        let mut refuse = self.refuse.lock();
        if *refuse > 0 {
            *refuse -= 1;
            return Err(PublishError::Later("away".into()));
        }
        self.taken.lock().push((row.aggregate.clone(), row.event_id.clone()));
        Ok(())
    }
}

async fn relays(url: &str) {
    let (database, mut outbox) = outbox(url).await;
    outbox.grace = Duration::ZERO;
    let clock = Arc::new(ManualClock::default());
    let now = cache_events::Clock::wall(&*clock);
    let rows: Vec<(String, String)> = (0..120).map(|n| (format!("{:03}", n), format!("{}", n % 7))).collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(id, aggregate)| (&**id, &**aggregate)).collect();
    write(&database, &outbox, &rows, now).await;
    write(&database, &outbox, &[("poison", "3"), ("behind", "3")], now).await;

    let taker = Arc::new(Taker::default());
    *taker.refuse.lock() = 5;
    let options =
        RelayOptions { interval: Duration::from_millis(5), batch_rows_max: 8, ..RelayOptions::default() };
    let mut relays: Vec<Relay> =
        (0..2).map(|_| Relay::start(outbox.clone(), taker.clone(), clock.clone(), options.clone())).collect();
    loop {
        let backlog = outbox.backlog(now).await.unwrap();
        if (backlog.waiting, backlog.parked) == (0, 1) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut stats = Vec::new();
    for relay in &mut relays {
        relay.stop().await;
        stats.push(relay.stats());
    }
    let taken = taker.taken.lock().clone();
    let mut of_each: HashMap<String, Vec<String>> = HashMap::new();
    for (aggregate, id) in &taken {
        of_each.entry(aggregate.clone()).or_default().push(id.clone());
    }
    for (aggregate, ids) in &of_each {
        assert!(ids.is_sorted(), "{aggregate}: {ids:?}");
    }
    assert_eq!(taken.len(), 121, "each once: no claim outlasted its lease");
    assert_eq!(stats.iter().map(|stats| stats.published).sum::<u64>(), 121);
    assert_eq!(stats.iter().map(|stats| stats.parked).sum::<u64>(), 1);
    assert_eq!(stats.iter().map(|stats| stats.failed).sum::<u64>(), 5);
    database.close().await;
}

#[tokio::test]
async fn two_relays_publish_each_row_once_and_in_order_on_sqlite() {
    relays("sqlite::memory:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_publish_each_row_once_and_in_order_on_postgres() {
    let server = PostgresServer::start();
    relays(&server.url()).await;
}
