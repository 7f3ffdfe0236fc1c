//! What every request passes before its handler: who asks and whether they may, how many are under way, how long it may
//! take; and after it: the audit log, the access log. A handler that panics answers 500.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower_service::Service;
use tracing::error;

use super::App;
use super::history::Change;
use super::logs::{Asked, Touched};
use super::problem::Problem;
use super::route::Access;
use super::table::{self, Known};
use crate::config::HttpLimits;
use crate::metrics;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What the guard needs to know.
pub(crate) struct Guard {
    app: Arc<App>,
    under_way: AtomicUsize,
}

impl Guard {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app, under_way: AtomicUsize::new(0) }
    }

    /// Lets the router answer a request that may pass, and writes down what the configuration wants to be written down.
    pub(crate) async fn pass(
        &self,
        mut request: Request,
        known: Option<&Known>,
        peer: IpAddr,
        router: &Router,
    ) -> Response {
        let app = &self.app;
        let gate = app.gate();
        let limits = &gate.live().http;
        let route = known.map(|known| known.path);
        let access = match known {
            Some(known) if limits.metrics_public && known.path == metrics::PATH => Access::Anybody,
            known => known.and_then(|known| known.access(request.method())).unwrap_or(table::OF_NOTHING),
        };
        let address = gate.address(peer, request.headers());
        let id = request_id(request.headers());
        let logs = app.logs();
        let asked = logs.wants(access).then(|| Asked::of(&request, route, address, &id));
        let clock = app.cache().clock();
        let began = clock.now();
        let (token, admitted) = gate.admit(access, address, request.headers(), began);
        let mut response = match admitted {
            Ok(()) => {
                let change = Change::by(app, request.method(), route);
                if !request.body().is_end_stream() {
                    DefaultBodyLimit::max(gate.live().body_bytes_max).apply(&mut request);
                }
                let response = self.handled(access, request, known, router, &id, limits).await;
                if let Some(change) = change {
                    change.answered(app, response.status());
                }
                response
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

    /// Lets the handler do it, within bounds.
    async fn handled(
        &self,
        access: Access,
        request: Request,
        known: Option<&Known>,
        router: &Router,
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
        let handled = AssertUnwindSafe(async {
            match known.and_then(|known| known.at_once(&self.app, &request)) {
                Some(response) => Ok(response),
                None => router.clone().call(request).await,
            }
        })
        .catch_unwind();
        let mut handled = pin!(handled);
        // Most answers are there at once and need no timer.
        let answered = match poll_fn(|context| Poll::Ready(handled.as_mut().poll(context))).await {
            Poll::Ready(answered) => Ok(answered),
            Poll::Pending => tokio::time::timeout(limit, handled).await,
        };
        match answered {
            Ok(Ok(answered)) => answered.unwrap_or_else(|never| match never {}),
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
