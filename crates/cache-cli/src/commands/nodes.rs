//! `cachectl nodes`

use cache_api::operate::{NodeInfo, Nodes};

use super::{Context, health, nothing};
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, maybe, ms, percent, plain, span};

pub(super) fn run(cx: &Context) -> Result<Verdict, Failure> {
    cx.each(|client| client.get::<Nodes>("/nodes"), draw, |_| false)
}

fn draw(page: &mut Page, nodes: &Nodes) {
    if nodes.nodes.is_empty() {
        return nothing(page, "no node was heard of");
    }
    page.table(
        &[
            "node",
            "region",
            "status",
            "seen",
            "hits",
            "reads/s",
            "entries",
            "propagation",
            "lag",
            "url",
            "fingerprint",
        ],
        nodes.nodes.iter().map(row).collect(),
    );
}

fn row(node: &NodeInfo) -> Vec<Word> {
    let figures = &node.figures;
    vec![
        plain(if node.me { format!("{} *", node.node_id) } else { node.node_id.clone() }),
        plain(&node.region),
        health::status(node.status),
        plain(format!("{} ago", span(node.seen_ms_ago))),
        percent(figures.cache_hit_ratio),
        plain(format!("{:.1}", figures.reads_per_s)),
        plain(format!("{} of {}", figures.l1_cache_size, figures.l1_cache_max_size)),
        ms(figures.event_propagation_latency_ms),
        maybe(figures.lag_ms.map(span)),
        maybe(node.url.as_ref()),
        plain(&node.fingerprint),
    ]
}
