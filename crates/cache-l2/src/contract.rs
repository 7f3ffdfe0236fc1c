//! What every [`Store`] must keep, as plain functions for the tests of whoever implements it.
//!
//! One function a rule, and [`all`] for all of them. They need no test framework: a rule that is broken comes back as
//! a [`Violation`]. Each rule makes fresh keys of its own, so that the rules can run one after the other, and again,
//! against one server; nobody else may write to it meanwhile, since the rules count positions and begin epochs.
//!
//! ```
//! # struct Mine(Box<dyn cache_l2::Store>);
//! # #[async_trait::async_trait]
//! # impl cache_l2::contract::Harness for Mine {
//! #     fn store(&self) -> &dyn cache_l2::Store { &*self.0 }
//! #     async fn pass(&self, _: std::time::Duration) {}
//! # }
//! async fn test(mine: Mine) {
//!     let violations = cache_l2::contract::all(&mine).await;
//!     assert!(violations.is_empty(), "{violations:#?}");
//! }
//! ```

mod epochs;
mod invalidations;
mod leases;
mod puts;
mod versions;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_events::wire::CargoKind;
use cache_events::{Key, NameError, Namespace, Partition, Position, Version};

use crate::codec::JsonCodec;
use crate::record::{RecordFormat, RecordHead, SealError, position_of};
use crate::store::{
    Append, Carry, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, ReadItem, Store, StoreError,
};

pub use epochs::{
    a_caller_ahead_ends_the_epoch, a_flush_begins_an_epoch_with_its_event, a_flush_kills_what_was_stored,
    a_lease_is_not_answered_from_behind_its_caller, positions_at_the_limit_are_refused,
};
pub use invalidations::{
    a_pattern_removes_exactly_what_it_covers, a_resource_is_stamped_with_all_its_variants,
    a_stamp_of_another_epoch_is_not_told, groups_take_one_position, old_groups_make_room,
    only_the_named_keys_are_removed, too_many_groups_end_the_epoch,
};
pub use leases::{
    a_dead_record_does_not_block_the_load, a_fill_after_a_pattern_is_refused,
    a_fill_after_an_invalidation_is_refused, a_fill_after_the_lease_expired_is_refused,
    a_fill_keeps_the_record_as_it_is, a_fill_needs_the_lease, a_hold_keeps_everybody_from_filling,
    a_hold_lasts_unless_a_longer_one_comes, a_lease_tells_head_and_stamp, a_put_removes_the_lease,
    one_holds_the_lease, only_the_holder_releases,
};
pub use puts::{
    a_put_is_read_back_with_its_position, positions_grow_by_one, reads_answer_in_order, records_expire,
    the_public_channel_carries_the_position,
};
pub use versions::{
    a_floor_counts_where_the_record_is_still_stored, a_put_over_a_record_takes_its_place_alone,
    floors_only_grow, floors_outlive_an_epoch, given_floors_count, only_a_newer_version_is_stored,
    the_version_of_a_removed_record_is_a_floor, versions_are_numbers,
};

/// What the rules need of the place where they run.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// Lets time pass for the store: waits, or moves its clock.
    async fn pass(&self, time: Duration);

    /// The limit on groups of one partition.
    fn groups_max(&self) -> usize {
        10_000
    }

    /// Subscribes to the public channel, if there is one.
    async fn public_events(&self) -> Option<Box<dyn PublicEvents>> {
        None
    }
}

/// A subscription to the public channel.
#[async_trait]
pub trait PublicEvents: Send {
    /// The next text, or `None` if none came within a reasonable time.
    async fn next(&mut self) -> Option<String>;
}

/// A rule that a store breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.seen)
    }
}

impl std::error::Error for Violation {}

/// What a rule says: nothing, or how it is broken.
pub type Verdict = Result<(), Broken>;

/// What was seen where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One rule.
pub struct Rule {
    /// Its name: that of its function.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Harness) -> Running<'a>,
}

impl Rule {
    /// Runs the rule.
    ///
    /// # Errors
    /// [`Violation`] if the store breaks it.
    pub async fn run(&self, harness: &dyn Harness) -> Result<(), Violation> {
        (self.run)(harness).await.map_err(|broken| Violation { rule: self.name, seen: broken.0 })
    }
}

/// All rules.
pub fn rules() -> Vec<Rule> {
    macro_rules! rules {
        ($($name:ident),* $(,)?) => {
            vec![$(Rule { name: stringify!($name), run: |harness| Box::pin($name(harness)) }),*]
        };
    }
    rules![
        a_put_is_read_back_with_its_position,
        reads_answer_in_order,
        records_expire,
        positions_grow_by_one,
        the_public_channel_carries_the_position,
        one_holds_the_lease,
        a_fill_needs_the_lease,
        a_fill_keeps_the_record_as_it_is,
        a_fill_after_an_invalidation_is_refused,
        a_fill_after_a_pattern_is_refused,
        a_fill_after_the_lease_expired_is_refused,
        only_the_holder_releases,
        a_put_removes_the_lease,
        a_hold_keeps_everybody_from_filling,
        a_hold_lasts_unless_a_longer_one_comes,
        a_lease_tells_head_and_stamp,
        a_dead_record_does_not_block_the_load,
        only_a_newer_version_is_stored,
        versions_are_numbers,
        the_version_of_a_removed_record_is_a_floor,
        given_floors_count,
        a_floor_counts_where_the_record_is_still_stored,
        floors_only_grow,
        floors_outlive_an_epoch,
        a_put_over_a_record_takes_its_place_alone,
        only_the_named_keys_are_removed,
        a_resource_is_stamped_with_all_its_variants,
        a_stamp_of_another_epoch_is_not_told,
        a_pattern_removes_exactly_what_it_covers,
        groups_take_one_position,
        old_groups_make_room,
        too_many_groups_end_the_epoch,
        a_flush_begins_an_epoch_with_its_event,
        a_flush_kills_what_was_stored,
        a_caller_ahead_ends_the_epoch,
        a_lease_is_not_answered_from_behind_its_caller,
        positions_at_the_limit_are_refused,
    ]
}

/// Runs all rules, one after the other, and says which are broken.
pub async fn all(harness: &dyn Harness) -> Vec<Violation> {
    let mut violations = Vec::new();
    for rule in rules() {
        violations.extend(rule.run(harness).await.err());
    }
    violations
}

macro_rules! broken_by {
    ($($error:ty),*) => {
        $(impl From<$error> for Broken {
            fn from(error: $error) -> Self {
                Self(format!("an unexpected error: {error}"))
            }
        })*
    };
}
broken_by!(StoreError, NameError, SealError);

/// Says how the rule is broken unless the condition holds.
macro_rules! require {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::contract::Broken(format!($($text)+)));
        }
    };
}
use require;

/// Long enough to outlive a rule.
const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(150);

/// A store, with keys that no other rule and no earlier run has used.
struct Bench<'a> {
    harness: &'a dyn Harness,
    store: &'a dyn Store,
    namespace: Namespace,
    /// The resource: all keys of a bench are variants of it, or begin with it.
    resource: String,
}

impl<'a> Bench<'a> {
    async fn new(harness: &'a dyn Harness, rule: &str) -> Result<Self, Broken> {
        let store = harness.store();
        let namespace = Namespace::new("contract")?;
        // The head has never stood there before, so it tells this run from all others.
        let head = store.invalidate(Partition(0), &Invalidation::default(), append()).await?;
        Ok(Self { harness, store, namespace, resource: format!("{rule}:{head}") })
    }

    /// The key of the resource without parameters.
    fn key(&self) -> Result<Key, Broken> {
        Ok(Key::new(&self.namespace, &self.resource)?)
    }

    /// A variant of the resource: in the same partition.
    fn variant(&self, value: &str) -> Result<Key, Broken> {
        Ok(Key::builder(&self.namespace, &self.resource).param("variant", value).build()?)
    }

    /// The partition of the resource.
    fn partition(&self) -> Partition {
        Partition::of(cache_events::resource_hash(&self.namespace, &self.resource), self.store.partitions())
    }

    /// Appends an event that removes nothing, and says where it is.
    async fn head(&self) -> Result<Position, Broken> {
        Ok(self.store.invalidate(self.partition(), &Invalidation::default(), append()).await?)
    }

    async fn put(&self, key: &Key, record: Bytes) -> Result<Position, Broken> {
        Ok(self.store.put(key, record, LONG, append()).await?)
    }

    /// Puts a record of this version; says whether it was stored.
    async fn put_version(&self, key: &Key, version: u64) -> Result<bool, Broken> {
        let record = record(key, version)?;
        let stored = self.store.put_versioned(key, Version(version), record, LONG, append()).await?;
        Ok(stored.is_some())
    }

    async fn read(&self, key: &Key) -> Result<ReadItem, Broken> {
        let mut answer = self.store.read(self.partition(), std::slice::from_ref(key)).await?;
        require!(answer.items.len() == 1, "{} items for one key", answer.items.len());
        Ok(answer.items.remove(0))
    }

    async fn is_stored(&self, key: &Key) -> Result<bool, Broken> {
        Ok(self.read(key).await?.record.is_some())
    }

    async fn lease(&self, key: &Key, token: LeaseToken) -> Result<LeaseAnswer, Broken> {
        Ok(self.store.lease(key, ask(token)).await?)
    }

    /// Takes a lease that must be granted.
    async fn granted(&self, key: &Key, token: LeaseToken) -> Result<LeaseAnswer, Broken> {
        let answer = self.lease(key, token).await?;
        require!(answer.lease == Lease::Granted, "a free lease was not granted: {:?}", answer.lease);
        Ok(answer)
    }

    async fn fill(&self, key: &Key, token: LeaseToken) -> Result<bool, Broken> {
        Ok(self.store.fill(key, token, record(key, 0)?, LONG).await?)
    }

    async fn invalidate_keys(&self, keys: &[&Key]) -> Result<Position, Broken> {
        let keys = keys.iter().map(|&key| key.clone()).collect();
        let what = Invalidation { keys, keep: LONG, ..Default::default() };
        Ok(self.store.invalidate(self.partition(), &what, append()).await?)
    }

    async fn invalidate_resource(&self, floor: u64) -> Result<Position, Broken> {
        let resources = vec![(self.namespace.clone(), self.resource.clone())];
        let what = Invalidation { resources, keep: LONG, floor: Version(floor), ..Default::default() };
        Ok(self.store.invalidate(self.partition(), &what, append()).await?)
    }

    async fn flush(&self) -> Result<Position, Broken> {
        Ok(self.store.flush(self.partition(), append()).await?)
    }
}

/// A put in a partition whose hint carries something: what the contract of transports asks of a harness over this store.
/// Says where it is and what is carried.
///
/// # Errors
/// [`Broken`] if the store refuses it.
pub async fn put_carrying(
    store: &dyn Store,
    partition: Partition,
    payload: Bytes,
    kind: CargoKind,
) -> Result<(Position, Bytes), Broken> {
    let namespace = Namespace::new("contract")?;
    let mut number = 0_u64;
    let key = loop {
        let key = Key::new(&namespace, format!("carried{number}"))?;
        if key.partition(store.partitions()) == partition {
            break key;
        }
        number += 1;
    };
    let (record, delta) = (record(&key, 0)?, Bytes::from_static(b"\0a delta\n\xff"));
    let (carry, cargo) = match kind {
        CargoKind::Record => (Carry::Record, record.clone()),
        CargoKind::Delta => (Carry::Delta(delta.clone()), delta),
    };
    let append = Append { payload, carry, ..Append::default() };
    Ok((store.put(&key, record, LONG, append).await?, cargo))
}

/// An event from a caller that claims nothing about where it stands.
fn append() -> Append {
    Append { payload: Bytes::from_static(b"an event of the contract"), ..Default::default() }
}

/// A record of this version from before everything.
fn record(key: &Key, version: u64) -> Result<Bytes, Broken> {
    record_of(key, version, Position::ZERO)
}

fn record_of(key: &Key, version: u64, origin: Position) -> Result<Bytes, Broken> {
    let head = RecordHead { origin, version: Version(version), ..Default::default() };
    Ok(RecordFormat::new(1).seal(&head, key, Some(&key.to_string()), &JsonCodec)?)
}

fn token(number: u8) -> LeaseToken {
    LeaseToken([number; 16])
}

fn ask(token: LeaseToken) -> LeaseAsk {
    LeaseAsk { token, ttl: LONG, refresh: false, at: Position::ZERO }
}

fn place(record: &[u8]) -> Result<Position, Broken> {
    position_of(record).ok_or_else(|| Broken("what is stored is not a record".into()))
}
