//! What happens during a run: one feeder, readers on every node, bookings, and the judging of each read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache_events::{Partition, Position};
use cache_marketplace::{
    BookOutcome, BookingRequest, CancelOutcome, Committed, Ledger, LedgerError, MarketError, OfferRow,
};
use cache_tiered::Tier;
use cache_tiered::staleness::StalenessChecker;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::offered::{Group, Offered};
use super::source::Feed;
use super::world::{Node, World};
use super::zipf::Zipf;
use super::{DemoArgs, Speed, stopwatch};

/// The staleness bound of the namespaces, and the error of the coarse clock on top.
const BOUND: Duration = Duration::from_millis(2_010);
/// How long readers go on after the last event: two bounds.
const AFTERMATH: Duration = Duration::from_secs(4);
/// Announcements under way at a time.
const ANNOUNCING_MAX: usize = 32;
/// Reads between two pauses of a reader, so that readers do not take the processor from the nodes.
const BURST: usize = 10;
const PAUSE: Duration = Duration::from_millis(1);
/// One read in so many is followed by a booking or a cancellation.
const READS_PER_BOOKING: u32 = 1_000;
const ZIPF: f64 = 0.99;
const HOUR_MS: u64 = 3_600_000;

/// What a run has counted, for the audit.
pub(crate) struct Driven {
    pub(crate) began: Instant,
    pub(crate) acked: Vec<(Partition, Position)>,
    pub(crate) events: u64,
    pub(crate) reads: u64,
    pub(crate) stale_reads: u64,
    pub(crate) max_staleness_us: u64,
    pub(crate) l1_ns: Histogram<u64>,
    pub(crate) l2_ns: Histogram<u64>,
    pub(crate) by_tier: [u64; 3],
    pub(crate) attempted: u64,
    pub(crate) created: u64,
    pub(crate) conflicts: u64,
    pub(crate) errors: u64,
    pub(crate) bad_lines: u64,
}

/// What feeder and readers share.
struct Stage {
    began: Instant,
    checker: StalenessChecker,
    ledger: Arc<dyn Ledger>,
    /// The time of the feed, where that is the ledger's: 0 = the ledger has the time of the machine.
    feed_time: AtomicU64,
    propagation: Arc<super::propagation::Propagation>,
    /// What readers may ask for; grows with the feed.
    offered: RwLock<Arc<Offered>>,
    /// Where each provider's GPUs of a model stand.
    regions: RwLock<HashMap<Group, String>>,
    acked: Mutex<Acked>,
    errors: AtomicU64,
    last_error: Mutex<Option<String>>,
    over: AtomicBool,
}

#[derive(Default)]
struct Acked {
    positions: Vec<(Partition, Position)>,
    events: u64,
}

impl Stage {
    fn now_us(&self) -> u64 {
        stopwatch().saturating_duration_since(self.began).as_micros() as u64
    }

    fn error(&self, error: &dyn std::fmt::Display) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        *self.last_error.lock() = Some(error.to_string());
    }

    /// Announces a commit from a node; once acknowledged, nothing older may be seen for longer than the bound.
    async fn announce(&self, node: &Node, committed: &Committed) {
        let called = stopwatch();
        match node.market.announce(committed).await {
            Err(error) => self.error(&error),
            Ok(written) => {
                let at = self.now_us();
                let offered = self.offered.read().clone();
                let touched = offered.keys_of(&committed.event, &self.regions.read());
                for key in &touched {
                    self.checker.acked(key, committed.version, at);
                }
                for position in written.token.positions() {
                    self.propagation.acked(position, called);
                }
                node.watch.acked();
                let mut acked = self.acked.lock();
                acked.events += 1;
                acked.positions.extend(written.token.positions());
            }
        }
    }

    /// Shows readers what the ledger has by now.
    async fn refresh_offered(&self) -> Result<(), MarketError> {
        let known = self.offered.read().clone();
        if let Some(offered) = Offered::of(&*self.ledger, &known).await? {
            *self.offered.write() = Arc::new(offered);
        }
        Ok(())
    }

    /// Takes what the ledger committed, or counts the error.
    fn take(&self, sum: &mut Vec<Committed>, committed: Result<Vec<Committed>, LedgerError>) {
        match committed {
            Ok(committed) => sum.extend(committed),
            Err(error) => self.error(&error),
        }
    }

    /// The time of the ledger.
    fn ledger_time(&self, node: &Node) -> u64 {
        match self.feed_time.load(Ordering::Relaxed) {
            0 => node.market.cache().clock().wall(),
            time => time,
        }
    }
}

/// Runs feeder and readers until the time is over and its aftermath has passed.
pub(crate) async fn drive(args: &DemoArgs, world: &World, feed: Feed, progress: &ProgressBar) -> Driven {
    let stage = Arc::new(Stage {
        began: stopwatch(),
        checker: StalenessChecker::new(BOUND.as_micros() as u64),
        ledger: world.ledger.clone(),
        feed_time: AtomicU64::new(0),
        propagation: world.propagation.clone(),
        offered: RwLock::default(),
        regions: RwLock::default(),
        acked: Mutex::default(),
        errors: AtomicU64::new(0),
        last_error: Mutex::new(None),
        over: AtomicBool::new(false),
    });
    let mut readers = JoinSet::new();
    for (index, node) in world.nodes.iter().enumerate() {
        for reader in 0..args.readers {
            let seed = args.seed ^ ((index as u64) << 32 | u64::from(reader) << 16 | 1);
            readers.spawn(Reader::new(stage.clone(), node.clone(), seed).run());
        }
    }
    let bad_lines = play_feed(args, world, &stage, feed, progress).await;
    progress.set_message("readers go on for two bounds after the last event");
    tokio::time::sleep(AFTERMATH).await;
    stage.over.store(true, Ordering::Relaxed);
    let mut sums = Counts::new();
    while let Some(counts) = readers.join_next().await {
        match counts {
            Ok(counts) => sums.add(&counts),
            Err(error) => stage.error(&error),
        }
    }
    if let Some(error) = stage.last_error.lock().take() {
        eprintln!("{} errors, the last: {error}", stage.errors.load(Ordering::Relaxed));
    }
    let acked = std::mem::take(&mut *stage.acked.lock());
    Driven {
        began: stage.began,
        acked: acked.positions,
        events: acked.events,
        reads: sums.by_tier.iter().sum(),
        stale_reads: sums.stale,
        max_staleness_us: sums.max_staleness_us,
        l1_ns: sums.l1_ns,
        l2_ns: sums.l2_ns,
        by_tier: sums.by_tier,
        attempted: sums.attempted,
        created: sums.created,
        conflicts: sums.conflicts,
        errors: stage.errors.load(Ordering::Relaxed),
        bad_lines,
    }
}

/// Commits row by row, in order, and announces from one node after the other.
async fn play_feed(
    args: &DemoArgs,
    world: &World,
    stage: &Arc<Stage>,
    mut feed: Feed,
    progress: &ProgressBar,
) -> u64 {
    let announcing = Arc::new(Semaphore::new(ANNOUNCING_MAX));
    let mut announcements = JoinSet::new();
    let (end, mut rows, mut second) = (Duration::from_secs(args.seconds), 0_u64, 0);
    loop {
        let elapsed = stopwatch().saturating_duration_since(stage.began);
        if elapsed >= end && !args.once {
            break;
        }
        if let Speed::PerSecond(speed) = args.speed {
            let due = Duration::from_secs_f64(rows as f64 / f64::from(speed));
            if due > elapsed {
                let pause = due - elapsed;
                tokio::time::sleep(if args.once { pause } else { pause.min(end - elapsed) }).await;
                continue;
            }
        }
        let Some(OfferRow { observed_at, offer }) = feed.next() else { break };
        let node = &world.nodes[rows as usize % world.nodes.len()];
        // Of a feed that is replayed once, its own time passes, with all that it brings about.
        let step = args.once && stage.feed_time.swap(observed_at, Ordering::Relaxed) != observed_at;
        let now = stage.ledger_time(node);
        let mut committed = Vec::new();
        if step || elapsed.as_secs() > second {
            second = elapsed.as_secs();
            progress.set_position(second);
            progress.set_message(format!("{} events acknowledged", stage.acked.lock().events));
            stage.take(&mut committed, stage.ledger.pass_time(now).await);
        }
        let group = (offer.provider.clone(), offer.gpu_model.clone());
        stage.regions.write().insert(group, offer.region.clone());
        stage.take(&mut committed, stage.ledger.set_offers(offer, now).await);
        rows += 1;
        if rows < 100 || rows.is_multiple_of(100) {
            let _ = stage.refresh_offered().await.inspect_err(|error| stage.error(error));
        }
        for committed in committed {
            let Ok(permit) = announcing.clone().acquire_owned().await else { break };
            let (stage, node) = (stage.clone(), node.clone());
            announcements.spawn(async move {
                stage.announce(&node, &committed).await;
                drop(permit);
            });
        }
        while announcements.try_join_next().is_some() {}
    }
    while announcements.join_next().await.is_some() {}
    feed.bad_lines
}

/// What one reader counts.
struct Counts {
    by_tier: [u64; 3],
    stale: u64,
    max_staleness_us: u64,
    l1_ns: Histogram<u64>,
    l2_ns: Histogram<u64>,
    attempted: u64,
    created: u64,
    conflicts: u64,
}

impl Counts {
    fn new() -> Self {
        let histogram = || {
            let bounded = Histogram::new_with_bounds(1, 60_000_000_000, 3);
            bounded.unwrap_or_else(|_| unreachable!("constant bounds are valid"))
        };
        let (l1_ns, l2_ns) = (histogram(), histogram());
        let (attempted, created, conflicts) = (0, 0, 0);
        Self { by_tier: [0; 3], stale: 0, max_staleness_us: 0, l1_ns, l2_ns, attempted, created, conflicts }
    }

    fn add(&mut self, other: &Self) {
        (0..3).for_each(|tier| self.by_tier[tier] += other.by_tier[tier]);
        self.stale += other.stale;
        self.max_staleness_us = self.max_staleness_us.max(other.max_staleness_us);
        // Bounds are the same everywhere, so adding cannot fail.
        let _ = self.l1_ns.add(&other.l1_ns);
        let _ = self.l2_ns.add(&other.l2_ns);
        self.attempted += other.attempted;
        self.created += other.created;
        self.conflicts += other.conflicts;
    }
}

struct Reader {
    stage: Arc<Stage>,
    node: Node,
    random: fastrand::Rng,
    offered: Arc<Offered>,
    gpus: Zipf,
    markets: Zipf,
    bookings: Vec<(String, String)>,
    counts: Counts,
}

impl Reader {
    fn new(stage: Arc<Stage>, node: Node, seed: u64) -> Self {
        Self {
            stage,
            node,
            random: fastrand::Rng::with_seed(seed),
            offered: Arc::default(),
            gpus: Zipf::new(1, ZIPF),
            markets: Zipf::new(1, ZIPF),
            bookings: Vec::new(),
            counts: Counts::new(),
        }
    }

    async fn run(mut self) -> Counts {
        while !self.stage.over.load(Ordering::Relaxed) {
            let offered = self.stage.offered.read().clone();
            if !Arc::ptr_eq(&offered, &self.offered) {
                self.gpus = Zipf::new(offered.gpus.len(), ZIPF);
                self.markets = Zipf::new(offered.markets.len(), ZIPF);
                self.offered = offered;
            }
            if !self.offered.gpus.is_empty() && !self.offered.markets.is_empty() {
                for _ in 0..BURST {
                    self.read().await;
                    if self.random.u32(..READS_PER_BOOKING) == 0 {
                        self.book_or_cancel().await;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.counts
    }

    /// One read, timed and judged.
    async fn read(&mut self) {
        let offered = self.offered.clone();
        let kind = self.random.u8(..4);
        let (market, price_key, availability_key) = &offered.markets[self.markets.draw(&mut self.random)];
        let gpu_key = &offered.gpus[self.gpus.draw(&mut self.random)];
        let (began_us, began) = (self.stage.now_us(), stopwatch());
        let (key, seen) = match kind {
            0 => {
                (price_key, self.node.market.price(market).await.map(|answer| (answer.version, answer.tier)))
            }
            1 => {
                let read = self.node.market.availability(market).await;
                (availability_key, read.map(|answer| (answer.version, answer.tier)))
            }
            _ => {
                (gpu_key, self.node.market.gpu_at(gpu_key).await.map(|answer| (answer.version, answer.tier)))
            }
        };
        let took = stopwatch().saturating_duration_since(began).as_nanos() as u64;
        let (version, tier) = match seen {
            Ok(seen) => seen,
            Err(error) => return self.stage.error(&error),
        };
        match tier {
            Tier::L1 => self.counts.l1_ns.saturating_record(took),
            Tier::L2 => self.counts.l2_ns.saturating_record(took),
            Tier::Source => {}
        }
        self.counts.by_tier[tier as usize] += 1;
        let staleness = self.stage.checker.staleness(key, version, began_us);
        self.counts.max_staleness_us = self.counts.max_staleness_us.max(staleness);
        self.counts.stale += u64::from(self.stage.checker.is_stale(staleness));
    }

    async fn book_or_cancel(&mut self) {
        if !self.bookings.is_empty() && self.random.u8(..10) < 3 {
            let (booking_id, gpu_id) = self.bookings.swap_remove(self.random.usize(..self.bookings.len()));
            match self.stage.ledger.cancel(&booking_id, &gpu_id, self.stage.ledger_time(&self.node)).await {
                Ok(CancelOutcome::Cancelled { committed, .. }) => {
                    self.stage.announce(&self.node, &committed).await;
                }
                Ok(_) => {}
                Err(error) => self.stage.error(&error),
            }
            return;
        }
        let now = self.stage.ledger_time(&self.node);
        let start_time = now + self.random.u64(0..4) * HOUR_MS;
        let request = BookingRequest {
            booking_id: format!("b-{:016x}", self.random.u64(..)),
            gpu_id: self.offered.gpus[self.gpus.draw(&mut self.random)].resource().to_owned(),
            user_id: format!("user-{}", self.random.u16(..500)),
            start_time,
            end_time: start_time + self.random.u64(1..=8) * HOUR_MS,
        };
        self.counts.attempted += 1;
        let (booking_id, gpu_id) = (request.booking_id.clone(), request.gpu_id.clone());
        match self.stage.ledger.book(request, now).await {
            Ok(BookOutcome::Booked { committed, .. }) => {
                self.counts.created += 1;
                self.bookings.push((booking_id, gpu_id));
                self.stage.announce(&self.node, &committed).await;
            }
            Ok(_) => self.counts.conflicts += 1,
            Err(error) => self.stage.error(&error),
        }
    }
}
