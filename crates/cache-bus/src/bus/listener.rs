//! The task that keeps a subscription open and feeds its hints to the protocol.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Partition, Position};
use tokio::sync::watch;

use super::Shared;
use crate::protocol::Told;
use crate::{Hint, HintStream, TransportError};

/// A hint, read outside of the lock.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events; a box would cost an allocation for each"
)]
enum Heard {
    Event(Partition, Position, Told),
    Garbled,
    Overflow,
}

/// Subscribes again and again until told to stop.
pub(super) async fn run(shared: Arc<Shared>, seed: u64, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = stopped.wait_for(|&stop| stop) => {}
        () = listen(&shared, seed) => {}
    }
}

async fn listen(shared: &Shared, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 1);
    let config = &shared.config;
    let mut failures = 0_u32;
    loop {
        let attempt = tokio::time::timeout(config.sync_timeout, shared.transport.subscribe()).await;
        let wait = match attempt {
            Ok(Ok(stream)) => {
                failures = 0;
                shared.step(|heart, now| heart.protocol.subscribed(now));
                let why = drain(shared, stream).await;
                tracing::warn!(why, "the subscription to hints has ended");
                shared.step(|heart, now| heart.protocol.disconnected(now));
                config.retry_after
            }
            Ok(Err(TransportError::Fenced { message })) => {
                tracing::error!(message, "fenced off from the transport");
                shared.step(|heart, now| heart.protocol.fenced(now, message));
                config.fenced_retry
            }
            Ok(Err(error)) => {
                refused(shared, failures, &error.to_string());
                backed_off(config.retry_after, config.sync_interval, &mut failures)
            }
            Err(_) => {
                refused(shared, failures, "no answer in time");
                backed_off(config.retry_after, config.sync_interval, &mut failures)
            }
        };
        tokio::time::sleep(wait.mul_f64(0.9 + 0.2 * rng.f64())).await;
    }
}

/// Told once per outage, not once per attempt.
fn refused(shared: &Shared, failures: u32, why: &str) {
    if failures == 0 {
        tracing::warn!(why, "cannot subscribe to hints; trying until it works");
    }
    shared.step(|heart, now| heart.protocol.disconnected(now));
}

fn backed_off(first: Duration, most: Duration, failures: &mut u32) -> Duration {
    let wait = first.saturating_mul(1 << (*failures).min(16)).min(most);
    *failures = failures.saturating_add(1);
    wait
}

/// Takes what the stream has, up to a batch, and applies it under one lock. Returns why the stream ended.
async fn drain(shared: &Shared, mut stream: Box<dyn HintStream>) -> String {
    let mut batch = Vec::with_capacity(shared.config.hint_batch_max);
    loop {
        let mut next = Some(stream.next().await);
        let mut ended = None;
        while let Some(hint) = next.take() {
            match hint {
                Hint::Event { partition, position, payload } => {
                    batch.push(Heard::Event(partition, position, Told::of_hint(&payload)));
                }
                Hint::Garbled => batch.push(Heard::Garbled),
                Hint::Overflow => batch.push(Heard::Overflow),
                Hint::Closed(why) => {
                    ended = Some(why);
                    break;
                }
            }
            if batch.len() < shared.config.hint_batch_max {
                next = ready(&mut *stream).await;
            }
        }
        shared.step(|heart, now| {
            for heard in batch.drain(..) {
                match heard {
                    Heard::Event(partition, position, told) => {
                        heart.protocol.hint(now, partition, position, told);
                    }
                    Heard::Garbled => heart.protocol.garbled(now),
                    Heard::Overflow => heart.protocol.overflow(now),
                }
            }
        });
        if let Some(why) = ended {
            return why;
        }
    }
}

/// The next hint if there is one already.
async fn ready(stream: &mut dyn HintStream) -> Option<Hint> {
    tokio::select! {
        biased;
        hint = stream.next() => Some(hint),
        () = std::future::ready(()) => None,
    }
}
