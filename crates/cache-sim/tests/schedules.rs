//! A seed is a schedule, to the last bit; and schedules end well.

use cache_sim::{Detail, campaign, run};

#[test]
fn a_seed_gives_the_same_schedule_again() {
    // In the first two a process stands still, and many wait for it to go on.
    for seed in [3, 10, 42] {
        let first = run(seed, Detail::Lines);
        // On another thread, behind another schedule: nothing outside of the seed may play a part.
        let elsewhere = std::thread::spawn(move || {
            let _ = run(seed + 1, Detail::Nothing);
            run(seed, Detail::Lines)
        });
        let again = elsewhere.join().expect("no panic");
        for (one, other) in first.lines.iter().zip(&again.lines) {
            assert_eq!(one, other, "seed {seed} takes another turn");
        }
        assert_eq!((first.digest, first.events), (again.digest, again.events), "seed {seed}");
        assert!(first.events > 100 && first.lines.len() > 100, "seed {seed} did nothing");
    }
}

#[test]
fn another_seed_gives_another_schedule() {
    assert_ne!(run(1, Detail::Digest).digest, run(2, Detail::Digest).digest);
}

/// Each shows a defect that was mended, when the guard is taken out that mended it.
#[test]
fn what_was_mended_stays_so() {
    for (seed, defect) in [
        (31, "an outdated put told nobody"),
        (975, "a barrier took a node that was cut off for one that trusts nothing"),
        (32, "a barrier did not wait for who was not in the roll yet"),
        (47_709, "a token of a later epoch with a lesser number counted as passed"),
        (22_750, "what was owed after a put did not name its version"),
        (89_440, "an emptied server gave the number of an epoch again"),
    ] {
        let broken = run(seed, Detail::Nothing).violations;
        assert!(broken.is_empty(), "{seed}: {defect}: {broken:#?}");
    }
}

#[test]
fn deltas_are_made_and_writes_are_replicated() {
    let lines = run(24, Detail::Lines).lines;
    let count =
        |what: &[&str]| lines.iter().filter(|line| what.iter().all(|part| line.contains(part))).count();
    assert!(count(&["has updated", "Ok(Stored"]) > 5, "no deltas");
    assert!(count(&["acknowledged (Replicated"]) > 5, "no replicas");
}

#[test]
fn no_schedule_breaks_a_promise() {
    let done = campaign(0, 24, 2, false);
    let broken: Vec<_> = done.violating.iter().map(|outcome| (outcome.seed, &outcome.violations)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(done.schedules, 24);
}
