//! Families of metrics, and as text, by the encoder of `prometheus-client`.

use std::fmt;
use std::time::Duration;

use cache_tiered::Times;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// Upper bounds of the buckets of a histogram.
pub(crate) type Bounds = &'static [Duration];

pub(crate) type Labels = Vec<(&'static str, String)>;

/// What one scrape is told.
#[derive(Debug, Default)]
pub(crate) struct Exposition(Vec<Family>);

/// A metric with all of its labels.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    kind: MetricType,
    pub(crate) samples: Vec<(Labels, Value)>,
}

#[derive(Debug)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(f64),
    /// Buckets by their upper bounds, the last of which is infinite; each counts what is in it alone.
    Histogram {
        sum: f64,
        count: u64,
        buckets: Vec<(f64, u64)>,
    },
}

impl Exposition {
    /// Something that only grows; `_total` is added to its name.
    pub(crate) fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, MetricType::Counter)
    }

    /// Something that goes up and down.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, MetricType::Gauge)
    }

    /// Times.
    pub(crate) fn histogram(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, MetricType::Histogram)
    }

    fn family(&mut self, name: &'static str, help: &'static str, kind: MetricType) -> &mut Family {
        let at = self.0.len();
        self.0.push(Family { name, help, kind, samples: Vec::new() });
        &mut self.0[at]
    }

    /// What there is, for another form than text.
    pub(crate) fn families(&self) -> impl Iterator<Item = &Family> {
        self.0.iter()
    }

    /// All of it, ended as the format asks for.
    ///
    /// # Errors
    /// None that a string as target could have.
    pub(crate) fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut all = String::new();
        text::encode(&mut all, &registry)?;
        Ok(all)
    }
}

impl Family {
    pub(crate) fn count(&mut self, labels: Labels, value: u64) -> &mut Self {
        self.samples.push((labels, Value::Counter(value)));
        self
    }

    pub(crate) fn set(&mut self, labels: Labels, value: f64) -> &mut Self {
        self.samples.push((labels, Value::Gauge(value)));
        self
    }

    /// Nothing where there is no value.
    pub(crate) fn set_known(&mut self, value: Option<f64>) -> &mut Self {
        if let Some(value) = value {
            self.set(Labels::new(), value);
        }
        self
    }

    pub(crate) fn times(&mut self, labels: Labels, times: &Times, bounds: Bounds) -> &mut Self {
        let mut below = 0;
        let mut buckets = Vec::with_capacity(bounds.len() + 1);
        for bound in bounds {
            let at_most = times.at_most(*bound).max(below);
            buckets.push((bound.as_secs_f64(), at_most - below));
            below = at_most;
        }
        buckets.push((f64::INFINITY, times.count() - below));
        let value = Value::Histogram { sum: times.sum().as_secs_f64(), count: times.count(), buckets };
        self.samples.push((labels, value));
        self
    }
}

impl Value {
    fn encode(&self, mut to: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => to.encode_counter::<NoLabelSet, u64, u64>(value, None),
            Self::Gauge(value) => to.encode_gauge(value),
            Self::Histogram { sum, count, buckets } => {
                to.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
        }
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    value.encode(metric)?;
                    break;
                }
                value.encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}
