//! How a subscription is opened: one attempt gets its time, and others beside it get the usual one.
//!
//! Two things can be wrong with an attempt that is not answered. The way may be slow (several round trips on a busy machine):
//! then giving it up and beginning anew comes to nothing, however often. Or the way is dead, and one that was begun later
//! would be answered at once. Nobody can tell which, so both are tried: the first attempt goes on for up to
//! [`PATIENCE`] times the sync timeout, and from the moment at which it is late there is a second one beside it, which is given
//! up and begun anew after each sync timeout. Whoever is first is taken, the other is dropped. Never are there more than two.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Shared;
use crate::{HintStream, TransportError};

/// An attempt to subscribe gets at most so many times the sync timeout.
const PATIENCE: u32 = 4;

/// What came of it.
pub(super) enum Opened {
    Stream(Box<dyn HintStream>),
    /// What the transport said.
    Failed(TransportError),
    /// No attempt was answered in time.
    Late,
}

impl Opened {
    fn of(answer: Result<Box<dyn HintStream>, TransportError>) -> Self {
        answer.map_or_else(Self::Failed, Self::Stream)
    }
}

/// Opens a subscription. `late` is called when the first attempt has taken longer than usual, `pause` says how long to wait
/// between two attempts.
pub(super) async fn open(
    shared: &Shared,
    late: impl FnOnce(),
    mut pause: impl FnMut() -> Duration,
) -> Opened {
    let usual = shared.config.sync_timeout;
    let mut patient = pin!(shared.transport.subscribe());
    if let Ok(answer) = timeout(usual, &mut patient).await {
        return Opened::of(answer);
    }
    late();
    let beside = async {
        loop {
            match timeout(usual, shared.transport.subscribe()).await {
                Ok(Ok(stream)) => return Opened::Stream(stream),
                Ok(Err(error @ TransportError::Fenced { .. })) => return Opened::Failed(error),
                // The patient one may still come to something.
                Ok(Err(_)) | Err(_) => sleep(pause()).await,
            }
        }
    };
    tokio::select! {
        biased;
        answer = patient => Opened::of(answer),
        opened = beside => opened,
        () = sleep(usual.saturating_mul(PATIENCE - 1)) => Opened::Late,
    }
}
