//! How a node begins, and what its handlers hear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cache_events::{CacheEvent, EventKind, Key, Namespace, Partition, Position};
use cache_policy::PolicyKind;
use cache_tiered::{
    BusConfig, FlushCause, NamespaceSettings, NodeSettings, Notice, Observer, TieredCache, Updates,
};
use parking_lot::Mutex;

use crate::link::Link;
use crate::plan::Plan;
use crate::ports::Ports;
use crate::source::{Style, Value, namespace};
use crate::world::World;

/// The kind of event that the schedules publish.
pub(crate) const KIND: &str = "something_happened";

/// What the handlers of all lives heard.
#[derive(Default)]
pub(crate) struct Heard(Mutex<BTreeMap<(usize, u64), Ears>>);

#[derive(Default)]
struct Ears {
    events: Vec<String>,
    /// The last time at which events may have been missed.
    missed_at: Option<u64>,
}

impl Heard {
    /// Whether a life of a node has heard of an event, or that it may have missed some since.
    pub(crate) fn of(&self, node: usize, life: u64, event: &str, since: u64) -> bool {
        let heard = self.0.lock();
        let ears = heard.get(&(node, life));
        ears.is_some_and(|ears| {
            ears.missed_at.is_some_and(|at| at >= since) || ears.events.iter().any(|heard| heard == event)
        })
    }
}

/// Notes what a node applies.
struct Onlooker {
    world: Arc<World>,
    node: usize,
    life: u64,
}

impl Observer for Onlooker {
    fn applied(&self, partition: Partition, position: Position, event: &CacheEvent) {
        self.world.note(|| {
            let scopes: Vec<String> = event.scopes.iter().map(ToString::to_string).collect();
            let node = &self.world.nodes[self.node].id;
            format!("{node} applies {position} of partition {partition}: {}", scopes.join(", "))
        });
    }

    fn flushed(&self, partition: Partition, epoch: u64, cause: FlushCause) {
        let node = &self.world.nodes[self.node].id;
        self.world.judge.flushed((self.node, self.life), partition, epoch, self.world.now());
        self.world.note(|| format!("{node} flushes partition {partition} into epoch {epoch}: {cause:?}"));
    }
}

/// The TTL of a namespace. The store knows the version of a record for as long as that lives, and no versioned put may be
/// later than that.
fn ttl_of(plan: &Plan, namespace: &Namespace) -> u64 {
    if namespace.as_str() == Style::Versioned.name() { 60_000 } else { plan.ttl_ms }
}

/// The TTL of a key.
pub(crate) fn ttl_ms(plan: &Plan, key: &Key) -> u64 {
    ttl_of(plan, key.namespace())
}

/// Starts a node; it joins when it can.
pub(crate) fn start(world: &Arc<World>, node: usize) {
    let place = &world.nodes[node];
    let life = place.conceive();
    let ports = Arc::new(Ports(Link::new(world.clone(), node, life)));
    let (plan, ears) = (&world.plan, world.clone());
    let settings = NodeSettings {
        write_deadline: Duration::from_millis(1_500),
        lease_ttl: Duration::from_millis(2_000),
        outbox_max: plan.outbox_max,
        ..NodeSettings::default()
    };
    let mut builder = TieredCache::builder(place.id.clone(), ports.clone(), ports, |entries| {
        PolicyKind::Sieve.family(entries)
    });
    builder = builder.observer(Arc::new(Onlooker { world: world.clone(), node, life }));
    let bus = BusConfig {
        sync_entries_max: plan.sync_entries_max,
        hint_batch_max: plan.hint_batch_max,
        hints_waiting_max: plan.inbox_max,
        ..BusConfig::default()
    };
    builder = builder.bus(bus).clock(place.clock.clone()).settings(settings).on(
        EventKind::new(KIND),
        move |notice| {
            let mut heard = ears.heard.0.lock();
            let own = heard.entry((node, life)).or_default();
            match notice {
                Notice::Event(event) => own.events.push(event.event.resource_id.clone()),
                _ => own.missed_at = Some(ears.now()),
            }
        },
    );
    for style in Style::ALL {
        let namespace = namespace(style);
        let ttl = Duration::from_millis(ttl_of(plan, &namespace));
        let mut space = NamespaceSettings::new(namespace).ttl(ttl);
        space.l1_entries_max = plan.l1_entries_max;
        space.compress_above_bytes = None;
        if !style.written_by_scopes() {
            space.updates = plan.updates;
        }
        // Stamps must outlive every record, and no more.
        space.ttl_max = space.ttl;
        if style == Style::Strict {
            space = space.critical();
        }
        builder = match space.updates {
            Updates::Delta => builder.namespace_of_deltas::<Value>(space),
            _ => builder.namespace::<Value>(space),
        };
    }
    match builder.start() {
        Ok(cache) => {
            world.note(|| format!("{} begins its life {life}", place.id));
            place.born(cache);
        }
        Err(error) => world.violated(format!("{} cannot start: {error}", place.id)),
    }
}
