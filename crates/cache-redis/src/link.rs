//! One connection under supervision.
//!
//! The client keeps using a connection that answers nothing any more (a firewall that forgot it, a host that vanished).
//! So each link counts: two time-outs in a row, or an end of the stream, and it is broken; its lane opens another.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Cmd, RedisError, Value};
use tokio::task::{AbortHandle, JoinSet};

const TIMEOUTS_MAX: u32 = 2;

/// A connection that many commands share. Cheap to clone; closed when the last clone goes or it breaks.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
    timeouts: AtomicU32,
    driver: AbortHandle,
    /// Owns the task that moves bytes: it ends with the link.
    _tasks: JoinSet<()>,
}

impl Link {
    pub(crate) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let broken = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let ended = broken.clone();
        let driver = tasks.spawn(async move {
            driver.await;
            // Also noticed while nobody asks: the next caller finds a new connection.
            ended.store(true, Ordering::Release);
        });
        Self(Arc::new(Inner { connection, broken, timeouts: AtomicU32::new(0), driver, _tasks: tasks }))
    }

    /// The client's connection.
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.0.connection.clone()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Acquire)
    }

    /// Sends a command and waits for its answer, without a limit of time.
    pub(crate) async fn send(&self, cmd: &Cmd) -> Result<Value, RedisError> {
        let answer = match self.connection().send_packed_command(cmd).await {
            // Errors inside of lists do not occur in what is asked here; looking for them would copy each list.
            Ok(Value::ServerError(error)) => Err(error.into()),
            answer => answer,
        };
        match &answer {
            Err(error) if error.is_unrecoverable_error() => self.give_up(),
            // An error that the server sent is an answer.
            // Written only where it changes something: all callers share this line.
            _ if self.0.timeouts.load(Ordering::Relaxed) == 0 => {}
            _ => self.0.timeouts.store(0, Ordering::Relaxed),
        }
        answer
    }

    /// Notes that a command got no answer in time.
    pub(crate) fn timed_out(&self) {
        if self.0.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
            self.give_up();
        }
    }

    /// Ends the connection: all who wait for an answer learn it now.
    pub(crate) fn give_up(&self) {
        self.0.broken.store(true, Ordering::Release);
        self.0.driver.abort();
    }
}
