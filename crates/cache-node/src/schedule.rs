//! What happens in the market without anybody's doing: bookings begin and end, and leave the figures of 24 hours.

use std::time::Duration;

use cache_marketplace::Marketplace;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How late such a change may be noticed.
const EVERY: Duration = Duration::from_secs(1);

/// Lets time pass in the ledger until `shutdown`, and announces what comes of it. Every node does so: who comes second
/// finds nothing left to do.
pub(crate) async fn run(market: Marketplace, shutdown: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        match market.pass_time().await {
            Ok(made) => {
                failing = false;
                if !made.outcome.is_empty() {
                    debug!(changes = made.outcome.len(), published = made.published, "time has passed");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "bookings do not begin and end on time");
                }
            }
        }
    }
}
