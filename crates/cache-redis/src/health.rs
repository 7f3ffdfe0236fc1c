//! How the servers of a deployment are, and a failover that somebody asks for.

use std::time::Duration;

use bb8_redis::redis::{self, Value};
use cache_events::Partition;
use cache_l2::StoreError;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::dial::Target;
use crate::fault::Fault;
use crate::link::Link;
use crate::nodes::Nodes;
use crate::slots::{self, Slots};
use crate::store::RedisStore;
use crate::topology::{Endpoint, Topology};
use crate::{reply, sentinels::Sentinels};

/// What a server may take to prove its health: whoever asks may be a probe that does not wait long either.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// How the servers of a deployment are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TopologyHealth {
    /// `standalone`, `sentinel` or `cluster`.
    pub topology: &'static str,
    /// Masters and replicas that are known, whether or not they answer.
    pub total_nodes: u32,
    /// Those that answer; a replica also has to follow its master.
    pub healthy_nodes: u32,
    /// Every partition has a master that answers.
    pub primary_healthy: bool,
    /// Every master has a replica that follows it and could take its place.
    pub replica_healthy: bool,
    /// Each master.
    pub masters: Vec<MasterHealth>,
    /// What a Cluster says about itself; nothing elsewhere.
    pub cluster: Option<ClusterHealth>,
}

/// How one master is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MasterHealth {
    /// The name that Sentinels or the Cluster give it; its address where it is alone.
    pub name: String,
    /// Where it is; nothing while nobody knows.
    pub address: Option<String>,
    /// It answers.
    pub healthy: bool,
    /// Its replicas.
    pub replicas: u32,
    /// Those that follow it.
    pub healthy_replicas: u32,
    /// The partitions that it has.
    pub partitions: Vec<u32>,
    /// Keys in our database; nothing if it does not answer.
    pub keys: Option<u64>,
    /// Slots of the Cluster that it has.
    pub slots: Option<u64>,
    /// It refuses writes once it is cut off from its replicas (`min-replicas-to-write` and `min-replicas-max-lag`). One that
    /// does not is believed for as long as a node sees it alone.
    pub guarded: bool,
}

/// What a Cluster says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClusterHealth {
    /// `ok`, or `fail` where slots have no master.
    pub state: String,
    /// Slots that have a node.
    pub slots_assigned: u64,
    /// Slots of nodes that answer.
    pub slots_ok: u64,
    /// All nodes.
    pub known_nodes: u64,
    /// Masters with slots.
    pub size: u64,
}

impl RedisStore {
    /// Asks how the servers are. One that does not answer costs its time limit and is not healthy; that is no error.
    ///
    /// # Errors
    /// [`StoreError`] if nobody can be asked: no Sentinel, or no node of the Cluster, answers.
    pub async fn topology(&self) -> Result<TopologyHealth, StoreError> {
        let health = match (&self.dialer.sentinels, &self.dialer.slots) {
            (Some(sentinels), _) => self.of_sentinels(sentinels).await,
            (_, Some(slots)) => self.of_cluster(slots).await,
            _ => Ok(TopologyHealth {
                topology: "standalone",
                masters: vec![self.of_one().await],
                ..Default::default()
            }),
        };
        let mut health = health.map_err(Fault::of_read)?;
        let masters = &health.masters;
        if health.total_nodes == 0 {
            let alive = |master: &MasterHealth| u32::from(master.healthy) + master.healthy_replicas;
            health.total_nodes = masters.iter().map(|master| 1 + master.replicas).sum();
            health.healthy_nodes = masters.iter().map(alive).sum();
        }
        let served: usize = masters.iter().filter(|m| m.healthy).map(|m| m.partitions.len()).sum();
        health.primary_healthy = served == self.dialer.layout.partitions() as usize;
        let with_partitions = || masters.iter().filter(|master| !master.partitions.is_empty());
        health.replica_healthy =
            with_partitions().count() > 0 && with_partitions().all(|m| m.healthy_replicas > 0);
        Ok(health)
    }

    /// Asks for a failover of the master that has a partition: one of its replicas takes its place. Returns when the
    /// request was accepted; the failover takes a moment more, and begins an epoch in each partition of that master.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where there is one server, or no replica to take over; else what the servers said.
    pub async fn fail_over(&self, partition: Partition) -> Result<(), StoreError> {
        match (&self.dialer.config.topology, &self.dialer.sentinels, &self.dialer.slots) {
            (Topology::Sentinel(config), Some(sentinels), _) => {
                let name = &config.masters[self.dialer.placed(partition)];
                let mut order = redis::cmd("SENTINEL");
                order.arg("FAILOVER").arg(name);
                let link = self.any_sentinel(sentinels).await.map_err(Fault::of_write)?;
                tell(&link, &order).await
            }
            (_, _, Some(slots)) => {
                let table = self.table(slots).await.map_err(Fault::of_write)?;
                let master = table.owner(self.dialer.layout.part(partition).slot);
                let replica = table.0.iter().find(|node| {
                    node.reachable && master.is_some_and(|master| node.master.as_ref() == Some(&master.id))
                });
                let Some(endpoint) = replica.and_then(|replica| replica.endpoint.as_ref()) else {
                    return Err(StoreError::Refused { message: "no replica can take over".into() });
                };
                let link = self.dialer.dial_bare(endpoint).await.map_err(Fault::of_write)?;
                let mut order = redis::cmd("CLUSTER");
                order.arg("FAILOVER");
                tell(&link, &order).await
            }
            _ => Err(StoreError::Refused { message: "one server has nobody to take over".into() }),
        }
    }

    /// One server.
    async fn of_one(&self) -> MasterHealth {
        let endpoint = self.dialer.config.endpoint();
        let target = Target::Node(endpoint.clone());
        let partitions = (0..self.dialer.layout.partitions()).collect();
        let name = endpoint.to_string();
        let mut health = MasterHealth { address: Some(name.clone()), name, partitions, ..Default::default() };
        if let Some(look) = self.look(&target).await {
            let online = look.replicas.iter().filter(|online| **online);
            health.healthy = true;
            health.replicas = look.replicas.len() as u32;
            health.healthy_replicas = online.count() as u32;
            health.keys = Some(look.keys);
            health.guarded = look.guarded;
        }
        health
    }

    async fn of_sentinels(&self, sentinels: &Sentinels) -> Result<TopologyHealth, Fault> {
        let link = self.any_sentinel(sentinels).await?;
        let targets: Vec<_> = (0..sentinels.config.masters.len()).map(Target::Master).collect();
        let mut looks = join_all(targets.iter().map(|target| self.look(target))).await;
        let mut masters = Vec::new();
        for (index, name) in sentinels.config.masters.iter().enumerate() {
            let look = looks[index].take();
            let address = crate::sentinels::where_is(&link, name).await.ok();
            let mut ask = redis::cmd("SENTINEL");
            ask.arg("REPLICAS").arg(name);
            let told = link.send(&ask).await.map_err(|error| Fault::of_connecting(&error))?;
            let following: Vec<bool> = replicas(&told);
            let partitions = (0..self.dialer.layout.partitions())
                .filter(|&partition| self.dialer.placed(Partition(partition)) == index);
            masters.push(MasterHealth {
                name: name.clone(),
                address: address.map(|endpoint| endpoint.to_string()),
                healthy: look.is_some(),
                replicas: following.len() as u32,
                healthy_replicas: following.iter().filter(|follows| **follows).count() as u32,
                partitions: partitions.collect(),
                keys: look.as_ref().map(|look| look.keys),
                slots: None,
                guarded: look.is_some_and(|look| look.guarded),
            });
        }
        Ok(TopologyHealth { topology: "sentinel", masters, ..Default::default() })
    }

    async fn of_cluster(&self, slots: &Slots) -> Result<TopologyHealth, Fault> {
        let (link, table) = self.told(slots).await?;
        let mut ask = redis::cmd("CLUSTER");
        let told = link.send(ask.arg("INFO")).await.map_err(|error| Fault::of_connecting(&error))?;
        let told = reply::text(&told).unwrap_or_default();
        let field = |name: &str| {
            told.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let number = |name: &str| field(name).parse().unwrap_or_default();
        let owners: Vec<_> = table.0.iter().filter(|node| node.is_master && node.slots() > 0).collect();
        let looks = join_all(owners.iter().map(async |node| match &node.endpoint {
            Some(endpoint) if node.reachable => self.look(&Target::Node(endpoint.clone())).await,
            _ => None,
        }));
        let mut masters = Vec::new();
        for (node, look) in owners.iter().zip(looks.await) {
            let replicas = || table.0.iter().filter(|other| other.master.as_ref() == Some(&node.id));
            let owns = |partition: &u32| {
                let owner = table.owner(self.dialer.layout.part(Partition(*partition)).slot);
                owner.is_some_and(|owner| owner.id == node.id)
            };
            masters.push(MasterHealth {
                name: node.id.clone(),
                address: node.endpoint.as_ref().map(Endpoint::to_string),
                healthy: look.is_some(),
                replicas: replicas().count() as u32,
                healthy_replicas: replicas().filter(|replica| replica.reachable).count() as u32,
                partitions: (0..self.dialer.layout.partitions()).filter(owns).collect(),
                keys: look.as_ref().map(|look| look.keys),
                slots: Some(node.slots()),
                guarded: look.is_some_and(|look| look.guarded),
            });
        }
        let cluster = ClusterHealth {
            state: field("cluster_state").to_owned(),
            slots_assigned: number("cluster_slots_assigned"),
            slots_ok: number("cluster_slots_ok"),
            known_nodes: number("cluster_known_nodes"),
            size: number("cluster_size"),
        };
        // Also those that have nothing to serve: a master that failed and was replaced is missed until it is back.
        let answering = table.0.iter().filter(|node| node.reachable).count();
        Ok(TopologyHealth {
            topology: "cluster",
            total_nodes: table.0.len() as u32,
            healthy_nodes: answering as u32,
            masters,
            cluster: Some(cluster),
            ..Default::default()
        })
    }

    /// What a master says, if it says so soon.
    async fn look(&self, master: &Target) -> Option<Look> {
        let (size, mut info) = (redis::cmd("DBSIZE"), redis::cmd("INFO"));
        info.arg("replication");
        let both = async {
            let size = self.control.run_at(master, "DBSIZE", &size).await.ok()?;
            let info = self.control.run_at(master, "INFO", &info).await.ok()?;
            Some((reply::number(&size)?, reply::text(&info)?.to_owned()))
        };
        let (keys, info) = timeout(ANSWER_MAX, both).await.ok()??;
        // `slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0`
        let replicas = info.lines().filter(|line| line.starts_with("slave") && line.contains(":ip="));
        let replicas = replicas.map(|line| line.contains("state=online")).collect();
        // Told only where both settings are there.
        let guarded = info.lines().any(|line| line.starts_with("min_slaves_good_slaves:"));
        Some(Look { keys, replicas, guarded })
    }

    /// A connection to a Sentinel that answers.
    async fn any_sentinel(&self, sentinels: &Sentinels) -> Result<Link, Fault> {
        let mut why = Fault::NotDone("there is no Sentinel".into());
        for sentinel in sentinels.in_order() {
            let dialled = self.dialer.dial_sentinel(sentinel, &sentinels.config, None);
            match timeout(ANSWER_MAX, dialled).await {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(fault)) => why = fault,
                Err(_) => why = Fault::NotDone(format!("Sentinel {sentinel} does not answer")),
            }
        }
        Err(why)
    }

    async fn table(&self, slots: &Slots) -> Result<Nodes, Fault> {
        self.told(slots).await.map(|(_, table)| table)
    }

    /// A node that answers, and what it knows of all.
    async fn told(&self, slots: &Slots) -> Result<(Link, Nodes), Fault> {
        let mut why = Fault::NotDone("there is no node to ask".into());
        for node in slots.to_ask() {
            let asked = async {
                let link = self.dialer.dial_bare(&node).await?;
                slots::table(&link).await.map(|table| (link, table))
            };
            match timeout(ANSWER_MAX, asked).await {
                Ok(Ok(told)) => return Ok(told),
                Ok(Err(fault)) => why = fault,
                Err(_) => why = Fault::NotDone(format!("node {node} does not answer")),
            }
        }
        Err(why)
    }
}

/// What a master says about itself.
struct Look {
    keys: u64,
    /// Whether each of its replicas follows it.
    replicas: Vec<bool>,
    guarded: bool,
}

async fn tell(link: &Link, order: &redis::Cmd) -> Result<(), StoreError> {
    let told = link.send(order).await;
    told.map(drop).map_err(|error| Fault::of_command(&error).of_write())
}

/// Of each replica that a Sentinel knows whether it follows its master.
fn replicas(told: &Value) -> Vec<bool> {
    let Value::Array(list) = told else { return Vec::new() };
    let field = |replica: &Value, name: &str| -> String {
        let pairs: Vec<&str> = match replica {
            Value::Array(words) => words.iter().map(|word| reply::text(word).unwrap_or_default()).collect(),
            _ => Vec::new(),
        };
        pairs
            .chunks(2)
            .find(|pair| pair[0] == name)
            .and_then(|pair| pair.get(1))
            .copied()
            .unwrap_or_default()
            .to_owned()
    };
    let follows = |replica: &Value| {
        let flags = field(replica, "flags");
        !flags.contains("down")
            && !flags.contains("disconnected")
            && field(replica, "master-link-status") == "ok"
    };
    list.iter().map(follows).collect()
}
