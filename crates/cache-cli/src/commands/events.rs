//! `cachectl events`

use cache_api::operate::{EventRecord, RecentEvents};

use super::{Context, nothing, path};
use crate::arguments::{EventsArgs, Which};
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, maybe, ms, odd, plain};

pub(super) fn run(cx: &Context, args: &EventsArgs) -> Result<Verdict, Failure> {
    let limit = args.limit.limit.to_string();
    let kinds = args.which.event_type.join(",");
    let mut query = which(&args.which, &kinds);
    query.push(("limit", &limit));
    let path = path("/node/events", &query);
    cx.each(|client| client.get::<RecentEvents>(&path), draw, |_| false)
}

/// The filters as a query.
pub(super) fn which<'a>(which: &'a Which, kinds: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![("event_type", kinds), ("cache_type", which.cache_type.as_deref().unwrap_or_default())]
}

fn draw(page: &mut Page, recent: &RecentEvents) {
    if recent.events.is_empty() {
        nothing(page, "no event is remembered");
    } else {
        table(page, &recent.events);
    }
    if recent.missed > 0 {
        page.line(&[odd(format!("events may have been missed {} times since the start", recent.missed))]);
    }
}

/// A table of events.
pub(super) fn table(page: &mut Page, events: &[EventRecord]) {
    let row = |event: &EventRecord| -> Vec<Word> {
        vec![
            plain(&event.timestamp),
            plain(&event.position),
            plain(&event.event_type),
            plain(&event.resource_id),
            plain(&event.source_node),
            plain(event.affected_namespaces.join(" ")),
            ms(event.propagation_ms),
            maybe(event.reason.as_ref()),
        ]
    };
    page.table(
        &["time", "position", "event", "about", "from", "touches", "took", "reason"],
        events.iter().map(row).collect(),
    );
}
