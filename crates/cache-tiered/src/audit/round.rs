//! A round of the auditor: judge what was read, then ask L2, the source and the log what the keys should hold.
//!
//! What they say counts from when it was heard, and later reads are judged by it. L2 is asked about the keys that were read
//! since it was asked last, some at a time. The log is asked only on suspicion: where L2 has a later record than the one that is
//! served here, which may be a reload and may be a change that this node has missed.

use std::sync::Arc;

use cache_bus::Missed;
use cache_events::{CacheEvent, Clock, Key, Partition, Position, Version, wire};
use cache_l2::was_put;

use super::{Audit, Happening, Look, What};
use crate::core::Core;
use crate::space::{Cacheable, Found, Space};

/// Keys of a namespace about which L2 is asked in one round.
const LOOKS_MAX: usize = 64;
/// Keys of a namespace about which the log is asked in one round.
const LOG_LOOKS_MAX: usize = 4;
/// Entries of the log that are looked through for one key.
const LOG_ENTRIES_MAX: u32 = 256;

/// Rounds until the cache stops.
pub(crate) async fn watch(core: Arc<Core>, every: std::time::Duration) {
    loop {
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        for space in core.spaces.values() {
            space.audited(&core).await;
        }
    }
}

impl Audit {
    /// Keys that were read since L2 was asked about them, those first about which it was not asked for longest.
    fn due(&self) -> Vec<Key> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let keys = shard.keys.lock();
            let read = keys.values().filter(|tracked| tracked.due);
            due.extend(read.map(|tracked| (tracked.looked_at, tracked.key.clone())));
        }
        due.sort_by_key(|(looked_at, _)| *looked_at);
        due.truncate(LOOKS_MAX);
        due.into_iter().map(|(_, key)| key).collect()
    }

    fn note(&self, key: &Key, position: Position, what: What, now: u64) {
        let mut keys = self.of_key(key).keys.lock();
        if let Some(tracked) = keys.values_mut().find(|tracked| tracked.key == *key) {
            tracked.happened(Happening { at: now, position, what });
        }
    }

    /// Notes that L2 was asked about a key. Where it has a later record than the one that was shown last: as of what that
    /// one is, if the log was not asked for its sake yet.
    fn looked(&self, key: &Key, in_l2: Option<Position>, now: u64) -> Option<Look> {
        let mut keys = self.of_key(key).keys.lock();
        let tracked = keys.values_mut().find(|tracked| tracked.key == *key)?;
        (tracked.looked_at, tracked.due) = (now, false);
        let shown = tracked.shown?;
        let suspicious = in_l2? > shown.origin && tracked.log_asked < shown.origin;
        if suspicious {
            tracked.log_asked = shown.origin;
        }
        suspicious.then_some(shown)
    }

    fn outdated_by(&self, key: &Key, position: Position, what: What, now: u64) {
        self.positions.acked(key, position, now);
        self.note(key, position, what, now);
    }

    fn has_version(&self, key: &Key, version: Version, now: u64) {
        if version != Version::NONE {
            self.versions.acked(key, version, now);
        }
    }
}

impl<V: Cacheable> Space<V> {
    /// One round.
    pub(crate) async fn audit_round(&self, core: &Core) {
        let Some(audit) = &self.audit else { return };
        audit.judge(self.fence.partitions(), |partition| core.cursor(partition));
        let mut of_partition: Vec<Vec<Key>> = vec![Vec::new(); self.fence.partitions() as usize];
        for key in audit.due() {
            of_partition[self.partition(&key).index()].push(key);
        }
        let mut suspects = Vec::new();
        for partition in core.partitions() {
            let keys = &of_partition[partition.index()];
            if !keys.is_empty() && self.settings.tiers.l2() && self.l2_usable(core, partition) {
                self.look_into_l2(core, audit, partition, keys, &mut suspects).await;
            }
        }
        if let Some(source) = &audit.source {
            for key in of_partition.iter().flatten() {
                if let Some(version) = source.version(key).await {
                    let now = audit.clock.now();
                    audit.has_version(key, version, now);
                    audit.note(key, Position::ZERO, What::AtSource(version), now);
                }
            }
        }
        for (key, look) in suspects.into_iter().take(LOG_LOOKS_MAX) {
            self.ask_the_log(core, audit, &key, &look).await;
        }
    }

    /// Notes what L2 holds of keys of one partition.
    async fn look_into_l2(
        &self,
        core: &Core,
        audit: &Audit,
        partition: Partition,
        keys: &[Key],
        suspects: &mut Vec<(Key, Look)>,
    ) {
        let Ok(answer) = core.store.read(partition, keys).await else { return };
        let (live, now, server_now) = (core.view.epoch(partition), audit.clock.now(), core.server_now());
        for (key, item) in keys.iter().zip(answer.items) {
            // Of another epoch than this node knows: not comparable before it has adopted that.
            let comparable = answer.epoch <= live;
            if let Some(stamp) = item.stamp.filter(|_| comparable) {
                audit.outdated_by(key, stamp, What::Stamped, now);
            }
            let record = item.record.filter(|_| comparable);
            let put = record.as_deref().is_some_and(was_put);
            let found = record
                .and_then(|bytes| self.take_record(key, &bytes, live, item.stamp, server_now, now).ok());
            let suspect = audit.looked(key, found.as_ref().map(|found| found.origin), now);
            if let Some(found) = found {
                let what = What::InL2 { version: found.version, put };
                audit.has_version(key, found.version, now);
                if put {
                    audit.outdated_by(key, found.origin, what, now);
                } else {
                    audit.note(key, found.origin, what, now);
                }
            }
            suspects.extend(suspect.map(|look| (key.clone(), look)));
        }
    }

    /// Looks in the log for invalidations of a key since the value that is served. A value of another epoch than the log's, or
    /// one from before what the log still has, is left alone.
    async fn ask_the_log(&self, core: &Core, audit: &Audit, key: &Key, look: &Look) {
        let partition = self.partition(key);
        let asked = core.log.sync(partition, &core.node, look.origin, LOG_ENTRIES_MAX).await;
        let Ok(Missed::Entries(entries)) = asked.map(|answer| answer.missed) else { return };
        let (now, server_now) = (core.clock.now(), core.server_now());
        for entry in entries {
            let Ok(event) = wire::decode(&entry.payload) else { continue };
            // Surely, whatever groups its value carries.
            let covers = event.scopes.iter().any(|scope| scope.covers(key, &[]));
            if covers && entry.position > look.origin && look.born < said(&event, now, server_now) {
                audit.outdated_by(key, entry.position, What::Logged, now);
            }
        }
    }

    /// What a read found in L2; `asked`: when it began.
    pub(crate) fn audit_l2(&self, key: &Key, found: &Found<V>, asked: u64) {
        let Some(audit) = &self.audit else { return };
        let at = self.address(key);
        if audit.watches(at.hash()) {
            let Found { tier, origin, version, load_start, born, .. } = *found;
            audit.track(key, &at);
            audit.saw(&at, &Look { tier, origin, version, load_start, born }, false, asked);
        }
    }
}

/// When the writer began an event, in this node's logical time, as well as both know the store's clock. `server_now` is what
/// that shows `now`.
pub(crate) fn said(event: &CacheEvent, now: u64, server_now: u64) -> u64 {
    now.saturating_sub(server_now.saturating_sub(event.timestamp))
}
