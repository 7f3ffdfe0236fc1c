//! A node's line to the server: the ports `Store` and `Transport` over messages that may be lost, late or answered by
//! somebody else than expected.
//!
//! It behaves as `cache-redis` does where that matters for coherence: each call has a time-out; a connection says hello
//! before it is used, and the epoch that the hello taught is what a plain read answers; nothing is sent twice unless the
//! engine does so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_events::{Partition, Position};
use cache_tiered::TieredCache;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::time::pass;
use crate::weather::{Fate, Way};
use crate::world::{Node, State, World};

/// One life of a node, connected.
pub(crate) struct Link {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    life: u64,
    /// The life of the server with which hellos were exchanged; 0 = none.
    connected: AtomicU64,
    epochs: Mutex<Vec<u64>>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing was done.
    NotDone,
    /// It may have been done.
    Unknown,
}

/// What a call is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) limit: Duration,
    /// On which connections.
    pub(crate) control: bool,
    /// It may be carried out after the caller has given up. Not so a plain put: order of arrival decides there, and a
    /// connection that has been given up is closed.
    pub(crate) posthumous: bool,
}

impl Call {
    /// On the data connections.
    pub(crate) fn data(name: &'static str) -> Self {
        Self { name, limit: Duration::from_millis(50), control: false, posthumous: true }
    }

    /// On the control connections.
    pub(crate) fn control(name: &'static str) -> Self {
        Self { name, limit: Duration::from_millis(400), control: true, posthumous: true }
    }
}

impl Link {
    pub(crate) fn new(world: Arc<World>, node: usize, life: u64) -> Arc<Self> {
        let epochs = Mutex::new(vec![0; world.plan.partitions as usize]);
        Arc::new(Self { world, node, life, connected: AtomicU64::new(0), epochs })
    }

    pub(crate) fn node(&self) -> &Node {
        &self.world.nodes[self.node]
    }

    /// The life that it served is over.
    pub(crate) fn is_dead(&self) -> bool {
        self.node().life() != self.life
    }

    /// Notes an epoch that an answer has shown.
    pub(crate) fn saw(&self, partition: Partition, epoch: u64) {
        let mut epochs = self.epochs.lock();
        let known = &mut epochs[partition.index()];
        *known = epoch.max(*known);
    }

    pub(crate) fn epoch(&self, partition: Partition) -> u64 {
        self.epochs.lock()[partition.index()]
    }

    /// Has the server do something, over a connection that has said hello.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State, u64) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        self.node().gate().await;
        self.connect().await?;
        self.send(call, work).await
    }

    /// Says hello where the connection is a new one.
    async fn connect(&self) -> Result<(), Fault> {
        let life = self.world.with(|state, _| state.server.life);
        if self.connected.load(Ordering::SeqCst) == life {
            return Ok(());
        }
        if mutated!("hello_skipped") {
            self.connected.store(life, Ordering::SeqCst);
            return Ok(());
        }
        let known = self.epochs.lock().clone();
        let hello = Call { name: "hello", limit: Duration::from_secs(1), ..Call::data("hello") };
        let said = self.send(hello, move |state, now| {
            let hello = |(number, epoch)| {
                let at = Position::new(epoch, 0);
                state.server.step(Partition(number), now, |part, step| part.hello(at, step)).epoch
            };
            let epochs: Vec<u64> = (0..).zip(known).map(hello).collect();
            (state.server.life, epochs)
        });
        // Whatever went wrong with the hello, the call itself was never sent.
        let (life, epochs) = said.await.map_err(|_| Fault::NotDone)?;
        (0..).zip(epochs).for_each(|(number, epoch)| self.saw(Partition(number), epoch));
        self.connected.store(life, Ordering::SeqCst);
        Ok(())
    }

    async fn send<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State, u64) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        if self.is_dead() {
            pass(1).await;
            return Err(Fault::NotDone);
        }
        let limit = call.limit.as_millis() as u64;
        let cut = call.control && self.world.with(|state, _| state.lines[self.node].control_cut > 0);
        let delay = match self.world.fate(self.node, Way::Out) {
            Fate::After(_) if cut => None,
            Fate::Refused => {
                pass(1).await;
                return Err(Fault::NotDone);
            }
            Fate::Lost => None,
            Fate::After(delay) => match self.world.perhaps_posthumous(delay, limit) {
                delay if delay >= limit && !call.posthumous => None,
                delay => Some(delay),
            },
        };
        let (answer, answered) = oneshot::channel();
        if let Some(delay) = delay {
            let (node, life) = (self.node, self.world.with(|state, _| state.server.life));
            let arrival = Arrival { node, life, name: call.name, work, answer };
            self.world.agenda.at(self.world.now() + delay, |world| arrival.arrive(world));
        }
        let outcome = tokio::time::timeout(call.limit, async {
            match answered.await {
                Ok(answer) => answer,
                // Nobody will answer, and nobody says so.
                Err(_) => std::future::pending().await,
            }
        });
        let outcome = outcome.await.unwrap_or(Err(Fault::Unknown));
        self.node().gate().await;
        if self.is_dead() { Err(Fault::Unknown) } else { outcome }
    }
}

/// A request on its way.
struct Arrival<T, W> {
    node: usize,
    /// The life of the server to which it was sent.
    life: u64,
    name: &'static str,
    work: W,
    answer: oneshot::Sender<Result<T, Fault>>,
}

impl<T, W> Arrival<T, W>
where
    T: Send + 'static,
    W: FnOnce(&mut State, u64) -> T + Send + 'static,
{
    fn arrive(self, world: &Arc<World>) {
        let Self { node, life, name, work, answer } = self;
        let (stopped_until, up, lives) =
            world.with(|state, _| (state.stopped_until, state.server.up, state.server.life));
        if world.now() < stopped_until {
            let again = Arrival { node, life, name, work, answer };
            world.agenda.at(stopped_until, |world| again.arrive(world));
            return;
        }
        let outcome = if up && lives == life {
            Ok(world.with(work))
        } else if lives == life || name == "hello" {
            Err(Fault::NotDone)
        } else {
            // The connection broke with the request under way.
            Err(Fault::Unknown)
        };
        world.note(|| {
            let done = match &outcome {
                Ok(_) => "done",
                Err(Fault::NotDone) => "refused",
                Err(Fault::Unknown) => "connection broken",
            };
            format!("{} {name}: {done}", world.nodes[node].id)
        });
        if let Fate::After(delay) = world.fate(node, Way::Back) {
            world.agenda.at(world.now() + delay, move |_| {
                // An error only says that the caller has given up.
                let _ = answer.send(outcome);
            });
        }
    }
}

/// Stops a cache whose node has died; its tasks find that nothing answers.
pub(crate) async fn bury(cache: TieredCache) {
    cache.stop().await;
}
