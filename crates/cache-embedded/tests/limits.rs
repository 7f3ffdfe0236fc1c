//! What the server does at its limits, over time, and when it loses everything.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_bus::{Hint, Missed, Transport};
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Clock, Key, Namespace, NodeId, Partition, Position, Version};
use cache_l2::{
    Append, Invalidation, JsonCodec, Lease, LeaseAsk, LeaseToken, RecordFormat, RecordHead, Store, StoreError,
};
use support::ManualClock;

const P: Partition = Partition(0);
const MINUTE: Duration = Duration::from_secs(60);

fn server(config: EmbeddedConfig) -> (EmbeddedServer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (EmbeddedServer::new(config, clock.clone()), clock)
}

fn key(number: u32) -> Key {
    Key::builder(&Namespace::new("things").unwrap(), "thing").param("n", number.to_string()).build().unwrap()
}

fn record(key: &Key, length: usize) -> Bytes {
    let format = RecordFormat { compress_above: None, ..RecordFormat::new(1) };
    format.seal(&RecordHead::default(), key, Some(&"x".repeat(length)), &JsonCodec).unwrap()
}

async fn put(server: &EmbeddedServer, number: u32, length: usize, ttl: Duration) -> Position {
    let key = key(number);
    server.put(&key, record(&key, length), ttl, Append::default()).await.unwrap()
}

async fn stored(server: &EmbeddedServer, numbers: std::ops::Range<u32>) -> Vec<u32> {
    let keys: Vec<Key> = numbers.clone().map(key).collect();
    let items = server.read(P, &keys).await.unwrap().items;
    numbers.zip(items).filter(|(_, item)| item.record.is_some()).map(|(number, _)| number).collect()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

#[tokio::test]
async fn where_bytes_run_out_what_expires_soonest_leaves() {
    let (server, _) = server(EmbeddedConfig { bytes_max: 20_000, ..Default::default() });
    put(&server, 0, 4_000, MINUTE * 9).await;
    put(&server, 1, 4_000, MINUTE).await;
    put(&server, 2, 4_000, MINUTE * 5).await;
    put(&server, 3, 4_000, MINUTE * 5).await;
    assert_eq!(stored(&server, 0..4).await, [0, 1, 2, 3]);
    put(&server, 4, 4_000, MINUTE * 7).await;
    assert_eq!(stored(&server, 0..5).await, [0, 2, 3, 4]);
    put(&server, 5, 4_000, MINUTE * 7).await;
    assert_eq!(stored(&server, 0..6).await, [0, 3, 4, 5], "of equals the oldest leaves");
    put(&server, 6, 30_000, MINUTE * 60).await;
    let state = server.inspect(P).unwrap();
    assert!(state.bytes <= 20_000, "{state:?}");
    assert_eq!(state.epoch_cause, "init", "records make room without a new epoch");
}

#[tokio::test]
async fn where_stamps_alone_are_too_many_a_new_epoch_makes_them_needless() {
    let (server, _) = server(EmbeddedConfig { bytes_max: 20_000, ..Default::default() });
    let before = put(&server, 0, 100, MINUTE).await;
    let mut seen = 0;
    for number in 0..200 {
        let resources = vec![(Namespace::new("things").unwrap(), format!("thing {number}"))];
        let what = Invalidation { resources, keep: MINUTE, ..Default::default() };
        server.invalidate(P, &what, Append::default()).await.unwrap();
        let state = server.inspect(P).unwrap();
        assert!(state.bytes <= 20_000, "{state:?}");
        if state.position.epoch > before.epoch {
            assert_eq!(state.epoch_cause, "stamp_overflow");
            seen += 1;
        }
    }
    assert!(seen > 0, "200 stamps fit into 20,000 bytes");
    assert_eq!(stored(&server, 0..1).await, [0_u32; 0]);
}

#[tokio::test]
async fn expired_records_leave_without_being_asked_for() {
    let (server, clock) = server(EmbeddedConfig::default());
    for number in 0..1_000 {
        put(&server, number, 10, MINUTE).await;
    }
    clock.advance(MINUTE);
    assert_eq!(stored(&server, 0..1_000).await, [0_u32; 0]);
    for number in 1_000..1_063 {
        put(&server, number, 10, MINUTE).await;
    }
    let state = server.inspect(P).unwrap();
    assert_eq!(state.records, 63, "some of 1,000 expired records are still held after 63 writes");
}

#[tokio::test]
async fn a_full_log_drops_its_oldest_and_who_needs_them_has_a_gap() {
    for config in [
        EmbeddedConfig { log_entries_max: 10, ..Default::default() },
        EmbeddedConfig { log_bytes_max: 1_000, ..Default::default() },
    ] {
        let (server, _) = server(config);
        let append = Append { payload: Bytes::from(vec![0; 100]), ..Default::default() };
        for _ in 0..30 {
            server.invalidate(P, &Invalidation::default(), append.clone()).await.unwrap();
        }
        let epoch = server.position(P).unwrap().epoch;
        assert_eq!(server.inspect(P).unwrap().log_entries, 10);
        let gap = server.sync(P, &node("a"), Position::new(epoch, 19), 100).await.unwrap();
        assert!(matches!(gap.missed, Missed::Gap(_)), "{gap:?}");
        let rest = server.sync(P, &node("a"), Position::new(epoch, 20), 100).await.unwrap();
        assert!(matches!(rest.missed, Missed::Entries(ref entries) if entries.len() == 10), "{rest:?}");
    }
}

#[tokio::test]
async fn a_slow_subscriber_is_told_of_the_overflow_and_hears_the_latest() {
    let (server, _) = server(EmbeddedConfig { hints_max: 4, ..Default::default() });
    let mut slow = server.subscribe().await.unwrap();
    let mut last = Position::ZERO;
    for number in 0..10 {
        last = put(&server, number, 1, MINUTE).await;
    }
    assert!(matches!(slow.next().await, Hint::Overflow));
    let mut heard = Position::ZERO;
    for _ in 0..4 {
        match slow.next().await {
            Hint::Event { position, .. } => heard = position,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, last);
}

#[tokio::test]
async fn a_subscription_ends_with_the_server() {
    let (server, _) = server(EmbeddedConfig::default());
    let mut stream = server.subscribe().await.unwrap();
    drop(server);
    assert!(matches!(stream.next().await, Hint::Closed(_)));
}

#[tokio::test]
async fn a_server_that_lost_everything_has_a_new_epoch_and_nothing_else() {
    let (server, _) = server(EmbeddedConfig { partitions: 3, ..Default::default() });
    let keys: Vec<Key> = (0..3)
        .map(|number| Key::new(&Namespace::new("things").unwrap(), number.to_string()).unwrap())
        .collect();
    for key in &keys {
        let append = Append::default();
        server.put_versioned(key, Version(9), record(key, 1), MINUTE, append).await.unwrap();
    }
    let before: Vec<_> = (0..3).map(|number| server.position(Partition(number)).unwrap()).collect();
    server.sync(Partition(1), &node("a"), before[1], 10).await.unwrap();
    let mut hints = server.subscribe().await.unwrap();
    server.restart_empty();
    for (number, before) in before.into_iter().enumerate() {
        let state = server.inspect(Partition(number as u32)).unwrap();
        assert!(state.position.epoch > before.epoch, "{before} {state:?}");
        assert_eq!((state.position.seq, state.epoch_cause, state.records, state.bytes), (0, "restart", 0, 0));
        assert_eq!((state.log_entries, state.nodes.len()), (0, 0));
        assert!(matches!(hints.next().await, Hint::Event { position, .. } if position == state.position));
    }
    for key in &keys {
        let append = Append::default();
        let again = server.put_versioned(key, Version(1), record(key, 1), MINUTE, append).await.unwrap();
        assert!(again.is_some(), "a floor outlived the loss of everything");
    }
}

#[tokio::test]
async fn nodes_are_noted_while_they_sync_and_outlive_a_new_epoch() {
    let (server, clock) = server(EmbeddedConfig::default());
    let at = put(&server, 0, 1, MINUTE).await;
    server.sync(P, &node("old"), at, 10).await.unwrap();
    clock.advance(Duration::from_secs(15));
    server.sync(P, &node("young"), Position::ZERO, 10).await.unwrap();
    server.flush(P, Append::default()).await.unwrap();
    let ages = [(node("old"), at, Duration::from_secs(15)), (node("young"), Position::ZERO, Duration::ZERO)];
    assert_eq!(server.inspect(P).unwrap().nodes, ages);
    clock.advance(Duration::from_secs(15));
    server.sync(P, &node("young"), at, 10).await.unwrap();
    assert_eq!(server.inspect(P).unwrap().nodes, [(node("young"), at, Duration::ZERO)]);
}

#[tokio::test]
async fn steps_in_the_wrong_partition_are_refused() {
    let (server, _) = server(EmbeddedConfig { partitions: 2, ..Default::default() });
    let key = key(1);
    let other = Partition(1 - key.partition(2).0);
    let wrong = Invalidation { keys: vec![key.clone()], ..Default::default() };
    let refused = [
        server.read(other, std::slice::from_ref(&key)).await.err(),
        server.invalidate(other, &wrong, Append::default()).await.err(),
        server.flush(Partition(2), Append::default()).await.err(),
        server.put(&key, Bytes::from_static(b"no record"), MINUTE, Append::default()).await.err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(StoreError::Refused { .. })), "{error:?}");
    }
    assert!(server.sync(Partition(2), &node("a"), Position::ZERO, 1).await.is_err());
}

#[tokio::test]
async fn a_load_from_before_a_new_epoch_blocks_nobody_and_fills_nothing() {
    let (server, _) = server(EmbeddedConfig::default());
    let ask = |number| LeaseAsk {
        token: LeaseToken([number; 16]),
        ttl: MINUTE,
        refresh: false,
        at: Position::ZERO,
    };
    server.lease(&key(1), ask(1)).await.unwrap();
    server.flush(P, Append::default()).await.unwrap();
    assert_eq!(server.lease(&key(1), ask(2)).await.unwrap().lease, Lease::Granted);
    assert!(!server.fill(&key(1), LeaseToken([1; 16]), record(&key(1), 1), MINUTE).await.unwrap());
    assert!(server.fill(&key(1), LeaseToken([2; 16]), record(&key(1), 1), MINUTE).await.unwrap());
}

#[tokio::test]
async fn a_hold_outlives_a_put_and_a_shorter_hold() {
    let (server, _) = server(EmbeddedConfig::default());
    for hold in [MINUTE, Duration::from_secs(1), Duration::ZERO] {
        let what = Invalidation { keys: vec![key(1)], keep: MINUTE, hold, ..Default::default() };
        server.invalidate(P, &what, Append::default()).await.unwrap();
        put(&server, 1, 1, MINUTE).await;
    }
    server
        .invalidate(P, &Invalidation { keys: vec![key(1)], ..Default::default() }, Append::default())
        .await
        .unwrap();
    let ask = LeaseAsk { token: LeaseToken([1; 16]), ttl: MINUTE, refresh: false, at: Position::ZERO };
    assert_eq!(server.lease(&key(1), ask).await.unwrap().lease, Lease::Hold(MINUTE));
}

/// A wall clock that jumps, as machines' clocks do, beside a monotone one that does not.
#[derive(Default)]
struct Jumping {
    now: AtomicU64,
    wall: AtomicU64,
}

impl Clock for Jumping {
    fn now(&self) -> u64 {
        1 + self.now.load(Ordering::SeqCst)
    }

    fn wall(&self) -> u64 {
        1_700_000_000_000 + self.wall.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn the_time_of_the_server_does_not_jump_with_the_wall_clock() {
    let clock = Arc::new(Jumping::default());
    let server = EmbeddedServer::new(EmbeddedConfig::default(), clock.clone());
    let time = async || server.sync(P, &node("a"), Position::ZERO, 1).await.unwrap().server_ms;
    assert_eq!(time().await, 1_700_000_000_000);
    clock.wall.store(86_400_000, Ordering::SeqCst);
    clock.now.store(5, Ordering::SeqCst);
    assert_eq!(time().await, 1_700_000_000_005);
}

#[test]
fn many_threads_get_positions_without_holes() {
    let (server, _) = server(EmbeddedConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let start = server.position(P).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = server.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for number in 0..250 {
                    runtime.block_on(put(&server, thread * 250 + number, 1, MINUTE));
                }
            });
        }
    });
    let mut stream = runtime.block_on(server.sync(P, &node("a"), start, 2_000)).unwrap();
    let Missed::Entries(entries) = std::mem::replace(&mut stream.missed, Missed::Gap(vec![])) else {
        panic!("{stream:?}")
    };
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.position.seq).collect();
    assert_eq!(seqs, (1..=1_000).collect::<Vec<_>>());
}
