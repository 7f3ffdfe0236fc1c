//! Which node of a Cluster has which partition.
//!
//! Answers of the nodes correct it at once (`MOVED`); and whenever something did not work, a task asks the nodes for
//! the whole table, each time beginning with another node: one that is cut off from the others knows an old one.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis;
use cache_events::Partition;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::dial::Dialer;
use crate::fault::Fault;
use crate::link::Link;
use crate::nodes::{Node, Nodes};
use crate::reply;
use crate::topology::Endpoint;

/// What one node may take to answer: there are others.
const ANSWER_MAX: Duration = Duration::from_millis(400);
/// Pause between two questions for the table.
const PAUSE: Duration = Duration::from_millis(100);
/// The table is asked for so often although nobody missed anything.
const REFRESH: Duration = Duration::from_secs(10);
/// And so often while a partition has no master.
const REFRESH_INCOMPLETE: Duration = Duration::from_millis(250);

pub(crate) struct Slots {
    seeds: Vec<Endpoint>,
    table: watch::Sender<Table>,
    wanted: Notify,
}

/// What is known at a time.
#[derive(Debug, Clone, Default)]
struct Table {
    /// For each partition the node that has it.
    owners: Arc<[Option<Endpoint>]>,
    nodes: Arc<[Node]>,
    /// Why nothing is known; nothing once something is.
    unknown: Option<Fault>,
    /// Counts the tables that nodes told.
    round: u64,
}

impl Slots {
    pub(crate) fn new(seeds: Vec<Endpoint>, partitions: u32) -> Self {
        let owners = vec![None; partitions as usize].into();
        let table = Table { owners, ..Table::default() };
        Self { seeds, table: watch::channel(table).0, wanted: Notify::new() }
    }

    /// Asks for the table, soon.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Which node has a partition; waits for the first table. The caller limits the time.
    pub(crate) async fn owner(&self, partition: Partition) -> Result<Endpoint, Fault> {
        if let Some(owner) = &self.table.borrow().owners[partition.index()] {
            return Ok(owner.clone());
        }
        self.want();
        let mut table = self.table.subscribe();
        let before = table.borrow_and_update().round;
        // The sender lives as long as `self`.
        let known = table.wait_for(|table| table.round > before || table.owners[partition.index()].is_some());
        let Ok(table) = known.await else { return Err(Fault::NotDone("no table of nodes".into())) };
        match (&table.owners[partition.index()], &table.unknown) {
            (Some(owner), _) => Ok(owner.clone()),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err(Fault::NotDone(format!("no node of the Cluster has partition {partition}"))),
        }
    }

    /// For each partition the node that has it, as far as that is known.
    pub(crate) fn owners(&self) -> Arc<[Option<Endpoint>]> {
        self.table.borrow().owners.clone()
    }

    /// Waits until the owners are others than these.
    pub(crate) async fn changed(&self, since: &Arc<[Option<Endpoint>]>) {
        let mut table = self.table.subscribe();
        // The sender lives as long as `self`.
        let _ = table.wait_for(|table| table.owners[..] != since[..]).await;
    }

    /// A node said who has a partition.
    pub(crate) fn moved(&self, partition: Partition, to: &Endpoint) {
        self.table.send_if_modified(|table| {
            if table.owners[partition.index()].as_ref() == Some(to) {
                return false;
            }
            let mut owners = table.owners.to_vec();
            owners[partition.index()] = Some(to.clone());
            table.owners = owners.into();
            true
        });
        self.want();
    }

    /// Whom to ask: the nodes that are known, then those that were given.
    pub(crate) fn to_ask(&self) -> Vec<Endpoint> {
        let table = self.table.borrow();
        let healthy = table.nodes.iter().filter(|node| !node.failed);
        let mut all: Vec<Endpoint> = healthy.filter_map(|node| node.endpoint.clone()).collect();
        let given = self.seeds.iter().filter(|seed| !all.contains(seed)).cloned().collect::<Vec<_>>();
        all.extend(given);
        all
    }

    fn learn(&self, dialer: &Dialer, nodes: Nodes) {
        let slot = |partition| dialer.layout.part(Partition(partition)).slot;
        let owner = |partition| nodes.owner(slot(partition)).and_then(|node| node.endpoint.clone());
        let owners: Vec<_> = (0..dialer.layout.partitions()).map(owner).collect();
        self.table.send_modify(|table| {
            if table.owners[..] != owners[..] {
                table.owners = owners.into();
            }
            table.nodes = nodes.0.into();
            table.unknown = None;
            table.round += 1;
        });
    }

    fn know_not(&self, why: Fault) {
        self.table.send_modify(|table| {
            table.unknown = Some(why);
            table.round += 1;
        });
    }
}

/// Keeps the table up to date, for ever.
pub(crate) async fn keep(dialer: Arc<Dialer>) {
    let Some(slots) = &dialer.slots else { return };
    let mut first = 0;
    loop {
        let nodes = slots.to_ask();
        first += 1;
        let mut why = Fault::NotDone("there is no node to ask".into());
        for at in 0..nodes.len() {
            let node = &nodes[(first + at) % nodes.len()];
            let asked = timeout(ANSWER_MAX, async { table(&dialer.dial_bare(node).await?).await });
            match asked.await {
                Ok(Ok(found)) => {
                    slots.learn(&dialer, found);
                    why = Fault::NotDone(String::new());
                    break;
                }
                Ok(Err(fault)) => why = fault,
                Err(_) => why = Fault::NotDone(format!("node {node} does not answer")),
            }
        }
        if !why.to_string().is_empty() {
            slots.know_not(why);
        }
        sleep(PAUSE).await;
        let complete = slots.owners().iter().all(Option::is_some);
        let rest = if complete { REFRESH } else { REFRESH_INCOMPLETE };
        let _ = timeout(rest, slots.wanted.notified()).await;
    }
}

/// The table of a node.
pub(crate) async fn table(link: &Link) -> Result<Nodes, Fault> {
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("NODES");
    let answer = link.send(&ask).await.map_err(|error| Fault::of_connecting(&error))?;
    let text = reply::text(&answer).ok_or_else(|| reply::odd("CLUSTER NODES"))?;
    Ok(Nodes::parse(text, &link.peer().host))
}
