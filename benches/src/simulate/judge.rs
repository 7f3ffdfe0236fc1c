//! Our policies against the peers, cell by cell, with the project's targets.

use std::fmt;

use super::subject::Side;
use super::table::{markdown, percent};
use super::{Replay, Row};

/// Cells of fewer entries are shown and not judged: a few entries more or less decide there.
const ENTRIES_MIN: usize = 64;
/// Points of hit ratio that the best fixed policy may be behind the best peer.
const FIXED_BEHIND_MAX: f64 = 1.0;
/// Points that `auto` should be behind the best of all at most, and in which share of the cells.
const AUTO_NEAR: f64 = 2.0;
const AUTO_NEAR_SHARE: f64 = 0.93;
/// Points that `auto` may be behind in any cell, and on average.
const AUTO_BEHIND_MAX: f64 = 4.0;
const AUTO_MEAN_MAX: f64 = 0.5;

struct Cell {
    trace: String,
    row: Row,
    optimum: f64,
    fixed: Option<Row>,
    peer: Option<Row>,
    auto: Option<f64>,
}

impl Cell {
    fn new(trace: &str, rows: &[Row]) -> Option<Self> {
        let best = |side| {
            let of_side = rows.iter().filter(|row| row.side == side);
            of_side.max_by(|one, other| one.hit_ratio.total_cmp(&other.hit_ratio)).cloned()
        };
        Some(Self {
            trace: trace.to_owned(),
            row: rows.first()?.clone(),
            optimum: best(Side::Optimum)?.hit_ratio,
            fixed: best(Side::Fixed),
            peer: best(Side::Peer),
            auto: best(Side::Auto).map(|row| row.hit_ratio),
        })
    }

    fn is_judged(&self) -> bool {
        self.row.capacity >= ENTRIES_MIN
    }

    /// Points by which the best fixed policy is above the best peer.
    fn fixed_ahead(&self) -> Option<f64> {
        Some((self.fixed.as_ref()?.hit_ratio - self.peer.as_ref()?.hit_ratio) * 100.0)
    }

    /// Points by which `auto` is behind the best of all.
    fn auto_behind(&self) -> Option<f64> {
        let auto = self.auto?;
        let others = [&self.fixed, &self.peer].into_iter().flatten().map(|row| row.hit_ratio);
        Some((others.fold(auto, f64::max) - auto) * 100.0)
    }

    fn verdict(&self) -> &'static str {
        let fixed = self.fixed_ahead().is_none_or(|ahead| ahead >= -FIXED_BEHIND_MAX);
        let auto = self.auto_behind();
        if !self.is_judged() {
            "not judged"
        } else if !fixed {
            "**fixed behind**"
        } else if auto.is_some_and(|behind| behind > AUTO_BEHIND_MAX) {
            "**auto too far behind**"
        } else if auto.is_some_and(|behind| behind > AUTO_NEAR) {
            "auto behind"
        } else {
            "holds"
        }
    }

    fn line(&self) -> Vec<String> {
        let best = |row: &Option<Row>| {
            row.as_ref().map_or("–".to_owned(), |row| format!("{} {}", row.subject, percent(row.hit_ratio)))
        };
        let points = |points: Option<f64>| points.map_or("–".to_owned(), signed);
        vec![
            self.trace.clone(),
            self.row.asked.to_string(),
            self.row.capacity.to_string(),
            percent(self.optimum),
            best(&self.fixed),
            best(&self.peer),
            points(self.fixed_ahead()),
            self.auto.map_or("–".to_owned(), percent),
            points(self.auto_behind().map(|behind| 0.0 - behind)),
            self.verdict().to_owned(),
        ]
    }
}

/// In hundredths; what rounds to nothing has no sign of its own.
fn signed(points: f64) -> String {
    let hundredths = (points * 100.0).round() + 0.0;
    format!("{:+.2}", hundredths / 100.0)
}

/// The table of all cells and what it says about the targets; prints as Markdown.
pub struct Judged {
    cells: Vec<Cell>,
}

/// Compares.
pub fn judge(replays: &[Replay]) -> Judged {
    let cells =
        replays.iter().flat_map(|replay| replay.cells().filter_map(|rows| Cell::new(&replay.trace, rows)));
    Judged { cells: cells.collect() }
}

impl Judged {
    /// The targets in words, each with whether it holds; those that cannot be judged are left out.
    pub fn targets(&self) -> Vec<(String, bool)> {
        let judged = || self.cells.iter().filter(|cell| cell.is_judged());
        let mut targets = Vec::new();
        let ahead: Vec<(f64, &Cell)> =
            judged().filter_map(|cell| Some((cell.fixed_ahead()?, cell))).collect();
        if let Some((worst, cell)) = ahead.iter().min_by(|one, other| one.0.total_cmp(&other.0)) {
            let held = ahead.iter().filter(|(ahead, _)| *ahead >= -FIXED_BEHIND_MAX).count();
            targets.push((
                format!(
                    "best fixed policy at most {FIXED_BEHIND_MAX} point behind the best peer: {held} of {} cells; \
                     worst {worst:+.2} ({} {})",
                    ahead.len(),
                    cell.trace,
                    cell.row.asked
                ),
                held == ahead.len(),
            ));
        }
        let behind: Vec<(f64, &Cell)> =
            judged().filter_map(|cell| Some((cell.auto_behind()?, cell))).collect();
        if let Some((worst, cell)) = behind.iter().max_by(|one, other| one.0.total_cmp(&other.0)) {
            let near = behind.iter().filter(|(behind, _)| *behind <= AUTO_NEAR).count();
            let share = near as f64 / behind.len() as f64;
            let mean = behind.iter().map(|(behind, _)| behind).sum::<f64>() / behind.len() as f64;
            targets.push((
                format!(
                    "`auto` at most {AUTO_NEAR} points behind the best of all in {:.0} % of the cells: {near} of {} \
                     ({:.1} %)",
                    AUTO_NEAR_SHARE * 100.0,
                    behind.len(),
                    share * 100.0
                ),
                share >= AUTO_NEAR_SHARE,
            ));
            targets.push((
                format!(
                    "`auto` never more than {AUTO_BEHIND_MAX} points behind: worst {worst:.2} ({} {})",
                    cell.trace, cell.row.asked
                ),
                *worst <= AUTO_BEHIND_MAX,
            ));
            targets.push((
                format!("`auto` less than {AUTO_MEAN_MAX} points behind on average: {mean:.2}"),
                mean < AUTO_MEAN_MAX,
            ));
        }
        targets
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "trace",
            "capacity",
            "entries",
            "OPT",
            "best fixed",
            "best peer",
            "difference",
            "auto",
            "to the best",
            "",
        ];
        let head = head.iter().map(ToString::to_string).collect();
        let lines: Vec<Vec<String>> = [head].into_iter().chain(self.cells.iter().map(Cell::line)).collect();
        writeln!(f, "{}", markdown(&lines))?;
        for (target, holds) in self.targets() {
            writeln!(f, "- {}: {target}.", if holds { "holds" } else { "**missed**" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Capacity;
    use super::*;

    fn replay(capacity: usize, fixed: f64, auto: f64, peer: f64) -> Replay {
        let row = |subject, side, hit_ratio| Row {
            capacity,
            subject,
            hit_ratio,
            side,
            asked: Capacity::Entries(capacity),
        };
        let rows = vec![
            row("OPT", Side::Optimum, 0.9),
            row("lru", Side::Fixed, 0.01),
            row("sieve", Side::Fixed, fixed),
            row("auto", Side::Auto, auto),
            row("moka", Side::Peer, peer),
            row("foyer", Side::Peer, 0.02),
        ];
        Replay { trace: "t".into(), requests: 100, keys: 100, rows }
    }

    fn held(replays: &[Replay]) -> Vec<bool> {
        judge(replays).targets().into_iter().map(|(_, holds)| holds).collect()
    }

    #[test]
    fn each_target_can_be_missed_alone() {
        assert_eq!(
            held(&[replay(64, 0.50, 0.50, 0.505)]),
            [true, true, true, false],
            "half a point on average"
        );
        assert_eq!(held(&[replay(64, 0.50, 0.50, 0.50)]), [true; 4]);
        assert_eq!(held(&[replay(64, 0.48, 0.50, 0.50)]), [false, true, true, true]);
        let mut many = vec![replay(64, 0.50, 0.50, 0.50); 15];
        many[3] = replay(64, 0.50, 0.47, 0.48);
        assert_eq!(held(&many), [true, true, true, true], "one of 15 may be behind");
        many[4] = many[3].clone();
        assert_eq!(held(&many), [true, false, true, true]);
        many[4] = replay(64, 0.50, 0.50, 0.50);
        many[3] = replay(64, 0.50, 0.45, 0.48);
        assert_eq!(held(&many), [true, true, false, true]);
    }

    #[test]
    fn nothing_is_not_negative() {
        assert_eq!([-0.001, 0.0, -0.006, 0.5].map(signed), ["+0.00", "+0.00", "-0.01", "+0.50"]);
    }

    #[test]
    fn small_cells_are_shown_and_not_judged() {
        let small = replay(63, 0.1, 0.1, 0.8);
        assert_eq!(held(std::slice::from_ref(&small)), [true; 0]);
        let text = judge(&[small, replay(64, 0.1, 0.1, 0.8)]).to_string();
        assert!(text.contains("not judged") && text.contains("**fixed behind**"), "{text}");
        assert!(text.contains("moka 80.00") && text.contains("-70.00"), "{text}");
    }
}
