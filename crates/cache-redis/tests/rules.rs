//! The rules of the scripts, one test each, looked at from inside the server where that tells more. What every store
//! must keep is in the contract.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cache_bus::{Missed, Transport};
use cache_events::{Group, Key, Namespace, Pattern, Position, Tag};
use cache_l2::{Append, Invalidation, Lease, LeaseAsk, Store, StoreError};
use cache_redis::{RedisConfig, RedisStore};
use cache_testkit::{RedisServer, Reply};
use support::*;

const META: &str = "ec:{0}:m";
const LOG: &str = "ec:{0}:l";

/// A field of the meta.
fn meta(server: &RedisServer, field: &str) -> Option<String> {
    match server.command(&["HGET", META, field]) {
        Reply::Nil => None,
        reply => Some(reply.text()),
    }
}

fn resource(name: &str) -> Invalidation {
    let resources = vec![(Namespace::new("ns").unwrap(), name.to_owned())];
    Invalidation { resources, keep: LONG, ..Default::default() }
}

fn keys(keys: &[&Key]) -> Invalidation {
    Invalidation { keys: keys.iter().map(|&key| key.clone()).collect(), keep: LONG, ..Default::default() }
}

fn tag(name: &str) -> Group {
    Group::tag(&Tag::new(name).unwrap())
}

#[tokio::test]
async fn positions_are_contiguous_whoever_writes() {
    let server = RedisServer::start();
    let store = Arc::new(store(&server));
    let start = event(&store).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            let mut told = Vec::new();
            for number in 0..25 {
                let key = key(&format!("{writer}-{number}"));
                told.push(store.put(&key, record(Position::ZERO, 0, ""), LONG, append("put")).await.unwrap());
            }
            told
        });
    }
    let mut told = writers.join_all().await.concat();
    told.sort_unstable();
    let expected: Vec<_> = (1..=200).map(|number| Position::new(start.epoch, start.seq + number)).collect();
    assert_eq!(told, expected);

    let answer = transport(&server).sync(P0, &node("a"), start, 1_000).await.unwrap();
    let Missed::Entries(entries) = answer.missed else { panic!("{:?}", answer.missed) };
    assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_stale_fill_is_refused() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    let lease = store.lease(&key, ask(1)).await.unwrap();
    assert_eq!(lease.lease, Lease::Granted);
    store.invalidate(P0, &keys(&[&key]), append("changed")).await.unwrap();
    assert!(!store.fill(&key, ask(1).token, record(lease.head, 0, "old"), LONG).await.unwrap());
    assert!(store.read(P0, &[key]).await.unwrap().items[0].record.is_none());
}

#[tokio::test]
async fn a_fill_of_a_resource_that_was_invalidated_meanwhile_is_dead() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    let lease = store.lease(&key, ask(1)).await.unwrap();
    let stamped = store.invalidate(P0, &resource("a"), append("changed")).await.unwrap();
    store.fill(&key, ask(1).token, record(lease.head, 0, "old"), LONG).await.unwrap();
    let item = store.read(P0, std::slice::from_ref(&key)).await.unwrap().items.remove(0);
    assert!(item.stamp == Some(stamped) && stamped.seq > lease.head.seq);
    assert_eq!(store.lease(&key, ask(2)).await.unwrap().lease, Lease::Granted);
}

#[tokio::test]
async fn versions_compare_as_numbers_and_leave_floors() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    // As text 10 would be below 9; as a double 2^53 would be 2^53 + 1.
    for (version, accepted) in [(9, true), (10, true), (9, false), ((1 << 53) + 1, true), (1 << 53, false)] {
        assert_eq!(put(&store, &key, version).await.is_some(), accepted, "{version}");
    }
    store.invalidate(P0, &keys(&[&key]), append("changed")).await.unwrap();
    assert!(put(&store, &key, (1 << 53) + 1).await.is_none());
    assert!(put(&store, &key, (1 << 53) + 2).await.is_some());
}

#[tokio::test]
async fn what_a_pattern_removes_leaves_its_version() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("gpu-1"));
    put(&store, &key, 7).await.unwrap();
    let pattern = Pattern::new("gpu-*").unwrap();
    store.invalidate_pattern(P0, key.namespace(), &pattern, append("changed")).await.unwrap();
    assert!(store.read(P0, std::slice::from_ref(&key)).await.unwrap().items[0].record.is_none());
    assert!(put(&store, &key, 7).await.is_none());
    assert!(put(&store, &key, 8).await.is_some());
}

#[tokio::test]
async fn a_record_of_another_version_than_the_call_is_refused() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    let wrong = record(Position::ZERO, 3, "");
    let refused = store.put_versioned(&key, cache_events::Version(4), wrong, LONG, append("put")).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    let refused = store.put(&key, "no record".into(), LONG, append("put")).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn flushall_begins_an_epoch() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let before = event(&store).await;
    server.command(&["FLUSHALL"]);
    let answer = transport.sync(P0, &node("a"), before, 10).await.unwrap();
    assert!(answer.head.epoch > before.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    assert_eq!(meta(&server, "why").as_deref(), Some("init"));
}

#[tokio::test]
async fn a_restart_with_all_data_begins_an_epoch_and_old_records_are_dead() {
    let mut server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    let before = put(&store, &key, 1).await.unwrap();
    server.restart_with_data();
    let answer = eventually(async || store.read(P0, std::slice::from_ref(&key)).await).await;
    assert_eq!(meta(&server, "why").as_deref(), Some("incarnation"));
    assert!(answer.epoch > before.epoch, "the hello of the new connection tells the new epoch");
    let old = answer.items[0].record.as_ref().expect("it was saved");
    assert_eq!(u64::from_be_bytes(old[4..12].try_into().unwrap()), before.epoch);
    assert_eq!(store.lease(&key, ask(1)).await.unwrap().lease, Lease::Granted);
}

#[tokio::test]
async fn an_old_snapshot_does_not_give_positions_out_again() {
    let mut server = RedisServer::start();
    let (store, transport, key) = (store(&server), transport(&server), key("a"));
    put(&store, &key, 1).await.unwrap();
    server.save();
    // Acknowledged, seen by a node, and then lost.
    let lost = store.invalidate(P0, &keys(&[&key]), append("changed")).await.unwrap();
    server.revive();
    // Somebody who knows nothing writes first: without the incarnation it would get the lost position, and the node
    // that saw the lost event would miss nothing.
    let stranger = support::store(&server);
    assert!(event(&stranger).await.epoch > lost.epoch);
    let answer = eventually(async || transport.sync(P0, &node("a"), lost, 10).await).await;
    assert!(answer.head.epoch > lost.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    let read = eventually(async || store.read(P0, std::slice::from_ref(&key)).await).await;
    assert!(read.epoch > lost.epoch, "the record that the snapshot brought back is dead");
}

#[tokio::test]
async fn lost_meta_begins_an_epoch_above_the_caller() {
    let server = RedisServer::start();
    let store = store(&server);
    event(&store).await;
    server.command(&["DEL", META]);
    // A caller whose epoch is ahead of the clock of the server, which somebody set back.
    let at = Position::new(1 << 52, 7);
    let next = store.invalidate(P0, &Invalidation::default(), append_from(at, "event")).await.unwrap();
    // Not by one: another server that has lost as much must not come to the same number.
    let above = next.epoch - at.epoch;
    assert!((1..=1 << 20).contains(&above) && next.seq == 1, "{next}");
    // Nor may this one come to it again, for there are nodes that have seen what it was.
    server.command(&["FLUSHALL"]);
    let again = store.invalidate(P0, &Invalidation::default(), append_from(at, "event")).await.unwrap();
    assert!(again.epoch > at.epoch && again.epoch != next.epoch, "{again} after {next}");
}

#[tokio::test]
async fn lost_meta_begins_an_epoch_above_the_log() {
    let server = RedisServer::start();
    let store = store(&server);
    // An epoch ahead of the clock of the server, which somebody set back.
    let at = Position::new(1 << 52, 7);
    let before = store.invalidate(P0, &Invalidation::default(), append_from(at, "event")).await.unwrap();
    for _ in 0..2 {
        server.command(&["DEL", META]);
        // A caller who knows nothing: without the log this would be an epoch of the past, and later one that was there
        // before, with records from then.
        let next = event(&store).await;
        assert!(next.epoch > before.epoch && next.seq == 1, "{next}, before {before}");
    }
    // A stream of somebody else tells nothing.
    server.command(&["DEL", META, LOG]);
    server.command(&["XADD", LOG, "9300000000000000-1", "a", "b"]);
    assert!(event(&store).await.epoch < before.epoch);
}

/// A stamp that is set while the clock is behind is gone before the record that it outdates, once the clock is right again.
#[tokio::test]
async fn a_clock_that_went_back_ends_the_epoch() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    let now = |server: &RedisServer| match server.command(&["TIME"]) {
        Reply::List(parts) => parts[0].text().parse::<u64>().unwrap() * 1000,
        reply => panic!("{reply:?}"),
    };
    let mut at = event(&store).await;
    let noted: u64 = meta(&server, "t").unwrap().parse().unwrap();
    assert!(now(&server).abs_diff(noted) < 10_000, "{noted}");
    // As if the clock had been ahead by so much until now.
    for (ahead_ms, ends) in [(1_000, false), (3_600_000, true)] {
        at = store.put(&key, record(Position::ZERO, 0, "old"), LONG, append_from(at, "put")).await.unwrap();
        server.command(&["HSET", META, "t", &(now(&server) + ahead_ms).to_string()]);
        let outdated = store.invalidate(P0, &resource("a"), append_from(at, "changed")).await.unwrap();
        assert_eq!(outdated.epoch > at.epoch, ends, "{ahead_ms} ms: {outdated}, before {at}");
        assert_eq!(store.lease(&key, ask(1)).await.unwrap().lease, Lease::Granted);
        at = outdated;
    }
    assert_eq!(meta(&server, "why").as_deref(), Some("clock"));
    // Once, and from then on by the new time.
    assert_eq!(event(&store).await, at.next());

    // Looking is enough to note how late it is, at most once a second.
    server.command(&["HSET", META, "t", "1"]);
    store.lease(&key, ask(1)).await.unwrap();
    let noted: u64 = meta(&server, "t").unwrap().parse().unwrap();
    assert!(now(&server).abs_diff(noted) < 10_000, "{noted}");
}

/// All writes below know where they stand, as those of a node do: then the scripts take their short way.
#[tokio::test]
async fn the_short_way_of_a_write_keeps_the_rules() {
    let server = RedisServer::start();
    let few = RedisConfig { log_entries_max: 16, ..config(&server) };
    let (store, key) = (RedisStore::new(few).unwrap(), key("a"));
    let mut at = event(&store).await;

    // A put takes the lease away and writes its position into the record.
    store.lease(&key, ask(1)).await.unwrap();
    let plain = record(Position::ZERO, 0, "new");
    let put_at = store.put(&key, plain, LONG, append_from(at, "put")).await.unwrap();
    assert_eq!(put_at, at.next());
    assert!(!store.fill(&key, ask(1).token, record(at, 0, "old"), LONG).await.unwrap());
    let read = store.read(P0, std::slice::from_ref(&key)).await.unwrap().items.remove(0);
    assert_eq!(read.record.unwrap(), record(put_at, 0, "new"));

    // An invalidation removes record and lease.
    at = put_at;
    assert!(matches!(store.lease(&key, ask(2)).await.unwrap().lease, Lease::Value(_)));
    at = store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.unwrap();
    assert_eq!(at, put_at.next());
    store.lease(&key, ask(2)).await.unwrap();
    at = store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.unwrap();
    assert!(!store.fill(&key, ask(2).token, record(at, 0, "old"), LONG).await.unwrap());

    // A version leaves a floor; a resource is stamped.
    at = put(&store, &key, 7).await.unwrap();
    at = store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.unwrap();
    assert!(put(&store, &key, 7).await.is_none());
    at = store.invalidate(P0, &resource("a"), append_from(at, "changed")).await.unwrap();
    assert_eq!(store.read(P0, std::slice::from_ref(&key)).await.unwrap().items[0].stamp, Some(at));

    // The log stays below its limits, and nobody gets a position twice.
    for _ in 0..100 {
        let next = store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.unwrap();
        assert_eq!(next, at.next());
        at = next;
    }
    let entries = server.command(&["XLEN", LOG]).int();
    assert!((8..=18).contains(&entries), "{entries}");

    // No memory is an error, and nothing was counted.
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = store.put(&key, record(Position::ZERO, 0, ""), LONG, append_from(at, "put")).await;
    assert!(
        matches!(&refused, Err(StoreError::Refused { message }) if message.contains("OOM")),
        "{refused:?}"
    );
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let next = store.invalidate(P0, &keys(&[&key]), append_from(at, "changed")).await.unwrap();
    assert_eq!(next, at.next());

    // Whoever is behind its epoch, or ahead of it, does not append to it.
    let flushed = store.flush(P0, append("flush")).await.unwrap();
    let late = store.invalidate(P0, &keys(&[&key]), append_from(next, "changed")).await.unwrap();
    assert_eq!(late, flushed.next(), "an older caller appends to the live epoch");
    let above = Position::new(flushed.epoch + 1_000_000_000, 5);
    let bumped = store.invalidate(P0, &keys(&[&key]), append_from(above, "changed")).await.unwrap();
    assert!(bumped.epoch > above.epoch && bumped.seq == 1, "{bumped}");
    server.command(&["DEL", LOG]);
    let again = store.invalidate(P0, &keys(&[&key]), append_from(bumped, "changed")).await.unwrap();
    assert!(again.epoch > bumped.epoch && again.seq == 1, "{again}");
}

#[tokio::test]
async fn an_epoch_does_not_reach_the_limit() {
    let server = RedisServer::start();
    let store = store(&server);
    let before = event(&store).await;
    let at = Position::new(Position::LIMIT - 1, 0);
    let refused = store.invalidate(P0, &Invalidation::default(), append_from(at, "event")).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    assert_eq!(event(&store).await, before.next());
}

#[tokio::test]
async fn a_lost_log_begins_an_epoch_whoever_comes_first() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let start = event(&store).await;
    server.command(&["DEL", LOG]);
    let answer = transport.sync(P0, &node("a"), start, 10).await.unwrap();
    assert!(answer.head.epoch > start.epoch && matches!(answer.missed, Missed::Reset(_)), "{answer:?}");
    assert_eq!(meta(&server, "why").as_deref(), Some("lost log"));

    // A key of another type in its place, and one that writes.
    server.command(&["DEL", LOG]);
    server.command(&["SET", LOG, "not a stream"]);
    let next = event(&store).await;
    assert!(next.epoch > answer.head.epoch && next.seq == 1, "{next}");
}

#[tokio::test]
async fn a_caller_ahead_of_the_log_begins_an_epoch() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let start = event(&store).await;
    // It has seen one event more than there is: that one was lost, and its number must not be used again.
    let next =
        store.invalidate(P0, &Invalidation::default(), append_from(start.next(), "event")).await.unwrap();
    assert!(next.epoch > start.epoch && next.seq == 1, "{next}");
    let answer = transport.sync(P0, &node("a"), next.next(), 10).await.unwrap();
    assert!(answer.head.epoch > next.epoch, "{answer:?}");
    assert_eq!(meta(&server, "why").as_deref(), Some("future cursor"));
    // One that has seen all there is is not ahead.
    let last = event(&store).await;
    let next = store.invalidate(P0, &Invalidation::default(), append_from(last, "event")).await.unwrap();
    assert_eq!(next, last.next());
}

#[tokio::test]
async fn a_hole_in_the_log_is_a_gap() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let start = event(&store).await;
    for _ in 0..3 {
        event(&store).await;
    }
    // What was counted and not appended looks the same.
    server.command(&["XDEL", LOG, &start.next().next().to_string()]);
    let answer = transport.sync(P0, &node("a"), start, 10).await.unwrap();
    assert!(matches!(answer.missed, Missed::Gap(_)), "{answer:?}");
    let before = transport.sync(P0, &node("a"), start, 1).await.unwrap();
    assert!(matches!(before.missed, Missed::Entries(_)), "what lies before the hole is there: {before:?}");
}

#[tokio::test]
async fn the_log_stays_below_its_limits() {
    let server = RedisServer::start();
    let few = RedisConfig { log_entries_max: 16, ..config(&server) };
    let store = RedisStore::new(few).unwrap();
    for _ in 0..100 {
        event(&store).await;
    }
    let entries = server.command(&["XLEN", LOG]).int();
    assert!((8..=18).contains(&entries), "{entries}");

    let small = RedisConfig { log_bytes_max: 65_536, prefix: "small".into(), ..config(&server) };
    let store = RedisStore::new(small).unwrap();
    for _ in 0..300 {
        let large = Append { payload: vec![b'x'; 1_000].into(), ..append("") };
        store.invalidate(P0, &Invalidation::default(), large).await.unwrap();
    }
    let entries = server.command(&["XLEN", "small:{0}:l"]).int();
    assert!((40..=72).contains(&entries), "{entries} entries of about 1,000 bytes in 65,536");
}

#[tokio::test]
async fn too_many_groups_begin_an_epoch_and_old_ones_make_room() {
    let server = RedisServer::start();
    let store = RedisStore::new(RedisConfig { groups_max: 3, ..config(&server) }).unwrap();
    let (hour, first) = (Duration::from_secs(3600), [tag("a"), tag("b"), tag("c")]);
    let before = store.invalidate_groups(P0, &first, hour, append("groups")).await.unwrap();
    assert_eq!(meta(&server, "gc").as_deref(), Some("3"));
    // One of them is older than any entry can be.
    server.command(&["HSET", META, "g:t:b", "1:1000"]);
    let after = store.invalidate_groups(P0, &[tag("d")], hour, append("groups")).await.unwrap();
    assert_eq!(after, before.next());
    assert_eq!(meta(&server, "g:t:b"), None);
    let over = store.invalidate_groups(P0, &[tag("e")], hour, append("groups")).await.unwrap();
    assert!(over.epoch > before.epoch && over.seq == 1, "{over}");
    assert_eq!((meta(&server, "gc").as_deref(), meta(&server, "g:t:a")), (Some("0"), None));
    assert_eq!(meta(&server, "why").as_deref(), Some("group overflow"));
}

#[tokio::test]
async fn rows_of_nodes_survive_a_new_epoch_and_groups_do_not() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let head = store.invalidate_groups(P0, &[tag("a")], LONG, append("groups")).await.unwrap();
    transport.sync(P0, &node("edge-1"), head, 10).await.unwrap();
    assert!(meta(&server, "g:t:a").is_some());
    let flushed = store.flush(P0, append("flush")).await.unwrap();
    assert!(meta(&server, "n:edge-1").is_some_and(|row| row.starts_with(&format!("{head}:"))));
    assert_eq!(meta(&server, "g:t:a"), None);
    let answer = transport.sync(P0, &node("edge-1"), head, 10).await.unwrap();
    assert_eq!(answer.head, flushed);
    let Missed::Reset(groups) = answer.missed else { panic!("{:?}", answer.missed) };
    assert!(groups.is_empty(), "rows of nodes are no groups: {groups:?}");
}

#[tokio::test]
async fn rows_of_nodes_that_are_gone_are_removed() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let head = event(&store).await;
    server.command(&["HSET", META, "n:gone", "1-1:1000", "n:odd", "?"]);
    transport.sync(P0, &node("here"), head, 10).await.unwrap();
    assert_eq!((meta(&server, "n:gone"), meta(&server, "n:odd")), (None, None));
    assert!(meta(&server, "n:here").is_some());
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let server = RedisServer::start();
    let (store, transport) = (store(&server), transport(&server));
    let head = event(&store).await;
    transport.sync(P0, &node("a"), head, 10).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(event(&store).await, head.next());
    transport.sync(P0, &node("a"), head, 10).await.unwrap();
}

#[tokio::test]
async fn without_memory_puts_are_refused_and_invalidations_are_not() {
    let server = RedisServer::start();
    let (store, key) = (store(&server), key("a"));
    let before = put(&store, &key, 1).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = store.put(&key, record(Position::ZERO, 2, ""), LONG, append("put")).await;
    assert!(
        matches!(&refused, Err(StoreError::Refused { message }) if message.contains("OOM")),
        "{refused:?}"
    );
    let removed = store.invalidate(P0, &keys(&[&key]), append("changed")).await.unwrap();
    assert_eq!(removed, before.next(), "the refused put counted nothing");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(store.read(P0, &[key]).await.unwrap().items[0].record.is_none());
}

#[tokio::test]
async fn long_keys_are_cut_and_patterns_still_remove_them() {
    let server = RedisServer::start();
    let store = store(&server);
    let (long, other) = (key(&"x".repeat(2_000)), key(&format!("{}y", "x".repeat(1_999))));
    put(&store, &long, 1).await.unwrap();
    put(&store, &other, 2).await.unwrap();
    let answer = store.read(P0, &[long.clone(), other]).await.unwrap();
    assert!(answer.items.iter().all(|item| item.record.is_some()));
    assert_ne!(answer.items[0].record, answer.items[1].record);
    let pattern = Pattern::new("xx*").unwrap();
    store.invalidate_pattern(P0, long.namespace(), &pattern, append("changed")).await.unwrap();
    assert!(store.read(P0, &[long]).await.unwrap().items[0].record.is_none());
}

#[tokio::test]
async fn an_epoch_seen_anywhere_counts_for_reads() {
    let server = RedisServer::start();
    let (one, two, key) = (store(&server), store(&server), key("a"));
    let before = put(&one, &key, 1).await.unwrap();
    assert_eq!(two.read(P0, std::slice::from_ref(&key)).await.unwrap().epoch, before.epoch);
    let flushed = one.flush(P0, append("flush")).await.unwrap();
    // The connections of the other store are from before; its first lease tells.
    two.lease(&key, LeaseAsk { refresh: true, ..ask(1) }).await.unwrap();
    assert_eq!(two.read(P0, std::slice::from_ref(&key)).await.unwrap().epoch, flushed.epoch);
}

#[tokio::test]
async fn removing_all_leaves_nothing() {
    let server = RedisServer::start();
    let store = store(&server);
    put(&store, &key("a"), 1).await.unwrap();
    server.command(&["SET", "other", "1"]);
    store.remove_all().await.unwrap();
    assert_eq!(server.command(&["DBSIZE"]).int(), 1);
}
