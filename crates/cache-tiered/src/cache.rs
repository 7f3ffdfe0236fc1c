//! Putting a cache together, and what concerns all of its namespaces.

use std::any::type_name;
use std::sync::Arc;
use std::time::Duration;

use cache_bus::{Bus, BusConfig, Receiver, State, Transport, View};
use cache_events::{Clock, EventKind, Key, Namespace, NodeId, Partition, Position, Scope, WriteToken};
use cache_l1::{BoxedFamily, Fence, Pool};
use cache_l2::Store;
use std::collections::HashMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Written;
use crate::audit::{self, Audit, AuditSource, Violation};
use crate::coarse_clock::CoarseClock;
use crate::core::Core;
use crate::error::{BuildError, NamespaceError, WriteError};
use crate::event_draft::EventDraft;
use crate::handlers::{EventHandler, Handlers, Notice};
use crate::json::JsonCache;
use crate::outbox::{self, Outbox};
use crate::patch::{Deltas, Patch};
use crate::receive::{Local, Observer};
use crate::settings::{NamespaceSettings, NodeSettings, Updates};
use crate::space::{Cacheable, Space};
use crate::stats::NamespaceStats;
use crate::times::{NodeTimes, SpaceTimes, Timings};
use crate::typed::{AnySpace, TypedCache};
use crate::updates::Patcher;

/// Makes the eviction policies of one namespace's L1, which holds so many entries at most.
pub type PolicyFactory = Arc<dyn Fn(usize) -> BoxedFamily + Send + Sync>;

/// How often expired entries are removed from L1.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

type SpaceMaker = Box<
    dyn FnOnce(Arc<Fence>, &PolicyFactory, Option<&Arc<Pool>>, Option<Audit>) -> Option<Arc<dyn AnySpace>>
        + Send,
>;

/// Collects the parts of a [`TieredCache`].
#[must_use]
pub struct Builder {
    node: NodeId,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    policy: PolicyFactory,
    clock: Option<Arc<dyn Clock>>,
    settings: NodeSettings,
    bus: BusConfig,
    spaces: Vec<(NamespaceSettings, SpaceMaker)>,
    handlers: HashMap<EventKind, Vec<EventHandler>>,
    observers: Vec<Arc<dyn Observer>>,
    audit_sources: HashMap<Namespace, Arc<dyn AuditSource>>,
}

impl Builder {
    /// Another clock than the machine's (for tests and simulations).
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Rules of the node.
    pub fn settings(mut self, settings: NodeSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Times and limits of the bus.
    pub fn bus(mut self, bus: BusConfig) -> Self {
        self.bus = bus;
        self
    }

    /// Declares a namespace and the type of its values.
    pub fn namespace<V: Cacheable>(self, settings: NamespaceSettings) -> Self {
        self.declare::<V>(settings, None)
    }

    /// Declares a namespace whose values are changed by deltas: [`Updates::Delta`], whatever the settings say.
    pub fn namespace_of_deltas<V: Patch>(self, mut settings: NamespaceSettings) -> Self {
        settings.updates = Updates::Delta;
        let deltas = Deltas::<V>::new(&settings);
        self.declare::<V>(settings, Some(Box::new(deltas)))
    }

    fn declare<V: Cacheable>(
        mut self,
        settings: NamespaceSettings,
        patcher: Option<Box<dyn Patcher<V>>>,
    ) -> Self {
        let mut declared = settings.clone();
        if patcher.is_some() {
            // Told apart from one that asks for deltas and has none.
            declared.updates = Updates::Value;
        }
        let make = move |fence: Arc<Fence>,
                         policy: &PolicyFactory,
                         pool: Option<&Arc<Pool>>,
                         audit: Option<Audit>| {
            Space::<V>::new(settings, fence, policy, pool, patcher, audit)
                .map(|space| space as Arc<dyn AnySpace>)
        };
        self.spaces.push((declared, Box::new(make)));
        self
    }

    /// Registers a handler for a kind of event.
    pub fn on(mut self, kind: EventKind, handler: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.handlers.entry(kind).or_default().push(Arc::new(handler));
        self
    }

    /// Watches what is applied; beside those that were given before.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// The system of record of a namespace, which the [auditor](NodeSettings::audit) asks about the keys that it watches.
    pub fn audit_source(mut self, namespace: Namespace, source: Arc<dyn AuditSource>) -> Self {
        self.audit_sources.insert(namespace, source);
        self
    }

    /// Starts the cache: its bus and its tasks, on the current tokio runtime. Does not wait for the store: a cache
    /// whose store is away starts degraded and joins when it comes.
    ///
    /// # Errors
    /// [`BuildError`] if settings contradict each other.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(mut self) -> Result<TieredCache, BuildError> {
        if self.store.partitions() != self.transport.partitions() {
            let (store, transport) = (self.store.partitions(), self.transport.partitions());
            let message = format!("the store has {store} partitions, the transport {transport}");
            return Err(BuildError::Setting(message));
        }
        let fence = Arc::new(Fence::new(self.store.partitions()));
        let pool = self.settings.l1_bytes_max.map(|bytes| Arc::new(Pool::new(bytes)));
        let clock = self.clock.unwrap_or_else(|| Arc::new(CoarseClock::new()));
        let mut spaces: HashMap<Namespace, Arc<dyn AnySpace>> = HashMap::new();
        for (settings, make) in self.spaces {
            settings.check()?;
            if settings.updates == Updates::Delta {
                let name = &settings.namespace;
                let wrong = format!("{name}: updates by delta need Builder::namespace_of_deltas");
                return Err(BuildError::Setting(wrong));
            }
            let name = &settings.namespace;
            let audit = self.settings.audit.clone().filter(|_| settings.event_driven).map(|audit| {
                let source = self.audit_sources.remove(name);
                Audit::new(settings.staleness_bound, audit, clock.clone(), source)
            });
            let space = make(fence.clone(), &self.policy, pool.as_ref(), audit).ok_or_else(|| {
                let name = &settings.namespace;
                BuildError::Setting(format!(
                    "{name}: its l1_bytes_max is more than the node has left of its own"
                ))
            })?;
            if spaces.insert(settings.namespace.clone(), space).is_some() {
                return Err(BuildError::Twice(settings.namespace));
            }
        }
        let (handlers, inbox) = Handlers::new(self.handlers, self.settings.handler_queue_max);
        let handlers = Arc::new(handlers);
        let local_spaces = spaces.iter().map(|(name, space)| (name.clone(), space.clone().local())).collect();
        let taken = Arc::new(NodeTimes::default());
        let local = Arc::new(Local::new(
            self.node.clone(),
            fence.clone(),
            local_spaces,
            handlers.clone(),
            self.observers,
            taken.clone(),
        ));
        let receiver: Arc<dyn Receiver> = local.clone();
        let log = self.transport.clone();
        let bus = Bus::start(self.transport, clock.clone(), self.node.clone(), receiver, self.bus);
        let bus = bus.map_err(|broken| {
            let all: Vec<String> = broken.iter().map(ToString::to_string).collect();
            BuildError::Setting(format!("bus: {}", all.join("; ")))
        })?;
        // Before the first hint can have come: a node joins by a sync.
        let (time, view) = (clock.clone(), bus.view());
        let _ = local.times.set(Box::new(move || (time.now(), view.server_now(time.wall()))));
        let core = Arc::new(Core {
            pool,
            view: bus.view(),
            node: self.node,
            outbox: Outbox::new(self.settings.outbox_max),
            settings: self.settings,
            clock,
            store: self.store,
            bus,
            log,
            fence,
            local,
            handlers: handlers.clone(),
            times: taken,
            spaces,
            outbox_filled: Notify::new(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        let stopping = core.stopping.clone();
        core.spawn(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = handlers.run(inbox) => {}
            }
        });
        core.spawn(outbox::work_off(core.clone()));
        core.spawn(sweep(core.clone()));
        if let Some(audit) = &core.settings.audit {
            core.spawn(audit::watch(core.clone(), audit.every));
        }
        Ok(TieredCache { core })
    }
}

async fn sweep(core: Arc<Core>) {
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        let now = core.clock.now();
        core.spaces.values().for_each(|space| space.sweep(now));
    }
}

/// An event-driven cache in two tiers: memory here, a store shared by all nodes, kept coherent by a bus.
///
/// Cheap to clone. [`stop`](Self::stop) it before the runtime ends.
#[derive(Clone)]
pub struct TieredCache {
    core: Arc<Core>,
}

impl TieredCache {
    /// Starts putting a cache together: who it is, what it shares with others, how its L1 evicts.
    pub fn builder(
        node: NodeId,
        store: Arc<dyn Store>,
        transport: Arc<dyn Transport>,
        policy: impl Fn(usize) -> BoxedFamily + Send + Sync + 'static,
    ) -> Builder {
        Builder {
            node,
            store,
            transport,
            policy: Arc::new(policy),
            clock: None,
            settings: NodeSettings::default(),
            bus: BusConfig::default(),
            spaces: Vec::new(),
            handlers: HashMap::new(),
            observers: Vec::new(),
            audit_sources: HashMap::new(),
        }
    }

    pub(crate) fn spaces(&self) -> impl Iterator<Item = &Arc<dyn AnySpace>> {
        self.core.spaces.values()
    }

    pub(crate) fn node_bytes_max(&self) -> Option<u64> {
        self.core.settings.l1_bytes_max
    }

    fn space(&self, name: &str) -> Result<&Arc<dyn AnySpace>, NamespaceError> {
        let found = self.core.spaces.iter().find(|(namespace, _)| namespace.as_str() == name);
        found.map(|(_, space)| space).ok_or_else(|| {
            let known: Vec<&str> = self.namespaces().map(Namespace::as_str).collect();
            NamespaceError::Unknown { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// The handle of a namespace.
    ///
    /// # Errors
    /// [`NamespaceError`] if there is no such namespace, or its values are of another type.
    pub fn namespace<V: Cacheable>(&self, name: &str) -> Result<TypedCache<V>, NamespaceError> {
        let space = self.space(name)?;
        let typed = space.clone().any().downcast::<Space<V>>().map_err(|_| NamespaceError::OtherType {
            name: name.to_owned(),
            holds: space.type_name(),
            asked: type_name::<V>(),
        })?;
        Ok(TypedCache::new(self.core.clone(), typed))
    }

    /// A namespace seen as JSON.
    ///
    /// # Errors
    /// [`NamespaceError::Unknown`].
    pub fn json(&self, name: &str) -> Result<JsonCache, NamespaceError> {
        Ok(JsonCache::new(self.core.clone(), self.space(name)?.clone().json()))
    }

    /// Gives a namespace another TTL. What is written from now on has it, unless a call asks for another; what is there
    /// keeps its own. Stamps of invalidations are kept for the namespace's longest TTL, so a longer one is refused.
    ///
    /// # Errors
    /// [`NamespaceError::Unknown`], or [`NamespaceError::Ttl`] below one millisecond or beyond
    /// [`NamespaceSettings::ttl_max`].
    pub fn set_ttl(&self, name: &str, ttl: Duration) -> Result<(), NamespaceError> {
        let space = self.space(name)?;
        let most = space.settings().ttl_max;
        if ttl < Duration::from_millis(1) || ttl > most {
            return Err(NamespaceError::Ttl { name: name.to_owned(), ttl, most });
        }
        space.set_ttl(ttl);
        Ok(())
    }

    /// The namespaces, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let mut all: Vec<&Namespace> = self.core.spaces.keys().collect();
        all.sort();
        all.into_iter()
    }

    /// This node.
    pub fn node(&self) -> &NodeId {
        &self.core.node
    }

    /// Says that the truth behind a scope has changed, and why. When it returns, no node serves an old value for longer
    /// than the staleness bound. If it is dropped before, the invalidation may or may not have happened.
    ///
    /// # Errors
    /// [`WriteError`]; after [`WriteError::Unacked`] or [`WriteError::Refused`] the node goes on trying in the
    /// background.
    pub async fn invalidate(&self, scope: Scope, reason: impl Into<String>) -> Result<Written, WriteError> {
        let draft = EventDraft::new(EventKind::MANUAL_INVALIDATION, scope.to_string());
        self.publish(draft.touching(scope).reason(reason)).await
    }

    /// Publishes an event: drops what it touches, here and on all nodes, and tells their handlers.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate).
    pub async fn publish(&self, draft: EventDraft) -> Result<Written, WriteError> {
        self.core.publish(draft).await
    }

    /// Waits until this node has applied all that a token stands for; says whether it has.
    pub async fn reached(&self, token: &WriteToken, within: Duration) -> bool {
        for (partition, position) in token.positions() {
            if partition.0 >= self.core.fence.partitions() {
                return false;
            }
            if !self.core.bus.reached(partition, position, within).await {
                return false;
            }
        }
        true
    }

    /// Asks the log now; says whether this node is at its head, with a proof sent after this call began.
    pub async fn sync(&self, within: Duration) -> bool {
        for partition in self.core.partitions() {
            if !self.core.bus.sync(partition, within).await {
                return false;
            }
        }
        true
    }

    /// Where this node stands in a partition's log.
    pub fn position(&self, partition: Partition) -> Position {
        self.core.cursor(partition)
    }

    /// Where each partition stands; shared with the bus.
    pub fn view(&self) -> &Arc<View> {
        &self.core.view
    }

    /// The clock that it lives by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.core.clock
    }

    /// What this cache knows of its own condition.
    pub fn health(&self) -> Health {
        let view = &self.core.view;
        let states: Vec<State> = self.core.partitions().map(|partition| view.state(partition)).collect();
        let last_event_at = view.counters().last_event_at;
        let since = |at: u64| Duration::from_millis(self.core.clock.now().saturating_sub(at));
        Health {
            subscribed: view.subscribed(),
            live: states.iter().all(|state| *state == State::Live),
            states,
            fenced: view.fenced(),
            last_event_age: (last_event_at > 0).then(|| since(last_event_at)),
            outbox: self.core.outbox.len(),
            handler_panics: self.core.handlers.panics.load(std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// What happened in each namespace since the start, by name.
    pub fn stats(&self) -> Vec<(Namespace, NamespaceStats)> {
        let mut all: Vec<_> =
            self.core.spaces.iter().map(|(name, space)| (name.clone(), space.stats())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The latest violations that the auditor found, by namespace. [`stats`](Self::stats) has the figures.
    pub fn violations(&self) -> Vec<(Namespace, Vec<Violation>)> {
        let found =
            self.core.spaces.iter().filter_map(|(name, space)| Some((name, space.audit()?.violations())));
        let mut all: Vec<_> =
            found.filter(|(_, all)| !all.is_empty()).map(|(name, all)| (name.clone(), all)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// A round of the auditor now, besides those that come by themselves: judges the reads that were noted, then asks L2.
    pub async fn audit_now(&self) {
        for space in self.core.spaces.values() {
            space.audited(&self.core).await;
        }
    }

    /// How long everything took since the start. Some 300 KB are copied, so this is for once a second rather than for each
    /// read; [`Timings::since`] gives the figures of a while.
    pub fn timings(&self) -> Timings {
        let mut all = SpaceTimes::default();
        self.spaces().for_each(|space| all.add(&space.times()));
        self.core.times.snapshot(all)
    }

    /// How long reads and writes took in each namespace since the start, by name.
    pub fn space_timings(&self) -> Vec<(Namespace, SpaceTimes)> {
        self.namespaces().map(|name| (name.clone(), self.core.spaces[name].times())).collect()
    }

    /// The keys that are read most of late, each with its reads a second, hottest first: estimated from a sample of one read
    /// in 256, over about the last minute.
    pub fn hot_keys(&self, limit: usize) -> Vec<(Key, f64)> {
        let now = self.core.clock.now();
        let mut all: Vec<_> = self.spaces().flat_map(|space| space.hottest(limit, now)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.hash64().cmp(&b.0.hash64())));
        all.truncate(limit);
        all
    }

    /// Checks the inner order of L1 in every namespace; panics with what is wrong. For tests.
    pub fn validate(&self) {
        self.spaces().for_each(|space| space.validate());
        if let Some(pool) = &self.core.pool {
            pool.validate();
        }
    }

    /// Stops the bus and all tasks, and waits for them; loads under way are finished first.
    pub async fn stop(&self) {
        self.core.stop().await;
    }
}

/// The condition of a cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// A subscription to hints is in force.
    pub subscribed: bool,
    /// All partitions are live.
    pub live: bool,
    /// The state of each partition.
    pub states: Vec<State>,
    /// In what this node and the store disagree, while they do.
    pub fenced: Option<String>,
    /// Time since the last event, own or another's; `None` before the first.
    pub last_event_age: Option<Duration>,
    /// Steps that wait for the store to come back.
    pub outbox: usize,
    /// Panics of event handlers.
    pub handler_panics: u64,
}
