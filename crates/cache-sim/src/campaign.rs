//! Many schedules, on as many threads as there are; each schedule stays on one.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::schedule::{Outcome, run};
use crate::trace::Detail;

/// What many schedules showed.
#[derive(Debug, Default)]
pub struct Campaign {
    /// How many ran to their end.
    pub schedules: u64,
    /// Messages that arrived, in all of them.
    pub events: u64,
    /// Those in which something was broken, by seed.
    pub violating: Vec<Outcome>,
}

/// Runs the schedules of the seeds from `first` on, `seeds` of them; none above a violating one if `until_violation`.
pub fn campaign(first: u64, seeds: u64, threads: usize, until_violation: bool) -> Campaign {
    let (next, end) = (AtomicU64::new(first), AtomicU64::new(first.saturating_add(seeds)));
    let campaign = Mutex::new(Campaign::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end.load(Ordering::SeqCst) {
                        return;
                    }
                    let outcome = run(seed, Detail::Nothing);
                    let mut campaign = campaign.lock();
                    campaign.schedules += 1;
                    campaign.events += outcome.events;
                    if !outcome.violations.is_empty() {
                        if until_violation {
                            end.fetch_min(seed, Ordering::SeqCst);
                        }
                        campaign.violating.push(outcome);
                    }
                }
            });
        }
    });
    let mut campaign = campaign.into_inner();
    campaign.violating.sort_by_key(|outcome| outcome.seed);
    campaign
}
