//! How figures went: history, alerts, targets, operations.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use cache_api::operate::{Alerts, History, Operations, SloReport};

use super::App;
use super::problem::Problem;
use super::query::Query;
use super::route::{Access, Route};
use crate::config::TokenScope;
use crate::metrics::requests::stopwatch;
use crate::telemetry::{Range, SERIES};

const HOUR_MS: u64 = 3_600_000;
/// Points of a series that are told unless others are asked for, and most that may be.
const POINTS: usize = 600;
const POINTS_MAX: usize = 10_000;
/// Operations that are told unless others are asked for.
const OPERATIONS: usize = 100;

/// How figures went.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get("/node/history", read, "How figures went.", history)
            .query::<String>("series", "Names of series, with commas between them; all if it is left out.")
            .query::<u64>("from", "Unix milliseconds; an hour before `to` if it is left out.")
            .query::<u64>("to", "Unix milliseconds; now if it is left out.")
            .query::<u64>("points", "How many of each series, at most; 600 if it is left out.")
            .query::<String>("step", "How far points are apart, with its unit: 5s.")
            .answer::<History>(200, "The series, and the names of all that there are."),
        Route::get("/node/alerts", read, "Figures beyond their limits, now and of late.", alerts)
            .answer::<Alerts>(200, "The alerts."),
        Route::get("/node/slo", read, "Figures beside their targets.", slo)
            .answer::<SloReport>(200, "The targets."),
        Route::get(
            "/node/operations",
            read,
            "The latest requests that were to change something.",
            operations,
        )
        .query::<u64>("limit", "How many at most; 100 if it is left out.")
        .answer::<Operations>(200, "The requests, newest first."),
    ]
}

/// `GET /node/history?series=a,b&from=MS&to=MS&points=N&step=5s`
async fn history(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Json<History>, Problem> {
    let query = Query::parse(query.as_deref(), &["series", "from", "to", "points", "step"])?;
    let series = match query.text("series") {
        None => (0..SERIES.len()).collect(),
        Some(names) => {
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(series).collect::<Result<Vec<usize>, Problem>>()?
        }
    };
    let (ahead, wall) = (app.wall_ahead(), app.cache().clock().wall());
    let to = query.number("to")?.unwrap_or(wall);
    let from = query.number("from")?.unwrap_or_else(|| to.saturating_sub(HOUR_MS));
    if from > to {
        return Err(Problem::bad("from", format!("from ({from}) is later than to ({to})"))
            .cure("both are Unix milliseconds"));
    }
    let points = query.number("points")?.unwrap_or(POINTS);
    if !(2..=POINTS_MAX).contains(&points) {
        return Err(Problem::bad("points", format!("points must be from 2 to {POINTS_MAX}")));
    }
    let step = query.text("step").map(|text| {
        let step = humantime::parse_duration(&text).ok().map(|step| step.as_millis() as u64);
        step.filter(|step| (1_000..=86_400_000).contains(step)).ok_or_else(|| {
            Problem::bad("step", format!("step: {text:?} is not a duration from 1s to 1day, such as 5s"))
        })
    });
    let logical = |wall: u64| wall.saturating_add_signed(ahead.saturating_neg());
    let range = Range { from: logical(from), to: logical(to), points, step: step.transpose()? };
    Ok(Json(app.history(&series, range)))
}

fn series(name: &str) -> Result<usize, Problem> {
    SERIES.iter().position(|known| *known == name).ok_or_else(|| {
        Problem::bad("series", format!("there is no series {name:?}"))
            .cure(format!("known are {}", SERIES.join(", ")))
    })
}

/// `GET /node/alerts`
async fn alerts(State(app): State<Arc<App>>) -> Json<Alerts> {
    Json(app.alerts())
}

/// `GET /node/slo`
async fn slo(State(app): State<Arc<App>>) -> Json<SloReport> {
    Json(app.slo())
}

/// `GET /node/operations?limit=N`
async fn operations(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Operations>, Problem> {
    let query = Query::parse(query.as_deref(), &["limit"])?;
    Ok(Json(app.operations(query.number("limit")?.unwrap_or(OPERATIONS))))
}

/// A request that is to change something: it is noted, with how long it took.
pub(crate) struct Change {
    method: Method,
    route: &'static str,
    at: u64,
    began: Instant,
}

impl Change {
    /// What is at no route changes nothing, and would fill the memory with whatever somebody types.
    pub(crate) fn by(app: &App, method: &Method, route: Option<&'static str>) -> Option<Self> {
        let route = route.filter(|_| !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS))?;
        Some(Self { method: method.clone(), route, at: app.cache().clock().now(), began: stopwatch() })
    }

    pub(crate) fn answered(self, app: &App, status: StatusCode) {
        if status != StatusCode::METHOD_NOT_ALLOWED {
            let took = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            app.telemetry().operation(self.at, self.method.as_str(), self.route, status.as_u16(), took);
        }
    }
}
