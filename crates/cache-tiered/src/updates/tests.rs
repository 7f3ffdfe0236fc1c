//! What L1 holds against a dull model of a deployment: hints that come in any order, again or never, loads that take
//! their time, own writes of which the bus has not heard, new epochs.
//!
//! Checked after every step: L1 serves only values that were there, each as it was, and none that is older than an event
//! of its key which this node has applied.

use std::collections::HashMap;
use std::sync::Arc;

use cache_bus::{Action, Answer, BusConfig, Missing, Protocol, Receiver, Told};
use cache_events::{
    CacheEvent, EventId, EventKind, Key, Namespace, NodeId, Partition, Position, Scope, Version,
};
use cache_l1::{BoxedFamily, Fence, Groups, Snapshot};
use cache_policy::PolicyKind;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::answer::Tier;
use crate::handlers::Handlers;
use crate::patch::{Base, Deltas, Patch};
use crate::receive::{Local, LocalSpace};
use crate::settings::NamespaceSettings;

const P: Partition = Partition(0);
const KEYS: usize = 2;
/// All of it lies long before anything expires.
const NOW: u64 = 1_000;
const EXPIRY: u64 = 1 << 30;

/// A value that knows all that ever happened to it; no two are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct History(Vec<u32>);

impl Patch for History {
    type Delta = u32;

    fn patched(&self, delta: &u32) -> Option<Self> {
        Some(Self(self.0.iter().copied().chain([*delta]).collect()))
    }
}

/// What may happen. Indexes are taken modulo what is there.
#[derive(Debug, Clone)]
enum Op {
    Put(usize, bool),
    Delta(usize),
    Invalidate(usize),
    Fill(usize),
    Hint(usize),
    NextHint,
    Sync,
    BeginLoad(usize),
    EndLoad,
    Epoch,
    Trim,
    /// A write of this node's own, and what happens before it has applied it, and before the bus has heard of it.
    Own(usize, bool, Vec<Op>, Vec<Op>),
    OwnFlush,
}

/// What a write did: from then on the key had this value.
struct Write {
    position: Position,
    key: usize,
    value: History,
    hint: Bytes,
    logged: Bytes,
}

/// A value with what it is known by.
#[derive(Clone)]
struct Stored {
    value: History,
    position: Position,
    version: Version,
}

/// A load under way: what it found, and the fences from before.
struct Loading {
    key: usize,
    found: Stored,
    snapshot: Snapshot,
}

struct World {
    space: Arc<Space<History>>,
    local: Arc<Local>,
    fence: Arc<Fence>,
    protocol: Protocol,
    now: u64,
    deltas: Deltas<History>,
    keys: Vec<Key>,
    head: Position,
    /// Entries behind this are in the log.
    trimmed: u64,
    writes: Vec<Write>,
    truth: Vec<History>,
    stored: [Option<Stored>; KEYS],
    loading: Option<Loading>,
    numbers: u32,
    /// Of each key, the last event that this node has applied.
    applied: [Position; KEYS],
}

fn settings(updates: Updates) -> NamespaceSettings {
    let ttl = Duration::from_millis(EXPIRY);
    let settings = NamespaceSettings::new(Namespace::new("histories").expect("valid"));
    NamespaceSettings { updates, ttl, ttl_max: ttl, l1_ttl_max: ttl, ..settings }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("valid")
}

impl World {
    fn new(updates: Updates, seed: u64) -> Self {
        let fence = Arc::new(Fence::new(1));
        let settings = settings(updates);
        let deltas = || Deltas::<History>::new(&settings);
        let family = |entries| -> BoxedFamily { PolicyKind::Lru.family(entries) };
        let policy: crate::PolicyFactory = Arc::new(family);
        let patcher: Option<Box<dyn Patcher<History>>> = Some(Box::new(deltas()));
        let space = Space::new(settings.clone(), fence.clone(), &policy, None, patcher, None).expect("room");
        let namespace = settings.namespace.clone();
        let spaces = HashMap::from([(namespace.clone(), space.clone() as Arc<dyn LocalSpace>)]);
        let handlers = Arc::new(Handlers::new(HashMap::new(), 1).0);
        let local = Local::new(node("here"), fence.clone(), spaces, handlers, Vec::new(), Arc::default());
        assert!(local.times.set(Box::new(|| (NOW, NOW))).is_ok());
        let mut world = Self {
            deltas: deltas(),
            space,
            local: Arc::new(local),
            fence,
            protocol: Protocol::new(1, &BusConfig::default(), seed, NOW),
            now: NOW,
            keys: (0..KEYS).map(|key| Key::new(&namespace, key.to_string()).expect("valid")).collect(),
            head: Position::new(1, 0),
            trimmed: 0,
            writes: Vec::new(),
            truth: Vec::new(),
            stored: [None, None],
            loading: None,
            numbers: 0,
            applied: [Position::ZERO; KEYS],
        };
        world.truth = (0..KEYS).map(|_| world.fresh()).collect();
        for key in 0..KEYS {
            world.write(key, "there", Some(Version::NONE));
        }
        world.protocol.subscribed(NOW);
        world.act();
        world.sync();
        world
    }

    fn fresh(&mut self) -> History {
        self.numbers += 1;
        History(vec![self.numbers])
    }

    fn event(&self, key: usize, from: &str) -> CacheEvent {
        let id = (u128::from(self.head.epoch) << 64 | u128::from(self.head.seq)).to_be_bytes();
        CacheEvent {
            event_type: EventKind::MANUAL_INVALIDATION,
            resource_id: "r".into(),
            data: None,
            timestamp: 0,
            source_node: node(from),
            event_id: EventId::from_bytes(id),
            affected_namespaces: Vec::new(),
            scopes: vec![Scope::Key(self.keys[key].clone())],
            reason: None,
            announce: true,
        }
    }

    fn head_of(version: Version) -> RecordHead {
        let (load_start, soft_expiry, hard_expiry) = (NOW, EXPIRY, EXPIRY);
        RecordHead { version, load_start, soft_expiry, hard_expiry, ..RecordHead::default() }
    }

    /// A write at the server: of a value (and then of a version), or an invalidation, after which the source has another.
    fn write(&mut self, key: usize, from: &str, put: Option<Version>) -> CacheEvent {
        let value = self.fresh();
        self.write_value(key, from, put, value, None)
    }

    fn write_value(
        &mut self,
        key: usize,
        from: &str,
        put: Option<Version>,
        value: History,
        delta: Option<Bytes>,
    ) -> CacheEvent {
        let event = self.event(key, from);
        self.head = self.head.next();
        let logged = Bytes::from(wire::encode(&event).expect("fits"));
        let hint = match (put, delta) {
            (_, Some(delta)) => wire::encode_carrier(&logged, CargoKind::Delta, &delta).into(),
            (Some(version), None) => {
                let record = self.space.seal(&Self::head_of(version), &self.keys[key], Some(&value));
                wire::encode_carrier(&logged, CargoKind::Record, &record.expect("fits")).into()
            }
            (None, None) => logged.clone(),
        };
        let position = self.head;
        self.stored[key] = put.map(|version| Stored { value: value.clone(), position, version });
        self.truth[key] = value.clone();
        self.writes.push(Write { position, key, value, hint, logged });
        event
    }

    /// What an update writes, by another node.
    fn delta(&mut self, key: usize) {
        let Some(Stored { value, position, version }) = self.stored[key].clone() else { return };
        self.numbers += 1;
        let (number, next) = (self.numbers, Version(version.0 + 1));
        let new = value.patched(&number).expect("fits");
        let base = Base { value: Arc::new(value), position, version, groups: Groups::default(), weight: 9 };
        let sealed = self.deltas.seal(&self.keys[key], &Self::head_of(next), &base, &number).expect("fits");
        let delta = (version != Version::NONE).then_some(sealed);
        self.write_value(key, "there", Some(next), new, delta);
    }

    fn bump(&mut self) {
        self.head = Position::new(self.head.epoch + 1, 0);
        self.stored = [None, None];
        self.trimmed = 0;
    }

    fn hint(&mut self, index: usize) {
        let Some(write) = self.writes.get(index) else { return };
        let (position, told) = (write.position, Told::of_hint(&write.hint));
        self.protocol.hint(self.now, P, position, told);
        self.act();
    }

    /// A sync that is answered at once.
    fn sync(&mut self) {
        for _ in 0..4 {
            // Beyond whatever keeps the next one back.
            self.now += 10_000;
            self.protocol.request_sync(self.now, P);
            self.act();
        }
    }

    /// Does what the protocol wants done.
    fn act(&mut self) {
        let mut orders = Vec::new();
        while let Some(action) = self.protocol.next_action() {
            match action {
                Action::Sync(order) => orders.push(order),
                Action::Apply { partition, position, event, first, cargo } => {
                    match &cargo {
                        Some(cargo) => self.local.update(partition, position, &event, cargo, first),
                        None => self.local.apply(partition, position, &event, first),
                    }
                    // What is its own the writer applies.
                    if event.source_node == node("there")
                        && let [Scope::Key(key)] = event.scopes.as_slice()
                    {
                        let key: usize = key.resource().parse().expect("a number");
                        self.applied[key] = self.applied[key].max(position);
                    }
                }
                Action::Flush { partition, epoch, groups, cause } => {
                    self.local.flush(partition, epoch, &groups, cause);
                }
                Action::Publish { .. } => {}
            }
        }
        for order in orders {
            let (head, at) = (self.head, order.at);
            let missing = if at.epoch != head.epoch {
                Missing::Reset(Vec::new())
            } else if at.seq < self.trimmed {
                Missing::Gap(Vec::new())
            } else {
                let of = |write: &&Write| write.position.epoch == head.epoch && write.position.seq > at.seq;
                let told = |write: &Write| (write.position, Told::of(&write.logged));
                Missing::Entries(self.writes.iter().filter(of).map(told).collect())
            };
            self.protocol.answered(self.now, P, order.id, self.now, Answer { head, missing });
            self.act();
        }
    }

    fn begin_load(&mut self, key: usize) {
        let at = self.space.address(&self.keys[key]);
        let snapshot = self.space.l1.snapshot(&at);
        let cursor = self.protocol.position(P);
        // Either what L2 has, if this node can judge it, or what the source has: that is as of the cursor at least.
        let live =
            |stored: &Stored| stored.position.epoch == cursor.epoch && self.fence.epoch(0) == cursor.epoch;
        let source = Stored { value: self.truth[key].clone(), position: cursor, version: Version::NONE };
        let found = self.stored[key].clone().filter(live).unwrap_or(source);
        self.loading = Some(Loading { key, found, snapshot });
    }

    fn insert(&self, key: usize, found: &Stored, snapshot: &Snapshot) {
        let key = &self.keys[key];
        let found = Found {
            value: Some(Arc::new(found.value.clone())),
            tier: Tier::L2,
            origin: found.position,
            version: found.version,
            load_start: 0,
            born: NOW,
            soft_expiry: EXPIRY,
            hard_expiry: EXPIRY,
            groups: Groups::default(),
            weight: 9,
        };
        self.space.insert(key, &self.space.address(key), &found, snapshot, None, NOW);
    }

    /// A write of this node's own, step by step as the write path takes them.
    fn own(&mut self, key: usize, put: bool, before: Vec<Op>, after: Vec<Op>) {
        let event = self.event(key, "here");
        let local = self.local.clone();
        let pending = local.begin(P, &event);
        let snapshot = self.space.l1.snapshot(&self.space.address(&self.keys[key]));
        self.write(key, "here", put.then_some(Version::NONE));
        let (position, stored) = (self.head, self.stored[key].clone());
        before.into_iter().for_each(|op| self.run(op));
        if let Some(stored) = stored {
            self.insert(key, &stored, &snapshot);
        }
        let origin = Origin { epoch: position.epoch, seq: position.seq };
        self.local.apply_scopes(P, origin, &event.scopes);
        self.applied[key] = self.applied[key].max(position);
        after.into_iter().for_each(|op| self.run(op));
        self.protocol.wrote(self.now, P, position);
        self.act();
        pending.applied();
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put(key, versioned) => {
                let version = if versioned { Version(1_000) } else { Version::NONE };
                self.write(key, "there", Some(version));
            }
            Op::Delta(key) => self.delta(key),
            Op::Invalidate(key) => drop(self.write(key, "there", None)),
            Op::Fill(key) => {
                let (value, position) = (self.truth[key].clone(), self.head);
                self.stored[key].get_or_insert(Stored { value, position, version: Version::NONE });
            }
            Op::Hint(back) => self.hint(self.writes.len().wrapping_sub(1 + back)),
            Op::NextHint => {
                let next = self.protocol.position(P).next();
                if let Some(index) = self.writes.iter().position(|write| write.position == next) {
                    self.hint(index);
                }
            }
            Op::Sync => self.sync(),
            Op::BeginLoad(key) => self.begin_load(key),
            Op::EndLoad => {
                if let Some(Loading { key, found, snapshot }) = self.loading.take() {
                    self.insert(key, &found, &snapshot);
                }
            }
            Op::Epoch => self.bump(),
            Op::Trim => self.trimmed = self.head.seq,
            Op::Own(key, put, before, after) => self.own(key, put, before, after),
            Op::OwnFlush => {
                self.bump();
                self.fence.flush(0, self.head.epoch, &[]);
                for key in 0..KEYS {
                    self.truth[key] = self.fresh();
                    // As if the flush had been the write, so that what is loaded from here on is known.
                    let (position, value) = (self.head, self.truth[key].clone());
                    let (hint, logged) = (Bytes::new(), Bytes::new());
                    self.writes.push(Write { position, key, value, hint, logged });
                    self.applied[key] = position;
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        for (key, name) in self.keys.iter().enumerate() {
            let Some((value, meta)) = self.space.l1.peek(name, &self.space.address(name), NOW) else {
                continue;
            };
            let value = value.expect("never absent");
            let written = self.writes.iter().find(|write| write.key == key && write.value == *value);
            let written = written.unwrap_or_else(|| panic!("{value:?} was never a value of {key}"));
            assert!(
                written.position >= self.applied[key],
                "{value:?} of {} is held as of {:?}, and {} was applied",
                written.position,
                meta.origin,
                self.applied[key]
            );
        }
        self.space.l1.validate();
    }
}

fn step() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    prop_oneof![
        4 => (key(), any::<bool>()).prop_map(|(key, versioned)| Op::Put(key, versioned)),
        8 => key().prop_map(Op::Delta),
        2 => key().prop_map(Op::Invalidate),
        2 => key().prop_map(Op::Fill),
        8 => (0..8_usize).prop_map(Op::Hint),
        16 => Just(Op::NextHint),
        2 => Just(Op::Sync),
        8 => key().prop_map(Op::BeginLoad),
        8 => Just(Op::EndLoad),
        1 => Just(Op::Epoch),
        1 => Just(Op::Trim),
        1 => Just(Op::OwnFlush),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let some = || prop::collection::vec(step(), 0..6);
    prop_oneof![
        12 => step(),
        1 => (0..KEYS, any::<bool>(), some(), some())
            .prop_map(|(key, put, before, after)| Op::Own(key, put, before, after)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_hints_loads_and_writes_leaves_an_older_value_or_one_that_never_was(
        seed in any::<u64>(),
        everywhere in any::<bool>(),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::new(if everywhere { Updates::ValueEverywhere } else { Updates::Delta }, seed);
        ops.into_iter().for_each(|op| world.run(op));
    }
}

fn held(world: &World) -> Option<Vec<u32>> {
    let key = &world.keys[0];
    let (value, _) = world.space.l1.peek(key, &world.space.address(key), NOW)?;
    value.map(|value| value.0.clone())
}

#[test]
fn the_model_takes_what_hints_bring() {
    let mut world = World::new(Updates::Delta, 1);
    for op in [Op::Put(0, true), Op::BeginLoad(0), Op::EndLoad, Op::NextHint, Op::Delta(0), Op::Delta(0)] {
        world.run(op);
    }
    let whole = world.truth[0].0.clone();
    world.run(Op::NextHint);
    assert_eq!(held(&world).as_deref(), Some(&whole[..2]));
    world.run(Op::NextHint);
    assert_eq!(held(&world), Some(whole));
    assert_eq!(world.space.stats().updates_taken, 2);
}

#[test]
fn a_delta_of_an_epoch_that_this_node_has_flushed_is_not_taken() {
    let mut world = World::new(Updates::Delta, 1);
    for op in [Op::Put(0, true), Op::BeginLoad(0), Op::NextHint, Op::Delta(0)] {
        world.run(op);
    }
    let old = world.loading.take().expect("begun").found;
    // The bus has not heard of it: it still hands out what comes next in the old epoch. What was loaded since is of that
    // epoch too, as far as this node knows.
    world.fence.flush(0, 2, &[]);
    let snapshot = world.space.l1.snapshot(&world.space.address(&world.keys[0]));
    world.insert(0, &old, &snapshot);
    assert!(held(&world).is_some());
    world.run(Op::NextHint);
    assert_eq!((held(&world), world.space.stats().updates_taken), (None, 0));
}
