//! Memory pressure: when to give memory back, and when that does not help.
//!
//! Entries that leave free memory inside of the process, but an allocator need not return it to the operating system, so
//! the figure that was too high may stay where it is. Whoever only looks at that figure sheds again and again until the
//! cache is empty. So a round is followed by another one only if there is a reason to believe that it helps:
//!
//! - usage went on growing since the round, whatever the reason, or
//! - the bytes that the cache holds are back where they were: what was freed was filled again.
//!
//! Otherwise the memory is the allocator's or somebody else's, and a smaller cache would only be a slower one.

/// What is known about memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryReading {
    /// What counts against the limit.
    pub used: u64,
    /// Where the process is ended, or what was set.
    pub limit: u64,
    /// What the cache holds, by its own accounts.
    pub live: u64,
}

/// How much of the limit may be used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PressureConfig {
    /// From this share of the limit on entries leave.
    pub threshold: f64,
    /// The share of the entries that leaves in a round.
    pub shed: f64,
    /// Growth below this share of the limit is noise.
    pub growth: f64,
}

impl Default for PressureConfig {
    /// From 75 % on a quarter leaves; growth is what is above 1 % of the limit.
    fn default() -> Self {
        Self { threshold: 0.75, shed: 0.25, growth: 0.01 }
    }
}

/// Decides, from one reading to the next. It reads nothing itself and holds no clock.
///
/// ```
/// use cache_l1::{MemoryPressure, MemoryReading};
///
/// let mut pressure = MemoryPressure::default();
/// let reading = |used, live| MemoryReading { used, limit: 1_000, live };
/// assert_eq!(pressure.decide(reading(700, 400)), None);
/// assert_eq!(pressure.decide(reading(800, 400)), Some(0.25));
/// // The allocator has kept what was freed: nothing is won by going on.
/// assert_eq!(pressure.decide(reading(800, 300)), None);
/// // The cache has filled up again.
/// assert_eq!(pressure.decide(reading(800, 400)), Some(0.25));
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryPressure {
    config: PressureConfig,
    /// The reading before the last round, while usage has not fallen below the threshold since.
    last: Option<MemoryReading>,
}

impl MemoryPressure {
    /// With other shares than the usual ones.
    pub fn new(config: PressureConfig) -> Self {
        Self { config, last: None }
    }

    /// The share of the entries that must leave now; nothing if that is not needed or would not help.
    pub fn decide(&mut self, reading: MemoryReading) -> Option<f64> {
        let share = |of: f64| (reading.limit as f64 * of) as u64;
        if reading.limit == 0 || reading.used < share(self.config.threshold) {
            self.last = None;
            return None;
        }
        let helps = match self.last {
            None => reading.live > 0,
            Some(last) => {
                let grew = reading.used > last.used.saturating_add(share(self.config.growth));
                reading.live > 0 && (grew || reading.live >= last.live)
            }
        };
        if !helps {
            return None;
        }
        self.last = Some(reading);
        Some(self.config.shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100_000;

    /// A process: what the cache holds, what else there is, and an allocator that returns a share of what is freed.
    struct Process {
        live: u64,
        other: u64,
        kept: u64,
        returns: f64,
    }

    impl Process {
        fn reading(&self) -> MemoryReading {
            MemoryReading { used: self.live + self.other + self.kept, limit: LIMIT, live: self.live }
        }

        /// One look; says whether entries left.
        fn look(&mut self, pressure: &mut MemoryPressure) -> bool {
            let Some(share) = pressure.decide(self.reading()) else { return false };
            let freed = (self.live as f64 * share) as u64;
            self.live -= freed;
            self.kept += (freed as f64 * (1.0 - self.returns)) as u64;
            true
        }

        fn rounds(&mut self, looks: usize) -> usize {
            let mut pressure = MemoryPressure::default();
            (0..looks).filter(|_| self.look(&mut pressure)).count()
        }
    }

    #[test]
    fn below_the_threshold_nothing_leaves() {
        let mut process = Process { live: 60_000, other: 14_999, kept: 0, returns: 1.0 };
        assert_eq!(process.rounds(100), 0);
        process.other += 1;
        assert_eq!(process.rounds(1), 1);
    }

    #[test]
    fn an_allocator_that_keeps_everything_is_not_fed_the_whole_cache() {
        let mut process = Process { live: 60_000, other: 20_000, kept: 0, returns: 0.0 };
        assert_eq!((process.rounds(1_000), process.live), (1, 45_000));
    }

    #[test]
    fn memory_of_others_that_stays_high_does_not_empty_the_cache() {
        let mut process = Process { live: 10_000, other: 90_000, kept: 0, returns: 1.0 };
        assert_eq!(process.rounds(1_000), 1);
    }

    #[test]
    fn it_goes_on_while_usage_grows() {
        let mut process = Process { live: 60_000, other: 20_000, kept: 0, returns: 0.0 };
        let mut pressure = MemoryPressure::default();
        let mut rounds = 0;
        for _ in 0..5 {
            rounds += usize::from(process.look(&mut pressure));
            process.other += 2_000;
        }
        assert_eq!(rounds, 5);
        process.other += 1_000;
        assert!(process.look(&mut pressure));
        process.other += 500;
        assert!(!process.look(&mut pressure), "half a percent is noise");
    }

    #[test]
    fn a_cache_that_fills_up_again_is_shed_again() {
        let mut process = Process { live: 60_000, other: 0, kept: 20_000, returns: 0.0 };
        let mut pressure = MemoryPressure::default();
        assert!(process.look(&mut pressure));
        for _ in 0..3 {
            // What the allocator kept is used again.
            (process.live, process.kept) = (60_000, 20_000);
            assert!(process.look(&mut pressure));
            assert!(!process.look(&mut pressure));
        }
    }

    #[test]
    fn an_episode_that_is_over_is_forgotten() {
        let mut process = Process { live: 60_000, other: 20_000, kept: 0, returns: 1.0 };
        let mut pressure = MemoryPressure::default();
        assert!(process.look(&mut pressure));
        assert!(!process.look(&mut pressure), "65,000 of 100,000 are used");
        process.other += 12_000;
        assert!(process.look(&mut pressure), "a new episode, though less is used than in the first");
    }

    #[test]
    fn an_empty_cache_has_nothing_to_give() {
        let mut process = Process { live: 0, other: 99_000, kept: 0, returns: 1.0 };
        assert_eq!(process.rounds(10), 0);
        assert_eq!(MemoryPressure::default().decide(MemoryReading { used: 5, limit: 0, live: 5 }), None);
    }
}
