//! Which spans are traces, and how a request becomes one.
//!
//! Spans for traces have the target [`cache_tiered::TRACES`] and the level of debugging: without a collector no layer wants
//! them, and then making one costs a look at a static. The layer is there from the start of the process, since the log is;
//! where spans go is known only once the configuration has been read.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::StatusCode;
use cache_tiered::TRACES;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanBuilder, Tracer, TracerProvider};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber, debug_span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::Traces;
use crate::http::App;

/// Where the spans of this process go, once that is known.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<OnceLock<SdkTracer>>);

impl Slot {
    /// From now on spans go there. The first one wins: it is one for a process.
    pub(crate) fn fill(&self, traces: &Traces) {
        let _ = self.0.set(traces.tracer());
        // Whoever was told that nobody wants its spans is told anew.
        tracing::callsite::rebuild_interest_cache();
    }

    /// What takes the spans.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let slot = self.clone();
        let wanted = filter_fn(move |of: &tracing::Metadata<'_>| {
            of.is_span() && of.target() == TRACES && slot.0.get().is_some()
        });
        tracing_opentelemetry::layer()
            .with_tracer(Late {
                slot: self.clone(),
                nowhere: SdkTracerProvider::builder().build().tracer("none"),
            })
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(wanted.with_max_level_hint(LevelFilter::DEBUG))
    }
}

/// A tracer that is known later.
struct Late {
    slot: Slot,
    nowhere: SdkTracer,
}

impl Tracer for Late {
    type Span = SdkSpan;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> SdkSpan {
        self.slot.0.get().unwrap_or(&self.nowhere).build_with_context(builder, parent)
    }
}

/// The span of a request, as part of the trace that its `traceparent` names; none where nobody collects.
pub(crate) fn span(app: &App, request: &Request, route: Option<&'static str>) -> Option<Span> {
    app.config().telemetry.otlp.as_ref()?;
    let route = route.unwrap_or("none");
    // Probes come every few seconds and say nothing.
    if route.starts_with("/health") || route == "/metrics" {
        return None;
    }
    let method = request.method().as_str();
    let span = debug_span!(
        target: TRACES,
        "http",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = field::Empty,
    );
    if span.is_disabled() {
        return None;
    }
    // An error means that the span goes to no collector; then its parent is of no interest.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(request.headers())));
    Some(span)
}

/// Says in the span of a request how it was answered.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    // A number to collectors; what has no sign would become a text.
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
