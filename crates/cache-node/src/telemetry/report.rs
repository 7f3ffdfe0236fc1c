//! What is told of figures and alerts: history, alerts, targets.

use cache_api::operate::{Alert, Alerts, History, Operation, Operations, Severity, SloReport, SloTarget};

use cache_tiered::Times;

use super::{AlertName, Raised, Range, SERIES};
use crate::http::{App, rfc3339};

/// A target of the service.
struct Target {
    name: &'static str,
    above: bool,
    target: f64,
    unit: &'static str,
}

const fn percent(name: &'static str, target: f64) -> Target {
    Target { name, above: true, target, unit: "%" }
}

const fn ms(name: &'static str, target: f64) -> Target {
    Target { name, above: false, target, unit: "ms" }
}

const L1_HITS: Target = percent("l1_hits", 80.0);
const L2_HITS: Target = percent("l2_hits", 95.0);
const PROPAGATION: Target = ms("propagation", 100.0);
const RESPONSE: Target = ms("response", 5.0);
const INVALIDATION: Target = ms("invalidation", 200.0);

impl Target {
    fn beside(&self, found: Option<f64>, samples: u64) -> SloTarget {
        let met = found.map(|found| if self.above { found > self.target } else { found < self.target });
        SloTarget {
            name: self.name.to_owned(),
            direction: if self.above { "above" } else { "below" }.to_owned(),
            target: self.target,
            found: found.map(rounded),
            unit: self.unit.to_owned(),
            samples,
            met,
        }
    }

    fn share(&self, part: u64, whole: u64) -> SloTarget {
        self.beside((whole > 0).then(|| part as f64 / whole as f64 * 100.0), whole)
    }
}

/// Three decimals are enough to read.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// What an alert means, in a sentence.
pub(super) fn message(raised: &Raised) -> String {
    let (value, limit) = (rounded(raised.value), raised.threshold);
    match raised.name {
        AlertName::HitRatio => {
            format!("{value} % of the reads of a minute were answered by a tier; the limit is {limit} %")
        }
        AlertName::EventQueue => {
            format!("{value} invalidations wait for the shared tier; the limit is {limit}")
        }
        AlertName::EventLatency => {
            format!(
                "of 100 events one takes more than {value} ms to be applied here; the limit is {limit} ms"
            )
        }
        AlertName::RedisMemory => {
            format!("Redis uses {value} % of its maxmemory (the fullest master); the limit is {limit} %")
        }
        AlertName::ConnectionFailures => {
            format!(
                "{value} times within a minute Redis could not be connected to or did not answer; the limit is {limit}"
            )
        }
    }
}

fn cure(name: AlertName) -> &'static str {
    match name {
        AlertName::HitRatio => {
            "compare evicted, expired and invalidations of the namespaces in /cache/stats: L1 may be too small \
             (cache.l1_size), lifetimes too short, or invalidations too broad"
        }
        AlertName::EventQueue => {
            "see in /health whether Redis answers; the queue empties by itself once it does, and until then other nodes \
             learn of changes only by the staleness bound"
        }
        AlertName::EventLatency => {
            "look at the load of this node and of Redis, at the network between them, and at the clocks of the nodes"
        }
        AlertName::RedisMemory => {
            "raise maxmemory, shorten lifetimes (ttl of the cache types), or add a master; when it is full, writes are \
             refused or keys leave, as its maxmemory-policy says"
        }
        AlertName::ConnectionFailures => {
            "see whether Redis runs and can be reached from this machine, and whether its maxclients is used up"
        }
    }
}

impl App {
    /// Points of series, told by wall time. `range` is in logical time.
    pub(crate) fn history(&self, series: &[usize], range: Range) -> History {
        let ahead = self.wall_ahead();
        let told = |at: u64| at.saturating_add_signed(ahead);
        let one = |&index: &usize| {
            let points = self.telemetry().range(index, range).into_iter();
            (SERIES[index].to_owned(), points.map(|point| (told(point.at), point.value)).collect())
        };
        History {
            series: series.iter().map(one).collect(),
            known: SERIES.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// How far the wall clock is ahead of logical time, in milliseconds.
    pub(crate) fn wall_ahead(&self) -> i64 {
        let clock = self.cache().clock();
        self.telemetry().steady((clock.wall() as i64).saturating_sub(clock.now() as i64))
    }

    /// Alerts that stand, and the latest that have passed.
    pub fn alerts(&self) -> Alerts {
        let ahead = self.wall_ahead();
        let time = |at: u64| rfc3339(at.saturating_add_signed(ahead)).unwrap_or_default();
        let told = |raised: &Raised| Alert {
            name: raised.name.as_str().to_owned(),
            severity: raised.severity,
            value: rounded(raised.value),
            threshold: raised.threshold,
            unit: raised.name.unit().to_owned(),
            since: time(raised.since),
            until: raised.until.map(time),
            message: message(raised),
            cure: cure(raised.name).to_owned(),
        };
        Alerts {
            active: self.telemetry().active().iter().map(told).collect(),
            past: self.telemetry().past().iter().map(told).collect(),
        }
    }

    /// What is critical now, in words.
    pub(crate) fn critical(&self) -> Option<String> {
        let active = self.telemetry().active();
        let critical = active.iter().filter(|raised| raised.severity == Severity::Critical);
        let told: Vec<String> = critical.map(message).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// Figures since the start beside their targets.
    pub fn slo(&self) -> SloReport {
        let sum = |of: fn(&cache_tiered::NamespaceStats) -> u64| -> u64 {
            self.cache().stats().iter().map(|(_, stats)| of(stats)).sum()
        };
        let (l1_hits, reads) = (sum(|stats| stats.l1_hits), sum(|stats| stats.reads));
        let (l2_hits, l2_misses) = (sum(|stats| stats.l2_hits), sum(|stats| stats.l2_misses));
        let timings = self.cache().timings();
        let p99 = |times: &Times| (times.quantile(0.99).map(|time| time.as_secs_f64() * 1e3), times.count());
        let (propagation, response, invalidation) =
            (p99(&timings.propagation), p99(&timings.all.reads.all()), p99(&timings.invalidation));
        let targets = vec![
            L1_HITS.share(l1_hits, reads),
            L2_HITS.share(l2_hits, l2_hits + l2_misses),
            PROPAGATION.beside(propagation.0, propagation.1),
            RESPONSE.beside(response.0, response.1),
            INVALIDATION.beside(invalidation.0, invalidation.1),
        ];
        SloReport { met: targets.iter().all(|target| target.met != Some(false)), targets }
    }

    /// The latest operations that were to change something, newest first.
    pub(crate) fn operations(&self, limit: usize) -> Operations {
        let ahead = self.wall_ahead();
        let log = self.telemetry().operations.lock();
        let told = |operation: &super::operations::Operation| Operation {
            at: rfc3339(operation.at.saturating_add_signed(ahead)).unwrap_or_default(),
            what: operation.what.to_string(),
            status: operation.status,
            took_ms: operation.took_us as f64 / 1e3,
        };
        Operations { operations: log.latest(limit).map(told).collect(), seen: log.seen() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_on_its_own_side_alone() {
        let met = |target: &Target, found| target.beside(found, 1).met;
        assert_eq!(
            [5.1, 5.0, 4.9].map(|found| met(&RESPONSE, Some(found))),
            [Some(false), Some(false), Some(true)]
        );
        assert_eq!(
            [80.1, 80.0, 79.9].map(|found| met(&L1_HITS, Some(found))),
            [Some(true), Some(false), Some(false)]
        );
        assert_eq!((met(&RESPONSE, None), met(&L1_HITS, None)), (None, None));
        assert_eq!(L1_HITS.share(9, 10).found, Some(90.0));
        assert_eq!((L1_HITS.share(0, 0).found, L1_HITS.share(0, 0).met), (None, None));
    }
}
