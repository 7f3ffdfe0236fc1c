//! What concerns more than one value: clear, invalidate.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use cache_api::{ClearRequest, InvalidateRequest, Target, Written};
use cache_events::{EventKind, Scope};
use cache_tiered::EventDraft;
use tracing::info;

use super::App;
use super::entries::{received, touching};
use super::problem::Problem;
use super::route::{Access, Route};
use crate::config::TokenScope;

/// What concerns more than one value.
pub(crate) fn routes() -> Vec<Route> {
    let needs = Access::Needs;
    vec![
        Route::post(
            "/cache/clear",
            needs(TokenScope::Admin),
            "Invalidates everything, or one cache type.",
            clear,
        )
        .may_take::<ClearRequest>("Left out: everything.")
        .answer::<Written>(200, "It is done, and the other nodes are being told."),
        Route::post(
            "/cache/invalidate",
            needs(TokenScope::Invalidate),
            "Invalidates a resource, a tag or a pattern, on all nodes.",
            invalidate,
        )
        .takes::<InvalidateRequest>("What has become untrue, and why.")
        .answer::<Written>(200, "It is done, and the other nodes are being told."),
    ]
    .into_iter()
    .map(|route| route.writes().problem(404, "There is no such cache type."))
    .collect()
}

/// `POST /cache/clear`: everything, or one cache type.
async fn clear(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let request = ClearRequest::parse(&received(body)?)?;
    let scope = match &request.cache_type {
        Some(name) => Scope::Namespace(app.cache_type(name)?.settings.namespace.clone()),
        None => Scope::All,
    };
    let reason = request.reason.unwrap_or_else(|| "cleared over HTTP".to_owned());
    publish(&app, vec![scope], reason).await
}

/// `POST /cache/invalidate`: a resource, a tag or a pattern.
async fn invalidate(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let request = InvalidateRequest::parse(&received(body)?)?;
    let namespace = |name: &str| app.cache_type(name).map(|plan| plan.settings.namespace.clone());
    let scopes = match request.target {
        Target::Resource { cache_type, resource } => {
            vec![Scope::Resource { namespace: namespace(&cache_type)?, resource }]
        }
        Target::Tag { cache_type, tag } => {
            cache_type.as_deref().map(namespace).transpose()?;
            vec![Scope::Tag(tag)]
        }
        Target::Pattern { cache_type: Some(name), pattern } => {
            vec![Scope::Pattern { namespace: namespace(&name)?, pattern }]
        }
        Target::Pattern { cache_type: None, pattern } => {
            let all = app.cache().namespaces().cloned();
            all.map(|namespace| Scope::Pattern { namespace, pattern: pattern.clone() }).collect()
        }
    };
    let reason = request.reason.unwrap_or_else(|| "invalidated over HTTP".to_owned());
    publish(&app, scopes, reason).await
}

async fn publish(app: &App, scopes: Vec<Scope>, reason: String) -> Result<Response, Problem> {
    let told_each: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    let told = told_each.join(", ");
    let draft = EventDraft::new(EventKind::MANUAL_INVALIDATION, told.clone()).reason(reason.clone());
    let written = app.cache().publish(scopes.into_iter().fold(draft, EventDraft::touching)).await;
    if written.is_ok() {
        info!(scopes = told, reason, "invalidated on request");
    }
    Ok(touching(written, told_each, reason))
}
