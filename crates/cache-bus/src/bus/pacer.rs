//! The task that runs the timers and the syncs.

use std::sync::Arc;
use std::time::Duration;

use cache_events::Partition;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Shared;
use crate::TransportError;
use crate::protocol::{Answer, SyncOrder};

/// Longest sleep between two looks at the logical clock, which may run ahead of the runtime's (a machine wakes up, a
/// test moves it).
const LOOK_MS: u64 = 50;

/// Ticks and syncs until told to stop.
pub(super) async fn run(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut syncs = JoinSet::new();
    tokio::select! {
        biased;
        _ = stopped.wait_for(|&stop| stop) => {}
        () = pace(&shared, &mut syncs) => {}
    }
    syncs.shutdown().await;
}

async fn pace(shared: &Arc<Shared>, syncs: &mut JoinSet<()>) {
    let mut rebase = tokio::time::interval(shared.config.sync_interval);
    rebase.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (orders, sleep) = shared.step(|heart, now| {
            heart.protocol.tick(now);
            (std::mem::take(&mut heart.orders), heart.protocol.wake_at().saturating_sub(now))
        });
        for order in orders {
            syncs.spawn(sync(Arc::clone(shared), order));
        }
        tokio::select! {
            // In a fixed order, so that a simulation can be repeated; the rare one first, so that none starves.
            biased;
            _ = rebase.tick() => shared.clock.rebase(),
            () = shared.wake.notified() => {}
            Some(_) = syncs.join_next() => {}
            () = tokio::time::sleep(Duration::from_millis(sleep.clamp(1, LOOK_MS))) => {}
        }
    }
}

/// Asks the log once and gives the protocol what it said.
async fn sync(shared: Arc<Shared>, order: SyncOrder) {
    let SyncOrder { partition, at, id } = order;
    let sent = shared.clock.now();
    let asked = shared.transport.sync(partition, &shared.node, at, shared.config.sync_entries_max);
    match tokio::time::timeout(shared.config.sync_timeout, asked).await {
        Ok(Ok(answer)) => {
            let (came, wall, server_ms) = (shared.clock.now(), shared.clock.wall(), answer.server_ms);
            let answer = Answer::of(answer);
            shared.step(|heart, now| {
                let offset = heart.offset.note(came, came.saturating_sub(sent), wall, server_ms);
                shared.view.publish_offset(offset);
                heart.protocol.answered(now, partition, id, sent, answer);
            });
        }
        Ok(Err(TransportError::Fenced { message })) => failed(&shared, partition, id, Some(message)),
        Ok(Err(error)) => {
            tracing::debug!(%partition, %error, "a sync failed");
            failed(&shared, partition, id, None);
        }
        Err(_) => {
            tracing::debug!(%partition, "a sync was not answered in time");
            failed(&shared, partition, id, None);
        }
    }
}

fn failed(shared: &Shared, partition: Partition, id: u64, fenced: Option<String>) {
    shared.step(|heart, now| heart.protocol.failed(now, partition, id, fenced));
}
