//! What must hold, whatever happens.
//!
//! - **The bound**: an answer that is not flagged is not older than what was acknowledged D(1 + ρ) plus the clock's grain
//!   before the read began.
//! - **I1**: no answer is older than what was acknowledged at the instant as of which it claims to be fresh (its lag).
//!   This is sharper than the bound: freshness is proven anew twice a second.
//! - **The wish** of a read: `AtMost(d)` and `Latest` as of d ago and of the moment of asking, `AtLeast` of a token shows what
//!   was written with it.
//! - **A barrier**: once it is acknowledged, nobody answers with anything older that is not flagged, but a node that was in no
//!   roll while it waited: the server had lost what it knew of the nodes, and that one was cut off. What the server knows
//!   when somebody reads plays no part.
//! - **Replicated**: what was acknowledged when a replica had it is there when one takes over; versioned puts of that kind are
//!   not excused by the loss of others.
//! - **I2**: no record of the live epoch that a node would take is older than what was acknowledged.
//! - **Nothing from the future**: no answer is newer than the source.
//! - **Positions** of a node never go back, and no epoch belongs to two incarnations of the server.
//! - **Handlers** hear of an event, or that they may have missed some.
//! - **Liveness**, asked at the end: all nodes are live and answer what the source says.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use cache_events::{Group, Key, Partition, Position, Version, WriteToken};
use cache_l2::{BincodeCodec, RecordFormat, fingerprint};
use cache_tiered::staleness::StalenessChecker;
use cache_tiered::{Answer, Freshness, Tier};
use parking_lot::Mutex;

use crate::plan::Plan;
use crate::server::Server;
use crate::source::{Source, Style, Value};
use crate::wish::Wish;

/// D, in milliseconds.
pub(crate) const BOUND_MS: u64 = 2_000;
/// Messages and clocks count whole milliseconds.
const ROUNDING_MS: u64 = 2;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, in milliseconds of the schedule.
    pub at_ms: u64,
    /// Which, and what was seen.
    pub what: String,
}

fn bound_of(plan: &Plan) -> u64 {
    BOUND_MS + BOUND_MS / 1_000 + plan.grain + ROUNDING_MS
}

/// The node that is judged: its number and its life.
type Who = (usize, u64);

/// Watches a schedule.
pub(crate) struct Judge {
    pub(crate) source: Source,
    checker: StalenessChecker,
    versioned: Mutex<Versioned>,
    /// What was acknowledged behind a barrier that waited for the node, by node.
    barriers: Vec<StalenessChecker>,
    /// When a roll was last told that a barrier trusts and that lacks the node.
    left_out: Mutex<HashMap<(usize, Partition), u64, BuildHasherDefault<DefaultHasher>>>,
    plan: Plan,
    grain: u64,
    bound: u64,
    format: RecordFormat,
    acked: Mutex<HashMap<Key, Version, BuildHasherDefault<DefaultHasher>>>,
    epochs: Mutex<HashMap<(Who, Partition), u64, BuildHasherDefault<DefaultHasher>>>,
    positions: Mutex<HashMap<(Who, Partition), Position, BuildHasherDefault<DefaultHasher>>>,
    violations: Mutex<Vec<Violation>>,
}

/// What was acknowledged of versioned puts. Where the store has lost data, it has lost the versions that it held, and a
/// put that is late may bring an older one: from then on only what was written later counts.
struct Versioned {
    checker: StalenessChecker,
    lost_at: Option<u64>,
    replicated: Replicated,
}

/// What was acknowledged when a replica had it.
#[derive(Default)]
struct Replicated {
    /// How far the log of a partition is in the replicas.
    upto: BTreeMap<Partition, Position>,
    /// Versioned puts, with the time of their acknowledgement.
    puts: Vec<(Key, Version, u64)>,
}

/// One read, as its caller saw it.
pub(crate) struct Read<'a> {
    pub(crate) node: &'a str,
    pub(crate) number: usize,
    pub(crate) row: usize,
    pub(crate) began: u64,
    pub(crate) answered: u64,
    pub(crate) wish: &'a Wish,
}

impl Judge {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut format = RecordFormat::new(fingerprint(std::any::type_name::<Value>(), 1));
        format.compress_above = None;
        Self {
            source: Source::new(),
            checker: StalenessChecker::new(bound_of(plan)),
            versioned: Mutex::new(Versioned {
                checker: StalenessChecker::new(bound_of(plan)),
                lost_at: None,
                replicated: Replicated::default(),
            }),
            barriers: (0..plan.nodes).map(|_| StalenessChecker::new(0)).collect(),
            left_out: Mutex::default(),
            bound: bound_of(plan),
            grain: plan.grain,
            plan: plan.clone(),
            format,
            acked: Mutex::default(),
            epochs: Mutex::default(),
            positions: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    pub(crate) fn violated(&self, at_ms: u64, what: String) {
        self.violations.lock().push(Violation { at_ms, what });
    }

    pub(crate) fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.violations.lock())
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.violations.lock().is_empty()
    }

    /// The store has lost data.
    pub(crate) fn data_lost(&self, now: u64) {
        self.lost(Replicated::default(), now);
    }

    /// A replica has taken over, whose log is as long as `has` says. What no replica had is lost.
    pub(crate) fn tail_lost(&self, has: impl Fn(Partition) -> Option<Position>, now: u64) {
        let replicated = std::mem::take(&mut self.versioned.lock().replicated);
        for (&partition, &upto) in &replicated.upto {
            match has(partition) {
                // By another fault there was nothing left to be replicated.
                None => return self.data_lost(now),
                Some(has) if has < upto => {
                    let what = format!(
                        "replicated: {upto} of partition {partition} was acknowledged; the replica that takes over is at {has}"
                    );
                    self.violated(now, what);
                }
                Some(_) => {}
            }
        }
        self.lost(replicated, now);
    }

    fn lost(&self, replicated: Replicated, now: u64) {
        let checker = StalenessChecker::new(self.bound);
        let mut acked = self.acked.lock();
        acked.retain(|key, _| key.namespace().as_str() != Style::Versioned.name());
        for (key, version, at) in &replicated.puts {
            checker.acked(key, *version, *at);
            let known = acked.entry(key.clone()).or_default();
            *known = (*version).max(*known);
        }
        drop(acked);
        *self.versioned.lock() = Versioned { checker, lost_at: Some(now), replicated };
    }

    /// Changes that were begun then were acknowledged when a replica had them.
    pub(crate) fn replicated(
        &self,
        changed: &[(usize, Version)],
        token: Option<&WriteToken>,
        began: u64,
        now: u64,
    ) {
        let mut versioned = self.versioned.lock();
        if versioned.lost_at.is_some_and(|at| began <= at) {
            return;
        }
        for (partition, at) in token.into_iter().flat_map(WriteToken::positions) {
            let upto = versioned.replicated.upto.entry(partition).or_default();
            *upto = at.max(*upto);
        }
        let puts = changed.iter().filter(|(row, _)| self.source.rows[*row].style == Style::Versioned);
        let puts = puts.map(|&(row, version)| (self.source.rows[row].key.clone(), version, now));
        versioned.replicated.puts.extend(puts);
    }

    #[cfg(test)]
    fn forget_losses(&self) {
        self.versioned.lock().lost_at = None;
    }

    /// Whether the store ever lost data.
    pub(crate) fn has_lost_data(&self) -> bool {
        self.versioned.lock().lost_at.is_some()
    }

    fn staleness(&self, row: usize, version: Version, began: u64) -> u64 {
        let row = &self.source.rows[row];
        match row.style {
            Style::Versioned => self.versioned.lock().checker.staleness(&row.key, version, began),
            _ => self.checker.staleness(&row.key, version, began),
        }
    }

    /// Changes that were begun then were acknowledged now.
    pub(crate) fn acked(&self, changed: &[(usize, Version)], began: u64, server: &Server, now: u64) {
        for &(row, version) in changed {
            let key = &self.source.rows[row].key;
            if self.source.rows[row].style == Style::Versioned {
                let versioned = self.versioned.lock();
                if versioned.lost_at.is_some_and(|at| began <= at) {
                    continue;
                }
                versioned.checker.acked(key, version, now);
            } else {
                self.checker.acked(key, version, now);
            }
            {
                let mut acked = self.acked.lock();
                let known = acked.entry(key.clone()).or_default();
                *known = version.max(*known);
            }
            self.look_at_record(key, server, now);
        }
    }

    /// A roll was told. (In that of a young epoch nobody need stand: a barrier waits then.)
    pub(crate) fn roll_told(&self, partition: Partition, left_out: &[usize], epoch_age_ms: u64, now: u64) {
        if epoch_age_ms >= BOUND_MS {
            let mut known = self.left_out.lock();
            known.extend(left_out.iter().map(|&node| ((node, partition), now)));
        }
    }

    /// Changes that were begun then were acknowledged behind a barrier. (What is lost of versioned puts with the data of the
    /// store is lost for barriers too.)
    pub(crate) fn barrier_passed(&self, changed: &[(usize, Version)], began: u64, now: u64) {
        let left_out = self.left_out.lock();
        for &(row, version) in
            changed.iter().filter(|(row, _)| self.source.rows[*row].style != Style::Versioned)
        {
            let key = &self.source.rows[row].key;
            let partition = key.partition(self.plan.partitions);
            for (node, barriers) in self.barriers.iter().enumerate() {
                if left_out.get(&(node, partition)).is_none_or(|&at| at < began) {
                    barriers.acked(key, version, now);
                }
            }
        }
    }

    /// I2, for one key.
    pub(crate) fn look_at_record(&self, key: &Key, server: &Server, now: u64) {
        let group = Group::namespace(key.namespace()).id();
        let Some(record) = server.live_record(key, group, now) else { return };
        // What is damaged is a miss for everybody.
        let Ok(opened) = self.format.open::<Value, _>(&record, key, &BincodeCodec) else { return };
        let (Some(value), acked) = (opened.value, self.acked.lock().get(key).copied().unwrap_or_default())
        else {
            return;
        };
        // One that a clock put back lets live for longer than it may is taken by nobody.
        let limit = crate::life::ttl_ms(&self.plan, key) + 5_000;
        if opened.head.hard_expiry > server.ms(now) + limit {
            return;
        }
        if value.version < acked.0 {
            let (at, held) = (opened.head.origin, value.version);
            let what = format!(
                "I2: the live record of {key} holds version {held} (of {at}); {acked:?} is acknowledged"
            );
            self.violated(now, what);
        }
    }

    /// Judges an answer.
    pub(crate) fn read(&self, read: &Read<'_>, answer: &Answer<Value>) {
        let key = &self.source.rows[read.row].key;
        let Some(value) = &answer.value else {
            return self.violated(read.answered, format!("{}: {key} is said to be absent", read.node));
        };
        let version = Version(value.version);
        let Read { node, began, answered, .. } = *read;
        let seen = format!("{node} answered {key} from {} with {version:?}", answer.tier.as_str());
        if version > self.source.read(read.row) {
            self.violated(answered, format!("from the future: {seen}"));
        }
        let staleness = self.staleness(read.row, version, began);
        if !answer.stale && self.checker.is_stale(staleness) {
            self.violated(
                answered,
                format!("bound: {seen}, {staleness} ms after a newer one was acknowledged"),
            );
        }
        // The lag was reckoned by a clock that may be slow by ρ and shows multiples of its grain.
        let slack = answer.lag_ms / 500 + self.grain + ROUNDING_MS;
        let as_of = began.min(answered.saturating_sub(answer.lag_ms.saturating_add(slack)));
        let hidden = self.staleness(read.row, version, as_of);
        if hidden > 0 {
            let lag = answer.lag_ms;
            let what = format!(
                "I1: {seen} and says that this was right {lag} ms ago; a newer one was acknowledged {hidden} ms before \
                 that"
            );
            self.violated(answered, what);
        }
        if !answer.stale {
            let behind = self.barriers[read.number].staleness(key, version, began);
            if behind > 0 {
                self.violated(answered, format!("barrier: {seen}, {behind} ms after a newer one passed it"));
            }
        }
        if let Some(what) = self.broken_wish(read, version) {
            self.violated(answered, format!("{}: {seen}, {what}", read.wish.freshness));
        }
        if answer.tier == Tier::L1 && !answer.stale && answer.lag_ms > BOUND_MS {
            self.violated(answered, format!("{seen}, unproven for {} ms and not flagged", answer.lag_ms));
        }
    }

    fn broken_wish(&self, read: &Read<'_>, version: Version) -> Option<String> {
        let hidden = match &read.wish.freshness {
            Freshness::Latest => self.staleness(read.row, version, read.began),
            Freshness::AtMost(most) => {
                let most = most.as_millis() as u64;
                let slack = most / 500 + self.grain + ROUNDING_MS;
                self.staleness(read.row, version, read.began.saturating_sub(most + slack))
            }
            Freshness::AtLeast(_) => {
                let wanted = read.wish.reflects;
                return (version < wanted).then(|| format!("and the token is that of {wanted:?}"));
            }
            _ => 0,
        };
        (hidden > 0).then(|| format!("{hidden} ms too old"))
    }

    /// Judges the epoch into which a node flushes.
    pub(crate) fn flushed(&self, who: Who, partition: Partition, epoch: u64, now: u64) {
        let mut epochs = self.epochs.lock();
        let before = epochs.insert((who, partition), epoch).unwrap_or_default();
        drop(epochs);
        if epoch < before {
            let node = who.0;
            self.violated(
                now,
                format!("node {node} went back in partition {partition}, to epoch {epoch} from {before}"),
            );
        }
    }

    /// Judges where a node stands.
    pub(crate) fn stands(&self, who: Who, partition: Partition, position: Position, now: u64) {
        let mut positions = self.positions.lock();
        let before = positions.insert((who, partition), position).unwrap_or_default();
        drop(positions);
        if position < before {
            let node = who.0;
            self.violated(
                now,
                format!("node {node} went back in partition {partition}: {before} to {position}"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
