//! Loading from the source: one load for a key at a time, fenced against everything that overtakes it.
//!
//! The leader of a load runs in a task of its own: callers may go away, the load goes on and is kept. It asks L2 for
//! a load lease first, so that of many nodes one loads; an invalidation takes the lease away, and then the fill is
//! refused and the value goes to the waiters alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cache_events::{Key, Partition, Position};
use cache_l1::{Address, Groups};
use cache_l2::{Lease, LeaseAsk, LeaseToken, RecordHead};
use futures_util::FutureExt;
use tracing::Instrument;

use crate::answer::{Answer, Loaded, ReadOptions, Tier};
use crate::core::Core;
use crate::error::{ReadError, SourceError};
use crate::flight::{Lead, Role};
use crate::space::{Cacheable, FlightFence, Found, Space};
use crate::stats::count;
use crate::times::L2Op;
use crate::traces;

/// Waits between two questions for a busy lease: doubles from the first to the second.
const POLL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(25));
/// How often a lease is asked for anew because the epoch changed or the record was not usable.
const LEASE_TRIES: u32 = 4;
/// How long a leader waits to learn a new epoch.
const SYNC_WAIT: Duration = Duration::from_millis(400);

type Flown<V> = Result<Found<V>, ReadError>;

/// What the shared tier said about a load.
enum Right<V> {
    /// Another node was faster: here it is.
    Value(Found<V>),
    /// Load and fill, as of this head.
    Fill { head: Position, server_ms: u64 },
    /// Load; keep it in this process only, as of this position.
    Local { at: Position },
    /// Load; keep it nowhere.
    Nothing,
}

impl<V: Cacheable> Space<V> {
    /// Reads through all tiers; `loader` is called if none has the value and no other load is under way.
    pub(crate) async fn read_through<L, F>(
        self: &Arc<Self>,
        core: &Arc<Core>,
        key: &Key,
        options: &ReadOptions,
        loader: L,
    ) -> Result<Answer<V>, ReadError>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, SourceError>> + Send + 'static,
    {
        let at = self.address(key);
        let asked = core.clock.now();
        // Whether what L2 or another caller's load brings is of use: it may be older than what is asked for.
        let mut shared = match self.prepare(core, key, options, asked).await {
            Ok(answer) => return Ok(answer),
            Err(shared) => shared,
        };
        let judged = |proven: u64, found: Found<V>| {
            let mut answer = self.answer(core, proven, found);
            if self.meets(&mut answer, &options.freshness, asked, core.clock.now()) {
                return Ok(answer);
            }
            let asked = options.freshness.clone();
            Err(ReadError::NotFresh { key: key.to_string(), asked, age_ms: answer.age_ms })
        };
        loop {
            let proven = self.proven(core, key);
            let own = if shared { 0 } else { fastrand::u64(1..) };
            let fence = || self.flight_fence(&at).own(own);
            let flown = match self.loads.find(key, at.hash(), &fence()) {
                Some(waiter) => waiter.landed().await,
                None => {
                    let in_l2 = if shared { self.find_in_l2(core, key, options).await } else { None };
                    match in_l2 {
                        Some(found) => Some(Ok(found)),
                        None => match self.loads.join(key, at.hash(), fence()) {
                            Role::Wait(waiter) => waiter.landed().await,
                            Role::Lead(lead) => {
                                let waiter = lead.waiter();
                                let (space, task_core) = (self.clone(), core.clone());
                                let (key, options) = (key.clone(), options.clone());
                                let span = traces::load(&key);
                                let load = async move {
                                    let load = Load {
                                        space: &space,
                                        core: &task_core,
                                        key: &key,
                                        at,
                                        options,
                                        shared,
                                    };
                                    load.fly(lead, loader).await;
                                };
                                core.spawn(load.instrument(span));
                                // The leader answers even when the loader panics; only a runtime that shuts down drops
                                // it.
                                let flown = waiter.landed().await.ok_or(ReadError::Stopped)?;
                                return flown.and_then(|found| judged(proven, found));
                            }
                        },
                    }
                }
            };
            match flown.map(|flown| flown.and_then(|found| judged(proven, found))) {
                Some(Err(ReadError::NotFresh { .. })) if shared => shared = false,
                Some(done) => return done,
                // Its leader was dropped.
                None => {}
            }
        }
    }
}

/// One load.
struct Load<'a, V> {
    space: &'a Space<V>,
    core: &'a Core,
    key: &'a Key,
    at: Address,
    options: ReadOptions,
    /// Whether what L2 has is of use.
    shared: bool,
}

impl<V: Cacheable> Load<'_, V> {
    async fn fly<L, F>(&self, lead: Lead<Key, FlightFence, Flown<V>>, loader: L)
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Loaded<V>, SourceError>>,
    {
        let tiers = self.options.tiers.unwrap_or(self.space.settings.tiers);
        let partition = Partition(self.at.partition());
        // The position before anything else: what is loaded reflects at least this much of the log. The fence of the
        // flight is older still, so whatever is applied from here on refuses the insert.
        let cursor = self.core.cursor(partition);
        let token = Core::lease_token();
        let right = if tiers.l2() && self.shared && self.space.l2_usable(self.core, partition) {
            self.ask(token, partition, cursor).await
        } else {
            Right::Local { at: cursor }
        };
        let snapshot = lead.fence().snapshot;
        let keep = |found: &Found<V>| {
            if tiers.l1() {
                let now = self.core.clock.now();
                self.space.insert(self.key, &self.at, found, &snapshot, self.options.idle, now);
            }
        };
        let right = match right {
            Right::Value(found) => {
                keep(&found);
                return lead.land(Ok(found));
            }
            right => right,
        };
        let flown = match self.load(loader).await {
            Err(error) => {
                count(&self.space.counters.load_errors);
                if let Right::Fill { .. } = right {
                    self.give_back(token).await;
                }
                Err(error)
            }
            Ok((loaded, load_start)) => Ok(self.store(loaded, load_start, right, token, keep).await),
        };
        lead.land(flown);
    }

    /// Asks for the right to load until it is granted, somebody else has filled, or waiting is no use.
    async fn ask(&self, token: LeaseToken, partition: Partition, cursor: Position) -> Right<V> {
        let (mut tries, mut poll, mut waited) = (0, POLL.0, Duration::ZERO);
        let mut ask = LeaseAsk { token, ttl: self.core.settings.lease_ttl, refresh: false, at: cursor };
        loop {
            let asked = self.core.clock.now();
            let answer = match self.core.times.l2(L2Op::Lease, self.core.store.lease(self.key, ask)).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(key = %self.key, %error, "no load lease; loading without a fill");
                    count(&self.space.counters.l2_errors);
                    return Right::Local { at: cursor };
                }
            };
            if answer.head.epoch != self.core.view.epoch(partition) && tries < LEASE_TRIES {
                // This node does not know the epoch yet: nothing that is loaded now could be judged.
                tries += 1;
                self.core.bus.sync(partition, SYNC_WAIT).await;
                ask.at = self.core.cursor(partition);
                if answer.lease == Lease::Granted {
                    self.give_back(token).await;
                }
                continue;
            }
            match answer.lease {
                Lease::Granted => return Right::Fill { head: answer.head, server_ms: answer.server_ms },
                Lease::Hold(_) => return Right::Nothing,
                Lease::Busy(_) if waited >= self.core.settings.lease_wait => {
                    return Right::Local { at: cursor };
                }
                Lease::Busy(_) => {
                    tokio::time::sleep(poll).await;
                    waited += poll;
                    poll = (poll * 2).min(POLL.1);
                }
                Lease::Value(bytes) => {
                    let (live, now) = (answer.head.epoch, self.core.clock.now());
                    let judged =
                        self.space.judge(self.key, &bytes, live, answer.stamp, answer.server_ms, now);
                    match judged {
                        Some(found) => {
                            self.space.audit_l2(self.key, &found, asked);
                            return Right::Value(found);
                        }
                        None if tries >= LEASE_TRIES => return Right::Local { at: cursor },
                        None => {
                            tries += 1;
                            ask.refresh = true;
                        }
                    }
                }
            }
        }
    }

    /// Calls the loader, behind the bulkhead, within its hard time-out; its panic is an error like others.
    async fn load<L, F>(&self, loader: L) -> Result<(Loaded<V>, u64), ReadError>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Loaded<V>, SourceError>>,
    {
        let key = || self.key.to_string();
        let limit = self.space.settings.load_timeout;
        let timed_out = |_| ReadError::Timeout { key: key(), limit };
        let bounded = tokio::time::timeout(limit, async {
            let _permit = self.space.bulkhead.acquire().await.map_err(|_| ReadError::Stopped)?;
            count(&self.space.counters.loads);
            let load_start = self.core.clock.now();
            let loading = AssertUnwindSafe(async { loader().await }).catch_unwind();
            let loaded = loading.await.map_err(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
                ReadError::Panicked { key: key(), message: message.unwrap_or_else(|| "no message".into()) }
            })?;
            let loaded = loaded.map_err(|cause| ReadError::Source { key: key(), cause: cause.into() })?;
            Ok((loaded, load_start))
        });
        bounded.await.map_err(timed_out)?
    }

    /// Keeps what was loaded where the right permits it.
    async fn store(
        &self,
        loaded: Loaded<V>,
        load_start: u64,
        right: Right<V>,
        token: LeaseToken,
        keep: impl Fn(&Found<V>),
    ) -> Found<V> {
        let settings = &self.space.settings;
        let usual = self.space.ttl();
        let default = if loaded.value.is_none() { settings.absent_ttl.min(usual) } else { usual };
        let ttl = loaded
            .ttl
            .or(self.options.ttl)
            .unwrap_or(default)
            .clamp(Duration::from_millis(1), settings.ttl_max);
        let now = self.core.clock.now();
        let took = now.saturating_sub(load_start);
        let (origin, server_now) = match right {
            Right::Fill { server_ms, .. } if mutated!("epoch_at_fill") => {
                (self.core.cursor(Partition(self.at.partition())), server_ms + took)
            }
            Right::Fill { head, server_ms } => (head, server_ms + took),
            Right::Local { at } => (at, self.core.server_now()),
            Right::Value(_) | Right::Nothing => (Position::ZERO, self.core.server_now()),
        };
        let ttl_ms = ttl.as_millis() as u64;
        let soft_ms = soft_ttl(ttl_ms);
        let groups: Vec<u64> = loaded.tags.iter().map(|tag| cache_events::Group::tag(tag).id()).collect();
        let head = RecordHead {
            origin,
            version: loaded.version,
            load_start: server_now.saturating_sub(took),
            soft_expiry: server_now + soft_ms,
            hard_expiry: server_now + ttl_ms,
            // Never 0: that is what a put has.
            load_cost_us: u32::try_from(took.saturating_mul(1000)).unwrap_or(u32::MAX).max(1),
            groups: groups.clone(),
        };
        let sealed = self.space.seal(&head, self.key, loaded.value.as_ref());
        let weight = sealed.as_ref().map_or(0, |record| record.len()) + self.key.weight();
        let found = Found {
            value: loaded.value.map(Arc::new),
            tier: Tier::Source,
            origin,
            version: loaded.version,
            load_start,
            born: load_start,
            soft_expiry: now + soft_ms,
            hard_expiry: now + self.space.l1_ttl(ttl).as_millis() as u64,
            groups: Groups::from(groups),
            weight: weight.try_into().unwrap_or(u32::MAX),
        };
        let record = match sealed {
            Ok(record) => record,
            Err(error) => {
                // The caller gets its value; no tier keeps what no other node could read back.
                tracing::warn!(key = %self.key, %error, "a loaded value cannot be cached");
                if let Right::Fill { .. } = right {
                    self.give_back(token).await;
                }
                return found;
            }
        };
        let fill = || self.core.times.l2(L2Op::Fill, self.core.store.fill(self.key, token, record, ttl));
        let kept = match right {
            Right::Fill { .. } => match fill().await {
                Ok(stored) => stored,
                Err(error) => {
                    // Nobody knows whether L2 has it; this process may keep it, its own fence decides.
                    tracing::debug!(key = %self.key, %error, "a fill was not answered");
                    count(&self.space.counters.l2_errors);
                    true
                }
            },
            Right::Local { .. } => true,
            Right::Value(_) | Right::Nothing => false,
        };
        if kept {
            keep(&found);
        } else if let Right::Fill { .. } = right {
            count(&self.space.counters.fills_refused);
        }
        found
    }

    async fn give_back(&self, token: LeaseToken) {
        // If this fails the lease ends by itself.
        if let Err(error) = self.core.store.release(self.key, token).await {
            tracing::debug!(key = %self.key, %error, "a load lease could not be given back");
        }
    }
}

/// 0.8 of the hard TTL, ±10 %, so that entries that came together do not fall due together.
pub(crate) fn soft_ttl(ttl_ms: u64) -> u64 {
    let permille = fastrand::u64(720..=880);
    (ttl_ms.saturating_mul(permille) / 1000).max(1)
}
