//! The backlog against the protocol that it feeds: hints that are lost, repeated and out of order.

use std::collections::{BTreeMap, BTreeSet};

use cache_events::{CacheEvent, Namespace};
use proptest::prelude::*;

use super::*;
use crate::{Action, Answer, BusConfig, Missing, Protocol};

const P: Partition = Partition(0);
const NOW: u64 = 1_000;

fn key(number: u64) -> Key {
    Key::new(&Namespace::new("things").unwrap(), number.to_string()).unwrap()
}

fn event(number: u64) -> CacheEvent {
    cache_testkit::event(vec![Scope::Key(key(number))])
}

fn at(seq: u64) -> Position {
    Position::new(7, seq)
}

/// A node with a backlog, the log that it asks, and what it has applied.
struct World {
    backlog: Backlog,
    protocol: Protocol,
    /// The key of each event, from position 1 on.
    log: Vec<u64>,
    /// Of each key, the last event that was applied.
    applied: BTreeMap<u64, u64>,
    times: BTreeMap<u64, u32>,
    order: Vec<u64>,
    syncs: u32,
    /// Syncs are answered.
    answers: bool,
}

impl World {
    fn new(max: usize, log: Vec<u64>) -> Self {
        let mut protocol = Protocol::new(1, &BusConfig::default(), 1, NOW);
        protocol.subscribed(NOW);
        let (applied, times) = (BTreeMap::new(), BTreeMap::new());
        let backlog = Backlog::new(max);
        let mut world =
            Self { backlog, protocol, log, applied, times, order: Vec::new(), syncs: 0, answers: false };
        let answer = Answer { head: at(0), missing: Missing::Reset(Vec::new()) };
        world.protocol.answered(NOW, P, 1, NOW, answer);
        while world.protocol.next_action().is_some() {}
        world
    }

    fn told(&self, seq: u64) -> Told {
        Told::Event(event(self.log[seq as usize - 1]))
    }

    fn come(&mut self, seq: u64, turn: Turn) {
        self.come_as(at(seq), self.told(seq), turn);
    }

    fn come_as(&mut self, position: Position, told: Told, turn: Turn) {
        let came = self.backlog.push(P, position, told, turn);
        self.protocol.arrived(NOW, P, position);
        if let Came::Dropped(partition) = came {
            self.protocol.dropped(NOW, partition);
        }
        self.act();
    }

    /// Gives some their turn.
    fn work(&mut self, most: usize) {
        for _ in 0..most {
            let Some(Waiting { partition, position, told, covers }) = self.backlog.pop() else { break };
            self.protocol.hint_in_turn(NOW, partition, position, told);
            self.act_unchecked();
            for covered in covers {
                self.protocol.covered(NOW, partition, covered);
                self.act_unchecked();
            }
            self.check();
        }
    }

    fn act(&mut self) {
        self.act_unchecked();
        self.check();
    }

    fn act_unchecked(&mut self) {
        let mut orders = Vec::new();
        while let Some(action) = self.protocol.next_action() {
            match action {
                Action::Sync(order) => orders.push(order),
                Action::Apply { position, event, .. } => {
                    let [Scope::Key(key)] = event.scopes.as_slice() else { panic!("{event:?}") };
                    let key: u64 = key.resource().parse().unwrap();
                    let last = self.applied.entry(key).or_default();
                    *last = position.seq.max(*last);
                    *self.times.entry(position.seq).or_default() += 1;
                    self.order.push(position.seq);
                }
                Action::Flush { cause, .. } => panic!("flushed: {cause:?}"),
                Action::Publish { .. } => {}
            }
        }
        self.syncs += orders.len() as u32;
        let answers = self.answers;
        for order in orders.into_iter().filter(|_| answers) {
            let head = at(self.log.len() as u64);
            let entries = (order.at.seq + 1..=head.seq).map(|seq| (at(seq), self.told(seq))).collect();
            let answer = Answer { head, missing: Missing::Entries(entries) };
            self.protocol.answered(NOW, P, order.id, NOW, answer);
            self.act_unchecked();
        }
    }

    /// Whatever the cursor has passed has been done.
    fn check(&self) {
        let cursor = self.protocol.position(P).seq;
        for (index, key) in self.log.iter().enumerate().take(cursor as usize) {
            let seq = index as u64 + 1;
            let applied = self.applied.get(key).copied().unwrap_or_default();
            assert!(
                applied >= seq,
                "{seq} of key {key} is behind the cursor {cursor}, and only {applied} was applied"
            );
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// The next hint comes; how urgent it is.
    Come(Turn),
    /// It is lost.
    Lose,
    /// One that has come comes again.
    Again(u64),
    /// The next but so many comes before the next.
    Early(u64, Turn),
    Work(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let turn = || prop_oneof![1 => Just(Turn::First), 1 => Just(Turn::Each), 3 => Just(Turn::Latest)];
    prop_oneof![
        16 => turn().prop_map(Op::Come),
        1 => Just(Op::Lose),
        2 => (0..6_u64).prop_map(Op::Again),
        2 => (1..4_u64, turn()).prop_map(|(by, turn)| Op::Early(by, turn)),
        4 => (1..6_usize).prop_map(Op::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cursor_passes_nothing_that_was_not_done(
        max in 2..12_usize,
        answers in any::<bool>(),
        keys in prop::collection::vec(0..4_u64, 80),
        ops in prop::collection::vec(op(), 1..70),
    ) {
        let mut world = World::new(max, keys);
        world.answers = answers;
        let (mut next, mut lost, mut came) = (1, false, BTreeSet::new());
        for op in ops {
            match op {
                Op::Come(turn) => {
                    world.come(next, turn);
                    came.insert(next);
                    next += 1;
                }
                Op::Lose => {
                    lost = true;
                    next += 1;
                }
                Op::Again(back) => {
                    let seq = next.saturating_sub(1 + back).max(1);
                    world.come(seq, Turn::Latest);
                    came.insert(seq);
                    next = next.max(seq + 1);
                }
                Op::Early(by, turn) => {
                    lost = true;
                    world.come(next + by, turn);
                }
                Op::Work(most) => world.work(most),
            }
        }
        world.work(usize::MAX);
        let dropped = world.protocol.counters().dropped > 0;
        if !lost && !dropped {
            prop_assert_eq!(world.protocol.position(P), at(next - 1), "all that came was done");
            prop_assert_eq!(world.syncs, 0, "and nobody was asked");
            prop_assert!(world.times.values().all(|&times| times == 1), "once");
        } else if dropped {
            prop_assert!(world.syncs > 0);
        }
    }
}

#[test]
fn critical_events_go_first_and_nobody_is_asked_for_those_that_wait() {
    let mut world = World::new(100, (1..=50).collect());
    for seq in 1..=50 {
        world.come(seq, if seq % 10 == 0 { Turn::First } else { Turn::Each });
    }
    world.work(5);
    assert_eq!(world.order, [10, 20, 30, 40, 50]);
    assert_eq!(world.protocol.position(P), at(0), "the cursor waits for what is before them");
    world.work(usize::MAX);
    assert_eq!((world.protocol.position(P), world.syncs), (at(50), 0));
    assert_eq!(world.times.len(), 50);
}

#[test]
fn what_is_missing_is_asked_for_when_the_next_one_comes_not_when_its_turn_has_come() {
    let mut world = World::new(100, vec![1; 9]);
    world.come(1, Turn::Each);
    world.come(2, Turn::Each);
    assert_eq!(world.syncs, 0);
    world.come(4, Turn::Each);
    assert_eq!(world.syncs, 1);
    world.work(usize::MAX);
    assert_eq!((world.protocol.position(P), world.syncs), (at(2), 1));
}

#[test]
fn the_last_event_of_a_key_stands_for_all_in_the_place_of_the_first() {
    let mut world = World::new(100, vec![1, 2, 1, 3, 1]);
    for seq in [1, 2, 5, 3, 4] {
        world.come(seq, Turn::Latest);
    }
    world.work(1);
    assert_eq!((&*world.order, world.protocol.position(P)), (&[5][..], at(1)));
    world.work(usize::MAX);
    assert_eq!((&*world.order, world.protocol.position(P)), (&[5, 2, 4][..], at(5)));
    assert_eq!(world.protocol.counters().conflated, 2);
}

#[test]
fn what_is_told_each_or_brings_something_stands_for_itself() {
    let mut world = World::new(100, vec![1; 4]);
    world.come(1, Turn::Each);
    world.come(2, Turn::Each);
    let cargo = crate::Cargo { kind: cache_events::wire::CargoKind::Record, bytes: bytes::Bytes::new() };
    for seq in [3, 4] {
        world.come_as(at(seq), Told::Update(event(1), Box::new(cargo.clone())), Turn::Latest);
    }
    world.work(usize::MAX);
    assert_eq!(world.order, [1, 2, 3, 4]);
}

#[test]
fn events_of_different_epochs_stand_for_themselves() {
    let mut backlog = Backlog::new(10);
    for position in [at(1), Position::new(8, 1)] {
        assert_eq!(backlog.push(P, position, Told::Event(event(1)), Turn::Latest), Came::Kept);
    }
    let left: Vec<_> =
        std::iter::from_fn(|| backlog.pop()).map(|left| (left.position, left.covers)).collect();
    assert_eq!(left, [(at(1), vec![]), (Position::new(8, 1), vec![])]);
}

#[test]
fn beyond_its_bound_bulk_is_dropped_and_the_log_is_asked() {
    let mut world = World::new(3, (1..=9).collect());
    for seq in 1..=3 {
        world.come(seq, Turn::Latest);
    }
    assert_eq!(world.syncs, 0);
    world.come(4, Turn::Latest);
    assert_eq!((world.syncs, world.protocol.counters().dropped), (1, 1));
    // A critical one takes the place of the last.
    world.come(5, Turn::First);
    assert_eq!(world.protocol.counters().dropped, 2);
    world.work(usize::MAX);
    assert_eq!((&*world.order, world.protocol.position(P)), (&[5, 1, 2][..], at(2)));
    // Nothing is left of what was dropped.
    assert!(world.backlog.is_empty() && world.backlog.of_key.is_empty() && world.backlog.covered == 0);
    for seq in 6..=8 {
        world.come(seq, Turn::First);
    }
    world.come(9, Turn::First);
    assert_eq!(world.protocol.counters().dropped, 3, "critical ones as well, when there is nothing else");
}

#[test]
fn so_many_positions_are_covered_at_most() {
    let mut world = World::new(2, vec![1; 20]);
    for seq in 1..=20 {
        world.come(seq, Turn::Latest);
    }
    assert_eq!(world.protocol.counters().dropped, 20 - 1 - 2 * COVERED_PER_WAITING as u64);
    world.work(usize::MAX);
    assert_eq!((world.protocol.position(P), world.backlog.covered), (at(17), 0));
}
