//! One connection under supervision.
//!
//! The client keeps using a connection that answers nothing any more (a firewall that forgot it, a host that vanished).
//! So each link counts: two time-outs in a row, or an end of the stream, and it is broken; its lane opens another.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{Cmd, Pipeline, RedisError, Value, cmd};
use cache_events::Partition;
use tokio::task::{AbortHandle, JoinSet};

use crate::topology::Endpoint;

const TIMEOUTS_MAX: u32 = 2;

/// A connection that many commands share. Cheap to clone; closed when the last clone goes or it breaks.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

/// Does not keep a link open.
pub(crate) struct WeakLink(Weak<Inner>);

struct Inner {
    connection: MultiplexedConnection,
    /// To whom.
    peer: Endpoint,
    /// Partitions to which this connection has said hello, where that is not all of them from the start.
    greeted: Box<[AtomicBool]>,
    broken: Arc<AtomicBool>,
    timeouts: AtomicU32,
    driver: AbortHandle,
    /// Owns the task that moves bytes: it ends with the link.
    _tasks: JoinSet<()>,
}

impl Link {
    pub(crate) fn new(
        peer: Endpoint,
        partitions: u32,
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
        let greeted = (0..partitions).map(|_| AtomicBool::new(false)).collect();
        let timeouts = AtomicU32::new(0);
        Self(Arc::new(Inner { connection, peer, greeted, broken, timeouts, driver, _tasks: tasks }))
    }

    pub(crate) fn downgrade(&self) -> WeakLink {
        WeakLink(Arc::downgrade(&self.0))
    }

    /// To whom it leads.
    pub(crate) fn peer(&self) -> &Endpoint {
        &self.0.peer
    }

    /// Whether it has said hello to a partition.
    pub(crate) fn has_greeted(&self, partition: Partition) -> bool {
        self.0.greeted[partition.index()].load(Ordering::Acquire)
    }

    /// Notes a hello, or that another one is due since the server does not have the partition any more.
    pub(crate) fn set_greeted(&self, partition: Partition, greeted: bool) {
        self.0.greeted[partition.index()].store(greeted, Ordering::Release);
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
        self.noted(match self.connection().send_packed_command(cmd).await {
            // Errors inside of lists do not occur in what is asked here; looking for them would copy each list.
            Ok(Value::ServerError(error)) => Err(error.into()),
            answer => answer,
        })
    }

    /// Sends a command right behind another one, in one packet, and waits for the answer to the second.
    pub(crate) async fn send_behind(&self, first: &'static str, second: &Cmd) -> Result<Value, RedisError> {
        let mut both = Pipeline::with_capacity(2);
        both.add_command(cmd(first)).add_command(second.clone());
        let answers = self.connection().send_packed_commands(&both, 1, 1).await;
        self.noted(match answers.map(|mut answers| answers.pop()) {
            Ok(Some(Value::ServerError(error))) => Err(error.into()),
            Ok(answer) => Ok(answer.unwrap_or(Value::Nil)),
            Err(error) => Err(error),
        })
    }

    fn noted(&self, answer: Result<Value, RedisError>) -> Result<Value, RedisError> {
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

impl WeakLink {
    /// The link, if somebody still has it and it works.
    pub(crate) fn upgrade(&self) -> Option<Link> {
        self.0.upgrade().map(Link).filter(|link| !link.is_broken())
    }
}
