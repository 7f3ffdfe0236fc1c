//! The typed handle of one namespace, and what the engine knows of a namespace without its type.

use std::any::{Any, type_name};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cache_events::{Key, KeyBuilder, NameError, Namespace, Scope, Version};
use futures_util::future::BoxFuture;
use tracing::Instrument;

use crate::answer::{Answer, Loaded, PutOutcome, ReadOptions, WriteOptions, Written};
use crate::audit::Audit;
use crate::core::Core;
use crate::error::{ReadError, SourceError, WriteError, WrongNamespace};
use crate::event_draft::EventDraft;
use crate::freshness::Freshness;
use crate::json::JsonSpace;
use crate::receive::LocalSpace;
use crate::settings::NamespaceSettings;
use crate::shed::Shed;
use crate::space::{Cacheable, Space};
use crate::stats::NamespaceStats;
use crate::times::SpaceTimes;
use crate::traces;
use crate::updates::Change;

/// A namespace whose type is not known here.
pub(crate) trait AnySpace: Any + Send + Sync {
    fn settings(&self) -> &NamespaceSettings;
    fn type_name(&self) -> &'static str;
    fn stats(&self) -> NamespaceStats;
    fn times(&self) -> SpaceTimes;
    fn hottest(&self, limit: usize, now: u64) -> Vec<(Key, f64)>;
    fn sweep(&self, now: u64);
    /// Values that are written from now on live so long, unless a call says otherwise.
    fn set_ttl(&self, ttl: Duration);
    /// Entries in L1.
    fn l1_entries(&self) -> usize;
    /// Bytes in L1, overhead included.
    fn l1_bytes(&self) -> u64;
    /// Lets entries leave L1; says how many did, and their bytes.
    fn shed(&self, entries: usize) -> Shed;
    /// Checks the inner order of L1.
    fn validate(&self);
    fn audit(&self) -> Option<&Audit>;
    /// One round of the auditor.
    fn audited<'a>(&'a self, core: &'a Core) -> BoxFuture<'a, ()>;
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn local(self: Arc<Self>) -> Arc<dyn LocalSpace>;
    fn json(self: Arc<Self>) -> Arc<dyn JsonSpace>;
}

/// Expired entries removed in one round of the sweep.
const SWEEP_BUDGET: usize = 4096;

impl<V: Cacheable> AnySpace for Space<V> {
    fn settings(&self) -> &NamespaceSettings {
        &self.settings
    }

    fn type_name(&self) -> &'static str {
        type_name::<V>()
    }

    fn stats(&self) -> NamespaceStats {
        Space::stats(self)
    }

    fn times(&self) -> SpaceTimes {
        self.counters.times()
    }

    fn hottest(&self, limit: usize, now: u64) -> Vec<(Key, f64)> {
        self.counters.hot.hottest(limit, now)
    }

    fn sweep(&self, now: u64) {
        drop(self.l1.sweep(now, SWEEP_BUDGET));
    }

    fn set_ttl(&self, ttl: Duration) {
        Space::set_ttl(self, ttl);
    }

    fn l1_entries(&self) -> usize {
        self.l1.len()
    }

    fn l1_bytes(&self) -> u64 {
        self.l1.bytes()
    }

    fn shed(&self, entries: usize) -> Shed {
        let left = self.l1.shed(entries);
        Shed { entries: left.len(), bytes: left.iter().map(|left| left.bytes).sum() }
    }

    fn validate(&self) {
        self.l1.validate();
    }

    fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    fn audited<'a>(&'a self, core: &'a Core) -> BoxFuture<'a, ()> {
        Box::pin(self.audit_round(core))
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn local(self: Arc<Self>) -> Arc<dyn LocalSpace> {
        self
    }

    fn json(self: Arc<Self>) -> Arc<dyn JsonSpace> {
        self
    }
}

/// One namespace of a [`TieredCache`](crate::TieredCache), with the type of its values. Cheap to clone.
pub struct TypedCache<V> {
    pub(crate) core: Arc<Core>,
    pub(crate) space: Arc<Space<V>>,
}

impl<V> Clone for TypedCache<V> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), space: self.space.clone() }
    }
}

impl<V: Cacheable> TypedCache<V> {
    pub(crate) fn new(core: Arc<Core>, space: Arc<Space<V>>) -> Self {
        Self { core, space }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.space.settings.namespace
    }

    /// Its rules.
    pub fn settings(&self) -> &NamespaceSettings {
        &self.space.settings
    }

    /// A key of this namespace without parameters.
    ///
    /// # Errors
    /// [`NameError`] as [`Key::new`].
    pub fn key(&self, resource: impl AsRef<str>) -> Result<Key, NameError> {
        Key::new(self.namespace(), resource)
    }

    /// Starts a key of this namespace to which parameters are added.
    pub fn key_with(&self, resource: impl AsRef<str>) -> KeyBuilder {
        Key::builder(self.namespace(), resource)
    }

    pub(crate) fn check(&self, key: &Key) -> Result<(), WrongNamespace> {
        if key.namespace() == self.namespace() {
            return Ok(());
        }
        Err(WrongNamespace { expected: self.namespace().clone(), key: key.to_string() })
    }

    /// What L1 has, at once: no I/O, no allocation, no await. A miss here says nothing about L2.
    // A call is cheaper here than what the inlined body does to its surroundings (65 ns instead of 85).
    #[inline(never)]
    pub fn resident(&self, key: &Key) -> Option<Answer<V>> {
        self.space.resident(&self.core, key, &ReadOptions::default())
    }

    /// What only a miss in L1 has to ask: a hit proves that the key is of this namespace.
    fn missed(&self, key: &Key) -> Result<(), ReadError> {
        self.check(key)?;
        self.space.fail_if_degraded(&self.core, key)
    }

    /// Reads L1, then L2. `None` = neither has it; an answer whose value is `None` = known to be absent.
    ///
    /// An outage of L2 is a miss and a counter. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError::Degraded`] where the namespace is set to fail; [`ReadError::WrongNamespace`].
    pub async fn get(&self, key: &Key) -> Result<Option<Answer<V>>, ReadError> {
        // Not through `get_with`, which would copy the answer of a hit from one future into the other.
        if let Some(answer) = self.space.resident(&self.core, key, &ReadOptions::default()) {
            return Ok(Some(answer));
        }
        self.below_l1(key, &ReadOptions::default()).await
    }

    /// [`get`](Self::get) with wishes. Where the [freshness](ReadOptions::freshness) that is asked for cannot be proven,
    /// that is a miss.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with(&self, key: &Key, options: &ReadOptions) -> Result<Option<Answer<V>>, ReadError> {
        if let Some(answer) = self.space.resident(&self.core, key, options) {
            return Ok(Some(answer));
        }
        self.below_l1(key, options).await
    }

    async fn below_l1(&self, key: &Key, options: &ReadOptions) -> Result<Option<Answer<V>>, ReadError> {
        self.missed(key)?;
        if options.freshness != Freshness::Bounded {
            let asked = self.core.clock.now();
            let found = self.space.find_fresh(&self.core, key, options, asked).instrument(traces::read(key));
            return Ok(Box::pin(self.space.counters.below_l1.timed(found)).await);
        }
        // Boxed, so that a hit does not carry the room for a miss.
        let proven = self.space.proven(&self.core, key);
        let found = self.space.find_in_l2(&self.core, key, options).instrument(traces::read(key));
        let found = Box::pin(self.space.counters.below_l1.timed(found)).await;
        Ok(found.map(|found| self.space.answer(&self.core, proven, found)))
    }

    /// Reads many keys: those that L1 lacks in one round trip to each partition. Answers in the order of the keys.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Answer<V>>>, ReadError> {
        self.get_many_with(keys, &ReadOptions::default()).await
    }

    /// [`get_many`](Self::get_many) with wishes, each key as [`get_with`](Self::get_with) would read it: to
    /// [`Freshness::Any`] a replica answers all keys of its partition in one round trip.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_many_with(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<Vec<Option<Answer<V>>>, ReadError> {
        for key in keys {
            self.check(key)?;
        }
        self.space.read_many(&self.core, keys, options).await
    }

    /// Reads all tiers and, if none has the value, loads it: one load at a time for a key on this node, and by a load
    /// lease over all nodes. The load runs in a task of its own: dropping this future cancels nothing.
    ///
    /// A value that an invalidation has overtaken while it was loaded goes to the waiters and into no tier.
    ///
    /// # Errors
    /// What the loader failed with (every waiter gets it), its panic or its time-out, or as [`get`](Self::get).
    pub async fn get_or_load<L, F>(&self, key: &Key, loader: L) -> Result<Answer<V>, ReadError>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, SourceError>> + Send + 'static,
    {
        self.get_or_load_with(key, &ReadOptions::default(), loader).await
    }

    /// [`get_or_load`](Self::get_or_load) with wishes. Where the [freshness](ReadOptions::freshness) that is asked for
    /// cannot be proven, the source is asked.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load), and [`ReadError::NotFresh`] if the load itself took longer than the answer
    /// may be old.
    pub async fn get_or_load_with<L, F>(
        &self,
        key: &Key,
        options: &ReadOptions,
        loader: L,
    ) -> Result<Answer<V>, ReadError>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Loaded<V>, SourceError>> + Send + 'static,
    {
        if let Some(answer) = self.space.resident(&self.core, key, options) {
            return Ok(answer);
        }
        self.missed(key)?;
        // Boxed like the rest of a miss.
        let read = self.space.read_through(&self.core, key, options, loader).instrument(traces::read(key));
        Box::pin(self.space.counters.below_l1.timed(read)).await
    }

    /// Writes a value through both tiers; order of arrival at L2 decides between writers.
    ///
    /// # Errors
    /// [`WriteError`]; after [`WriteError::Unacked`] the write may or may not have happened.
    pub async fn put(&self, key: &Key, value: V) -> Result<Written, WriteError> {
        self.put_with(key, Some(value), &WriteOptions::default()).await
    }

    /// Writes a value, or (with `None`) that there is none.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_with(
        &self,
        key: &Key,
        value: Option<V>,
        options: &WriteOptions,
    ) -> Result<Written, WriteError> {
        self.check(key)?;
        match self.space.put(&self.core, key, value.map(Arc::new), None, options, Change::default()).await? {
            PutOutcome::Stored(written) => Ok(written),
            PutOutcome::Outdated => unreachable!("only a versioned put can be outdated"),
        }
    }

    /// Writes a value only if its version is above what L2 holds and above what an invalidation has outdated.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        value: V,
        options: &WriteOptions,
    ) -> Result<PutOutcome, WriteError> {
        self.check(key)?;
        self.space
            .put(&self.core, key, Some(Arc::new(value)), Some(version), options, Change::default())
            .await
    }

    /// Says that the truth behind a key has changed. When it returns, no node serves the old value for longer than the
    /// staleness bound.
    ///
    /// # Errors
    /// [`WriteError`]; after [`WriteError::Unacked`] the node goes on trying in the background.
    pub async fn invalidate(&self, key: &Key, reason: impl Into<String>) -> Result<Written, WriteError> {
        self.check(key)?;
        let draft = EventDraft::new(cache_events::EventKind::MANUAL_INVALIDATION, key.resource());
        self.core.publish(draft.touching(Scope::Key(key.clone())).reason(reason)).await
    }

    /// What happened in this namespace since the start.
    pub fn stats(&self) -> NamespaceStats {
        self.space.stats()
    }

    /// Checks the inner order of L1; panics with what is wrong. For tests.
    pub fn validate(&self) {
        AnySpace::validate(&*self.space);
    }
}
