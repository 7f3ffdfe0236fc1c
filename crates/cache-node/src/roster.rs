//! Which nodes there are: each says who it is beside the log of what they share, and asks there who else did.

use std::sync::Arc;
use std::time::Duration;

use cache_api::operate::{NodeFigures, NodeInfo, Nodes};
use cache_bus::{Description, ROSTER_TTL, RosterRow};
use cache_events::hash64;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::{Backing, NodeConfig};
use crate::http::{App, rfc3339};

/// How often a node says who it is.
const EVERY: Duration = Duration::from_secs(2);
/// How long either question may take: who asks for the nodes must not hang where the shared tier does.
const WAIT: Duration = Duration::from_millis(500);
/// Of a longer reason why a node is not well only the beginning is told.
const ERROR_CHARS_MAX: usize = 500;

/// What was last heard, for when nobody can be asked.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// At this time of the node's clock.
    heard: Mutex<(u64, Vec<NodeInfo>)>,
}

/// Says who the node is until `shutdown`, and then that it leaves.
pub(crate) async fn keep(app: Arc<App>, shutdown: CancellationToken) {
    let (transport, node) = (app.shared().transport.clone(), app.config().identity.id.clone());
    let mut told = false;
    loop {
        match describe(&app.describe().await) {
            Some(description) => {
                let introduced = tokio::time::timeout(WAIT, transport.introduce(&node, Some(&description)));
                if let Ok(Err(error)) = introduced.await {
                    debug!(%error, "the other nodes are not told of this one");
                }
            }
            None if !std::mem::replace(&mut told, true) => {
                warn!("the other nodes are not told of this one: what there is to say is too long");
            }
            None => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    // Else the others think for a while that it is there.
    let _ = tokio::time::timeout(WAIT, transport.introduce(&node, None)).await;
}

fn describe(info: &NodeInfo) -> Option<Description> {
    Description::new(serde_json::to_vec(info).ok()?)
}

/// What a node said; nothing of what cannot be read, or of one that says it is another.
fn read(row: RosterRow) -> Option<NodeInfo> {
    let info: NodeInfo = serde_json::from_slice(&row.description).ok()?;
    (info.node_id == row.node.as_str()).then_some(NodeInfo { seen_ms_ago: row.age_ms, me: false, ..info })
}

impl App {
    /// This node, as it describes itself.
    pub(crate) async fn describe(&self) -> NodeInfo {
        let (config, cache) = (self.config(), self.cache());
        let (status, error) = self.condition(self.redis_answers().await, false);
        let spaces = cache.stats();
        let sum = |of: fn(&cache_tiered::NamespaceStats) -> u64| {
            spaces.iter().map(|(_, stats)| of(stats)).sum::<u64>()
        };
        let reads = sum(|stats| stats.reads);
        let hits = sum(|stats| stats.l1_hits + stats.l2_hits).min(reads);
        let current = self.recent().now(cache, self.connection_failures()).current(None, 0);
        let (view, now) = (cache.view(), cache.clock().now());
        let proofs = (0..view.partitions()).map(|number| view.fresh_as_of(cache_events::Partition(number)));
        let oldest = proofs.min().filter(|proven| *proven > 0);
        let propagation = cache.timings().propagation.quantile(0.5);
        NodeInfo {
            node_id: config.identity.id.to_string(),
            region: config.identity.region.clone(),
            datacenter: config.identity.datacenter.clone(),
            cache_tier: config.identity.cache_tier.map(|tier| tier.name().to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            url: self.url(),
            started_at: rfc3339(self.started_ms()).unwrap_or_default(),
            seen_ms_ago: 0,
            me: true,
            status,
            error: error.map(|error| error.chars().take(ERROR_CHARS_MAX).collect()),
            fingerprint: fingerprint(config),
            figures: NodeFigures {
                cache_hit_ratio: (reads > 0).then(|| hits as f64 / reads as f64),
                reads_per_s: current.reads_per_s,
                events_processed: view.counters().applied,
                l1_cache_size: sum(|stats| stats.l1_entries as u64),
                l1_cache_max_size: sum(|stats| stats.l1_entries_max as u64),
                event_queue_size: cache.health().outbox as u64,
                event_propagation_latency_ms: propagation.map(|took| took.as_secs_f64() * 1e3),
                lag_ms: oldest.map(|proven| now.saturating_sub(proven)),
            },
        }
    }

    /// All nodes that were heard of within the last half minute, and this one.
    pub(crate) async fn nodes(&self) -> Nodes {
        let me = self.describe().await;
        let asked = tokio::time::timeout(WAIT, self.shared().transport.roster()).await;
        let now = self.cache().clock().now();
        let mut heard = self.roster().heard.lock();
        if let Ok(Ok(rows)) = asked {
            *heard = (now, rows.into_iter().filter_map(read).collect());
        }
        let since = now.saturating_sub(heard.0);
        let others = heard
            .1
            .iter()
            .filter(|info| info.node_id != me.node_id)
            .map(|info| NodeInfo { seen_ms_ago: info.seen_ms_ago + since, ..info.clone() });
        let mut nodes: Vec<NodeInfo> =
            others.filter(|info| u128::from(info.seen_ms_ago) <= ROSTER_TTL.as_millis()).collect();
        drop(heard);
        nodes.push(me);
        nodes.sort_by(|a, b| (&a.region, &a.node_id).cmp(&(&b.region, &b.node_id)));
        Nodes { nodes }
    }
}

/// A digest of what nodes on one store must have in common: where two differ, one of them is misconfigured.
fn fingerprint(config: &NodeConfig) -> String {
    let mut facts = vec![format!("bound={:?}", config.bus.staleness_bound)];
    if let Backing::Redis(redis) = &config.backing {
        facts.push(format!("prefix={} partitions={}", redis.prefix, redis.partitions));
    }
    let mut types: Vec<String> = config
        .cache_types
        .iter()
        .map(|plan| {
            let settings = &plan.settings;
            format!(
                "{} json={} ttl={:?}..{:?} event_driven={} codec={:?} schema={} bound={:?}",
                settings.namespace,
                plan.free_json,
                settings.ttl,
                settings.ttl_max,
                settings.event_driven,
                settings.codec,
                settings.schema,
                settings.staleness_bound,
            )
        })
        .collect();
    types.sort();
    facts.extend(types);
    format!("{:016x}", hash64(facts.iter().map(String::as_bytes)))
}

/// Where a node that says nothing of it can be reached: where it listens, unless that is everywhere.
pub(crate) fn url_of(listener: std::net::SocketAddr, tls: bool) -> Option<String> {
    let scheme = if tls { "https" } else { "http" };
    (!listener.ip().is_unspecified()).then(|| format!("{scheme}://{listener}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_must_share_is_in_the_fingerprint_and_nothing_else() {
        let plain = NodeConfig::default();
        let mut other = plain.clone();
        other.identity.region = "elsewhere".into();
        other.cache_types[0].settings.l1_entries_max += 1;
        assert_eq!(fingerprint(&plain), fingerprint(&other));
        let mut ttl = plain.clone();
        ttl.cache_types[0].settings.ttl *= 2;
        let mut bound = plain.clone();
        bound.bus.staleness_bound *= 2;
        assert!(fingerprint(&plain) != fingerprint(&ttl) && fingerprint(&plain) != fingerprint(&bound));
    }

    #[test]
    fn who_listens_everywhere_is_nowhere_in_particular() {
        let address = |text: &str| text.parse().expect("an address");
        assert_eq!(url_of(address("127.0.0.1:80"), false).as_deref(), Some("http://127.0.0.1:80"));
        assert_eq!(url_of(address("[::1]:80"), true).as_deref(), Some("https://[::1]:80"));
        assert_eq!((url_of(address("0.0.0.0:80"), false), url_of(address("[::]:80"), false)), (None, None));
    }

    #[test]
    fn a_row_that_is_not_that_of_its_node_is_none() {
        let row = |node: &str, description: &str| RosterRow {
            node: cache_events::NodeId::new(node).expect("valid"),
            description: description.to_owned().into(),
            age_ms: 5,
        };
        let described = r#"{"node_id": "a", "region": "r", "datacenter": "d", "cache_tier": null, "version": "1",
            "url": null, "started_at": "", "seen_ms_ago": 0, "me": true, "status": "healthy", "error": null,
            "fingerprint": "", "figures": {"cache_hit_ratio": null, "reads_per_s": 0.0, "events_processed": 0,
            "l1_cache_size": 0, "l1_cache_max_size": 0, "event_queue_size": 0,
            "event_propagation_latency_ms": null, "lag_ms": null}, "later": true}"#;
        let found = read(row("a", described)).expect("its own, with what a later version adds");
        assert_eq!((found.me, found.seen_ms_ago), (false, 5));
        assert!(read(row("b", described)).is_none() && read(row("a", "{}")).is_none());
    }
}
