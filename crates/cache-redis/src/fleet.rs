//! Commands to the master that has a partition.
//!
//! One server, or masters that Sentinels name: each has lanes of its own, and the place of a partition is fixed. In a
//! Cluster the node is looked up for each command. A node that no longer has the slot says where it is, and the command
//! is sent there: it was not carried out, so this repeats nothing. All other errors are the caller's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{Cmd, Value};
use cache_events::Partition;
use parking_lot::RwLock;
use tokio::time::timeout;

use crate::dial::{Dialer, Target};
use crate::fault::Fault;
use crate::lanes::{Lanes, Step};
use crate::scripts::Script;
use crate::slots::Slots;
use crate::topology::Endpoint;
use crate::watch::Watch;

/// How often a command is sent on before that is taken for a circle.
const HOPS: u32 = 5;

/// Lanes to all masters.
pub(crate) struct Fleet {
    dialer: Arc<Dialer>,
    watch: Arc<Watch>,
    /// Connections to each master.
    each: u32,
    timeout: Duration,
    /// To masters with a fixed place.
    fixed: Box<[Lanes]>,
    /// To the nodes of a Cluster.
    nodes: RwLock<HashMap<Endpoint, Arc<Lanes>>>,
}

impl Fleet {
    pub(crate) fn new(dialer: Arc<Dialer>, watch: Arc<Watch>, each: u32, timeout: Duration) -> Self {
        let fixed = dialer.masters().into_iter();
        let fixed = fixed.map(|target| Lanes::new(dialer.clone(), target, each, timeout)).collect();
        Self { dialer, watch, each, timeout, fixed, nodes: RwLock::default() }
    }

    /// Sends a command about a partition.
    pub(crate) async fn run(&self, partition: Partition, what: &str, cmd: &Cmd) -> Result<Value, Fault> {
        self.send(Step { what, cmd, script: None, partition, greet: true, asking: false }).await
    }

    /// Calls a script about a partition; loads it first if the server has forgotten it, once.
    pub(crate) async fn eval(
        &self,
        partition: Partition,
        script: &Script,
        cmd: &Cmd,
    ) -> Result<Value, Fault> {
        let what = script.name;
        self.send(Step { what, cmd, script: Some(script), partition, greet: true, asking: false }).await
    }

    /// As [`run`](Self::run), for a command of a single key that may be taken wherever the key is, while its slot moves
    /// and no hello can be said.
    pub(crate) async fn run_apart(
        &self,
        partition: Partition,
        what: &str,
        cmd: &Cmd,
    ) -> Result<Value, Fault> {
        self.send(Step { what, cmd, script: None, partition, greet: false, asking: false }).await
    }

    /// As [`eval`](Self::eval), for a script of a single key, likewise.
    pub(crate) async fn eval_apart(
        &self,
        partition: Partition,
        script: &Script,
        cmd: &Cmd,
    ) -> Result<Value, Fault> {
        let what = script.name;
        self.send(Step { what, cmd, script: Some(script), partition, greet: false, asking: false }).await
    }

    /// Sends a command to one of the [`masters`](Self::masters).
    pub(crate) async fn run_at(&self, master: &Target, what: &str, cmd: &Cmd) -> Result<Value, Fault> {
        let lanes = match master {
            Target::Node(node) if self.dialer.slots.is_some() => return self.node(node).run(what, cmd).await,
            Target::Node(_) => &self.fixed[0],
            Target::Master(master) => &self.fixed[*master],
        };
        self.watch.begin(&self.dialer);
        lanes.run(what, cmd).await
    }

    /// All masters that are known.
    pub(crate) async fn masters(&self) -> Result<Vec<Target>, Fault> {
        let Some(slots) = &self.dialer.slots else { return Ok(self.dialer.masters()) };
        self.watch.begin(&self.dialer);
        self.owner(slots, Partition(0)).await?;
        let mut nodes: Vec<_> = slots.owners().iter().flatten().cloned().map(Target::Node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// The master of a partition.
    pub(crate) async fn master_of(&self, partition: Partition) -> Result<Target, Fault> {
        match &self.dialer.slots {
            None => Ok(self.dialer.masters().swap_remove(self.dialer.placed(partition))),
            Some(slots) => {
                self.watch.begin(&self.dialer);
                self.owner(slots, partition).await.map(Target::Node)
            }
        }
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u32 {
        self.sum(Lanes::open)
    }

    /// Most connections that may be open, to the masters that were called.
    pub(crate) fn open_max(&self) -> u32 {
        self.sum(|_| self.each)
    }

    /// Commands that wait for their answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.sum(|lanes| lanes.in_flight() as u32) as usize
    }

    fn sum(&self, of: impl Fn(&Lanes) -> u32) -> u32 {
        let nodes: u32 = self.nodes.read().values().map(|lanes| of(lanes)).sum();
        self.fixed.iter().map(&of).sum::<u32>() + nodes
    }

    async fn send(&self, step: Step<'_>) -> Result<Value, Fault> {
        if let Some(slots) = &self.dialer.slots {
            // In a box, so that the way to a single server stays small.
            return Box::pin(self.follow(slots, step)).await;
        }
        let lanes = &self.fixed[self.dialer.placed(step.partition)];
        if self.dialer.sentinels.is_none() {
            return lanes.step(step).await;
        }
        self.watch.begin(&self.dialer);
        lanes.step(step).await.map_err(Fault::while_masters_change)
    }

    /// Sends a step to the node that has its partition, wherever that is by now.
    async fn follow(&self, slots: &Slots, mut step: Step<'_>) -> Result<Value, Fault> {
        self.watch.begin(&self.dialer);
        let mut node = self.owner(slots, step.partition).await?;
        for _ in 0..HOPS {
            match self.node(&node).step(step).await {
                Err(Fault::Moved(Some(to))) => {
                    slots.moved(step.partition, &to);
                    (node, step.asking) = (to, false);
                }
                Err(Fault::Ask(to)) => (node, step.asking) = (to, true),
                Err(Fault::Moved(None)) => {
                    slots.want();
                    return Err(Fault::NotDone(format!("{}: the slot has moved", step.what)));
                }
                done => {
                    let done = done.map_err(Fault::while_masters_change);
                    if let Err(Fault::NotDone(_) | Fault::Unknown(_)) = done {
                        slots.want();
                    }
                    return done;
                }
            }
        }
        Err(Fault::NotDone(format!("{}: nodes send it to each other", step.what)))
    }

    async fn owner(&self, slots: &Slots, partition: Partition) -> Result<Endpoint, Fault> {
        let known = timeout(self.timeout, slots.owner(partition)).await;
        known.unwrap_or_else(|_| Err(Fault::NotDone("no node of the Cluster is known yet".into())))
    }

    /// The lanes to a node. Those to nodes that have nothing any more are closed.
    fn node(&self, node: &Endpoint) -> Arc<Lanes> {
        if let Some(lanes) = self.nodes.read().get(node) {
            return lanes.clone();
        }
        let owners = self.dialer.slots.as_ref().map(Slots::owners).unwrap_or_default();
        let mut nodes = self.nodes.write();
        nodes.retain(|known, _| owners.iter().flatten().any(|owner| owner == known));
        let target = Target::Node(node.clone());
        let lanes = || Arc::new(Lanes::new(self.dialer.clone(), target, self.each, self.timeout));
        nodes.entry(node.clone()).or_insert_with(lanes).clone()
    }
}
