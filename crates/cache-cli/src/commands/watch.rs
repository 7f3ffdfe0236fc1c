//! `cachectl watch`
//!
//! The stream is lost and found again: by the id of its last event it goes on where it was, on the same node or on
//! another, since positions mean the same on all of them. Where the node's memory does not reach back so far it says
//! how many events were missed, and so does this command.

use std::io::Write;
use std::time::Duration;

use cache_api::operate::EventRecord;
use serde_json::{Value, json};

use super::{Context, events, path};
use crate::arguments::WatchArgs;
use crate::failure::{Failure, Told, Verdict};
use crate::screen::{Screen, faint, odd, plain};
use crate::stream::{Event, Parser, next};

/// Nodes send a comment every 15 s: three of them missing mean that nobody is there any more.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(cx: &Context, args: &WatchArgs) -> Result<Verdict, Failure> {
    let kinds = args.which.event_type.join(",");
    let path = path("/events", &events::which(&args.which, &kinds));
    let mut parser = Parser::behind(args.since.clone());
    let mut left = args.count;
    let (mut ever, mut failed_in_a_row) = (false, 0_u32);
    for turn in 0.. {
        let client = &cx.clients[turn % cx.clients.len()];
        let from = parser.last_id.clone();
        let resume = from.as_deref().map(|id| ("last-event-id", id));
        let why = match client.stream(&path, resume.as_slice(), (cx.global.timeout, SILENCE_MAX)) {
            Ok(mut lines) => {
                note(&format!("following {}", client.node()));
                (ever, failed_in_a_row) = (true, 0);
                loop {
                    match next(&mut lines, &mut parser) {
                        Ok(Some(event)) => {
                            if show(cx.screen, &event)?
                                && let Some(left) = &mut left
                            {
                                *left = left.saturating_sub(1);
                                if *left == 0 {
                                    return Ok(Verdict::Right);
                                }
                            }
                        }
                        Ok(None) => break "the node ended the stream".to_owned(),
                        Err(error) => break format!("the stream broke: {error}"),
                    }
                }
            }
            Err(failure @ Failure::Unreachable(_)) => {
                failed_in_a_row += 1;
                if !ever && failed_in_a_row as usize >= cx.clients.len() {
                    return Err(failure);
                }
                failure.told().error
            }
            // A node that is stopping or busy; others are asked, or it again.
            Err(failure @ Failure::Node(_)) if ever => {
                failed_in_a_row += 1;
                failure.told().error
            }
            Err(failure) => return Err(failure),
        };
        parser.broken();
        if args.once {
            let told = Told::new(format!("{}: {why}", client.node()));
            return Err(Failure::Unreachable(told.cure("without --once cachectl connects again")));
        }
        note(&format!("{}: {why}; connecting again", client.node()));
        pause(parser.retry.unwrap_or(PAUSE_MIN), failed_in_a_row);
    }
    Ok(Verdict::Right)
}

/// What happens to the stream is told beside it, so that the output holds events alone.
fn note(text: &str) {
    // Nobody has to read this.
    let _ = writeln!(std::io::stderr(), "cachectl: {}", crate::screen::clean(text));
}

/// Longer after each failure in a row.
#[expect(clippy::disallowed_methods, reason = "the one place that waits; nothing else happens meanwhile")]
fn pause(first: Duration, failures: u32) {
    std::thread::sleep((first * 2_u32.pow(failures.min(10))).min(PAUSE_MAX));
}

/// Shows an event; says whether it is a change.
fn show(screen: Screen, event: &Event) -> Result<bool, Failure> {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| Value::String(event.data.clone()));
    let is_change = event.kind == "change";
    if screen.is_json() {
        screen.say(&json!({"event": event.kind, "data": data}).to_string())?;
        return Ok(is_change);
    }
    let mut page = screen.page();
    match (event.kind.as_str(), serde_json::from_value::<EventRecord>(data.clone())) {
        ("change", Ok(change)) => {
            let mut words = vec![
                faint(&change.timestamp),
                faint(&change.position),
                plain(&change.event_type),
                plain(&change.resource_id),
                faint(format!("from {}", change.source_node)),
                faint(change.affected_namespaces.join(" ")),
            ];
            words.extend(change.propagation_ms.map(|ms| faint(format!("{ms:.1} ms"))));
            words.extend(change.reason.map(|reason| faint(format!("({reason})"))));
            page.line(&words);
        }
        ("missed", _) => {
            let why = data["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            page.line(&[odd(format!("events were missed: {}{why}", data["missed"]))]);
        }
        (kind, _) => page.line(&[odd(kind), plain(&data)]),
    }
    screen.say(page.text().trim_end())?;
    Ok(is_change)
}
