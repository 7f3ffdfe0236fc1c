//! The rows: each a deployment, a fault that happens to it, and the guard without which it would not hold.

mod hostile;
mod master;
mod network;
mod server;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use cache_testkit::{RedisCluster, RedisReplicated, RedisSentinels, RedisServer};

use crate::deployment::{Line, Servers, nodes};
use crate::report::Outcome;
use crate::storm::{BOUND, MARGIN, Seen, Storm, Weather};

/// One row of the matrix.
pub struct Row {
    /// The fault.
    pub fault: &'static str,
    /// Whether the short form, which runs in CI, has it.
    pub short: bool,
    /// The mutation that takes the guard out on which it stands, where readers can see that.
    pub control: Option<&'static str>,
    servers: fn() -> Servers,
    weather: Weather,
    happens: Happens,
}

type Happens = for<'a> fn(&'a mut Field) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// What a fault happens to.
pub struct Field {
    /// The servers.
    pub servers: Servers,
    /// What lies between each node and them.
    pub lines: Vec<Line>,
    /// The storm that goes on meanwhile.
    pub storm: Storm,
}

/// Longer than the bound and what belongs to it.
const LONG: Duration = Duration::from_millis(2_500);

fn standalone() -> Servers {
    Servers::Standalone(RedisServer::start())
}

fn replicated() -> Servers {
    Servers::Replicated(RedisReplicated::start(1))
}

fn sentinel() -> Servers {
    Servers::Sentinel(RedisSentinels::start(&["one", "two"]))
}

fn cluster() -> Servers {
    Servers::Cluster(RedisCluster::start())
}

impl Row {
    fn new(fault: &'static str, servers: fn() -> Servers, happens: Happens) -> Self {
        Self { fault, short: false, control: None, servers, weather: Weather::default(), happens }
    }

    fn short(mut self) -> Self {
        self.short = true;
        self
    }

    fn control(mut self, mutation: &'static str) -> Self {
        self.control = Some(mutation);
        self
    }

    fn weather(mut self, weather: Weather) -> Self {
        self.weather = weather;
        self
    }

    /// Lets it happen and judges what was seen.
    pub async fn run(&self, seed: u64) -> Outcome {
        let servers = self.servers;
        let (mut topology, mut seen) = ("", Seen::default());
        let result = async {
            // Real processes, which take their time to start.
            let servers = tokio::task::spawn_blocking(servers).await?;
            topology = servers.topology();
            let (nodes, lines) = nodes(&servers, 3).await?;
            let storm = Storm::begin(nodes, self.weather, seed).await?;
            let mut field = Field { servers, lines, storm };
            let happened = (self.happens)(&mut field).await;
            seen = field.storm.seen();
            happened?;
            let ended = field.storm.end().await;
            if let Ok(all) = &ended {
                seen = *all;
            }
            // The servers go in a thread that may wait for them.
            tokio::task::spawn_blocking(move || drop(field.servers)).await?;
            ended.map(drop)
        }
        .await;
        let bound_ms = (BOUND + MARGIN).as_millis() as u64;
        let why = match result {
            Err(error) => Some(format!("{error:#}")),
            Ok(()) if seen.worst_ms > bound_ms => Some("a read was staler than the bound".to_owned()),
            Ok(()) => None,
        };
        Outcome {
            fault: self.fault,
            topology,
            ok: why.is_none(),
            worst_staleness_ms: seen.worst_ms,
            bound_ms: BOUND.as_millis() as u64,
            reads: seen.reads,
            control_found: None,
            why,
            seen,
        }
    }
}

/// All rows, in the order of the documentation.
pub fn all() -> Vec<Row> {
    let slow = Weather { load_ms_max: 60, ..Weather::default() };
    let panics = Weather { panic_every: 7, ..Weather::default() };
    vec![
        Row::new("none", standalone, |field| Box::pin(async { field.storm.rages().await })).short(),
        Row::new("hints lost, repeated and reordered, 20 % each", standalone, |f| {
            Box::pin(network::disorder(f))
        })
        .short()
        .control("advance_over_gap"),
        Row::new("all hints lost", standalone, |f| Box::pin(network::deaf(f))),
        Row::new("push connections cut by the server", standalone, |f| Box::pin(server::kill_pubsub(f)))
            .short(),
        Row::new("connections black-holed while new ones work", standalone, |f| {
            Box::pin(network::black_hole_open(f))
        })
        .short(),
        Row::new("connections reset in mid-command", standalone, |f| Box::pin(network::resets(f))),
        Row::new("answers lost, requests arrive", standalone, |f| Box::pin(network::swallow(f))),
        Row::new("node partitioned longer than the bound", standalone, |f| Box::pin(network::partition(f)))
            .short()
            .control("bound_unchecked"),
        Row::new("silent partition of 6 s", standalone, |f| Box::pin(network::silence(f)))
            .control("bound_unchecked"),
        Row::new("slow network, 80 ms each way", standalone, |f| Box::pin(network::delay(f))),
        Row::new("Redis killed and restarted empty", standalone, |f| Box::pin(server::restart_empty(f)))
            .short()
            .control("epoch_without_flush"),
        Row::new("Redis restarted from an old snapshot", standalone, |f| Box::pin(server::old_snapshot(f)))
            .control("dead_epoch_taken"),
        Row::new("Redis stopped for less than the bound", standalone, |f| Box::pin(server::stop_short(f))),
        Row::new("Redis stopped for longer than the bound", standalone, |f| Box::pin(server::stop_long(f))),
        Row::new("FLUSHALL", standalone, |f| Box::pin(server::flush_all(f))).short(),
        Row::new("meta evicted", standalone, |f| Box::pin(server::lose_meta(f))),
        Row::new("log deleted", standalone, |f| Box::pin(server::lose_log(f))),
        Row::new("log trimmed past the cursor of a deaf node", standalone, |f| Box::pin(server::trim(f)))
            .control("gap_without_flush"),
        Row::new("NOSCRIPT", standalone, |f| Box::pin(server::forget_scripts(f))),
        Row::new("out of memory", standalone, |f| Box::pin(server::no_memory(f))),
        Row::new("slow loaders across invalidations", standalone, |f| Box::pin(network::wait(f)))
            .weather(slow),
        Row::new("slow loaders across invalidations, memory alone", standalone, |f| {
            Box::pin(network::wait(f))
        })
        .weather(Weather { memory_only: true, ..slow })
        .control("l1_race_insert_after_event"),
        Row::new("loaders that panic", standalone, |f| Box::pin(network::wait(f))).weather(panics),
        Row::new("corrupt and foreign records", standalone, |f| Box::pin(hostile::records(f))),
        Row::new("forged hints and log entries", standalone, |f| Box::pin(hostile::events(f))),
        Row::new("failover that loses acknowledged events and uses ids again", replicated, |f| {
            Box::pin(master::lossy_failover(f))
        })
        .control("dead_epoch_taken"),
        Row::new("master under Sentinel killed", sentinel, |f| Box::pin(master::kill_sentinel_master(f))),
        Row::new("master of a Cluster killed", cluster, |f| Box::pin(master::kill_cluster_master(f))),
        Row::new("slots of a Cluster moved", cluster, |f| Box::pin(master::reshard(f))),
    ]
}
