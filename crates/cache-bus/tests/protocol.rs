//! The protocol against a model: whatever is lost, late, repeated or reordered, freshness never passes a loss, and
//! when the faults are over nothing stale is left.

mod model;

use cache_bus::{Answer, FlushCause, Missing, Protocol, State, Told};
use cache_events::{Partition, Position};
use model::{KEYS, P, Says, World, bound};
use proptest::prelude::*;

/// What may happen. Indexes are taken modulo what is there.
#[derive(Debug, Clone)]
enum Op {
    Write(Says, bool),
    OwnWrite(usize),
    Acknowledge(usize),
    Read(usize),
    Hint(usize, bool),
    NewestHint,
    Garbled,
    Overflow,
    Unheard,
    Heard,
    Execute(usize, bool),
    Deliver(usize, bool),
    Fail(usize),
    AnswerAll,
    RequestSync,
    Elapse(u64),
    Subscribed,
    Disconnected,
    Trim(usize),
    Bump,
}

fn run(world: &mut World, op: Op) {
    match op {
        Op::Write(says, readable) => {
            world.write(says, readable);
        }
        Op::OwnWrite(key) => {
            world.own_write(key);
        }
        Op::Acknowledge(at) => world.acknowledge(at),
        Op::Read(key) => {
            world.read(key);
        }
        Op::Hint(at, again) => world.hint(at, again),
        Op::NewestHint => world.hint(world.hints.len().saturating_sub(1), false),
        Op::Garbled => world.step(|protocol, now| protocol.garbled(now)),
        Op::Overflow => world.step(|protocol, now| protocol.overflow(now)),
        Op::Unheard => world.step(|protocol, now| protocol.unheard(now, P)),
        Op::Heard => world.step(|protocol, now| protocol.heard(now, P)),
        Op::Execute(at, hole) => world.execute(at, hole),
        Op::Deliver(at, again) => world.deliver(at, again),
        Op::Fail(at) => world.fail(at),
        Op::AnswerAll => world.answer_all(),
        Op::RequestSync => {
            world.step(|protocol, now| protocol.request_sync(now, P));
        }
        Op::Elapse(ms) => world.elapse(ms),
        Op::Subscribed => world.step(Protocol::subscribed),
        Op::Disconnected => world.step(Protocol::disconnected),
        Op::Trim(keep) => world.trim(keep),
        Op::Bump => world.bump(),
    }
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![4 => (0..KEYS).prop_map(Says::Key), 1 => (0..2_usize).prop_map(Says::Group)]
}

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..8_usize;
    prop_oneof![
        12 => (says(), prop::bool::weighted(0.95)).prop_map(|(says, readable)| Op::Write(says, readable)),
        4 => (0..KEYS).prop_map(Op::OwnWrite),
        4 => at().prop_map(Op::Acknowledge),
        14 => (0..KEYS).prop_map(Op::Read),
        8 => (0..64_usize, any::<bool>()).prop_map(|(at, again)| Op::Hint(at, again)),
        8 => Just(Op::NewestHint),
        1 => Just(Op::Garbled),
        1 => Just(Op::Overflow),
        1 => Just(Op::Unheard),
        1 => Just(Op::Heard),
        10 => (at(), prop::bool::weighted(0.1)).prop_map(|(at, hole)| Op::Execute(at, hole)),
        10 => (at(), prop::bool::weighted(0.2)).prop_map(|(at, again)| Op::Deliver(at, again)),
        2 => at().prop_map(Op::Fail),
        3 => Just(Op::AnswerAll),
        2 => Just(Op::RequestSync),
        4 => (0..700_u64).prop_map(Op::Elapse),
        1 => Just(Op::Subscribed),
        1 => Just(Op::Disconnected),
        2 => (0..4_usize).prop_map(Op::Trim),
        1 => Just(Op::Bump),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(12_000))]

    /// The model checks I1, I5, I6 and the one flight after every step; `settle` checks what is left at the end.
    #[test]
    fn no_schedule_of_faults_leaves_anything_stale(
        seed in any::<u64>(),
        live in any::<bool>(),
        ops in prop::collection::vec(op(), 1..90),
    ) {
        let mut world = if live { World::live(seed) } else { World::new(seed) };
        for op in ops {
            run(&mut world, op);
        }
        world.settle();
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn i13_any_subset_order_and_repetition_of_hints_is_harmless(
        seed in any::<u64>(),
        writes in prop::collection::vec(says(), 1..20),
        heard in prop::collection::vec((0..64_usize, any::<bool>(), 0..KEYS), 0..60),
    ) {
        let mut world = World::live(seed);
        (0..KEYS).for_each(|key| { world.read(key); });
        for says in writes {
            world.write(says, true);
        }
        for (at, again, key) in heard {
            world.hint(at, again);
            world.read(key);
        }
        prop_assert!(world.node.flushes == [FlushCause::Joined], "hints alone flush nothing");
        world.settle();
        prop_assert!(world.node.flushes == [FlushCause::Joined], "and what they lost is replayed");
        let first = world.node.applications.iter().filter(|(_, first)| *first).count();
        prop_assert_eq!(first as u64, world.head().seq, "each event counts as first once");
        prop_assert_eq!(world.protocol.counters().applied, world.head().seq);
    }

    #[test]
    fn all_hints_in_any_order_reach_the_head_without_the_log(
        seed in any::<u64>(),
        order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut world = World::live(seed);
        let written: Vec<Position> = (0..12).map(|at| world.write(Says::Key(at % KEYS), true)).collect();
        let hints = std::mem::take(&mut world.hints);
        for at in order {
            world.hints = vec![hints[at].clone()];
            world.hint(0, false);
        }
        prop_assert_eq!(world.standing.position, written[11]);
        prop_assert_eq!(world.protocol.counters().applied, 12);
    }
}

#[test]
fn i5_a_hint_moves_the_cursor_by_one_step_or_not_at_all() {
    let mut world = World::live(1);
    let (start, first) = (world.head(), world.write(Says::Key(0), true));
    let third = {
        world.write(Says::Key(1), true);
        world.write(Says::Key(2), true)
    };
    world.hint(2, false);
    assert_eq!(world.standing.position, start, "ahead: applied, but not advanced");
    assert_eq!(world.node.applications, [(third, true)]);
    assert_eq!(world.flights.len(), 1, "and asked for what lies between");
    world.hint(0, false);
    assert_eq!(world.standing.position, first);
    world.hint(0, false);
    assert_eq!(world.standing.position, third, "what was applied ahead follows at once");
}

#[test]
fn i5_a_gap_flushes_and_stands_at_the_head() {
    let mut world = World::live(1);
    world.read(0);
    (0..6).for_each(|_| {
        world.write(Says::Key(0), true);
    });
    world.trim(2);
    world.elapse(600);
    world.answer_all();
    assert_eq!(world.node.flushes, [FlushCause::Joined, FlushCause::Gap]);
    assert_eq!(world.standing.position, world.head());
    assert_eq!(world.protocol.counters().gaps, 1);
    assert_eq!(world.protocol.counters().applied, 0, "a gap is not counted as applied");
}

#[test]
fn i5_of_an_answer_with_a_hole_nothing_is_applied_and_all_is_dropped() {
    let mut world = World::live(1);
    world.read(0);
    (0..3).for_each(|_| {
        world.write(Says::Key(0), true);
    });
    world.hints.clear();
    world.elapse(600);
    world.execute(0, true);
    world.deliver(0, false);
    let flushes = [FlushCause::Joined, FlushCause::Unreadable];
    assert_eq!(world.node.flushes, flushes, "what the first one said is unknown");
    assert_eq!(world.protocol.counters().applied, 0, "nor is what came behind it taken");
    world.answer_all();
    assert_eq!(world.standing.position, world.head());
    world.settle();
}

#[test]
fn i12_freshness_is_the_instant_at_which_the_sync_was_sent() {
    let mut world = World::live(1);
    world.elapse(600);
    let sent = world.flights[0].sent;
    world.execute(0, false);
    world.elapse(300);
    world.deliver(0, false);
    assert_eq!(world.standing.fresh_as_of, sent);
    assert!(world.now >= sent + 300);
}

#[test]
fn i14_freshness_waits_until_a_loss_is_made_up_for() {
    let mut world = World::live(1);
    let before = world.standing.fresh_as_of;
    (0..7).for_each(|_| {
        world.write(Says::Key(0), true);
    });
    world.hints.clear();
    world.elapse(600);
    // Three entries an answer: two answers stay below the head.
    for step in 1..=2 {
        world.execute(0, false);
        world.deliver(0, false);
        assert_eq!(world.standing.position.seq, 3 * step);
        assert_eq!(world.standing.fresh_as_of, before, "not at the head that the answer named");
        assert_eq!(world.standing.state, State::Replaying);
        assert_eq!(world.flights.len(), 1, "the rest is asked for at once");
    }
    world.answer_all();
    assert!(world.standing.fresh_as_of > before);
    assert_eq!(world.standing.state, State::Live);
}

#[test]
fn i14_an_unreadable_log_entry_flushes_and_fetches_the_group_stamps() {
    let mut world = World::live(1);
    (0..KEYS).for_each(|key| {
        world.read(key);
    });
    let before = world.standing.fresh_as_of;
    world.write(Says::Group(0), false);
    world.hint(0, false);
    assert_eq!(world.protocol.counters().garbled, 1);
    world.execute(0, false);
    world.deliver(0, false);
    assert_eq!(world.node.flushes, [FlushCause::Joined, FlushCause::Unreadable]);
    assert_eq!(world.standing.fresh_as_of, before, "which group it invalidated is not known yet");
    assert_eq!(world.flights[0].order.at, Position::ZERO);
    world.answer_all();
    assert_eq!(world.node.flushes.len(), 3);
    assert!(world.standing.fresh_as_of > before);
    world.settle();
}

#[test]
fn a_late_answer_moves_nothing_back() {
    let mut world = World::live(1);
    (0..4).for_each(|_| {
        world.write(Says::Key(0), true);
    });
    world.trim(1);
    world.elapse(600);
    world.execute(0, false);
    assert!(matches!(world.flights[0].answer, Some(Answer { missing: Missing::Gap(_), .. })));
    (0..4).for_each(|_| world.hint(0, false));
    world.write(Says::Key(1), true);
    world.hint(0, false);
    let sent = world.flights[0].sent;
    world.deliver(0, false);
    assert_eq!(world.standing.position, world.head());
    assert_eq!(world.node.flushes, [FlushCause::Joined], "everything up to its head was applied by then");
    assert_eq!(world.standing.fresh_as_of, sent, "which it proves");
}

#[test]
fn an_answer_of_an_older_epoch_is_ignored() {
    let mut world = World::new(1);
    world.step(Protocol::subscribed);
    world.execute(0, false);
    let old = world.flights[0].clone();
    world.bump();
    world.execute(0, false);
    world.deliver(0, false);
    let standing = world.standing;
    assert_eq!(standing.position, world.head());
    let answer = old.answer.unwrap();
    world.step(|protocol, now| protocol.answered(now, P, old.order.id, now, answer));
    assert_eq!(world.standing, standing);
}

#[test]
fn hints_of_an_unknown_epoch_cause_one_sync_an_interval() {
    let mut world = World::live(1);
    let forged = Position::new(world.head().epoch + 5, 3);
    let start = (world.now, world.protocol.counters().syncs);
    while world.now < start.0 + 5_000 {
        world.step(|protocol, now| protocol.hint(now, P, forged, Told::Marker));
        world.elapse(1);
        world.answer_all();
    }
    let syncs = world.protocol.counters().syncs - start.1;
    assert!((10..=21).contains(&syncs), "{syncs} syncs in ten intervals: the timer's and the hints'");
    assert_eq!(world.node.flushes, [FlushCause::Joined], "and a hint alone flushes nothing");
}

#[test]
fn a_new_epoch_is_asked_about_soon_after_its_hint() {
    let mut world = World::live(1);
    world.read(0);
    world.bump();
    world.hint(0, false);
    assert_eq!(world.flights.len(), 0, "not all nodes in the same instant");
    world.elapse(51);
    world.answer_all();
    assert_eq!(world.standing.position, world.head());
    assert_eq!(world.node.flushes, [FlushCause::Joined, FlushCause::Epoch]);
}

#[test]
fn own_writes_advance_without_a_sync_and_their_hints_say_nothing_new() {
    let mut world = World::live(1);
    let foreign = world.write(Says::Key(1), true);
    let own = world.own_write(0);
    world.acknowledge(0);
    assert!(world.standing.position < foreign, "not contiguous");
    assert_eq!(world.flights.len(), 0);
    world.hint(0, false);
    assert_eq!(world.standing.position, own);
    world.hint(0, false);
    assert_eq!(world.node.applications, [(foreign, true)]);
    assert_eq!(world.protocol.counters().applied, 2);
    assert_eq!(world.flights.len(), 0);
}

#[test]
fn an_own_event_counts_as_the_last_one_when_it_is_acknowledged() {
    let mut world = World::live(1);
    world.own_write(0);
    assert_eq!(world.protocol.counters().last_event_at, 0);
    world.acknowledge(0);
    assert_eq!(world.protocol.counters().last_event_at, world.now);
    // Its hint adds nothing.
    let then = world.now;
    world.elapse(1);
    world.hint(0, false);
    assert_eq!(world.protocol.counters().last_event_at, then);
}

#[test]
fn overflow_garbage_and_resubscription_each_ask_the_log_at_once() {
    let inputs: [fn(&mut Protocol, u64); 3] = [Protocol::overflow, Protocol::garbled, Protocol::subscribed];
    for input in inputs {
        let mut world = World::live(1);
        world.step(input);
        assert_eq!(world.flights.len(), 1);
        world.step(input);
        assert_eq!(world.flights.len(), 1, "one at a time");
        world.execute(0, false);
        world.deliver(0, false);
        assert_eq!(world.flights.len(), 1, "but what came meanwhile is asked again");
    }
}

#[test]
fn a_request_is_met_by_a_sync_sent_after_it_and_shared() {
    let mut world = World::live(1);
    let first = world.step(|protocol, now| protocol.request_sync(now, P));
    world.execute(0, false);
    let second = world.step(|protocol, now| protocol.request_sync(now, P));
    let third = world.step(|protocol, now| protocol.request_sync(now, P));
    world.deliver(0, false);
    assert!(world.standing.completed >= first);
    assert!(world.standing.completed < second, "that one was under way before the call");
    world.execute(0, false);
    world.deliver(0, false);
    assert!(world.standing.completed >= second.max(third), "one for both");
    assert_eq!(world.flights.len(), 0);
}

#[test]
fn states_follow_the_subscription_the_syncs_and_the_window() {
    let mut world = World::new(1);
    assert_eq!(world.standing.state, State::Connecting);
    world.step(Protocol::subscribed);
    assert_eq!(world.standing.state, State::Replaying);
    world.answer_all();
    assert_eq!(world.standing.state, State::Live);
    let fresh = world.standing.fresh_as_of;
    world.step(Protocol::disconnected);
    assert_eq!(world.standing.state, State::Connecting);
    assert_eq!(world.standing.fresh_as_of, fresh, "the trust window keeps running");
    while world.now + 20 < fresh + bound() {
        world.elapse(10);
        (0..world.flights.len()).for_each(|at| world.fail(at));
        assert_eq!(world.standing.state, State::Connecting);
    }
    world.elapse(40);
    assert_eq!(world.standing.state, State::Degraded);
    world.step(Protocol::subscribed);
    world.answer_all();
    assert_eq!(world.standing.state, State::Live);
    world.step(|protocol, now| protocol.fenced(now, "another number of partitions".into()));
    assert_eq!(world.standing.state, State::Fenced);
    world.step(Protocol::subscribed);
    world.answer_all();
    assert_eq!(world.standing.state, State::Live);
}

#[test]
fn a_partition_that_is_not_heard_is_fresh_by_its_syncs_and_not_live() {
    let mut world = World::live(1);
    world.step(|protocol, now| protocol.unheard(now, P));
    assert_eq!(world.standing.state, State::Connecting);
    let fresh = world.standing.fresh_as_of;
    world.elapse(bound() / 2);
    world.answer_all();
    assert!(world.standing.fresh_as_of > fresh);
    assert_eq!(world.standing.state, State::Connecting, "a sync is no hint");
    world.step(|protocol, now| protocol.heard(now, P));
    assert_eq!(
        (world.flights.len(), world.standing.state),
        (1, State::Replaying),
        "something may be missing"
    );
    world.answer_all();
    assert_eq!(world.standing.state, State::Live);
}

#[test]
fn a_node_that_never_joins_is_degraded_after_the_bound() {
    let mut world = World::new(1);
    world.step(Protocol::disconnected);
    world.elapse(bound() + 10);
    assert_eq!(world.standing.state, State::Degraded);
}

#[test]
fn failed_syncs_back_off_and_never_stop() {
    let mut world = World::live(1);
    let start = world.now;
    while world.now < start + 20_000 {
        world.elapse(10);
        (0..world.flights.len()).for_each(|at| world.fail(at));
        world.flights.clear();
    }
    let failures = world.protocol.counters().sync_failures;
    assert!((36..=55).contains(&failures), "{failures} in 40 intervals");
}

#[test]
fn a_sync_that_is_never_answered_is_given_up() {
    let mut world = World::live(1);
    world.elapse(600);
    assert_eq!(world.flights.len(), 1);
    world.elapse(400);
    assert_eq!(world.protocol.counters().sync_failures, 1);
    world.elapse(100);
    assert_eq!(world.flights.len(), 2);
}

#[test]
fn distrust_holds_freshness_back_until_a_flush_with_the_stamps() {
    let mut world = World::live(1);
    let fresh = world.standing.fresh_as_of;
    world.protocol.distrust(world.now, P);
    let mut seen = Vec::new();
    while let Some(action) = world.protocol.next_action() {
        seen.push(action);
    }
    assert!(
        matches!(&seen[..], [cache_bus::Action::Publish { standing, .. }] if standing.fresh_as_of == 0),
        "{seen:?}"
    );
    world.standing.fresh_as_of = 0;
    world.settle();
    assert!(world.standing.fresh_as_of > fresh);
    assert_eq!(world.node.flushes, [FlushCause::Joined, FlushCause::Unreadable]);
}

#[test]
fn a_hint_for_a_partition_that_does_not_exist_is_garbage() {
    let mut world = World::live(1);
    let forged = Position::new(10, 1);
    world.step(|protocol, now| protocol.hint(now, Partition(7), forged, Told::Marker));
    assert_eq!(world.protocol.counters().garbled, 1);
    assert_eq!(world.flights.len(), 1);
}
