//! The atomics of [`turns`](crate::turns) as the machine has them, and how it waits.

pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Looks at a taken door before sleeping: about as long as a writer is inside.
pub(crate) const SPINS: u32 = 100;
/// Rounds of [`nap`] that only pause the processor, and after these, rounds that let others run.
const ROUNDS_SPINNING: u32 = 100;
const ROUNDS_YIELDING: u32 = 10;
/// How long one nap is: far longer than a reader stays inside, short enough for one that lost the processor.
const NAP: Duration = Duration::from_micros(50);

pub(crate) fn spin() {
    std::hint::spin_loop();
}

/// Passes some time; the more, the longer somebody waits already.
#[cold]
pub(crate) fn nap(round: u32) {
    if round < ROUNDS_SPINNING {
        std::hint::spin_loop();
    } else if round < ROUNDS_SPINNING + ROUNDS_YIELDING {
        std::thread::yield_now();
    } else {
        std::thread::park_timeout(NAP);
    }
}
