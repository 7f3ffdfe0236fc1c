//! The async shell around the protocol: subscription, syncs, timers.
//!
//! Two tasks. The *listener* keeps a subscription open and feeds hints in batches; the *pacer* runs the timers and
//! the syncs. Both step the [`Protocol`] under one short lock and carry out its actions there. Envelopes are decoded
//! before the lock is taken.

mod backlog;
mod listener;
mod opening;
mod pacer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cache_events::{Clock, NodeId, Partition, Position};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::config::{BusConfig, BusConfigError};
use crate::offset::OffsetEstimate;
use crate::protocol::{Action, Protocol, SyncOrder};
use crate::{Receiver, State, Transport, View};

/// One node's end of the invalidation bus.
///
/// Dropping it aborts its tasks; [`stop`](Self::stop) also waits for them.
pub struct Bus {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

/// How the bus is, for diagnostics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusHealth {
    /// What the transport is.
    pub transport: &'static str,
    /// Whether a subscription is in force.
    pub subscribed: bool,
    /// Each partition, in order.
    pub partitions: Vec<PartitionHealth>,
    /// Milliseconds since the last event was applied, own or another's; `None` before the first.
    pub last_event_age_ms: Option<u64>,
    /// In what this deployment and the transport disagree, while they do.
    pub fenced: Option<String>,
}

/// How one partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionHealth {
    /// Epoch and cursor.
    pub position: Position,
    /// How it stands with its log.
    pub state: State,
    /// Milliseconds since the last complete sync was sent; `None` before the first.
    pub fresh_age_ms: Option<u64>,
}

/// What the tasks and the handle share.
struct Shared {
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    node: NodeId,
    receiver: Arc<dyn Receiver>,
    config: BusConfig,
    view: Arc<View>,
    heart: Mutex<Heart>,
    /// Syncs were ordered, or the next tick may have moved.
    wake: Notify,
    /// A cursor or a completed sync was published.
    moved: Notify,
}

struct Heart {
    protocol: Protocol,
    orders: Vec<SyncOrder>,
    offset: OffsetEstimate,
}

impl Bus {
    /// Starts the tasks; works while the transport is down and joins when it comes. Needs a tokio runtime with
    /// timers.
    ///
    /// # Errors
    /// Every rule that the configuration breaks.
    pub fn start(
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        node: NodeId,
        receiver: Arc<dyn Receiver>,
        config: BusConfig,
    ) -> Result<Self, Vec<BusConfigError>> {
        config.check()?;
        let partitions = transport.partitions();
        let now = clock.now();
        // Jitter only has to differ between nodes.
        let seed = cache_events::hash64([node.as_str().as_bytes(), &now.to_be_bytes()[..]]);
        let heart = Heart {
            protocol: Protocol::new(partitions, &config, seed, now),
            orders: Vec::new(),
            offset: OffsetEstimate::default(),
        };
        let shared = Arc::new(Shared {
            view: Arc::new(View::new(partitions)),
            heart: Mutex::new(heart),
            wake: Notify::new(),
            moved: Notify::new(),
            transport,
            clock,
            node,
            receiver,
            config,
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener::run(Arc::clone(&shared), seed, stopped.clone()));
        tasks.spawn(pacer::run(Arc::clone(&shared), stopped));
        Ok(Self { shared, tasks: Mutex::new(tasks), stop })
    }

    /// Where each partition stands.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.view)
    }

    /// This node's own write was acknowledged at this position, and its event was applied here already: the hint
    /// that will come says nothing new. Never waits and causes no sync.
    pub fn wrote(&self, partition: Partition, position: Position) {
        self.shared.step(|heart, now| heart.protocol.wrote(now, partition, position));
    }

    /// Proves the partition fresh with a sync that is sent after this call; calls that come together share one.
    /// Returns whether that succeeded in time. Cancel safe.
    pub async fn sync(&self, partition: Partition, within: Duration) -> bool {
        let ticket = self.shared.step(|heart, now| heart.protocol.request_sync(now, partition));
        let view = &self.shared.view;
        self.wait(within, || view.completed(partition) >= ticket && view.fresh_as_of(partition) > 0).await
    }

    /// Whether everything up to the position was applied here or flushed past, as a sync shows that is sent after this
    /// call, unless it is known. `false` also where that did not succeed in time. Cancel safe.
    pub async fn shows(&self, partition: Partition, position: Position, within: Duration) -> bool {
        let view = &self.shared.view;
        if view.shows(partition, position) {
            return true;
        }
        if !self.sync(partition, within).await {
            return false;
        }
        if view.epoch(partition) > position.epoch {
            view.remember_over(partition, position.epoch);
        }
        view.shows(partition, position)
    }

    /// Waits until everything up to the position was applied or flushed past (as it is when the epoch has moved
    /// on, which is asked of the log once). Returns whether that came in time. Cancel safe.
    pub async fn reached(&self, partition: Partition, position: Position, within: Duration) -> bool {
        let view = &self.shared.view;
        let reached = async {
            loop {
                self.until(|| view.shows(partition, position) || view.epoch(partition) > position.epoch)
                    .await;
                // A sync that does not succeed takes all the time there is.
                if self.shows(partition, position, within).await {
                    return;
                }
            }
        };
        view.shows(partition, position) || tokio::time::timeout(within, reached).await.is_ok()
    }

    /// How the bus is.
    pub fn health(&self) -> BusHealth {
        let (view, now) = (&self.shared.view, self.shared.clock.now());
        let age = |at: u64| (at > 0).then(|| now.saturating_sub(at));
        let partition = |number| {
            let partition = Partition(number);
            PartitionHealth {
                position: view.position(partition),
                state: view.state(partition),
                fresh_age_ms: age(view.fresh_as_of(partition)),
            }
        };
        BusHealth {
            transport: self.shared.transport.kind(),
            subscribed: view.subscribed(),
            partitions: (0..view.partitions()).map(partition).collect(),
            last_event_age_ms: age(view.counters().last_event_at),
            fenced: view.fenced(),
        }
    }

    /// Stops the tasks and waits for them. The view stays readable and ages. Cancel safe; a second call returns at
    /// once.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the bus did not end well");
            }
        }
    }

    async fn wait(&self, within: Duration, done: impl Fn() -> bool) -> bool {
        done() || tokio::time::timeout(within, self.until(done)).await.is_ok()
    }

    async fn until(&self, done: impl Fn() -> bool) {
        loop {
            let moved = self.shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if done() {
                return;
            }
            moved.await;
        }
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

impl Shared {
    /// Gives the protocol its inputs and carries out what comes of them, under the lock.
    fn step<T>(&self, inputs: impl FnOnce(&mut Heart, u64) -> T) -> T {
        let mut heart = self.heart.lock();
        let heart = &mut *heart;
        // Under the lock, so that the protocol sees time in order.
        let now = self.clock.now();
        let result = inputs(heart, now);
        let mut moved = false;
        while let Some(action) = heart.protocol.next_action() {
            match action {
                Action::Sync(order) => heart.orders.push(order),
                Action::Publish { partition, standing } => {
                    let told = || self.receiver.stands(partition, standing.position);
                    self.guarded(&mut heart.protocol, now, partition, told);
                    self.view.publish(partition, &standing);
                    moved = true;
                }
                Action::Apply { partition, position, event, first, cargo } => {
                    let told = || match &cargo {
                        Some(cargo) => self.receiver.update(partition, position, &event, cargo, first),
                        None => self.receiver.apply(partition, position, &event, first),
                    };
                    self.guarded(&mut heart.protocol, now, partition, told);
                }
                Action::Flush { partition, epoch, groups, cause } => {
                    let told = || self.receiver.flush(partition, epoch, &groups, cause);
                    self.guarded(&mut heart.protocol, now, partition, told);
                }
            }
        }
        let protocol = &heart.protocol;
        self.view.publish_counters(protocol.counters());
        self.view.publish_link(protocol.is_subscribed(), protocol.fenced_why());
        if moved {
            self.moved.notify_waiters();
        }
        if !heart.orders.is_empty() {
            self.wake.notify_one();
        }
        result
    }

    /// A receiver that panics must neither take the bus down nor leave a hole behind a cursor.
    fn guarded(&self, protocol: &mut Protocol, now: u64, partition: Partition, told: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(told)).is_err() {
            tracing::error!(%partition, "the receiver of the bus panicked; its partition will be flushed");
            protocol.distrust(now, partition);
        }
    }
}
