//! Who may do what: with tokens configured, every route but `/health` asks for one, and for its scope.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::App;
use super::problem::Problem;
use crate::config::{Token, TokenScope};

/// Lets a request through if it shows a token that is good for it, or if none is configured.
pub(crate) async fn require_token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let live = app.live();
    let tokens = &live.auth.tokens;
    if tokens.is_empty() || request.uri().path() == "/health" {
        return next.run(request).await;
    }
    let scope = scope_of(request.method(), request.uri().path());
    let shown = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    // Compares all bytes of all tokens whatever they are; only lengths can be learnt from the time it takes.
    let same =
        |token: &Token| shown.is_some_and(|shown| bool::from(shown.ct_eq(token.secret.expose().as_bytes())));
    let token = tokens.iter().fold(None, |found, token| if same(token) { Some(token) } else { found });
    if let Some(token) = token {
        if token.allows(scope) {
            return next.run(request).await;
        }
        let why = format!("the token {} has not the scope {}", token.name, scope.name());
        return Problem::new(StatusCode::FORBIDDEN, why).field("authorization").into_response();
    }
    let why = if shown.is_some() { "the bearer token is wrong" } else { "a bearer token is needed" };
    Problem::new(StatusCode::UNAUTHORIZED, why)
        .field("authorization")
        .cure("send `Authorization: Bearer <token>` with the token that the node was given")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        .into_response()
}

/// What a request needs.
fn scope_of(method: &Method, path: &str) -> TokenScope {
    match (method, path) {
        (&Method::GET | &Method::HEAD, _) => TokenScope::Read,
        (&Method::POST, "/cache/invalidate") => TokenScope::Invalidate,
        (&Method::DELETE, path) if path.starts_with("/cache/") => TokenScope::Invalidate,
        (&Method::PUT, path) if path.starts_with("/cache/") => TokenScope::Write,
        (_, path) if path.starts_with("/market/") => TokenScope::Write,
        _ => TokenScope::Admin,
    }
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
