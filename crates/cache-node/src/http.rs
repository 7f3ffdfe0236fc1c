//! The interface to the outside: a cache node for programs in any language.
//!
//! Every answer that is not a success has a JSON body that says what is wrong ([`cache_api::ErrorBody`]).

mod admin;
mod app;
mod auth;
mod dashboard;
mod doctor;
mod entries;
mod events;
mod figures;
mod history;
mod market;
mod market_changes;
mod observe;
mod problem;
mod query;
mod request;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Extension, Router};

pub use app::App;
pub(crate) use observe::rfc3339;

pub(crate) use figures::ratio;
pub(crate) use problem::Problem;

use crate::metrics;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", get(observe::health))
        .route("/events", get(events::stream))
        .route("/node/events", get(events::recent))
        .route("/metrics", get(metrics::metrics))
        .route("/cache/stats", get(figures::stats))
        .route("/node/hot-keys", get(figures::hot_keys))
        .route("/node/history", get(history::history))
        .route("/node/alerts", get(history::alerts))
        .route("/node/slo", get(history::slo))
        .route("/node/operations", get(history::operations))
        .route("/cache/clear", post(admin::clear))
        .route("/cache/invalidate", post(admin::invalidate))
        .route(
            // The rest of the path, so that a resource may hold slashes, escaped or not.
            "/cache/{cache_type}/{*resource}",
            get(entries::read).put(entries::write).delete(entries::remove),
        )
        .route("/node/doctor", get(doctor::doctor))
        // Likewise: an id of a GPU may hold slashes.
        .route("/market/gpus/{*gpu_id}", get(market::gpu).put(market_changes::put_gpu))
        .route("/market/availability", get(market::availability))
        .route("/market/search", get(market::search))
        .route("/market/pricing/{gpu_type}", get(market::pricing).put(market_changes::put_pricing))
        .route("/market/bookings", post(market_changes::book))
        .route("/market/bookings/{booking_id}", get(market::booking).delete(market_changes::cancel))
        .route("/market/providers/{provider_id}", get(market::provider))
        .route("/market/providers/{provider_id}/status", put(market_changes::put_provider_status))
        .route("/market/order-book/{gpu_type}", get(market::order_book))
        .route("/market/history/{gpu_type}", get(market::history))
        .route("/market/stats", get(market::stats))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(app.clone(), history::note))
        .layer(middleware::from_fn_with_state(app.clone(), auth::require_token))
        .layer(middleware::from_fn_with_state(app.clone(), limit_body))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::requests::timed))
        .layer(Extension(app))
        // Behind the layers: the files need no token.
        .merge(dashboard::router())
}

/// Bodies are as long as the configuration allows now.
async fn limit_body(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    DefaultBodyLimit::max(app.live().body_bytes_max).apply(&mut request);
    next.run(request).await
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is at {}", uri.path())).cure(
        "there are /health, /metrics, /events, /cache/stats, /cache/clear, /cache/invalidate, \
         /cache/{cache_type}/{resource}, under /node: events, history, alerts, slo, operations and hot-keys, and under \
         /market: gpus, availability, search, pricing, bookings, providers, order-book, history and stats",
    )
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{method} is not possible on {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
