//! How far the server's clock is ahead of this machine's wall clock.

/// How long the sample with the least round trip stands before a newer one replaces it anyway.
const LATELY_MS: u64 = 30_000;

#[derive(Debug, Clone, Copy)]
struct Sample {
    offset: i64,
    round_trip: u64,
    taken_at: u64,
}

/// Picks the sample with the least round trip lately: its error is at most half of that.
#[derive(Debug, Default)]
pub(crate) struct OffsetEstimate {
    best: Option<Sample>,
}

impl OffsetEstimate {
    /// Takes the server's time in an answer that came at `now`, `round_trip` after it was asked for, when the wall
    /// clock showed `wall_ms`. Returns the offset to use from here on.
    pub(crate) fn note(&mut self, now: u64, round_trip: u64, wall_ms: u64, server_ms: u64) -> i64 {
        let midpoint = wall_ms.saturating_sub(round_trip / 2);
        let offset = i64::try_from(i128::from(server_ms) - i128::from(midpoint)).unwrap_or(0);
        let sample = Sample { offset, round_trip, taken_at: now };
        let better = self.best.is_none_or(|best| {
            // Further apart than both errors together (and the milliseconds cut off): a clock has jumped.
            let jumped = best.offset.abs_diff(offset) > best.round_trip.midpoint(round_trip) + 2;
            round_trip <= best.round_trip || now.saturating_sub(best.taken_at) > LATELY_MS || jumped
        });
        if better {
            self.best = Some(sample);
        }
        self.best.map_or(offset, |best| best.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_round_trip_wins_until_it_is_old() {
        let mut estimate = OffsetEstimate::default();
        assert_eq!(estimate.note(1_000, 100, 10_100, 15_010), 4_960);
        assert_eq!(estimate.note(1_500, 2, 10_502, 15_501), 5_000);
        assert_eq!(
            estimate.note(2_000, 60, 11_060, 16_045),
            5_000,
            "a worse sample does not replace a better"
        );
        assert_eq!(estimate.note(40_000, 60, 49_060, 54_045), 5_015, "unless that is old");
    }

    #[test]
    fn a_clock_that_jumps_is_noticed_at_once() {
        let mut estimate = OffsetEstimate::default();
        assert_eq!(estimate.note(1_000, 0, 10_000, 10_000), 0);
        assert_eq!(estimate.note(1_500, 40, 3_610_540, 10_520), -3_600_000);
    }
}
