//! `cachectl health`

use cache_api::{Health, Status};

use super::Context;
use crate::arguments::HealthArgs;
use crate::client::Client;
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, bad, good, maybe, odd, plain};

pub(super) fn run(cx: &Context, args: &HealthArgs) -> Result<Verdict, Failure> {
    let wrong = |health: &Health| match health.status {
        Status::Healthy => false,
        Status::Degraded => !args.allow_degraded,
        Status::Unhealthy => true,
    };
    cx.each(ask, draw, wrong)
}

fn ask(client: &Client) -> Result<Health, Failure> {
    let answer = client.ask("GET", "/health", &[], None)?;
    // An unhealthy node says so with 503, and how it is in the same way.
    match answer.status {
        503 => answer.read(),
        _ => answer.success()?.read(),
    }
}

pub(super) fn status(status: Status) -> Word {
    match status {
        Status::Healthy => good("healthy"),
        Status::Degraded => odd("degraded"),
        Status::Unhealthy => bad("unhealthy"),
    }
}

fn yes(is: bool) -> Word {
    if is { good("yes") } else { bad("no") }
}

fn draw(page: &mut Page, health: &Health) {
    let redis = match health.redis_connected {
        Some(connected) => yes(connected),
        None => maybe(None::<&str>),
    };
    page.fields([
        ("status", status(health.status)),
        ("node", plain(format!("{} ({}, {})", health.node_id, health.region, health.datacenter))),
        ("transport", plain(&health.transport)),
        ("redis", redis),
        ("events arrive", yes(health.pubsub_active)),
        ("waiting invalidations", plain(health.event_queue_size)),
        ("last event", maybe(health.last_event_age.map(|age| format!("{age:.1} s ago")))),
    ]);
    if let Some(error) = &health.error {
        page.fields([("wrong", bad(error))]);
    }
    let Some(topology) = &health.topology else { return };
    page.gap();
    page.line(&[plain(format!(
        "{}: {} of {} servers answer",
        topology.topology, topology.healthy_nodes, topology.total_nodes
    ))]);
    let rows = topology.masters.iter().map(|master| {
        vec![
            plain(&master.name),
            maybe(master.address.as_ref()),
            yes(master.healthy),
            plain(format!("{} of {}", master.healthy_replicas, master.replicas)),
            plain(master.partitions),
            maybe(master.keyspace),
            plain(if master.guarded { "yes" } else { "no" }),
        ]
    });
    page.table(
        &["master", "address", "answers", "replicas", "partitions", "keys", "guarded"],
        rows.collect(),
    );
}
