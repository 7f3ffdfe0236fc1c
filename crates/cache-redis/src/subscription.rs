//! Hints of one server: a connection of its own, on which Redis pushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bb8_redis::redis::{self, PushInfo, PushKind};
use bytes::Bytes;
use cache_bus::{Hint, HintStream};
use cache_events::{Partition, wire};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::dial::{Dialer, Pushed, Target};
use crate::fault::Fault;
use crate::link::Link;

/// How often the connection must prove that it is alive, and how long it has for it: a half-open one pushes nothing and
/// looks like a quiet one.
const PING_EVERY: Duration = Duration::from_secs(1);

/// The receiving end of a subscription. Dropping it closes the connection.
pub(crate) struct Subscription {
    hints: mpsc::Receiver<Bytes>,
    ended: mpsc::Receiver<String>,
    overflowed: Arc<AtomicBool>,
    closed: bool,
    _link: Link,
    _tasks: JoinSet<()>,
}

impl Subscription {
    /// Opens it; when this returns, the server has confirmed every channel.
    pub(crate) async fn open(dialer: &Dialer) -> Result<Self, Fault> {
        let (push, hints) = mpsc::channel(dialer.config.hints_max);
        let (end, ended) = mpsc::channel(1);
        let overflowed = Arc::new(AtomicBool::new(false));
        let (dropped, pushed_end) = (overflowed.clone(), end.clone());
        // Both are called by the task that reads the socket: they never wait.
        let sink = move |payload: Bytes| {
            if let Err(mpsc::error::TrySendError::Full(_)) = push.try_send(payload) {
                dropped.store(true, Ordering::Release);
            }
        };
        let told = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                // One reason is enough.
                let _ = pushed_end.try_send("the connection was closed".to_owned());
            }
        };
        let server = Target::Node(dialer.config.endpoint());
        let pushed = Pushed { hints: Some(Arc::new(sink)), told: Arc::new(told) };
        let link = dialer.dial(&server, Some(pushed)).await?;
        let channels: Vec<String> = (0..dialer.layout.partitions())
            .map(|p| dialer.layout.part(Partition(p)).channel.clone())
            .collect();
        let wait = dialer.config.connect_timeout;
        match timeout(wait, link.connection().subscribe(channels)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Fault::of_connecting(&error).while_doing("SUBSCRIBE")),
            Err(_) => {
                return Err(Fault::NotDone(format!("SUBSCRIBE: no answer within {} ms", wait.as_millis())));
            }
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(link.clone(), end));
        Ok(Self { hints, ended, overflowed, closed: false, _link: link, _tasks: tasks })
    }
}

/// Pings until there is no answer.
async fn watch(link: Link, end: mpsc::Sender<String>) {
    let ping = redis::cmd("PING");
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let reason = match timeout(PING_EVERY, link.send(&ping)).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer to PING within {} ms", PING_EVERY.as_millis()),
        };
        link.give_up();
        let _ = end.try_send(reason);
        return;
    }
}

#[async_trait]
impl HintStream for Subscription {
    async fn next(&mut self) -> Hint {
        if self.closed {
            std::future::pending::<()>().await;
        }
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Hint::Overflow;
        }
        tokio::select! {
            biased;
            Some(bytes) = self.hints.recv() => hint(&bytes),
            reason = self.ended.recv() => {
                self.closed = true;
                Hint::Closed(reason.unwrap_or_else(|| "the connection was closed".to_owned()))
            }
        }
    }

    fn ready(&mut self) -> Option<Hint> {
        if self.closed {
            return None;
        }
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Some(Hint::Overflow);
        }
        self.hints.try_recv().ok().map(|bytes| hint(&bytes))
    }
}

pub(crate) fn hint(bytes: &Bytes) -> Hint {
    match wire::decode_hint(bytes) {
        Ok((partition, position, envelope)) => {
            Hint::Event { partition, position, payload: bytes.slice_ref(envelope) }
        }
        Err(_) => Hint::Garbled,
    }
}
