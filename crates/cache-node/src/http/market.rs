//! Reads of the market, all through the cache.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use cache_api::market::Priced;
use cache_events::Version;
use cache_marketplace::ledger::{check_id, check_market, check_name};
use cache_marketplace::{
    AvailabilityStatus, Cursor, LedgerError, Market, MarketError, MarketStats, Marketplace, MicroUsd,
    OrderBook, Ranking, Search,
};
use cache_tiered::{Answer, ReadOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::App;
use super::entries::freshness;
use super::problem::Problem;
use super::query::Query;
use super::request;

pub(crate) type OnePath = Result<Path<String>, PathRejection>;

/// `GET /market/gpus/{gpu_id}`
pub(crate) async fn gpu(
    Extension(app): Extension<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let gpu_id = named(path)?;
    check_id("gpu_id", &gpu_id).map_err(in_address)?;
    let answer = reading(&app, &headers)?.gpu(&gpu_id).await.map_err(in_read)?;
    Ok(told(&app, &answer, || format!("there is no GPU {gpu_id:?}")))
}

/// `GET /market/availability?region=&gpu_type=`
pub(crate) async fn availability(
    Extension(app): Extension<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["region", "gpu_type"])?;
    let market = market(query.needed("gpu_type")?, &query)?;
    let answer = reading(&app, &headers)?.availability(&market).await.map_err(in_read)?;
    Ok(told(&app, &answer, || never_offered(&market)))
}

/// `GET /market/pricing/{gpu_type}?region=`
pub(crate) async fn pricing(
    Extension(app): Extension<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["region"])?;
    let market = market(named(path)?, &query)?;
    let answer = reading(&app, &headers)?.price(&market).await.map_err(in_read)?;
    Ok(told(&app, &answer, || format!("no {} is on offer in {}", market.gpu_type, market.region)))
}

/// `GET /market/history/{gpu_type}?region=`
pub(crate) async fn history(
    Extension(app): Extension<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["region"])?;
    let market = market(named(path)?, &query)?;
    let answer = reading(&app, &headers)?.history(&market).await.map_err(in_read)?;
    Ok(told(&app, &answer, || never_offered(&market)))
}

/// `GET /market/bookings/{booking_id}`
pub(crate) async fn booking(
    Extension(app): Extension<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let booking_id = named(path)?;
    check_id("booking_id", &booking_id).map_err(in_address)?;
    let answer = reading(&app, &headers)?.booking(&booking_id).await.map_err(in_read)?;
    Ok(told(&app, &answer, || no_booking(&booking_id)))
}

/// `GET /market/providers/{provider_id}`
pub(crate) async fn provider(
    Extension(app): Extension<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let provider_id = named(path)?;
    check_name("provider_id", &provider_id).map_err(in_address)?;
    let answer = reading(&app, &headers)?.provider(&provider_id).await.map_err(in_read)?;
    Ok(told(&app, &answer, || format!("there is no provider {provider_id:?}")))
}

/// `GET /market/stats?region=&gpu_type=`, both optional.
pub(crate) async fn stats(
    Extension(app): Extension<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["region", "gpu_type"])?;
    let (gpu_type, region) = (query.text("gpu_type"), query.text("region"));
    for (field, name) in [("gpu_type", &gpu_type), ("region", &region)] {
        if let Some(name) = name {
            check_name(field, name).map_err(in_address)?;
        }
    }
    let market = reading(&app, &headers)?;
    let mut answer = market.stats(gpu_type.as_deref(), region.as_deref()).await.map_err(in_read)?;
    if answer.value.is_none() && gpu_type.is_none() && region.is_none() {
        // An empty market has figures too.
        answer.value = Some(Arc::new(MarketStats {
            total_gpus: 0,
            available_gpus: 0,
            busy_gpus: 0,
            average_price_per_hour: MicroUsd::ZERO,
            total_bookings_24h: 0,
            total_volume_24h: MicroUsd::ZERO,
            utilization_rate: 0.0,
            last_updated: 0,
        }));
    }
    Ok(told(&app, &answer, || "nothing of that type was ever offered in that region".to_owned()))
}

/// `GET /market/search?…`
pub(crate) async fn search(
    Extension(app): Extension<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &SEARCH)?;
    let search = Search {
        gpu_type: query.text("gpu_type"),
        region: query.text("region"),
        provider_id: query.text("provider_id"),
        status: query.text("status").map(|text| word("status", &text, GPU_STATES)).transpose()?,
        min_memory_gb: query.number("min_memory_gb")?,
        min_cuda_cores: query.number("min_cuda_cores")?,
        min_performance_score: query.number("min_performance_score")?,
        max_price_per_hour: query.number("max_price_per_hour")?.map(MicroUsd),
        ranking: query
            .text("sort")
            .map(|text| word("sort", &text, "price or performance"))
            .transpose()?
            .unwrap_or(Ranking::Price),
        after: query.parsed::<Cursor>("cursor", "the next_cursor of a page")?,
        limit: query.number("limit")?.unwrap_or(Search::LIMIT),
    };
    search.check().map_err(in_address)?;
    let answer = reading(&app, &headers)?.search(&search).await.map_err(in_read)?;
    Ok(told(&app, &answer, || "nothing".to_owned()))
}

const SEARCH: [&str; 11] = [
    "gpu_type",
    "region",
    "provider_id",
    "status",
    "min_memory_gb",
    "min_cuda_cores",
    "min_performance_score",
    "max_price_per_hour",
    "sort",
    "cursor",
    "limit",
];

/// The states of a GPU, as they are spelled.
pub(crate) const GPU_STATES: &str = "available, busy, offline or maintenance";

/// An order book with its version, so that a reader can ask for what has changed since.
#[derive(Serialize)]
struct Book<T> {
    #[serde(flatten)]
    book: T,
    version: Version,
    /// The version to which `changes` are to be applied; only in a delta.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Version>,
}

/// `GET /market/order-book/{gpu_type}?region=`, with `depth=` only the cheapest levels, with `since=` what has changed
/// since that version if this node remembers it, else the whole.
pub(crate) async fn order_book(
    Extension(app): Extension<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["region", "depth", "since"])?;
    let market = market(named(path)?, &query)?;
    let since = query.number("since")?.map(Version);
    let depth: Option<usize> = query.number("depth")?;
    if let (Some(_), Some(_)) = (since, depth) {
        return Err(Problem::bad("depth", "deltas are of the whole book: ask for depth or since, not both"));
    }
    let answer = reading(&app, &headers)?.order_book(&market).await.map_err(in_read)?;
    let Some(book) = &answer.value else {
        return Ok(told(&app, &answer, || never_offered(&market)));
    };
    let version = answer.version;
    let delta = app.books().since(&market, since, (version, book));
    let body = match (delta, depth) {
        (Some(delta), _) => Json(Priced::new(Book { book: delta, version, since })).into_response(),
        (None, depth) => {
            let mut book = OrderBook::clone(book);
            book.levels.truncate(depth.unwrap_or(usize::MAX));
            Json(Priced::new(Book { book, version, since: None })).into_response()
        }
    };
    Ok(with_freshness(&app, body, &answer))
}

/// The marketplace, read as the request asks.
fn reading(app: &App, headers: &HeaderMap) -> Result<Marketplace, Problem> {
    let freshness = request::freshness(headers)?;
    Ok(app.market().reading(ReadOptions { freshness, ..ReadOptions::default() }))
}

/// An answer with its currency and what is known about its freshness; 404 if there is none.
fn told<V: Serialize>(app: &App, answer: &Answer<V>, absent: impl FnOnce() -> String) -> Response {
    let body = match &answer.value {
        Some(value) => Json(Priced::new(&**value)).into_response(),
        None => Problem::new(StatusCode::NOT_FOUND, absent()).into_response(),
    };
    with_freshness(app, body, answer)
}

fn with_freshness<V>(app: &App, mut response: Response, answer: &Answer<V>) -> Response {
    response.headers_mut().extend(freshness(answer, app.cache().clock().wall()));
    response
}

/// A word of an enum, as its JSON spells it.
pub(crate) fn word<T: DeserializeOwned>(field: &str, text: &str, words: &str) -> Result<T, Problem> {
    let read = T::deserialize(Value::from(text));
    read.map_err(|_| Problem::bad(field, format!("{field}: {text:?} is not one of {words}")))
}

/// The one name in the path.
pub(crate) fn named(path: OnePath) -> Result<String, Problem> {
    let Path(name) = path.map_err(|rejection| Problem::bad("path", rejection.body_text()))?;
    Ok(name)
}

/// The type of the path in the region of the query.
pub(crate) fn market(gpu_type: String, query: &Query) -> Result<Market, Problem> {
    let market = Market::new(gpu_type, query.needed("region")?);
    check_market(&market).map_err(in_address)?;
    Ok(market)
}

pub(crate) fn no_booking(booking_id: &str) -> String {
    format!("there is no booking {booking_id:?}")
}

fn never_offered(market: &Market) -> String {
    format!("no {} was ever offered in {}", market.gpu_type, market.region)
}

/// What is wrong with a path or a query.
pub(crate) fn in_address(error: LedgerError) -> Problem {
    refused(error, StatusCode::BAD_REQUEST)
}

fn in_read(error: MarketError) -> Problem {
    failed(error, StatusCode::BAD_REQUEST)
}

/// What went wrong; `invalid` is the status for a field that cannot be.
pub(crate) fn failed(error: MarketError, invalid: StatusCode) -> Problem {
    match error {
        MarketError::Name(error) => Problem::new(invalid, error.to_string()).field(error.what),
        MarketError::Read(error) => error.into(),
        MarketError::Unannounced(error) => error.into(),
        MarketError::Ledger(error) => refused(error, invalid),
        error => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn refused(error: LedgerError, invalid: StatusCode) -> Problem {
    let message = error.to_string();
    match error {
        LedgerError::Invalid { field, .. } => Problem::new(invalid, message).field(field),
        LedgerError::Unknown { .. } => Problem::new(StatusCode::NOT_FOUND, message),
        LedgerError::Unavailable(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .cure("whether the change happened is unknown; repeating it is safe")
            .retry_soon(),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message),
    }
}

/// The state of a GPU in a body.
pub(crate) fn gpu_state(field: &str, text: &str) -> Result<AvailabilityStatus, Problem> {
    word(field, text, GPU_STATES).map_err(Problem::in_body)
}
