//! What every request passes before its handler: who asks, and whether they may. And what no handler may do to the others:
//! one that panics answers 500.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::error;

use super::App;
use super::problem::Problem;
use super::route::{Access, Route};
use crate::config::TokenScope;

/// What the guard needs to know.
pub(crate) struct Guard {
    app: Arc<App>,
    access: HashMap<&'static str, Vec<(Method, Access)>>,
}

impl Guard {
    pub(crate) fn new(app: Arc<App>, routes: &[Route]) -> Self {
        let mut access = HashMap::<_, Vec<_>>::new();
        for route in routes {
            access.entry(route.path).or_default().push((route.method.clone(), route.access));
        }
        Self { app, access }
    }

    /// What a request needs. Where nothing is, and for methods that a path does not have, it is the right to read: who may
    /// not even do that does not learn what there is.
    fn needed(&self, request: &Request) -> Access {
        let path = request.extensions().get::<MatchedPath>();
        let routes = path.and_then(|path| self.access.get(path.as_str()));
        let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let found = routes.and_then(|routes| routes.iter().find(|(method, _)| method == asked));
        found.map_or(Access::Needs(TokenScope::Read), |(_, access)| *access)
    }
}

/// Lets a request through if it may pass.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if let Err(problem) = guard.app.tokens().admit(guard.needed(&request), request.headers()) {
        return problem.into_response();
    }
    DefaultBodyLimit::max(guard.app.live().body_bytes_max).apply(&mut request);
    let path = request.uri().path().to_owned();
    // The handlers hold no state of their own across an await that could be left half done; what they call is
    // cancellation safe, and a panic is a cancellation.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let why = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let why = why.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            error!(path, why, "a handler panicked");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed for a reason inside the node")
                .cure("look into the log of the node")
                .into_response()
        }
    }
}
