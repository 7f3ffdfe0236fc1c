//! The write path: invalidations and events, puts, and what happens when nobody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache_events::{CacheEvent, EventKind, Key, Position, Scope, Version, WriteToken, wire};
use cache_l1::{Groups, Origin};
use cache_l2::{Append, Carry, RecordHead, StoreError};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::Instrument;

use crate::acknowledge::Acknowledge;
use crate::answer::{PutOutcome, Tier, WriteOptions, Written};
use crate::core::Core;
use crate::error::WriteError;
use crate::event_draft::EventDraft;
use crate::load::soft_ttl;
use crate::parts::{Part, split};
use crate::space::{Cacheable, Found, Space};
use crate::stats::{count, stopwatch};
use crate::times::L2Op;
use crate::traces;
use crate::updates::Change;

/// Waits between two tries of a write: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// How long a flush waits until this node stands in the new epoch.
const SYNC_WAIT: Duration = Duration::from_secs(1);

impl Core {
    /// Completes a draft.
    pub(crate) fn event(&self, draft: EventDraft) -> CacheEvent {
        CacheEvent {
            affected_namespaces: draft.namespaces(),
            event_type: draft.kind,
            resource_id: draft.resource_id,
            data: draft.data,
            // In the time that all nodes share: how long it takes to the others is told by their clocks.
            timestamp: self.server_now(),
            source_node: self.node.clone(),
            event_id: self.event_id(),
            scopes: draft.scopes,
            reason: draft.reason,
            announce: draft.announce,
        }
    }

    /// Publishes an event: local first, then one atomic step for each partition, then local once more.
    pub(crate) async fn publish(&self, draft: EventDraft) -> Result<Written, WriteError> {
        let called = stopwatch();
        let span = traces::invalidate(draft.kind.as_str(), &draft.resource_id);
        let written = self.publish_untimed(draft).instrument(span).await?;
        self.times.invalidation.record(called.elapsed());
        Ok(written)
    }

    async fn publish_untimed(&self, draft: EventDraft) -> Result<Written, WriteError> {
        let (level, hold) = (draft.acknowledge, draft.hold);
        if !hold.is_zero() && !draft.scopes.iter().all(|scope| matches!(scope, Scope::Key(_))) {
            let message = "a hold is for keys: nobody knows which of them other scopes cover".to_owned();
            return Err(WriteError::Refused(StoreError::Refused { message }));
        }
        let event = self.event(draft);
        let public = self.public_json(&event);
        let mut parts = split(event, self.fence.partitions(), self.store.finds_patterns(), |namespace| {
            self.keep(namespace)
        })?;
        parts.iter_mut().for_each(|part| part.hold(hold));
        if let Some(first) = parts.first_mut() {
            first.public = public;
        }
        if let [_] = parts.as_slice()
            && let Some(part) = parts.pop()
        {
            let (partition, done) = self.acked(part, level).await;
            return done.map(|position| Written { token: WriteToken::single(partition, position) });
        }
        let mut token = WriteToken::default();
        let mut failure = None;
        for (part, done) in join_all(parts.into_iter().map(|part| self.acked(part, level))).await {
            match done {
                Ok(position) => token.add(part, position),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(Written { token }),
            Some(error) => Err(error),
        }
    }

    /// Takes a step until it is acknowledged or the deadline has passed; then the outbox has it.
    async fn acked(
        &self,
        part: Part,
        level: Acknowledge,
    ) -> (cache_events::Partition, Result<Position, WriteError>) {
        let partition = part.partition;
        let attempt = || async {
            let position = self.step(&part).await?;
            self.acknowledged(partition, position, level).await.map(|()| position)
        };
        let outcome = self.until_acked(attempt).await;
        if outcome.is_err() && !mutated!("outbox_forgets") {
            self.outbox.push(part);
            self.outbox_filled.notify_one();
        }
        (partition, outcome)
    }

    /// Takes a step once, with its local halves before and after.
    pub(crate) async fn step(&self, part: &Part) -> Result<Position, StoreError> {
        let pending = self.local.begin(part.partition, &part.event);
        let attempt = part.attempt(&*self.store, self.cursor(part.partition));
        let position = self.times.l2(L2Op::Invalidate, attempt).await?;
        if part.is_flush() {
            self.fence.flush(part.partition.0, position.epoch, &[]);
        }
        if position.epoch != self.view.epoch(part.partition) {
            // Records of the old epoch are dead for this node, and stamps of the new one count, as soon as it has
            // adopted that.
            self.bus.sync(part.partition, SYNC_WAIT).await;
        }
        if !part.is_flush() {
            let event = Origin { epoch: position.epoch, seq: position.seq };
            self.local.heard(part.partition, position, &part.event);
            self.local.apply_scopes(part.partition, event, &part.event.scopes);
        }
        self.local.wrote(part.partition, position, &part.event);
        self.bus.wrote(part.partition, position);
        pending.applied();
        Ok(position)
    }

    /// Repeats a write whose outcome is unknown (writes are idempotent) until the deadline.
    async fn until_acked<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, WriteError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let deadline = self.settings.write_deadline;
        let (began, mut wait, mut attempts) = (self.clock.now(), RETRY.0, 0);
        loop {
            attempts += 1;
            let last = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) if !error.is_transient() => return Err(WriteError::Refused(error)),
                Err(error) => error,
            };
            let spent = Duration::from_millis(self.clock.now().saturating_sub(began));
            if spent + wait >= deadline || self.stopping.is_cancelled() {
                return Err(WriteError::Unacked { deadline, attempts, last });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// How long stamps of a namespace (`None`: of any) must be kept: as long as any record of it can live.
    fn keep(&self, namespace: Option<&cache_events::Namespace>) -> Duration {
        match namespace.and_then(|namespace| self.spaces.get(namespace)) {
            Some(space) => space.settings().stamp_ttl(),
            None => self.spaces.values().map(|space| space.settings().stamp_ttl()).max().unwrap_or_default(),
        }
    }
}

impl<V: Cacheable> Space<V> {
    /// Writes a value through both tiers and tells the other nodes.
    pub(crate) async fn put(
        &self,
        core: &Core,
        key: &Key,
        value: Option<Arc<V>>,
        version: Option<Version>,
        options: &WriteOptions,
        change: Change<'_>,
    ) -> Result<PutOutcome, WriteError> {
        let put = self.put_untraced(core, key, value, version, options, change);
        put.instrument(traces::put(key)).await
    }

    async fn put_untraced(
        &self,
        core: &Core,
        key: &Key,
        value: Option<Arc<V>>,
        version: Option<Version>,
        options: &WriteOptions,
        change: Change<'_>,
    ) -> Result<PutOutcome, WriteError> {
        count(&self.counters.writes);
        let called = stopwatch();
        let tiers = options.tiers.unwrap_or(self.settings.tiers);
        let at = self.address(key);
        let partition = self.partition(key);
        let default = if value.is_none() { self.settings.absent_ttl } else { self.ttl() };
        let ttl = options.ttl.unwrap_or(default).clamp(Duration::from_millis(1), self.settings.ttl_max);
        let (ttl_ms, now, server_now) = (ttl.as_millis() as u64, core.clock.now(), core.server_now());
        let soft_ms = soft_ttl(ttl_ms);
        let groups: Vec<u64> = options.tags.iter().map(|tag| cache_events::Group::tag(tag).id()).collect();
        let head = RecordHead {
            version: version.unwrap_or(Version::NONE),
            load_start: server_now,
            soft_expiry: server_now + soft_ms,
            hard_expiry: server_now + ttl_ms,
            groups: groups.clone(),
            ..RecordHead::default()
        };
        let record = self.seal(&head, key, value.as_deref())?;
        let weight = (record.len() + key.weight()).try_into().unwrap_or(u32::MAX);

        let mut draft = EventDraft::new(EventKind::MANUAL_INVALIDATION, key.resource());
        draft.reason = Some("put".into());
        draft.announce = !options.silent;
        draft.scopes.push(Scope::Key(key.clone()));
        let event = core.event(draft);
        let payload = bytes::Bytes::from(wire::encode(&event)?);
        let public = core.public_json(&event);
        let Change { over, delta } = change;
        let carry = match delta.map(|seal| seal(&head)).transpose()? {
            _ if !tiers.l2() => Carry::Nothing,
            delta => self.carry(&payload, &record, delta),
        };

        let pending = core.local.begin(partition, &event);
        let snapshot = self.l1.snapshot(&at);
        let earlier = Mutex::new(None);
        let unsure = AtomicBool::new(false);
        let attempt = || async {
            let append = Append {
                at: core.cursor(partition),
                payload: payload.clone(),
                public: public.clone(),
                carry: carry.clone(),
                over: over.clone(),
            };
            let stored = match version {
                _ if !tiers.l2() => {
                    // The others must not go on serving what L2 held before: an invalidation, and no record.
                    let what = cache_l2::Invalidation {
                        keys: vec![key.clone()],
                        keep: self.settings.stamp_ttl(),
                        ..Default::default()
                    };
                    let call = core.store.invalidate(partition, &what, append);
                    core.times.l2(L2Op::Invalidate, call).await.map(Some)
                }
                Some(version) => {
                    let call = core.store.put_versioned(key, version, record.clone(), ttl, append);
                    core.times.l2(L2Op::Put, call).await
                }
                None => {
                    let call = core.store.put(key, record.clone(), ttl, append);
                    core.times.l2(L2Op::Put, call).await.map(Some)
                }
            };
            unsure.fetch_or(matches!(stored, Err(StoreError::Unknown { .. })), Ordering::Relaxed);
            let position = match stored? {
                Some(position) => *earlier.lock().insert(position),
                // Refused because an earlier try has stored it, and nobody acknowledged that.
                None => match *earlier.lock() {
                    Some(position) => position,
                    None => return Ok(None),
                },
            };
            core.acknowledged(partition, position, options.acknowledge).await.map(|()| Some(position))
        };
        // Something as new is in L2. It may have come there by a load, of which nobody heard: the other nodes are told
        // all the same, or they would keep what they have.
        let announce = || async {
            let append = Append { at: core.cursor(partition), payload: payload.clone(), ..Append::default() };
            let position =
                core.store.invalidate(partition, &cache_l2::Invalidation::default(), append).await?;
            core.acknowledged(partition, position, options.acknowledge).await.map(|()| position)
        };
        let done = match core.until_acked(attempt).await {
            Ok(Some(position)) => Ok((position, true)),
            // Somebody else was faster, or this very put was, and nobody has heard.
            Ok(None) if over.is_some() && !unsure.load(Ordering::Relaxed) => return Ok(PutOutcome::Outdated),
            Ok(None) if over.is_some() => Err(WriteError::Unacked {
                deadline: core.settings.write_deadline,
                attempts: 1,
                last: StoreError::Unknown { message: "no answer, and then another record was there".into() },
            }),
            Ok(None) if mutated!("outdated_untold") => return Ok(PutOutcome::Outdated),
            Ok(None) => core.until_acked(announce).await.map(|position| (position, false)),
            Err(error) => Err(error),
        };
        let (position, stored) = match done {
            Ok(done) => done,
            Err(error) => {
                drop(pending);
                // Whether or not the value arrived: nobody may go on serving what was there before.
                // It has one scope, a key.
                if let Ok(parts) = split(event, self.fence.partitions(), true, |_| self.settings.stamp_ttl())
                {
                    for mut part in parts {
                        // Nor may an older put that is under way elsewhere be stored behind it.
                        if !mutated!("owed_without_version") {
                            part.floor(Version(version.map_or(0, |version| version.0.saturating_sub(1))));
                        }
                        core.outbox.push(part);
                    }
                    core.outbox_filled.notify_one();
                }
                return Err(error);
            }
        };
        if stored && tiers.l1() {
            let found = Found {
                value,
                tier: Tier::L2,
                origin: position,
                version: version.unwrap_or(Version::NONE),
                load_start: 0,
                born: now,
                soft_expiry: now + soft_ms,
                hard_expiry: now + self.l1_ttl(ttl).as_millis() as u64,
                groups: Groups::from(groups),
                weight,
            };
            self.insert(key, &at, &found, &snapshot, options.idle, core.clock.now());
        }
        // Bumps the generation behind the insert: a load that began before the put can no longer replace it. The
        // entry itself stays, since it reflects the event.
        let written = Origin { epoch: position.epoch, seq: position.seq };
        core.local.heard(partition, position, &event);
        core.local.apply_scopes(partition, written, &event.scopes);
        core.local.wrote(partition, position, &event);
        core.bus.wrote(partition, position);
        pending.applied();
        self.counters.written.record(called.elapsed());
        if !stored {
            return Ok(PutOutcome::Outdated);
        }
        Ok(PutOutcome::Stored(Written { token: WriteToken::single(partition, position) }))
    }
}
