//! The times and limits of the bus.

use std::time::Duration;

/// The times and limits of the bus. [`Default`] is what the design was measured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusConfig {
    /// H: how often each partition asks the log, ±10 %. 500 ms.
    pub sync_interval: Duration,
    /// R: how long a sync may take. The first attempt to open a subscription gets as much, each after one that was not
    /// answered in time twice as much as that, up to four times R. 400 ms.
    pub sync_timeout: Duration,
    /// D: a partition whose last proven sync was sent longer ago than this is [`Degraded`](crate::State). 2 s.
    pub staleness_bound: Duration,
    /// Most log entries in one answer; what is beyond comes with the next sync, at once. 1,000.
    pub sync_entries_max: u32,
    /// Most hints taken under one lock. 256.
    pub hint_batch_max: usize,
    /// Most hints that wait for their turn when more come than one batch: critical ones go first, and of bulk ones of one
    /// key the last stands for all. Beyond it hints are dropped and the log is asked. 8,192.
    pub hints_waiting_max: usize,
    /// Most positions per partition remembered as applied ahead of the cursor. Beyond it the sync applies the event
    /// again as if it were the first time. 8,192.
    pub ahead_max: usize,
    /// Longest wait between a hint of another epoch and the sync that it causes, so that not all nodes ask in the
    /// same instant. 50 ms.
    pub epoch_jitter: Duration,
    /// First wait after a failed sync or subscription; doubles up to the sync interval, ±10 %. 50 ms.
    pub retry_after: Duration,
    /// Wait between attempts while fenced off. 5 s.
    pub fenced_retry: Duration,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_millis(500),
            sync_timeout: Duration::from_millis(400),
            staleness_bound: Duration::from_secs(2),
            sync_entries_max: 1000,
            hint_batch_max: 256,
            hints_waiting_max: 8192,
            ahead_max: 8192,
            epoch_jitter: Duration::from_millis(50),
            retry_after: Duration::from_millis(50),
            fenced_retry: Duration::from_secs(5),
        }
    }
}

/// Which rule a [`BusConfig`] breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusConfigError {
    /// A field that must not be zero is, or is below a millisecond.
    #[error("{field}: must be at least {least}")]
    TooSmall {
        /// The field of [`BusConfig`].
        field: &'static str,
        /// The least value that works.
        least: &'static str,
    },
    /// One lost sync would already end trust.
    #[error(
        "staleness_bound: {bound:?} is below {least:?} (two sync intervals and two sync timeouts), so that one \
         lost sync would already end trust"
    )]
    BoundTooTight {
        /// D, as given.
        bound: Duration,
        /// 2 H + 2 R.
        least: Duration,
    },
}

impl BusConfig {
    /// Checks all rules.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn check(&self) -> Result<(), Vec<BusConfigError>> {
        let mut broken = Vec::new();
        let millisecond = Duration::from_millis(1);
        for (field, value) in [
            ("sync_interval", self.sync_interval),
            ("sync_timeout", self.sync_timeout),
            ("retry_after", self.retry_after),
            ("fenced_retry", self.fenced_retry),
        ] {
            if value < millisecond {
                broken.push(BusConfigError::TooSmall { field, least: "1 ms" });
            }
        }
        if self.sync_entries_max == 0 {
            broken.push(BusConfigError::TooSmall { field: "sync_entries_max", least: "1" });
        }
        if self.hint_batch_max == 0 {
            broken.push(BusConfigError::TooSmall { field: "hint_batch_max", least: "1" });
        }
        if self.hints_waiting_max == 0 {
            broken.push(BusConfigError::TooSmall { field: "hints_waiting_max", least: "1" });
        }
        let least = self.sync_interval.saturating_add(self.sync_timeout).saturating_mul(2);
        if self.staleness_bound < least {
            broken.push(BusConfigError::BoundTooTight { bound: self.staleness_bound, least });
        }
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }
}

/// The same in logical milliseconds, as the protocol counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) interval: u64,
    pub(crate) timeout: u64,
    pub(crate) bound: u64,
    pub(crate) epoch_jitter: u64,
    pub(crate) retry_after: u64,
    pub(crate) fenced_retry: u64,
}

impl Times {
    pub(crate) fn of(config: &BusConfig) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4).max(1);
        Self {
            interval: ms(config.sync_interval),
            timeout: ms(config.sync_timeout),
            bound: ms(config.staleness_bound),
            epoch_jitter: config.epoch_jitter.as_millis().min(60_000) as u64,
            retry_after: ms(config.retry_after),
            fenced_retry: ms(config.fenced_retry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_their_own_rules() {
        assert_eq!(BusConfig::default().check(), Ok(()));
    }

    #[test]
    fn a_bound_that_one_lost_sync_ends_is_refused() {
        let config = BusConfig { staleness_bound: Duration::from_millis(1799), ..BusConfig::default() };
        let broken = config.check().unwrap_err();
        assert!(matches!(broken[..], [BusConfigError::BoundTooTight { .. }]), "{broken:?}");
        assert!(broken[0].to_string().contains("1.8s"), "{}", broken[0]);
        let config = BusConfig { staleness_bound: Duration::from_millis(1800), ..BusConfig::default() };
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn all_broken_rules_are_told_at_once() {
        let config = BusConfig {
            sync_interval: Duration::ZERO,
            sync_entries_max: 0,
            hint_batch_max: 0,
            staleness_bound: Duration::ZERO,
            ..BusConfig::default()
        };
        assert_eq!(config.check().unwrap_err().len(), 4);
    }
}
