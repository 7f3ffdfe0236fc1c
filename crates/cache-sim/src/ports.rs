//! The ports of the engine over a [`Link`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::{Description, HintStream, RosterRow, SyncAnswer, Transport, TransportError};
use cache_events::{Group, Key, Namespace, NodeId, Partition, Pattern, Position, Version};
use cache_l2::{
    Append, Invalidation, LeaseAnswer, LeaseAsk, LeaseToken, NodeRoll, ReadAnswer, Store, StoreError,
};

use crate::inbox::{Inbox, Subscription};
use crate::link::{Call, Fault, Link};
use crate::server::{NewRecord, Part, PutRefused, Step};
use crate::time::pass;
use crate::world::World;

/// A [`Link`] as the engine sees it.
#[derive(Clone)]
pub(crate) struct Ports(pub(crate) Arc<Link>);

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotDone => Self::Unavailable { message: "no connection".into(), source: None },
            Fault::Unknown => Self::Unknown { message: "no answer".into() },
        }
    }
}

impl From<PutRefused> for StoreError {
    fn from(PutRefused: PutRefused) -> Self {
        Self::Refused { message: "what is put is not a record".into() }
    }
}

impl Ports {
    fn world(&self) -> &Arc<World> {
        &self.0.world
    }

    fn place(&self, key: &Key) -> Partition {
        key.partition(self.world().plan.partitions)
    }

    fn saw(&self, partition: Partition, position: Position) -> Position {
        self.world().note(|| format!("{} learns {position} of partition {partition}", self.0.node().id));
        self.0.saw(partition, position.epoch);
        position
    }

    /// An invalidation while its slot moves: first what it removes, then the event, each by itself.
    async fn invalidate_in_two_steps(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        let removing = || {
            let what = what.clone();
            self.0.call(Call::control("remove"), move |state, now| {
                state.server.step(partition, now, |part, step| part.remove(&what, step));
            })
        };
        // Between the two the caller is led from one place of the slot to the other.
        let way = self.world().redirection();
        if !mutated!("event_before_delete") {
            removing().await?;
            pass(way).await;
        }
        let rest = what.clone();
        let position = self.0.call(Call::control("event"), move |state, now| {
            state.server.step(partition, now, |part, step| part.invalidate_rest(&rest, &append, step))
        });
        let position = position.await?;
        if mutated!("event_before_delete") {
            pass(way).await;
            removing().await?;
        }
        Ok(self.saw(partition, position))
    }
}

#[async_trait]
impl Store for Ports {
    fn partitions(&self) -> u32 {
        self.world().plan.partitions
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError> {
        let keys = keys.to_vec();
        let items = self.0.call(Call::data("read"), move |state, now| {
            state.server.step(partition, now, |part, step| part.read(&keys, step.ms))
        });
        let items = items.await?;
        // After the answer: the connection it came through was opened with a hello, and that is noted by now.
        Ok(ReadAnswer { epoch: self.0.epoch(partition), items })
    }

    async fn lease(&self, key: &Key, ask: LeaseAsk) -> Result<LeaseAnswer, StoreError> {
        let (partition, key) = (self.place(key), key.clone());
        let answer = self.0.call(Call::data("lease"), move |state, now| {
            state.server.step(partition, now, |part, step| part.lease(&key, ask, step))
        });
        let answer = answer.await?;
        self.saw(partition, answer.head);
        Ok(answer)
    }

    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let (partition, key, world) = (self.place(key), key.clone(), self.world().clone());
        let filled = self.0.call(Call::data("fill"), move |state, now| {
            let record = NewRecord { bytes: record, ttl };
            let filled = state.server.step(partition, now, |part, step| part.fill(&key, token, record, step));
            world.judge.look_at_record(&key, &state.server, now);
            filled
        });
        Ok(filled.await?)
    }

    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError> {
        let (partition, key) = (self.place(key), key.clone());
        let released = self.0.call(Call::data("release"), move |state, now| {
            state.server.step(partition, now, |part, step| part.release(&key, token, step));
        });
        Ok(released.await?)
    }

    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        let (partition, key) = (self.place(key), key.clone());
        let call = Call { posthumous: false, ..Call::control("put") };
        let put = self.0.call(call, move |state, now| {
            let record = NewRecord { bytes: record, ttl };
            state.server.step(partition, now, |part, step| part.put(&key, record, &append, step))
        });
        Ok(self.saw(partition, put.await??))
    }

    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError> {
        let (partition, key, world) = (self.place(key), key.clone(), self.world().clone());
        // Where versions leave with their records, what is late would find none.
        let posthumous = self.world().plan.evict_every_ms == 0;
        let put = self.0.call(Call { posthumous, ..Call::control("putv") }, move |state, now| {
            let record = NewRecord { bytes: record, ttl };
            let step = |part: &mut Part, step: &mut Step<'_>| {
                part.put_versioned(&key, version, record, &append, step)
            };
            let put = state.server.step(partition, now, step);
            world.judge.look_at_record(&key, &state.server, now);
            put
        });
        Ok(put.await??.map(|position| self.saw(partition, position)))
    }

    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        if self.world().with(|state, _| state.slot_moves > 0) {
            return self.invalidate_in_two_steps(partition, what, append).await;
        }
        let what = what.clone();
        let done = self.0.call(Call::control("inval"), move |state, now| {
            state.server.step(partition, now, |part, step| part.invalidate(&what, &append, step))
        });
        Ok(self.saw(partition, done.await?))
    }

    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        let groups = groups.to_vec();
        let done = self.0.call(Call::control("ginval"), move |state, now| {
            state
                .server
                .step(partition, now, |part, step| part.invalidate_groups(&groups, keep, &append, step))
        });
        Ok(self.saw(partition, done.await?))
    }

    /// Two passes over records and leases, then the event. A fill that comes between the look at the records and that at
    /// the leases is caught by the second pass.
    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError> {
        let passes = if mutated!("pattern_one_pass") { 1 } else { 2 };
        for _ in 0..passes {
            let (of, covered) = (namespace.clone(), pattern.clone());
            let records = self.0.call(Call::control("scan records"), move |state, now| {
                state.server.step(partition, now, |part, step| part.sweep_records(&of, &covered, step));
            });
            records.await?;
            let (of, covered) = (namespace.clone(), pattern.clone());
            let leases = self.0.call(Call::control("scan leases"), move |state, now| {
                state.server.step(partition, now, |part, _| part.sweep_leases(&of, &covered));
            });
            leases.await?;
        }
        let event = self.0.call(Call::control("event"), move |state, now| {
            state.server.step(partition, now, |part, step| part.announce(&append, step))
        });
        Ok(self.saw(partition, event.await?))
    }

    /// Waits at its end: who has everything has it at once.
    async fn replicated(
        &self,
        partition: Partition,
        at: Position,
        replicas: u32,
        within: Duration,
    ) -> Result<u32, StoreError> {
        let asked =
            self.0.call(Call::control("wait"), move |state, now| state.server.replicated(partition, at, now));
        let Some(have) = asked.await? else {
            return Err(StoreError::Unknown { message: "another epoch has begun".into() });
        };
        if have < replicas {
            pass(within.as_millis() as u64).await;
        }
        Ok(have)
    }

    async fn nodes(&self, partition: Partition) -> Result<NodeRoll, StoreError> {
        let world = self.world().clone();
        let nodes = self.0.call(Call::control("nodes"), move |state, now| {
            let roll = state.server.step(partition, now, |part, step| part.nodes(step));
            let left_out = |node: &usize| roll.nodes.iter().all(|row| row.node != world.nodes[*node].id);
            let left_out: Vec<usize> = (0..world.nodes.len()).filter(left_out).collect();
            world.judge.roll_told(partition, &left_out, roll.epoch_age_ms, now);
            roll
        });
        let roll = nodes.await?;
        self.saw(partition, roll.head);
        Ok(roll)
    }

    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError> {
        let done = self.0.call(Call::control("flush"), move |state, now| {
            state.server.step(partition, now, |part, step| part.flush(&append, step))
        });
        Ok(self.saw(partition, done.await?))
    }
}

#[async_trait]
impl Transport for Ports {
    fn partitions(&self) -> u32 {
        self.world().plan.partitions
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        let inbox = Inbox::new(self.world().plan.inbox_max);
        let (node, world, end) = (self.0.node, self.world().clone(), inbox.clone());
        let call = Call { posthumous: false, ..Call::control("subscribe") };
        let subscribed = self.0.call(call, move |state, _| world.subscribed(state, node, end));
        subscribed.await.map_err(unavailable)?;
        Ok(Box::new(Subscription { world: self.world().clone(), node, inbox }))
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        let node = node.clone();
        let answer = self.0.call(Call::control("sync"), move |state, now| {
            state.server.step(partition, now, |part, step| part.sync(&node, at, max, step))
        });
        let answer = answer.await.map_err(unavailable)?;
        self.saw(partition, answer.head);
        Ok(answer)
    }

    async fn introduce(
        &self,
        node: &NodeId,
        description: Option<&Description>,
    ) -> Result<(), TransportError> {
        let (node, description) = (node.clone(), description.cloned());
        let done = self.0.call(Call::control("introduce"), move |state, now| {
            let introduce = |part: &mut Part, step: &mut Step<'_>| {
                part.roster().introduce(&node, description.as_ref(), step.ms);
            };
            state.server.step(ROSTER_AT, now, introduce);
        });
        done.await.map_err(unavailable)
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        let rows = self.0.call(Call::control("roster"), move |state, now| {
            state.server.step(ROSTER_AT, now, |part, step| part.roster().rows(step.ms))
        });
        rows.await.map_err(unavailable)
    }
}

/// The partition with whose master the roster is.
const ROSTER_AT: Partition = Partition(0);

fn unavailable(fault: Fault) -> TransportError {
    let message = match fault {
        Fault::NotDone => "no connection",
        Fault::Unknown => "no answer",
    };
    TransportError::Unavailable { message: message.into() }
}
