//! The auditor: is what this node serves what it promised to serve, and if not, why?
//!
//! It watches a sample of the keys, chosen by their hash, so that all nodes watch the same ones. Reads of them are noted
//! (what they were given, and when), and so is what happens to them: invalidations applied, values that come into
//! L1 or are kept out, drops, flushes. Twice a second a round judges the noted reads ([`verdict`]) and asks L2, and the
//! source where one was given, for what the keys hold there ([`round`]), which is what later reads are judged by.
//!
//! A hit of a key that is not watched pays one comparison. One that is watched takes a lock, if that is free, and looks
//! into a table; it allocates nothing. Of a key that is read all the time only some reads in a millisecond are noted.

mod history;
mod round;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cache_bus::FlushCause;
use cache_events::{Clock, Key, Partition, Position, Version};
use cache_l1::Address;
use parking_lot::Mutex;

use crate::answer::Tier;
use crate::staleness::StalenessChecker;

pub(crate) use history::{Happening, Look, Slice, What};
pub(crate) use round::{said, watch};
pub use verdict::Cause;
use verdict::{Evidence, Verdict};

/// Added to the bound before a read counts as stale: the coarse clock's error, twice, and what two machines' clocks may
/// drift apart within a bound.
const GRACE_MS: u64 = 50;
const SHARDS: usize = 16;
/// Events of groups, namespaces and whole partitions that are remembered.
const WIDE_MAX: usize = 256;
/// Reads of the keys of one shard that are noted within one millisecond.
const READS_PER_TICK: u64 = 32;
/// Violations that are remembered, for each namespace.
const VIOLATIONS_MAX: usize = 16;
/// Truths remembered for a key.
const TRUTHS_MAX: usize = 32;

/// What the auditor watches, and how often it looks.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditSettings {
    /// Share of the keys that are watched, 0 to 1.
    pub rate: f64,
    /// Keys that are watched at most, in each namespace; beyond that the one that was not read for longest is forgotten. A
    /// watched key takes about 4 KB.
    pub keys_max: usize,
    /// Time between two rounds.
    pub every: Duration,
    /// Happenings remembered for a key.
    pub history_max: usize,
}

impl Default for AuditSettings {
    /// 1 % of the keys, 1,024 of a namespace, twice a second.
    fn default() -> Self {
        Self { rate: 0.01, keys_max: 1_024, every: Duration::from_millis(500), history_max: 32 }
    }
}

impl AuditSettings {
    /// Hashes below this are watched.
    fn below(&self) -> u64 {
        match self.rate {
            rate if rate >= 1.0 => u64::MAX,
            // Saturates at both ends.
            rate => (rate * u64::MAX as f64) as u64,
        }
    }
}

/// The system of record, as far as the auditor asks it.
#[async_trait]
pub trait AuditSource: Send + Sync + 'static {
    /// The version of a key's value; `None` if it has none or cannot tell.
    async fn version(&self, key: &Key) -> Option<Version>;
}

/// What the auditor found in a namespace since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditStats {
    /// Keys that are watched.
    pub keys: u64,
    /// Reads that were judged.
    pub judged: u64,
    /// Reads that were given what had been outdated for longer than the bound.
    pub violations: u64,
    /// Reads that were given an older version than L2 or the source had, without any invalidation of the key: nobody announced
    /// the change, or the source itself is behind. Not a violation: the cache promises nothing about these.
    pub outside: u64,
    /// Reads that were given what is flagged as stale, as the namespace permits; not judged.
    pub flagged: u64,
    /// Reads that were not judged for want of room.
    pub unjudged: u64,
    /// The stalest violation, in milliseconds.
    pub worst_ms: u64,
}

impl AuditStats {
    /// How many nines of the reads were coherent: 3 = 99.9 %. Without a violation, as many as so few reads can show. `None`
    /// before the first.
    pub fn nines(&self) -> Option<f64> {
        (self.judged > 0).then(|| (self.judged as f64 / self.violations.max(1) as f64).log10())
    }
}

/// A value that was served for longer than the promise allows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Violation {
    /// Of which key.
    pub key: Key,
    /// Why.
    pub cause: Cause,
    /// The tier that gave it.
    pub tier: Tier,
    /// The position that it reflects.
    pub position: Position,
    /// Its version.
    pub version: Version,
    /// Reads that were given it.
    pub reads: u64,
    /// For how long it had been outdated when it was read last, in milliseconds.
    pub staleness_ms: u64,
    /// What happened to the key lately, as far as is remembered, in order, one happening a line. Times are this node's logical
    /// milliseconds.
    pub history: Vec<String>,
}

/// Hashes are hashed already.
#[derive(Default)]
pub(crate) struct Unhashed(u64);

impl Hasher for Unhashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        // Watched hashes are low: their upper bits are alike, by which the table tells neighbours apart.
        self.0.rotate_left(32)
    }
}

type Keys = HashMap<u64, history::Tracked, BuildHasherDefault<Unhashed>>;

#[derive(Default)]
struct Shard {
    /// A millisecond and how many reads were noted in it.
    tick: AtomicU64,
    keys: Mutex<Keys>,
}

/// What an event or a flush did to more than a resource.
#[derive(Debug, Clone)]
struct Wide {
    partition: Partition,
    covers: Covers,
    happening: Happening,
}

/// Which keys of the namespace, in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covers {
    /// All.
    All,
    /// Those whose value carries the group.
    Group(u64),
}

/// The auditor of one namespace.
pub(crate) struct Audit {
    pub(crate) settings: AuditSettings,
    bound_ms: u64,
    below: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) source: Option<Arc<dyn AuditSource>>,
    shards: [Shard; SHARDS],
    wide: Mutex<VecDeque<Wide>>,
    /// Of single keys, from L2 and the log.
    positions: StalenessChecker<Position>,
    /// From L2 and the source.
    versions: StalenessChecker<Version>,
    tally: Mutex<AuditStats>,
    found: Mutex<VecDeque<Violation>>,
}

impl Audit {
    pub(crate) fn new(
        bound: Duration,
        settings: AuditSettings,
        clock: Arc<dyn Clock>,
        source: Option<Arc<dyn AuditSource>>,
    ) -> Self {
        let bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Self {
            below: settings.below(),
            settings,
            bound_ms,
            clock,
            source,
            shards: Default::default(),
            wide: Mutex::default(),
            positions: StalenessChecker::new(bound_ms).forgetting(TRUTHS_MAX),
            versions: StalenessChecker::new(bound_ms).forgetting(TRUTHS_MAX),
            tally: Mutex::default(),
            found: Mutex::default(),
        }
    }

    /// Hashes below this are watched.
    pub(crate) fn below(&self) -> u64 {
        self.below
    }

    pub(crate) fn watches(&self, hash: u64) -> bool {
        hash < self.below
    }

    fn shard(&self, resource: u64) -> &Shard {
        &self.shards[resource as usize % SHARDS]
    }

    fn of_key(&self, key: &Key) -> &Shard {
        self.shard(key.resource_hash())
    }

    /// A read of a watched key. Allocates nothing, and waits for nobody.
    pub(crate) fn saw(&self, at: &Address, look: &Look, stale: bool, now: u64) {
        let shard = self.shard(at.resource());
        // Not exact where threads meet; it need not be.
        let (tick, mut noted) = (shard.tick.load(Ordering::Relaxed), 0);
        if tick >> 8 == now {
            noted = tick & 0xFF;
            if noted >= READS_PER_TICK {
                return;
            }
        }
        shard.tick.store((now << 8) | (noted + 1), Ordering::Relaxed);
        let Some(mut keys) = shard.keys.try_lock() else { return };
        if let Some(tracked) = keys.get_mut(&at.hash()) {
            if stale {
                tracked.flagged += 1;
            } else {
                tracked.saw(look, now);
            }
        }
    }

    /// Begins to watch a key, if it is one of the sample.
    pub(crate) fn track(&self, key: &Key, at: &Address) {
        if !self.watches(at.hash()) {
            return;
        }
        let mut keys = self.shard(at.resource()).keys.lock();
        if keys.contains_key(&at.hash()) {
            return;
        }
        if keys.len() >= (self.settings.keys_max / SHARDS).max(1) {
            let idle = keys.iter().min_by_key(|(_, tracked)| tracked.last_read).map(|(hash, _)| *hash);
            if let Some(gone) = idle.and_then(|hash| keys.remove(&hash)) {
                self.positions.forget(&gone.key);
                self.versions.forget(&gone.key);
            }
        }
        keys.insert(at.hash(), history::Tracked::new(key.clone(), self.settings.history_max.max(1)));
    }

    /// Something happened to a key that may be watched.
    pub(crate) fn happened(&self, at: &Address, position: Position, what: What) {
        if !self.watches(at.hash()) {
            return;
        }
        let mut keys = self.shard(at.resource()).keys.lock();
        if let Some(tracked) = keys.get_mut(&at.hash()) {
            tracked.happened(Happening { at: self.clock.now(), position, what });
        }
    }

    /// An invalidation of a resource, or (`hash`) of one key of it, was applied.
    pub(crate) fn applied(&self, resource: u64, hash: Option<u64>, position: Position, said: u64) {
        if hash.is_some_and(|hash| !self.watches(hash)) {
            return;
        }
        let happening = Happening { at: self.clock.now(), position, what: What::Applied { said } };
        let mut keys = self.shard(resource).keys.lock();
        match hash {
            Some(hash) => {
                if let Some(tracked) = keys.get_mut(&hash) {
                    tracked.happened(happening);
                }
            }
            None => {
                let of_it = keys.values_mut().filter(|tracked| tracked.key.resource_hash() == resource);
                of_it.for_each(|tracked| tracked.happened(happening.clone()));
            }
        }
    }

    /// An invalidation of all keys of a partition that `covers` says was applied.
    pub(crate) fn applied_where(
        &self,
        partition: (Partition, u32),
        position: Position,
        said: u64,
        covers: impl Fn(&Key) -> bool,
    ) {
        let happening = Happening { at: self.clock.now(), position, what: What::Applied { said } };
        let (partition, partitions) = partition;
        for shard in &self.shards {
            let mut keys = shard.keys.lock();
            let covered = keys
                .values_mut()
                .filter(|tracked| tracked.key.partition(partitions) == partition && covers(&tracked.key));
            covered.for_each(|tracked| tracked.happened(happening.clone()));
        }
    }

    /// An invalidation of a group or of the namespace was applied.
    pub(crate) fn applied_to_many(
        &self,
        partition: Partition,
        covers: Covers,
        position: Position,
        said: u64,
    ) {
        self.note_wide(partition, covers, position, What::Applied { said });
    }

    /// A partition was flushed.
    pub(crate) fn flushed(&self, partition: Partition, epoch: u64, cause: FlushCause) {
        self.note_wide(partition, Covers::All, Position::new(epoch, 0), What::Flushed(cause));
    }

    fn note_wide(&self, partition: Partition, covers: Covers, position: Position, what: What) {
        let happening = Happening { at: self.clock.now(), position, what };
        let mut wide = self.wide.lock();
        if wide.len() >= WIDE_MAX {
            wide.pop_front();
        }
        wide.push_back(Wide { partition, covers, happening });
    }

    /// Judges the reads that were noted. `cursor`: where this node stands in a partition.
    pub(crate) fn judge(&self, partitions: u32, cursor: impl Fn(Partition) -> Position) {
        for shard in &self.shards {
            let mut keys = shard.keys.lock();
            for tracked in keys.values_mut() {
                let slices = tracked.take();
                let (flagged, unjudged) =
                    (std::mem::take(&mut tracked.flagged), std::mem::take(&mut tracked.unjudged));
                {
                    let mut tally = self.tally.lock();
                    tally.flagged += flagged;
                    tally.unjudged += unjudged;
                }
                let partition = tracked.key.partition(partitions);
                for slice in slices {
                    let evidence = self.evidence(tracked, partition, &slice.look, cursor(partition));
                    self.count(tracked, &slice, &evidence);
                }
            }
        }
    }

    fn evidence(
        &self,
        tracked: &history::Tracked,
        partition: Partition,
        look: &Look,
        cursor: Position,
    ) -> Evidence {
        let groups = tracked.groups_of(look.origin);
        let covers = |wide: &&Wide| {
            wide.partition == partition
                && match wide.covers {
                    Covers::All => true,
                    Covers::Group(group) => groups.contains(&group),
                }
        };
        let mut history: Vec<Happening> = tracked.history().cloned().collect();
        history.extend(self.wide.lock().iter().filter(covers).map(|wide| wide.happening.clone()));
        history.sort_by_key(|happening| happening.at);
        let newer = match look.version {
            Version::NONE => None,
            version => self.versions.outdated(&tracked.key, version),
        };
        Evidence {
            outdated: self.positions.outdated(&tracked.key, look.origin),
            newer,
            history,
            cursor,
            grace_ms: self.bound_ms.saturating_add(GRACE_MS),
        }
    }

    fn count(&self, tracked: &history::Tracked, slice: &Slice, evidence: &Evidence) {
        let verdict = verdict::judge(slice, evidence);
        let mut tally = self.tally.lock();
        tally.judged += slice.reads;
        let (cause, staleness_ms) = match verdict {
            Verdict::Right => return,
            Verdict::Outside => {
                tally.outside += slice.reads;
                return;
            }
            Verdict::Wrong { cause, staleness_ms } => (cause, staleness_ms),
        };
        tally.violations += slice.reads;
        tally.worst_ms = tally.worst_ms.max(staleness_ms);
        drop(tally);
        let (key, look) = (&tracked.key, &slice.look);
        let mut found = self.found.lock();
        // The same entry, served again.
        let same = |past: &&mut Violation| {
            past.key == *key && past.position == look.origin && past.version == look.version
        };
        if let Some(past) = found.iter_mut().find(same) {
            past.reads += slice.reads;
            past.staleness_ms = past.staleness_ms.max(staleness_ms);
            return;
        }
        tracing::warn!(%key, %cause, staleness_ms, "a value was served for longer than the staleness bound allows");
        if found.len() >= VIOLATIONS_MAX {
            found.pop_front();
        }
        found.push_back(Violation {
            key: key.clone(),
            cause,
            tier: look.tier,
            position: look.origin,
            version: look.version,
            reads: slice.reads,
            staleness_ms,
            history: evidence.history.iter().map(ToString::to_string).collect(),
        });
    }

    /// What was found so far.
    pub(crate) fn stats(&self) -> AuditStats {
        let keys = self.shards.iter().map(|shard| shard.keys.lock().len() as u64).sum();
        AuditStats { keys, ..*self.tally.lock() }
    }

    /// The violations that are remembered, the latest last.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.found.lock().iter().cloned().collect()
    }
}
