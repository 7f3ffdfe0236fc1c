//! From an invalidation on one node to its drop on the last of 1, 16 and 64 others, against a bare PUBLISH to as many
//! subscribers of the same client.
//!
//! All receivers of both live in one thread with a core of its own, the server shares the core of the writer. One after
//! the other, rounds of both alternate, medians of the rounds are compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, cmd};
use cache_events::{CacheEvent, Key, Namespace, NodeId, Partition, Position, wire};
use cache_policy::PolicyKind;
use cache_redis::RedisConfig;
use cache_testkit::RedisServer;
use cache_tiered::{NamespaceSettings, Observer, TieredCache, TypedCache};
use edgecache_benches::placed::{pin, ports, this_thread};
use edgecache_benches::{Value, median, node, now, quantile, quick, rounds, value};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(30);

/// Tells when the last of all has something.
struct Last {
    all: usize,
    /// What was heard of last, and by how many.
    heard: Mutex<(u64, usize)>,
    told: mpsc::Sender<(u64, Instant)>,
}

impl Last {
    fn new(all: usize) -> (Arc<Self>, mpsc::Receiver<(u64, Instant)>) {
        let (told, heard) = mpsc::channel(1_024);
        (Arc::new(Self { all, heard: Mutex::new((0, 0)), told }), heard)
    }

    fn hears(&self, what: u64) {
        let mut heard = self.heard.lock();
        *heard = (what, if heard.0 == what { heard.1 + 1 } else { 1 });
        if heard.1 == self.all {
            let _ = self.told.try_send((what, now()));
        }
    }
}

impl Observer for Last {
    fn applied(&self, _: Partition, position: Position, _: &CacheEvent) {
        self.hears(position.seq);
    }
}

type OnOthers = Vec<(TieredCache, TypedCache<Value>)>;

/// The receiving side of both, until `stop`.
async fn others(
    config: RedisConfig,
    client: Client,
    applied: Arc<Last>,
    received: Arc<Last>,
    ready: oneshot::Sender<OnOthers>,
    stop: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let mut nodes = Vec::new();
    for n in 0..applied.all {
        let (store, transport) = ports(&config)?;
        let node = TieredCache::builder(NodeId::new(format!("n{n}"))?, store, transport, |entries| {
            PolicyKind::Sieve.family(entries)
        })
        .namespace::<Value>(NamespaceSettings::new(Namespace::new("bench")?))
        .observer(applied.clone())
        .start()?;
        anyhow::ensure!(node.sync(PATIENCE).await, "node {n} did not join");
        let bench = node.namespace("bench")?;
        nodes.push((node, bench));
    }
    let mut listeners = Vec::new();
    for _ in 0..received.all {
        listeners.push(listen(&client, Some(received.clone())).await?);
    }
    let _ = ready.send(nodes.clone());
    let _ = stop.await;
    for (node, _) in nodes {
        node.stop().await;
    }
    Ok(())
}

/// A push connection. A message says which it is in its first bytes.
async fn listen(client: &Client, last: Option<Arc<Last>>) -> anyhow::Result<MultiplexedConnection> {
    let sink = move |push: PushInfo| {
        if push.kind == PushKind::Message
            && let (Some(last), Some(bb8_redis::redis::Value::BulkString(message))) =
                (&last, push.data.last())
            && let Some((number, _)) = message.split_first_chunk()
        {
            last.hears(u64::from_be_bytes(*number));
        }
        Ok::<(), std::io::Error>(())
    };
    let listening = AsyncConnectionConfig::new().set_push_sender(sink);
    let mut listener = client.get_multiplexed_async_connection_with_config(&listening).await?;
    listener.subscribe("bare").await?;
    Ok(listener)
}

/// When the last one had it.
async fn until_last(heard: &mut mpsc::Receiver<(u64, Instant)>, what: u64) -> anyhow::Result<Instant> {
    loop {
        let told = tokio::time::timeout(PATIENCE, heard.recv()).await?;
        let (which, at) = told.ok_or_else(|| anyhow::anyhow!("the other side is gone"))?;
        if which == what {
            return Ok(at);
        }
    }
}

/// Something to drop on all nodes, and a proof that it is there.
async fn refill(bench: &TypedCache<Value>, key: &Key, others: &OnOthers, n: usize) -> anyhow::Result<()> {
    let written = bench.put(key, value(n)).await?;
    for (node, on_node) in others {
        anyhow::ensure!(node.reached(&written.token, PATIENCE).await, "{} hears of the put", node.node());
        let held = on_node.get(key).await?.is_some() && on_node.resident(key).is_some();
        anyhow::ensure!(held, "{} has a copy", node.node());
    }
    Ok(())
}

/// Both with so many receivers.
async fn compare(receivers: usize) -> anyhow::Result<()> {
    let server = RedisServer::start();
    let mut config = RedisConfig::from_url(&server.url())?;
    // What a stall of the machine does is not what is measured.
    config.operation_timeout = Duration::from_secs(5);
    config.control_timeout = Duration::from_secs(5);
    let client = Client::open(format!("{}/?protocol=resp3", server.url().trim_end_matches('/')))?;
    let (store, transport) = ports(&config)?;
    let (a, bench) = node("a", store, transport, 10_000).await?;
    let _first = listen(&client, None).await?;
    let ((last, mut applied), (last_bare, mut received)) = (Last::new(receivers), Last::new(receivers));
    let (ready, is_ready) = oneshot::channel();
    let (id, their_thread) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = oneshot::channel();
    let other = others(config, client.clone(), last, last_bare, ready, stopped);
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        id.send(this_thread())?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(other)
    });
    let others = is_ready.await?;
    let mut publisher = client.get_multiplexed_async_connection().await?;
    pin(server.pid().ok_or_else(|| anyhow::anyhow!("the server is gone"))?, 0)?;
    pin(their_thread.recv()?, 1)?;

    let samples = if quick() { 20 } else { 1_000 };
    let key = bench.key("the-key")?;
    let mut rows: [Vec<f64>; 4] = Default::default();
    let mut payload = vec![7_u8; wire::HINT_PREFIX_BYTES + 110];
    let mut number = 0_u64;
    for round in 0..rounds() {
        let (mut bare, mut engine) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            number += 1;
            payload[..8].copy_from_slice(&number.to_be_bytes());
            let began = now();
            let _: u64 = cmd("PUBLISH").arg("bare").arg(&payload).query_async(&mut publisher).await?;
            bare.push(until_last(&mut received, number).await?.duration_since(began));
        }
        for n in 0..samples {
            if n % 100 == 0 {
                refill(&bench, &key, &others, round + n).await?;
            }
            let began = now();
            let written = bench.invalidate(&key, "bench").await?;
            let at = written
                .token
                .positions_in(Partition(0))
                .next()
                .ok_or_else(|| anyhow::anyhow!("no position"))?;
            engine.push(until_last(&mut applied, at.seq).await?.duration_since(began));
        }
        for (at, samples) in [bare, engine].into_iter().enumerate() {
            let mut us: Vec<f64> = samples.iter().map(|took| took.as_secs_f64() * 1e6).collect();
            rows[at].push(quantile(&mut us, 0.5));
            rows[at + 2].push(quantile(&mut us, 0.99));
        }
    }
    anyhow::ensure!(
        others.iter().all(|(_, on_node)| on_node.resident(&key).is_none()),
        "all have dropped their copy"
    );
    let [bare50, engine50, bare99, engine99] = rows.map(|mut row| median(&mut row));
    println!("| {receivers}, p50 | {bare50:.0} µs | {engine50:.0} µs | {:.2} |", engine50 / bare50);
    println!("| {receivers}, p99 | {bare99:.0} µs | {engine99:.0} µs | {:.2} |", engine99 / bare99);
    a.stop().await;
    let _ = stop.send(());
    thread.join().map_err(|_| anyhow::anyhow!("the other side panicked"))?
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    anyhow::ensure!(
        std::thread::available_parallelism()?.get() > 1,
        "this needs two cores: one for the writer, one for all others"
    );
    pin(std::process::id(), 0)?;
    println!("| other nodes | bare PUBLISH, to the last | invalidate → dropped by the last | ratio |");
    println!("|---|---|---|---|");
    // Or as many as are named, to look closer.
    let named: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let counts = if named.is_empty() { vec![1, 16, 64] } else { named };
    for receivers in counts {
        compare(receivers).await?;
    }
    Ok(())
}
