//! The interface to the outside: a cache node for programs in any language.
//!
//! Every answer that is not a success has a JSON body that says what is wrong ([`cache_api::ErrorBody`]).

mod admin;
mod app;
mod auth;
mod entries;
mod observe;
mod problem;
mod request;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{get, post};
use axum::{Extension, Router};

pub use app::App;

use problem::Problem;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let body_bytes_max = app.config().http.body_bytes_max;
    Router::new()
        .route("/health", get(observe::health))
        .route("/cache/stats", get(observe::stats))
        .route("/cache/clear", post(admin::clear))
        .route("/cache/invalidate", post(admin::invalidate))
        .route(
            // The rest of the path, so that a resource may hold slashes, escaped or not.
            "/cache/{cache_type}/{*resource}",
            get(entries::read).put(entries::write).delete(entries::remove),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(app.clone(), auth::require_token))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(Extension(app))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is at {}", uri.path())).cure(
        "there are /health, /cache/stats, /cache/clear, /cache/invalidate and /cache/{cache_type}/{resource}",
    )
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{method} is not possible on {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
