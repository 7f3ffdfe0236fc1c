//! The nodes of a run as whole nodes, with HTTP and the dashboard, for who wants to look on.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use cache_marketplace::{Ledger, Marketplace};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::propagation::Watch;
use crate::assembly::Shared;
use crate::config::{self, Sources};
use crate::node::Node;

/// The first node listens here if it can, the next ones above.
const PORT: u16 = 8080;

/// Nodes that serve. They end with this value.
#[derive(Default)]
pub(crate) struct Served {
    urls: Vec<(String, String)>,
    serving: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

impl Served {
    /// Starts a node on what the run shares, and gives its marketplace.
    #[expect(clippy::too_many_arguments, reason = "what a node is made of, from one caller")]
    pub(crate) async fn start(
        &mut self,
        name: &str,
        region: &str,
        index: usize,
        l1_entries: usize,
        shared: Shared,
        ledger: Arc<dyn Ledger>,
        watch: Arc<Watch>,
    ) -> anyhow::Result<Marketplace> {
        let entries = l1_entries.to_string();
        let env = [("EDGE_NODE_ID", name), ("EDGE_NODE_REGION", region), ("CACHE_L1_SIZE", &entries)];
        let sources = Sources {
            file: None,
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            flags: vec![("listen", "--listen", address(index))],
        };
        let node = Node::start_among(config::load(&sources)?, shared, ledger, watch).await?;
        self.urls.push((name.to_owned(), format!("http://{}/ui/", node.address()?)));
        let market = node.market().clone();
        self.serving.spawn(node.serve(self.shutdown.clone()));
        Ok(market)
    }

    /// The dashboards, by name of the node.
    pub(crate) fn urls(&self) -> &[(String, String)] {
        &self.urls
    }

    /// Stops the nodes, with their caches.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.serving.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("a node failed: {error:#}"),
                Err(error) => eprintln!("a node failed: {error}"),
            }
        }
    }
}

/// A port of its own on this machine: the same ones each time, so that a tab stays right, or any where they are taken.
fn address(index: usize) -> String {
    let wished = u16::try_from(index).ok().and_then(|index| PORT.checked_add(index)).unwrap_or(0);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, wished)).is_ok();
    format!("127.0.0.1:{}", if free { wished } else { 0 })
}
