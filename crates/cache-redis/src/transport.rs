//! Redis as the carrier of invalidations.

use std::sync::Arc;

use async_trait::async_trait;
use bb8_redis::redis::Value;
use cache_bus::{
    Description, GroupStamp, HintStream, LogEntry, Missed, ROSTER_ROWS_MAX, ROSTER_TTL, RosterRow,
    SyncAnswer, Transport, TransportError,
};
use cache_events::{Group, NodeId, Partition, Position};

use crate::config::{ConfigError, RedisConfig};
use crate::dial::Dialer;
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::info::RedisStats;
use crate::listening::Left;
use crate::reply;
use crate::subscription::Subscription;
use crate::topology::Topology;
use crate::watch::Watch;

/// Redis as [`Transport`]: hints by publish and subscribe, the log as a stream.
///
/// It shares nothing with the [`RedisStore`](crate::RedisStore) of its node but the settings, and has no way to the
/// records. Nothing is connected before the first call.
pub struct RedisTransport {
    dialer: Arc<Dialer>,
    control: Fleet,
    watch: Arc<Watch>,
    left: Left,
}

impl RedisTransport {
    /// A transport over the Redis of a deployment.
    ///
    /// # Errors
    /// [`ConfigError`] if a setting is out of range or a certificate cannot be used.
    pub fn new(config: RedisConfig) -> Result<Self, ConfigError> {
        let (dialer, watch) = (Arc::new(Dialer::new(config)?), Arc::<Watch>::default());
        let (each, timeout) = (dialer.config.control_connections, dialer.config.control_timeout);
        let control = Fleet::new(dialer.clone(), watch.clone(), each, timeout);
        Ok(Self { dialer, control, watch, left: Left::default() })
    }

    /// What goes on in its clients. Subscriptions are among the connections that were opened, and not among those of the pool.
    pub fn stats(&self) -> RedisStats {
        RedisStats::of(&[&self.control], &self.dialer.tally)
    }
}

impl std::fmt::Debug for RedisTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisTransport").field("config", &self.dialer.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for RedisTransport {
    fn partitions(&self) -> u32 {
        self.dialer.layout.partitions()
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        if matches!(self.dialer.config.topology, Topology::Standalone) {
            return Ok(Box::new(Subscription::open(&self.dialer).await?));
        }
        self.watch.begin(&self.dialer);
        Ok(Box::new(self.left.open(&self.dialer).await?))
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        let script = &self.dialer.scripts.sync;
        let mut cmd = self.dialer.begin(script, partition, at, 0, |_| {});
        cmd.arg(node.as_str()).arg(max.max(1));
        let answer = self.control.eval(partition, script, &cmd).await?;
        let answer = sync_answer(answer, at)?;
        self.dialer.saw_epoch(partition, answer.head.epoch);
        Ok(answer)
    }

    async fn introduce(
        &self,
        node: &NodeId,
        description: Option<&Description>,
    ) -> Result<(), TransportError> {
        let script = &self.dialer.scripts.introduce;
        let mut cmd = script.call(1);
        cmd.arg(&self.dialer.layout.part(ROSTER_AT).roster).arg(node.as_str());
        let said = description.map_or(&[][..], |description| description.bytes());
        cmd.arg(said).arg(ROSTER_TTL.as_millis() as u64).arg(ROSTER_ROWS_MAX);
        self.control.eval(ROSTER_AT, script, &cmd).await?;
        Ok(())
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        let script = &self.dialer.scripts.roster;
        let mut cmd = script.call(1);
        cmd.arg(&self.dialer.layout.part(ROSTER_AT).roster).arg(ROSTER_TTL.as_millis() as u64);
        let Value::Array(list) = self.control.eval(ROSTER_AT, script, &cmd).await? else {
            return Err(reply::odd("roster").into());
        };
        let mut rows = Vec::with_capacity(list.len() / 3);
        let mut list = list.into_iter();
        while let (Some(node), Some(age_ms), Some(description)) = (list.next(), list.next(), list.next()) {
            // A row that cannot be read is nobody's.
            let Some(Ok(node)) = reply::text(&node).map(NodeId::new) else { continue };
            let (Some(age_ms), Some(description)) = (reply::number(&age_ms), reply::bytes(description))
            else {
                return Err(reply::odd("roster").into());
            };
            rows.push(RosterRow { node, description, age_ms });
        }
        Ok(rows)
    }
}

/// The partition with whose master the roster is.
const ROSTER_AT: Partition = Partition(0);

fn sync_answer(answer: Value, at: Position) -> Result<SyncAnswer, Fault> {
    let (head, server_ms) = reply::head(&answer, 1)?;
    let Value::Array(list) = answer else { return Err(reply::odd("sync")) };
    let Ok([tag, _, _, _, Value::Array(list)]) = <[Value; 5]>::try_from(list) else {
        return Err(reply::odd("sync"));
    };
    let missed = match reply::text(&tag) {
        Some("O") => {
            let entry = |(seq, envelope)| {
                let payload = reply::bytes(envelope).ok_or_else(|| reply::odd("log entry"))?;
                Ok(LogEntry { position: Position::new(at.epoch, seq), payload })
            };
            Missed::Entries((at.seq + 1..).zip(list).map(entry).collect::<Result<_, Fault>>()?)
        }
        Some("G") => Missed::Gap(groups(&list)?),
        Some("R") => Missed::Reset(groups(&list)?),
        _ => return Err(reply::odd("sync")),
    };
    Ok(SyncAnswer { head, server_ms, missed })
}

fn groups(list: &[Value]) -> Result<Vec<GroupStamp>, Fault> {
    list.chunks(2)
        .map(|pair| match pair {
            [group, seq] => {
                let group = reply::text(group).map(Group::id_of);
                match (group, reply::number(seq)) {
                    (Some(group), Some(seq)) => Ok(GroupStamp { group, seq }),
                    _ => Err(reply::odd("group table")),
                }
            }
            _ => Err(reply::odd("group table")),
        })
        .collect()
}
