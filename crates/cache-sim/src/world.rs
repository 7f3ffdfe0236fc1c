//! The world of one schedule: a server, the nodes, the lines between them, the system of record and the judge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cache_bus::Hint;
use cache_events::{NodeId, Partition};
use cache_tiered::TieredCache;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::agenda::Agenda;
use crate::clock::NodeClock;
use crate::desk::Desk;
use crate::inbox::Inbox;
use crate::judge::Judge;
use crate::life::Heard;
use crate::plan::Plan;
use crate::server::{Limits, Server};
use crate::time::Timeline;
use crate::trace::{Detail, Trace};
use crate::weather::{Fate, Line, Way, Weather};

/// Everything there is.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) timeline: Timeline,
    pub(crate) agenda: Agenda,
    pub(crate) trace: Trace,
    pub(crate) judge: Judge,
    pub(crate) desk: Desk,
    pub(crate) heard: Heard,
    pub(crate) nodes: Vec<Node>,
    state: Mutex<State>,
}

/// What messages meet.
pub(crate) struct State {
    pub(crate) server: Server,
    /// The server answers nothing before this instant (it was stopped, not killed).
    pub(crate) stopped_until: u64,
    /// A slot is moving: what is one script otherwise takes two steps.
    pub(crate) slot_moves: u32,
    pub(crate) weather: Weather,
    pub(crate) lines: Vec<Line>,
    rng: fastrand::Rng,
    inboxes: Vec<(usize, u64, Arc<Inbox>)>,
}

/// A place where a node lives, one life after the other.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) clock: Arc<NodeClock>,
    paused: AtomicBool,
    /// Not a watch channel: that wakes those who wait in an order that no seed decides.
    goes_on: Notify,
    home: Mutex<Home>,
}

#[derive(Default)]
struct Home {
    life: u64,
    cache: Option<TieredCache>,
}

impl Node {
    pub(crate) fn new(id: NodeId, clock: Arc<NodeClock>) -> Self {
        Self { id, clock, paused: AtomicBool::new(false), goes_on: Notify::new(), home: Mutex::default() }
    }

    /// Which life of the node this is; its odd ones are alive.
    pub(crate) fn life(&self) -> u64 {
        self.home.lock().life
    }

    /// The node as it lives now.
    pub(crate) fn cache(&self) -> Option<(u64, TieredCache)> {
        let home = self.home.lock();
        home.cache.clone().map(|cache| (home.life, cache))
    }

    /// The life that a node which is about to be born will have.
    pub(crate) fn conceive(&self) -> u64 {
        let mut home = self.home.lock();
        home.life += 1;
        home.life
    }

    pub(crate) fn born(&self, cache: TieredCache) {
        self.home.lock().cache = Some(cache);
    }

    /// It dies at once; what it had under way leads nowhere.
    pub(crate) fn die(&self) -> Option<TieredCache> {
        let mut home = self.home.lock();
        let cache = home.cache.take()?;
        home.life += 1;
        Some(cache)
    }

    pub(crate) fn pause(&self) {
        self.clock.stop();
        self.paused.store(true, Ordering::SeqCst);
    }

    pub(crate) fn go_on(&self) {
        self.clock.go_on();
        self.paused.store(false, Ordering::SeqCst);
        self.goes_on.notify_waiters();
    }

    /// Waits while the node stands still: nothing passes its ports.
    pub(crate) async fn gate(&self) {
        loop {
            // From before the look on it is told.
            let goes_on = self.goes_on.notified();
            if !self.paused.load(Ordering::SeqCst) {
                return;
            }
            goes_on.await;
        }
    }
}

impl World {
    pub(crate) fn new(plan: Plan, timeline: Timeline, nodes: Vec<Node>, detail: Detail) -> Arc<Self> {
        let limits = Limits { log_entries_max: plan.log_entries_max, groups_max: plan.groups_max };
        let state = State {
            server: Server::new(plan.partitions, limits),
            stopped_until: 0,
            slot_moves: 0,
            weather: plan.weather,
            lines: nodes.iter().map(|_| Line::default()).collect(),
            rng: plan.rng("weather"),
            inboxes: Vec::new(),
        };
        Arc::new(Self {
            judge: Judge::new(&plan),
            desk: Desk::default(),
            heard: Heard::default(),
            timeline,
            agenda: Agenda::default(),
            trace: Trace::new(detail),
            nodes,
            state: Mutex::new(state),
            plan,
        })
    }

    pub(crate) fn now(&self) -> u64 {
        self.timeline.ms()
    }

    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        self.trace.note(self.now(), what);
    }

    /// A promise was broken.
    pub(crate) fn violated(&self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        self.judge.violated(self.now(), what);
    }

    /// Looks at the server and the lines, or changes them; whatever the server published goes out.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State, u64) -> T) -> T {
        let now = self.now();
        let mut state = self.state.lock();
        let done = work(&mut state, now);
        let shared = state.server.take_shared_epochs();
        self.send_hints(&mut state, now);
        drop(state);
        shared.into_iter().for_each(|what| self.violated(what));
        done
    }

    /// How a message from or to a node fares.
    pub(crate) fn fate(&self, node: usize, way: Way) -> Fate {
        let mut state = self.state.lock();
        let State { rng, weather, lines, .. } = &mut *state;
        lines[node].fate(way, weather, rng)
    }

    /// A request may lie in a dead connection until long after its caller has given up.
    pub(crate) fn perhaps_posthumous(&self, delay: u64, limit: u64) -> u64 {
        let mut state = self.state.lock();
        let State { rng, weather, .. } = &mut *state;
        match rng.u32(0..1000) < weather.posthumous_permille {
            true => limit + rng.u64(0..3_000),
            false => delay,
        }
    }

    /// How long a caller looks for the place where a moving slot is now.
    pub(crate) fn redirection(&self) -> u64 {
        let rng = &mut self.state.lock().rng;
        if rng.bool() { 0 } else { rng.u64(0..200) }
    }

    /// Hints of this node's life go into the inbox from here on.
    pub(crate) fn subscribed(&self, state: &mut State, node: usize, inbox: Arc<Inbox>) {
        state.inboxes.retain(|(_, _, inbox)| !inbox.is_closed());
        state.inboxes.push((node, state.server.life, inbox));
    }

    /// Ends the subscriptions of a life of the server that is over. A node whose line is cut learns of it when its
    /// supervisor has missed the answers to its PINGs.
    pub(crate) fn connections_lost(&self, state: &mut State, now: u64) {
        let life = state.server.life;
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.inboxes).into_iter().partition(|(_, of, _)| *of != life);
        state.inboxes = kept;
        for (node, _, inbox) in gone {
            let deaf = state.lines[node].is_cut(Way::Hints);
            let heard = now + if deaf { 2_000 } else { state.rng.u64(0..20) };
            self.agenda.at(heard, move |_| inbox.close("the server is gone"));
        }
    }

    /// Ends a node's subscriptions at once.
    pub(crate) fn reset_subscriptions(&self, state: &mut State, node: usize) {
        for (_, _, inbox) in state.inboxes.iter().filter(|(of, ..)| *of == node) {
            inbox.close("reset");
        }
        state.inboxes.retain(|(of, ..)| *of != node);
    }

    fn send_hints(&self, state: &mut State, now: u64) {
        let published = state.server.take_published();
        let State { rng, weather, lines, inboxes, server, .. } = state;
        for publication in published {
            let (partition, position) = (publication.partition, publication.position);
            for (node, life, inbox) in inboxes.iter() {
                if *life != server.life {
                    continue;
                }
                let copies = 1 + usize::from(rng.u32(0..1000) < weather.repeated_permille);
                for _ in 0..copies {
                    let Fate::After(delay) = lines[*node].fate(Way::Hints, weather, rng) else { continue };
                    let garbled = rng.u32(0..1000) < weather.garbled_permille;
                    let hint = match garbled {
                        true => Hint::Garbled,
                        false => Hint::Event { partition, position, payload: publication.payload.clone() },
                    };
                    let inbox = inbox.clone();
                    self.agenda.at(now + delay, move |_| inbox.push(hint));
                }
            }
        }
    }

    /// The partitions that there are.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.plan.partitions).map(Partition)
    }
}
