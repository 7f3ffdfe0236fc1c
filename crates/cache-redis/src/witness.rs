//! Waiting for replicas, and looking where the nodes stand.
//!
//! `WAIT` holds its connection up, so it has one of its own to each master. It waits for what was written before the last
//! command of *its* connection: the hello in front of it sees to that, and that the master is still the one that
//! acknowledged the write.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{Value, cmd, pipe};
use cache_events::{NodeId, Partition, Position};
use cache_l2::{NodeRoll, NodeRow};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::dial::{Dialer, Target};
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::link::Link;
use crate::reply;

/// The connection for waiting to one master; held by whoever waits.
type Post = Arc<tokio::sync::Mutex<Option<Link>>>;

/// Connections for waiting.
#[derive(Default)]
pub(crate) struct Witness {
    posts: Mutex<HashMap<Target, Post>>,
}

impl Witness {
    /// Waits until so many replicas have what was acknowledged at a position; answers how many have it.
    pub(crate) async fn replicated(
        &self,
        dialer: &Dialer,
        fleet: &Fleet,
        (partition, at): (Partition, Position),
        replicas: u32,
        within: Duration,
    ) -> Result<u32, Fault> {
        let master = fleet.master_of(partition).await?;
        let post = self.posts.lock().entry(master.clone()).or_default().clone();
        // What came before in line has had its time; the answer needs a little more.
        let patience = within + dialer.config.control_timeout;
        let waited = timeout(patience, async {
            let mut post = post.lock().await;
            let link = match post.as_ref().filter(|link| !link.is_broken()) {
                Some(link) => link.clone(),
                None => post.insert(dialer.dial(&master, None).await?).clone(),
            };
            let asked = wait(dialer, &link, partition, at, replicas, within).await;
            if asked.is_err() {
                // It may still be waiting: nobody else is to stand behind that.
                *post = None;
            }
            asked
        });
        waited.await.unwrap_or_else(|_| Err(Fault::Unknown("no answer in time".into())))
    }
}

async fn wait(
    dialer: &Dialer,
    link: &Link,
    partition: Partition,
    at: Position,
    replicas: u32,
    within: Duration,
) -> Result<u32, Fault> {
    let mut both = pipe();
    both.add_command(dialer.begin(&dialer.scripts.hello, partition, Position::new(at.epoch, 0), 0, |_| {}));
    let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 31);
    both.add_command(cmd("WAIT").arg(replicas).arg(ms).to_owned());
    let answers: Vec<Value> =
        both.query_async(&mut link.connection()).await.map_err(|error| Fault::of_command(&error))?;
    let [hello, count] = answers.as_slice() else { return Err(reply::odd("WAIT")) };
    let (head, _) = reply::head(hello, 0)?;
    dialer.saw_epoch(partition, head.epoch);
    if head < at || head.epoch != at.epoch {
        return Err(Fault::Unknown("another epoch has begun: what was written may be lost".into()));
    }
    reply::number(count).and_then(|count| u32::try_from(count).ok()).ok_or_else(|| reply::odd("WAIT"))
}

/// Where the nodes stand.
pub(crate) fn roll(answer: Value) -> Result<NodeRoll, Fault> {
    let (head, now) = reply::head(&answer, 0)?;
    let Value::Array(list) = answer else { return Err(reply::odd("nodes")) };
    let Some(Value::Array(rows)) = list.into_iter().nth(3) else { return Err(reply::odd("nodes")) };
    let rows = rows.chunks(2).map(|row| {
        let (node, said) = (reply::text(row.first()?)?, reply::text(row.get(1)?)?);
        let (at, ms) = said.split_once(':')?;
        let (node, at, ms) = (NodeId::new(node).ok()?, at.parse().ok()?, ms.parse::<u64>().ok()?);
        Some(NodeRow { node, at, age_ms: now.saturating_sub(ms) })
    });
    let nodes = rows.collect::<Option<Vec<_>>>().ok_or_else(|| reply::odd("nodes"))?;
    // An epoch is the server's time in microseconds when it began, or more than that.
    Ok(NodeRoll { head, epoch_age_ms: now.saturating_sub(head.epoch / 1000), nodes })
}
