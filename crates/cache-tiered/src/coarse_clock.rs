//! The clock of the hit path: two coarse reads, no ticker thread. What is told to others and compared with what they tell,
//! and is no part of a hit, is read exactly: by coarse readings the offset between two machines would be wrong by a tick.
//!
//! `CLOCK_MONOTONIC_COARSE` stands still while the machine is suspended, `CLOCK_REALTIME_COARSE` jumps when somebody
//! sets it. Elapsed time is the larger delta of both, so that a machine that slept, or whose clock was put forward,
//! trusts too little and never too much. Deltas are taken against a base that [`Clock::rebase`] moves about every
//! sync interval; a wall clock that is put back only lets the monotonic delta win until then.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use cache_events::Clock;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// Reads the machine's coarse clocks; resolution 1 to 10 ms, about 10 ns a call. The wall clock is exact.
#[derive(Debug)]
pub struct CoarseClock {
    /// Odd while the base is being moved (a sequence lock: readers retry).
    version: AtomicU64,
    logical: AtomicU64,
    monotonic: AtomicU64,
    real: AtomicU64,
    moving: Mutex<()>,
}

impl CoarseClock {
    /// A clock that starts at 1 s, so that "never" (0) is always longer ago than any bound that matters at start.
    pub fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            logical: AtomicU64::new(1000),
            monotonic: AtomicU64::new(read(ClockId::MonotonicCoarse)),
            real: AtomicU64::new(read(ClockId::RealtimeCoarse)),
            moving: Mutex::new(()),
        }
    }
}

impl Default for CoarseClock {
    fn default() -> Self {
        Self::new()
    }
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    (time.tv_sec as u64).wrapping_mul(1000).wrapping_add(time.tv_nsec as u64 / 1_000_000)
}

/// Logical time from a base and two readings: the larger delta, never backwards.
fn advance(logical: u64, monotonic: (u64, u64), real: (u64, u64)) -> u64 {
    logical + monotonic.1.saturating_sub(monotonic.0).max(real.1.saturating_sub(real.0))
}

impl Clock for CoarseClock {
    fn now(&self) -> u64 {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let logical = self.logical.load(Ordering::Relaxed);
            let monotonic = self.monotonic.load(Ordering::Relaxed);
            let real = self.real.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                let monotonic = (monotonic, read(ClockId::MonotonicCoarse));
                return advance(logical, monotonic, (real, read(ClockId::RealtimeCoarse)));
            }
            std::hint::spin_loop();
        }
    }

    fn wall(&self) -> u64 {
        // No hit asks: what is measured between machines is worth the exact time.
        read(ClockId::Realtime)
    }

    fn rebase(&self) {
        let _one_at_a_time = self.moving.lock();
        let monotonic = read(ClockId::MonotonicCoarse);
        let real = read(ClockId::RealtimeCoarse);
        let logical = advance(
            self.logical.load(Ordering::Relaxed),
            (self.monotonic.load(Ordering::Relaxed), monotonic),
            (self.real.load(Ordering::Relaxed), real),
        );
        self.version.fetch_add(1, Ordering::Acquire);
        fence(Ordering::Release);
        self.logical.store(logical, Ordering::Relaxed);
        self.monotonic.store(monotonic, Ordering::Relaxed);
        self.real.store(real, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_machine_counts_its_sleep() {
        assert_eq!(advance(500, (100, 101), (9_000, 69_000)), 60_500);
    }

    #[test]
    fn a_wall_clock_put_back_never_turns_time_back() {
        assert_eq!(advance(500, (100, 130), (3_600_000, 0)), 530);
    }

    #[test]
    fn rebasing_keeps_time_monotone_across_threads() {
        let clock = CoarseClock::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..20_000).for_each(|_| clock.rebase()));
            let mut last = 0;
            for _ in 0..100_000 {
                let now = clock.now();
                // Readings of the two clocks are not atomic: one tick of 10 ms is the documented error.
                assert!(now + 10 >= last, "{now} after {last}");
                last = last.max(now);
            }
        });
    }
}
