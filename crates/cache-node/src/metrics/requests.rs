//! How long HTTP requests take, by group of routes and class of status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use cache_tiered::Times;
use parking_lot::Mutex;

use crate::http::App;

/// The groups: first segments of paths. All else is `other`.
const GROUPS: [&str; 9] =
    ["cache", "market", "node", "nodes", "events", "health", "metrics", "ui", "openapi.json"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests since the start.
#[derive(Default)]
pub(crate) struct Requests {
    /// At most 50 histograms.
    times: Mutex<BTreeMap<(&'static str, &'static str), Times>>,
    panics: AtomicU64,
}

impl Requests {
    fn record(&self, group: &'static str, status: u16, took: std::time::Duration) {
        let class = CLASSES[usize::from((status / 100).clamp(1, 5)) - 1];
        self.times.lock().entry((group, class)).or_default().record(took, 1);
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
        self.times.lock().values().for_each(|times| all.add(times));
        all
    }

    /// All times, by group and class.
    pub(crate) fn snapshot(&self) -> BTreeMap<(&'static str, &'static str), Times> {
        self.times.lock().clone()
    }
}

fn group(path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    GROUPS.into_iter().find(|group| *group == first).unwrap_or("other")
}

/// Times each request until its answer begins: a stream of events that goes on for hours counts with its first byte.
#[expect(clippy::disallowed_methods, reason = "a stopwatch for statistics; no decision hangs on it")]
pub(crate) async fn timed<F>(app: &App, request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let began = Instant::now();
    let group = group(request.uri().path());
    let response = next(request).await;
    app.requests().record(group, response.status().as_u16(), began.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_there_are_few_groups() {
        assert_eq!(group("/cache/gpu_pricing/a/b"), "cache");
        assert_eq!(group("/"), "other");
        assert_eq!(group("/../../etc/passwd"), "other");
        let requests = Requests::default();
        for n in 0..1_000_u16 {
            requests.record(group(&format!("/attack-{n}")), n, std::time::Duration::from_millis(1));
        }
        assert!(requests.snapshot().len() <= CLASSES.len());
    }
}
