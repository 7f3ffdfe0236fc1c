//! Figures as a table and as JSON.

use serde_json::{Value, json};

use super::Record;
use crate::median;
use crate::simulate::markdown as aligned;

/// The peer that ours is measured by.
const MEASURE: &str = "quick_cache";
/// "As fast" is a ratio of that or better.
const AS_FAST: f64 = 0.97;
const OURS: &str = "cache-l1/";

/// What came out for a contestant.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Who.
    pub subject: String,
    /// Of all rounds, in nanoseconds.
    pub median_ns: f64,
    /// Of all rounds, in nanoseconds.
    pub min_ns: f64,
    /// Of all rounds, in nanoseconds.
    pub max_ns: f64,
    /// The peer's time by this one's, the median of all rounds; above 1 this one is faster.
    pub ratio: f64,
    /// Hits by gets, if there were gets.
    pub hit_ratio: Option<f64>,
}

/// What came out for a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The row's name.
    pub what: &'static str,
    /// In words.
    pub title: String,
    /// Threads that do it.
    pub threads: usize,
    /// Contestant by contestant.
    pub figures: Vec<Figure>,
}

impl Outcome {
    /// Sums up rounds; `read` takes the figure in nanoseconds out of a lap.
    pub fn new(
        what: &'static str,
        title: impl Into<String>,
        threads: usize,
        records: &[Record],
        read: impl Fn(&super::Lap) -> f64,
    ) -> Self {
        let measure = records.iter().find(|record| record.name == MEASURE);
        let figures = records.iter().map(|record| {
            let mut ns: Vec<f64> = record.laps.iter().map(&read).collect();
            let by = measure.map_or(&record.laps, |measure| &measure.laps);
            let mut ratios: Vec<f64> =
                by.iter().map(&read).zip(&ns).map(|(theirs, own)| theirs / own).collect();
            let hits: u64 = record.laps.iter().map(|lap| lap.hits).sum();
            let gets: u64 = record.laps.iter().map(|lap| lap.operations).sum();
            Figure {
                subject: record.name.clone(),
                median_ns: median(&mut ns),
                min_ns: ns.iter().copied().fold(f64::INFINITY, f64::min),
                max_ns: ns.iter().copied().fold(0.0, f64::max),
                ratio: median(&mut ratios),
                hit_ratio: (hits > 0).then(|| hits as f64 / gets as f64),
            }
        });
        Self { what, title: title.into(), threads, figures: figures.collect() }
    }
}

/// A table a row, as Markdown.
pub fn markdown(outcomes: &[Outcome]) -> String {
    outcomes.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn one(outcome: &Outcome) -> String {
    let threads =
        if outcome.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", outcome.threads) };
    let head =
        [&format!("{}, {threads}", outcome.title), "median ns", "min", "max", "quick_cache / it", "hits"];
    let mut lines = vec![head.map(ToString::to_string).to_vec()];
    lines.extend(outcome.figures.iter().map(|figure| {
        let ns = |ns: f64| if ns < 100.0 { format!("{ns:.1}") } else { format!("{ns:.0}") };
        let ratio = match figure.subject.starts_with(OURS) && figure.ratio < AS_FAST {
            true => format!("**{:.2}**", figure.ratio),
            false => format!("{:.2}", figure.ratio),
        };
        let hits = figure.hit_ratio.map_or("–".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
        vec![figure.subject.clone(), ns(figure.median_ns), ns(figure.min_ns), ns(figure.max_ns), ratio, hits]
    }));
    aligned(&lines)
}

/// An array with an object a row and contestant.
pub fn json(outcomes: &[Outcome]) -> Value {
    let figures =
        outcomes.iter().flat_map(|outcome| outcome.figures.iter().map(move |figure| (outcome, figure)));
    let rounded = |ns: f64| (ns * 100.0).round() / 100.0;
    figures
        .map(|(outcome, figure)| {
            json!({
                "what": outcome.what,
                "subject": figure.subject,
                "threads": outcome.threads,
                "median_ns": rounded(figure.median_ns),
                "min_ns": rounded(figure.min_ns),
                "max_ns": rounded(figure.max_ns),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Lap;
    use super::*;

    fn outcome() -> Outcome {
        let record = |name: &str, ns: [f64; 3]| Record {
            name: name.to_owned(),
            laps: ns.map(|ns| Lap { ns, operations: 10, hits: 5, aside_ns: 0.0 }).to_vec(),
            entries: None,
        };
        let records =
            [record("cache-l1/sieve", [20.0, 25.0, 50.0]), record("quick_cache", [10.0, 50.0, 60.0])];
        Outcome::new("get", "get", 2, &records, |lap| lap.ns)
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let ours = &outcome().figures[0];
        assert_eq!((ours.median_ns, ours.min_ns, ours.max_ns), (25.0, 20.0, 50.0));
        // 0.5, 2 and 1.2, and not 50 / 25.
        assert_eq!(ours.ratio, 1.2);
        assert_eq!(ours.hit_ratio, Some(0.5));
    }

    #[test]
    fn json_has_the_promised_fields() {
        let wanted = json!([
            {"what": "get", "subject": "cache-l1/sieve", "threads": 2, "median_ns": 25.0, "min_ns": 20.0, "max_ns": 50.0},
            {"what": "get", "subject": "quick_cache", "threads": 2, "median_ns": 50.0, "min_ns": 10.0, "max_ns": 60.0},
        ]);
        assert_eq!(json(&[outcome()]), wanted);
    }

    #[test]
    fn the_table_names_what_and_who() {
        let table = markdown(&[outcome()]);
        assert!(
            table.contains("get, 2 threads") && table.contains("1.20") && table.contains("50.0 %"),
            "{table}"
        );
    }
}
