//! Reading from replicas, for callers to whom any age will do.
//!
//! Who the replicas of a master are, it says itself, in every topology; what it said last counts while it is away. One connection
//! leads to one of them, and is replaced when it fails. No hello is said, which would be a write: so nothing that comes
//! from here proves anything, and whoever asks has to treat it so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{Cmd, Value, cmd};
use cache_events::Partition;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::dial::{Dialer, Target};
use crate::fleet::Fleet;
use crate::link::Link;
use crate::reply;
use crate::topology::Endpoint;

/// Between two questions who the replicas of a master are, and between two attempts to reach one.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The replicas of all masters.
pub(crate) struct Replicas {
    dialer: Arc<Dialer>,
    of: Mutex<HashMap<Target, Arc<Following>>>,
}

/// The replicas of one master.
#[derive(Default)]
struct Following {
    link: Mutex<Option<Link>>,
    /// Held by the one caller that looks for a replica; the others meanwhile go to the master.
    looking: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    endpoints: Vec<Endpoint>,
    /// Which of them is tried first.
    first: usize,
    looked: Option<Instant>,
}

impl Replicas {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, of: Mutex::default() }
    }

    /// Sends a command that reads to a replica of the master that has a partition. `None`: none answers.
    pub(crate) async fn read(&self, control: &Fleet, partition: Partition, cmd: &Cmd) -> Option<Value> {
        let limit = self.dialer.config.operation_timeout;
        let master = timeout(limit, control.master_of(partition)).await.ok()?.ok()?;
        let following = self.of.lock().entry(master.clone()).or_default().clone();
        let working = following.link.lock().clone().filter(|link| !link.is_broken());
        let link = match working {
            Some(link) => link,
            None => self.find(control, &master, &following).await?,
        };
        match timeout(limit, link.send(cmd)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                // It has no data yet, or not this slot any more: perhaps another one does better.
                tracing::debug!(replica = %link.peer(), %error, "a replica does not answer a read");
                link.give_up();
                None
            }
            Err(_) => {
                link.timed_out();
                None
            }
        }
    }

    /// Connects to a replica, asking the master who they are if that was not done lately.
    #[expect(clippy::disallowed_methods, reason = "paces connecting; no decision about data depends on it")]
    async fn find(&self, control: &Fleet, master: &Target, following: &Following) -> Option<Link> {
        let mut known = following.looking.try_lock().ok()?;
        if let Some(link) = following.link.lock().clone().filter(|link| !link.is_broken()) {
            return Some(link);
        }
        if known.looked.is_some_and(|looked| looked.elapsed() < ASK_EVERY) {
            return None;
        }
        known.looked = Some(Instant::now());
        let info = cmd("INFO").arg("replication").to_owned();
        if let Ok(told) = control.run_at(master, "INFO", &info).await {
            known.endpoints = reply::text(&told).map(online).unwrap_or_default();
        }
        let count = known.endpoints.len();
        for _ in 0..count {
            let endpoint = known.endpoints[known.first % count].clone();
            known.first += 1;
            match self.connect(&endpoint).await {
                Some(link) => {
                    *following.link.lock() = Some(link.clone());
                    return Some(link);
                }
                None => tracing::debug!(replica = %endpoint, "a replica cannot be reached"),
            }
        }
        None
    }

    async fn connect(&self, endpoint: &Endpoint) -> Option<Link> {
        let link = self.dialer.dial_bare(endpoint).await.ok()?;
        if self.dialer.slots.is_some() {
            // Else it sends every reader to its master.
            let ready = timeout(self.dialer.config.connect_timeout, link.send(&cmd("READONLY"))).await;
            ready.ok()?.ok()?;
        }
        Some(link)
    }
}

/// The replicas that follow, of lines as `slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0`.
fn online(info: &str) -> Vec<Endpoint> {
    let replica = |line: &str| {
        let (_, fields) = line.strip_prefix("slave")?.split_once(':')?;
        let field = |name: &str| {
            fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
        };
        let endpoint = Endpoint::new(field("ip")?, field("port")?.parse().ok()?);
        (field("state") == Some("online")).then_some(endpoint)
    };
    info.lines().filter_map(replica).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_follow_are_told_from_those_that_do_not() {
        let info = "role:master\r\nconnected_slaves:3\r\n\
                    slave0:ip=10.0.0.2,port=6380,state=online,offset=14,lag=0\r\n\
                    slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\n\
                    slave2:ip=::1,port=6379,state=online,offset=14,lag=1\r\nslave_repl_offset:14\r\n";
        assert_eq!(online(info), [Endpoint::new("10.0.0.2", 6380), Endpoint::new("::1", 6379)]);
        assert!(online("role:slave\r\nslave_priority:100\r\n").is_empty());
    }
}
