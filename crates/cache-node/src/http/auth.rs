//! Who may do what: with a token configured, every route but `/health` asks for it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::App;
use super::problem::Problem;

/// Lets a request through if it shows the token, or if none is configured.
pub(crate) async fn require_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(token) = &app.config().http.token else { return next.run(request).await };
    if request.uri().path() == "/health" {
        return next.run(request).await;
    }
    let shown = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    // Compares all bytes whatever they are; only the length can be learnt from the time it takes.
    if shown.is_some_and(|shown| bool::from(shown.ct_eq(token.expose().as_bytes()))) {
        return next.run(request).await;
    }
    let why = if shown.is_some() { "the bearer token is wrong" } else { "a bearer token is needed" };
    Problem::new(StatusCode::UNAUTHORIZED, why)
        .field("authorization")
        .cure("send `Authorization: Bearer <token>` with the token that the node was given")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        .into_response()
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
