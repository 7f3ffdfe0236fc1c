//! Redis as the shared tier.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bb8_redis::redis::{self, Cmd, Value};
use bytes::Bytes;
use cache_events::wire::CargoKind;
use cache_events::{Group, Key, Namespace, Partition, Pattern, Position, Version};
use cache_l2::{
    Append, Carry, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, NodeRoll, Over, ReadAnswer,
    ReadItem, Store, StoreError,
};
use futures_util::future::join_all;

use crate::config::{ConfigError, RedisConfig};
use crate::dial::Dialer;
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::info::{RedisInfo, RedisStats};
use crate::replicas::Replicas;
use crate::watch::Watch;
use crate::witness::{self, Witness};
use crate::{reply, sweep};

/// Shortest life of stamps and floors, so that one given without a time still does its work.
pub(crate) const KEEP_MIN: Duration = Duration::from_secs(1);

/// How long a put that could not be stored leaves the version of what it removed as a floor.
const FLOOR_KEEP: Duration = Duration::from_secs(3600);

/// Redis as [`Store`].
///
/// Nothing is connected before the first call, so a node starts without Redis and joins when it comes; [`ready`] is for
/// callers that want an error at once. Connections are opened, supervised and replaced behind the scenes.
///
/// [`ready`]: Self::ready
pub struct RedisStore {
    pub(crate) dialer: Arc<Dialer>,
    /// Records and leases.
    data: Fleet,
    /// Invalidations: a burst of reads does not delay them.
    pub(crate) control: Fleet,
    /// Where they may be read.
    replicas: Option<Replicas>,
    witness: Witness,
}

impl RedisStore {
    /// A store over the Redis of a deployment.
    ///
    /// # Errors
    /// [`ConfigError`] if a setting is out of range or a certificate cannot be used.
    pub fn new(config: RedisConfig) -> Result<Self, ConfigError> {
        let (dialer, watch) = (Arc::new(Dialer::new(config)?), Arc::<Watch>::default());
        let config = &dialer.config;
        let fleet = |each, timeout| Fleet::new(dialer.clone(), watch.clone(), each, timeout);
        Ok(Self {
            data: fleet(config.data_connections, config.operation_timeout),
            control: fleet(config.control_connections, config.control_timeout),
            replicas: config.replica_reads.then(|| Replicas::new(dialer.clone())),
            witness: Witness::default(),
            dialer: dialer.clone(),
        })
    }

    /// Connects, logs in and compares the fingerprint, within the connect time-out.
    ///
    /// # Errors
    /// [`StoreError`] with what the server or the network said.
    pub async fn ready(&self) -> Result<(), StoreError> {
        // Connections of their own: their error is the true one, not that of a pool that ran out of time.
        for master in self.dialer.masters() {
            self.dialer.dial(&master, None).await.map_err(Fault::of_read)?;
        }
        if self.dialer.slots.is_some() {
            for partition in (0..self.partitions()).map(Partition) {
                let ping = redis::cmd("PING");
                self.control.run(partition, "PING", &ping).await.map_err(Fault::of_read)?;
            }
        }
        Ok(())
    }

    /// One round trip to each master.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if none of them answers; [`topology`](Self::topology) tells about each.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ping = redis::cmd("PING");
        let masters = self.control.masters().await.map_err(Fault::of_read)?;
        let pongs = join_all(masters.iter().map(|master| self.control.run_at(master, "PING", &ping))).await;
        let mut why = Fault::NotDone("there is no master".into());
        for pong in pongs {
            match pong {
                Ok(_) => return Ok(()),
                Err(fault) => why = fault,
            }
        }
        Err(why.of_read())
    }

    /// What the masters say about themselves, added up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if one of them does not answer, [`StoreError::Refused`] without the right to ask.
    pub async fn info(&self) -> Result<RedisInfo, StoreError> {
        let infos = self.at_masters("INFO", &redis::cmd("INFO")).await.map_err(Fault::of_read)?;
        let sizes = self.at_masters("DBSIZE", &redis::cmd("DBSIZE")).await.map_err(Fault::of_read)?;
        let mut sum = RedisInfo::default();
        for (info, size) in infos.iter().zip(&sizes) {
            sum.add(RedisInfo::parse(
                reply::text(info).unwrap_or_default(),
                reply::number(size).unwrap_or(0),
            ));
        }
        Ok(sum)
    }

    /// Sends a command to every master.
    pub(crate) async fn at_masters(&self, what: &str, cmd: &Cmd) -> Result<Vec<Value>, Fault> {
        let masters = self.control.masters().await?;
        let answers = join_all(masters.iter().map(|master| self.control.run_at(master, what, cmd))).await;
        answers.into_iter().collect()
    }

    /// Removes everything that the deployment has in Redis: records, log, meta, fingerprint. For runs that leave nothing
    /// behind; nodes that are still there see a new epoch.
    ///
    /// # Errors
    /// [`StoreError`]; what was removed until then stays removed.
    pub async fn remove_all(&self) -> Result<(), StoreError> {
        sweep::everything(&self.dialer, &self.control).await.map_err(Fault::of_write)
    }

    /// What goes on in this process.
    pub fn stats(&self) -> RedisStats {
        RedisStats::of(&[&self.data, &self.control], &self.dialer.tally)
    }

    /// A put while its slot moves: nothing can be stored, but what was there before goes, and everybody learns it.
    async fn put_apart(
        &self,
        partition: Partition,
        key: &Key,
        ttl: Duration,
        append: &Append,
    ) -> Result<Position, StoreError> {
        let keep = ttl.max(FLOOR_KEEP);
        let what = Invalidation { keys: vec![key.clone()], keep, ..Default::default() };
        self.invalidate_apart(partition, &what, &[], append).await.map_err(Fault::of_write)
    }

    /// The head of a script that appends: everything up to its own arguments.
    pub(crate) fn appending(
        &self,
        script: &crate::scripts::Script,
        partition: Partition,
        append: &Append,
        more: usize,
        keys: impl FnOnce(&mut Cmd),
    ) -> Cmd {
        let mut cmd = self.dialer.begin(script, partition, append.at, more, keys);
        cmd.arg(&*append.payload);
        let public = append.public.as_deref().filter(|_| self.dialer.config.public_channel.is_some());
        cmd.arg(public.unwrap_or_default());
        cmd
    }

    /// Reads records and the stamps of their resources.
    fn mget(&self, partition: Partition, keys: &[Key]) -> Cmd {
        let part = self.dialer.layout.part(partition);
        let mut cmd = Cmd::with_capacity(1 + 2 * keys.len(), 128 * keys.len());
        cmd.arg("MGET");
        let mut scratch = String::with_capacity(128);
        for key in keys {
            part.with_stamp(key, &mut scratch, |name| {
                cmd.arg(name);
            });
        }
        cmd
    }

    /// Reads the position that a script answers, and learns its epoch.
    fn written(
        &self,
        partition: Partition,
        answer: Result<Value, Fault>,
    ) -> Result<Option<Position>, StoreError> {
        let position = answer.and_then(|value| reply::position(&value)).map_err(Fault::of_write)?;
        if let Some(position) = position {
            self.dialer.saw_epoch(partition, position.epoch);
        }
        Ok(position)
    }

    fn appended(&self, partition: Partition, answer: Result<Value, Fault>) -> Result<Position, StoreError> {
        self.written(partition, answer)?.ok_or_else(|| reply::odd("position").of_write())
    }
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("config", &self.dialer.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for RedisStore {
    fn partitions(&self) -> u32 {
        self.dialer.layout.partitions()
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    /// In a Cluster every partition would look at all names of its node.
    fn finds_patterns(&self) -> bool {
        self.dialer.slots.is_none()
    }

    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError> {
        if keys.is_empty() {
            return Ok(ReadAnswer { epoch: self.dialer.epoch(partition), items: Vec::new() });
        }
        let answer = self.data.run(partition, "MGET", &self.mget(partition, keys)).await;
        let items = items_of(answer.map_err(Fault::of_read)?, keys.len()).map_err(Fault::of_read)?;
        // After the answer: the connection it came through was opened with a hello, and that is noted by now.
        Ok(ReadAnswer { epoch: self.dialer.epoch(partition), items })
    }

    async fn read_replica(
        &self,
        partition: Partition,
        keys: &[Key],
    ) -> Result<Option<ReadAnswer>, StoreError> {
        let Some(replicas) = self.replicas.as_ref().filter(|_| !keys.is_empty()) else { return Ok(None) };
        let answer = replicas.read(&self.control, partition, &self.mget(partition, keys)).await;
        let Some(answer) = answer else { return Ok(None) };
        let items = items_of(answer, keys.len()).map_err(Fault::of_read)?;
        Ok(Some(ReadAnswer { epoch: self.dialer.epoch(partition), items }))
    }

    async fn lease(&self, key: &Key, ask: LeaseAsk) -> Result<LeaseAnswer, StoreError> {
        let partition = key.partition(self.partitions());
        let names = self.dialer.layout.part(partition).key(key);
        let script = &self.dialer.scripts.lease;
        let mut cmd = self.dialer.begin(script, partition, ask.at, 3, |cmd| {
            cmd.arg(names.value).arg(names.lease).arg(names.stamp);
        });
        cmd.arg(&ask.token.0).arg(millis(ask.ttl)).arg(u8::from(ask.refresh));
        let answer = self.data.eval(partition, script, &cmd).await.map_err(Fault::of_write)?;
        let answer = lease_answer(answer).map_err(Fault::of_write)?;
        self.dialer.saw_epoch(partition, answer.head.epoch);
        Ok(answer)
    }

    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let partition = key.partition(self.partitions());
        let names = self.dialer.layout.part(partition).key(key);
        let script = &self.dialer.scripts.fill;
        let mut cmd = script.call(2);
        cmd.arg(names.value).arg(names.lease);
        cmd.arg(&token.0).arg(&*record).arg(millis(ttl));
        let answer = self.data.eval(partition, script, &cmd).await.map_err(Fault::of_write)?;
        Ok(answer == Value::Int(1))
    }

    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError> {
        let partition = key.partition(self.partitions());
        let names = self.dialer.layout.part(partition).key(key);
        let script = &self.dialer.scripts.release;
        let mut cmd = script.call(1);
        cmd.arg(names.lease).arg(&token.0);
        self.data.eval(partition, script, &cmd).await.map(drop).map_err(Fault::of_write)
    }

    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        let partition = key.partition(self.partitions());
        let names = self.dialer.layout.part(partition).key(key);
        let script = &self.dialer.scripts.put;
        let mut cmd = self.appending(script, partition, &append, 2, |cmd| {
            cmd.arg(names.value).arg(names.lease);
        });
        cmd.arg(&*record).arg(millis(ttl));
        match &append.carry {
            Carry::Nothing => {}
            Carry::Record => {
                cmd.arg(&[CargoKind::Record.code()]);
            }
            Carry::Delta(delta) => {
                cmd.arg(&[CargoKind::Delta.code()]).arg(&**delta);
            }
        }
        match self.data.eval(partition, script, &cmd).await {
            Err(Fault::Torn(_)) => self.put_apart(partition, key, ttl, &append).await,
            answer => self.appended(partition, answer),
        }
    }

    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError> {
        let partition = key.partition(self.partitions());
        let names = self.dialer.layout.part(partition).key(key);
        let script = &self.dialer.scripts.putv;
        let mut cmd = self.appending(script, partition, &append, 4, |cmd| {
            cmd.arg(names.value).arg(names.lease).arg(names.stamp).arg(names.floor);
        });
        let (hi, lo) = version.halves();
        cmd.arg(&*record).arg(millis(ttl)).arg(hi).arg(lo);
        match &append.carry {
            Carry::Nothing if append.over.is_some() => {
                cmd.arg("").arg("");
            }
            Carry::Nothing => {}
            Carry::Record => {
                cmd.arg(&[CargoKind::Record.code()]).arg("");
            }
            Carry::Delta(delta) => {
                cmd.arg(&[CargoKind::Delta.code()]).arg(&**delta);
            }
        }
        if let Some(Over { position, groups }) = &append.over {
            cmd.arg(position.epoch).arg(position.seq);
            for group in groups {
                cmd.arg(group.as_str());
            }
        }
        match self.data.eval(partition, script, &cmd).await {
            Err(Fault::Torn(_)) => self.put_apart(partition, key, ttl, &append).await.map(Some),
            answer => self.written(partition, answer),
        }
    }

    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        let part = self.dialer.layout.part(partition);
        let mut stamps = Vec::with_capacity(what.resources.len());
        for (namespace, resource) in &what.resources {
            let stamp = part.resource(namespace, resource);
            stamps.push(stamp.ok_or_else(|| StoreError::Refused {
                message: format!("a resource of {namespace} is empty or too long"),
            })?);
        }
        let script = &self.dialer.scripts.inval;
        let more = 3 * what.keys.len() + stamps.len();
        let mut cmd = self.appending(script, partition, &append, more, |cmd| {
            for key in &what.keys {
                let names = part.key(key);
                cmd.arg(names.value).arg(names.lease).arg(names.floor);
            }
            cmd.arg(&stamps);
        });
        cmd.arg(what.keys.len()).arg(millis(what.keep.max(KEEP_MIN)));
        if !what.hold.is_zero() || what.floor != Version::NONE {
            let (hi, lo) = what.floor.halves();
            cmd.arg(hold_millis(what)).arg(hi).arg(lo);
        }
        let answer = match self.control.eval(partition, script, &cmd).await {
            Err(Fault::Torn(_)) => {
                let apart = self.invalidate_apart(partition, what, &stamps, &append).await;
                return apart.map_err(Fault::of_write);
            }
            answer => answer,
        };
        self.appended(partition, answer)
    }

    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        let mut names: Vec<&str> = groups.iter().map(Group::as_str).collect();
        // The script counts new groups, so each comes once.
        names.sort_unstable();
        names.dedup();
        let script = &self.dialer.scripts.ginval;
        let mut cmd = self.appending(script, partition, &append, 0, |_| {});
        cmd.arg(millis(keep)).arg(self.dialer.config.groups_max).arg(names);
        self.appended(partition, self.control.eval(partition, script, &cmd).await)
    }

    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError> {
        sweep::twice(&self.dialer, &self.control, partition, namespace, pattern, append.at)
            .await
            .map_err(Fault::of_write)?;
        self.invalidate(partition, &Invalidation::default(), append).await
    }

    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError> {
        let script = &self.dialer.scripts.flush;
        let cmd = self.appending(script, partition, &append, 0, |_| {});
        self.appended(partition, self.control.eval(partition, script, &cmd).await)
    }

    async fn replicated(
        &self,
        partition: Partition,
        at: Position,
        replicas: u32,
        within: Duration,
    ) -> Result<u32, StoreError> {
        let waited = self.witness.replicated(&self.dialer, &self.control, (partition, at), replicas, within);
        waited.await.map_err(|fault| fault.while_doing("WAIT").of_write())
    }

    async fn nodes(&self, partition: Partition) -> Result<NodeRoll, StoreError> {
        let script = &self.dialer.scripts.nodes;
        let cmd = self.dialer.begin(script, partition, Position::ZERO, 0, |_| {});
        let answer = self.control.eval(partition, script, &cmd).await.map_err(Fault::of_read)?;
        let roll = witness::roll(answer).map_err(Fault::of_read)?;
        self.dialer.saw_epoch(partition, roll.head.epoch);
        Ok(roll)
    }
}

/// Redis counts in whole milliseconds, and none would be an error.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 45)
}

/// Zero for no hold.
pub(crate) fn hold_millis(what: &Invalidation) -> u64 {
    if what.hold.is_zero() { 0 } else { millis(what.hold) }
}

/// What [`RedisStore::mget`] got, for so many keys.
fn items_of(answer: Value, keys: usize) -> Result<Vec<ReadItem>, Fault> {
    let Value::Array(list) = answer else { return Err(reply::odd("MGET")) };
    if list.len() != 2 * keys {
        return Err(reply::odd("MGET"));
    }
    let mut items = Vec::with_capacity(keys);
    let mut list = list.into_iter();
    while let (Some(record), Some(stamp)) = (list.next(), list.next()) {
        let stamp = reply::bytes(stamp).and_then(|bytes| reply::stamp(&bytes));
        items.push(ReadItem { record: reply::bytes(record), stamp });
    }
    Ok(items)
}

fn lease_answer(answer: Value) -> Result<LeaseAnswer, Fault> {
    let (head, server_ms) = reply::head(&answer, 1)?;
    let Value::Array(list) = answer else { return Err(reply::odd("lease")) };
    let Ok([tag, _, _, _, stamp, what]) = <[Value; 6]>::try_from(list) else {
        return Err(reply::odd("lease"));
    };
    let wait = || reply::number(&what).map(Duration::from_millis).ok_or_else(|| reply::odd("lease"));
    let lease = match reply::text(&tag) {
        Some("L") => Lease::Granted,
        Some("B") => Lease::Busy(wait()?),
        Some("H") => Lease::Hold(wait()?),
        Some("V") => Lease::Value(reply::bytes(what).ok_or_else(|| reply::odd("lease"))?),
        _ => return Err(reply::odd("lease")),
    };
    let stamp = reply::bytes(stamp).and_then(|bytes| reply::stamp(&bytes));
    Ok(LeaseAnswer { head, stamp, server_ms, lease })
}
