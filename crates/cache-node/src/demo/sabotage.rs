//! Guards removed on purpose: the demo must find each.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::{
    Description, Hint, HintStream, LogEntry, Missed, RosterRow, SyncAnswer, Transport, TransportError,
};
use cache_events::{Key, Namespace, NodeId, Partition, Pattern, Position, Version, wire};
use cache_l2::{
    Append, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, ReadAnswer, Store, StoreError,
    stamp_position,
};

/// How long an unfenced fill dawdles, so that invalidations overtake it.
const DAWDLE: Duration = Duration::from_millis(20);

/// Which guard is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Events reach all nodes but the first without saying what they invalidate.
    DropEvents,
    /// What was loaded is stored whether or not an invalidation took the lease away.
    PlainFill,
}

impl FromStr for Sabotage {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "drop-events" => Ok(Self::DropEvents),
            "plain-fill" => Ok(Self::PlainFill),
            _ => Err("drop-events or plain-fill".into()),
        }
    }
}

/// A transport whose events invalidate nothing.
pub(crate) fn deaf(inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
    Arc::new(Deaf(inner))
}

struct Deaf(Arc<dyn Transport>);

fn emptied(payload: &Bytes) -> Bytes {
    let emptied = wire::decode(payload).and_then(|mut event| {
        event.scopes.clear();
        wire::encode(&event)
    });
    emptied.map_or_else(|_| payload.clone(), Bytes::from)
}

#[async_trait]
impl Transport for Deaf {
    fn partitions(&self) -> u32 {
        self.0.partitions()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        Ok(Box::new(DeafStream(self.0.subscribe().await?)))
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        let mut answer = self.0.sync(partition, node, at, max).await?;
        if let Missed::Entries(entries) = &mut answer.missed {
            let deaf = |entry: &LogEntry| LogEntry { payload: emptied(&entry.payload), ..entry.clone() };
            *entries = entries.iter().map(deaf).collect();
        }
        Ok(answer)
    }

    async fn introduce(
        &self,
        node: &NodeId,
        description: Option<&Description>,
    ) -> Result<(), TransportError> {
        self.0.introduce(node, description).await
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        self.0.roster().await
    }
}

struct DeafStream(Box<dyn HintStream>);

#[async_trait]
impl HintStream for DeafStream {
    async fn next(&mut self) -> Hint {
        match self.0.next().await {
            Hint::Event { partition, position, payload } => {
                Hint::Event { partition, position, payload: emptied(&payload) }
            }
            other => other,
        }
    }
}

/// A store that fills late and without asking whether it still may.
pub(crate) fn unfenced(inner: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Unfenced(inner))
}

struct Unfenced(Arc<dyn Store>);

#[async_trait]
impl Store for Unfenced {
    fn partitions(&self) -> u32 {
        self.0.partitions()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn read(&self, partition: Partition, keys: &[Key]) -> Result<ReadAnswer, StoreError> {
        self.0.read(partition, keys).await
    }

    async fn lease(&self, key: &Key, ask: LeaseAsk) -> Result<LeaseAnswer, StoreError> {
        self.0.lease(key, ask).await
    }

    async fn fill(
        &self,
        key: &Key,
        token: LeaseToken,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        tokio::time::sleep(DAWDLE).await;
        let ask = LeaseAsk { token, ttl: Duration::from_secs(1), refresh: true, at: Position::ZERO };
        let now = self.0.lease(key, ask).await?;
        let mut forged = record.to_vec();
        if now.lease == Lease::Granted {
            stamp_position(&mut forged, now.head);
        }
        self.0.fill(key, token, forged.into(), ttl).await
    }

    async fn release(&self, key: &Key, token: LeaseToken) -> Result<(), StoreError> {
        self.0.release(key, token).await
    }

    async fn put(
        &self,
        key: &Key,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.0.put(key, record, ttl, append).await
    }

    async fn put_versioned(
        &self,
        key: &Key,
        version: Version,
        record: Bytes,
        ttl: Duration,
        append: Append,
    ) -> Result<Option<Position>, StoreError> {
        self.0.put_versioned(key, version, record, ttl, append).await
    }

    async fn invalidate(
        &self,
        partition: Partition,
        what: &Invalidation,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.0.invalidate(partition, what, append).await
    }

    async fn invalidate_groups(
        &self,
        partition: Partition,
        groups: &[cache_events::Group],
        keep: Duration,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.0.invalidate_groups(partition, groups, keep, append).await
    }

    async fn invalidate_pattern(
        &self,
        partition: Partition,
        namespace: &Namespace,
        pattern: &Pattern,
        append: Append,
    ) -> Result<Position, StoreError> {
        self.0.invalidate_pattern(partition, namespace, pattern, append).await
    }

    async fn flush(&self, partition: Partition, append: Append) -> Result<Position, StoreError> {
        self.0.flush(partition, append).await
    }
}
