//! What a run found, as one JSON object or as text.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What a run of the demo found. Figures without a sample are null.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Nodes.
    pub nodes: usize,
    /// `embedded` or `redis`.
    pub transport: &'static str,
    /// Events that were acknowledged.
    pub events_published: u64,
    /// Events that each node applied.
    pub events_applied: BTreeMap<String, u64>,
    /// Acknowledged events that some node neither applied nor flushed past.
    pub lost_events: u64,
    /// Answers that were compared with the ledger at the end, over all nodes.
    pub compared_at_end: u64,
    /// Of these, those that differed.
    pub wrong_at_end: u64,
    /// Reads.
    pub reads: u64,
    /// Reads of a value older than the staleness bound after an acknowledgement.
    pub stale_reads: u64,
    /// The longest time after an acknowledgement at which a read began that still saw the older value.
    pub max_staleness_ms: f64,
    /// Share of reads that L1 answered.
    pub l1_hit_ratio: Option<f64>,
    /// Share of the other reads that L2 answered.
    pub l2_hit_ratio: Option<f64>,
    /// From the call to applied on the last node.
    pub propagation_ms: Quantiles,
    /// Time of a read, as its caller sees it.
    pub read_latency_us: ReadLatency,
    /// Bookings.
    pub bookings: Bookings,
    /// Reads and publications that failed with an error.
    pub errors: u64,
    /// Lines of the feed that were skipped.
    pub bad_feed_lines: u64,
    /// Seconds from the first event to the end of the checks.
    pub elapsed_s: f64,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// 99.9 %.
    pub p999: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

impl Quantiles {
    /// From microseconds.
    pub(crate) fn of_us(histogram: &Histogram<u64>) -> Self {
        let some = |us: u64| (!histogram.is_empty()).then_some(us as f64 / 1000.0);
        Self {
            p50: some(histogram.value_at_quantile(0.5)),
            p99: some(histogram.value_at_quantile(0.99)),
            p999: some(histogram.value_at_quantile(0.999)),
            max: some(histogram.max()),
        }
    }
}

/// Read latencies in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ReadLatency {
    /// Median of hits in L1.
    pub l1_p50: Option<f64>,
    /// 99 % of hits in L1.
    pub l1_p99: Option<f64>,
    /// Median of hits in L2.
    pub l2_p50: Option<f64>,
    /// 99 % of hits in L2.
    pub l2_p99: Option<f64>,
}

impl ReadLatency {
    /// From nanoseconds.
    pub(crate) fn of_ns(l1: &Histogram<u64>, l2: &Histogram<u64>) -> Self {
        let at = |histogram: &Histogram<u64>, quantile: f64| {
            (!histogram.is_empty()).then_some(histogram.value_at_quantile(quantile) as f64 / 1000.0)
        };
        Self { l1_p50: at(l1, 0.5), l1_p99: at(l1, 0.99), l2_p50: at(l2, 0.5), l2_p99: at(l2, 0.99) }
    }
}

/// Bookings of a run.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Bookings {
    /// Attempts.
    pub attempted: u64,
    /// Created.
    pub created: u64,
    /// Refused because the GPU was taken (or gone).
    pub conflicts: u64,
    /// Pairs of active bookings of one GPU that overlap: there must be none.
    pub double: u64,
}

impl Report {
    /// Whether coherence held: nothing stale, lost, wrong or booked twice.
    pub fn holds(&self) -> bool {
        self.stale_reads == 0 && self.lost_events == 0 && self.wrong_at_end == 0 && self.bookings.double == 0
    }
}

struct Shown(Option<f64>, &'static str);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) if value >= 100.0 => write!(f, "{value:.0} {}", self.1),
            Some(value) => write!(f, "{value:.2} {}", self.1),
            None => f.write_str("-"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ratio: Option<f64>| Shown(ratio.map(|ratio| ratio * 100.0), "%");
        let applied: Vec<String> =
            self.events_applied.iter().map(|(node, events)| format!("{node} {events}")).collect();
        writeln!(f, "{} nodes over {}, {:.1} s", self.nodes, self.transport, self.elapsed_s)?;
        writeln!(f, "  events       {} published; applied: {}", self.events_published, applied.join(", "))?;
        let (p, l) = (&self.propagation_ms, &self.read_latency_us);
        writeln!(
            f,
            "  propagation  p50 {}, p99 {}, p99.9 {}, max {}",
            Shown(p.p50, "ms"),
            Shown(p.p99, "ms"),
            Shown(p.p999, "ms"),
            Shown(p.max, "ms")
        )?;
        writeln!(
            f,
            "  reads        {}; L1 answered {}, L2 {} of the rest",
            self.reads,
            percent(self.l1_hit_ratio),
            percent(self.l2_hit_ratio)
        )?;
        writeln!(
            f,
            "  latency      L1 p50 {}, p99 {}; L2 p50 {}, p99 {}",
            Shown(l.l1_p50, "µs"),
            Shown(l.l1_p99, "µs"),
            Shown(l.l2_p50, "µs"),
            Shown(l.l2_p99, "µs")
        )?;
        let b = &self.bookings;
        writeln!(
            f,
            "  bookings     {} attempted, {} created, {} conflicts",
            b.attempted, b.created, b.conflicts
        )?;
        writeln!(
            f,
            "  staleness    at most {:.2} ms after an acknowledgement; {} errors",
            self.max_staleness_ms, self.errors
        )?;
        if self.bad_feed_lines > 0 {
            writeln!(f, "  feed         {} bad lines skipped", self.bad_feed_lines)?;
        }
        write!(
            f,
            "  {}: {} stale reads, {} lost events, {} of {} answers wrong at the end, {} double bookings",
            if self.holds() { "coherent" } else { "NOT COHERENT" },
            self.stale_reads,
            self.lost_events,
            self.wrong_at_end,
            self.compared_at_end,
            b.double
        )
    }
}
