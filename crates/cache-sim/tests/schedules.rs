//! A seed is a schedule, to the last bit; and schedules end well.

use cache_sim::{Detail, campaign, run};

#[test]
fn a_seed_gives_the_same_schedule_again() {
    for seed in [3, 42] {
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

#[test]
fn no_schedule_breaks_a_promise() {
    let done = campaign(0, 24, 2, false);
    let broken: Vec<_> = done.violating.iter().map(|outcome| (outcome.seed, &outcome.violations)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(done.schedules, 24);
}
