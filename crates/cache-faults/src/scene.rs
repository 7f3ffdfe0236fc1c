//! Rows that are a few steps in a fixed order, and what must be so after each.

pub(crate) mod backfill;
pub(crate) mod events;
pub(crate) mod loads;
pub(crate) mod parts;

use std::sync::Arc;

use cache_tiered::{CoarseClock, TieredCache};

use crate::deployment::{Setup, connected};
use crate::storm::{Seen, until};

/// What a scene has shown.
#[derive(Default)]
pub struct Scene {
    /// Over what.
    pub topology: &'static str,
    /// What was counted.
    pub seen: Seen,
    /// What was measured.
    pub figures: Vec<String>,
}

/// Nodes on servers, that nothing lies in front of, when they are live.
async fn cast(url: &str, names: &[&str], setup: &Setup) -> anyhow::Result<Vec<TieredCache>> {
    let nodes = names.iter().map(|name| connected(url, name, setup, Arc::new(CoarseClock::new())));
    let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
    until("the nodes are live", || nodes.iter().all(|node| node.health().live)).await?;
    Ok(nodes)
}

/// Stops nodes, and checks their inner order.
async fn dismiss(nodes: &[TieredCache]) {
    for node in nodes {
        node.validate();
        node.stop().await;
    }
}
