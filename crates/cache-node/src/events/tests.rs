use cache_events::Scope;
use cache_testkit::{ManualClock, event};
use futures_util::FutureExt;

use super::*;

const P: Partition = Partition(0);

fn events(followers_max: usize) -> Arc<Events> {
    let node = NodeId::new("here").expect("valid");
    Arc::new(Events::new(node, Arc::new(ManualClock::default()), followers_max))
}

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

/// An event that is heard in its turn.
fn hear(events: &Events, seq: u64) {
    events.applied(P, at(seq), &event(vec![Scope::All]));
    events.stands(P, at(seq));
}

fn sequences(heard: &[Arc<Heard>]) -> Vec<u64> {
    heard.iter().map(|heard| heard.sequenced.position.seq).collect()
}

fn now(follower: &mut Follower, max: usize) -> Option<(u64, Vec<u64>)> {
    let told = follower.next(max).now_or_never()?.expect("not closed");
    Some((told.missed, sequences(&told.events)))
}

#[test]
fn what_came_ahead_is_told_in_the_order_of_the_log_and_once() {
    let events = events(1);
    let mut follower = events.follow(None).expect("room");
    events.applied(P, at(2), &event(vec![Scope::All]));
    assert_eq!(now(&mut follower, 9), None, "its predecessor is missing");
    events.applied(P, at(1), &event(vec![Scope::All]));
    events.stands(P, at(2));
    // An own write whose hint was faster.
    events.wrote(P, at(1), &event(vec![Scope::All]));
    events.applied(P, at(2), &event(vec![Scope::All]));
    events.stands(P, at(2));
    assert_eq!(now(&mut follower, 9), Some((0, vec![1, 2])));
    assert_eq!(now(&mut follower, 9), None);
    assert_eq!(sequences(&events.latest(9, |_| true)), [2, 1], "newest first");
}

#[test]
fn a_reader_that_falls_behind_is_told_how_many_it_missed() {
    let events = events(2);
    let mut slow = events.follow(None).expect("room");
    let beyond = 5;
    (1..=REMEMBERED_MAX as u64 + beyond).for_each(|seq| hear(&events, seq));
    assert_eq!(now(&mut slow, 2), Some((beyond, vec![6, 7])));
    assert_eq!(now(&mut slow, 1), Some((0, vec![8])));
    assert_eq!(events.memory.lock().places.len(), REMEMBERED_MAX);
}

#[test]
fn what_is_remembered_is_bounded_in_bytes() {
    let events = events(1);
    let mut large = event(vec![Scope::All]);
    large.data = Some(Value::String("x".repeat(REMEMBERED_BYTES_MAX / 4)));
    for seq in 1..=8 {
        events.applied(P, at(seq), &large);
        events.stands(P, at(seq));
    }
    assert_eq!(sequences(&events.latest(9, |_| true)), [8, 7, 6]);
    assert!(events.memory.lock().bytes <= REMEMBERED_BYTES_MAX);
}

#[test]
fn a_reader_resumes_after_what_it_heard_last() {
    let events = events(2);
    (1..=3).for_each(|seq| hear(&events, seq));
    assert_eq!(now(&mut events.follow(Some((P, at(2)))).expect("room"), 9), Some((0, vec![3])));
    assert_eq!(now(&mut events.follow(Some((P, at(3)))).expect("room"), 9), None);
    let unknown = Some((P, Position::new(9, 9)));
    assert_eq!(now(&mut events.follow(unknown).expect("room"), 9), Some((1, vec![1, 2, 3])));
}

#[test]
fn a_gap_is_told_at_its_place() {
    let events = events(1);
    let mut follower = events.follow(None).expect("room");
    events.flushed(P, 1, FlushCause::Joined);
    hear(&events, 1);
    events.applied(P, at(5), &event(vec![Scope::All]));
    events.flushed(P, 1, FlushCause::Gap);
    hear(&events, 6);
    assert_eq!(now(&mut follower, 9), Some((0, vec![1, 5])), "what came ahead was applied");
    assert_eq!(now(&mut follower, 9), Some((1, vec![6])));
    assert_eq!(events.gaps(), 1, "who joins has missed nothing");
}

#[test]
fn followers_are_limited_and_leave_room_when_they_go() {
    let events = events(1);
    let first = events.follow(None).expect("room");
    assert!(events.follow(None).is_none());
    drop(first);
    assert!(events.follow(None).is_some());
}

#[test]
fn followers_end_with_the_node() {
    let events = events(1);
    let mut follower = events.follow(None).expect("room");
    events.close();
    assert!(follower.next(1).now_or_never().expect("at once").is_none());
}
