//! A Redis Cluster.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::redis_replicated::REPLICATING;
use crate::redis_server::{RedisServer, RedisServerOptions, free_ports};
use crate::resp::Reply;
use crate::wait::{start, until};

/// After so long without an answer a node is taken for failed.
const NODE_TIMEOUT_MS: &str = "1000";

/// A Redis Cluster of masters with replicas. It forms at once: every node finds its peers in its own file.
#[derive(Debug)]
pub struct RedisCluster {
    /// First the masters in the order of their slots, then the replica of each, then the next replica of each.
    pub nodes: Vec<RedisServer>,
    masters: usize,
}

impl RedisCluster {
    /// Starts three masters with a replica each.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start() -> Self {
        Self::start_with(3, 1, &[])
    }

    /// Starts masters with so many replicas each, and further arguments for all of them.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_with(masters: usize, replicas: usize, args: &[&str]) -> Self {
        Self::start_as(masters, replicas, args, None)
    }

    /// Starts three masters that speak TLS to each other and demand it of clients with certificates, with these PEM
    /// files: certificate, key, CA. Their plain ports are for [`RedisServer::command`].
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_tls(files: [PathBuf; 3]) -> Self {
        let args = ["--tls-cluster", "yes", "--tls-replication", "yes", "--tls-auth-clients", "yes"];
        Self::start_as(3, 0, &args, Some(files))
    }

    fn start_as(masters: usize, replicas: usize, args: &[&str], tls: Option<[PathBuf; 3]>) -> Self {
        let count = masters * (1 + replicas);
        let cluster = start(|| Self::try_start(count, masters, args, tls.as_ref()));
        until("the cluster is up", || {
            let running = cluster.nodes.iter().all(|node| {
                let told = node.command(&["CLUSTER", "INFO"]).text();
                told.contains("cluster_state:ok")
            });
            let followed = cluster.nodes[masters..]
                .iter()
                .all(|node| node.info("replication", "master_link_status") == "up");
            running && followed
        });
        cluster
    }

    fn try_start(
        count: usize,
        masters: usize,
        args: &[&str],
        tls: Option<&[PathBuf; 3]>,
    ) -> Result<Self, String> {
        let ports = free_ports(3 * count);
        let (ports, others) = ports.split_at(count);
        let (bus_ports, tls_ports) = others.split_at(count);
        let told_ports = if tls.is_some() { tls_ports } else { ports };
        let nodes = (0..count).map(|own| {
            let mut file = String::new();
            for node in 0..count {
                let myself = if node == own { "myself," } else { "" };
                // Writing to a String does not fail.
                let (port, bus_port) = (told_ports[node], bus_ports[node]);
                let _ = write!(file, "{} 127.0.0.1:{port}@{bus_port} {myself}", id(node));
                let epoch = node % masters + 1;
                let _ = if node < masters {
                    let slots = share(node, masters);
                    writeln!(file, "master - 0 0 {epoch} connected {}-{}", slots.start(), slots.end())
                } else {
                    writeln!(file, "slave {} 0 0 {epoch} connected", id(node % masters))
                };
            }
            let _ = writeln!(file, "vars currentEpoch {masters} lastVoteEpoch 0");
            let own_args = [
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                "nodes.conf",
                "--cluster-node-timeout",
                NODE_TIMEOUT_MS,
                "--cluster-replica-validity-factor",
                "0",
                "--cluster-require-full-coverage",
                "no",
                "--cluster-port",
            ];
            let mut all: Vec<String> = own_args.map(str::to_owned).to_vec();
            all.push(bus_ports[own].to_string());
            all.extend(REPLICATING.iter().chain(args).map(|arg| (*arg).to_owned()));
            let files = vec![("nodes.conf".to_owned(), file)];
            let (port, tls_port) = (Some(ports[own]), Some(tls_ports[own]));
            let tls = tls.cloned();
            let options = RedisServerOptions { args: all, files, port, tls, tls_port, ..Default::default() };
            RedisServer::try_start_with(options)
        });
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, masters })
    }

    /// `redis-cluster://` (or `rediss-cluster://`) URL of the nodes that were started as masters.
    pub fn url(&self) -> String {
        let masters = &self.nodes[..self.masters];
        let tls: Vec<_> = masters.iter().filter_map(RedisServer::tls_addr).collect();
        let scheme = if tls.is_empty() { "redis" } else { "rediss" };
        let addresses = if tls.is_empty() { masters.iter().map(RedisServer::addr).collect() } else { tls };
        let nodes: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("{scheme}-cluster://{}", nodes.join(","))
    }

    /// Which node has a slot, as a running node knows it.
    ///
    /// # Panics
    /// If nobody has it.
    pub fn owner_of(&self, slot: u16) -> usize {
        self.find_owner(slot).expect("a node has the slot")
    }

    fn find_owner(&self, slot: u16) -> Option<usize> {
        let table = self.table()?;
        let row = table.lines().find(|row| {
            let mut fields = row.split(' ');
            let healthy =
                fields.nth(2).is_some_and(|flags| flags.contains("master") && !flags.contains("fail"));
            healthy && fields.skip(5).any(|slots| covers(slots, slot))
        })?;
        self.index_of(row.split(' ').next()?)
    }

    /// The node with this id.
    fn index_of(&self, wanted: &str) -> Option<usize> {
        (0..self.nodes.len()).find(|&node| id(node) == wanted)
    }

    /// What a running node knows of all nodes.
    fn table(&self) -> Option<String> {
        let running = self.nodes.iter().filter(|node| node.is_running());
        running.map(|node| node.command(&["CLUSTER", "NODES"]).text()).next()
    }

    /// Whether all running nodes agree on who has a slot, and are up.
    fn agree(&self, slot: u16, owner: usize) -> bool {
        self.nodes.iter().filter(|node| node.is_running()).all(|node| {
            let table = node.command(&["CLUSTER", "NODES"]).text();
            let row = table.lines().find(|row| row.starts_with(&id(owner)));
            row.is_some_and(|row| row.split(' ').skip(8).any(|slots| covers(slots, slot)))
                && node.command(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok")
        })
    }

    /// Makes a replica the master of its shard, in agreement with the old one, and waits until all know.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn fail_over_to(&self, replica: usize) {
        let slot = *share(replica % self.masters, self.masters).start();
        self.nodes[replica].command(&["CLUSTER", "FAILOVER"]);
        until("the replica is the master", || self.agree(slot, replica));
    }

    /// Waits until a slot has another owner than this, and all running nodes know.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn wait_for_failover(&self, slot: u16, from: usize) {
        until("a replica is promoted", || {
            self.find_owner(slot).is_some_and(|owner| owner != from && self.agree(slot, owner))
        });
    }

    /// Begins to move a slot: both sides know, and no key has moved yet.
    pub fn begin_move(&self, slot: u16, to: usize) {
        let (from, slot) = (self.owner_of(slot), slot.to_string());
        self.nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        self.nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    }

    /// Moves one key of a slot that is being moved.
    pub fn move_key(&self, from: usize, to: usize, key: &str) {
        // With TLS in the cluster nodes speak it to each other here as well.
        let to = &self.nodes[to];
        let port = to.tls_addr().unwrap_or_else(|| to.addr()).port().to_string();
        self.nodes[from].command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// The keys of a slot at a node.
    pub fn keys_of(&self, node: usize, slot: u16) -> Vec<String> {
        match self.nodes[node].command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000"]) {
            Reply::List(keys) => keys.iter().map(Reply::text).collect(),
            other => panic!("no list of keys: {other:?}"),
        }
    }

    /// Ends the moving of a slot: moves what is left, and all nodes learn who has it.
    ///
    /// # Panics
    /// If they do not.
    pub fn finish_move(&self, slot: u16, from: usize, to: usize) {
        loop {
            let keys = self.keys_of(from, slot);
            if keys.is_empty() {
                break;
            }
            keys.iter().for_each(|key| self.move_key(from, to, key));
        }
        let text = slot.to_string();
        for node in [to, from] {
            self.nodes[node].command(&["CLUSTER", "SETSLOT", &text, "NODE", &id(to)]);
        }
        until("all know who has the slot", || self.agree(slot, to));
    }

    /// Moves a slot with its keys.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.owner_of(slot);
        if from != to {
            self.begin_move(slot, to);
            self.finish_move(slot, from, to);
        }
    }
}

/// The name of a node among its peers.
fn id(node: usize) -> String {
    format!("{:040x}", 0xc1a5 + node)
}

/// The slots of one master of several.
fn share(master: usize, masters: usize) -> RangeInclusive<u16> {
    let bound = |master: usize| (master * 16_384 / masters) as u16;
    bound(master)..=bound(master + 1) - 1
}

/// Whether `5` or `3-7` names a slot.
fn covers(slots: &str, slot: u16) -> bool {
    let mut ends = slots.split('-').map(str::parse::<u16>);
    match (ends.next(), ends.next()) {
        (Some(Ok(one)), None) => one == slot,
        (Some(Ok(first)), Some(Ok(last))) => (first..=last).contains(&slot),
        _ => false,
    }
}
