//! The port to the server as a transport.

use async_trait::async_trait;
use cache_bus::{Description, Hint, HintStream, RosterRow, SyncAnswer, Transport, TransportError};
use cache_events::{NodeId, Partition, Position};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::server::EmbeddedServer;
use crate::shard::Refusal;

#[async_trait]
impl Transport for EmbeddedServer {
    fn partitions(&self) -> u32 {
        self.partition_count()
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        Ok(Box::new(Subscription(self.outlets().subscribe())))
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        let answer = self.step(partition, |shard, now, out| shard.sync(node, at, max, now, out));
        Ok(answer.and_then(|answer| answer)?)
    }

    async fn introduce(
        &self,
        node: &NodeId,
        description: Option<&Description>,
    ) -> Result<(), TransportError> {
        self.roster_step(|roster, now| roster.introduce(node, description, now));
        Ok(())
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        Ok(self.roster_step(|roster, now| roster.rows(now)))
    }
}

impl From<Refusal> for TransportError {
    fn from(refusal: Refusal) -> Self {
        // Trying again does not help.
        Self::Fenced { message: refusal.0 }
    }
}

struct Subscription(Receiver<Hint>);

#[async_trait]
impl HintStream for Subscription {
    async fn next(&mut self) -> Hint {
        match self.0.recv().await {
            Ok(hint) => hint,
            Err(RecvError::Lagged(_)) => Hint::Overflow,
            Err(RecvError::Closed) => Hint::Closed("the embedded server is gone".into()),
        }
    }
}
