//! Everything that `GET /metrics` tells, for a collector: the same list in another form.
//!
//! The SDK of OpenTelemetry has no instrument that reads a histogram which somebody else keeps. So the messages are made here,
//! from what a scrape would be told in the same moment.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_http::{Bytes, Request};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::client::Client;
use super::{ANSWER_MAX, STOP_MAX, resource};
use crate::config::OtlpConfig;
use crate::http::App;
use crate::metrics::{self, Exposition, Family, Value};

/// Tells a collector the figures of one node.
pub(crate) struct Metrics {
    client: Client,
    /// Without its body.
    request: Request<Bytes>,
    every: Duration,
    resource: Resource,
    app: Arc<App>,
}

impl Metrics {
    /// For the collector that the configuration names. Nothing is sent yet.
    ///
    /// # Errors
    /// The endpoint or a header is none, or the certificates of this machine cannot be read.
    pub(crate) fn of(config: &OtlpConfig, app: &Arc<App>) -> anyhow::Result<Self> {
        let mut request = Request::post(format!("{}/v1/metrics", config.endpoint))
            .header("content-type", "application/x-protobuf");
        for (name, value) in &config.headers {
            request = request.header(name, value.expose());
        }
        let of = resource(&app.config().identity);
        let attributes = of.iter().map(|(name, value)| attribute(name.as_str(), value.to_string())).collect();
        Ok(Self {
            client: Client::new(config, ANSWER_MAX)?,
            request: request.body(Bytes::new())?,
            every: config.metrics_every,
            resource: Resource { attributes, ..Resource::default() },
            app: app.clone(),
        })
    }

    /// Tells the figures now and then until `shutdown`, and then once more, within [`STOP_MAX`].
    pub(crate) async fn tell(self, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let mut ticks = tokio::time::interval(this.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once, when there is nothing to tell.
        ticks.tick().await;
        let telling = async {
            loop {
                ticks.tick().await;
                this.send().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = telling => {}
        }
        if tokio::time::timeout(STOP_MAX, this.send()).await.is_err() {
            warn!("the last metrics were not handed over within {STOP_MAX:?}");
        }
    }

    async fn send(self: &Arc<Self>) {
        let told = metrics::gather(&self.app).await;
        let now = self.app.cache().clock().wall();
        let message = message(told, self.resource.clone(), self.app.started_ms(), now);
        let (mut request, this) = (self.request.clone(), self.clone());
        *request.body_mut() = message.encode_to_vec().into();
        // The client blocks. It says itself what goes wrong.
        let _ = tokio::task::spawn_blocking(move || this.client.tell(request)).await;
    }
}

/// What was gathered as one message; times in Unix milliseconds.
fn message(told: Exposition, resource: Resource, started: u64, now: u64) -> ExportMetricsServiceRequest {
    let times = Times { started: started * 1_000_000, now: now.max(started) * 1_000_000 };
    let metrics =
        told.families().filter(|family| !family.samples.is_empty()).map(|family| times.metric(family));
    let scope = InstrumentationScope {
        name: "cache-node".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_metrics =
        ScopeMetrics { scope: Some(scope), metrics: metrics.collect(), ..ScopeMetrics::default() };
    let of_node = ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![scope_metrics],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![of_node] }
}

/// Since when, and when, in Unix nanoseconds.
struct Times {
    started: u64,
    now: u64,
}

impl Times {
    fn metric(&self, family: &Family) -> Metric {
        let temporality = AggregationTemporality::Cumulative as i32;
        let (mut numbers, mut histograms, mut counts) = (Vec::new(), Vec::new(), false);
        for (labels, value) in &family.samples {
            let attributes: Vec<_> =
                labels.iter().map(|(name, value)| attribute(name, value.clone())).collect();
            match value {
                Value::Counter(value) => {
                    counts = true;
                    let value = number_data_point::Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX));
                    numbers.push(self.number(attributes, value));
                }
                Value::Gauge(value) => {
                    numbers.push(self.number(attributes, number_data_point::Value::AsDouble(*value)));
                }
                Value::Histogram { sum, count, buckets } => histograms.push(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: self.started,
                    time_unix_nano: self.now,
                    count: *count,
                    sum: Some(*sum),
                    bucket_counts: buckets.iter().map(|(_, count)| *count).collect(),
                    // The last bucket has no bound.
                    explicit_bounds: buckets
                        .iter()
                        .map(|(bound, _)| *bound)
                        .filter(|bound| bound.is_finite())
                        .collect(),
                    ..HistogramDataPoint::default()
                }),
            }
        }
        let data = if !histograms.is_empty() {
            metric::Data::Histogram(Histogram {
                data_points: histograms,
                aggregation_temporality: temporality,
            })
        } else if counts {
            metric::Data::Sum(Sum {
                data_points: numbers,
                aggregation_temporality: temporality,
                is_monotonic: true,
            })
        } else {
            metric::Data::Gauge(Gauge { data_points: numbers })
        };
        Metric {
            name: family.name.to_owned(),
            description: family.help.to_owned(),
            unit: unit(family.name).to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn number(&self, attributes: Vec<KeyValue>, value: number_data_point::Value) -> NumberDataPoint {
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.started,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }
}

fn attribute(name: &str, text: String) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(text)) };
    KeyValue { key: name.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// What a metric is counted in (UCUM): its name says it.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("percent") => "%",
        _ => "1",
    }
}
