//! What holds when it is over: nothing lost, nothing wrong, nothing booked twice.

use std::collections::BTreeMap;

use cache_marketplace::audit::compare;
use cache_marketplace::{BookingInfo, BookingStatus, Ledger, LedgerError};

use super::drive::Driven;
use super::report::{Bookings, Quantiles, ReadLatency, Report};
use super::stopwatch;
use super::world::World;

/// Bookings that are asked of the ledger at a time.
const PAGE: u32 = 1_000;

/// Compares everything and writes the report.
pub(crate) async fn audit(world: &World, driven: Driven) -> anyhow::Result<Report> {
    let lost_events = lost(world, &driven);
    let (mut compared, mut wrong_at_end) = (0, 0);
    for node in &world.nodes {
        let found = compare(&node.market).await?;
        compared += found.compared;
        wrong_at_end += found.different;
        for told in found.told {
            tracing::debug!(node = node.name, told, "wrong at the end");
        }
    }
    let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let [l1, l2, source] = driven.by_tier;
    let applied: BTreeMap<String, u64> =
        world.nodes.iter().map(|node| (node.name.clone(), node.watch.applied())).collect();
    Ok(Report {
        nodes: world.nodes.len(),
        transport: world.transport,
        events_published: driven.events,
        events_applied: applied,
        lost_events,
        compared_at_end: compared,
        wrong_at_end,
        reads: driven.reads,
        stale_reads: driven.stale_reads,
        max_staleness_ms: driven.max_staleness_us as f64 / 1000.0,
        l1_hit_ratio: ratio(l1, l1 + l2 + source),
        l2_hit_ratio: ratio(l2, l2 + source),
        propagation_ms: Quantiles::of_us(&world.propagation.times()),
        read_latency_us: ReadLatency::of_ns(&driven.l1_ns, &driven.l2_ns),
        bookings: Bookings {
            attempted: driven.attempted,
            created: driven.created,
            conflicts: driven.conflicts,
            double: double(&*world.ledger).await?,
        },
        errors: driven.errors,
        bad_feed_lines: driven.bad_lines,
        elapsed_s: stopwatch().saturating_duration_since(driven.began).as_secs_f64(),
    })
}

/// Acknowledged events that some node has neither applied nor flushed past.
fn lost(world: &World, driven: &Driven) -> u64 {
    let behind = |&(partition, position): &(cache_events::Partition, cache_events::Position)| {
        world.nodes.iter().any(|node| node.market.cache().position(partition) < position)
    };
    driven.acked.iter().filter(|acked| behind(acked)).count() as u64
}

/// Pairs of bookings of one GPU that overlap, the cancelled ones aside.
async fn double(ledger: &dyn Ledger) -> Result<u64, LedgerError> {
    let (mut bookings, mut after) = (Vec::<BookingInfo>::new(), String::new());
    loop {
        let page = ledger.bookings(&after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.booking_id);
        bookings.extend(page);
    }
    bookings.retain(|booking| booking.status != BookingStatus::Cancelled);
    bookings.sort_by(|a, b| (&a.gpu_id, a.start_time).cmp(&(&b.gpu_id, b.start_time)));
    let overlap =
        |pair: &[BookingInfo]| pair[0].gpu_id == pair[1].gpu_id && pair[1].start_time < pair[0].end_time;
    Ok(bookings.windows(2).filter(|pair| overlap(pair)).count() as u64)
}
