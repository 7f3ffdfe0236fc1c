//! The task that keeps a subscription open and feeds its hints to the protocol.

use std::sync::Arc;
use std::time::Duration;

use cache_events::{Partition, Position};
use tokio::sync::watch;

use super::Shared;
use super::backlog::{Backlog, Came, Waiting};
use super::opening::{Opened, open};
use crate::protocol::Told;
use crate::{Hint, HintStream, TransportError, Turn};

/// A hint, read outside of the lock.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events; a box would cost an allocation for each"
)]
enum Heard {
    Event(Partition, Position, Told),
    Garbled,
    Overflow,
    /// Whether hints of a partition arrive from here on.
    Arrive(Partition, bool),
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
        let first = failures == 0;
        let late = || refused(shared, first, "no answer in time");
        let wait = match open(shared, late, || jittered(config.retry_after, &mut rng)).await {
            Opened::Stream(stream) => {
                failures = 0;
                shared.step(|heart, now| heart.protocol.subscribed(now));
                let why = drain(shared, stream).await;
                tracing::warn!(why, "the subscription to hints has ended");
                shared.step(|heart, now| heart.protocol.disconnected(now));
                config.retry_after
            }
            Opened::Failed(TransportError::Fenced { message }) => {
                tracing::error!(message, "fenced off from the transport");
                shared.step(|heart, now| heart.protocol.fenced(now, message));
                config.fenced_retry
            }
            Opened::Failed(error) => {
                refused(shared, first, &error.to_string());
                backed_off(config.retry_after, config.sync_interval, &mut failures)
            }
            Opened::Late => {
                failures = failures.saturating_add(1);
                // The attempts were the wait: the transport has had its rest, and a node that waits is not heard.
                config.retry_after
            }
        };
        tokio::time::sleep(jittered(wait, &mut rng)).await;
    }
}

fn jittered(wait: Duration, rng: &mut fastrand::Rng) -> Duration {
    wait.mul_f64(0.9 + 0.2 * rng.f64())
}

/// Told once per outage, not once per attempt.
fn refused(shared: &Shared, first: bool, why: &str) {
    if first {
        tracing::warn!(why, "cannot subscribe to hints; trying until it works");
    }
    shared.step(|heart, now| heart.protocol.disconnected(now));
}

fn backed_off(first: Duration, most: Duration, failures: &mut u32) -> Duration {
    let wait = first.saturating_mul(1 << (*failures).min(16)).min(most);
    *failures = failures.saturating_add(1);
    wait
}

/// Takes what the stream has, up to a batch, and applies it under one lock; beyond a batch it is a [`Backlog`]. Returns
/// why the stream ended.
async fn drain(shared: &Shared, mut stream: Box<dyn HintStream>) -> String {
    let max = shared.config.hint_batch_max;
    let mut batch = Vec::with_capacity(max);
    let mut backlog = Backlog::new(shared.config.hints_waiting_max);
    let mut arrived = Vec::new();
    let mut ended = None;
    loop {
        if backlog.is_empty() && ended.is_none() {
            let mut next = Some(stream.next().await);
            while let Some(hint) = next.take() {
                match Heard::of(hint) {
                    Ok(heard) => batch.push(heard),
                    Err(why) => {
                        ended = Some(why);
                        break;
                    }
                }
                if batch.len() < max {
                    next = stream.ready();
                }
            }
        } else {
            // Time for the others, since nothing here waits.
            tokio::task::yield_now().await;
        }
        if batch.len() >= max || !backlog.is_empty() {
            // No more than may wait, so that it ends even if the stream does not.
            for _ in 0..shared.config.hints_waiting_max {
                if ended.is_some() {
                    break;
                }
                match stream.ready().map(Heard::of) {
                    None => break,
                    Some(Err(why)) => ended = Some(why),
                    Some(Ok(Heard::Event(partition, position, told))) => {
                        let turn = match &told {
                            Told::Event(event) | Told::Update(event, _) => shared.receiver.turn(event),
                            // The log is asked for it anyway.
                            Told::Marker | Told::Unreadable => Turn::First,
                        };
                        let came = backlog.push(partition, position, told, turn);
                        arrived.push((partition, position, came));
                    }
                    Some(Ok(heard)) => batch.push(heard),
                }
            }
        }
        shared.step(|heart, now| {
            let protocol = &mut heart.protocol;
            for heard in batch.drain(..) {
                match heard {
                    Heard::Event(partition, position, told) => protocol.hint(now, partition, position, told),
                    Heard::Garbled => protocol.garbled(now),
                    Heard::Overflow => protocol.overflow(now),
                    Heard::Arrive(partition, true) => protocol.heard(now, partition),
                    Heard::Arrive(partition, false) => protocol.unheard(now, partition),
                }
            }
            for (partition, position, came) in arrived.drain(..) {
                protocol.arrived(now, partition, position);
                if let Came::Dropped(partition) = came {
                    protocol.dropped(now, partition);
                }
            }
            for Waiting { partition, position, told, covers } in
                std::iter::from_fn(|| backlog.pop()).take(max)
            {
                protocol.hint_in_turn(now, partition, position, told);
                for covered in covers {
                    protocol.covered(now, partition, covered);
                }
            }
        });
        if backlog.is_empty()
            && let Some(why) = ended
        {
            return why;
        }
    }
}

impl Heard {
    /// Reads a hint. `Err`: the stream has ended, for this reason.
    fn of(hint: Hint) -> Result<Self, String> {
        match hint {
            Hint::Event { partition, position, payload } => {
                Ok(Self::Event(partition, position, Told::of_hint(&payload)))
            }
            Hint::Garbled => Ok(Self::Garbled),
            Hint::Overflow => Ok(Self::Overflow),
            Hint::Unheard(partition) => Ok(Self::Arrive(partition, false)),
            Hint::Heard(partition) => Ok(Self::Arrive(partition, true)),
            Hint::Closed(why) => Err(why),
        }
    }
}
