//! The schema is made once, however many make it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::{Arc, Barrier};

use cache_sql::{Database, DatabaseOptions, Migration};

#[test]
fn many_that_start_at_once_on_one_file_all_find_the_schema() {
    const STARTS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let url = format!("sqlite:{}", folder.path().join(format!("{round}.db")).display());
        let at_once = Arc::new(Barrier::new(STARTS));
        let starts: Vec<_> = (0..STARTS)
            .map(|_| {
                let (url, at_once) = (url.clone(), at_once.clone());
                std::thread::spawn(move || start(&url, &at_once))
            })
            .collect();
        for start in starts {
            start.join().unwrap();
        }
    }
}

/// As a process does that starts: connections of its own, and the schema.
fn start(url: &str, at_once: &Barrier) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    at_once.wait();
    runtime.block_on(async {
        let database = Database::connect(url, &DatabaseOptions::default()).await.unwrap();
        let steps = [
            (1, "CREATE TABLE head (id BIGINT PRIMARY KEY); INSERT INTO head VALUES (1)"),
            (2, "CREATE TABLE tail (id BIGINT)"),
        ];
        let steps = steps.map(|(version, text)| Migration {
            version,
            description: "a step",
            statements: text.to_owned(),
        });
        database.migrate(&steps).await.unwrap();
        let mut transaction = database.write().await.unwrap();
        let done = cache_sql::query("INSERT INTO tail VALUES ($1)", [1_i64])
            .execute(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1);
        transaction.commit().await.unwrap();
        database.close().await;
    });
}
