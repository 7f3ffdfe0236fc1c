//! One cached value: read, write, remove.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use cache_api::headers;
use cache_events::{Key, Scope, Version};
use cache_tiered::{Answer, Freshness, JsonCache, ReadOptions, WriteOptions, Written};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::logs::Touched;
use super::problem::Problem;
use super::route::{Access, Route};
use super::{App, observe::moment, request};
use crate::config::TokenScope;

type Place = Result<Path<(String, String)>, PathRejection>;

/// One cached value.
pub(crate) fn routes() -> Vec<Route> {
    // The rest of the path, so that a resource may hold slashes, escaped or not.
    const PATH: &str = "/cache/{cache_type}/{*resource}";
    let needs = Access::Needs;
    vec![
        Route::get(PATH, needs(TokenScope::Read), "Reads. Query parameters are parameters of the key.", read)
            .at_once(read_at_once)
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

/// `GET /cache/{cache_type}/{resource}?name=value…`: where L1 has it, which is most often.
fn read_at_once(app: &App, request: &Request) -> Option<Response> {
    let (cache_type, resource) = request.uri().path().strip_prefix("/cache/")?.split_once('/')?;
    let part = |text| percent_decode_str(text).decode_utf8().ok();
    // Where this goes wrong, the handler says how.
    let wanted = Wanted::by(app, &part(cache_type)?, &part(resource)?, request.uri(), request.headers());
    let Wanted { json, key, options } = wanted.ok()?;
    let answer = json.text_in_l1(&key, &options).ok()??;
    Some(answered(app, &key, answer))
}

/// `GET /cache/{cache_type}/{resource}?name=value…`: where L1 has been asked; of `HEAD`, where it has not.
async fn read(State(app): State<Arc<App>>, place: Place, request: Request) -> Result<Response, Problem> {
    // The head is read where it lies: whoever extracts headers or a query has a copy of them.
    let (head, _) = request.into_parts();
    let (cache_type, resource) = checked(place)?;
    let Wanted { json, key, options } = Wanted::by(&app, &cache_type, &resource, &head.uri, &head.headers)?;
    let found = match head.method {
        Method::GET => json.text_in_l2(&key, &options).await?,
        _ => json.get_text(&key, &options).await?,
    };
    let Some(answer) = found else {
        return Err(missing(
            match options.freshness {
                Freshness::Bounded | Freshness::Any => "nothing is cached under this key",
                _ => "nothing that is known to be as fresh as asked for is cached under this key",
            },
            &key,
        ));
    };
    Ok(answered(&app, &key, answer))
}

/// What a read asks for.
struct Wanted {
    json: JsonCache,
    key: Key,
    options: ReadOptions,
}

impl Wanted {
    fn by(
        app: &App,
        cache_type: &str,
        resource: &str,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let namespace = &app.cache_type(cache_type)?.settings.namespace;
        let key = request::key(namespace, resource, uri.query())?;
        let options = ReadOptions {
            freshness: request::freshness(headers)?,
            ttl: request::ttl(headers)?,
            ..ReadOptions::default()
        };
        Ok(Self { json: app.json(namespace)?, key, options })
    }
}

fn missing(why: &str, key: &Key) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("{why}: {key}"))
}

fn answered(app: &App, key: &Key, mut answer: Answer<Vec<u8>>) -> Response {
    let mut response = match answer.value.take().map(Arc::unwrap_or_clone) {
        Some(text) => {
            let mut response = Response::new(Body::from(text));
            // Room for what is told here and on the way out, so that the table is made once.
            *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        None => missing("it is known that there is none", key).into_response(),
    };
    freshness(response.headers_mut(), &answer, app.cache().clock().wall());
    response
}

/// Headers of an answer: of its kind, its length, its freshness, its time and its request.
const HEADERS: usize = 12;

/// `PUT /cache/{cache_type}/{resource}?name=value…`
async fn write(
    State(app): State<Arc<App>>,
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
async fn remove(State(app): State<Arc<App>>, place: Place) -> Result<Response, Problem> {
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
    let mut told = Told(BytesMut::with_capacity(TOLD_BYTES));
    told.tell(headers, &AGE, answer.age().as_secs());
    // A lag that long means that nothing is known.
    if answer.lag() < LAG_TOLD_MAX
        && let Ok(lag) = u64::try_from(answer.lag().as_millis())
    {
        told.tell(headers, &LAG_MS, lag);
        if let Some(as_of) = moment(wall.saturating_sub(lag)) {
            told.tell(headers, &AS_OF, as_of);
        }
    }
    if answer.version != Version::NONE {
        told.tell(headers, &VERSION, answer.version.0);
    }
    told.tell(headers, &POSITION, answer.position);
    if answer.stale {
        headers.insert(&STALE, HeaderValue::from_static("true"));
    }
}

/// Texts of headers, one behind the other, so that they take one piece of memory.
struct Told(BytesMut);

/// Room for all that is told about freshness.
const TOLD_BYTES: usize = 128;

impl Told {
    /// Adds a header whose value is made of digits and signs.
    fn tell(&mut self, headers: &mut HeaderMap, name: &'static HeaderName, value: impl Display) {
        if write!(self.0, "{value}").is_ok()
            && let Ok(value) = HeaderValue::from_maybe_shared(self.0.split().freeze())
        {
            headers.insert(name, value);
        }
    }
}

static AGE: HeaderName = header::AGE;
static TIER: HeaderName = HeaderName::from_static(headers::CACHE_TIER);
static LAG_MS: HeaderName = HeaderName::from_static(headers::CACHE_LAG_MS);
static AS_OF: HeaderName = HeaderName::from_static(headers::CACHE_AS_OF);
static VERSION: HeaderName = HeaderName::from_static(headers::CACHE_VERSION);
static POSITION: HeaderName = HeaderName::from_static(headers::CACHE_POSITION);
static STALE: HeaderName = HeaderName::from_static(headers::CACHE_STALE);

const LAG_TOLD_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
