//! OpenTelemetry over OTLP (HTTP, protobuf): traces and metrics for a collector.
//!
//! Spans are handed over by a thread of the SDK, from a bounded queue, figures by a task of the node: a collector that is away
//! costs a warning now and then, spans that are dropped, and at the stop at most `STOP_MAX` for each of traces and metrics.

mod client;
mod metrics;
mod traces;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tracing::warn;

pub(crate) use metrics::Metrics;
pub(crate) use traces::{Slot, answered, span};

use crate::config::{Identity, OtlpConfig};
use client::Client;

/// How long a stop waits for what is still to be handed over.
const STOP_MAX: Duration = Duration::from_secs(2);
/// How long the collector may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Spans that wait to be handed over; more are dropped.
const SPANS_MAX: usize = 2_048;
/// How long a span may wait for others to go with it.
const SPANS_EVERY: Duration = Duration::from_secs(1);

/// Who sends.
fn resource(identity: &Identity) -> Resource {
    let attributes = [
        ("service.instance.id", identity.id.to_string()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("cloud.region", identity.region.clone()),
        ("region", identity.region.clone()),
        ("datacenter", identity.datacenter.clone()),
    ];
    let attributes = attributes.map(|(name, value)| KeyValue::new(name, value));
    Resource::builder_empty().with_service_name("edgecache").with_attributes(attributes).build()
}

fn exporter(config: &OtlpConfig) -> anyhow::Result<SpanExporter> {
    let client: Arc<Client> = Arc::new(Client::new(config, ANSWER_MAX)?);
    let headers = config.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_shared_http_client(client)
        .with_headers(headers.collect())
        .with_endpoint(format!("{}/v1/traces", config.endpoint))
        .with_timeout(ANSWER_MAX)
        // What could not be handed over is dropped: the next is on its way.
        .with_retry_policy(RetryPolicy::disabled())
        .build();
    exporter.context("spans cannot be handed over")
}

/// Traces of this process.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts handing over spans.
    ///
    /// # Errors
    /// The endpoint is none, or the certificates of this machine cannot be read.
    pub(crate) fn start(config: &OtlpConfig, identity: &Identity) -> anyhow::Result<Self> {
        let exporter = exporter(config)?;
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_MAX)
            .with_scheduled_delay(SPANS_EVERY)
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
            .with_sampler(sampler)
            .with_resource(resource(identity))
            .build();
        Ok(Self(provider))
    }

    fn tracer(&self) -> SdkTracer {
        self.0.tracer("cache-node")
    }

    /// Hands over what is left, within [`STOP_MAX`].
    pub(crate) async fn stop(self) {
        // The SDK waits by blocking.
        let stopped = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(STOP_MAX));
        match tokio::time::timeout(STOP_MAX, stopped).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last spans could not be handed over"),
            Ok(Err(_)) | Err(_) => warn!("the last spans were not handed over within {STOP_MAX:?}"),
        }
    }
}
