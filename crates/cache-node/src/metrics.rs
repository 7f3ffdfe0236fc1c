//! What a node exports: for Prometheus by `GET /metrics`, and for a collector by [`otlp`](crate::telemetry).
//!
//! Nothing is kept for it: each scrape reads the counters and histograms that the cache has anyway ([`exported`] says which),
//! and [`exposition`] writes them. Labels are bounded: cache types and partitions as the configuration has them, groups of routes
//! and classes of statuses as [`requests`] has them.

mod exported;
mod exposition;
pub(crate) mod requests;

pub(crate) use exported::gather;
pub(crate) use exposition::{Exposition, Family, Value};

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::config::TokenScope;
use crate::http::{Access, App, Problem, Route};

const ABOUT: &str = "Everything that is counted and timed, for Prometheus. Needs no token where `http.metrics_public` is set.";

/// What the body is.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where it is.
pub(crate) const PATH: &str = "/metrics";

/// The route.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get(PATH, read, ABOUT, metrics)
            .answer_as::<String>(200, "application/openmetrics-text", "In the format of OpenMetrics.")
            .problem(404, "Metrics are switched off."),
    ]
}

/// `GET /metrics`
async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    if !app.config().enable_metrics {
        let off =
            Problem::new(StatusCode::NOT_FOUND, "metrics are switched off: cache.enable_metrics is false");
        return Err(off.field("cache.enable_metrics").cure(
            "set cache.enable_metrics (CACHE_ENABLE_METRICS) to true; the development profile switches it off",
        ));
    }
    let text = gather(&app).await.text();
    let text = text.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
