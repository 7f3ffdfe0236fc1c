//! What all namespaces of a node share: the store, the bus, the clock, the tasks.

use std::future::Future;
use std::sync::Arc;

use cache_bus::{Bus, Transport, View};
use cache_events::{CacheEvent, Clock, EventId, Namespace, NodeId, Partition, Position};
use cache_l1::{Fence, Pool};
use cache_l2::{LeaseToken, Store};
use std::collections::HashMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handlers::Handlers;
use crate::outbox::Outbox;
use crate::receive::Local;
use crate::settings::NodeSettings;
use crate::times::NodeTimes;
use crate::typed::AnySpace;

pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) settings: NodeSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Bus,
    /// What the auditor asks for the log.
    pub(crate) log: Arc<dyn Transport>,
    pub(crate) view: Arc<View>,
    pub(crate) fence: Arc<Fence>,
    /// What the L1 of all namespaces is within, if the node has a bound.
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) local: Arc<Local>,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) times: Arc<NodeTimes>,
    pub(crate) spaces: HashMap<Namespace, Arc<dyn AnySpace>>,
    pub(crate) outbox: Outbox,
    pub(crate) outbox_filled: Notify,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Core {
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.fence.partitions()).map(Partition)
    }

    /// This node's place in the log of a partition.
    pub(crate) fn cursor(&self, partition: Partition) -> Position {
        self.view.position(partition)
    }

    /// The store's clock, as well as this node knows it, in Unix milliseconds.
    pub(crate) fn server_now(&self) -> u64 {
        self.view.server_now(self.clock.wall())
    }

    /// Milliseconds since freshness was last proven; saturates when it never was.
    #[inline]
    pub(crate) fn unproven_for(&self, partition: Partition, load_start: u64, now: u64) -> u64 {
        match self.view.fresh_as_of(partition).max(load_start) {
            0 => u64::MAX,
            proven => now.saturating_sub(proven),
        }
    }

    pub(crate) fn event_id(&self) -> EventId {
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        EventId::from_parts(self.clock.wall(), random)
    }

    pub(crate) fn lease_token() -> LeaseToken {
        LeaseToken(fastrand::u128(..).to_be_bytes())
    }

    /// The JSON for the public channel, if that is switched on and the event is to be heard.
    pub(crate) fn public_json(&self, event: &CacheEvent) -> Option<String> {
        if !self.settings.public_channel || !event.announce {
            return None;
        }
        serde_json::to_string(event).ok()
    }

    /// Runs a task that [`stop`](Core::stop) waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Stops the bus and all tasks, and waits for them. Loads under way are finished.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.bus.stop().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}
