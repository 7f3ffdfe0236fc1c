//! What every request passes before its handler: who asks and whether they may, how many are under way, how long it may
//! take; and after it: the audit log, the access log. A handler that panics answers 500.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::error;

use super::App;
use super::logs::{Asked, Touched};
use super::problem::Problem;
use super::route::{Access, Route};
use super::server::Peer;
use crate::config::{HttpLimits, TokenScope};
use crate::metrics;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What the guard needs to know.
pub(crate) struct Guard {
    app: Arc<App>,
    access: HashMap<&'static str, Vec<(Method, Access)>>,
    under_way: AtomicUsize,
}

impl Guard {
    pub(crate) fn new(app: Arc<App>, routes: &[Route]) -> Self {
        let mut access = HashMap::<_, Vec<_>>::new();
        for route in routes {
            access.entry(route.path).or_default().push((route.method.clone(), route.access));
        }
        Self { app, access, under_way: AtomicUsize::new(0) }
    }

    /// Lets a request through if it may pass, and writes down what the configuration wants to be written down.
    pub(crate) async fn pass<F>(&self, mut request: Request, next: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let app = &self.app;
        let gate = app.gate();
        let limits = &gate.live().http;
        let access = self.needed(&request, limits);
        // Only a program that asks its own router without a connection has none.
        let peer =
            request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0.ip());
        let address = gate.address(peer, request.headers());
        let id = request_id(request.headers());
        let logs = app.logs();
        let asked = logs.wants(access).then(|| Asked::of(&request, address, &id));
        let clock = app.cache().clock();
        let began = clock.now();
        let (token, admitted) = gate.admit(access, address, request.headers(), began);
        let mut response = match admitted {
            Ok(()) => {
                DefaultBodyLimit::max(gate.live().body_bytes_max).apply(&mut request);
                self.handled(access, async { next(request).await }, &id, limits).await
            }
            Err(problem) => problem.into_response(),
        };
        if let Some(asked) = asked {
            let touched = response.extensions_mut().remove::<Touched>().unwrap_or_default();
            let took_ms = clock.now().saturating_sub(began);
            logs.write(access, asked.answered(clock.wall(), token, touched, response.status(), took_ms))
                .await;
        }
        response.headers_mut().insert(&REQUEST_ID, id);
        response
    }

    /// What a request needs. Where nothing is, and for methods that a path does not have, it is the right to read: who may
    /// not even do that does not learn what there is.
    fn needed(&self, request: &Request, limits: &HttpLimits) -> Access {
        let path = request.extensions().get::<MatchedPath>();
        if limits.metrics_public && path.is_some_and(|path| path.as_str() == metrics::PATH) {
            return Access::Anybody;
        }
        let routes = path.and_then(|path| self.access.get(path.as_str()));
        let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let found = routes.and_then(|routes| routes.iter().find(|(method, _)| method == asked));
        found.map_or(Access::Needs(TokenScope::Read), |(_, access)| *access)
    }

    /// Lets the handler do it, within bounds.
    async fn handled(
        &self,
        access: Access,
        handler: impl Future<Output = Response>,
        id: &HeaderValue,
        limits: &HttpLimits,
    ) -> Response {
        let (limit, max) = (limits.request_timeout, limits.requests_max);
        // Whoever asks how the node is must learn it when there is most to do.
        let _place = match access {
            Access::Public => None,
            Access::Anybody | Access::Needs(_) => match Place::take(&self.under_way, max) {
                Some(place) => Some(place),
                None => {
                    let why = format!("{max} requests are under way already");
                    return Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_soon().into_response();
                }
            },
        };
        // What handlers call survives being dropped halfway, as at any client that goes away; a panic is no worse.
        let handled = AssertUnwindSafe(handler).catch_unwind();
        match tokio::time::timeout(limit, handled).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => {
                let why = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let why = why.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                self.app.requests().panicked();
                error!(why, request_id = id.to_str().unwrap_or_default(), "a handler panicked");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the request failed for a reason inside the node",
                )
                .cure("look into the log of the node")
                .into_response()
            }
            Err(_) => {
                let why = format!("the request did not arrive, or was not answered, within {limit:?}");
                Problem::new(StatusCode::REQUEST_TIMEOUT, why)
                    .cure("send the body at once; whether a write happened is unknown, repeating it is safe")
                    .into_response()
            }
        }
    }
}

/// One of the requests that may be under way.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(under_way: &'a AtomicUsize, max: usize) -> Option<Self> {
        let place = Self(under_way);
        // Counted first, so that no two see the same last place; given back on drop.
        (under_way.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The name by which the caller knows the request, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(&REQUEST_ID).filter(|id| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let random = fastrand::u64(..);
        let digits: [u8; 16] = std::array::from_fn(|n| DIGITS[(random >> (4 * n)) as usize & 15]);
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| unreachable!("digits are plain ASCII"))
    })
}
