//! A master with replicas, and nobody who watches over them.

use crate::redis_server::{RedisServer, RedisServerOptions};
use crate::wait::until;

/// Arguments of servers that replicate: full copies begin at once, and a lost link is noticed soon.
pub(crate) const REPLICATING: [&str; 6] =
    ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "5"];

/// A master with replicas.
#[derive(Debug)]
pub struct RedisReplicated {
    /// The master.
    pub master: RedisServer,
    /// Its replicas.
    pub replicas: Vec<RedisServer>,
}

impl RedisReplicated {
    /// Starts a master and so many replicas, and waits until these have its data.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start(replicas: usize) -> Self {
        Self::start_with(replicas, RedisServerOptions::default())
    }

    /// The same with options for all of them.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_with(replicas: usize, mut options: RedisServerOptions) -> Self {
        options.args.extend(REPLICATING.map(str::to_owned));
        let master = RedisServer::start_with(options.clone());
        let replicas = (0..replicas).map(|_| {
            let replica = RedisServer::start_with(options.clone());
            follow(&replica, &master);
            replica
        });
        let replicas: Vec<_> = replicas.collect();
        until("the master counts its replicas", || {
            master.info("replication", "connected_slaves") == replicas.len().to_string()
        });
        Self { master, replicas }
    }

    /// Makes a replica a master. The old one does not learn of it.
    pub fn promote(&self, replica: usize) -> &RedisServer {
        self.replicas[replica].command(&["REPLICAOF", "NO", "ONE"]);
        &self.replicas[replica]
    }
}

/// Makes a server the replica of another, and waits until it has the data.
pub(crate) fn follow(server: &RedisServer, master: &RedisServer) {
    server.command(&["REPLICAOF", "127.0.0.1", &master.told_addr().port().to_string()]);
    until("a replica has the data of its master", || {
        server.info("replication", "master_link_status") == "up"
    });
}
