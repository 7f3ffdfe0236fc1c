//! Hints from several masters: a connection to each, and all of them lead into one queue.
//!
//! Masters change, and slots move: a task keeps a connection to whoever has which partitions now. While one of them
//! cannot be had, the partitions of the others are heard all the same, and its own are found by syncs. Whenever some are
//! heard again, the receiver is told that hints may be missing, and syncs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bb8_redis::redis::{self, PushInfo, PushKind};
use bytes::Bytes;
use cache_bus::{Hint, HintStream};
use cache_events::Partition;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::dial::{Dialer, Pushed, Target};
use crate::fault::Fault;
use crate::link::Link;
use crate::subscription;

/// How often a connection must prove that it is alive, and how long it has for it.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Pause before a master that could not be had is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Connections that end at once; each is noticed by the next look at them anyway.
const ENDED_MAX: usize = 256;

/// The receiving end. Dropping it closes all connections.
pub(crate) struct Listening {
    hints: mpsc::Receiver<Bytes>,
    overflowed: Arc<AtomicBool>,
    closed: bool,
    _tasks: JoinSet<()>,
}

/// One that is being opened.
pub(crate) struct Opening {
    begun: oneshot::Receiver<Result<(), Fault>>,
    listening: Listening,
}

/// Where one waits that nobody waits for: who asked had no more time. To several masters there is more to be done than
/// one asks for at a time, so what was done is not thrown away.
#[derive(Default)]
pub(crate) struct Left(Mutex<Option<Opening>>);

impl Left {
    /// Goes on with what was left, or begins. When this returns at least one master has confirmed all its channels, and
    /// every other one has done so, has failed, or takes longer than a control command may. If it is dropped before,
    /// the next call goes on from there.
    pub(crate) async fn open(&self, dialer: &Arc<Dialer>) -> Result<Listening, Fault> {
        struct Held<'a>(&'a Left, Option<Opening>);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                *self.0.0.lock() = self.1.take();
            }
        }
        let opening = self.0.lock().take().unwrap_or_else(|| Listening::begin(dialer));
        let mut held = Held(self, Some(opening));
        let begun = match &mut held.1 {
            Some(opening) => (&mut opening.begun).await,
            None => return Err(Fault::NotDone("nobody listens".into())),
        };
        let opening = held.1.take();
        let begun = begun.unwrap_or_else(|_| Err(Fault::NotDone("nobody listens".into())));
        match (begun, opening) {
            (Ok(()), Some(opening)) => Ok(opening.listening),
            (Err(fault), _) => Err(fault),
            (Ok(()), None) => Err(Fault::NotDone("nobody listens".into())),
        }
    }
}

impl Listening {
    fn hint(bytes: &Bytes) -> Hint {
        // The mark of partitions that are heard again.
        if bytes.is_empty() { Hint::Overflow } else { subscription::hint(bytes) }
    }

    fn begin(dialer: &Arc<Dialer>) -> Opening {
        let (push, hints) = mpsc::channel(dialer.config.hints_max);
        let overflowed = Arc::new(AtomicBool::new(false));
        let (begin, begun) = oneshot::channel();
        let ears = Ears {
            dialer: dialer.clone(),
            push,
            overflowed: overflowed.clone(),
            open: BTreeMap::new(),
            opening: JoinSet::new(),
            called: HashSet::new(),
            begun: Some(begin),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(ears.keep());
        Opening { begun, listening: Self { hints, overflowed, closed: false, _tasks: tasks } }
    }
}

#[async_trait]
impl HintStream for Listening {
    async fn next(&mut self) -> Hint {
        if self.closed {
            std::future::pending::<()>().await;
        }
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Hint::Overflow;
        }
        match self.hints.recv().await {
            Some(bytes) => Self::hint(&bytes),
            None => {
                self.closed = true;
                Hint::Closed("no master can be heard".to_owned())
            }
        }
    }

    fn ready(&mut self) -> Option<Hint> {
        if self.closed {
            return None;
        }
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Some(Hint::Overflow);
        }
        self.hints.try_recv().ok().map(|bytes| Self::hint(&bytes))
    }
}

/// A connection on which hints of some partitions arrive.
struct Ear {
    link: Link,
    partitions: Vec<Partition>,
    /// The node has lost a slot, or the connection has ended.
    over: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

/// The connections to all masters.
struct Ears {
    dialer: Arc<Dialer>,
    push: mpsc::Sender<Bytes>,
    overflowed: Arc<AtomicBool>,
    open: BTreeMap<Target, Ear>,
    opening: JoinSet<(Target, Result<Ear, Fault>)>,
    /// To whom a connection is being opened.
    called: HashSet<Target>,
    /// To be told when the first masters are heard.
    begun: Option<oneshot::Sender<Result<(), Fault>>>,
}

impl Ears {
    /// Keeps them open until none is left.
    async fn keep(mut self) {
        let (end, mut ended) = mpsc::channel::<()>(ENDED_MAX);
        // Most of what a caller has time for: it would rather have some partitions than none.
        let first = sleep(self.dialer.config.control_timeout.mul_f64(0.75));
        tokio::pin!(first);
        let mut last = Fault::NotDone("no master is known".into());
        let (mut retry, mut late) = (false, false);
        loop {
            let owners = self.dialer.slots.as_ref().map(|slots| slots.owners());
            let wanted = self.wanted();
            self.open.retain(|target, ear| {
                let still = |partition| wanted.get(target).is_some_and(|all| all.contains(partition));
                !ear.link.is_broken() && !ear.over.load(Ordering::Acquire) && ear.partitions.iter().all(still)
            });
            if !retry {
                self.call(&wanted, &end);
            }
            let missing = wanted.iter().any(|(target, partitions)| !self.hears(target, partitions));
            let all_tried = self.called.is_empty() && !wanted.is_empty();
            if self.begun.is_some() && (all_tried || late && (!self.open.is_empty() || wanted.is_empty())) {
                self.begin(&last);
            }
            if self.begun.is_none() && self.open.is_empty() && self.called.is_empty() {
                // The receiver learns it, and subscribes anew.
                return;
            }
            let changed = async {
                match (&self.dialer.slots, &owners) {
                    (Some(slots), Some(owners)) => slots.changed(owners).await,
                    _ => std::future::pending().await,
                }
            };
            retry = false;
            tokio::select! {
                Some(opened) = self.opening.join_next() => {
                    let Ok((target, opened)) = opened else { continue };
                    self.called.remove(&target);
                    match opened {
                        Ok(ear) => self.heard(target, ear),
                        Err(fault @ Fault::Fenced(_)) if self.begun.is_some() => {
                            return self.begin_with(Err(fault));
                        }
                        Err(fault) => {
                            tracing::debug!(?target, %fault, "the hints of a master cannot be heard");
                            last = fault;
                            if let Some(slots) = &self.dialer.slots {
                                slots.want();
                            }
                        }
                    }
                    // What failed waits for the pause.
                    retry = true;
                }
                Some(()) = ended.recv() => {
                    if let Some(slots) = &self.dialer.slots {
                        slots.want();
                    }
                }
                () = changed => {}
                () = &mut first, if !late => late = true,
                () = sleep(RETRY), if missing => {}
            }
        }
    }

    /// Who has which partitions.
    fn wanted(&self) -> BTreeMap<Target, Vec<Partition>> {
        let mut wanted = BTreeMap::<Target, Vec<Partition>>::new();
        let masters = self.dialer.masters();
        let owners = self.dialer.slots.as_ref().map(|slots| slots.owners());
        for partition in (0..self.dialer.layout.partitions()).map(Partition) {
            let target = match &owners {
                Some(owners) => owners[partition.index()].clone().map(Target::Node),
                None => Some(masters[self.dialer.placed(partition)].clone()),
            };
            if let Some(target) = target {
                wanted.entry(target).or_default().push(partition);
            }
        }
        wanted
    }

    fn hears(&self, target: &Target, partitions: &[Partition]) -> bool {
        self.open.get(target).is_some_and(|ear| ear.partitions == partitions)
    }

    /// Opens what is missing.
    fn call(&mut self, wanted: &BTreeMap<Target, Vec<Partition>>, end: &mpsc::Sender<()>) {
        for (target, partitions) in wanted {
            if !self.hears(target, partitions) && self.called.insert(target.clone()) {
                let (dialer, target, partitions) = (self.dialer.clone(), target.clone(), partitions.clone());
                let (push, dropped, end) = (self.push.clone(), self.overflowed.clone(), end.clone());
                self.opening.spawn(async move {
                    let opened = open(&dialer, &target, partitions, push, dropped, end).await;
                    (target, opened)
                });
            }
        }
    }

    /// A master is heard. In the place of an older connection only now, so that nothing is missed in between.
    fn heard(&mut self, target: Target, ear: Ear) {
        self.open.insert(target, ear);
        if self.begun.is_none() && self.push.try_send(Bytes::new()).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// Lets the receiver begin, if anything is heard.
    fn begin(&mut self, why_not: &Fault) {
        let heard = if self.open.is_empty() { Err(why_not.clone()) } else { Ok(()) };
        self.begin_with(heard);
    }

    fn begin_with(&mut self, heard: Result<(), Fault>) {
        if let Some(begun) = self.begun.take() {
            // Whoever asked may have gone.
            let _ = begun.send(heard);
        }
    }
}

/// Opens a connection and subscribes to the partitions of a master.
async fn open(
    dialer: &Dialer,
    target: &Target,
    partitions: Vec<Partition>,
    push: mpsc::Sender<Bytes>,
    dropped: Arc<AtomicBool>,
    end: mpsc::Sender<()>,
) -> Result<Ear, Fault> {
    let over = Arc::new(AtomicBool::new(false));
    let (ends, told) = (over.clone(), end.clone());
    // Both are called by the task that reads the socket: they never wait.
    let sink = move |payload: Bytes| {
        if let Err(mpsc::error::TrySendError::Full(_)) = push.try_send(payload) {
            dropped.store(true, Ordering::Release);
        }
    };
    let gone = move |info: PushInfo| match info.kind {
        // The node has lost a slot. The client takes this for the answer to whatever it asked last, so nothing that is
        // asked on this connection can be trusted from here on.
        PushKind::SUnsubscribe | PushKind::Unsubscribe | PushKind::Disconnection => {
            ends.store(true, Ordering::Release);
            let _ = told.try_send(());
        }
        _ => {}
    };
    let pushed = Pushed { hints: Some(Arc::new(sink)), told: Arc::new(gone) };
    let link = dialer.dial(target, Some(pushed)).await?;
    let in_cluster = dialer.slots.is_some();
    let subscribing = async {
        let channel = |partition: &Partition| dialer.layout.part(*partition).channel.as_str();
        if !in_cluster {
            let channels: Vec<&str> = partitions.iter().map(channel).collect();
            return link.connection().subscribe(channels).await.map_err(|error| Fault::of_connecting(&error));
        }
        // Each by itself, since they are of different slots, and all at once.
        let each = partitions.iter().map(async |partition| {
            dialer.greet(&link, *partition, false).await?;
            let mut subscribe = redis::cmd("SSUBSCRIBE");
            subscribe.arg(channel(partition));
            link.send(&subscribe).await.map_err(|error| Fault::of_connecting(&error))
        });
        try_join_all(each).await.map(drop)
    };
    let wait = dialer.config.connect_timeout;
    let subscribed = timeout(wait, subscribing).await;
    subscribed.unwrap_or_else(|_| Err(Fault::NotDone("no answer".into()))).map_err(|fault| match fault {
        Fault::Moved(_) | Fault::Ask(_) => Fault::NotDone("the slot has moved".into()),
        fault => fault.while_doing("SUBSCRIBE"),
    })?;
    if over.load(Ordering::Acquire) {
        return Err(Fault::NotDone("the slot has moved".into()));
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(link.clone(), end));
    Ok(Ear { link, partitions, over, _tasks: tasks })
}

/// Pings until there is no answer.
async fn watch(link: Link, end: mpsc::Sender<()>) {
    let ping = redis::cmd("PING");
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !matches!(timeout(PING_EVERY, link.send(&ping)).await, Ok(Ok(_))) {
            link.give_up();
            let _ = end.try_send(());
            return;
        }
    }
}
