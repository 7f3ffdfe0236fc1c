//! `cachectl stats`

use cache_api::{NamespaceStats, Stats};

use super::Context;
use crate::arguments::StatsArgs;
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, bad, maybe, ms, percent, plain};

pub(super) fn run(cx: &Context, args: &StatsArgs) -> Result<Verdict, Failure> {
    cx.each(
        |client| client.get::<Stats>("/cache/stats"),
        |page, stats| draw(page, stats, args.all),
        |_| false,
    )
}

fn draw(page: &mut Page, stats: &Stats, all: bool) {
    let memory = stats.redis_memory_used_mb.map(|mb| format!("{mb:.1} MB"));
    let audited = stats.audit.as_ref().map(|audit| {
        let found = format!("{} in {} judged reads", audit.violations, audit.judged);
        ("stale beyond the bound", if audit.violations > 0 { bad(found) } else { plain(found) })
    });
    let fields = [
        ("hit ratio", percent(stats.cache_hit_ratio)),
        ("hits, misses", plain(format!("{}, {}", stats.cache_hits, stats.cache_misses))),
        ("mean time of a hit", ms(stats.avg_response_time_ms)),
        ("events applied", plain(stats.events_processed)),
        ("invalidations", plain(stats.invalidations)),
        ("last event", maybe(stats.last_event_time.as_ref())),
        ("propagation", ms(stats.event_propagation_latency_ms)),
        ("entries in L1", plain(format!("{} of {}", stats.l1_cache_size, stats.l1_cache_max_size))),
        ("memory of L1", percent(stats.memory_utilization)),
        ("Redis memory", maybe(memory)),
        ("Redis clients", maybe(stats.redis_connected_clients)),
    ];
    page.fields(fields.into_iter().chain(audited));
    let used = |space: &NamespaceStats| all || space.reads + space.writes + space.invalidations > 0;
    let rows: Vec<Vec<Word>> = stats.namespaces.values().filter(|space| used(space)).map(row).collect();
    if !rows.is_empty() {
        page.gap();
        page.table(
            &[
                "cache type",
                "reads",
                "L1",
                "L2",
                "loads",
                "writes",
                "invalidated",
                "entries",
                "L1 p99",
                "L2 p99",
            ],
            rows,
        );
    }
}

fn row(space: &NamespaceStats) -> Vec<Word> {
    let ratio =
        |hits: u64, misses: u64| percent((hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64));
    let us = |us: Option<f64>| maybe(us.map(|us| format!("{us:.1} µs")));
    vec![
        plain(&space.cache_type),
        plain(space.reads),
        ratio(space.l1_hits, space.l1_misses),
        ratio(space.l2_hits, space.l2_misses),
        plain(space.loads),
        plain(space.writes),
        plain(space.invalidations),
        plain(space.l1_entries),
        us(space.l1_latency.p99_us),
        us(space.l2_latency.p99_us),
    ]
}
