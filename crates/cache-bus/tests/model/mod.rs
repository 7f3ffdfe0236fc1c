//! A dull model of a deployment with one partition: a server with truth, L2 and log, and one node that follows the
//! protocol. Everything that travels waits in a bag until the test lets it arrive: in any order, again, or never.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use cache_bus::{
    Action, Answer, BusConfig, FlushCause, GroupStamp, Missing, Protocol, Standing, State, SyncOrder, Told,
};
use cache_events::{CacheEvent, Group, Key, Namespace, Partition, Position, Scope, Tag};

pub(crate) const KEYS: usize = 6;
const GROUPS: usize = 2;
pub(crate) const P: Partition = Partition(0);
const ENTRIES_MAX: usize = 3;

type Truth = [u32; KEYS];

/// A value read from the source at version `version`; `origin` is where the log stood when the load began.
#[derive(Debug, Clone, Copy)]
struct Record {
    origin: Position,
    version: u32,
}

/// What a logged event says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Says {
    Key(usize),
    Group(usize),
}

fn group_id(group: usize) -> u64 {
    Group::tag(&Tag::new(format!("g{group}")).unwrap()).id()
}

fn event(says: Says) -> CacheEvent {
    let namespace = Namespace::new("things").unwrap();
    let scope = match says {
        Says::Key(key) => Scope::Key(Key::new(&namespace, key.to_string()).unwrap()),
        Says::Group(group) => Scope::Tag(Tag::new(format!("g{group}")).unwrap()),
    };
    cache_testkit::event(vec![scope])
}

/// The system of record, L2 and the log, as one.
#[derive(Debug)]
struct Server {
    truth: Truth,
    l2: [Option<Record>; KEYS],
    head: Position,
    log: BTreeMap<u64, Told>,
    stamps: HashMap<usize, u64>,
}

impl Server {
    fn append(&mut self, says: Says, readable: bool) -> (Position, Told) {
        self.head = self.head.next();
        match says {
            Says::Key(key) => {
                self.truth[key] += 1;
                self.l2[key] = None;
            }
            Says::Group(group) => {
                (group..KEYS).step_by(GROUPS).for_each(|key| self.truth[key] += 1);
                self.stamps.insert(group, self.head.seq);
            }
        }
        let told = if readable { Told::Event(event(says)) } else { Told::Unreadable };
        self.log.insert(self.head.seq, told.clone());
        (self.head, told)
    }

    fn bump(&mut self, by: u64) -> Position {
        self.head = Position::new(self.head.epoch + by, 0);
        self.log.clear();
        self.stamps.clear();
        self.l2 = [None; KEYS];
        self.head
    }

    fn groups(&self) -> Vec<GroupStamp> {
        self.stamps.iter().map(|(&group, &seq)| GroupStamp { group: group_id(group), seq }).collect()
    }

    fn sync(&mut self, at: Position) -> Answer {
        if at > self.head && at.epoch >= self.head.epoch {
            self.bump(at.epoch + 1 - self.head.epoch);
        }
        let missing = if at.epoch != self.head.epoch {
            Missing::Reset(self.groups())
        } else if at.seq < self.head.seq && !self.log.contains_key(&(at.seq + 1)) {
            Missing::Gap(self.groups())
        } else {
            let behind = self.log.range(at.seq + 1..).take(ENTRIES_MAX);
            let entries = behind.map(|(&seq, told)| (Position::new(self.head.epoch, seq), told.clone()));
            Missing::Entries(entries.collect())
        };
        Answer { head: self.head, missing }
    }
}

/// What the engine does with what the bus says, in few lines.
#[derive(Debug, Default)]
pub(crate) struct Node {
    epoch: u64,
    l1: HashMap<usize, Record>,
    stamps: HashMap<u64, u64>,
    /// Positions of this epoch that were applied since the last flush.
    applied: BTreeSet<u64>,
    flushed: bool,
    pub(crate) flushes: Vec<FlushCause>,
    pub(crate) applications: Vec<(Position, bool)>,
}

impl Node {
    fn apply(&mut self, position: Position, event: &CacheEvent) {
        for scope in &event.scopes {
            match scope {
                Scope::Key(key) => {
                    let key: usize = key.resource().parse().unwrap();
                    if self.l1.get(&key).is_some_and(|held| held.origin < position) {
                        self.l1.remove(&key);
                    }
                }
                Scope::Tag(tag) => {
                    let stamp = self.stamps.entry(Group::tag(tag).id()).or_default();
                    *stamp = position.seq.max(*stamp);
                }
                other => panic!("the model does not write {other}"),
            }
        }
    }

    fn flush(&mut self, epoch: u64, groups: &[GroupStamp], cause: FlushCause) {
        if epoch != self.epoch {
            self.stamps.clear();
        }
        for stamp in groups {
            let known = self.stamps.entry(stamp.group).or_default();
            *known = stamp.seq.max(*known);
        }
        self.epoch = epoch;
        self.l1.clear();
        self.applied.clear();
        self.flushed = true;
        self.flushes.push(cause);
    }

    fn stands(&self, key: usize, record: &Record) -> bool {
        let stamp = self.stamps.get(&group_id(key % GROUPS)).copied().unwrap_or(0);
        record.origin.epoch == self.epoch && stamp <= record.origin.seq
    }
}

/// A sync under way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) order: SyncOrder,
    pub(crate) sent: u64,
    pub(crate) answer: Option<Answer>,
    /// Whether the protocol still waits for it.
    awaited: bool,
}

/// The deployment.
pub(crate) struct World {
    pub(crate) now: u64,
    server: Server,
    pub(crate) node: Node,
    pub(crate) protocol: Protocol,
    pub(crate) standing: Standing,
    pub(crate) flights: Vec<Flight>,
    pub(crate) hints: Vec<(Position, Told)>,
    acks: Vec<(Position, usize)>,
    /// The truth as each step began.
    truth_at: BTreeMap<u64, Truth>,
    config: BusConfig,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let config = BusConfig::default();
        let head = Position::new(10, 0);
        let mut world = Self {
            now: 1,
            server: Server {
                truth: [1; KEYS],
                l2: [None; KEYS],
                head,
                log: BTreeMap::new(),
                stamps: HashMap::new(),
            },
            node: Node::default(),
            protocol: Protocol::new(1, &config, seed, 1),
            standing: Standing {
                position: Position::ZERO,
                fresh_as_of: 0,
                state: State::Connecting,
                completed: 0,
            },
            flights: Vec::new(),
            hints: Vec::new(),
            acks: Vec::new(),
            truth_at: BTreeMap::new(),
            config,
        };
        world.pump();
        world
    }

    /// A world whose node is subscribed and at the head.
    pub(crate) fn live(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.step(|protocol, now| protocol.subscribed(now));
        world.answer_all();
        assert_eq!(world.standing.state, State::Live);
        world
    }

    pub(crate) fn head(&self) -> Position {
        self.server.head
    }

    /// One input to the protocol, a millisecond after the one before, and all that follows from it.
    pub(crate) fn step<T>(&mut self, input: impl FnOnce(&mut Protocol, u64) -> T) -> T {
        self.now += 1;
        self.truth_at.insert(self.now, self.server.truth);
        let result = input(&mut self.protocol, self.now);
        self.pump();
        result
    }

    pub(crate) fn elapse(&mut self, ms: u64) {
        self.now += ms;
        let timeout = self.config.sync_timeout.as_millis() as u64;
        for flight in &mut self.flights {
            flight.awaited &= self.now + 1 < flight.sent + timeout;
        }
        self.step(|protocol, now| protocol.tick(now));
    }

    /// Something changes. The event is logged and its hint is under way.
    pub(crate) fn write(&mut self, says: Says, readable: bool) -> Position {
        let hint = self.server.append(says, readable);
        self.hints.push(hint.clone());
        hint.0
    }

    /// This node itself changes something; the acknowledgement is under way, too.
    pub(crate) fn own_write(&mut self, key: usize) -> Position {
        let position = self.write(Says::Key(key), true);
        self.acks.push((position, key));
        position
    }

    pub(crate) fn acknowledge(&mut self, at: usize) {
        if self.acks.is_empty() {
            return;
        }
        let (position, key) = self.acks.swap_remove(at % self.acks.len());
        self.node.apply(position, &event(Says::Key(key)));
        if position.epoch == self.node.epoch && position.seq > self.standing.position.seq {
            self.node.applied.insert(position.seq);
        }
        self.step(|protocol, now| protocol.wrote(now, P, position));
    }

    /// The log forgets all but its last `keep` entries.
    pub(crate) fn trim(&mut self, keep: usize) {
        while self.server.log.len() > keep {
            self.server.log.pop_first();
        }
    }

    /// The log loses its last `lost` entries and begins a new epoch.
    pub(crate) fn bump(&mut self) {
        let marker = self.server.bump(1);
        self.hints.push((marker, Told::Marker));
    }

    /// A hint under way arrives; it stays under way if it will come again.
    pub(crate) fn hint(&mut self, at: usize, again: bool) {
        if self.hints.is_empty() {
            return;
        }
        let at = at % self.hints.len();
        let (position, told) = if again { self.hints[at].clone() } else { self.hints.remove(at) };
        self.step(|protocol, now| protocol.hint(now, P, position, told));
    }

    /// The server executes a sync under way; with `hole` it leaves out the first of several entries.
    pub(crate) fn execute(&mut self, at: usize, hole: bool) {
        if self.flights.is_empty() {
            return;
        }
        let at = at % self.flights.len();
        let mut answer = self.server.sync(self.flights[at].order.at);
        if let Missing::Entries(entries) = &mut answer.missing
            && hole
            && entries.len() > 1
        {
            entries.remove(0);
        }
        self.flights[at].answer = Some(answer);
    }

    /// The answer of an executed sync arrives.
    pub(crate) fn deliver(&mut self, at: usize, again: bool) {
        if self.flights.is_empty() {
            return;
        }
        let at = at % self.flights.len();
        let Some(answer) = self.flights[at].answer.clone() else { return };
        let flight = self.flights[at].clone();
        if again {
            self.flights[at].awaited = false;
        } else {
            self.flights.remove(at);
        }
        self.step(|protocol, now| protocol.answered(now, P, flight.order.id, flight.sent, answer));
    }

    /// A sync fails; whether the server executed it is another question, and its answer may still come.
    pub(crate) fn fail(&mut self, at: usize) {
        if self.flights.is_empty() {
            return;
        }
        let at = at % self.flights.len();
        self.flights[at].awaited = false;
        let id = self.flights[at].order.id;
        self.step(|protocol, now| protocol.failed(now, P, id, None));
    }

    /// Every awaited sync is executed and answered, and those that follow from it.
    pub(crate) fn answer_all(&mut self) {
        while let Some(at) = self.flights.iter().position(|flight| flight.awaited) {
            self.execute(at, false);
            self.deliver(at, false);
        }
    }

    /// The node reads through: L1, L2, then the source with a fill of both. Returns the version that it serves.
    pub(crate) fn read(&mut self, key: usize) -> u32 {
        if let Some(held) = self.node.l1.get(&key)
            && self.node.stands(key, held)
        {
            return held.version;
        }
        let server = &mut self.server;
        let live =
            |record: &Record| record.origin.epoch == server.head.epoch && self.node.stands(key, record);
        let record = server.l2[key].filter(live).unwrap_or_else(|| {
            let loaded = Record { origin: server.head, version: server.truth[key] };
            server.l2[key] = Some(loaded);
            loaded
        });
        if record.origin.epoch == self.node.epoch {
            self.node.l1.insert(key, record);
        }
        record.version
    }

    /// Faults are over. Within a few sync intervals the node must be at the head and serve nothing but the truth.
    pub(crate) fn settle(&mut self) {
        let quiet_since = self.now;
        self.flights.iter_mut().for_each(|flight| flight.awaited = false);
        for _ in 0..200 {
            self.elapse(20);
            self.answer_all();
            if self.standing.fresh_as_of > quiet_since {
                break;
            }
        }
        assert!(self.standing.fresh_as_of > quiet_since, "no complete sync after the faults were over");
        assert_eq!(self.standing.position, self.server.head, "fresh, but not at the head");
        for key in 0..KEYS {
            assert_eq!(self.read(key), self.server.truth[key], "key {key} is wrong at the end");
        }
    }

    fn pump(&mut self) {
        while let Some(action) = self.protocol.next_action() {
            match action {
                Action::Sync(order) => {
                    assert!(!self.flights.iter().any(|flight| flight.awaited), "two syncs in flight");
                    self.flights.push(Flight { order, sent: self.now, answer: None, awaited: true });
                }
                Action::Apply { position, event, first, .. } => {
                    assert_eq!(position.epoch, self.node.epoch, "applied an event of another epoch");
                    assert_eq!(first, self.node.applied.insert(position.seq), "{position} first?");
                    self.node.apply(position, &event);
                    self.node.applications.push((position, first));
                }
                Action::Flush { epoch, groups, cause, .. } => self.node.flush(epoch, &groups, cause),
                Action::Publish { standing, .. } => self.publish(standing),
            }
        }
        self.check();
    }

    /// I5 and I6, and that freshness does not fall back.
    fn publish(&mut self, standing: Standing) {
        let before = self.standing.position;
        let cursor = standing.position;
        assert!(cursor >= before, "the cursor went back from {before} to {cursor}");
        assert!(standing.fresh_as_of >= self.standing.fresh_as_of, "freshness went back");
        assert_eq!(cursor.epoch, self.node.epoch, "an epoch without its flush");
        // A flush since then covers whatever it did not see applied.
        if !self.node.flushed {
            for seq in before.seq + 1..=cursor.seq {
                assert!(self.node.applied.contains(&seq), "advanced over {seq}, which was not applied");
            }
        }
        self.node.flushed = false;
        self.standing = standing;
    }

    /// I1: what a trusted partition holds is at least as new as what was acknowledged before the last complete sync
    /// was sent.
    fn check(&self) {
        let Some(truth) = self.truth_at.get(&self.standing.fresh_as_of) else {
            assert_eq!(self.standing.fresh_as_of, 0, "fresh as of an instant at which nothing happened");
            return;
        };
        for (&key, held) in &self.node.l1 {
            if self.node.stands(key, held) {
                let (version, least) = (held.version, truth[key]);
                assert!(version >= least, "key {key} is served at {version}, acknowledged was {least}");
            }
        }
    }
}

/// The least D, for tests of states.
pub(crate) fn bound() -> u64 {
    Duration::as_millis(&BusConfig::default().staleness_bound) as u64
}
