//! Hints from several masters: a connection to each, and all of them lead into one queue.
//!
//! Masters change, and slots move: a task keeps a connection to whoever has which partitions now. While one of them
//! cannot be had, the partitions of the others are heard all the same, and its own are found by syncs. The receiver is
//! told of each partition when it is no longer heard, and when it is heard again: then it syncs.

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
use crate::topology::Endpoint;

/// How often a connection must prove that it is alive, and how long it has for it.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Pause before a master that could not be had is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Connections that end at once; each is noticed by the next look at them anyway.
const ENDED_MAX: usize = 256;

/// The receiving end. Dropping it closes all connections.
pub(crate) struct Listening {
    hints: mpsc::Receiver<Bytes>,
    said: Arc<Said>,
    /// What the receiver knows of [`Said::heard`].
    told: Box<[u64]>,
    /// There may be more to tell of that.
    behind: bool,
    closed: bool,
    _tasks: JoinSet<()>,
}

/// What the receiver is told beside hints. An empty message among the hints wakes it up for that.
struct Said {
    overflowed: AtomicBool,
    changed: AtomicBool,
    /// For each partition the number of the connection on which it is heard; 0 while it is not.
    heard: Mutex<Box<[u64]>>,
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
    /// every other one has done so, has failed, or takes longer than a control command may: of the partitions of those
    /// the receiver is told first that they are not heard. If it is dropped before, the next call goes on from there.
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
            (Ok(()), Some(opening)) => Ok(opening.listening.taken()),
            (Err(fault), _) => Err(fault),
            (Ok(()), None) => Err(Fault::NotDone("nobody listens".into())),
        }
    }
}

impl Listening {
    fn begin(dialer: &Arc<Dialer>) -> Opening {
        let (push, hints) = mpsc::channel(dialer.config.hints_max);
        let nothing = vec![0; dialer.layout.partitions() as usize].into_boxed_slice();
        let said = Arc::new(Said {
            overflowed: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            heard: Mutex::new(nothing.clone()),
        });
        let (begin, begun) = oneshot::channel();
        let ears = Ears {
            dialer: dialer.clone(),
            push,
            said: said.clone(),
            open: BTreeMap::new(),
            opened: 0,
            opening: JoinSet::new(),
            called: HashSet::new(),
            begun: Some(begin),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(ears.keep());
        Opening {
            begun,
            listening: Self { hints, said, told: nothing, behind: false, closed: false, _tasks: tasks },
        }
    }

    /// Somebody receives from here on, and takes all partitions to be heard: of those that are not it is told.
    fn taken(mut self) -> Self {
        for (told, heard) in self.told.iter_mut().zip(self.said.heard.lock().iter()) {
            *told = if *heard == 0 { u64::MAX } else { *heard };
        }
        // `Said::changed` is set since the first of them was heard: the first look tells.
        self
    }

    /// What there is to tell beside hints.
    fn beside(&mut self) -> Option<Hint> {
        if self.said.overflowed.load(Ordering::Acquire) && self.said.overflowed.swap(false, Ordering::AcqRel)
        {
            return Some(Hint::Overflow);
        }
        if self.said.changed.load(Ordering::Acquire) && self.said.changed.swap(false, Ordering::AcqRel) {
            self.behind = true;
        }
        if !self.behind {
            return None;
        }
        let heard = self.said.heard.lock();
        let at = self.told.iter().zip(heard.iter()).position(|(told, heard)| told != heard);
        self.behind = at.is_some();
        let at = at?;
        self.told[at] = heard[at];
        let partition = Partition(u32::try_from(at).unwrap_or(u32::MAX));
        Some(if heard[at] == 0 { Hint::Unheard(partition) } else { Hint::Heard(partition) })
    }
}

#[async_trait]
impl HintStream for Listening {
    async fn next(&mut self) -> Hint {
        if self.closed {
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(hint) = self.beside() {
                return hint;
            }
            match self.hints.recv().await {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => return subscription::hint(&bytes),
                None => {
                    self.closed = true;
                    return Hint::Closed("no master can be heard".to_owned());
                }
            }
        }
    }

    fn ready(&mut self) -> Option<Hint> {
        if self.closed {
            return None;
        }
        loop {
            if let Some(hint) = self.beside() {
                return Some(hint);
            }
            let bytes = self.hints.try_recv().ok()?;
            if !bytes.is_empty() {
                return Some(subscription::hint(&bytes));
            }
        }
    }
}

/// A connection on which hints of some partitions arrive.
struct Ear {
    /// Which one it is of all that were opened, from 1 on.
    number: u64,
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
    said: Arc<Said>,
    open: BTreeMap<Target, Ear>,
    /// How many were opened since the beginning.
    opened: u64,
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
                let works = !ear.link.is_broken() && !ear.over.load(Ordering::Acquire);
                works
                    && !ear
                        .partitions
                        .iter()
                        .any(|partition| is_elsewhere(*partition, target, owners.as_deref()))
            });
            self.tell();
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
                    let Ok((target, opened)) = opened else { return };
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
        let ear = self.open.get(target);
        ear.is_some_and(|ear| partitions.iter().all(|partition| ear.partitions.contains(partition)))
    }

    /// Opens what is missing.
    fn call(&mut self, wanted: &BTreeMap<Target, Vec<Partition>>, end: &mpsc::Sender<()>) {
        for (target, partitions) in wanted {
            if !self.hears(target, partitions) && self.called.insert(target.clone()) {
                let (dialer, target, partitions) = (self.dialer.clone(), target.clone(), partitions.clone());
                let (push, said, end) = (self.push.clone(), self.said.clone(), end.clone());
                self.opening.spawn(async move {
                    let opened = open(&dialer, &target, partitions, push, said, end).await;
                    (target, opened)
                });
            }
        }
    }

    /// A master is heard. In the place of an older connection only now, so that nothing is missed in between.
    fn heard(&mut self, target: Target, ear: Ear) {
        self.opened += 1;
        self.open.insert(target, Ear { number: self.opened, ..ear });
    }

    /// Lets the receiver know which partitions are heard.
    fn tell(&self) {
        let mut now = vec![0; self.dialer.layout.partitions() as usize];
        for ear in self.open.values() {
            for partition in &ear.partitions {
                now[partition.index()] = ear.number;
            }
        }
        let mut heard = self.said.heard.lock();
        if heard[..] == now[..] {
            return;
        }
        *heard = now.into();
        drop(heard);
        self.said.changed.store(true, Ordering::Release);
        // Without room there are hints to be taken, and whoever takes them looks here as well.
        let _ = self.push.try_send(Bytes::new());
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

/// Whether a partition is known to be at another node of the Cluster. Where none is known (the others take its master for
/// dead) one that speaks is still heard.
fn is_elsewhere(partition: Partition, target: &Target, owners: Option<&[Option<Endpoint>]>) -> bool {
    let owner = owners.and_then(|owners| owners[partition.index()].as_ref());
    owner.is_some_and(|owner| !matches!(target, Target::Node(node) if node == owner))
}

/// Opens a connection and subscribes to the partitions of a master.
async fn open(
    dialer: &Dialer,
    target: &Target,
    partitions: Vec<Partition>,
    push: mpsc::Sender<Bytes>,
    said: Arc<Said>,
    end: mpsc::Sender<()>,
) -> Result<Ear, Fault> {
    let over = Arc::new(AtomicBool::new(false));
    let (ends, told) = (over.clone(), end.clone());
    // Both are called by the task that reads the socket: they never wait.
    let sink = move |payload: Bytes| {
        if let Err(mpsc::error::TrySendError::Full(_)) = push.try_send(payload) {
            said.overflowed.store(true, Ordering::Release);
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
    Ok(Ear { number: 0, link, partitions, over, _tasks: tasks })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_heard_until_another_has_its_partition() {
        let (one, two) = (Endpoint::new("h", 1), Endpoint::new("h", 2));
        let owners = [Some(one.clone()), Some(two), None];
        let node = Target::Node(one);
        let elsewhere = |partition| is_elsewhere(Partition(partition), &node, Some(&owners));
        assert_eq!([0, 1, 2].map(elsewhere), [false, true, false]);
        assert!(!is_elsewhere(Partition(0), &Target::Master(0), None), "no Cluster: the place is fixed");
    }
}
