//! Events for whoever looks from outside: those of late, and all that come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use cache_api::operate::{EventRecord, RecentEvents};
use cache_events::{Namespace, Partition, Position, Scope};
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::App;
use super::observe::rfc3339;
use super::problem::Problem;
use super::query::Query;
use super::route::{Access, Route};
use crate::config::{NodeConfig, TokenScope};
use crate::events::{Follower, Heard, REMEMBERED_MAX, Told};

/// Events in an answer that did not say how many.
const LIMIT: usize = 100;
/// Events that a reader of the stream takes at once.
const BATCH: usize = 64;
/// How often a stream without events shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// When a client whose stream broke should come back.
const RETRY: Duration = Duration::from_secs(1);

/// Events of late, and as they come.
pub(crate) fn routes() -> Vec<Route> {
    let read = Access::Needs(TokenScope::Read);
    vec![
        Route::get("/events", read, "What makes copies change, as it happens: server-sent events.", stream)
            .header("last-event-id", "The id of the last event that was heard: the stream goes on behind it.")
            .answer_as::<String>(
                200,
                "text/event-stream",
                "`change` (the id is the position, the data an EventRecord) and `missed` (how many, and why).",
            ),
        Route::get("/node/events", read, "What has made copies change of late, newest first.", recent)
            .query::<u64>("limit", "How many at most; 100 if it is left out.")
            .answer::<RecentEvents>(200, "The events."),
    ]
    .into_iter()
    .map(|route| {
        route
            .query::<String>("event_type", "Only events of these kinds, with commas between them.")
            .query::<String>("cache_type", "Only events that touch something of this cache type.")
            .problem(404, "There is no such cache type.")
    })
    .collect()
}

/// `GET /node/events?limit=…&event_type=a,b&cache_type=…`
async fn recent(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<RecentEvents>, Problem> {
    let query = Query::parse(query.as_deref(), &["limit", "event_type", "cache_type"])?;
    let limit = query.number("limit")?.unwrap_or(LIMIT).min(REMEMBERED_MAX);
    let wanted = Wanted::of(&app, &query)?;
    let latest = app.events().latest(limit, |heard| wanted.covers(heard));
    let events = latest.iter().map(|heard| record(app.config(), heard)).collect();
    Ok(Json(RecentEvents { events, missed: app.events().gaps() }))
}

/// `GET /events?event_type=a,b&cache_type=…`, as server-sent events.
async fn stream(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let query = Query::parse(query.as_deref(), &["event_type", "cache_type"])?;
    let wanted = Wanted::of(&app, &query)?;
    let after = headers.get("last-event-id").map(|id| {
        let place = id.to_str().ok().and_then(place);
        place.ok_or_else(|| {
            Problem::bad("last-event-id", "last-event-id is not the id of an event: partition:epoch:sequence")
        })
    });
    let follower = app.events().follow(after.transpose()?).ok_or_else(|| {
        let max = app.config().http.event_streams_max;
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{max} already follow the events"))
            .cure("end one of them, or raise http.event_streams_max")
            .retry_soon()
    })?;
    // The first thing that is said: the client may rely on hearing all that happens from here on.
    let hello = Event::default().comment("following").retry(RETRY);
    let told = stream::unfold((app, wanted, follower), next).flat_map(stream::iter);
    let said = stream::once(async { hello }).chain(told).map(Ok);
    Ok(Sse::new(said).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")))
}

type Following = (Arc<App>, Wanted, Follower);

async fn next((app, wanted, mut follower): Following) -> Option<(Vec<Event>, Following)> {
    let told = follower.next(BATCH).await?;
    let missed = (told.missed > 0).then(|| missed(&told));
    let changes = told.events.iter().filter(|heard| wanted.covers(heard)).map(|heard| {
        let record = record(app.config(), heard);
        let id = record.position.clone();
        // What was JSON before is JSON now.
        Event::default().event("change").id(id).json_data(record).unwrap_or_default()
    });
    let all = missed.into_iter().chain(changes).collect();
    Some((all, (app, wanted, follower)))
}

fn missed(told: &Told) -> Event {
    let why = match told.why {
        None => "more has happened than this node remembers",
        Some(cache_tiered::FlushCause::Epoch) => {
            "a new epoch began, and everything was dropped: a clear, or the shared tier has lost its history"
        }
        Some(_) => "this node may have missed events, and has dropped all that they may have touched",
    };
    let data = json!({"missed": told.missed, "why": why});
    Event::default().event("missed").data(data.to_string())
}

/// Which events are asked for.
struct Wanted {
    kinds: Vec<String>,
    namespace: Option<Namespace>,
}

impl Wanted {
    fn of(app: &App, query: &Query) -> Result<Self, Problem> {
        let kinds = query.text("event_type").unwrap_or_default();
        let kinds = kinds.split(',').map(str::trim).filter(|kind| !kind.is_empty());
        let namespace = match query.text("cache_type") {
            Some(name) => Some(app.cache_type(&name)?.settings.namespace.clone()),
            None => None,
        };
        Ok(Self { kinds: kinds.map(str::to_owned).collect(), namespace })
    }

    fn covers(&self, heard: &Heard) -> bool {
        let event = &heard.sequenced.event;
        let of_kind =
            self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == event.event_type.as_str());
        let concerns = |namespace: &Namespace| {
            // What is of no namespace may touch any.
            let reaches = |scope: &Scope| scope.namespace().is_none_or(|of_scope| of_scope == namespace);
            event.affected_namespaces.contains(namespace) || event.scopes.iter().any(reaches)
        };
        of_kind && self.namespace.as_ref().is_none_or(concerns)
    }
}

/// An event as others read it.
pub(crate) fn record(config: &NodeConfig, heard: &Heard) -> EventRecord {
    let (sequenced, event) = (&heard.sequenced, &heard.sequenced.event);
    EventRecord {
        position: position(sequenced.partition, sequenced.position),
        event_id: event.event_id.to_string(),
        event_type: event.event_type.to_string(),
        resource_id: event.resource_id.clone(),
        data: event.data.clone().unwrap_or(Value::Null),
        timestamp: rfc3339(event.timestamp).unwrap_or_default(),
        source_node: event.source_node.to_string(),
        affected_namespaces: event.affected_namespaces.iter().map(ToString::to_string).collect(),
        scopes: event.scopes.iter().map(|scope| spelled(config, scope)).collect(),
        reason: event.reason.clone(),
        propagation_ms: heard.propagation_ms,
    }
}

/// A scope in the words of the interface: as it stands in a path behind `/cache/` where it is a key or a resource.
fn spelled(config: &NodeConfig, scope: &Scope) -> String {
    let known = scope.namespace().and_then(|namespace| config.cache_type(namespace.as_str()));
    let cache_type = match (known, scope.namespace()) {
        (Some(plan), _) => plan.cache_type.as_str(),
        (None, namespace) => namespace.map_or("", Namespace::as_str),
    };
    match scope {
        Scope::Key(key) => {
            let text = key.to_string();
            let mut fields = text.splitn(3, '/').skip(1);
            let (resource, params) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            let mark = if params.is_empty() { "" } else { "?" };
            format!("{cache_type}/{resource}{mark}{params}")
        }
        Scope::Resource { resource, .. } => format!("{cache_type}/{resource}?*"),
        Scope::Namespace(_) => format!("{cache_type}/*"),
        Scope::Pattern { pattern, .. } => format!("pattern:{cache_type}/{pattern}"),
        Scope::Tag(tag) => format!("tag:{tag}"),
        _ => "*".to_owned(),
    }
}

/// A place in the log of a partition, in one word.
pub(crate) fn position(partition: Partition, position: Position) -> String {
    format!("{partition}:{}:{}", position.epoch, position.seq)
}

/// Reads what [`position`] writes.
fn place(text: &str) -> Option<(Partition, Position)> {
    let mut numbers = text.trim().splitn(3, ':');
    let mut number = || numbers.next()?.parse::<u64>().ok();
    let (partition, epoch, seq) = (number()?, number()?, number()?);
    Some((Partition(u32::try_from(partition).ok()?), Position::new(epoch, seq)))
}
