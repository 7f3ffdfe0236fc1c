//! The server: its partitions, its clock, and the port to it as a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::Roster;
use cache_events::{Clock, Group, Key, Namespace, NodeId, Partition, Pattern, Position, Version};
use cache_l2::{Append, Invalidation, LeaseAnswer, LeaseAsk, LeaseToken, ReadAnswer, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::config::EmbeddedConfig;
use crate::outlets::Outlets;
use crate::shard::{NewRecord, Refusal, Shard};
use crate::stamps::Now;

/// An in-process server that is [`Store`] and [`Transport`](cache_bus::Transport) at once. Clones are the same server.
#[derive(Clone)]
pub struct EmbeddedServer(Arc<Inner>);

struct Inner {
    shards: Box<[Mutex<Shard>]>,
    outlets: Outlets,
    roster: Mutex<Roster>,
    clock: Arc<dyn Clock>,
    started: Now,
}

/// One partition at one instant, for diagnostics and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The last position of its log.
    pub position: Position,
    /// Why its epoch began: `init`, `flush`, `future_cursor`, `group_overflow`, `stamp_overflow` or `restart`.
    pub epoch_cause: &'static str,
    /// How many records it holds, with those that have expired but not left yet.
    pub records: usize,
    /// Bytes of records, leases and stamps with what holding them costs.
    pub bytes: usize,
    /// How many entries its log holds.
    pub log_entries: usize,
    /// The nodes that sync, what each has applied, and how long ago it said so; by name.
    pub nodes: Vec<(NodeId, Position, Duration)>,
}

impl EmbeddedServer {
    /// Starts an empty server. Its time is the clock's wall time at this moment, carried on by its monotone
    /// milliseconds, so that a jump of the machine's clock neither revives nor kills a record.
    pub fn new(config: EmbeddedConfig, clock: Arc<dyn Clock>) -> Self {
        let started = Now { tick: clock.now(), server_ms: clock.wall() };
        let shard = |number| Mutex::new(Shard::new(Partition(number), &config, started));
        let shards = (0..config.partitions()).map(shard).collect();
        let outlets = Outlets::new(config.hints_max, config.public_events_max);
        Self(Arc::new(Inner { shards, outlets, roster: Mutex::default(), clock, started }))
    }

    /// Subscribes to the public channel: the events of writes with a public form, as JSON objects.
    pub fn public_events(&self) -> broadcast::Receiver<String> {
        self.0.outlets.public_events()
    }

    /// The last position of a partition's log, if there is such a partition.
    pub fn position(&self, partition: Partition) -> Option<Position> {
        self.0.shards.get(partition.index()).map(|shard| shard.lock().position())
    }

    /// One partition at this instant, if there is such a partition.
    pub fn inspect(&self, partition: Partition) -> Option<PartitionState> {
        let shard = self.0.shards.get(partition.index())?.lock();
        let now = self.0.now().tick;
        let row = |(node, row): (&NodeId, &crate::shard::NodeRow)| {
            (node.clone(), row.position, Duration::from_millis(now.saturating_sub(row.tick)))
        };
        let mut nodes: Vec<_> = shard.nodes().map(row).collect();
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        Some(PartitionState {
            position: shard.position(),
            epoch_cause: shard.why(),
            records: shard.records_len(),
            bytes: shard.bytes(),
            log_entries: shard.log_len(),
            nodes,
        })
    }

    /// Loses everything and begins a new epoch in each partition, as a server does that comes back without its data.
    pub fn restart_empty(&self) {
        self.0.roster.lock().clear();
        for shard in &self.0.shards {
            let mut shard = shard.lock();
            // Refused only where no epoch is left, which takes a clock of the year 2255.
            let _ = shard.restart_empty(self.0.now(), &self.0.outlets);
        }
    }

    /// Empties the log of a partition, as if its limit had been passed: whoever is behind has a gap.
    pub fn trim_log(&self, partition: Partition) {
        if let Some(shard) = self.0.shards.get(partition.index()) {
            shard.lock().trim_log();
        }
    }

    pub(crate) fn outlets(&self) -> &Outlets {
        &self.0.outlets
    }

    /// Runs one step of the roster, at this server's time in milliseconds.
    pub(crate) fn roster_step<T>(&self, step: impl FnOnce(&mut Roster, u64) -> T) -> T {
        let mut roster = self.0.roster.lock();
        step(&mut roster, self.0.now().tick)
    }

    pub(crate) fn partition_count(&self) -> u32 {
        self.0.shards.len() as u32
    }

    /// Runs one step under the lock of its partition. The time is taken under it, so that steps see it grow.
    pub(crate) fn step<T>(
        &self,
        partition: Partition,
        step: impl FnOnce(&mut Shard, Now, &Outlets) -> T,
    ) -> Result<T, Refusal> {
        let count = self.partition_count();
        let Some(shard) = self.0.shards.get(partition.index()) else {
            return Err(Refusal(format!("partition {partition} of {count}")));
        };
        let mut shard = shard.lock();
        Ok(step(&mut shard, self.0.now(), &self.0.outlets))
    }

    fn step_of_key<T>(
        &self,
        key: &Key,
        step: impl FnOnce(&mut Shard, Now, &Outlets) -> T,
    ) -> Result<T, Refusal> {
        self.step(key.partition(self.partition_count()), step)
    }

    fn check_keys(&self, partition: Partition, keys: &[Key]) -> Result<(), Refusal> {
        match keys.iter().find(|key| key.partition(self.partition_count()) != partition) {
            Some(key) => Err(Refusal(format!("{key} is not of partition {partition}"))),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for EmbeddedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedServer").field("partitions", &self.partition_count()).finish_non_exhaustive()
    }
}

impl Inner {
    fn now(&self) -> Now {
        let tick = self.clock.now();
        Now { tick, server_ms: self.started.server_ms + tick.saturating_sub(self.started.tick) }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { message: refusal.0 }
    }
}

#[async_trait]
impl Store for EmbeddedServer {
    fn partitions(&self) -> u32 {
        self.partition_count()
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }

    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError> {
        self.check_keys(partition, keys)?;
        Ok(self.step(partition, |shard, now, _| shard.read(keys, now))?)
    }

    async fn lease(&self, key: &Key, ask: LeaseAsk) -> Result<LeaseAnswer, StoreError> {
        Ok(self.step_of_key(key, |shard, now, out| shard.lease(key, ask, now, out))??)
    }

    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        Ok(self.step_of_key(key, |shard, now, out| {
            shard.fill(key, token, NewRecord { bytes: record, ttl }, now, out)
        })?)
    }

    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError> {
        Ok(self.step_of_key(key, |shard, now, _| shard.release(key, token, now))?)
    }

    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        Ok(self.step_of_key(key, |shard, now, out| {
            shard.put(key, NewRecord { bytes: record, ttl }, append, now, out)
        })??)
    }

    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError> {
        Ok(self.step_of_key(key, |shard, now, out| {
            shard.put_versioned(key, version, NewRecord { bytes: record, ttl }, append, now, out)
        })??)
    }

    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.check_keys(partition, &what.keys)?;
        Ok(self.step(partition, |shard, now, out| shard.invalidate(what, append, now, out))??)
    }

    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        Ok(self.step(partition, |shard, now, out| shard.invalidate_groups(groups, keep, append, now, out))??)
    }

    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError> {
        Ok(self.step(partition, |shard, now, out| {
            shard.invalidate_pattern(namespace, pattern, append, now, out)
        })??)
    }

    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError> {
        Ok(self.step(partition, |shard, now, out| shard.flush(append, now, out))??)
    }
}
