//! The interface to the outside: a cache node for programs in any language.
//!
//! Every answer that is not a success is a problem document that says what is wrong ([`cache_api::ErrorBody`]). Each module
//! lists its routes beside their handlers; router, scopes of tokens and description are made from these lists.

mod access;
mod admin;
mod app;
mod dashboard;
mod doctor;
mod entries;
mod events;
mod figures;
mod guard;
mod history;
mod market;
mod market_changes;
mod observe;
mod openapi;
mod problem;
mod query;
mod request;
mod route;

use std::sync::Arc;

use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::{Extension, Router};

pub use app::App;
pub(crate) use observe::rfc3339;

pub(crate) use figures::ratio;
pub(crate) use problem::Problem;
pub(crate) use route::{Access, Route};

use guard::Guard;
use openapi::Description;

use crate::metrics;

/// All routes, with their descriptions.
fn routes() -> Vec<Route> {
    [
        observe::routes(),
        admin::routes(),
        entries::routes(),
        events::routes(),
        figures::routes(),
        history::routes(),
        doctor::routes(),
        metrics::routes(),
        market::routes(),
        market_changes::routes(),
        openapi::routes(),
        dashboard::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The router of all routes.
pub fn router(app: Arc<App>) -> Router {
    let routes = routes();
    let description = Description::of(&routes);
    let guard = Arc::new(Guard::new(app.clone(), &routes));
    let handled = routes.into_iter().filter_map(|route| Some((route.path, route.handler?)));
    handled
        .fold(Router::new(), |router, (path, handler)| router.route(path, handler))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(app.clone(), history::note))
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::requests::timed))
        .layer(Extension(description))
        .layer(Extension(app))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is at {}", uri.path()))
        .cure("what there is stands in /openapi.json")
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible on {}", uri.path()))
        .cure("what is possible stands in the header `allow` and in /openapi.json")
}
