//! What the judge excuses, and what not.

use std::sync::Arc;

use cache_events::{Partition, Position, Version, WriteToken};
use cache_tiered::{Answer, Tier};

use super::{BOUND_MS, Judge, Read};
use crate::nemesis;
use crate::plan::{Fault, Plan, Planned};
use crate::server::tests::fine;
use crate::source::{Style, Value};
use crate::time::pass;
use crate::wish::Wish;

fn plan() -> Plan {
    Plan { nodes: 2, partitions: 1, ..Plan::of(1) }
}

fn row_of(judge: &Judge, style: Style) -> usize {
    judge.source.rows.iter().position(|row| row.style == style).expect("a row of each style")
}

/// Whether it is a violation that a node answers an old value after a barrier.
fn barrier_is_broken_by(judge: &Judge, number: usize, row: usize, began: u64) -> bool {
    let answer = Answer {
        value: Some(Arc::new(Value { version: 1 })),
        tier: Tier::L1,
        age_ms: 0,
        lag_ms: BOUND_MS,
        position: Position::ZERO,
        version: Version::NONE,
        stale: false,
    };
    let wish = Wish::usual();
    judge.read(&Read { node: "n", number, row, began, answered: began, wish: &wish }, &answer);
    judge.take_violations().iter().any(|violation| violation.what.starts_with("barrier"))
}

#[test]
fn a_barrier_excepts_who_was_in_no_roll_while_it_waited_and_nobody_else() {
    let judge = Judge::new(&plan());
    let row = row_of(&judge, Style::Aside);
    let changed = judge.source.write(&[row]);
    // Of another write: that roll plays no part.
    judge.roll_told(Partition(0), &[0], BOUND_MS, 900);
    judge.roll_told(Partition(0), &[1], BOUND_MS, 1_100);
    judge.barrier_passed(&changed, 1_000, 1_200);
    assert!(barrier_is_broken_by(&judge, 0, row, 1_500));
    assert!(!barrier_is_broken_by(&judge, 1, row, 1_500));
    // The roll of a young epoch excepts nobody: a barrier waits then.
    let changed = judge.source.write(&[row]);
    judge.roll_told(Partition(0), &[1], BOUND_MS - 1, 1_600);
    judge.barrier_passed(&changed, 1_550, 1_700);
    assert!(barrier_is_broken_by(&judge, 1, row, 1_800));
}

#[test]
fn what_a_replica_had_is_not_excused_by_the_loss_of_the_rest() {
    let judge = Judge::new(&plan());
    let row = row_of(&judge, Style::Versioned);
    let key = judge.source.rows[row].key.clone();
    let at = Position::new(7, 3);
    let kept = judge.source.write(&[row]);
    judge.versioned.lock().checker.acked(&key, kept[0].1, 100);
    judge.replicated(&kept, Some(&WriteToken::single(Partition(0), at)), 50, 100);
    let lost = judge.source.write(&[row]);
    judge.versioned.lock().checker.acked(&key, lost[0].1, 200);

    judge.tail_lost(|_| Some(at), 300);
    assert!(judge.is_clean() && judge.has_lost_data());
    assert_eq!(judge.staleness(row, kept[0].1, 5_000), 0, "what no replica had is lost");
    assert_eq!(judge.staleness(row, Version(kept[0].1.0 - 1), 5_000), 4_900);
    judge.tail_lost(|_| Some(Position::new(7, 2)), 400);
    assert_eq!(judge.take_violations().len(), 1, "the replica had it and has it no more");
    judge.data_lost(500);
    assert_eq!(judge.staleness(row, Version(0), 5_000), 0);
}

#[tokio::test(start_paused = true)]
async fn a_master_that_comes_back_has_lost_nothing_only_if_nobody_served_meanwhile() {
    for interrupted in [false, true] {
        let world = fine(1).world;
        let restart = Planned { at_ms: 0, for_ms: 1_000, fault: Fault::Restart };
        let others = async {
            pass(300).await;
            if interrupted {
                let failover = Planned { at_ms: 300, for_ms: 100, fault: Fault::Failover { lag_ms: 0 } };
                nemesis::one(world.clone(), failover).await;
                world.judge.forget_losses();
            }
        };
        tokio::join!(nemesis::one(world.clone(), restart), others);
        assert_eq!(world.judge.has_lost_data(), interrupted);
    }
}
