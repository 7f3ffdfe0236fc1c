//! Reads of the market, all through the cache and all of one form: what is [`Asked`] for, read as fresh as it is asked for,
//! and told with its currency and what is known about its freshness.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use cache_api::market::Priced;
use cache_events::Version;
use cache_marketplace::ledger::{check_id, check_market, check_name};
use cache_marketplace::{
    Availability, AvailabilityStatus, BookDelta, BookingInfo, Cursor, GpuInfo, GpuPrice, LedgerError, Market,
    MarketError, MarketStats, Marketplace, MicroUsd, OrderBook, PriceHistory, ProviderStatus, Ranking,
    Search, SearchPage,
};
use cache_tiered::{Answer, ReadOptions};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::App;
use super::entries::freshness;
use super::problem::Problem;
use super::query::Query;
use super::request;
use super::route::{Access, Route};
use crate::config::TokenScope;

const GPU_TYPE: &str = "The model, such as H100_80GB_SXM5.";
const REGION: &str = "The region.";

/// The reads of the market.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get("/market/gpus/{*gpu_id}", read, "One GPU.", gpu)
            .at("gpu_id", "`<provider>/<model>/<n>`; its slashes may be escaped or not.")
            .answer::<Priced<GpuInfo>>(200, "The GPU."),
        Route::get(
            "/market/availability",
            read,
            "How many GPUs of a type are free in a region.",
            availability,
        )
        .query_needed::<String>("region", REGION)
        .query_needed::<String>("gpu_type", GPU_TYPE)
        .answer::<Priced<Availability>>(200, "The counts."),
        Route::get("/market/search", read, "GPUs that fulfil conditions, page by page.", search)
            .query::<String>("gpu_type", GPU_TYPE)
            .query::<String>("region", REGION)
            .query::<String>("provider_id", "Who offers it.")
            .query::<AvailabilityStatus>("status", "Its state.")
            .query::<u32>("min_memory_gb", "Memory in GB, at least.")
            .query::<u32>("min_cuda_cores", "CUDA cores, at least.")
            .query::<u32>("min_performance_score", "Performance, at least.")
            .query::<u64>("max_price_per_hour", "Current price per hour, at most.")
            .query::<String>("sort", "`price` (as if left out) or `performance`.")
            .query::<String>("cursor", "The next_cursor of the page before.")
            .query::<u64>("limit", "GPUs on a page, at most.")
            .answer::<Priced<SearchPage>>(200, "One page."),
        Route::get("/market/pricing/{gpu_type}", read, "What a type costs in a region.", pricing)
            .at("gpu_type", GPU_TYPE)
            .query_needed::<String>("region", REGION)
            .answer::<Priced<GpuPrice>>(200, "The price."),
        Route::get("/market/bookings/{booking_id}", read, "One booking.", booking)
            .at("booking_id", "As whoever booked chose it.")
            .answer::<Priced<BookingInfo>>(200, "The booking."),
        Route::get("/market/providers/{provider_id}", read, "One provider.", provider)
            .at("provider_id", "Its name.")
            .answer::<Priced<ProviderStatus>>(200, "The provider."),
        Route::get(
            "/market/order-book/{gpu_type}",
            read,
            "What is free at which price, cheapest first.",
            order_book,
        )
        .at("gpu_type", GPU_TYPE)
        .query_needed::<String>("region", REGION)
        .query::<u64>("depth", "Only so many of the cheapest levels.")
        .query::<u64>("since", "Only what has changed since this version, where the node still knows it.")
        .answer::<Priced<BookOrDelta>>(
            200,
            "The book with its version; with `since`, if it can be, a delta.",
        ),
        Route::get("/market/history/{gpu_type}", read, "What a type cost in a region.", history)
            .at("gpu_type", GPU_TYPE)
            .query_needed::<String>("region", REGION)
            .answer::<Priced<PriceHistory>>(200, "The prices."),
        Route::get("/market/stats", read, "Figures of the market, or of a part of it.", stats)
            .query::<String>("region", REGION)
            .query::<String>("gpu_type", GPU_TYPE)
            .answer::<Priced<MarketStats>>(200, "The figures."),
    ]
    .into_iter()
    .map(|route| route.cached().problem(404, "There is nothing of that name."))
    .collect()
}

pub(crate) type OnePath = Result<Path<String>, PathRejection>;

/// A read of the market.
struct Asked {
    app: Arc<App>,
    path: OnePath,
    query: Option<String>,
    market: Marketplace,
}

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = OnePath::from_request_parts(parts, app).await.unwrap_or_else(|never| match never {});
        let options =
            ReadOptions { freshness: request::freshness(&parts.headers)?, ..ReadOptions::default() };
        let market = app.market().reading(options);
        Ok(Self { app: app.clone(), path, query: parts.uri.query().map(str::to_owned), market })
    }
}

impl Asked {
    fn query(&self, known: &[&str]) -> Result<Query, Problem> {
        Query::parse(self.query.as_deref(), known)
    }

    /// The name in the path; there is nothing beside it.
    fn name(
        &mut self,
        field: &'static str,
        check: fn(&'static str, &str) -> Result<(), LedgerError>,
    ) -> Result<String, Problem> {
        self.query(&[])?;
        let name = self.in_path()?;
        check(field, &name).map_err(in_address)?;
        Ok(name)
    }

    /// The type in the path and the region in the query.
    fn market(&mut self) -> Result<Market, Problem> {
        let query = self.query(&["region"])?;
        market(self.in_path()?, &query)
    }

    fn in_path(&mut self) -> Result<String, Problem> {
        named(std::mem::replace(&mut self.path, Ok(Path(String::new()))))
    }

    /// An answer; 404 if there is none.
    fn told<V: Serialize>(
        &self,
        answer: Result<Answer<V>, MarketError>,
        absent: impl FnOnce() -> String,
    ) -> Result<Response, Problem> {
        let answer = answer.map_err(in_read)?;
        let body = match &answer.value {
            Some(value) => Json(Priced::new(&**value)).into_response(),
            None => Problem::new(StatusCode::NOT_FOUND, absent()).into_response(),
        };
        Ok(self.with_freshness(body, &answer))
    }

    fn with_freshness<V>(&self, mut response: Response, answer: &Answer<V>) -> Response {
        freshness(response.headers_mut(), answer, self.app.cache().clock().wall());
        response
    }
}

async fn gpu(mut asked: Asked) -> Result<Response, Problem> {
    let gpu_id = asked.name("gpu_id", check_id)?;
    asked.told(asked.market.gpu(&gpu_id).await, || format!("there is no GPU {gpu_id:?}"))
}

async fn booking(mut asked: Asked) -> Result<Response, Problem> {
    let booking_id = asked.name("booking_id", check_id)?;
    asked.told(asked.market.booking(&booking_id).await, || no_booking(&booking_id))
}

async fn provider(mut asked: Asked) -> Result<Response, Problem> {
    let provider_id = asked.name("provider_id", check_name)?;
    asked.told(asked.market.provider(&provider_id).await, || format!("there is no provider {provider_id:?}"))
}

async fn availability(asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&["region", "gpu_type"])?;
    let market = market(query.needed("gpu_type")?, &query)?;
    asked.told(asked.market.availability(&market).await, || never_offered(&market))
}

async fn pricing(mut asked: Asked) -> Result<Response, Problem> {
    let market = asked.market()?;
    let absent = || format!("no {} is on offer in {}", market.gpu_type, market.region);
    asked.told(asked.market.price(&market).await, absent)
}

async fn history(mut asked: Asked) -> Result<Response, Problem> {
    let market = asked.market()?;
    asked.told(asked.market.history(&market).await, || never_offered(&market))
}

async fn stats(asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&["region", "gpu_type"])?;
    let (gpu_type, region) = (query.text("gpu_type"), query.text("region"));
    for (field, name) in [("gpu_type", &gpu_type), ("region", &region)] {
        if let Some(name) = name {
            check_name(field, name).map_err(in_address)?;
        }
    }
    let mut answer = asked.market.stats(gpu_type.as_deref(), region.as_deref()).await;
    if let Ok(Answer { value: value @ None, .. }) = &mut answer
        && gpu_type.is_none()
        && region.is_none()
    {
        // An empty market has figures too.
        *value = Some(Arc::new(MarketStats {
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
    asked.told(answer, || "nothing of that type was ever offered in that region".to_owned())
}

async fn search(asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&SEARCH)?;
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
    asked.told(asked.market.search(&search).await, || "nothing".to_owned())
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

/// What a reader of an order book gets, for the description.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum BookOrDelta {
    Book(Book<OrderBook>),
    Delta(Book<BookDelta>),
}

/// An order book with its version, so that a reader can ask for what has changed since.
#[derive(Serialize, JsonSchema)]
struct Book<T> {
    #[serde(flatten)]
    book: T,
    #[schemars(with = "u64")]
    version: Version,
    /// The version to which `changes` are to be applied; only in a delta.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    since: Option<Version>,
}

async fn order_book(mut asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&["region", "depth", "since"])?;
    let market = market(asked.in_path()?, &query)?;
    let since = query.number("since")?.map(Version);
    let depth: Option<usize> = query.number("depth")?;
    if let (Some(_), Some(_)) = (since, depth) {
        return Err(Problem::bad("depth", "deltas are of the whole book: ask for depth or since, not both"));
    }
    let answer = asked.market.order_book(&market).await;
    let (book, version) = match &answer {
        Ok(Answer { value: Some(book), version, .. }) => (book.clone(), *version),
        _ => return asked.told(answer, || never_offered(&market)),
    };
    let body = match (asked.app.books().since(&market, since, (version, &book)), depth) {
        (Some(delta), _) => Json(Priced::new(Book { book: delta, version, since })).into_response(),
        (None, depth) => {
            let mut book = OrderBook::clone(&book);
            book.levels.truncate(depth.unwrap_or(usize::MAX));
            Json(Priced::new(Book { book, version, since: None })).into_response()
        }
    };
    Ok(asked.with_freshness(body, &answer.map_err(in_read)?))
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
