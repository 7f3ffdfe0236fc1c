//! How long HTTP requests take, by group of routes and class of status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_tiered::Times;
use parking_lot::Mutex;

/// The groups: first segments of paths. All else is `other`.
const GROUPS: [&str; 10] =
    ["cache", "market", "node", "nodes", "events", "health", "metrics", "ui", "openapi.json", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A group of routes, by the first segment of their paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group(usize);

impl Group {
    pub(crate) fn of(path: &str) -> Self {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        Self(GROUPS.iter().position(|group| *group == first).unwrap_or(GROUPS.len() - 1))
    }
}

/// Requests since the start.
#[derive(Default)]
pub(crate) struct Requests {
    /// By group and class. Most never come: a histogram is made with its first request.
    times: [[Mutex<Option<Times>>; CLASSES.len()]; GROUPS.len()],
    panics: AtomicU64,
}

impl Requests {
    /// Counts a request. A stream of events that goes on for hours counts with its first byte.
    pub(crate) fn answered(&self, group: Group, status: u16, took: Duration) {
        let class = usize::from((status / 100).clamp(1, 5)) - 1;
        self.times[group.0][class].lock().get_or_insert_default().record(took, 1);
    }

    /// Counts a request whose handler panicked.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests whose handler panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// The times of all requests together.
    pub(crate) fn all(&self) -> Times {
        let mut all = Times::default();
        self.times
            .iter()
            .flatten()
            .filter_map(|times| times.lock().clone())
            .for_each(|times| all.add(&times));
        all
    }

    /// All times, by group and class.
    pub(crate) fn snapshot(&self) -> BTreeMap<(&'static str, &'static str), Times> {
        let of_group = |(group, classes): (&'static str, &[Mutex<Option<Times>>; CLASSES.len()])| {
            let known = CLASSES.into_iter().zip(classes);
            known
                .filter_map(move |(class, times)| Some(((group, class), times.lock().clone()?)))
                .collect::<Vec<_>>()
        };
        GROUPS.into_iter().zip(&self.times).flat_map(of_group).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for statistics; no decision hangs on it")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_there_are_few_groups() {
        assert_eq!(Group::of("/cache/gpu_pricing/a/b"), Group(0));
        assert_eq!(GROUPS[Group::of("/").0], "other");
        assert_eq!(GROUPS[Group::of("/../../etc/passwd").0], "other");
        let requests = Requests::default();
        for n in 0..1_000_u16 {
            requests.answered(Group::of(&format!("/attack-{n}")), n, Duration::from_millis(1));
        }
        requests.answered(Group::of("/market/x"), 200, Duration::from_millis(1));
        let counted = requests.snapshot();
        let of_class = |class| counted[&("other", class)].count();
        assert_eq!(CLASSES.map(of_class), [200, 100, 100, 100, 500]);
        assert_eq!(counted[&("market", "2xx")].count(), 1);
        assert_eq!((counted.len(), requests.all().count()), (CLASSES.len() + 1, 1_001));
    }
}
