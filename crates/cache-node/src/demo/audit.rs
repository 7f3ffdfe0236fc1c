//! What holds when it is over: nothing lost, nothing wrong, nothing booked twice.

use std::collections::BTreeMap;

use cache_events::Key;
use cache_marketplace::namespaces::{
    GPU_AVAILABILITY, GPU_PRICING, MARKET_STATS, ORDER_BOOK, PROVIDER_STATUS,
};
use cache_marketplace::{BookingInfo, BookingStatus, Market, MarketError, MarketValue, Marketplace, keys};

use super::drive::Driven;
use super::report::{Bookings, Quantiles, ReadLatency, Report};
use super::stopwatch;
use super::world::World;

/// Compares everything and writes the report.
pub(crate) async fn audit(world: &World, driven: Driven) -> anyhow::Result<Report> {
    let lost_events = lost(world, &driven);
    let truth = world.ledger.recompute()?;
    let mut wrong_at_end = 0;
    for node in &world.nodes {
        for key in &driven.touched {
            let expected = truth.get(key).cloned();
            let seen = seen(&node.market, key).await?;
            if seen != expected {
                wrong_at_end += 1;
                tracing::debug!(node = node.name, %key, ?seen, ?expected, "wrong at the end");
            }
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
            double: double(world.ledger.bookings()),
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
fn double(mut bookings: Vec<BookingInfo>) -> u64 {
    bookings.retain(|booking| booking.status != BookingStatus::Cancelled);
    bookings.sort_by(|a, b| (&a.gpu_id, a.start_time).cmp(&(&b.gpu_id, b.start_time)));
    let overlap =
        |pair: &[BookingInfo]| pair[0].gpu_id == pair[1].gpu_id && pair[1].start_time < pair[0].end_time;
    bookings.windows(2).filter(|pair| overlap(pair)).count() as u64
}

/// What a node answers for a key.
async fn seen(market: &Marketplace, key: &Key) -> Result<Option<MarketValue>, MarketError> {
    let namespace = key.namespace().as_str();
    let region = key.params().find(|(name, _)| *name == "region").map(|(_, value)| value);
    let of_market = || Market::new(key.resource(), region.unwrap_or_default());
    let gpu_type = (key.resource() != keys::ALL_TYPES).then(|| key.resource());
    Ok(if namespace == GPU_AVAILABILITY.namespace {
        let answer = match region {
            None => market.gpu_at(key).await?,
            Some(_) => market.availability(&of_market()).await?,
        };
        answer.value.map(|value| MarketValue::Availability((*value).clone()))
    } else if namespace == GPU_PRICING.namespace {
        market.price(&of_market()).await?.value.map(|value| MarketValue::Price((*value).clone()))
    } else if namespace == ORDER_BOOK.namespace {
        market.order_book(&of_market()).await?.value.map(|value| MarketValue::OrderBook((*value).clone()))
    } else if namespace == MARKET_STATS.namespace {
        market.stats(gpu_type, region).await?.value.map(|value| MarketValue::Stats((*value).clone()))
    } else if namespace == PROVIDER_STATUS.namespace {
        market.provider(key.resource()).await?.value.map(|value| MarketValue::Provider((*value).clone()))
    } else {
        None
    })
}
