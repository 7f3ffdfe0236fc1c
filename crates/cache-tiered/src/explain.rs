//! Why a read would be answered as it is.
//!
//! Looks where a read looks, in the same order, and asks the same judges: L1's deadline and fence ([`L1::look`]), the proof
//! of freshness that a hit needs, whether L2 may be asked, and what takes its records. Nothing is counted, moved or
//! filled.
//!
//! [`L1::look`]: cache_l1::L1::look

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cache_bus::State;
use cache_events::{Key, Partition, Position, Version, hash64};
use cache_l1::{Address, Standing};
use cache_l2::{RecordError, position_of, version_of};
use serde_json::Value;

use crate::answer::Tier;
use crate::core::Core;
use crate::read::L2Told;
use crate::space::{Cacheable, Space};

/// Why a read of a key would be answered as it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explained {
    /// The partition of the key.
    pub partition: Partition,
    /// How this node stands there.
    pub state: State,
    /// Up to where it has applied everything there.
    pub cursor: Position,
    /// Milliseconds since a sync last proved that it knows of everything there; `None` = never.
    pub lag_ms: Option<u64>,
    /// For how long it trusts its copies after such a proof.
    pub bound_ms: u64,
    /// The tier that would answer.
    pub tier: Option<Tier>,
    /// The answer would be an error: freshness cannot be proven, and the namespace is set to fail then.
    pub fails: bool,
    /// What would be answered; `None` also where it is known that there is no value.
    pub value: Option<Value>,
    /// What L1 holds.
    pub l1: Looked,
    /// What L2 holds.
    pub l2: Looked,
    /// The groups (`cache_events::Group::id`) that invalidate the value besides its namespace.
    pub groups: Vec<u64>,
}

/// What a tier holds under a key, and what comes of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Looked {
    /// What is there, as far as it can be read.
    pub held: Option<Fact>,
    /// What comes of it.
    pub judged: Judged,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fact {
    /// The position that it reflects. In L1 the epoch is 0 where a new one has outdated it.
    pub position: Position,
    /// The version that the source gave it.
    pub version: Version,
    /// Milliseconds since it was read from the source; `None` where it cannot be read.
    pub age_ms: Option<u64>,
    /// Milliseconds until it expires; `None` where it cannot be read.
    pub expires_in_ms: Option<u64>,
    /// Its bytes: in L1 what is charged for it, in L2 the length of its record.
    pub bytes: u64,
    /// It says that there is no value.
    pub absent: bool,
}

/// What comes of what a tier holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Judged {
    /// It may be served.
    Served,
    /// It may be served although the staleness bound has passed: flagged as stale.
    ServedStale,
    /// The namespace does not use this tier.
    Unused,
    /// Nothing is there.
    Nothing,
    /// Its time is over.
    Expired,
    /// A flush, or an invalidation of its namespace or of one of its tags, is later than it.
    Outdated,
    /// It was not known to be current for so many milliseconds, which is beyond the bound.
    BeyondBound {
        /// So many milliseconds; `None` = never.
        lag_ms: Option<u64>,
    },
    /// A read would not ask: what L2 says can be believed only while this node hears of changes.
    Unasked {
        /// Milliseconds since it was known to; `None` = never.
        lag_ms: Option<u64>,
    },
    /// It did not answer.
    Unanswered(String),
    /// Its record is worthless.
    Refused(Refusal),
}

/// Why a record of L2 is a miss.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(RecordError),
    /// It is of another epoch than the one that counts.
    #[error("it is of another epoch than {live}, the one that counts: everything from before is worthless")]
    DeadEpoch {
        /// The epoch that counts.
        live: u64,
    },
    /// Its resource was invalidated since.
    #[error("its resource was invalidated at {stamp}, after it")]
    Resource {
        /// Where.
        stamp: Position,
    },
    /// Its namespace, or one of its tags, was invalidated since.
    #[error("its cache type, or one of its tags, was invalidated after it")]
    Group,
    /// A new epoch is being adopted: nothing tells what was invalidated before.
    #[error("this node is about to adopt a new epoch")]
    EpochBegins,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It claims to live longer than any record of the namespace may.
    #[error("it claims to live longer than its cache type allows")]
    Overlong,
}

/// An entry of L1 that would be served.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Resident {
    /// Its key.
    pub key: Key,
    /// The position that it reflects.
    pub position: Position,
    /// The version that the source gave it.
    pub version: Version,
    /// A digest of the value's JSON form.
    pub digest: u64,
}

impl Judged {
    /// Whether it may be served.
    pub fn usable(&self) -> bool {
        matches!(self, Self::Served | Self::ServedStale)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_ms = |lag_ms: &Option<u64>| lag_ms.map_or("ever".to_owned(), |lag| format!("for {lag} ms"));
        match self {
            Self::Served => f.write_str("it may be served"),
            Self::ServedStale => f.write_str(
                "it is beyond the staleness bound, and the cache type has it served all the same, flagged as stale",
            ),
            Self::Unused => f.write_str("the cache type does not use this tier"),
            Self::Nothing => f.write_str("nothing is there"),
            Self::Expired => f.write_str("it has expired"),
            Self::Outdated => {
                f.write_str("everything, its cache type or one of its tags was invalidated after it")
            }
            Self::BeyondBound { lag_ms } => {
                write!(f, "it was not known to be current {}, which is beyond the staleness bound", for_ms(lag_ms))
            }
            Self::Unasked { lag_ms } => write!(
                f,
                "a read would not ask here: this node could not prove {} that it hears of all changes",
                for_ms(lag_ms)
            ),
            Self::Unanswered(why) => write!(f, "it does not answer: {why}"),
            Self::Refused(why) => why.fmt(f),
        }
    }
}

/// A tier's part of the explanation, with the value where it may be served.
struct Part<V> {
    looked: Looked,
    value: Option<Arc<V>>,
    groups: Vec<u64>,
}

impl<V> Part<V> {
    fn without(judged: Judged) -> Self {
        Self { looked: Looked { held: None, judged }, value: None, groups: Vec::new() }
    }
}

/// A lag as it is told: none where there never was a proof.
fn told(lag_ms: u64) -> Option<u64> {
    (lag_ms < u64::MAX).then_some(lag_ms)
}

impl<V: Cacheable> Space<V> {
    /// Why a read of a key would be answered as it is.
    pub(crate) async fn explain(&self, core: &Core, key: &Key) -> Explained {
        let partition = self.partition(key);
        let l1 = self.look_in_l1(core, key);
        let l2 = self.look_in_l2(core, key, partition).await;
        let fails = !l1.looked.judged.usable() && self.fail_if_degraded(core, key).is_err();
        let from = match (l1.looked.judged.usable(), l2.looked.judged.usable() && !fails) {
            (true, _) => Some((Tier::L1, &l1)),
            (false, true) => Some((Tier::L2, &l2)),
            (false, false) => None,
        };
        let value = from.and_then(|(_, part)| part.value.as_deref());
        let value = value.map(|value| serde_json::to_value(value).unwrap_or(Value::Null));
        let tier = from.map(|(tier, _)| tier);
        let mut groups = l1.groups;
        groups.extend(l2.groups);
        groups.sort_unstable();
        groups.dedup();
        Explained {
            partition,
            state: core.view.state(partition),
            cursor: core.cursor(partition),
            lag_ms: told(core.unproven_for(partition, 0, core.clock.now())),
            bound_ms: self.bound_ms,
            tier,
            fails,
            value,
            l1: l1.looked,
            l2: l2.looked,
            groups,
        }
    }

    fn look_in_l1(&self, core: &Core, key: &Key) -> Part<V> {
        if !self.settings.tiers.l1() {
            return Part::without(Judged::Unused);
        }
        let (at, now): (Address, u64) = (self.address(key), core.clock.now());
        let Some((value, meta, standing)) = self.l1.look(key, &at, now) else {
            return Part::without(Judged::Nothing);
        };
        let proof = self.proof(core, Partition(at.partition()), meta.born, meta.load_start, now);
        let judged = match standing {
            Standing::Expired => Judged::Expired,
            Standing::Outdated => Judged::Outdated,
            Standing::Served if !proof.stale => Judged::Served,
            Standing::Served if self.permits_stale(proof.age_ms) => Judged::ServedStale,
            Standing::Served => Judged::BeyondBound { lag_ms: told(proof.lag_ms) },
        };
        let held = Fact {
            position: Position::new(meta.origin.epoch, meta.origin.seq),
            version: Version(meta.version),
            age_ms: Some(proof.age_ms),
            expires_in_ms: Some(meta.hard_expiry.saturating_sub(now)),
            bytes: meta.weight.into(),
            absent: value.is_none(),
        };
        Part { looked: Looked { held: Some(held), judged }, value, groups: meta.groups.to_vec() }
    }

    async fn look_in_l2(&self, core: &Core, key: &Key, partition: Partition) -> Part<V> {
        if !self.settings.tiers.l2() {
            return Part::without(Judged::Unused);
        }
        // Shown in any case, but nobody would take it.
        let unasked = (!self.l2_usable(core, partition))
            .then(|| Judged::Unasked { lag_ms: told(core.unproven_for(partition, 0, core.clock.now())) });
        let answer = match core.store.read(partition, std::slice::from_ref(key)).await {
            Ok(answer) => answer,
            Err(error) => return Part::without(unasked.unwrap_or(Judged::Unanswered(error.to_string()))),
        };
        let Some(L2Told { items, live, now, server_now }) = self.adopted(core, partition, answer).await
        else {
            let why = "it is in an epoch that this node could not adopt".to_owned();
            return Part::without(unasked.unwrap_or(Judged::Unanswered(why)));
        };
        let Some((item, record)) = items.into_iter().next().and_then(|item| Some((item.stamp, item.record?)))
        else {
            return Part::without(unasked.unwrap_or(Judged::Nothing));
        };
        let opened = self.open(key, &record).ok();
        let head = opened.as_ref().map(|opened| &opened.head);
        let held = position_of(&record).map(|position| Fact {
            position,
            version: version_of(&record).unwrap_or(Version::NONE),
            age_ms: head.map(|head| server_now.saturating_sub(head.load_start)),
            expires_in_ms: head.map(|head| head.hard_expiry.saturating_sub(server_now)),
            bytes: record.len() as u64,
            absent: opened.as_ref().is_some_and(|opened| opened.value.is_none()),
        });
        let groups = head.map(|head| head.groups.clone()).unwrap_or_default();
        let (judged, value) = match self.take_record(key, &record, live, item, server_now, now) {
            Ok(found) => (unasked.unwrap_or(Judged::Served), found.value),
            Err(why) => (unasked.unwrap_or(Judged::Refused(why)), None),
        };
        Part { looked: Looked { held, judged }, value, groups }
    }

    /// The first keys by name that L1 would serve, and whether there are more.
    pub(crate) fn residents(&self, core: &Core, limit: usize) -> (Vec<Resident>, bool) {
        let mut first: BTreeMap<String, Key> = BTreeMap::new();
        let mut truncated = false;
        self.l1.for_each(|key, _, _| {
            let name = key.to_string();
            if first.len() >= limit && first.last_key_value().is_none_or(|(last, _)| *last <= name) {
                truncated = true;
                return;
            }
            first.insert(name, key.clone());
            if first.len() > limit {
                first.pop_last();
                truncated = true;
            }
        });
        let resident = |key: Key| {
            let part = self.look_in_l1(core, &key);
            let held = part.looked.held.filter(|_| part.looked.judged.usable())?;
            // By way of a tree, so that maps have one order.
            let json = part.value.map(|value| serde_json::to_value(&*value).unwrap_or(Value::Null));
            let json = json.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            let digest = hash64([json.as_bytes()]);
            Some(Resident { key, position: held.position, version: held.version, digest })
        };
        (first.into_values().filter_map(resident).collect(), truncated)
    }
}
