//! The rows: each a deployment, a fault that happens to it, and the guard without which it would not hold.

mod clocks;
mod hostile;
mod master;
mod network;
mod server;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use cache_testkit::{RedisCluster, RedisReplicated, RedisSentinels, RedisServer, RedisServerOptions};

use crate::chaos;
use crate::deployment::{Line, Servers, Setup, nodes};
use crate::report::Outcome;
use crate::scene::{self, Scene};
use crate::storm::{BOUND, Seen, Storm, Weather};

/// One row of the matrix.
pub struct Row {
    /// The fault.
    pub fault: String,
    /// Whether the short form, which runs in CI, has it.
    pub short: bool,
    /// The mutation that takes the guard out on which it stands, where readers can see that.
    pub control: Option<&'static str>,
    bound: Duration,
    kind: Kind,
}

enum Kind {
    /// Writers and readers, and something that happens to them.
    Storm { servers: fn() -> Servers, setup: Setup, weather: Weather, happens: Happens },
    /// A few steps in a fixed order.
    Scene(Plays),
    /// A storm in which a seed draws what happens.
    Chaos { servers: fn() -> Servers, lasts: Duration },
}

type Happens = for<'a> fn(&'a mut Field) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;
type Plays = for<'a> fn(&'a mut Scene) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// What a fault happens to.
pub struct Field {
    /// The servers.
    pub servers: Servers,
    /// What lies between each node and them.
    pub lines: Vec<Line>,
    /// The storm that goes on meanwhile.
    pub storm: Storm,
    /// What was measured besides.
    pub figures: Vec<String>,
}

impl Field {
    /// Notes something that was measured.
    pub fn figure(&mut self, text: String) {
        self.figures.push(text);
    }
}

/// Longer than the bound and what belongs to it.
const LONG: Duration = Duration::from_millis(2_500);
/// How long a chaos of the matrix lasts.
const CHAOS: Duration = Duration::from_secs(10);

fn standalone() -> Servers {
    Servers::Standalone(RedisServer::start())
}

fn replicated() -> Servers {
    Servers::Replicated(RedisReplicated::start(1))
}

/// Masters that refuse writes when they are cut off from their replicas for a second.
const GUARDED: [&str; 4] = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];

fn guarded() -> Servers {
    let args = GUARDED.map(str::to_owned).to_vec();
    Servers::Replicated(RedisReplicated::start_with(2, RedisServerOptions { args, ..Default::default() }))
}

fn sentinel() -> Servers {
    Servers::Sentinel(RedisSentinels::start(&["one", "two"]))
}

fn guarded_sentinel() -> Servers {
    Servers::Sentinel(RedisSentinels::start_with(&["one", "two"], &GUARDED))
}

fn cluster() -> Servers {
    Servers::Cluster(RedisCluster::start())
}

fn guarded_cluster() -> Servers {
    Servers::Cluster(RedisCluster::start_with(3, 1, &GUARDED))
}

impl Row {
    fn of(fault: &str, kind: Kind) -> Self {
        Self { fault: fault.to_owned(), short: false, control: None, bound: BOUND, kind }
    }

    fn new(fault: &str, servers: fn() -> Servers, happens: Happens) -> Self {
        let (setup, weather) = (Setup::default(), Weather::default());
        Self::of(fault, Kind::Storm { servers, setup, weather, happens })
    }

    fn scene(fault: &str, plays: Plays) -> Self {
        Self::of(fault, Kind::Scene(plays))
    }

    fn short(mut self) -> Self {
        self.short = true;
        self
    }

    fn control(mut self, mutation: &'static str) -> Self {
        self.control = Some(mutation);
        self
    }

    fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    fn weather(mut self, other: Weather) -> Self {
        if let Kind::Storm { weather, .. } = &mut self.kind {
            *weather = other;
        }
        self
    }

    fn setup(mut self, other: Setup) -> Self {
        if let Kind::Storm { setup, .. } = &mut self.kind {
            *setup = other;
        }
        self
    }

    /// Lets it happen and judges what was seen.
    pub async fn run(&self, seed: u64) -> Outcome {
        let (mut topology, mut seen, mut figures) = ("", Seen::default(), Vec::new());
        let result = match &self.kind {
            Kind::Scene(plays) => {
                let mut scene = Scene::default();
                let played = plays(&mut scene).await;
                (topology, seen, figures) = (scene.topology, scene.seen, scene.figures);
                played
            }
            Kind::Storm { servers, setup, weather, happens } => {
                async {
                    // Real processes, which take their time to start.
                    let servers = tokio::task::spawn_blocking(*servers).await?;
                    topology = servers.topology();
                    let (nodes, lines) = nodes(&servers, 3, setup).await?;
                    let url = servers.url();
                    let storm = Storm::begin(nodes, setup.apart.then_some(&*url), *weather, seed).await?;
                    let mut field = Field { servers, lines, storm, figures: Vec::new() };
                    let happened = happens(&mut field).await;
                    (seen, figures) = (field.storm.seen(), field.figures);
                    happened?;
                    let (all, ended) = field.storm.end().await;
                    seen = all;
                    // The servers go in a thread that may wait for them.
                    tokio::task::spawn_blocking(move || drop(field.servers)).await?;
                    ended
                }
                .await
            }
            Kind::Chaos { servers, lasts } => {
                let chaos = chaos::run(*servers, *lasts, seed).await;
                (topology, seen, figures) = (chaos.topology, chaos.seen, chaos.figures);
                chaos.result
            }
        };
        let why = result.err().map(|error| format!("{error:#}"));
        let mut outcome = Outcome { topology, figures, ..self.outcome(seen, why) };
        if outcome.why.is_none() && outcome.is_stale() {
            outcome.why = Some("a read was staler than the bound".to_owned());
        }
        outcome.ok = outcome.why.is_none();
        outcome
    }

    /// The outcome of a run that came to no end.
    pub fn broken(&self, why: &str) -> Outcome {
        self.outcome(Seen::default(), Some(why.to_owned()))
    }

    fn outcome(&self, seen: Seen, why: Option<String>) -> Outcome {
        Outcome {
            fault: self.fault.clone(),
            topology: "",
            ok: why.is_none(),
            worst_staleness_ms: seen.worst_ms,
            bound_ms: self.bound.as_millis() as u64,
            reads: seen.reads,
            control_found: None,
            why,
            figures: Vec::new(),
            seen,
        }
    }
}

/// A storm in which a seed draws the faults, on each kind of deployment: a master with a replica, masters under Sentinel
/// with a replica each, a Cluster of six.
pub fn chaos(lasts: Duration) -> Vec<Row> {
    let grounds = [("a master and its replica", replicated as fn() -> Servers)];
    let grounds = grounds.into_iter().chain([
        ("Sentinel", guarded_sentinel as fn() -> Servers),
        ("a Cluster", guarded_cluster as fn() -> Servers),
    ]);
    grounds
        .map(|(on, servers)| {
            let fault = format!("random faults for {} s, {on}", lasts.as_secs());
            Row::of(&fault, Kind::Chaos { servers, lasts })
        })
        .collect()
}

/// All rows, in the order of the documentation.
pub fn all() -> Vec<Row> {
    let slow = Weather { load_ms_max: 60, ..Weather::default() };
    let panics = Weather { panic_every: 7, ..Weather::default() };
    let crowd = Weather { readers: 240, ..Weather::default() };
    let usual = Setup::default();
    let forgetful = Setup { outbox_max: 4, write_deadline: Duration::from_millis(300), ..usual };
    let mut rows = vec![
        Row::new("none", standalone, |field| Box::pin(async { field.storm.rages().await }))
            .short()
            .control("group_stamp_ignored"),
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
        Row::new("answers lost, requests arrive", standalone, |f| Box::pin(network::swallow(f)))
            .control("bound_unchecked"),
        Row::new("node partitioned longer than the bound", standalone, |f| Box::pin(network::partition(f)))
            .short()
            .control("bound_unchecked"),
        Row::new("silent partition of 6 s", standalone, |f| Box::pin(network::silence(f)))
            .control("bound_unchecked"),
        Row::new("bus cut for 2 s", standalone, |f| Box::pin(network::bus_cut(f))).control("bound_unchecked"),
        Row::new("node that receives and cannot send", standalone, |f| Box::pin(network::speechless(f)))
            .control("bound_unchecked"),
        Row::new("slow consumer cut off by the server", standalone, |f| Box::pin(network::slow_consumer(f))),
        Row::new("burst of reads that exhausts the connections for records", standalone, |f| {
            Box::pin(network::burst(f))
        }),
        Row::new("process of a node stopped for longer than the bound", standalone, |f| {
            Box::pin(clocks::pause_node(f))
        })
        .setup(Setup { apart: true, ..usual })
        .control("bound_unchecked"),
        Row::new("clocks of nodes an hour ahead and an hour behind", standalone, |f| {
            Box::pin(clocks::node_clocks(f))
        }),
        Row::new("clock of the server put back by an hour", standalone, |f| {
            Box::pin(clocks::server_clock(f))
        }),
        Row::new("slow network, 80 ms each way", standalone, |f| Box::pin(network::delay(f))),
        Row::new("Redis killed and restarted empty", standalone, |f| Box::pin(server::restart_empty(f)))
            .short()
            .control("epoch_without_flush"),
        Row::new("Redis restarted from an old snapshot", standalone, |f| Box::pin(server::old_snapshot(f)))
            .control("dead_epoch_taken"),
        Row::new("Redis stopped for less than the bound", standalone, |f| Box::pin(server::stop_short(f))),
        Row::new("Redis stopped for longer than the bound", standalone, |f| Box::pin(server::stop_long(f))),
        Row::new("more writes owed than the outbox holds", standalone, |f| Box::pin(server::overflow(f)))
            .setup(forgetful),
        Row::new("Redis away for 30 s under load", standalone, |f| Box::pin(server::away(f))).weather(crowd),
        Row::new("Redis stopped for 30 s under load", standalone, |f| Box::pin(server::stopped(f)))
            .weather(crowd),
        Row::new("FLUSHALL", standalone, |f| Box::pin(server::flush_all(f)))
            .short()
            .control("epoch_without_flush"),
        Row::new("meta evicted", standalone, |f| Box::pin(server::lose_meta(f)))
            .control("epoch_without_flush"),
        Row::new("log deleted", standalone, |f| Box::pin(server::lose_log(f))).control("epoch_without_flush"),
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
        Row::new("slow loaders across a failover", replicated, |f| Box::pin(master::lossy_failover(f)))
            .weather(slow)
            .control("epoch_at_fill"),
        Row::new("loaders that outlive their leases", standalone, |f| Box::pin(network::wait(f)))
            .weather(slow)
            .setup(Setup { lease_ttl: Duration::from_millis(20), ..usual }),
        Row::new("loaders that panic", standalone, |f| Box::pin(network::wait(f))).weather(panics),
        Row::new("corrupt and foreign records", standalone, |f| Box::pin(hostile::records(f))),
        Row::new("forged hints and log entries", standalone, |f| Box::pin(hostile::events(f))),
        Row::new("failover that loses acknowledged events and uses ids again", replicated, |f| {
            Box::pin(master::lossy_failover(f))
        })
        .control("dead_epoch_taken"),
        Row::new("failover to the replica and back again", replicated, |f| {
            Box::pin(master::there_and_back(f))
        })
        .control("dead_epoch_taken"),
        Row::new("split brain, the old master needs a replica to write", guarded, |f| {
            Box::pin(master::split_brain(f))
        })
        .weather(Weather { writing: 2, ..Weather::default() })
        .bound(master::SPLIT_BOUND)
        .control("bound_unchecked"),
        Row::new("failover asked for under Sentinel", sentinel, |f| Box::pin(master::ask_sentinel(f))),
        Row::new("master under Sentinel killed", sentinel, |f| Box::pin(master::kill_sentinel_master(f)))
            .short(),
        Row::new("failover asked for in a Cluster", cluster, |f| Box::pin(master::ask_cluster(f))),
        Row::new("master of a Cluster killed", cluster, |f| Box::pin(master::kill_cluster_master(f))).short(),
        Row::new("slots of a Cluster moved", cluster, |f| Box::pin(master::reshard(f))).short(),
        Row::scene("slow load against a put", |s| Box::pin(scene::backfill::against_put(s)))
            .short()
            .control("l1_race_insert_after_event"),
        Row::scene("slow load against an invalidation", |s| {
            Box::pin(scene::backfill::against_invalidation(s))
        })
        .short()
        .control("l1_race_insert_after_event"),
        Row::scene("1,000 nodes miss one key", |s| Box::pin(scene::loads::thousand(s))),
        Row::scene("two loaders, of which one has an expired lease", |s| {
            Box::pin(scene::loads::expired_lease(s))
        }),
        Row::scene("node of a loader killed", |s| Box::pin(scene::loads::loader_dies(s))),
        Row::scene("20,000 invalidations while all connections are killed 5 times", |s| {
            Box::pin(scene::events::many(s))
        })
        .short(),
        Row::scene("2,000 events missed", |s| Box::pin(scene::events::gap(s))),
        Row::scene("one master of two does not take part in a group", |s| Box::pin(scene::parts::group(s))),
        Row::scene("two deployments on one prefix", |s| Box::pin(scene::parts::fenced(s))).short(),
    ];
    let mut chaos = chaos(CHAOS);
    chaos[0].short = true;
    chaos[0].control = Some("dead_epoch_taken");
    rows.extend(chaos);
    rows
}
