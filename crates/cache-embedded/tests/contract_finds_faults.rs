//! The contract of stores finds what is broken: a faulty store around the real one breaks one thing at a time.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Group, Key, Namespace, Partition, Pattern, Position, Version};
use cache_l2::contract::{Harness, all};
use cache_l2::{
    Append, Invalidation, LeaseAnswer, LeaseAsk, LeaseToken, ReadAnswer, Store, StoreError, version_of,
};
use support::ManualClock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    FillsWithoutLease,
    IgnoresVersions,
    ComparesVersionsAsText,
    DropsFloors,
    DropsHolds,
    DropsResources,
    DropsPatterns,
    DropsCallerPositions,
    FlushOnlyPublishes,
    KeepsRecordsForEver,
    KeepsLeasesForEver,
    ReleasesForAnybody,
    ForgetsGroups,
    HidesStamps,
}

struct Faulty {
    inner: EmbeddedServer,
    clock: Arc<ManualClock>,
    fault: Fault,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        let clock = Arc::new(ManualClock::new());
        Self { inner: EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()), clock, fault }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn append(&self, append: Append) -> Append {
        let at = if self.has(Fault::DropsCallerPositions) { Position::ZERO } else { append.at };
        Append { at, ..append }
    }

    fn ttl(&self, ttl: Duration, fault: Fault) -> Duration {
        if self.has(fault) { Duration::from_secs(3600) } else { ttl }
    }
}

#[async_trait]
impl Store for Faulty {
    fn partitions(&self) -> u32 {
        Store::partitions(&self.inner)
    }

    fn kind(&self) -> &'static str {
        "faulty"
    }

    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError> {
        let mut answer = self.inner.read(partition, keys).await?;
        if self.has(Fault::HidesStamps) {
            answer.items.iter_mut().for_each(|item| item.stamp = None);
        }
        Ok(answer)
    }

    async fn lease(&self, key: &Key, mut ask: LeaseAsk) -> Result<LeaseAnswer, StoreError> {
        ask.ttl = self.ttl(ask.ttl, Fault::KeepsLeasesForEver);
        self.inner.lease(key, ask).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = self.ttl(ttl, Fault::KeepsRecordsForEver);
        if self.has(Fault::FillsWithoutLease) {
            self.inner.put(key, record, ttl, Append::default()).await?;
            return Ok(true);
        }
        self.inner.fill(key, token, record, ttl).await
    }

    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError> {
        if self.has(Fault::ReleasesForAnybody) {
            for number in 0..=255 {
                self.inner.release(key, LeaseToken([number; 16])).await?;
            }
        }
        self.inner.release(key, token).await
    }

    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        let ttl = self.ttl(ttl, Fault::KeepsRecordsForEver);
        self.inner.put(key, record, ttl, self.append(append)).await
    }

    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError> {
        if self.has(Fault::IgnoresVersions) {
            return self.put(key, record, ttl, append).await.map(Some);
        }
        if self.has(Fault::ComparesVersionsAsText) {
            let stored = self.inner.read(key.partition(1), std::slice::from_ref(key)).await?;
            let stored = stored.items[0].record.as_deref().and_then(version_of).unwrap_or_default();
            if stored.0.to_string() >= version.0.to_string() && stored != Version::NONE {
                return Ok(None);
            }
        }
        self.inner.put_versioned(key, version, record, ttl, self.append(append)).await
    }

    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        let mut what = what.clone();
        match self.fault {
            Fault::DropsFloors => what.floor = Version::NONE,
            Fault::DropsHolds => what.hold = Duration::ZERO,
            Fault::DropsResources => what.resources.clear(),
            _ => {}
        }
        self.inner.invalidate(partition, &what, self.append(append)).await
    }

    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        let groups = if self.has(Fault::ForgetsGroups) { &[] } else { groups };
        self.inner.invalidate_groups(partition, groups, keep, self.append(append)).await
    }

    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError> {
        if self.has(Fault::DropsPatterns) {
            return self.inner.invalidate(partition, &Invalidation::default(), append).await;
        }
        self.inner.invalidate_pattern(partition, namespace, pattern, self.append(append)).await
    }

    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError> {
        if self.has(Fault::FlushOnlyPublishes) {
            return self.inner.invalidate(partition, &Invalidation::default(), append).await;
        }
        self.inner.flush(partition, self.append(append)).await
    }
}

#[async_trait]
impl Harness for Faulty {
    fn store(&self) -> &dyn Store {
        self
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

/// The names of the rules that a store with this fault breaks.
async fn broken_by(fault: Fault) -> Vec<&'static str> {
    all(&Faulty::new(fault)).await.into_iter().map(|violation| violation.rule).collect()
}

#[tokio::test]
async fn each_fault_breaks_the_rule_that_is_about_it() {
    assert_eq!(broken_by(Fault::Nothing).await, [""; 0]);
    for (fault, rule) in [
        (Fault::FillsWithoutLease, "a_fill_after_an_invalidation_is_refused"),
        (Fault::IgnoresVersions, "only_a_newer_version_is_stored"),
        (Fault::ComparesVersionsAsText, "versions_are_numbers"),
        (Fault::DropsFloors, "given_floors_count"),
        (Fault::DropsHolds, "a_hold_keeps_everybody_from_filling"),
        (Fault::DropsResources, "a_resource_is_stamped_with_all_its_variants"),
        (Fault::DropsPatterns, "a_pattern_removes_exactly_what_it_covers"),
        (Fault::DropsCallerPositions, "a_caller_ahead_ends_the_epoch"),
        (Fault::FlushOnlyPublishes, "a_flush_begins_an_epoch_with_its_event"),
        (Fault::KeepsRecordsForEver, "records_expire"),
        (Fault::KeepsLeasesForEver, "a_fill_after_the_lease_expired_is_refused"),
        (Fault::ReleasesForAnybody, "only_the_holder_releases"),
        (Fault::ForgetsGroups, "too_many_groups_end_the_epoch"),
        (Fault::HidesStamps, "a_resource_is_stamped_with_all_its_variants"),
    ] {
        let broken = broken_by(fault).await;
        assert!(broken.contains(&rule), "{fault:?} should break {rule}; broken: {broken:?}");
    }
}
