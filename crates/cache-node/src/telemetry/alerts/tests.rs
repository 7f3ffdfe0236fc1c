//! The machine over hand-moved time.

use proptest::prelude::*;

use super::*;

const RATIO: AlertName = AlertName::HitRatio;
const QUEUE: AlertName = AlertName::EventQueue;

/// Looks once a second from `begin`; gives the seconds in which something changed.
fn looks(board: &mut Board, name: AlertName, begin: u64, values: &[Option<f64>]) -> Vec<(u64, Change)> {
    let settings = AlertSettings::default();
    let look = |(second, value): (usize, &Option<f64>)| {
        let second = begin + second as u64;
        Some((second, board.look(name, second * 1_000, *value, &settings)?))
    };
    values.iter().enumerate().filter_map(look).collect()
}

fn told(changes: &[(u64, Change)]) -> Vec<(u64, &'static str, Severity)> {
    let one = |(second, change): &(u64, Change)| match change {
        Change::Raised(raised) => (*second, "raised", raised.severity),
        Change::Eased(raised) => (*second, "eased", raised.severity),
        Change::Cleared(raised) => (*second, "cleared", raised.severity),
    };
    changes.iter().map(one).collect()
}

#[test]
fn the_limits_are_those_that_are_documented() {
    let settings = AlertSettings::default();
    let limits = AlertName::ALL.map(|name| (settings.limits(name).warning, settings.limits(name).critical));
    assert_eq!(limits, [(70.0, 50.0), (1_000.0, 5_000.0), (500.0, 2_000.0), (80.0, 95.0), (5.0, 20.0)]);
}

#[test]
fn what_holds_is_raised_gets_worse_eases_and_passes() {
    let mut board = Board::default();
    let mut values = vec![Some(60.0); 20];
    values.extend([Some(40.0); 20]);
    // Above the critical limit, not clear of it by the margin; then clear of it; then clear of both.
    values.extend([Some(52.0); 100]);
    values.extend([Some(60.0); 70]);
    values.extend([Some(90.0); 70]);
    let changes = looks(&mut board, RATIO, 0, &values);
    assert_eq!(
        told(&changes),
        [
            (15, "raised", Severity::Warning),
            (35, "raised", Severity::Critical),
            (200, "eased", Severity::Warning),
            (270, "cleared", Severity::Critical),
        ]
    );
    let past: Vec<_> = board.past().collect();
    assert_eq!((past[0].value, past[0].threshold, past[0].since), (40.0, 50.0, 0), "the worst that it was");
    assert_eq!(past[0].until, Some(270_000));
    assert!(board.active().is_empty());
}

#[test]
fn what_is_bad_at_once_is_critical_at_once() {
    let mut board = Board::default();
    let changes = looks(&mut board, QUEUE, 0, &[Some(9_000.0); 20]);
    assert_eq!(told(&changes), [(15, "raised", Severity::Critical)]);
}

#[test]
fn a_limit_itself_is_not_beyond_it() {
    let mut board = Board::default();
    assert_eq!(looks(&mut board, QUEUE, 0, &[Some(1_000.0); 100]), []);
    assert_eq!(looks(&mut board, RATIO, 0, &[Some(70.0); 100]), []);
}

#[test]
fn a_short_excursion_raises_nothing_and_a_short_relief_clears_nothing() {
    let mut board = Board::default();
    let mut values = Vec::new();
    for _ in 0..50 {
        values.extend([Some(2_000.0); 14]);
        values.push(Some(10.0));
    }
    assert_eq!(looks(&mut board, QUEUE, 0, &values), []);
    assert_eq!(looks(&mut board, QUEUE, 750, &[Some(2_000.0); 20]).len(), 1);
    let mut values = Vec::new();
    for _ in 0..20 {
        values.extend([Some(10.0); 59]);
        values.push(Some(950.0));
    }
    assert_eq!(looks(&mut board, QUEUE, 770, &values), [], "950 is below the limit and not clear of it");
}

#[test]
fn no_reading_raises_nothing_and_ends_an_alert_after_ten_minutes() {
    let mut board = Board::default();
    let mut values = Vec::new();
    for _ in 0..10 {
        values.extend([Some(2_000.0); 10]);
        values.push(None);
    }
    assert_eq!(looks(&mut board, QUEUE, 0, &values), []);
    assert_eq!(looks(&mut board, QUEUE, 110, &[Some(2_000.0); 16]).len(), 1);
    let changes = looks(&mut board, QUEUE, 126, &[None; 700]);
    assert_eq!(told(&changes), [(725, "cleared", Severity::Warning)], "last read in second 125");
}

#[test]
fn a_machine_that_slept_has_seen_nothing_meanwhile() {
    let (mut board, settings) = (Board::default(), AlertSettings::default());
    assert_eq!(board.look(QUEUE, 1_000, Some(2_000.0), &settings), None);
    assert_eq!(board.look(QUEUE, 3_600_000, Some(2_000.0), &settings), None, "two looks are no hour");
    let changes = looks(&mut board, QUEUE, 3_601, &[Some(2_000.0); 20]);
    assert_eq!(told(&changes), [(3_615, "raised", Severity::Warning)]);
}

#[test]
fn other_limits_hold_from_the_next_look_on() {
    let mut board = Board::default();
    looks(&mut board, QUEUE, 0, &[Some(2_000.0); 20]);
    let wide = AlertSettings::default().with(QUEUE, Limits { warning: 10_000.0, critical: 20_000.0 });
    let cleared: Vec<u64> = (20..100_u64)
        .filter(|second| board.look(QUEUE, second * 1_000, Some(2_000.0), &wide).is_some())
        .collect();
    assert_eq!(cleared, [80]);
}

#[test]
fn only_so_many_past_alerts_are_remembered() {
    let mut board = Board::default();
    for round in 0..150 {
        let begin = round * 100;
        looks(&mut board, QUEUE, begin, &[Some(2_000.0); 20]);
        looks(&mut board, QUEUE, begin + 20, &[Some(0.0); 70]);
    }
    assert_eq!(board.past().count(), PAST_MAX);
    let newest = board.past().next().expect("some");
    assert_eq!(newest.since, 14_900_000);
}

proptest! {
    /// Whatever a figure does: nothing changes faster than the hold times allow, each severity only where the figure was
    /// beyond (or clear of) its limit all the while, and what is active is what the changes say.
    #[test]
    fn nothing_flaps_and_severities_are_right(
        values in prop::collection::vec(
            prop_oneof![
                8 => prop::sample::select(vec![0.0, 30.0, 49.0, 52.0, 56.0, 69.0, 72.0, 78.0, 100.0]).prop_map(Some),
                1 => Just(None),
            ],
            1..60,
        ),
        holds in prop::collection::vec(1_usize..80, 60),
        name in prop::sample::select(vec![RATIO, AlertName::RedisMemory]),
    ) {
        let settings = AlertSettings::default();
        let mut board = Board::default();
        let mut seen: Vec<Option<f64>> = Vec::new();
        for (value, hold) in values.iter().zip(&holds) {
            seen.extend(std::iter::repeat_n(*value, *hold));
        }
        let (raise, clear) = (settings.raise_after.as_secs() as usize, settings.clear_after.as_secs() as usize);
        let beyond = |value: &Option<f64>, severity: Severity| {
            let limit = settings.limit(name, severity);
            value.is_some_and(|value| if name.bad_below() { value < limit } else { value > limit })
        };
        let clear_of = |value: &Option<f64>, severity: Severity| {
            let limit = settings.limit(name, severity);
            value.is_some_and(|value| {
                if name.bad_below() { value >= limit * 1.1 } else { value <= limit * 0.9 }
            })
        };
        let mut level: Option<Severity> = None;
        for (second, value) in seen.iter().enumerate() {
            let change = board.look(name, second as u64 * 1_000, *value, &settings);
            let lately = |seconds: usize| &seen[second.saturating_sub(seconds)..=second];
            match change {
                None => {}
                Some(Change::Raised(raised)) => {
                    prop_assert!(level < Some(raised.severity), "raised means worse");
                    prop_assert!(second >= raise && lately(raise).iter().all(|value| beyond(value, raised.severity)));
                    level = Some(raised.severity);
                }
                Some(Change::Eased(raised)) => {
                    prop_assert_eq!((level, raised.severity), (Some(Severity::Critical), Severity::Warning));
                    prop_assert!(lately(clear).iter().all(|value| clear_of(value, Severity::Critical)));
                    level = Some(Severity::Warning);
                }
                Some(Change::Cleared(raised)) => {
                    prop_assert!(level.is_some() && raised.until.is_some());
                    let unknown = lately(599).iter().all(Option::is_none);
                    prop_assert!(unknown || lately(clear).iter().all(|value| clear_of(value, Severity::Warning)));
                    level = None;
                }
            }
            // What must be raised is raised.
            for severity in [Severity::Warning, Severity::Critical] {
                if second >= raise && lately(raise).iter().all(|value| beyond(value, severity)) {
                    prop_assert!(level >= Some(severity), "{:?} at {}", level, second);
                }
            }
            prop_assert_eq!(board.active().first().map(|raised| raised.severity), level);
        }
    }
}
