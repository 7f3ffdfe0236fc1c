//! How fresh a client asks its answer to be.

use std::time::Duration;

use cache_events::Version;
use cache_tiered::Freshness;

use crate::desk::Desk;

/// The wish of one read.
pub(crate) struct Wish {
    pub(crate) freshness: Freshness,
    /// The version of the write whose token is shown.
    pub(crate) reflects: Version,
}

impl Wish {
    /// What a caller gets who says nothing.
    pub(crate) fn usual() -> Self {
        Self::of(Freshness::Bounded)
    }

    pub(crate) fn of(freshness: Freshness) -> Self {
        Self { freshness, reflects: Version::NONE }
    }

    /// Some wish for a row, or for another one that somebody has just written.
    pub(crate) fn any(row: usize, desk: &Desk, rng: &mut fastrand::Rng) -> (usize, Self) {
        match rng.u32(0..10) {
            0 => (row, Self::of(Freshness::Any)),
            1..=2 => {
                let most = [0, 50, 400, 1_200][rng.usize(0..4)];
                (row, Self::of(Freshness::AtMost(Duration::from_millis(most))))
            }
            3 => (row, Self::of(Freshness::Latest)),
            4..=5 => match desk.any_token(rng) {
                Some((row, reflects, token)) => {
                    (row, Self { freshness: Freshness::AtLeast(token), reflects })
                }
                None => (row, Self::usual()),
            },
            _ => (row, Self::usual()),
        }
    }
}
