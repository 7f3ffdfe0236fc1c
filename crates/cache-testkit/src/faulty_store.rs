//! A store between which and its caller the line can be cut, and that can be made to break the rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_events::{Group, Key, Namespace, Partition, Pattern, Position, Version};
use cache_l2::{
    Append, Invalidation, LeaseAnswer, LeaseAsk, LeaseToken, NodeRoll, ReadAnswer, ReadItem, Store,
    StoreError, stamp_position,
};
use parking_lot::Mutex;

/// Passes every call on, until told otherwise.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    cut: AtomicBool,
    mute: AtomicBool,
    mute_once: AtomicBool,
    fill_anyway: AtomicBool,
    /// What is read, once it stands still.
    still: Mutex<Option<HashMap<Key, ReadItem>>>,
}

impl FaultyStore {
    /// A store without faults yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            cut: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            mute_once: AtomicBool::new(false),
            fill_anyway: AtomicBool::new(false),
            still: Mutex::new(None),
        }
    }

    /// Every call fails and nothing is done.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Every call is done, and its answer is lost.
    pub fn lose_answers(&self) {
        self.mute.store(true, Ordering::SeqCst);
    }

    /// The next call is done, and its answer is lost.
    pub fn lose_one_answer(&self) {
        self.mute_once.store(true, Ordering::SeqCst);
    }

    /// Breaks a rule: what was loaded is stored as though it were loaded now, whether or not the lease is still there.
    pub fn fill_anyway(&self) {
        self.fill_anyway.store(true, Ordering::SeqCst);
    }

    /// Breaks a rule: a key that was read is read the same from now on, whatever becomes of it.
    pub fn stand_still(&self) {
        *self.still.lock() = Some(HashMap::new());
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.cut.store(false, Ordering::SeqCst);
        self.mute.store(false, Ordering::SeqCst);
        self.mute_once.store(false, Ordering::SeqCst);
        self.fill_anyway.store(false, Ordering::SeqCst);
        *self.still.lock() = None;
    }

    async fn pass<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable { message: "cut by the test".into(), source: None });
        }
        let done = call.await;
        if self.mute_once.swap(false, Ordering::SeqCst) || self.mute.load(Ordering::SeqCst) {
            return Err(StoreError::Unknown { message: "answer lost by the test".into() });
        }
        done
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn partitions(&self) -> u32 {
        self.inner.partitions()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn finds_patterns(&self) -> bool {
        self.inner.finds_patterns()
    }

    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError> {
        let mut answer = self.pass(self.inner.read(partition, keys)).await?;
        if let Some(still) = &mut *self.still.lock() {
            for (key, item) in keys.iter().zip(&mut answer.items) {
                *item = still.entry(key.clone()).or_insert_with(|| item.clone()).clone();
            }
        }
        Ok(answer)
    }

    async fn read_replica(
        &self,
        partition: Partition,
        keys: &[Key],
    ) -> Result<Option<ReadAnswer>, StoreError> {
        self.pass(self.inner.read_replica(partition, keys)).await
    }

    async fn lease(&self, key: &Key, ask: LeaseAsk) -> Result<LeaseAnswer, StoreError> {
        self.pass(self.inner.lease(key, ask)).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        if !self.fill_anyway.load(Ordering::SeqCst) {
            return self.pass(self.inner.fill(key, token, record, ttl)).await;
        }
        let ask = LeaseAsk { token, ttl: Duration::from_secs(1), refresh: true, at: Position::ZERO };
        let now = self.pass(self.inner.lease(key, ask)).await?;
        let mut late = record.to_vec();
        stamp_position(&mut late, now.head);
        self.pass(self.inner.fill(key, token, late.into(), ttl)).await
    }

    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError> {
        self.pass(self.inner.release(key, token)).await
    }

    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.pass(self.inner.put(key, record, ttl, append)).await
    }

    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError> {
        self.pass(self.inner.put_versioned(key, version, record, ttl, append)).await
    }

    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.pass(self.inner.invalidate(partition, what, append)).await
    }

    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.pass(self.inner.invalidate_groups(partition, groups, keep, append)).await
    }

    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.pass(self.inner.invalidate_pattern(partition, namespace, pattern, append)).await
    }

    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError> {
        self.pass(self.inner.flush(partition, append)).await
    }

    async fn replicated(
        &self,
        partition: Partition,
        at: Position,
        replicas: u32,
        within: Duration,
    ) -> Result<u32, StoreError> {
        self.pass(self.inner.replicated(partition, at, replicas, within)).await
    }

    async fn nodes(&self, partition: Partition) -> Result<NodeRoll, StoreError> {
        self.pass(self.inner.nodes(partition)).await
    }
}
