//! Why a read would be answered as it is, and what L1 holds.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{self, Path, RawQuery};
use axum::http::StatusCode;
use cache_api::operate::{Entries, EntrySummary, Explanation, Held};
use cache_events::{Partition, Position, Version};
use cache_tiered::{Explained, Judged, Looked, State, Tier};
use serde_json::Value;

use super::App;
use super::entries::checked;
use super::events::{position, record};
use super::problem::Problem;
use super::query::Query;
use super::request;
use super::route::{Access, Route};
use crate::config::TokenScope;

/// Events that are told of one key.
const EVENTS_MAX: usize = 20;
/// Entries in an answer that did not say how many, and the most.
const ENTRIES: (usize, usize) = (1_000, 10_000);

const CACHE_TYPE: &str = "The cache type, or its namespace.";

/// Why an answer is what it is, and what L1 holds.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get(
            "/node/explain/{cache_type}/{*resource}",
            read,
            "Why a read of a key would be answered as it is. Changes nothing; other query parameters are those of the key.",
            explain,
        )
        .at("cache_type", CACHE_TYPE)
        .at("resource", "The resource; its slashes may be escaped or not.")
        .answer::<Explanation>(200, "What the tiers hold, whether it may be served, and the reasoning.")
        .problem(404, "There is no such cache type."),
        Route::get("/node/entries/{cache_type}", read, "What L1 would serve, for comparing nodes.", entries)
            .at("cache_type", CACHE_TYPE)
            .query::<u64>("limit", "How many at most; 1,000 if it is left out, at most 10,000.")
            .answer::<Entries>(200, "The entries, by key.")
            .problem(404, "There is no such cache type."),
    ]
}

/// `GET /node/explain/{cache_type}/{resource}?name=value…`
async fn explain(
    extract::State(app): extract::State<Arc<App>>,
    place: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Explanation>, Problem> {
    let (cache_type, resource) = checked(place)?;
    let plan = app.cache_type(&cache_type)?;
    let key = request::key(&plan.settings.namespace, &resource, query.as_deref())?;
    let explained = app
        .json(&plan.settings.namespace)?
        .explain(&key)
        .await
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let touches = |heard: &crate::events::Heard| {
        heard.sequenced.event.scopes.iter().any(|scope| scope.covers(&key, &explained.groups))
    };
    let events = app.events().latest(EVENTS_MAX, touches);
    Ok(Json(Explanation {
        key: key.to_string(),
        cache_type: plan.cache_type.clone(),
        partition: explained.partition.0,
        state: format!("{:?}", explained.state).to_lowercase(),
        lag_ms: explained.lag_ms,
        tier: explained.tier.map(|tier| tier.as_str().to_owned()),
        value: explained.value.clone().unwrap_or(Value::Null),
        l1: held(explained.partition, &explained.l1),
        l2: held(explained.partition, &explained.l2),
        why: why(&explained),
        events: events.iter().map(|heard| record(app.config(), heard)).collect(),
    }))
}

/// `GET /node/entries/{cache_type}?limit=…`
async fn entries(
    extract::State(app): extract::State<Arc<App>>,
    cache_type: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Entries>, Problem> {
    let Path(cache_type) = cache_type.map_err(|rejection| Problem::bad("path", rejection.body_text()))?;
    let limit = Query::parse(query.as_deref(), &["limit"])?.number("limit")?;
    let limit: usize = limit.unwrap_or(ENTRIES.0).min(ENTRIES.1);
    let namespace = app.cache_type(&cache_type)?.settings.namespace.clone();
    let partitions = app.cache().view().partitions();
    let cache = app.json(&namespace)?;
    // Looks through all of L1, and writes values: not a task for a thread that answers others.
    let (residents, truncated) = tokio::task::spawn_blocking(move || cache.residents(limit))
        .await
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let entries = residents.into_iter().map(|resident| EntrySummary {
        position: position(resident.key.partition(partitions), resident.position),
        key: resident.key.to_string(),
        version: version(resident.version),
        digest: format!("{:016x}", resident.digest),
    });
    Ok(Json(Entries { entries: entries.collect(), truncated }))
}

fn version(version: Version) -> Option<u64> {
    (version != Version::NONE).then_some(version.0)
}

fn held(partition: Partition, looked: &Looked) -> Held {
    let (fact, judged) = (looked.held.as_ref(), &looked.judged);
    let absent = fact.is_some_and(|fact| fact.absent);
    let note = match judged {
        Judged::Served if absent => Some("it is known that there is no value".to_owned()),
        Judged::Served => None,
        other => Some(other.to_string()),
    };
    // In L1 the epoch of what a new one has outdated is forgotten.
    let at = fact.map(|fact| fact.position).filter(|at| *at != Position::ZERO && at.epoch > 0);
    Held {
        present: fact.is_some(),
        usable: judged.usable(),
        note,
        position: at.map(|at| position(partition, at)),
        version: fact.and_then(|fact| version(fact.version)),
        age_ms: fact.and_then(|fact| fact.age_ms),
        expires_in_ms: fact.and_then(|fact| fact.expires_in_ms),
        bytes: fact.map(|fact| fact.bytes),
    }
}

/// The reasoning, step by step.
fn why(explained: &Explained) -> Vec<String> {
    let Explained { partition, cursor, lag_ms, bound_ms, l1, l2, .. } = explained;
    let stands = match explained.state {
        State::Live => "subscribed, and at the head of its log",
        State::Replaying => "subscribed, and fetching what it has missed",
        State::Connecting => "its hints do not arrive, or its last sync failed",
        State::Degraded => "cut off for longer than the staleness bound",
        _ => "fenced off: its settings and the shared tier's disagree",
    };
    let proven = match lag_ms {
        Some(lag) => format!("a sync {lag} ms ago proved that it knew of all changes"),
        None => "no sync has ever proved that it knows of all changes".to_owned(),
    };
    let mut steps = vec![
        format!("the key lies in partition {partition}; this node is {stands}, at {cursor}"),
        format!("{proven}; copies are trusted for {bound_ms} ms after such a proof"),
        format!("L1: {}", in_words(l1)),
    ];
    if explained.tier == Some(Tier::L1) {
        steps.push("a read is answered from L1 and asks nobody".to_owned());
        steps.push(format!("L2, which a read would not ask now: {}", in_words(l2)));
        return steps;
    }
    if explained.fails {
        steps.push(
            "the cache type is set to fail while freshness cannot be proven: a read is an error".to_owned(),
        );
    }
    steps.push(format!("L2: {}", in_words(l2)));
    steps.push(match explained.tier {
        Some(_) => {
            "a read is answered from L2, and keeps the value in L1 where the cache type uses that".to_owned()
        }
        None if explained.fails => "a read fails".to_owned(),
        None => "a read of the cache alone finds nothing; one that may load asks the source".to_owned(),
    });
    steps
}

fn in_words(looked: &Looked) -> String {
    let Some(fact) = looked.held else { return looked.judged.to_string() };
    let what = if fact.absent { "that there is no value" } else { "a value" };
    let age = fact.age_ms.map_or(String::new(), |age| format!(" of {age} ms ago"));
    format!("holds {what}{age}: {}", looked.judged)
}
