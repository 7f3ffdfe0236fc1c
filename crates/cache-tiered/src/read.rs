//! The read path: L1, then L2, then (for `get_or_load`) the source.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_events::{Key, Partition, Position, Version};
use cache_l1::{Address, Facts};
use cache_l2::{ReadAnswer, ReadItem};
use tracing::Instrument;

use crate::answer::{Answer, ReadOptions, Tier};
use crate::audit::Look;
use crate::core::Core;
use crate::error::ReadError;
use crate::flight::Role;
use crate::freshness::Freshness;
use crate::settings::Degraded;
use crate::space::{Cacheable, Found, Space};
use crate::stats::{count, stopwatch};
use crate::times::L2Op;
use crate::traces;

/// How long a read waits for a sync that it needs in order to judge what L2 said.
const SYNC_WAIT: Duration = Duration::from_millis(400);

/// What L2 has of some keys, and by what it is judged.
pub(crate) struct L2Told {
    pub(crate) items: Vec<ReadItem>,
    /// The epoch whose records count.
    pub(crate) live: u64,
    pub(crate) now: u64,
    pub(crate) server_now: u64,
}

impl<V: Cacheable> Space<V> {
    /// The hit path: no allocation, no await, no lock that a writer holds long.
    ///
    /// Always inlined: the answer is made where the caller wants it. One that is copied while its fields are still on their
    /// way to memory stalls the processor.
    #[inline(always)]
    pub(crate) fn resident(&self, core: &Core, key: &Key, options: &ReadOptions) -> Option<Answer<V>> {
        self.resident_since(core, key, options, None)
    }

    /// [`resident`](Self::resident) for a read that began at `asked` and has fetched a proof since.
    #[inline(always)]
    pub(crate) fn resident_since(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
        asked: Option<u64>,
    ) -> Option<Answer<V>> {
        let sample = self.counters.read();
        if options.tiers.unwrap_or(self.settings.tiers).l1() {
            let at = self.address(key);
            let now = core.clock.now();
            let partition = Partition(at.partition());
            let hit = self.l1.get_with(key, &at, now, |value, facts| {
                let (lag_ms, stale) =
                    self.trusted(core, partition, facts, &options.freshness, (asked, now))?;
                Some((value.clone(), *facts, lag_ms, stale))
            });
            if hit.is_none() && at.hash() < self.audited_below {
                self.audit_miss(key, &at);
            }
            if let Some((value, facts, lag_ms, stale)) = hit {
                self.counters.l1_answered(sample, key, now);
                if at.hash() < self.audited_below {
                    self.audit_hit(&at, &facts, stale, now);
                }
                // Made where it goes: one made under the lock would be copied out while its small fields are still on
                // their way to memory, and the processor waits for them.
                return Some(Answer {
                    value,
                    tier: Tier::L1,
                    age_ms: now.saturating_sub(facts.born),
                    lag_ms,
                    position: Position::new(facts.origin.epoch, facts.origin.seq),
                    version: Version(facts.version),
                    stale,
                });
            }
        }
        self.counters.l1_missed(sample, key, || core.clock.now());
        None
    }

    /// Kept out of the way of a hit of a key that is not watched.
    #[cold]
    #[inline(never)]
    fn audit_hit(&self, at: &Address, facts: &Facts, stale: bool, now: u64) {
        if let Some(audit) = &self.audit {
            let look = Look {
                tier: Tier::L1,
                origin: Position::new(facts.origin.epoch, facts.origin.seq),
                version: Version(facts.version),
                load_start: facts.load_start,
                born: facts.born,
            };
            audit.saw(at, &look, stale, now);
        }
    }

    /// From here on what happens to the key is remembered, also while its value is on its way.
    #[cold]
    #[inline(never)]
    fn audit_miss(&self, key: &Key, at: &Address) {
        if let Some(audit) = &self.audit {
            audit.track(key, at);
        }
    }

    /// An error where L1 had no answer, freshness cannot be proven, and the namespace is set to fail then.
    pub(crate) fn fail_if_degraded(&self, core: &Core, key: &Key) -> Result<(), ReadError> {
        if self.settings.event_driven
            && self.settings.degraded == Degraded::Fail
            && !self.l2_usable(core, self.partition(key))
        {
            return Err(ReadError::Degraded { namespace: self.settings.namespace.clone() });
        }
        Ok(())
    }

    /// Whether L2 may be asked: what it says can be believed only while this node hears of changes, and asking a
    /// store that does not answer would cost every read its time-out.
    pub(crate) fn l2_usable(&self, core: &Core, partition: Partition) -> bool {
        let now = core.clock.now();
        core.unproven_for(partition, 0, now) <= self.bound_ms || mutated!("l2_read_unproven")
    }

    /// How fresh this node's knowledge is before a read goes below L1. A sync that completes meanwhile proves nothing about
    /// what is on its way: it may be the one that outdates it.
    pub(crate) fn proven(&self, core: &Core, key: &Key) -> u64 {
        core.view.fresh_as_of(self.partition(key))
    }

    /// The answer for something found below L1. `proven` was taken before its flight was joined.
    pub(crate) fn answer(&self, core: &Core, proven: u64, found: Found<V>) -> Answer<V> {
        let now = core.clock.now();
        let age_ms = now.saturating_sub(found.born);
        let lag_ms = match proven.max(found.load_start) {
            _ if !self.settings.event_driven => age_ms,
            0 => u64::MAX,
            as_of => now.saturating_sub(as_of),
        };
        Answer {
            value: found.value,
            tier: found.tier,
            age_ms,
            lag_ms,
            position: found.origin,
            version: found.version,
            stale: false,
        }
    }

    /// Reads L2, one read for all callers that come meanwhile, and keeps what it finds in L1.
    pub(crate) async fn find_in_l2(&self, core: &Core, key: &Key, options: &ReadOptions) -> Option<Found<V>> {
        let tiers = options.tiers.unwrap_or(self.settings.tiers);
        let at = self.address(key);
        if !tiers.l2() || !self.l2_usable(core, Partition(at.partition())) {
            return None;
        }
        loop {
            match self.reads.join(key, at.hash(), self.flight_fence(&at)) {
                Role::Wait(waiter) => {
                    if let Some(found) = waiter.landed().await {
                        return found;
                    }
                }
                Role::Lead(lead) => {
                    let began = stopwatch();
                    let snapshot = lead.fence().snapshot;
                    let mut found = self.read_l2(core, std::slice::from_ref(key)).await;
                    let found = found.pop().flatten();
                    if let Some(found) = &found {
                        self.counters.l2_answered(began.elapsed());
                        if tiers.l1() {
                            self.insert(key, &at, found, &snapshot, options.idle, core.clock.now());
                        }
                    }
                    lead.land(found.clone());
                    return found;
                }
            }
        }
    }

    /// What a replica has, for a read to which any age will do: flagged as stale, since nothing proves it, and kept nowhere.
    pub(crate) async fn find_at_a_replica(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
    ) -> Option<Answer<V>> {
        self.read_replica(core, std::slice::from_ref(key), options).await.pop().flatten()
    }

    /// [`find_at_a_replica`](Self::find_at_a_replica) for keys of one partition, in one round trip; empty where replicas are
    /// not for this read.
    async fn read_replica(&self, core: &Core, keys: &[Key], options: &ReadOptions) -> Vec<Option<Answer<V>>> {
        let tiers = options.tiers.unwrap_or(self.settings.tiers);
        let wanted = options.freshness == Freshness::Any && !self.settings.critical && tiers.l2();
        let Some(first) = keys.first().filter(|_| wanted) else { return Vec::new() };
        let partition = self.partition(first);
        let Ok(Some(answer)) = core.store.read_replica(partition, keys).await else { return Vec::new() };
        let (live, now) = (core.view.epoch(partition), core.clock.now());
        let judge = |(key, item): (&Key, ReadItem)| {
            let found = self.judge(key, &item.record?, live, item.stamp, core.server_now(), now)?;
            count(&self.counters.l2_hits);
            count(&self.counters.stale_served);
            Some(Answer { lag_ms: u64::MAX, stale: true, ..self.answer(core, 0, found) })
        };
        keys.iter().zip(answer.items).map(judge).collect()
    }

    /// One round trip for keys of one partition; what cannot be taken is `None`.
    async fn read_l2(&self, core: &Core, keys: &[Key]) -> Vec<Option<Found<V>>> {
        let nothing = || keys.iter().map(|_| None).collect::<Vec<_>>();
        let Some(first) = keys.first() else { return Vec::new() };
        let asked = core.clock.now();
        let partition = self.partition(first);
        let answer = match core.times.l2(L2Op::Read, core.store.read(partition, keys)).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "L2 did not answer a read; treated as a miss");
                count(&self.counters.l2_errors);
                return nothing();
            }
        };
        let Some(told) = self.adopted(core, partition, answer).await else { return nothing() };
        let L2Told { items, live, now, server_now } = told;
        let judge = |(key, item): (&Key, ReadItem)| {
            let bytes = item.record?;
            let found = self.judge(key, &bytes, live, item.stamp, server_now, now)?;
            self.audit_l2(key, &found, asked);
            Some(found)
        };
        let found: Vec<_> = keys.iter().zip(items).map(judge).collect();
        let hits = found.iter().flatten().count() as u64;
        self.counters.l2_hits.fetch_add(hits, Ordering::Relaxed);
        self.counters.l2_misses.fetch_add(keys.len() as u64 - hits, Ordering::Relaxed);
        found
    }

    /// By what the records of an answer of L2 are judged; `None`: it is of an epoch that this node could not adopt.
    pub(crate) async fn adopted(
        &self,
        core: &Core,
        partition: Partition,
        answer: ReadAnswer,
    ) -> Option<L2Told> {
        if answer.epoch > core.view.epoch(partition) && !mutated!("epoch_of_reads_ignored") {
            // The store has lost its history since this node last heard of it. What it says is judged by the new
            // epoch only after this node has adopted that.
            core.bus.sync(partition, SYNC_WAIT).await;
        }
        let (live, now, server_now) = (core.view.epoch(partition), core.clock.now(), core.server_now());
        // A connection made before the epoch began is fine: a record of the live epoch exists only where that epoch
        // is. One made in an epoch that this node could not adopt is not.
        if answer.epoch > live && !mutated!("epoch_of_reads_ignored") {
            return None;
        }
        Some(L2Told { items: answer.items, live, now, server_now })
    }

    /// Reads many keys: those in L1 at once, the others in one round trip for each partition.
    pub(crate) async fn read_many(
        &self,
        core: &Core,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<Vec<Option<Answer<V>>>, ReadError> {
        let asked_at = core.clock.now();
        let (called, mut below) = (stopwatch(), 0);
        let mut answers = Vec::with_capacity(keys.len());
        let mut missing: Vec<Vec<usize>> = vec![Vec::new(); self.fence.partitions() as usize];
        for (index, key) in keys.iter().enumerate() {
            let answer = self.resident(core, key, options);
            if answer.is_none() {
                self.fail_if_degraded(core, key)?;
                missing[self.partition(key).index()].push(index);
                below += 1;
            }
            answers.push(answer);
        }
        if below > 0 {
            let span = traces::read_many(&self.settings.namespace, keys.len(), below);
            self.fill_in(core, keys, options, asked_at, missing, &mut answers).instrument(span).await;
            self.counters.below_l1.record_many(called.elapsed(), below as u64);
        }
        Ok(answers)
    }

    /// Answers from below L1, where it can, what is `missing` of many keys, by their partitions.
    async fn fill_in(
        &self,
        core: &Core,
        keys: &[Key],
        options: &ReadOptions,
        asked_at: u64,
        mut missing: Vec<Vec<usize>>,
        answers: &mut [Option<Answer<V>>],
    ) {
        let wish = &options.freshness;
        let tiers = options.tiers.unwrap_or(self.settings.tiers);
        for partition in core.partitions() {
            let asked = &mut missing[partition.index()];
            if asked.is_empty() {
                continue;
            }
            if *wish != Freshness::Bounded {
                if !self.proven_enough(core, partition, wish, asked_at).await {
                    continue;
                }
                // What was not trusted may be now.
                for &index in asked.iter() {
                    answers[index] = self.resident_since(core, &keys[index], options, Some(asked_at));
                }
                asked.retain(|&index| answers[index].is_none());
                let asked_keys: Vec<Key> = asked.iter().map(|&index| keys[index].clone()).collect();
                let replica = self.read_replica(core, &asked_keys, options).await;
                for (&index, answer) in asked.iter().zip(replica) {
                    answers[index] = answer;
                }
                asked.retain(|&index| answers[index].is_none());
            }
            if asked.is_empty() || !tiers.l2() || !self.l2_usable(core, partition) {
                continue;
            }
            let asked_keys: Vec<Key> = asked.iter().map(|&index| keys[index].clone()).collect();
            let addresses: Vec<Address> = asked_keys.iter().map(|key| self.address(key)).collect();
            let snapshots: Vec<_> = addresses.iter().map(|at| self.l1.snapshot(at)).collect();
            let began = stopwatch();
            let proven = core.view.fresh_as_of(partition);
            let found = self.read_l2(core, &asked_keys).await;
            self.counters.l2_answered(began.elapsed());
            for (place, found) in found.into_iter().enumerate() {
                let Some(found) = found else { continue };
                if tiers.l1() {
                    let (key, at) = (&asked_keys[place], &addresses[place]);
                    self.insert(key, at, &found, &snapshots[place], options.idle, core.clock.now());
                }
                let mut answer = self.answer(core, proven, found);
                if *wish == Freshness::Bounded || self.meets(&mut answer, wish, asked_at, core.clock.now()) {
                    answers[asked[place]] = Some(answer);
                }
            }
        }
    }
}
