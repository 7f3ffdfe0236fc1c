//! The modelled store: what the scripts of `cache-redis` do, over data that can be copied, lost and brought back.
//!
//! A [`Server`] is one master. Its data is plain and can be cloned, so that a replica, a snapshot and the old master after a
//! failover are values. Each step is whole; what is not one script in Redis (the passes of a pattern, an invalidation
//! while a slot moves) is several steps here too, and the line between node and server decides what comes between.

mod log;
mod part;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use cache_events::{Key, Partition, Position};

pub(crate) use part::{NewRecord, Part, PutRefused};

/// A map whose order is the same in every run.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Limits of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Entries in the log of a partition.
    pub(crate) log_entries_max: usize,
    /// Group stamps in a partition.
    pub(crate) groups_max: usize,
}

/// A replica that follows no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    number: u64,
    /// Whether its master was there. Else it holds what an empty place was given.
    pub(crate) of_a_master: bool,
}

/// A hint on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) partition: Partition,
    pub(crate) position: Position,
    pub(crate) payload: Bytes,
}

/// What a step sees of its surroundings, and what it leaves for them.
pub(crate) struct Step<'a> {
    pub(crate) partition: Partition,
    /// Milliseconds since the Unix epoch by the server's clock.
    pub(crate) ms: u64,
    pub(crate) incarnation: u64,
    pub(crate) limits: Limits,
    pub(crate) published: &'a mut Vec<Publication>,
    /// Epochs begun or confirmed by a step that looked at the incarnation.
    pub(crate) confirmed: &'a mut Vec<(Partition, u64)>,
}

/// One master: its data, and which life it is.
pub(crate) struct Server {
    parts: Vec<Part>,
    /// The replication id: drawn anew by every start and promotion.
    incarnation: u64,
    /// Counts the times that all connections were lost.
    pub(crate) life: u64,
    limits: Limits,
    /// By how much its clock is off, in milliseconds.
    pub(crate) skew: i64,
    /// Accepts connections.
    pub(crate) up: bool,
    published: Vec<Publication>,
    /// What the replicas hold that will take over, and no longer follow. The one that will not take over has everything at once.
    lagging: Map<Broken, Vec<Part>>,
    breaks: u64,
    /// Which incarnation an epoch belongs to.
    owners: HashMap<(Partition, u64), u64, BuildHasherDefault<DefaultHasher>>,
    shared_epochs: Vec<String>,
}

impl Server {
    pub(crate) fn new(partitions: u32, limits: Limits) -> Self {
        Self {
            parts: (0..partitions.max(1)).map(|_| Part::default()).collect(),
            incarnation: 1,
            life: 1,
            limits,
            skew: 0,
            up: true,
            published: Vec::new(),
            lagging: Map::default(),
            breaks: 0,
            owners: HashMap::default(),
            shared_epochs: Vec::new(),
        }
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.parts.len() as u32
    }

    /// What the server's clock shows at an instant of the world.
    pub(crate) fn ms(&self, world_ms: u64) -> u64 {
        (EPOCH_OF_TIME + world_ms).saturating_add_signed(self.skew)
    }

    /// Runs one step.
    pub(crate) fn step<T>(
        &mut self,
        partition: Partition,
        world_ms: u64,
        step: impl FnOnce(&mut Part, &mut Step<'_>) -> T,
    ) -> T {
        let ms = self.ms(world_ms);
        let mut confirmed = Vec::new();
        let mut scene = Step {
            partition,
            ms,
            incarnation: self.incarnation,
            limits: self.limits,
            published: &mut self.published,
            confirmed: &mut confirmed,
        };
        let done = step(&mut self.parts[partition.index()], &mut scene);
        for confirmed in confirmed {
            let owner = *self.owners.entry(confirmed).or_insert(self.incarnation);
            if owner != self.incarnation {
                let (partition, epoch) = confirmed;
                let (one, other) = (owner, self.incarnation);
                self.shared_epochs.push(format!(
                    "epoch {epoch} of partition {partition} has two incarnations, {one} and {other}"
                ));
            }
        }
        done
    }

    /// The hints that steps have left since the last call.
    pub(crate) fn take_published(&mut self) -> Vec<Publication> {
        std::mem::take(&mut self.published)
    }

    /// Epochs that two incarnations shared, told since the last call.
    pub(crate) fn take_shared_epochs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shared_epochs)
    }

    /// The record of a key that a node which knows all would take for alive.
    pub(crate) fn live_record(&self, key: &Key, namespace_group: u64, world_ms: u64) -> Option<Bytes> {
        let part = &self.parts[key.partition(self.partitions()).index()];
        part.live_record(key, namespace_group, self.incarnation, self.ms(world_ms))
    }

    /// The data as it is now.
    pub(crate) fn snapshot(&self) -> Vec<Part> {
        self.parts.clone()
    }

    /// A replica follows no longer; it will take over as it is now.
    pub(crate) fn replication_breaks(&mut self) -> Broken {
        self.breaks += 1;
        let broken = Broken { number: self.breaks, of_a_master: self.up };
        self.lagging.insert(broken, self.parts.clone());
        broken
    }

    /// What that replica has.
    pub(crate) fn replica(&mut self, broken: Broken) -> Vec<Part> {
        self.lagging.remove(&broken).unwrap_or_else(|| self.nothing())
    }

    /// How many replicas have what was acknowledged at a position; `None` if this server does not know of it. Of those that
    /// will take over the worst counts.
    pub(crate) fn replicated(&mut self, partition: Partition, at: Position, world_ms: u64) -> Option<u32> {
        let hello = Position::new(at.epoch, 0);
        let head = self.step(partition, world_ms, |part, step| part.hello(hello, step));
        let has = |parts: &Vec<Part>| parts[partition.index()].position().is_some_and(|has| has >= at);
        (head >= at && head.epoch == at.epoch).then(|| u32::from(self.lagging.values().all(has)))
    }

    /// Another life begins, over this data: all connections are lost. Gives back the data that was here.
    pub(crate) fn reborn(&mut self, data: Vec<Part>) -> Vec<Part> {
        self.life += 1;
        self.incarnation = self.life;
        std::mem::replace(&mut self.parts, data)
    }

    /// Callers are led back to a master that never noticed that another one had taken over: its data and its incarnation are
    /// what they were. The first who comes has seen the other one.
    pub(crate) fn switched_back(&mut self, data: Vec<Part>, incarnation: u64, world_ms: u64) {
        let hello = |server: &mut Self, number, at| {
            server.step(Partition(number), world_ms, |part, step| part.hello(at, step))
        };
        let numbers = 0..self.partitions();
        let seen: Vec<Position> = numbers.map(|number| hello(&mut *self, number, Position::ZERO)).collect();
        self.life += 1;
        self.incarnation = incarnation;
        self.parts = data;
        for (number, seen) in (0..).zip(seen) {
            hello(&mut *self, number, seen);
        }
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// No data at all.
    pub(crate) fn nothing(&self) -> Vec<Part> {
        self.parts.iter().map(|_| Part::default()).collect()
    }

    /// What an operator or an eviction does to the data, in all partitions.
    pub(crate) fn meddle(&mut self, meddle: impl FnMut(&mut Part)) {
        self.parts.iter_mut().for_each(meddle);
    }
}

/// What the clocks of the world show at its start: November 2025.
pub(crate) const EPOCH_OF_TIME: u64 = 1_762_000_000_000;
