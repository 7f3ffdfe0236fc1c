//! Several masters with replicas, watched over by Sentinels.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::redis_replicated::{REPLICATING, follow};
use crate::redis_server::{RedisServer, RedisServerOptions, free_ports};
use crate::resp::Reply;
use crate::wait::{start, until};

const SENTINELS: usize = 3;
/// A master that does not answer for so long is down.
const DOWN_AFTER: Duration = Duration::from_millis(500);

/// Masters with one replica each, and three Sentinels that know each other from the start. A master that does not answer
/// for half a second is down, unless [`start_unhurried`](RedisSentinels::start_unhurried) says otherwise.
#[derive(Debug)]
pub struct RedisSentinels {
    /// The Sentinels.
    pub sentinels: Vec<RedisServer>,
    /// The masters with their replicas.
    pub shards: Vec<Shard>,
}

/// A master and its replica.
#[derive(Debug)]
pub struct Shard {
    /// Under which name the Sentinels know it.
    pub name: String,
    /// First the one that was started as master.
    pub servers: Vec<RedisServer>,
}

impl RedisSentinels {
    /// Starts masters of these names.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start(names: &[&str]) -> Self {
        Self::start_with(names, &[])
    }

    /// Starts masters of these names, with further arguments for the servers of data.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_with(names: &[&str], args: &[&str]) -> Self {
        Self::start_as(names, args, None, DOWN_AFTER)
    }

    /// Starts masters of these names that nobody takes for dead within a minute: for tests in which none fails. On a busy
    /// machine a process may stand still for half a second, and then two servers take writes for a while.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_unhurried(names: &[&str]) -> Self {
        Self::start_as(names, &[], None, Duration::from_secs(60))
    }

    /// Starts masters that speak TLS to each other, to Sentinels and to clients, as Sentinels do, and all demand certificates;
    /// with these PEM files: certificate, key, CA. The plain ports are for [`RedisServer::command`].
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_tls(names: &[&str], files: &[PathBuf; 3]) -> Self {
        let args = ["--tls-replication", "yes", "--tls-auth-clients", "yes"];
        Self::start_as(names, &args, Some(files), DOWN_AFTER)
    }

    fn start_as(names: &[&str], args: &[&str], tls: Option<&[PathBuf; 3]>, down_after: Duration) -> Self {
        let deployment = start(|| Self::try_start(names, args, tls, down_after));
        until("every Sentinel knows all", || {
            deployment.sentinels.iter().all(|sentinel| {
                deployment.shards.iter().all(|shard| {
                    let told = sentinel.command(&["SENTINEL", "MASTER", &shard.name]);
                    let field = |name: &str| field(&told, name);
                    field("num-slaves") == "1"
                        && field("num-other-sentinels") == "2"
                        && field("flags") == "master"
                })
            })
        });
        deployment
    }

    fn try_start(
        names: &[&str],
        args: &[&str],
        tls: Option<&[PathBuf; 3]>,
        down_after: Duration,
    ) -> Result<Self, String> {
        let mut shards = Vec::new();
        for name in names {
            let args = REPLICATING.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
            let options = RedisServerOptions { args, tls: tls.cloned(), ..Default::default() };
            let master = RedisServer::start_with(options.clone());
            let replica = RedisServer::start_with(options);
            follow(&replica, &master);
            shards.push(Shard { name: (*name).to_owned(), servers: vec![master, replica] });
        }
        let ports = free_ports(2 * SENTINELS);
        let (ports, tls_ports) = ports.split_at(SENTINELS);
        let told_ports = if tls.is_some() { tls_ports } else { ports };
        let id = |number: usize| format!("{:040x}", 0xfeed + number);
        let sentinels = (0..SENTINELS).map(|own| {
            let mut file = format!("sentinel myid {}\n", id(own));
            for shard in &shards {
                let (name, port) = (&shard.name, shard.servers[0].told_addr().port());
                // Writing to a String does not fail.
                let _ = writeln!(file, "sentinel monitor {name} 127.0.0.1 {port} 2");
                let _ = writeln!(file, "sentinel down-after-milliseconds {name} {}", down_after.as_millis());
                let _ = writeln!(file, "sentinel failover-timeout {name} 3000");
                for other in (0..SENTINELS).filter(|&other| other != own) {
                    let (port, id) = (told_ports[other], id(other));
                    let _ = writeln!(file, "sentinel known-sentinel {name} 127.0.0.1 {port} {id}");
                }
            }
            let files = vec![("sentinel.conf".to_owned(), file)];
            let args: &[&str] = match tls {
                Some(_) => &["--tls-replication", "yes", "--tls-auth-clients", "yes"],
                None => &[],
            };
            RedisServer::try_start_with(RedisServerOptions {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                files,
                port: Some(ports[own]),
                tls: tls.cloned(),
                tls_port: Some(tls_ports[own]),
                sentinel: true,
                ..Default::default()
            })
        });
        Ok(Self { sentinels: sentinels.collect::<Result<_, _>>()?, shards })
    }

    /// `redis-sentinel://` (or `rediss-sentinel://`) URL of all Sentinels and all masters.
    pub fn url(&self) -> String {
        let join = |all: Vec<String>| all.join(",");
        let scheme = if self.sentinels[0].tls_addr().is_some() { "rediss" } else { "redis" };
        let sentinels = join(self.sentinels.iter().map(|server| server.told_addr().to_string()).collect());
        let masters = join(self.shards.iter().map(|shard| shard.name.clone()).collect());
        format!("{scheme}-sentinel://{sentinels}/{masters}")
    }

    /// Which server of a shard most Sentinels take for its master.
    pub fn master_of(&self, shard: usize) -> usize {
        let Shard { name, servers } = &self.shards[shard];
        let told = |server: &RedisServer| {
            let port = server.told_addr().port().to_string();
            let says = |sentinel: &&RedisServer| {
                let asked = sentinel.try_command(&[b"SENTINEL", b"get-master-addr-by-name", name.as_bytes()]);
                matches!(asked, Ok(Reply::List(pair)) if pair.get(1).is_some_and(|told| told.text() == port))
            };
            self.sentinels.iter().filter(|sentinel| sentinel.is_running()).filter(says).count()
        };
        let counted: Vec<usize> = servers.iter().map(told).collect();
        (0..servers.len()).max_by_key(|&server| counted[server]).unwrap_or_default()
    }

    /// The master of a shard.
    pub fn master(&self, shard: usize) -> &RedisServer {
        &self.shards[shard].servers[self.master_of(shard)]
    }

    /// Ends the process of a shard's master; says which it was.
    pub fn kill_master(&mut self, shard: usize) -> usize {
        let master = self.master_of(shard);
        self.shards[shard].servers[master].kill();
        master
    }

    /// Waits until another server than this is the master of a shard and takes writes.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn wait_for_failover(&self, shard: usize, from: usize) {
        until("a replica is promoted", || {
            let master = self.master_of(shard);
            master != from && self.shards[shard].servers[master].info("replication", "role") == "master"
        });
    }
}

/// A field of a reply that lists names and values by turns.
fn field(reply: &Reply, name: &str) -> String {
    let Reply::List(list) = reply else { return String::new() };
    let found = list.chunks(2).find(|pair| pair[0].text() == name);
    found.and_then(|pair| pair.get(1)).map(Reply::text).unwrap_or_default()
}
