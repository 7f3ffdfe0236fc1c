//! When a figure becomes an alert, and when it is none any more: hysteresis, as a plain state machine over injected time.
//!
//! Each severity has a latch of its own. It closes when the figure was beyond the limit at each look for `raise_after`, and
//! opens when it was clear of the limit by the margin at each look for `clear_after`. Between limit and margin, and without
//! a reading, a latch stays as it is. The severity of the alert is that of the worst closed latch.

use std::collections::VecDeque;
use std::time::Duration;

use cache_api::operate::Severity;

/// Past alerts that are remembered.
const PAST_MAX: usize = 100;
/// Two looks further apart than this prove nothing about the time between them (a machine that was suspended).
const LOOK_MS_MAX: u64 = 10_000;

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertName {
    /// Hits as a share of reads.
    HitRatio,
    /// Invalidations that wait for the shared tier.
    EventQueue,
    /// Time from an event to its being applied.
    EventLatency,
    /// What Redis uses of its maxmemory.
    RedisMemory,
    /// Connections to Redis that could not be made, and commands that it did not answer in time.
    ConnectionFailures,
}

impl AlertName {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::HitRatio, Self::EventQueue, Self::EventLatency, Self::RedisMemory, Self::ConnectionFailures];

    /// The name by which it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HitRatio => "hit_ratio",
            Self::EventQueue => "event_queue",
            Self::EventLatency => "event_latency",
            Self::RedisMemory => "redis_memory",
            Self::ConnectionFailures => "connection_failures",
        }
    }

    /// The unit of figure and limits.
    pub fn unit(self) -> &'static str {
        match self {
            Self::HitRatio | Self::RedisMemory => "%",
            Self::EventQueue => "events",
            Self::EventLatency => "ms",
            Self::ConnectionFailures => "per minute",
        }
    }

    /// Whether small figures are the bad ones.
    pub fn bad_below(self) -> bool {
        self == Self::HitRatio
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The limits of one alert, in its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Beyond it, the figure is to be looked at.
    pub warning: f64,
    /// Beyond it, it is to be mended now.
    pub critical: f64,
}

/// When figures become alerts. May change while the node runs.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertSettings {
    limits: [Limits; AlertName::ALL.len()],
    /// For how long a figure must be beyond its limit.
    pub raise_after: Duration,
    /// For how long it must be clear of the limit by the margin.
    pub clear_after: Duration,
    /// By which share of the limit a figure must be clear of it, 0 to 0.5.
    pub clear_margin: f64,
    /// Without a reading for so long, an alert ends.
    pub unknown_after: Duration,
}

impl Default for AlertSettings {
    fn default() -> Self {
        let limits = |warning, critical| Limits { warning, critical };
        Self {
            limits: [
                limits(70.0, 50.0),
                limits(1_000.0, 5_000.0),
                limits(500.0, 2_000.0),
                limits(80.0, 95.0),
                limits(5.0, 20.0),
            ],
            raise_after: Duration::from_secs(15),
            clear_after: Duration::from_secs(60),
            clear_margin: 0.1,
            unknown_after: Duration::from_secs(600),
        }
    }
}

impl AlertSettings {
    /// The limits of an alert.
    pub fn limits(&self, name: AlertName) -> Limits {
        self.limits[name.index()]
    }

    /// Other limits for an alert.
    #[must_use]
    pub fn with(mut self, name: AlertName, limits: Limits) -> Self {
        self.limits[name.index()] = limits;
        self
    }

    fn limit(&self, name: AlertName, severity: Severity) -> f64 {
        match severity {
            Severity::Warning => self.limits(name).warning,
            Severity::Critical => self.limits(name).critical,
        }
    }
}

/// One severity of one alert.
#[derive(Debug, Clone, Copy, Default)]
struct Latch {
    closed: bool,
    /// Since when every look has found the opposite.
    against_since: Option<u64>,
}

impl Latch {
    fn look(&mut self, now: u64, bad: bool, good: bool, settings: &AlertSettings) {
        let (against, hold) =
            if self.closed { (good, settings.clear_after) } else { (bad, settings.raise_after) };
        if !against {
            self.against_since = None;
            return;
        }
        let since = *self.against_since.get_or_insert(now);
        if now - since >= hold.as_millis() as u64 {
            *self = Self { closed: !self.closed, against_since: None };
        }
    }
}

/// An alert that stands or stood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Raised {
    /// Which.
    pub name: AlertName,
    /// How bad it is; of one that has passed, how bad it was at its worst.
    pub severity: Severity,
    /// The figure now; of one that has passed, the worst.
    pub value: f64,
    /// The limit of that severity.
    pub threshold: f64,
    /// When the figure went beyond the limit, in logical milliseconds.
    pub since: u64,
    /// When it passed.
    pub until: Option<u64>,
}

/// What a look changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// An alert stands now, or is worse than it was.
    Raised(Raised),
    /// A critical alert is a warning now.
    Eased(Raised),
    /// It stands no more.
    Cleared(Raised),
}

#[derive(Debug, Default)]
struct State {
    latches: [Latch; 2],
    /// Since when the figure has been beyond the limit of the warning.
    bad_since: Option<u64>,
    last_look: u64,
    last_reading: u64,
    /// While it stands: it, its worst figure, its worst severity.
    standing: Option<(Raised, Raised)>,
}

impl State {
    fn look(
        &mut self,
        name: AlertName,
        now: u64,
        reading: Option<f64>,
        settings: &AlertSettings,
    ) -> Option<Change> {
        if now.saturating_sub(self.last_look) > LOOK_MS_MAX {
            self.latches.iter_mut().for_each(|latch| latch.against_since = None);
            self.bad_since = None;
        }
        self.last_look = now;
        let Some(value) = reading.filter(|value| value.is_finite()) else {
            self.latches.iter_mut().for_each(|latch| latch.against_since = None);
            self.bad_since = None;
            let unknown_ms = now.saturating_sub(self.last_reading);
            if self.standing.is_some() && unknown_ms >= settings.unknown_after.as_millis() as u64 {
                self.latches = Default::default();
            }
            return self.judge(name, now, None, settings);
        };
        self.last_reading = now;
        for (latch, severity) in self.latches.iter_mut().zip([Severity::Warning, Severity::Critical]) {
            let limit = settings.limit(name, severity);
            let (bad, good) = if name.bad_below() {
                (value < limit, value >= limit * (1.0 + settings.clear_margin))
            } else {
                (value > limit, value <= limit * (1.0 - settings.clear_margin))
            };
            if severity == Severity::Warning {
                self.bad_since = if bad { self.bad_since.or(Some(now)) } else { None };
            }
            latch.look(now, bad, good, settings);
        }
        self.judge(name, now, Some(value), settings)
    }

    fn judge(
        &mut self,
        name: AlertName,
        now: u64,
        value: Option<f64>,
        settings: &AlertSettings,
    ) -> Option<Change> {
        let severity = match self.latches.map(|latch| latch.closed) {
            [_, true] => Some(Severity::Critical),
            [true, false] => Some(Severity::Warning),
            [false, false] => None,
        };
        match (&mut self.standing, severity) {
            (None, None) => None,
            (None, Some(severity)) => {
                let threshold = settings.limit(name, severity);
                let since = self.bad_since.unwrap_or(now);
                let value = value.unwrap_or(threshold);
                let raised = Raised { name, severity, value, threshold, since, until: None };
                self.standing = Some((raised, raised));
                Some(Change::Raised(raised))
            }
            (Some((_, worst)), None) => {
                let passed = Raised { until: Some(now), ..*worst };
                self.standing = None;
                Some(Change::Cleared(passed))
            }
            (Some((raised, worst)), Some(severity)) => {
                let before = std::mem::replace(&mut raised.severity, severity);
                raised.threshold = settings.limit(name, severity);
                raised.value = value.unwrap_or(raised.value);
                let worse =
                    if name.bad_below() { raised.value < worst.value } else { raised.value > worst.value };
                if worse {
                    worst.value = raised.value;
                }
                if severity > worst.severity {
                    (worst.severity, worst.threshold) = (severity, raised.threshold);
                }
                match severity.cmp(&before) {
                    std::cmp::Ordering::Greater => Some(Change::Raised(*raised)),
                    std::cmp::Ordering::Less => Some(Change::Eased(*raised)),
                    std::cmp::Ordering::Equal => None,
                }
            }
        }
    }
}

/// All alerts of a node.
///
/// ```
/// use cache_node::telemetry::{AlertName, AlertSettings, Board, Change};
///
/// let (mut board, settings) = (Board::default(), AlertSettings::default());
/// // Beyond the limit for 15 seconds, at one look a second.
/// let changes: Vec<Change> = (0..=15)
///     .filter_map(|second| board.look(AlertName::EventQueue, second * 1_000, Some(1_200.0), &settings))
///     .collect();
/// assert!(matches!(changes[..], [Change::Raised(_)]));
/// ```
#[derive(Debug, Default)]
pub struct Board {
    states: [State; AlertName::ALL.len()],
    past: VecDeque<Raised>,
}

impl Board {
    /// Takes a reading at a time in logical milliseconds; `None` = there is none, or it stands on too few samples.
    pub fn look(
        &mut self,
        name: AlertName,
        now: u64,
        reading: Option<f64>,
        settings: &AlertSettings,
    ) -> Option<Change> {
        let change = self.states[name.index()].look(name, now, reading, settings);
        if let Some(Change::Cleared(raised)) = change {
            self.past.truncate(PAST_MAX - 1);
            self.past.push_front(raised);
        }
        change
    }

    /// Those that stand, worst first.
    pub fn active(&self) -> Vec<Raised> {
        let standing = self.states.iter().filter_map(|state| state.standing.map(|(raised, _)| raised));
        let mut active: Vec<Raised> = standing.collect();
        active.sort_by_key(|raised| (std::cmp::Reverse(raised.severity), raised.since));
        active
    }

    /// The latest that have passed, newest first.
    pub fn past(&self) -> impl Iterator<Item = &Raised> {
        self.past.iter()
    }
}

#[cfg(test)]
mod tests;
