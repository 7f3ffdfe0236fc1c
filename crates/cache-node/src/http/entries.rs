//! One cached value: read, write, remove.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use cache_api::headers;
use cache_events::{Scope, Version};
use cache_tiered::{Answer, Freshness, ReadOptions, WriteOptions, Written};
use serde_json::Value;

use super::logs::Touched;
use super::problem::Problem;
use super::route::{Access, Route};
use super::{App, observe::rfc3339, request};
use crate::config::TokenScope;

type Place = Result<Path<(String, String)>, PathRejection>;

/// One cached value.
pub(crate) fn routes() -> Vec<Route> {
    // The rest of the path, so that a resource may hold slashes, escaped or not.
    const PATH: &str = "/cache/{cache_type}/{*resource}";
    let needs = Access::Needs;
    vec![
        Route::get(PATH, needs(TokenScope::Read), "Reads. Query parameters are parameters of the key.", read)
            .header(headers::CACHE_TTL, TTL)
            .answer::<Value>(200, "The value.")
            .cached()
            .problem(
                404,
                "Nothing is cached, or it is known that there is none, or there is no such cache type.",
            ),
        Route::put(
            PATH,
            needs(TokenScope::Write),
            "Writes. Query parameters are parameters of the key.",
            write,
        )
        .header(headers::CACHE_TTL, TTL)
        .header(headers::CACHE_TAGS, "Labels by which it can be invalidated, with commas between them.")
        .takes::<Value>("The value.")
        .answer::<cache_api::Written>(200, "It is written, and the other nodes are being told.")
        .writes()
        .problem(404, "There is no such cache type.")
        .problem(507, "Redis is out of memory."),
        Route::delete(
            PATH,
            needs(TokenScope::Invalidate),
            "Invalidates the resource with all its parameters, on all nodes.",
            remove,
        )
        .answer::<cache_api::Written>(200, "It is done, and the other nodes are being told.")
        .writes()
        .problem(404, "There is no such cache type."),
    ]
    .into_iter()
    .map(|route| {
        route
            .at("cache_type", "The cache type, or its namespace.")
            .at("resource", "The resource; its slashes may be escaped or not.")
    })
    .collect()
}

const TTL: &str = "Another lifetime for this value, with its unit: 30s.";

/// `GET /cache/{cache_type}/{resource}?name=value…`
async fn read(
    Extension(app): Extension<Arc<App>>,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    // The head is read where it lies: whoever extracts headers or a query has a copy of them.
    let (head, _) = request.into_parts();
    let (cache_type, resource) = checked(place)?;
    let plan = app.cache_type(&cache_type)?;
    let key = request::key(&plan.settings.namespace, &resource, head.uri.query())?;
    let options = ReadOptions {
        freshness: request::freshness(&head.headers)?,
        ttl: request::ttl(&head.headers)?,
        ..ReadOptions::default()
    };
    let miss = |why: &str| Problem::new(StatusCode::NOT_FOUND, format!("{why}: {key}"));
    let Some(mut answer) = app.json(&plan.settings.namespace)?.get_text(&key, &options).await? else {
        return Err(miss(match options.freshness {
            Freshness::Bounded | Freshness::Any => "nothing is cached under this key",
            _ => "nothing that is known to be as fresh as asked for is cached under this key",
        }));
    };
    let mut response = match answer.value.take().map(Arc::unwrap_or_clone) {
        Some(text) => {
            let mut response = Response::new(Body::from(text));
            // Room for what is told here and on the way out, so that the table is made once.
            *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        None => miss("it is known that there is none").into_response(),
    };
    freshness(response.headers_mut(), &answer, app.cache().clock().wall());
    Ok(response)
}

/// Headers of an answer: of its kind, its length, its freshness, its time and its request.
const HEADERS: usize = 12;

/// `PUT /cache/{cache_type}/{resource}?name=value…`
async fn write(
    Extension(app): Extension<Arc<App>>,
    place: Place,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (cache_type, resource) = checked(place)?;
    let plan = app.cache_type(&cache_type)?;
    let key = request::key(&plan.settings.namespace, &resource, query.as_deref())?;
    let options = WriteOptions {
        ttl: request::ttl(&headers)?,
        tags: request::tags(&headers)?,
        ..WriteOptions::default()
    };
    let body = received(body)?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad("body", format!("the body is not JSON: {error}")))?;
    let written = app.json(&plan.settings.namespace)?.put(&key, value, &options).await?;
    Ok(acknowledged(written))
}

/// `DELETE /cache/{cache_type}/{resource}`: the resource with all its parameters.
async fn remove(Extension(app): Extension<Arc<App>>, place: Place) -> Result<Response, Problem> {
    let (cache_type, resource) = checked(place)?;
    let namespace = app.cache_type(&cache_type)?.settings.namespace.clone();
    // For its checks of what a resource may be.
    request::key(&namespace, &resource, None)?;
    const WHY: &str = "DELETE over HTTP";
    let scope = Scope::Resource { namespace, resource };
    let told = vec![scope.to_string()];
    let written = app.cache().invalidate(scope, WHY).await;
    Ok(touching(written, told, WHY.to_owned()))
}

/// The answer to a write.
pub(crate) fn acknowledged(written: Written) -> Response {
    let token = written.token;
    // A token over more partitions than a header can carry stands in the body alone.
    let header = token.fits().then(|| HeaderValue::try_from(token.to_string()).ok()).flatten();
    let mut response = Json(cache_api::Written { token }).into_response();
    if let Some(header) = header {
        response.headers_mut().insert(HeaderName::from_static(headers::CACHE_TOKEN), header);
    }
    response
}

/// The answer to an invalidation, with what the audit log says about it: also where it failed, since somebody wanted it, and
/// it may have happened.
pub(crate) fn touching(
    written: Result<Written, impl Into<Problem>>,
    scopes: Vec<String>,
    reason: String,
) -> Response {
    let mut response = written.map_or_else(|error| error.into().into_response(), acknowledged);
    response.extensions_mut().insert(Touched { scopes, reason: Some(reason) });
    response
}

/// The body, if it arrived whole and was not too long.
pub(crate) fn received(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| {
        let problem = Problem::new(rejection.status(), rejection.body_text()).field("body");
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => problem.cure("send less, or raise cache.body_bytes_max"),
            _ => problem,
        }
    })
}

pub(crate) fn checked(place: Place) -> Result<(String, String), Problem> {
    let Path(place) = place.map_err(|rejection| Problem::bad("path", rejection.body_text()))?;
    Ok(place)
}

/// Tells what is known about the freshness of an answer; `wall`: the time of the answer, in Unix milliseconds.
pub(crate) fn freshness<V>(headers: &mut HeaderMap, answer: &Answer<V>, wall: u64) {
    headers.insert(&TIER, HeaderValue::from_static(answer.tier.as_str()));
    headers.insert(header::AGE, HeaderValue::from(answer.age().as_secs()));
    // A lag that long means that nothing is known.
    if answer.lag() < LAG_TOLD_MAX
        && let Ok(lag) = u64::try_from(answer.lag().as_millis())
    {
        headers.insert(&LAG_MS, HeaderValue::from(lag));
        told(headers, &AS_OF, rfc3339(wall.saturating_sub(lag)));
    }
    if answer.version != Version::NONE {
        headers.insert(&VERSION, HeaderValue::from(answer.version.0));
    }
    told(headers, &POSITION, Some(answer.position.to_string()));
    if answer.stale {
        headers.insert(&STALE, HeaderValue::from_static("true"));
    }
}

/// Adds a header whose value is made of digits and signs, if there is one.
fn told(headers: &mut HeaderMap, name: &'static HeaderName, value: Option<String>) {
    if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
        headers.insert(name, value);
    }
}

static TIER: HeaderName = HeaderName::from_static(headers::CACHE_TIER);
static LAG_MS: HeaderName = HeaderName::from_static(headers::CACHE_LAG_MS);
static AS_OF: HeaderName = HeaderName::from_static(headers::CACHE_AS_OF);
static VERSION: HeaderName = HeaderName::from_static(headers::CACHE_VERSION);
static POSITION: HeaderName = HeaderName::from_static(headers::CACHE_POSITION);
static STALE: HeaderName = HeaderName::from_static(headers::CACHE_STALE);

const LAG_TOLD_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
