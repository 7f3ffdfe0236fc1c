//! A pool of connections of which each serves many tasks at once.
//!
//! The pool of bb8 opens connections, counts them and throws broken ones away. But to check one out for each command
//! costs two turns at its lock, and while it is out nobody else has it. So each *lane* keeps one connection of the pool
//! for as long as that works, and tasks clone the client out of a lane: no lock is held and no connection taken while a
//! command is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bb8_redis::bb8::{self, ManageConnection, Pool, PooledConnection};
use bb8_redis::redis::{Cmd, RedisError, Value};
use cache_events::Partition;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::dial::{Dialer, Tally, Target};
use crate::fault::Fault;
use crate::link::Link;
use crate::scripts::Script;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Commands under way on a lane before the next lane is used as well.
///
/// The fewer connections, the more commands travel in one packet: 64 callers get 178,000 reads a second through one
/// lane, 148,000 through two that are used by turns (and Redis works 1.0 µs a read instead of 1.9). So further lanes are
/// for bursts, and for the time in which the first is being replaced.
pub(crate) const LANE_COMMANDS: usize = 256;

/// Opens connections for bb8.
pub(crate) struct Opener {
    dialer: Arc<Dialer>,
    target: Target,
    pacing: Arc<Pacing>,
}

impl ManageConnection for Opener {
    type Connection = Link;
    type Error = Fault;

    async fn connect(&self) -> Result<Link, Fault> {
        let opened = self.dialer.dial(&self.target, None).await;
        self.pacing.note(opened.as_ref().err());
        opened
    }

    /// No PING: the state of a link is known without asking.
    async fn is_valid(&self, link: &mut Link) -> Result<(), Fault> {
        match link.is_broken() {
            false => Ok(()),
            true => Err(Fault::NotDone("the connection is broken".into())),
        }
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_broken()
    }
}

/// Lanes to one master.
pub(crate) struct Lanes {
    dialer: Arc<Dialer>,
    pool: Pool<Opener>,
    pacing: Arc<Pacing>,
    lanes: Box<[Lane]>,
    timeout: Duration,
}

/// One command to one master.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    /// For messages.
    pub(crate) what: &'a str,
    pub(crate) cmd: &'a Cmd,
    /// What it calls, if it calls a script.
    pub(crate) script: Option<&'a Script>,
    pub(crate) partition: Partition,
    /// Say hello to the partition first, where the connection has not done so yet.
    pub(crate) greet: bool,
    /// The node is only just taking the slot over.
    pub(crate) asking: bool,
}

#[derive(Default)]
struct Lane {
    link: RwLock<Option<Link>>,
    in_flight: AtomicUsize,
    /// Held by the one task that opens the lane. In it the connection stays checked out of the pool.
    opening: tokio::sync::Mutex<Option<PooledConnection<'static, Opener>>>,
}

/// Tells the waiters when opening failed (bb8 would let them wait until their time is over), and lets some time pass
/// before the next attempt. Attempts go on when all who waited for them have given up, so this is noted where they end.
struct Pacing {
    failed: watch::Sender<Option<Fault>>,
    pause: Mutex<Option<Pause>>,
}

struct Pause {
    until: Instant,
    length: Duration,
    because: Fault,
}

impl Pacing {
    /// After a failure the pause doubles, with jitter, so that a fleet does not come back in step.
    #[expect(clippy::disallowed_methods, reason = "paces connecting; no decision about data depends on it")]
    fn note(&self, fault: Option<&Fault>) {
        let mut pause = self.pause.lock();
        let Some(fault) = fault else {
            *pause = None;
            return;
        };
        let length = pause.as_ref().map_or(BACKOFF_MIN, |pause| (pause.length * 2).min(BACKOFF_MAX));
        let jittered = length.mul_f64(0.75 + 0.5 * fastrand::f64());
        *pause = Some(Pause { until: Instant::now() + jittered, length, because: fault.clone() });
        drop(pause);
        self.failed.send_replace(Some(fault.clone()));
    }

    /// Why nobody should try now.
    #[expect(clippy::disallowed_methods, reason = "paces connecting; no decision about data depends on it")]
    fn paused(&self) -> Option<Fault> {
        let pause = self.pause.lock();
        pause.as_ref().filter(|pause| Instant::now() < pause.until).map(|pause| pause.because.clone())
    }

    /// The next failure from now on.
    async fn next_failure(&self) -> Fault {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as `self`.
        let _ = failed.changed().await;
        failed.borrow().clone().unwrap_or_else(|| Fault::NotDone("no connection".into()))
    }
}

impl Lanes {
    pub(crate) fn new(dialer: Arc<Dialer>, target: Target, count: u32, timeout: Duration) -> Self {
        let pacing = Arc::new(Pacing { failed: watch::channel(None).0, pause: Mutex::new(None) });
        let connect = dialer.config.connect_timeout;
        let pool = Pool::builder()
            .max_size(count)
            .min_idle(None)
            .max_lifetime(None)
            .idle_timeout(None)
            .retry_connection(false)
            .test_on_check_out(true)
            // The dialer has this limit for itself; a margin, so that its error comes first.
            .connection_timeout(connect + Duration::from_millis(500))
            .build_unchecked(Opener { dialer: dialer.clone(), target, pacing: pacing.clone() });
        Self { dialer, pool, pacing, lanes: (0..count).map(|_| Lane::default()).collect(), timeout }
    }

    /// Sends a command that is about no partition.
    pub(crate) async fn run(&self, what: &str, cmd: &Cmd) -> Result<Value, Fault> {
        let send = async |link: &Link| link.send(cmd).await.map_err(|error| Fault::of_command(&error));
        self.limited(what, send).await
    }

    /// Takes a step; loads its script first if the server has forgotten it, once.
    pub(crate) async fn step(&self, step: Step<'_>) -> Result<Value, Fault> {
        let in_cluster = self.dialer.slots.is_some();
        self.limited(step.what, async |link| {
            if in_cluster && step.greet && !link.has_greeted(step.partition) {
                self.dialer.greet(link, step.partition, step.asking).await?;
            }
            let mut answer = send(link, &step).await;
            if let (Err(error), Some(script)) = (&answer, step.script)
                && error.code() == Some("NOSCRIPT")
            {
                let loaded = link.send(&script.load()).await;
                loaded.map_err(|error| Fault::of_command(&error))?;
                answer = send(link, &step).await;
            }
            let answer = answer.map_err(|error| Fault::of_command(&error));
            if in_cluster && matches!(answer, Err(Fault::Moved(_) | Fault::Ask(_))) {
                // Once it is back, another hello is due.
                link.set_greeted(step.partition, false);
            }
            answer
        })
        .await
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u32 {
        self.pool.state().connections
    }

    /// Commands that wait for their answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.lanes.iter().map(Lane::load).sum()
    }

    async fn limited<F>(&self, what: &str, send: F) -> Result<Value, Fault>
    where
        F: AsyncFnOnce(&Link) -> Result<Value, Fault>,
    {
        let lane = self.choose();
        let _counted = Counted::new(&lane.in_flight);
        let mut used: Option<Link> = None;
        let step = async {
            let link = used.insert(self.link(lane).await?);
            send(link).await
        };
        let result = timeout(self.timeout, step).await;
        if result.is_err() {
            Tally::count(&self.dialer.tally.unanswered);
        }
        let fault = match (result, used) {
            (Ok(Ok(value)), _) => return Ok(value),
            (Ok(Err(fault)), Some(link)) if fault.is_of_a_replica() => {
                // The next connection may lead to its successor.
                link.give_up();
                fault
            }
            (Ok(Err(fault)), _) => fault,
            (Err(_), Some(link)) => {
                link.timed_out();
                Fault::Unknown(format!("no answer within {} ms", self.timeout.as_millis()))
            }
            (Err(_), None) => Fault::NotDone(format!("no connection within {} ms", self.timeout.as_millis())),
        };
        Err(fault.while_doing(what))
    }

    /// The first lane with room, else the one with the most of it.
    fn choose(&self) -> &Lane {
        let mut best = &self.lanes[0];
        for lane in &self.lanes {
            if lane.load() < LANE_COMMANDS {
                return lane;
            }
            if lane.load() < best.load() {
                best = lane;
            }
        }
        best
    }

    /// A working connection: of this lane, else of any, else a new one.
    async fn link(&self, lane: &Lane) -> Result<Link, Fault> {
        if let Some(link) = lane.working() {
            return Ok(link);
        }
        // One task opens the lane; the others meanwhile use another one, if there is one.
        let mut opening = match lane.opening.try_lock() {
            Ok(opening) => opening,
            Err(_) => match self.lanes.iter().find_map(Lane::working) {
                Some(link) => return Ok(link),
                None => lane.opening.lock().await,
            },
        };
        if let Some(link) = lane.working() {
            return Ok(link);
        }
        if let Some(because) = self.pacing.paused() {
            return self.lanes.iter().find_map(Lane::working).ok_or(because);
        }
        // Gives the broken one back, which closes it.
        *lane.link.write() = None;
        *opening = None;
        let pooled = tokio::select! {
            biased;
            fault = self.pacing.next_failure() => return Err(fault),
            pooled = self.pool.get_owned() => pooled.map_err(|error| match error {
                bb8::RunError::User(fault) => fault,
                bb8::RunError::TimedOut => Fault::NotDone("no connection in time".into()),
            })?,
        };
        let link = (*pooled).clone();
        *lane.link.write() = Some(link.clone());
        *opening = Some(pooled);
        Ok(link)
    }
}

async fn send(link: &Link, step: &Step<'_>) -> Result<Value, RedisError> {
    // Redis writes what it owes its clients in one go, the latest to be owed something first. With an answer that it
    // owes already the writer comes last, behind those that a script published to: when the write is acknowledged,
    // its hint has left the server.
    if step.asking {
        link.send_behind("ASKING", step.cmd).await
    } else if step.script.is_some_and(|script| script.publishes) {
        link.send_behind("PING", step.cmd).await
    } else {
        link.send(step.cmd).await
    }
}

impl Lane {
    fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn working(&self) -> Option<Link> {
        self.link.read().as_ref().filter(|link| !link.is_broken()).cloned()
    }
}

/// Counts for as long as it lives, also if the caller gives up.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
