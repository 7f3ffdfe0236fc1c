//! A trace against all subjects at several capacities.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

use super::subject::{Candidate, Side};
use super::{Subjects, Trace, opt};

/// Entries of a cache at most; slots of the tier are 31 bits.
const ENTRIES_MAX: usize = 1 << 30;

/// How many entries the caches may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// So many.
    Entries(usize),
    /// That share of the keys, in percent, rounded, one at least.
    Percent(f64),
}

impl Capacity {
    /// Those of the comparison tables.
    pub const DEFAULT: [Self; 4] =
        [Self::Percent(0.5), Self::Percent(2.0), Self::Percent(10.0), Self::Percent(25.0)];

    /// In entries, for a trace of so many keys.
    pub fn entries(self, keys: usize) -> usize {
        match self {
            Self::Entries(entries) => entries,
            Self::Percent(percent) => ((keys as f64 * percent / 100.0).round() as usize).max(1),
        }
    }
}

impl FromStr for Capacity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            anyhow!(
                "{text:?} is no capacity; write entries, for example 1000, or percent of the keys, for example 2%"
            )
        };
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
            ensure!(
                percent > 0.0 && percent <= 100.0,
                "a capacity in percent is above 0 and at most 100, not {text}"
            );
            return Ok(Self::Percent(percent));
        }
        let entries: usize = text.replace('_', "").parse().map_err(|_| wrong())?;
        ensure!(
            (1..=ENTRIES_MAX).contains(&entries),
            "a capacity is 1 entry or more and at most {ENTRIES_MAX}, not {text}"
        );
        Ok(Self::Entries(entries))
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(entries) => write!(f, "{entries}"),
            Self::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

/// One cell: a subject at a capacity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Entries the cache could hold.
    pub capacity: usize,
    /// Whose it is; `OPT` is the optimum.
    pub subject: &'static str,
    /// Hits by requests, from 0 to 1.
    pub hit_ratio: f64,
    /// Who made it.
    #[serde(skip)]
    pub side: Side,
    /// The capacity as it was asked for.
    #[serde(skip)]
    pub asked: Capacity,
}

/// What came out for a trace; the output of `simulate --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The trace's name.
    pub trace: String,
    /// Requests in it.
    pub requests: usize,
    /// Distinct keys in it.
    pub keys: usize,
    /// By capacity, smallest first, and within it in the order of the subjects.
    pub rows: Vec<Row>,
}

impl Replay {
    /// Who took part, in the order of the subjects.
    pub fn subjects(&self) -> Vec<&'static str> {
        // Who is missing is missing at large capacities.
        self.rows
            .iter()
            .take_while(|row| row.capacity == self.rows[0].capacity)
            .map(|row| row.subject)
            .collect()
    }

    /// The rows of each capacity.
    pub fn cells(&self) -> impl Iterator<Item = &[Row]> {
        self.rows.chunk_by(|one, other| one.capacity == other.capacity)
    }
}

/// Replays; on as many threads as there are cores. `done` is called after each cell.
///
/// # Errors
/// If a cache breaks its bound or cannot be made.
pub fn replay(
    trace: &Trace,
    subjects: &Subjects,
    capacities: &[Capacity],
    seed: u64,
    done: &(dyn Fn() + Sync),
) -> Result<Replay> {
    let mut sizes: Vec<_> = capacities.iter().map(|&asked| (asked.entries(trace.keys), asked)).collect();
    sizes.sort_by_key(|&(entries, _)| entries);
    sizes.dedup_by_key(|&mut (entries, _)| entries);
    let work: Vec<(usize, Capacity, &Candidate)> = sizes
        .iter()
        .flat_map(|&(entries, asked)| subjects.iter().map(move |one| (entries, asked, one)))
        .filter(|&(entries, _, one)| entries <= one.patience_entries)
        .collect();
    let results: Vec<Mutex<Option<Result<u64>>>> = work.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(&(entries, _, one)), Some(result)) = (work.get(at), results.get(at)) else { break };
            let hits = hits(trace, one, entries, seed);
            *result.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(hits);
            done();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
        worker();
    });
    let requests = trace.requests.len();
    let mut rows = Vec::new();
    for (&(capacity, asked, one), result) in work.iter().zip(results) {
        let result = result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let hits = result.context("a cell was left out")??;
        let hit_ratio = hits as f64 / requests as f64;
        rows.push(Row { capacity, subject: one.name, hit_ratio, side: one.side, asked });
    }
    Ok(Replay { trace: trace.name.clone(), requests, keys: trace.keys, rows })
}

fn hits(trace: &Trace, one: &Candidate, capacity: usize, seed: u64) -> Result<u64> {
    let Some(mut cache) = one.build(capacity, seed)? else {
        return Ok(opt::hits(&trace.requests, trace.keys, capacity));
    };
    let hits = trace.requests.iter().filter(|&&key| cache.request(key)).count() as u64;
    if let Some(entries) = cache.entries().filter(|_| one.side.is_ours()) {
        ensure!(entries <= capacity, "{} holds {entries} entries where {capacity} are allowed", one.name);
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_entries_or_percent() {
        let parse = |text: &str| text.parse::<Capacity>();
        assert_eq!(parse("1_000").unwrap().entries(5), 1_000);
        assert_eq!(parse("0.5%").unwrap().entries(1_011), 5);
        assert_eq!(parse("2 %").unwrap().entries(3), 1, "never none");
        for wrong in ["0", "0%", "-1", "101%", "NaN%", "ten", "", "%", "99999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// On random traces, in one shard and so with exact capacities.
    #[test]
    fn nobody_is_above_the_optimum() {
        let mut rng = fastrand::Rng::with_seed(9);
        for turn in 0..6 {
            let keys = 40 << turn;
            let requests = (0..3_000).map(|_| rng.u32(0..keys).min(rng.u32(0..keys))).collect();
            let trace = Trace { name: "random".into(), requests, keys: keys as usize };
            let capacities = [Capacity::Entries(3), Capacity::Entries(17), Capacity::Percent(40.0)];
            let replay = replay(&trace, &Subjects::all(), &capacities, turn, &|| ()).unwrap();
            assert_eq!(replay.cells().count(), 3);
            for cell in replay.cells() {
                let optimum = cell[0].hit_ratio;
                assert_eq!(cell[0].side, Side::Optimum);
                assert!(optimum > 0.0);
                for row in cell {
                    assert!(row.hit_ratio <= optimum, "{row:?} is above {optimum}");
                }
            }
        }
    }

    #[test]
    fn the_slow_peer_is_left_out_of_large_caches_unless_it_is_named() {
        let trace = Trace { name: "t".into(), requests: vec![0, 1, 0], keys: 2 };
        let capacities = [Capacity::Entries(10), Capacity::Entries(8_193)];
        let seen = |peers: &[String]| {
            let subjects = Subjects::chosen(&["lru".to_owned()], peers).unwrap();
            let replay = replay(&trace, &subjects, &capacities, 0, &|| ()).unwrap();
            replay
                .rows
                .iter()
                .filter(|row| row.subject == "stretto")
                .map(|row| row.capacity)
                .collect::<Vec<_>>()
        };
        assert_eq!(seen(&[]), [10]);
        assert_eq!(seen(&["stretto".to_owned()]), [10, 8_193]);
    }

    #[test]
    fn a_cache_for_all_keys_misses_each_once() {
        let trace = Trace { name: "t".into(), requests: (0..100).chain(0..100).collect(), keys: 100 };
        let ours = Subjects::chosen(&[], &["none".to_owned()]).unwrap();
        let replay = replay(&trace, &ours, &[Capacity::Percent(100.0)], 0, &|| ()).unwrap();
        assert!(replay.rows.iter().all(|row| row.hit_ratio == 0.5), "{replay:?}");
    }
}
