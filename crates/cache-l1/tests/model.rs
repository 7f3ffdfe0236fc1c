//! Random operations against a dull model: one `HashMap` with the same rules, written the slow and obvious
//! way.
//!
//! Who is evicted is the policy's affair: the model takes out what the tier says it evicted, and checks that
//! there was need. All else must agree exactly, after each operation: hits, misses, refusals, causes, count
//! and bytes.

use std::collections::HashMap;
use std::sync::Arc;

use cache_l1::{Address, Cause, Config, Fence, Groups, Inserted, L1, Left, Meta, Origin, Refusal, Snapshot};
use cache_policy::contract::mix;
use cache_policy::{PolicyKind, build};
use proptest::prelude::*;

const PARTITIONS: u32 = 2;
const OWN_GROUP: u64 = 99;

/// (resource, variant); variant 0 is the key without parameters.
type Key = (u8, u8);

fn partition_of(key: Key) -> u32 {
    u32::from(key.0) % PARTITIONS
}

fn address_of(key: Key) -> Address {
    // The resources of this file have different stripes, so the model needs none.
    let resource = mix(u64::from(key.0) + 1);
    match key.1 {
        0 => Address::bare(resource, partition_of(key)),
        variant => Address::variant(resource, mix(resource ^ u64::from(variant)), partition_of(key)),
    }
}

#[derive(Clone, Debug)]
enum Op {
    Advance(u64),
    Get(Key),
    Snapshot(Key),
    /// `behind`: how far the value's origin is behind the head of the log; `late`: with the snapshot kept for
    /// the key.
    Insert {
        key: Key,
        weight: u32,
        ttl: Option<u64>,
        idle: u32,
        behind: u64,
        groups: Vec<u64>,
        late: bool,
    },
    InvalidateKey {
        key: Key,
        behind: u64,
    },
    InvalidateAlways(Key),
    InvalidateResource {
        resource: u8,
        behind: u64,
    },
    InvalidateMatching {
        partition: u32,
        variant: u8,
    },
    Remove(Key),
    Flush {
        partition: u32,
        groups: Vec<u64>,
    },
    Stamp {
        partition: u32,
        group: u64,
    },
    Sweep(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || (0..6_u8, 0..4_u8);
    let groups = || prop::collection::vec(1..4_u64, 0..3);
    let group = prop_oneof![4 => 1..4_u64, 1 => Just(OWN_GROUP)];
    let ttl = prop::option::of(0..3_000_u64);
    let idle = prop_oneof![2 => Just(0), 1 => 1..600_u32];
    let insert = (key(), 0..2_000_u32, ttl, idle, 0..3_u64, groups(), any::<bool>()).prop_map(
        |(key, weight, ttl, idle, behind, groups, late)| Op::Insert {
            key,
            weight,
            ttl,
            idle,
            behind,
            groups,
            late,
        },
    );
    prop_oneof![
        3 => (0..500_u64).prop_map(Op::Advance),
        8 => key().prop_map(Op::Get),
        3 => key().prop_map(Op::Snapshot),
        12 => insert,
        2 => (key(), 0..3_u64).prop_map(|(key, behind)| Op::InvalidateKey { key, behind }),
        1 => key().prop_map(Op::InvalidateAlways),
        1 => (0..6_u8, 0..3_u64).prop_map(|(resource, behind)| Op::InvalidateResource { resource, behind }),
        1 => (0..PARTITIONS, 0..4_u8).prop_map(|(partition, variant)| Op::InvalidateMatching { partition, variant }),
        1 => key().prop_map(Op::Remove),
        1 => (0..PARTITIONS, groups()).prop_map(|(partition, groups)| Op::Flush { partition, groups }),
        2 => (0..PARTITIONS, group).prop_map(|(partition, group)| Op::Stamp { partition, group }),
        2 => prop_oneof![0..10_usize, Just(10_000)].prop_map(Op::Sweep),
    ]
}

#[derive(Clone, Debug)]
struct Held {
    value: u64,
    meta: Meta,
    bytes: u64,
    flushes: u64,
    deadline: u64,
}

impl Held {
    fn hit(&mut self, now: u64) {
        if self.meta.idle > 0 {
            self.deadline = (now + u64::from(self.meta.idle)).min(self.meta.hard_expiry);
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fences {
    resource: u64,
    patterns: u64,
    flushes: u64,
}

#[derive(Default)]
struct Log {
    head: Origin,
    flushes: u64,
    stamps: HashMap<u64, u64>,
}

/// The rules, slowly.
struct Model {
    now: u64,
    held: HashMap<Key, Held>,
    logs: [Log; PARTITIONS as usize],
    resources: HashMap<u8, u64>,
    patterns: u64,
}

impl Model {
    fn log(&mut self, partition: u32) -> &mut Log {
        &mut self.logs[partition as usize]
    }

    /// The next event of a partition, or one so far behind.
    fn event(&mut self, partition: u32, behind: u64) -> Origin {
        let head = &mut self.log(partition).head;
        head.seq += 1;
        Origin { seq: head.seq.saturating_sub(behind), ..*head }
    }

    fn fences(&self, key: Key) -> Fences {
        Fences {
            resource: self.resources.get(&key.0).copied().unwrap_or(0),
            patterns: self.patterns,
            flushes: self.logs[partition_of(key) as usize].flushes,
        }
    }

    fn is_stamped(&self, key: Key, meta: &Meta) -> bool {
        let stamps = &self.logs[partition_of(key) as usize].stamps;
        let mut groups = meta.groups.iter().chain([&OWN_GROUP]);
        groups.any(|group| stamps.get(group).is_some_and(|&seq| seq > meta.origin.seq))
    }

    fn is_current(&self, key: Key, held: &Held) -> bool {
        held.flushes == self.logs[partition_of(key) as usize].flushes && !self.is_stamped(key, &held.meta)
    }

    fn is_expired(&self, held: &Held) -> bool {
        held.deadline <= self.now
    }

    /// What a look-up finds, which is a hit.
    fn get(&mut self, key: Key) -> Option<Held> {
        self.served(key)?;
        let now = self.now;
        let held = self.held.get_mut(&key)?;
        held.hit(now);
        Some(held.clone())
    }

    fn served(&self, key: Key) -> Option<&Held> {
        self.held.get(&key).filter(|held| self.is_current(key, held) && !self.is_expired(held))
    }

    fn bytes(&self) -> u64 {
        self.held.values().map(|held| held.bytes).sum()
    }

    /// Takes out what left and judges the cause.
    fn leave(&mut self, left: &Left<Key, Arc<u64>>) -> Held {
        let held =
            self.held.remove(&left.key).unwrap_or_else(|| panic!("{:?} left and was not there", left.key));
        assert_eq!((*left.value, left.bytes), (held.value, held.bytes), "{:?}", left.key);
        match left.cause {
            Cause::Expired => assert!(self.is_expired(&held), "{:?} left as expired and was not", left.key),
            Cause::Evicted | Cause::Replaced | Cause::Removed | Cause::Invalidated => {}
            other => panic!("unknown cause {other:?}"),
        }
        held
    }
}

struct Run {
    l1: L1<Key, Arc<u64>>,
    fence: Arc<Fence>,
    model: Model,
    config: Config,
    kept: HashMap<Key, (Snapshot, Fences)>,
    next_value: u64,
}

impl Run {
    fn new(config: Config, kind: PolicyKind) -> Self {
        let fence = Arc::new(Fence::new(PARTITIONS));
        let model = Model {
            now: 1_000_000,
            held: HashMap::new(),
            logs: Default::default(),
            resources: HashMap::new(),
            patterns: 0,
        };
        let l1 = L1::new(config, fence.clone(), |hint| build(kind, hint));
        Self { l1, fence, model, config, kept: HashMap::new(), next_value: 0 }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Advance(by) => self.model.now += by,
            Op::Get(key) => {
                let hit = self.l1.get(&key, &address_of(key), self.model.now);
                assert_eq!(hit.is_some(), self.model.get(key).is_some(), "get {key:?}");
            }
            Op::Snapshot(key) => {
                self.kept.insert(key, (self.l1.snapshot(&address_of(key)), self.model.fences(key)));
            }
            Op::Insert { key, weight, ttl, idle, behind, groups, late } => {
                let fresh = (self.l1.snapshot(&address_of(key)), self.model.fences(key));
                let (snapshot, fences) = self.kept.get(&key).copied().filter(|_| late).unwrap_or(fresh);
                let head = self.model.log(partition_of(key)).head;
                let meta = Meta {
                    origin: Origin { seq: head.seq.saturating_sub(behind), ..head },
                    version: self.next_value + 1,
                    load_start: 2,
                    born: 3,
                    soft_expiry: 4,
                    hard_expiry: ttl.map_or(u64::MAX, |ttl| self.model.now + ttl),
                    idle,
                    weight,
                    groups: Groups::from(groups),
                };
                self.insert(key, meta, &snapshot, fences);
            }
            Op::InvalidateKey { key, behind } => {
                let event = self.model.event(partition_of(key), behind);
                self.invalidate_key(key, event);
            }
            Op::InvalidateAlways(key) => self.invalidate_key(key, Origin::MAX),
            Op::InvalidateResource { resource, behind } => {
                let event = self.model.event(partition_of((resource, 0)), behind);
                *self.model.resources.entry(resource).or_default() += 1;
                let left = self.l1.invalidate_resource(address_of((resource, 0)).resource(), event);
                self.invalidated(left, event, |key| key.0 == resource);
            }
            Op::InvalidateMatching { partition, variant } => {
                let event = self.model.event(partition, 0);
                self.model.patterns += 1;
                let left = self.l1.invalidate_matching(event, partition, |key| key.1 == variant);
                self.invalidated(left, event, |key| key.1 == variant && partition_of(key) == partition);
            }
            Op::Remove(key) => {
                *self.model.resources.entry(key.0).or_default() += 1;
                let left = self.l1.remove(&key, &address_of(key));
                assert_eq!(left.is_some(), self.model.held.contains_key(&key), "remove {key:?}");
                if let Some(left) = left {
                    assert_eq!(left.cause, Cause::Removed);
                    self.model.leave(&left);
                }
            }
            Op::Flush { partition, groups } => {
                let log = self.model.log(partition);
                log.flushes += 1;
                log.head = Origin { epoch: log.head.epoch + 1, seq: 5 };
                log.stamps = groups.iter().map(|&group| (group, group + 2)).collect();
                let table: Vec<(u64, u64)> = groups.iter().map(|&group| (group, group + 2)).collect();
                self.fence.flush(partition, log.head.epoch, &table);
            }
            Op::Stamp { partition, group } => {
                let event = self.model.event(partition, 0);
                self.model.log(partition).stamps.insert(group, event.seq);
                self.fence.stamp(partition, group, event.seq);
            }
            Op::Sweep(budget) => self.sweep(budget),
        }
        self.compare();
    }

    fn insert(&mut self, key: Key, meta: Meta, snapshot: &Snapshot, fences: Fences) {
        let expected = self.expected_refusal(key, &meta, fences);
        self.next_value += 1;
        let value = self.next_value;
        let bytes = u64::from(meta.weight) + L1::<Key, Arc<u64>>::overhead_bytes(&address_of(key), &meta);
        let now = self.model.now;
        let Inserted { refused, left } =
            self.l1.insert(key, Arc::new(value), &address_of(key), meta.clone(), snapshot, now);
        assert_eq!(refused, expected, "insert of {key:?} with {meta:?}");
        for left in &left {
            let (count, sum) = (self.model.held.len(), self.model.bytes());
            let held = self.model.leave(left);
            match left.cause {
                Cause::Replaced => assert_eq!(left.key, key),
                Cause::Invalidated => {
                    assert!(
                        left.key == key && !self.model.is_current(key, &held),
                        "{:?} was current",
                        left.key
                    );
                }
                Cause::Evicted => {
                    assert!(
                        count + 1 > self.config.entries_max || sum + bytes > self.config.bytes_max,
                        "{:?} was evicted without need",
                        left.key
                    );
                    if self.config.shards == Some(1) {
                        let expired =
                            self.model.held.values().filter(|held| self.model.is_expired(held)).count();
                        assert_eq!(expired, 0, "a living entry was evicted before expired ones");
                    }
                }
                Cause::Removed => panic!("nobody asked to remove {:?}", left.key),
                _ => {}
            }
        }
        if refused.is_none() {
            let deadline = meta.hard_expiry;
            let mut held = Held { value, meta, bytes, flushes: fences.flushes, deadline };
            held.hit(now);
            let replaced = self.model.held.insert(key, held);
            assert!(replaced.is_none(), "{key:?} is there twice");
        }
    }

    fn expected_refusal(&self, key: Key, meta: &Meta, fences: Fences) -> Option<Refusal> {
        let present = self.model.fences(key);
        if present.flushes != fences.flushes {
            Some(Refusal::Flushed)
        } else if present != fences {
            Some(Refusal::Invalidated)
        } else if self.model.is_stamped(key, meta) {
            Some(Refusal::Stamped)
        } else if meta.hard_expiry <= self.model.now {
            Some(Refusal::Expired)
        } else if self.model.served(key).is_some_and(|held| {
            held.meta.origin.epoch == meta.origin.epoch && held.meta.origin.seq > meta.origin.seq
        }) {
            Some(Refusal::Newer)
        } else if self.config.entries_max == 0 {
            Some(Refusal::NoRoom)
        } else if u64::from(meta.weight) + L1::<Key, Arc<u64>>::overhead_bytes(&address_of(key), meta)
            > self.config.bytes_max
        {
            Some(Refusal::TooHeavy)
        } else {
            None
        }
    }

    fn invalidate_key(&mut self, key: Key, event: Origin) {
        *self.model.resources.entry(key.0).or_default() += 1;
        let left = self.l1.invalidate_key(&key, &address_of(key), event);
        self.invalidated(left.into_iter().collect(), event, |other| other == key);
    }

    /// Exactly those that the scope covers and that do not reflect the event left.
    fn invalidated(&mut self, left: Vec<Left<Key, Arc<u64>>>, event: Origin, covers: impl Fn(Key) -> bool) {
        let outdated =
            |held: &Held| held.meta.origin.epoch != event.epoch || held.meta.origin.seq < event.seq;
        let mut expected: Vec<Key> = self
            .model
            .held
            .iter()
            .filter(|(key, held)| covers(**key) && outdated(held))
            .map(|(key, _)| *key)
            .collect();
        let mut found: Vec<Key> = left.iter().map(|left| left.key).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "left by event {event:?}");
        for left in &left {
            assert_eq!(left.cause, Cause::Invalidated);
            self.model.leave(left);
        }
    }

    fn sweep(&mut self, budget: usize) {
        let left = self.l1.sweep(self.model.now, budget);
        assert!(left.len() <= budget);
        for left in &left {
            let held = self.model.leave(left);
            match left.cause {
                Cause::Expired => {}
                Cause::Invalidated => {
                    assert!(!self.model.is_current(left.key, &held), "{:?} was current", left.key)
                }
                other => panic!("a sweep does not {other:?}"),
            }
        }
        if budget >= 10_000 {
            // A walk that was under way when the fence moved covers what is behind it the next time.
            for left in self.l1.sweep(self.model.now, budget) {
                self.model.leave(&left);
            }
            for (&key, held) in &self.model.held {
                assert!(self.model.served(key).is_some(), "{key:?} is dead and was not swept: {held:?}");
            }
        }
    }

    fn compare(&mut self) {
        self.l1.validate();
        assert_eq!((self.l1.len(), self.l1.bytes()), (self.model.held.len(), self.model.bytes()));
        for resource in 0..6 {
            for variant in 0..4 {
                let key = (resource, variant);
                let hit = self.l1.get(&key, &address_of(key), self.model.now);
                let expected = self.model.get(key);
                assert_eq!(
                    hit.as_ref().map(|hit| *hit.value),
                    expected.as_ref().map(|held| held.value),
                    "{key:?}"
                );
                if let (Some(hit), Some(held)) = (hit, expected) {
                    let meta = &held.meta;
                    assert_eq!(
                        (hit.origin, hit.version, hit.load_start, hit.born, hit.soft_expiry, hit.hard_expiry),
                        (meta.origin, meta.version, 2, 3, 4, meta.hard_expiry)
                    );
                }
            }
        }
        let mut seen = 0;
        self.l1.for_each(|key, value, meta| {
            let held = &self.model.held[key];
            let mut expected = held.meta.clone();
            if expected.origin.epoch != self.model.logs[partition_of(*key) as usize].head.epoch {
                expected.origin.epoch = 0; // forgotten
            }
            assert_eq!((**value, meta), (held.value, &expected));
            seen += 1;
        });
        assert_eq!(seen, self.model.held.len());
    }
}

fn config() -> impl Strategy<Value = (Config, PolicyKind)> {
    let bytes_max = prop_oneof![Just(u64::MAX), 1_000..20_000_u64];
    let shards = prop_oneof![Just(1_usize), Just(4)];
    let kind = prop_oneof![Just(PolicyKind::Lru), Just(PolicyKind::Sieve)];
    (0..20_usize, bytes_max, shards, kind).prop_map(|(entries_max, bytes_max, shards, kind)| {
        (Config { entries_max, bytes_max, shards: Some(shards), own_group: OWN_GROUP }, kind)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_dull_model((config, kind) in config(), ops in prop::collection::vec(op(), 1..150)) {
        let mut run = Run::new(config, kind);
        for op in ops {
            run.step(op);
        }
    }
}
