//! Changes of the market: committed in the ledger, announced to all nodes, then answered.
//!
//! 200, or 201 for a new booking; 202 if the change is made but its announcement is still to come.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{OriginalUri, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cache_api::market::{BookingBody, CURRENCY, Changed, GpuBody, PriceBody, StatusBody};
use cache_events::WriteToken;
use cache_marketplace::ledger::{check_id, check_name};
use cache_marketplace::{
    BookOutcome, BookingInfo, BookingRequest, CancelOutcome, GpuInfo, GpuPrice, GpuRegistration, Hardware,
    Made, MarketError, MicroUsd, ProviderState, ProviderStatus,
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

use super::App;
use super::entries::received;
use super::market::{OnePath, failed, gpu_state, in_address, market, named, no_booking, word};
use super::problem::Problem;
use super::query::Query;
use super::route::{Access, Route};
use crate::config::TokenScope;

type Body = Result<Bytes, BytesRejection>;

/// The changes of the market.
pub(crate) fn routes() -> Vec<Route> {
    let write = Access::Needs(TokenScope::Write);
    let gpu_id = "`<provider>/<model>/<n>`; its slashes may be escaped or not.";
    vec![
        Route::put("/market/gpus/{*gpu_id}", write, "Offers a GPU, or changes it.", put_gpu)
            .at("gpu_id", gpu_id)
            .takes::<GpuBody>("The GPU. What was read may be sent back.")
            .answer::<Changed<GpuInfo>>(200, "The GPU as it is now."),
        // Taken by the route above: an id may hold slashes.
        Route::within_another(
            Method::PUT,
            "/market/gpus/{*gpu_id}/status",
            write,
            "Changes the state of a GPU.",
        )
        .at("gpu_id", gpu_id)
        .takes::<StatusBody>("The state.")
        .answer::<Changed<GpuInfo>>(200, "The GPU as it is now."),
        Route::put(
            "/market/pricing/{gpu_type}",
            write,
            "Changes what a type costs in a region.",
            put_pricing,
        )
        .at("gpu_type", "The model.")
        .query_needed::<String>("region", "The region.")
        .takes::<PriceBody>("The price.")
        .answer::<Changed<GpuPrice>>(200, "The price as it is now."),
        Route::put(
            "/market/providers/{provider_id}/status",
            write,
            "Changes the state of a provider, and with it that of its GPUs.",
            put_provider_status,
        )
        .at("provider_id", "Its name.")
        .takes::<StatusBody>("The state.")
        .answer::<Changed<ProviderStatus>>(200, "The provider as it is now."),
        Route::post(
            "/market/bookings",
            write,
            "Books a GPU. Asking twice with the same body is asking once.",
            book,
        )
        .takes::<BookingBody>("Who wants which GPU, from when until when.")
        .answer::<Changed<BookingInfo>>(201, "The booking.")
        .answer::<Changed<BookingInfo>>(200, "The booking that was made before.")
        .answers_header("location", "Where the new booking is.")
        .problem(
            409,
            "The GPU is rented in that time, is not for rent, or the id is that of another booking.",
        ),
        Route::delete("/market/bookings/{booking_id}", write, "Cancels a booking.", cancel)
            .at("booking_id", "As whoever booked chose it.")
            .answer::<Changed<BookingInfo>>(200, "The booking as it is now.")
            .problem(409, "It was cancelled before, or is over."),
    ]
    .into_iter()
    .map(|route| {
        let later = "Changed; the caches of other nodes are not told yet, but will be.";
        route.writes().problem(404, "There is nothing of that name.").answer::<Value>(202, later)
    })
    .collect()
}

/// `PUT /market/gpus/{gpu_id}` and `PUT /market/gpus/{gpu_id}/status`. An id may hold slashes, escaped or not; a last part
/// `/status` that is not escaped is not of the id.
async fn put_gpu(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let rest = uri.path().strip_prefix("/market/gpus/").unwrap_or_default();
    let (id, of_status) = match rest.strip_suffix("/status") {
        Some(id) => (id, true),
        None => (rest, false),
    };
    let gpu_id = percent_decode_str(id).decode_utf8();
    let gpu_id = gpu_id.map_err(|_| Problem::bad("gpu_id", "the id in the path is not UTF-8"))?;
    check_id("gpu_id", &gpu_id).map_err(in_address)?;
    let body = received(body)?;
    let made = if of_status {
        let status = gpu_state("status", &StatusBody::parse(&body)?.status)?;
        app.market().update_gpu_status(&gpu_id, status).await
    } else {
        let body = GpuBody::parse(&body, &gpu_id)?;
        let state = body.availability_status.as_deref();
        let status = state.map(|text| gpu_state("availability_status", text)).transpose()?;
        let hardware = Hardware {
            memory_gb: body.memory_gb,
            cuda_cores: body.cuda_cores,
            performance_score: body.performance_score,
        };
        let gpu = GpuRegistration {
            gpu_id: gpu_id.to_string(),
            provider_id: body.provider_id,
            gpu_type: body.gpu_type,
            region: body.region,
            hardware,
            base_price_per_hour: MicroUsd(body.base_price_per_hour),
            status,
        };
        app.market().put_gpu(gpu).await
    };
    let made = made.map_err(in_body)?;
    let now = app.market().ledger().gpu(&gpu_id).await.map_err(ledger)?;
    Ok(changed(StatusCode::OK, now.value, &made))
}

/// `PUT /market/pricing/{gpu_type}?region=`
async fn put_pricing(
    State(app): State<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["region"])?;
    let market = market(named(path)?, &query)?;
    let price = MicroUsd(PriceBody::parse(&received(body)?)?.base_price_per_hour);
    let made = app.market().update_gpu_pricing(&market.gpu_type, price, &market.region).await;
    let made = made.map_err(in_body)?;
    let now = app.market().ledger().price(&market).await.map_err(ledger)?;
    Ok(changed(StatusCode::OK, now.value, &made))
}

/// `PUT /market/providers/{provider_id}/status`
async fn put_provider_status(
    State(app): State<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let provider_id = named(path)?;
    check_name("provider_id", &provider_id).map_err(in_address)?;
    let status = StatusBody::parse(&received(body)?)?.status;
    let state: ProviderState =
        word("status", &status, "online, offline or maintenance").map_err(Problem::in_body)?;
    let made = app.market().update_provider_status(&provider_id, state).await.map_err(in_body)?;
    let now = app.market().ledger().provider(&provider_id).await.map_err(ledger)?;
    Ok(changed(StatusCode::OK, now.value, &made))
}

/// `POST /market/bookings`
async fn book(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let BookingBody { booking_id, gpu_id, user_id, start_time, end_time } =
        BookingBody::parse(&received(body)?)?;
    let request = BookingRequest { booking_id, gpu_id: gpu_id.clone(), user_id, start_time, end_time };
    let made = app.market().create_booking(request).await.map_err(in_body)?;
    let conflict = |field: &str, why: String| Err(Problem::new(StatusCode::CONFLICT, why).field(field));
    match &made.outcome {
        BookOutcome::Booked { booking, repeated, .. } => {
            let status = if *repeated { StatusCode::OK } else { StatusCode::CREATED };
            let mut response = changed(status, Some(booking), &made);
            if !repeated {
                let id = utf8_percent_encode(&booking.booking_id, NON_ALPHANUMERIC);
                if let Ok(at) = HeaderValue::try_from(format!("/market/bookings/{id}")) {
                    response.headers_mut().insert(header::LOCATION, at);
                }
            }
            Ok(response)
        }
        BookOutcome::Conflict { .. } => conflict("start_time", format!("{gpu_id:?} is rented in that time")),
        BookOutcome::IdTaken => conflict("booking_id", "the id belongs to another booking".to_owned()),
        BookOutcome::NotForRent(status) => {
            let status = serde_json::to_value(status).unwrap_or_default();
            conflict("gpu_id", format!("{gpu_id:?} is not for rent: {}", status.as_str().unwrap_or_default()))
        }
        BookOutcome::UnknownGpu => {
            Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no GPU {gpu_id:?}")).field("gpu_id"))
        }
    }
}

/// `DELETE /market/bookings/{booking_id}`
async fn cancel(
    State(app): State<Arc<App>>,
    path: OnePath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let booking_id = named(path)?;
    check_id("booking_id", &booking_id).map_err(in_address)?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, no_booking(&booking_id));
    let known = app.market().ledger().booking(&booking_id).await.map_err(ledger)?;
    let BookingInfo { gpu_id, .. } = known.value.ok_or_else(unknown)?;
    let made = app.market().cancel_booking(&booking_id, &gpu_id).await.map_err(in_body)?;
    let over = |what: &str| {
        let why = format!("the booking {booking_id:?} {what}");
        Err(Problem::new(StatusCode::CONFLICT, why).field("booking_id"))
    };
    match &made.outcome {
        CancelOutcome::Cancelled { booking, repeated: false, .. } => {
            Ok(changed(StatusCode::OK, Some(booking), &made))
        }
        CancelOutcome::Cancelled { .. } => over("was cancelled before"),
        CancelOutcome::Completed => over("is over"),
        CancelOutcome::Unknown => Err(unknown()),
    }
}

/// The answer to a change: what the value is now, and how far the announcement came.
fn changed<T: Serialize, O>(status: StatusCode, value: Option<T>, made: &Made<O>) -> Response {
    let Some(value) = value else {
        // Changed and gone again, or of a market in which nothing is on offer.
        return Problem::new(StatusCode::NOT_FOUND, "nothing of that is on offer").into_response();
    };
    let (currency, token) = (CURRENCY.to_owned(), made.token.clone());
    let status = if made.published { status } else { StatusCode::ACCEPTED };
    let header = (token != WriteToken::default() && token.fits()).then(|| token.to_string());
    let body = Changed { value, currency, published: made.published, token };
    let mut response = (status, Json(body)).into_response();
    if let Some(header) = header.and_then(|token| HeaderValue::try_from(token).ok()) {
        response.headers_mut().insert(HeaderName::from_static(cache_api::headers::CACHE_TOKEN), header);
    }
    response
}

fn in_body(error: MarketError) -> Problem {
    failed(error, StatusCode::UNPROCESSABLE_ENTITY)
}

fn ledger(error: cache_marketplace::LedgerError) -> Problem {
    in_body(MarketError::Ledger(error))
}
