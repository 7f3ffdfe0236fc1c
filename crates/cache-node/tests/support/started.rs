//! A node in this process, and the time that tests have. The tests of `cachectl` use this file too.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cache_node::config::{NodeConfig, Sources, load};
use cache_node::node::Node;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Long enough for anything on a busy machine; a test that waits so long fails.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Reads the time, for limits and for measuring.
#[expect(clippy::disallowed_methods, reason = "the test itself measures")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}

/// The configuration of a node that listens somewhere on loopback, and has a market of its own unless that is named.
pub(crate) fn configured(env: &[(&str, &str)], file: Option<PathBuf>) -> NodeConfig {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flags = vec![
        ("listen", "--listen", "127.0.0.1:0".to_owned()),
        ("database.allow_private_ledger", "--allow-private-ledger", "true".to_owned()),
    ];
    load(&Sources { file, env, flags }).expect("right")
}

/// A node that serves. Ends with this value.
pub(crate) struct Started {
    pub(crate) runtime: Runtime,
    /// Where it listens, as if in the clear.
    pub(crate) url: String,
    shutdown: CancellationToken,
    served: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Started {
    /// Also gives what is to be kept of the node once it serves.
    pub(crate) fn keeping<T>(
        starting: impl Future<Output = anyhow::Result<Node>>,
        keep: impl FnOnce(&Node) -> T,
    ) -> (Self, T) {
        let runtime = Runtime::new().expect("a runtime");
        let shutdown = CancellationToken::new();
        let node = runtime.block_on(starting).expect("it starts");
        let url = format!("http://{}", node.address().expect("an address"));
        let kept = keep(&node);
        let served = Some(runtime.spawn(node.serve(shutdown.clone())));
        (Self { runtime, url, shutdown, served }, kept)
    }

    /// Tells it to stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits for its end.
    pub(crate) fn until_ended(&mut self) {
        let Some(served) = self.served.take() else { return };
        let ended = self.runtime.block_on(async { tokio::time::timeout(LONG, served).await });
        if !std::thread::panicking() {
            ended.expect("in time").expect("no panic").expect("no error");
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop();
        self.until_ended();
    }
}
