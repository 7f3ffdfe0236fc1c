//! A namespace as JSON, whatever its type: for interfaces that do not know it.

use std::sync::Arc;

use async_trait::async_trait;
use cache_events::{Key, Namespace};
use serde_json::Value;
use tracing::Instrument;

use crate::answer::{Answer, PutOutcome, ReadOptions, WriteOptions, Written};
use crate::core::Core;
use crate::error::{ReadError, WriteError, WrongNamespace};
use crate::explain::{Explained, Resident};
use crate::freshness::Freshness;
use crate::settings::NamespaceSettings;
use crate::space::{Cacheable, Space};
use crate::stats::NamespaceStats;
use crate::traces;
use crate::updates::Change;

#[async_trait]
pub(crate) trait JsonSpace: Send + Sync {
    fn settings(&self) -> &NamespaceSettings;
    fn stats(&self) -> NamespaceStats;
    async fn get(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Value>>, ReadError>;
    /// What is in L1. No future: hits are most reads, and one would be boxed with all that asking L2 takes.
    fn text_in_l1(&self, core: &Core, key: &Key, options: &ReadOptions) -> Option<Answer<Vec<u8>>>;
    /// For who has looked into L1.
    async fn text_in_l2(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Vec<u8>>>, ReadError>;
    async fn put(
        &self,
        core: &Core,
        key: &Key,
        value: Value,
        options: &WriteOptions,
    ) -> Result<Written, WriteError>;
    async fn explain(&self, core: &Core, key: &Key) -> Explained;
    fn residents(&self, core: &Core, limit: usize) -> (Vec<Resident>, bool);
}

#[async_trait]
impl<V: Cacheable> JsonSpace for Space<V> {
    fn settings(&self) -> &NamespaceSettings {
        &self.settings
    }

    fn stats(&self) -> NamespaceStats {
        Space::stats(self)
    }

    async fn get(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Value>>, ReadError> {
        let found = match self.resident(core, key, options) {
            None => self.found_in_l2(core, key, options).await?,
            resident => resident,
        };
        Ok(found.map(|answer| seen(answer, |value| serde_json::to_value(value).unwrap_or(Value::Null))))
    }

    fn text_in_l1(&self, core: &Core, key: &Key, options: &ReadOptions) -> Option<Answer<Vec<u8>>> {
        self.resident(core, key, options).map(|answer| seen(answer, text))
    }

    async fn text_in_l2(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Vec<u8>>>, ReadError> {
        Ok(self.found_in_l2(core, key, options).await?.map(|answer| seen(answer, text)))
    }

    async fn put(
        &self,
        core: &Core,
        key: &Key,
        value: Value,
        options: &WriteOptions,
    ) -> Result<Written, WriteError> {
        let typed: V = serde_path_to_error::deserialize(value).map_err(|error| WriteError::Type {
            field: error.path().to_string(),
            message: error.inner().to_string(),
        })?;
        match Space::put(self, core, key, Some(Arc::new(typed)), None, options, Change::default()).await? {
            PutOutcome::Stored(written) => Ok(written),
            PutOutcome::Outdated => unreachable!("only a versioned put can be outdated"),
        }
    }

    async fn explain(&self, core: &Core, key: &Key) -> Explained {
        Space::explain(self, core, key).await
    }

    fn residents(&self, core: &Core, limit: usize) -> (Vec<Resident>, bool) {
        Space::residents(self, core, limit)
    }
}

impl<V: Cacheable> Space<V> {
    /// What is in L2, for who has looked into L1.
    async fn found_in_l2(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<V>>, ReadError> {
        self.fail_if_degraded(core, key)?;
        if options.freshness != Freshness::Bounded {
            let found = self.find_fresh(core, key, options, core.clock.now()).instrument(traces::read(key));
            return Ok(self.counters.below_l1.timed(found).await);
        }
        let proven = self.proven(core, key);
        let found = self
            .counters
            .below_l1
            .timed(self.find_in_l2(core, key, options).instrument(traces::read(key)))
            .await;
        Ok(found.map(|found| self.answer(core, proven, found)))
    }
}

fn text<V: Cacheable>(value: &V) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

/// An answer with its value seen as something else.
fn seen<V, T>(answer: Answer<V>, value: impl FnOnce(&V) -> T) -> Answer<T> {
    Answer {
        value: answer.value.map(|found| Arc::new(value(&found))),
        tier: answer.tier,
        age_ms: answer.age_ms,
        lag_ms: answer.lag_ms,
        position: answer.position,
        version: answer.version,
        stale: answer.stale,
    }
}

/// A namespace whose values are seen as JSON. Writing checks the value against the namespace's type.
#[derive(Clone)]
pub struct JsonCache {
    core: Arc<Core>,
    space: Arc<dyn JsonSpace>,
}

impl JsonCache {
    pub(crate) fn new(core: Arc<Core>, space: Arc<dyn JsonSpace>) -> Self {
        Self { core, space }
    }

    fn check(&self, key: &Key) -> Result<(), WrongNamespace> {
        let expected = self.namespace();
        if key.namespace() == expected {
            return Ok(());
        }
        Err(WrongNamespace { expected: expected.clone(), key: key.to_string() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.space.settings().namespace
    }

    /// Its rules.
    pub fn settings(&self) -> &NamespaceSettings {
        self.space.settings()
    }

    /// Reads L1, then L2.
    ///
    /// # Errors
    /// As [`TypedCache::get`](crate::TypedCache::get).
    pub async fn get(&self, key: &Key, options: &ReadOptions) -> Result<Option<Answer<Value>>, ReadError> {
        self.check(key)?;
        self.space.get(&self.core, key, options).await
    }

    /// [`get`](Self::get) with the text of the value: for who only passes it on.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_text(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Vec<u8>>>, ReadError> {
        match self.text_in_l1(key, options)? {
            None => self.text_in_l2(key, options).await,
            resident => Ok(resident),
        }
    }

    /// The first half of [`get_text`](Self::get_text), for who can answer a hit without waiting: what L1 has. It counts as a
    /// read; where there is nothing, [`text_in_l2`](Self::text_in_l2) goes on with it.
    ///
    /// # Errors
    /// The key is of another namespace.
    pub fn text_in_l1(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Vec<u8>>>, WrongNamespace> {
        self.check(key)?;
        Ok(self.space.text_in_l1(&self.core, key, options))
    }

    /// The second half: what L2 has, for who has found nothing in L1.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn text_in_l2(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Answer<Vec<u8>>>, ReadError> {
        self.check(key)?;
        self.space.text_in_l2(&self.core, key, options).await
    }

    /// Writes a value through both tiers.
    ///
    /// # Errors
    /// [`WriteError::Type`] with the path of the field if the value is not of the namespace's type; else as
    /// [`TypedCache::put`](crate::TypedCache::put).
    pub async fn put(&self, key: &Key, value: Value, options: &WriteOptions) -> Result<Written, WriteError> {
        self.check(key)?;
        self.space.put(&self.core, key, value, options).await
    }

    /// Why a read of a key would be answered as it is, by what judges reads. Changes nothing: it counts as no read, moves and
    /// fills no entry. Asks L2 once.
    ///
    /// # Errors
    /// The key is of another namespace.
    pub async fn explain(&self, key: &Key) -> Result<Explained, WrongNamespace> {
        self.check(key)?;
        Ok(self.space.explain(&self.core, key).await)
    }

    /// What L1 would serve, for comparing nodes: the first keys by name, and whether there are more. Looks through all of L1.
    pub fn residents(&self, limit: usize) -> (Vec<Resident>, bool) {
        self.space.residents(&self.core, limit)
    }

    /// What happened in this namespace since the start.
    pub fn stats(&self) -> NamespaceStats {
        self.space.stats()
    }
}
