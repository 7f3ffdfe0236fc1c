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
mod explain;
mod figures;
mod gate;
mod guard;
mod head_time;
mod history;
mod limits;
mod line_log;
mod logs;
mod market;
mod market_changes;
mod observe;
mod openapi;
pub(crate) mod pem;
mod problem;
mod query;
mod request;
mod route;
mod server;
mod table;
mod tls;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error};

pub use app::App;
pub(crate) use observe::rfc3339;

pub(crate) use figures::ratio;
pub(crate) use problem::Problem;
pub(crate) use route::{Access, Route};

pub(crate) use tls::Certificate;

use guard::Guard;
use openapi::Description;
use server::Bounds;
use table::Table;

use crate::metrics;
use crate::metrics::requests::{Group, stopwatch};
use crate::telemetry::otlp;

/// All routes, with their descriptions.
fn routes() -> Vec<Route> {
    [
        observe::routes(),
        admin::routes(),
        entries::routes(),
        events::routes(),
        explain::routes(),
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

/// The interface, as connections ask it.
pub(crate) struct Interface {
    app: Arc<App>,
    table: Table,
    guard: Guard,
    router: Router,
}

impl Interface {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let routes = routes();
        let table = Table::of(&routes).unwrap_or_else(|error| unreachable!("routes are constant: {error}"));
        let description = Description::of(&routes);
        let guard = Guard::new(app.clone());
        let handled = routes.into_iter().filter_map(|route| Some((route.path, route.handler?)));
        let router = handled
            .fold(Router::new(), |router, (path, handler)| match path {
                openapi::PATH => router.route(path, handler.layer(Extension(description.clone()))),
                _ => router.route(path, handler),
            })
            .fallback(no_route)
            .method_not_allowed_fallback(no_method)
            .with_state(app.clone());
        Self { app, table, guard, router }
    }

    /// Answers a request from an address. What every request passes stands here and not in layers of the router, which are
    /// copied and boxed for each of them.
    pub(crate) async fn answer(&self, request: Request, peer: IpAddr) -> Response {
        let began = stopwatch();
        let path = request.uri().path();
        let known = self.table.find(path);
        let group = known.map_or_else(|| Group::of(path), |known| known.group);
        let pass = |request| self.guard.pass(request, known, peer, &self.router);
        let response = match otlp::span(&self.app, &request, known.map(|known| known.path)) {
            None => pass(request).await,
            Some(span) => {
                // Boxed, so that the future of a request that nobody traces is small.
                let response = Box::pin(pass(request).instrument(span.clone())).await;
                otlp::answered(&span, response.status());
                response
            }
        };
        self.app.requests().answered(group, response.status().as_u16(), began.elapsed());
        response
    }
}

/// Answers requests until `shutdown` is cancelled. Then the node says that it is not ready, goes on for the delay that the
/// configuration wants, finishes the requests under way, ends its streams, and writes down what is left to be.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, shutdown: CancellationToken) {
    let config = &app.config().http;
    let bounds = Bounds {
        connections_max: config.connections_max,
        head_timeout: config.header_timeout,
        drain_limit: config.drain_limit,
    };
    let draining = async {
        shutdown.cancelled().await;
        app.stopping();
        tokio::time::sleep(config.drain_delay).await;
        app.closing().cancel();
    };
    let serving = server::serve(
        listener,
        Interface::new(app.clone()),
        app.tls().cloned(),
        bounds,
        app.closing().clone(),
    );
    tokio::join!(draining, serving);
    app.logs().close().await;
}

/// Takes over, each time the configuration is read, what files hold that it names: certificates, logs.
pub(crate) async fn renew(app: Arc<App>, shutdown: CancellationToken) {
    let mut readings = app.config().live.subscribe();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = readings.changed() => if changed.is_err() { return },
        }
        if let (Some(tls), Some(files)) = (app.tls(), &app.config().http.tls)
            && let Err(error) = tls.renew(files)
        {
            error!("the certificates stay as they were: {error:#}");
        }
        if let Err(error) = app.renew_logs().await {
            error!("the logs of requests stay as they were: {error:#}");
        }
    }
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is at {}", uri.path()))
        .cure("what there is stands in /openapi.json")
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible on {}", uri.path()))
        .cure("what is possible stands in the header `allow` and in /openapi.json")
}
