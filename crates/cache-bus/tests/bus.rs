//! The async shell over a transport of the test, in paused time.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_bus::{
    Bus, BusConfig, FlushCause, GroupStamp, Hint, HintStream, LogEntry, Missed, Receiver, State, SyncAnswer,
    Transport, TransportError,
};
use cache_events::{CacheEvent, Clock, Namespace, NodeId, Partition, Position, Scope, wire};
use parking_lot::Mutex;
use tokio::sync::mpsc;

const P: Partition = Partition(0);
const SERVER_AHEAD: u64 = 90_000;

/// Shows the runtime's paused time.
struct RuntimeClock {
    start: tokio::time::Instant,
    rebased: AtomicU64,
}

impl RuntimeClock {
    #[expect(clippy::disallowed_methods, reason = "the clock of these tests")]
    fn new() -> Arc<Self> {
        Arc::new(Self { start: tokio::time::Instant::now(), rebased: AtomicU64::new(0) })
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }
    fn wall(&self) -> u64 {
        self.now() + 1_000_000
    }
    fn rebase(&self) {
        self.rebased.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Up,
    Refusing,
    BlackHole,
    Fenced,
}

/// One log, hints that can be lost, and every kind of silence.
struct Server {
    clock: Arc<RuntimeClock>,
    state: Mutex<Log>,
    syncs: AtomicU64,
    /// How long opening a subscription takes, from the beginning each time.
    opening_ms: AtomicU64,
    /// Attempts to open one; each that is under way holds this; the most at a time.
    attempts: AtomicU64,
    under_way: Arc<()>,
    most_at_a_time: AtomicUsize,
}

struct Log {
    mode: Mode,
    head: Position,
    entries: Vec<Bytes>,
    listeners: Vec<mpsc::Sender<Hint>>,
}

struct Stream(mpsc::Receiver<Hint>);

#[async_trait]
impl HintStream for Stream {
    async fn next(&mut self) -> Hint {
        self.0.recv().await.unwrap_or_else(|| Hint::Closed("cut".into()))
    }
}

impl Server {
    fn new(clock: &Arc<RuntimeClock>, mode: Mode) -> Arc<Self> {
        let log = Log { mode, head: Position::new(7, 0), entries: Vec::new(), listeners: Vec::new() };
        Arc::new(Self {
            clock: Arc::clone(clock),
            state: Mutex::new(log),
            syncs: AtomicU64::new(0),
            opening_ms: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            under_way: Arc::default(),
            most_at_a_time: AtomicUsize::new(0),
        })
    }

    fn set(&self, mode: Mode) {
        self.state.lock().mode = mode;
    }

    /// Appends an event; its hint goes to everyone, or nobody hears it.
    fn append(&self, heard: bool) -> Position {
        let mut log = self.state.lock();
        log.head = log.head.next();
        let event = cache_testkit::event(vec![Scope::Namespace(Namespace::new("things").unwrap())]);
        let payload = Bytes::from(wire::encode(&event).unwrap());
        log.entries.push(payload.clone());
        if heard {
            let position = log.head;
            log.tell(&Hint::Event { partition: P, position, payload });
        }
        log.head
    }

    fn append_many(&self, count: u32, heard: bool) -> Position {
        (0..count).fold(Position::ZERO, |_, _| self.append(heard))
    }

    fn tell(&self, hint: &Hint) {
        self.state.lock().tell(hint);
    }

    fn cut(&self) {
        self.state.lock().listeners.clear();
    }

    /// Waits as the mode says; `Err` is what it answers then.
    async fn answer_or(&self) -> Result<(), TransportError> {
        let mode = self.state.lock().mode;
        match mode {
            Mode::Up => Ok(()),
            Mode::Refusing => Err(TransportError::Unavailable { message: "refused".into() }),
            Mode::BlackHole => std::future::pending().await,
            Mode::Fenced => Err(TransportError::Fenced { message: "4 partitions, not 1".into() }),
        }
    }
}

impl Log {
    fn tell(&mut self, hint: &Hint) {
        self.listeners.retain(|listener| listener.try_send(hint.clone()).is_ok());
    }
}

#[async_trait]
impl Transport for Server {
    fn partitions(&self) -> u32 {
        1
    }
    fn kind(&self) -> &'static str {
        "test"
    }
    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let under_way = Arc::clone(&self.under_way);
        self.most_at_a_time.fetch_max(Arc::strong_count(&under_way) - 1, Ordering::Relaxed);
        self.answer_or().await?;
        tokio::time::sleep(ms(self.opening_ms.load(Ordering::Relaxed))).await;
        let (sender, stream) = mpsc::channel(8192);
        self.state.lock().listeners.push(sender);
        Ok(Box::new(Stream(stream)))
    }
    async fn sync(
        &self,
        _: Partition,
        _: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.answer_or().await?;
        let mut log = self.state.lock();
        if at.epoch > log.head.epoch {
            log.head = Position::new(at.epoch + 1, 0);
            log.entries.clear();
        }
        let missed = if at.epoch == log.head.epoch {
            let behind = log.entries.iter().enumerate().skip(at.seq as usize).take(max as usize);
            let entries = behind.map(|(index, payload)| LogEntry {
                position: Position::new(log.head.epoch, index as u64 + 1),
                payload: payload.clone(),
            });
            Missed::Entries(entries.collect())
        } else {
            Missed::Reset(Vec::new())
        };
        Ok(SyncAnswer { head: log.head, server_ms: self.clock.wall() + SERVER_AHEAD, missed })
    }
}

/// Notes what it is told.
#[derive(Default)]
struct Noted {
    applied: Mutex<BTreeSet<Position>>,
    flushes: Mutex<Vec<FlushCause>>,
    panic_at: Mutex<Option<Position>>,
}

impl Receiver for Noted {
    fn apply(&self, _: Partition, position: Position, _: &CacheEvent, _: bool) {
        let panics = self.panic_at.lock().take_if(|at| *at == position);
        assert_eq!(panics, None, "as the test wants");
        self.applied.lock().insert(position);
    }
    fn flush(&self, _: Partition, _: u64, _: &[GroupStamp], cause: FlushCause) {
        self.flushes.lock().push(cause);
    }
}

struct Scene {
    clock: Arc<RuntimeClock>,
    server: Arc<Server>,
    noted: Arc<Noted>,
    bus: Bus,
}

impl Scene {
    fn start(mode: Mode) -> Self {
        let clock = RuntimeClock::new();
        let (server, noted) = (Server::new(&clock, mode), Arc::new(Noted::default()));
        let node = NodeId::new("node").unwrap();
        let bus =
            Bus::start(server.clone(), clock.clone(), node, noted.clone(), BusConfig::default()).unwrap();
        Self { clock, server, noted, bus }
    }

    async fn live() -> Self {
        let scene = Self::start(Mode::Up);
        scene.until(100, |scene| scene.state() == State::Live).await;
        scene
    }

    fn state(&self) -> State {
        self.bus.view().state(P)
    }

    /// Waits for a condition, at most `within` milliseconds of paused time.
    async fn until(&self, within: u64, condition: impl Fn(&Self) -> bool) {
        let last = self.clock.now() + within;
        while !condition(self) {
            assert!(self.clock.now() < last, "not within {within} ms: {:?}", self.bus.health());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_applied_before_the_cursor_shows_it() {
    let scene = Scene::live().await;
    let syncs = scene.server.syncs.load(Ordering::Relaxed);
    let position = scene.server.append(true);
    assert!(scene.bus.reached(P, position, ms(1)).await);
    assert!(scene.noted.applied.lock().contains(&position));
    assert_eq!(scene.server.syncs.load(Ordering::Relaxed), syncs, "without a sync");
    assert_eq!(scene.bus.view().counters().applied, 1);
    assert_eq!(*scene.noted.flushes.lock(), [FlushCause::Joined]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_applied_completely_and_in_order() {
    let scene = Scene::live().await;
    let last = scene.server.append_many(5_000, true);
    assert!(scene.bus.reached(P, last, ms(10)).await);
    assert_eq!(scene.noted.applied.lock().len(), 5_000);
    assert_eq!(scene.bus.view().counters().hints, 5_000);
}

#[tokio::test(start_paused = true)]
async fn lost_hints_come_with_the_next_sync() {
    let scene = Scene::live().await;
    let lost = scene.server.append(false);
    assert!(scene.bus.reached(P, lost, ms(560)).await, "within a sync interval");
    let last = scene.server.append_many(2_500, false);
    assert!(scene.bus.reached(P, last, ms(570)).await, "in three answers that follow at once");
    let ahead = {
        scene.server.append(false);
        scene.server.append(true)
    };
    assert!(scene.bus.reached(P, ahead, ms(5)).await, "a gap is not left to the timer");
    assert_eq!(scene.noted.applied.lock().len() as u64, ahead.seq);
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_without_its_transport_and_joins_when_it_comes() {
    for mode in [Mode::Refusing, Mode::BlackHole] {
        let scene = Scene::start(mode);
        assert_eq!(scene.state(), State::Connecting);
        scene.until(2_200, |scene| scene.state() == State::Degraded).await;
        assert!(!scene.bus.sync(P, ms(300)).await);
        assert_eq!(scene.bus.view().fresh_as_of(P), 0);
        scene.server.set(Mode::Up);
        scene.until(1_100, |scene| scene.state() == State::Live).await;
        assert!(scene.bus.health().subscribed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_left_within_one_attempt_whenever_the_way_is_open_again() {
    for down_ms in (0..3_500).step_by(90) {
        let scene = Scene::live().await;
        scene.server.set(Mode::BlackHole);
        scene.server.cut();
        tokio::time::sleep(ms(down_ms + 5)).await;
        scene.server.set(Mode::Up);
        // One attempt of 400 ms that the hole has swallowed, and the pause before the next.
        scene.until(460, |scene| scene.bus.health().subscribed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_takes_long_gets_its_time_and_is_not_begun_anew() {
    let attempts = |scene: &Scene| scene.server.attempts.swap(0, Ordering::Relaxed);
    let scene = Scene::live().await;
    for (opening_ms, expected) in [(1_500, 1..=4), (300, 1..=1), (1_590, 1..=4)] {
        attempts(&scene);
        scene.server.opening_ms.store(opening_ms, Ordering::Relaxed);
        scene.server.cut();
        scene.until(10, |scene| scene.state() != State::Live).await;
        scene.until(opening_ms + 70, |scene| scene.state() == State::Live).await;
        let made = attempts(&scene);
        assert!(expected.contains(&made), "{made} attempts where opening takes {opening_ms} ms");
    }
    // And there is a bound: of time, and of attempts under way at a time.
    scene.server.opening_ms.store(60_000, Ordering::Relaxed);
    scene.server.cut();
    tokio::time::sleep(ms(20_000)).await;
    let made = attempts(&scene);
    assert!((44..=52).contains(&made), "{made} attempts in 20 s: four in 1,650 ms");
    assert_eq!(scene.server.most_at_a_time.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn silence_degrades_after_the_bound_and_a_blip_does_not_show() {
    let scene = Scene::live().await;
    scene.server.set(Mode::BlackHole);
    let fresh = scene.bus.view().fresh_as_of(P);
    tokio::time::sleep(ms(900)).await;
    scene.server.set(Mode::Up);
    scene.until(900, |scene| scene.bus.view().fresh_as_of(P) > fresh).await;
    assert!(scene.clock.now() <= fresh + 2_000, "the trust window never ran out");
    scene.until(600, |scene| scene.state() == State::Live).await;
    scene.server.set(Mode::BlackHole);
    let fresh = scene.bus.view().fresh_as_of(P);
    scene.until(2_600, |scene| scene.state() == State::Degraded).await;
    let since = scene.clock.now() - scene.bus.view().fresh_as_of(P).max(fresh);
    assert!((2_000..2_100).contains(&since), "{since} ms");
    assert!(scene.bus.view().counters().sync_failures > 0);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_ends_is_opened_again_and_synced_before_it_is_live() {
    let scene = Scene::live().await;
    scene.server.cut();
    scene.until(10, |scene| scene.state() == State::Connecting).await;
    let lost = scene.server.append(false);
    scene.until(100, |scene| scene.state() == State::Live).await;
    assert!(scene.bus.view().position(P) >= lost);
    let position = scene.server.append(true);
    assert!(scene.bus.reached(P, position, ms(1)).await, "the new subscription works");
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_says_why_and_comes_back_by_itself() {
    let scene = Scene::start(Mode::Fenced);
    scene.until(100, |scene| scene.state() == State::Fenced).await;
    assert_eq!(scene.bus.health().fenced.as_deref(), Some("4 partitions, not 1"));
    let syncs = scene.server.syncs.load(Ordering::Relaxed);
    tokio::time::sleep(ms(4_000)).await;
    assert!(scene.server.syncs.load(Ordering::Relaxed) <= syncs + 2, "it does not insist");
    scene.server.set(Mode::Up);
    scene.until(6_000, |scene| scene.state() == State::Live).await;
    assert_eq!(scene.bus.health().fenced, None);
}

#[tokio::test(start_paused = true)]
async fn syncs_that_are_asked_for_together_are_one() {
    let scene = Scene::live().await;
    let before = (scene.server.syncs.load(Ordering::Relaxed), scene.clock.now());
    let lost = scene.server.append(false);
    let calls: Vec<_> = (0..50).map(|_| scene.bus.sync(P, ms(300))).collect();
    for proven in join_all(calls).await {
        assert!(proven);
    }
    assert!(scene.bus.view().position(P) >= lost);
    assert!(scene.bus.view().fresh_as_of(P) >= before.1);
    let syncs = scene.server.syncs.load(Ordering::Relaxed) - before.0;
    assert!(
        (1..=2).contains(&syncs),
        "{syncs}: the first call's, and one for those that came while it was out"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_not_reached_in_time_is_told() {
    let scene = Scene::live().await;
    let head = scene.bus.view().position(P);
    assert!(!scene.bus.reached(P, head.next(), ms(700)).await);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_is_over_is_asked_for_once() {
    let scene = Scene::live().await;
    let syncs = || scene.server.syncs.load(Ordering::Relaxed);
    let earlier = Position::new(scene.bus.view().position(P).epoch - 1, 99);
    let before = syncs();
    assert!(scene.bus.reached(P, earlier, ms(100)).await, "an epoch that has passed");
    assert_eq!(syncs(), before + 1);
    assert!(scene.bus.view().shows(P, earlier));
    assert!(scene.bus.reached(P, earlier, ms(0)).await && scene.bus.shows(P, earlier, ms(0)).await);
    assert_eq!(syncs(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_of_a_lesser_number_may_be_the_later_one() {
    let scene = Scene::live().await;
    let node = scene.bus.view().position(P);
    // The server was put back, and its clock is behind: what it begins now has a number from before the node's.
    let written = Position::new(node.epoch - 3, 1);
    scene.server.state.lock().head = Position::new(written.epoch, 0);
    assert_eq!(scene.server.append(false), written);
    assert!(!scene.bus.view().shows(P, written), "nothing was heard of it");
    assert!(scene.bus.shows(P, written, ms(100)).await);
    // Asked by a node with the greater number, it began an epoch above that.
    assert_eq!(scene.bus.view().position(P), Position::new(node.epoch + 1, 0));
    assert_eq!(*scene.noted.flushes.lock(), [FlushCause::Joined, FlushCause::Epoch]);
}

#[tokio::test(start_paused = true)]
async fn own_writes_show_at_once() {
    let scene = Scene::live().await;
    let syncs = scene.server.syncs.load(Ordering::Relaxed);
    let own = scene.server.append(false);
    scene.bus.wrote(P, own);
    assert_eq!(scene.bus.view().position(P), own);
    scene.bus.wrote(P, own.next().next());
    tokio::task::yield_now().await;
    assert_eq!(scene.server.syncs.load(Ordering::Relaxed), syncs);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_panics_costs_a_flush_and_nothing_else() {
    let scene = Scene::live().await;
    let position = scene.server.append(false);
    *scene.noted.panic_at.lock() = Some(position);
    let payload = scene.server.state.lock().entries[0].clone();
    scene.server.tell(&Hint::Event { partition: P, position, payload });
    scene.until(5, |scene| scene.bus.view().fresh_as_of(P) == 0).await;
    scene.until(200, |scene| scene.bus.view().fresh_as_of(P) > 0).await;
    assert_eq!(*scene.noted.flushes.lock(), [FlushCause::Joined, FlushCause::Unreadable]);
    let next = scene.server.append(true);
    assert!(scene.bus.reached(P, next, ms(5)).await);
}

#[tokio::test(start_paused = true)]
async fn an_overflow_and_garbage_are_counted_and_synced() {
    let scene = Scene::live().await;
    for hint in [Hint::Overflow, Hint::Garbled] {
        let lost = scene.server.append(false);
        scene.server.tell(&hint);
        assert!(scene.bus.reached(P, lost, ms(5)).await, "{hint:?}");
    }
    let counters = scene.bus.view().counters();
    assert_eq!((counters.overflows, counters.garbled), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_not_heard_is_not_live() {
    let scene = Scene::live().await;
    for (hint, state) in [(Hint::Unheard(P), State::Connecting), (Hint::Heard(P), State::Live)] {
        scene.server.tell(&hint);
        scene.until(20, |scene| scene.bus.view().state(P) == state).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_clocks_are_compared_and_rebased() {
    let scene = Scene::live().await;
    let view = scene.bus.view();
    assert!(view.server_now(5_000).abs_diff(5_000 + SERVER_AHEAD) <= 1, "{:?}", view.clock_offset());
    tokio::time::sleep(ms(5_000)).await;
    assert!(scene.clock.rebased.load(Ordering::Relaxed) >= 10, "about every sync interval");
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_the_tasks_and_what_they_hold() {
    let scene = Scene::live().await;
    scene.server.set(Mode::BlackHole);
    tokio::time::sleep(ms(600)).await;
    scene.bus.stop().await;
    scene.bus.stop().await;
    let held_by_bus = Arc::strong_count(&scene.server);
    assert_eq!(held_by_bus, 2, "the test's and the handle's");
    let Scene { server, bus, .. } = scene;
    drop(bus);
    assert_eq!(Arc::strong_count(&server), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_is_refused() {
    let clock = RuntimeClock::new();
    let server = Server::new(&clock, Mode::Up);
    let config = BusConfig { staleness_bound: ms(1_000), ..BusConfig::default() };
    let node = NodeId::new("node").unwrap();
    assert!(Bus::start(server, clock, node, Arc::new(Noted::default()), config).is_err());
}

/// Polls all of them together; their results in order.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, result) in &mut waiting {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => *result = Some(output),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, result)| result).collect()
}
