//! From an invalidation on one node to its drop on another, against a bare PUBLISH and its receipt with the same client.
//!
//! Both are timed from before the call to the moment at which the receiving side has it (the engine: after the entry was
//! dropped). Both have two subscribers, of which the second is timed, since node A hears its own hints too; in both the
//! second one lives in a thread and runtime of its own, as nodes do. One after the other, rounds of both alternate,
//! medians of the rounds are compared.

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
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(5);

/// Notes when node B had applied an event, and how long its envelope is.
struct Watch {
    told: mpsc::Sender<(Position, Instant)>,
}

impl Observer for Watch {
    fn applied(&self, _: Partition, position: Position, _: &CacheEvent) {
        let _ = self.told.try_send((position, now()));
    }
}

/// A push connection that tells when a message came.
async fn listen(
    client: &Client,
    told: Option<mpsc::Sender<Instant>>,
) -> anyhow::Result<MultiplexedConnection> {
    let sink = move |push: PushInfo| {
        if push.kind == PushKind::Message
            && let Some(told) = &told
        {
            let _ = told.try_send(now());
        }
        Ok::<(), std::io::Error>(())
    };
    let listening = AsyncConnectionConfig::new().set_push_sender(sink);
    let mut listener = client.get_multiplexed_async_connection_with_config(&listening).await?;
    listener.subscribe("bare").await?;
    Ok(listener)
}

/// The other side: node B and the bare listener, until `stop`.
async fn other_side(
    config: RedisConfig,
    client: Client,
    applied: mpsc::Sender<(Position, Instant)>,
    received: mpsc::Sender<Instant>,
    ready: oneshot::Sender<TieredCache>,
    stop: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let (store, transport) = ports(&config)?;
    let b = TieredCache::builder(NodeId::new("b")?, store, transport, |entries| {
        PolicyKind::Sieve.family(entries)
    })
    .namespace::<Value>(NamespaceSettings::new(Namespace::new("bench")?))
    .observer(Arc::new(Watch { told: applied }))
    .start()?;
    anyhow::ensure!(b.sync(PATIENCE).await, "node b did not join");
    let _listener = listen(&client, Some(received)).await?;
    let _ = ready.send(b.clone());
    let _ = stop.await;
    b.stop().await;
    Ok(())
}

/// What both ways need on this side.
struct Sides {
    bench: TypedCache<Value>,
    key: Key,
    b: TieredCache,
    on_b: TypedCache<Value>,
    publisher: MultiplexedConnection,
    applied: mpsc::Receiver<(Position, Instant)>,
    received: mpsc::Receiver<Instant>,
}

impl Sides {
    /// A bare message, until its receipt.
    async fn message(&mut self, payload: &[u8]) -> anyhow::Result<Duration> {
        let began = now();
        let _: u64 = cmd("PUBLISH").arg("bare").arg(payload).query_async(&mut self.publisher).await?;
        let at = tokio::time::timeout(PATIENCE, self.received.recv()).await?;
        Ok(at.ok_or_else(|| anyhow::anyhow!("the listener is gone"))?.duration_since(began))
    }

    /// An invalidation, until B has dropped the key.
    async fn invalidation(&mut self) -> anyhow::Result<Duration> {
        while self.applied.try_recv().is_ok() {}
        let began = now();
        let written = self.bench.invalidate(&self.key, "bench").await?;
        let position = written.token.positions_in(Partition(0)).next();
        loop {
            let told = tokio::time::timeout(PATIENCE, self.applied.recv()).await?;
            let (at, when) = told.ok_or_else(|| anyhow::anyhow!("node b is gone"))?;
            if Some(at) == position {
                anyhow::ensure!(self.on_b.resident(&self.key).is_none(), "b has dropped its copy");
                return Ok(when.duration_since(began));
            }
        }
    }

    /// Something to drop, and a proof that it is dropped.
    async fn refill(&self, n: usize) -> anyhow::Result<()> {
        let written = self.bench.put(&self.key, value(n)).await?;
        anyhow::ensure!(self.b.reached(&written.token, PATIENCE).await, "b hears of the put");
        let held = self.on_b.get(&self.key).await?.is_some() && self.on_b.resident(&self.key).is_some();
        anyhow::ensure!(held, "b has a copy");
        Ok(())
    }

    /// Rounds of both, and the rows that they make.
    async fn compare(&mut self, placed: &str) -> anyhow::Result<()> {
        let payload = vec![7_u8; wire::HINT_PREFIX_BYTES + 110];
        let samples = if quick() { 100 } else { 3_000 };
        let mut rows: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds() {
            let (mut bare, mut engine) = (Vec::new(), Vec::new());
            for _ in 0..samples {
                bare.push(self.message(&payload).await?);
            }
            for n in 0..samples {
                if n % 100 == 0 {
                    self.refill(n).await?;
                }
                engine.push(self.invalidation().await?);
            }
            for (at, samples) in [bare, engine].into_iter().enumerate() {
                let mut us: Vec<f64> = samples.iter().map(|took| took.as_secs_f64() * 1e6).collect();
                rows[at].push(quantile(&mut us, 0.5));
                rows[at + 2].push(quantile(&mut us, 0.99));
            }
        }
        let [bare50, engine50, bare99, engine99] = rows.map(|mut row| median(&mut row));
        println!("| p50, {placed} | {bare50:.1} µs | {engine50:.1} µs | {:.2} |", engine50 / bare50);
        println!("| p99, {placed} | {bare99:.1} µs | {engine99:.1} µs | {:.2} |", engine99 / bare99);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = RedisServer::start();
    let config = RedisConfig::from_url(&server.url())?;
    let client = Client::open(format!("{}/?protocol=resp3", server.url().trim_end_matches('/')))?;
    let (store, transport) = ports(&config)?;
    let (a, bench) = node("a", store, transport, 10_000).await?;
    let _first = listen(&client, None).await?;
    let (told, applied) = mpsc::channel(64);
    let (pushed, received) = mpsc::channel::<Instant>(64);
    let (ready, is_ready) = oneshot::channel();
    let (id, b_thread) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = oneshot::channel();
    let other = other_side(config.clone(), client.clone(), told, pushed, ready, stopped);
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        id.send(this_thread())?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(other)
    });
    let b = is_ready.await?;
    let b_thread = b_thread.recv()?;
    let on_b = b.namespace::<Value>("bench")?;
    let publisher = client.get_multiplexed_async_connection().await?;

    let key = bench.key("the-key")?;
    let mut sides = Sides { bench, key, b, on_b, publisher, applied, received };

    println!("| propagation | bare PUBLISH | invalidate → dropped | ratio |");
    println!("|---|---|---|---|");
    sides.compare("as the scheduler places them").await?;
    // Each side has a core of its own, as nodes do; the server shares that of the writer, which waits for it anyway.
    // Otherwise it is mostly the scheduler's choice of a core for the receiver that is measured.
    if std::thread::available_parallelism()?.get() > 1 {
        let server_pid = server.pid().ok_or_else(|| anyhow::anyhow!("the server is gone"))?;
        pin(server_pid, 0)?;
        pin(std::process::id(), 0)?;
        pin(b_thread, 1)?;
        sides.compare("a core for each side").await?;
    }
    a.stop().await;
    let _ = stop.send(());
    thread.join().map_err(|_| anyhow::anyhow!("the other side panicked"))??;
    Ok(())
}
