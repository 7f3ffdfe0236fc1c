//! Waiting for what real servers do in their own time.

use std::time::{Duration, Instant};

/// Asks until the answer is yes.
///
/// # Panics
/// After 30 seconds, with what was waited for.
#[expect(clippy::disallowed_methods, reason = "servers are processes: their time is the machine's")]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(30), "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a deployment on free ports; again on others, if somebody took one of them in between.
///
/// # Panics
/// If it does not start.
pub(crate) fn start<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    for _ in 0..5 {
        match attempt() {
            Ok(deployment) => return deployment,
            Err(log) if log.contains("Address already in use") => {}
            Err(log) => panic!("a Redis server did not start:\n{log}"),
        }
    }
    panic!("every port that was free is in use a moment later");
}
