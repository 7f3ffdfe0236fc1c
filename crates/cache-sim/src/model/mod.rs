//! The protocol with everything else left out, explored in every order of steps.
//!
//! One key, one partition, two nodes, a master and its replica. Nothing takes time: a step is a message that is carried out,
//! and every step that is possible may be the next one. What is lost is a step that never comes; what is late is one that
//! comes behind all others. Numbers are small and count up: versions of the source, sequences of the log, epochs, lives of
//! the server, generations of a node's fence.
//!
//! | what is asked | of every state |
//! |---|---|
//! | I1 | what a node would serve from L1 is not older than what was acknowledged when its last sync was sent |
//! | I2 | the record of the live epoch is not older than what was acknowledged |
//! | I11 | a caller is not answered with less than its node already knew when it came |
//! | it works | a value gets into L1 again after an acknowledged change |
//!
//! A [`Protocol`] says how the key is written, what may happen how often, and which guard is missing; the steps are in
//! `steps.rs`, the parts of a state in `parts.rs`.

mod parts;
mod steps;

use stateright::{Model, Property};

pub use parts::{Answer, Entry, Event, Load, Node, Putting, Record, Server, Stage, Sync, World};
pub use steps::Step;

/// How the key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The source, then one script that removes, logs and publishes.
    Key,
    /// The source, then first the removal and then the event, as while a slot moves.
    Split,
    /// The source, then the stamp of a group that the value carries.
    Group,
    /// The source, then the value through both tiers.
    Put,
    /// The same with versions; two writers may be under way.
    Versioned,
}

/// A rule that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// A fill needs its lease.
    Lease,
    /// An insert into L1 loses to whatever was applied since its load began.
    Generation,
    /// Another life of the server begins an epoch.
    Incarnation,
    /// A new connection says hello before it is used.
    Hello,
    /// Freshness is the instant at which a sync was sent.
    SendTime,
    /// The removal comes before the event.
    DeleteFirst,
    /// A hint moves the cursor by one step only.
    Contiguity,
    /// A record carries epoch and sequence of the time of its lease.
    LeaseTime,
    /// Nobody joins a load from before an invalidation.
    FlightJoin,
    /// A log that was trimmed behind the cursor flushes.
    TrimDetection,
    /// And brings the stamps of the groups.
    GroupTable,
    /// A put takes the lease away.
    PutTakesLease,
    /// A versioned put is compared with what is stored, whatever epoch that is of.
    Version,
    /// What is removed leaves its version.
    Floor,
    /// A put that found its version there already is announced.
    OutdatedTold,
}

/// What may happen how often. It bounds the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Writes of the source.
    pub writes: u8,
    /// Load leases.
    pub leases: u8,
    /// Changes of a node's fence by hints.
    pub hints: u8,
    /// Failovers to a replica that may lack the tail.
    pub failovers: u8,
    /// Events of other keys.
    pub others: u8,
    /// Trims of the log.
    pub trims: u8,
    /// Epochs begun because somebody asked for it, and refreshes of a versioned key.
    pub flushes: u8,
    /// Times that the record leaves L2 for room. A versioned put that is late finds no version then, so this goes with one
    /// write.
    pub evictions: u8,
}

/// A protocol to be explored.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// What it is called.
    pub name: &'static str,
    /// How the key is written.
    pub style: Style,
    /// What may happen.
    pub limits: Limits,
    /// The guard that is missing.
    pub without: Option<Guard>,
}

const NOTHING: Limits =
    Limits { writes: 1, leases: 2, hints: 1, failovers: 0, others: 0, trims: 0, flushes: 0, evictions: 0 };

impl Protocol {
    /// All guards in place; small enough for every change.
    pub fn small() -> Vec<Self> {
        let one = Limits { leases: 1, ..NOTHING };
        vec![
            Self::whole("invalidation", Style::Key, NOTHING),
            Self::whole("two invalidations", Style::Key, Limits { writes: 2, ..one }),
            Self::whole("invalidation, with a lossy failover", Style::Key, Limits { failovers: 1, ..one }),
            Self::whole(
                "invalidation, with another event and a trim",
                Style::Key,
                Limits { others: 1, trims: 1, ..one },
            ),
            Self::whole("removal, then event", Style::Split, NOTHING),
            Self::whole("group, with a trim", Style::Group, Limits { trims: 1, ..one }),
            Self::whole("put", Style::Put, NOTHING),
            Self::whole("versioned put, with a flush", Style::Versioned, Limits { flushes: 1, ..one }),
            Self::whole("two versioned puts", Style::Versioned, Limits { writes: 2, hints: 0, ..one }),
            Self::whole(
                "versioned put, with an eviction",
                Style::Versioned,
                Limits { evictions: 1, ..NOTHING },
            ),
        ]
    }

    /// The same with more of everything: half an hour on one thread, and some gigabytes.
    pub fn large() -> Vec<Self> {
        let failover = Limits { failovers: 1, ..NOTHING };
        vec![
            Self::whole("two invalidations", Style::Key, Limits { writes: 2, ..NOTHING }),
            Self::whole("invalidation, with a lossy failover", Style::Key, failover),
            Self::whole(
                "invalidation, with other events and a trim",
                Style::Key,
                Limits { others: 1, trims: 1, ..NOTHING },
            ),
            Self::whole("removal, then event, with a lossy failover", Style::Split, failover),
            Self::whole(
                "group, with another event and a trim",
                Style::Group,
                Limits { others: 1, trims: 1, ..NOTHING },
            ),
            Self::whole("put, with a lossy failover", Style::Put, Limits { leases: 1, ..failover }),
            Self::whole(
                "two versioned puts, with a flush",
                Style::Versioned,
                Limits { writes: 2, hints: 0, leases: 1, flushes: 1, ..NOTHING },
            ),
        ]
    }

    fn whole(name: &'static str, style: Style, limits: Limits) -> Self {
        Self { name, style, limits, without: None }
    }

    /// Each guard left out, in the smallest protocol that needs it.
    pub fn mutations() -> Vec<Self> {
        let failover = Limits { failovers: 1, ..NOTHING };
        let two = Limits { writes: 2, ..NOTHING };
        let of = |guard, name, style, limits| Self { name, style, limits, without: Some(guard) };
        vec![
            of(Guard::Lease, "a fill without its lease", Style::Key, NOTHING),
            of(Guard::Generation, "an insert that looks at no generation", Style::Key, NOTHING),
            of(Guard::Incarnation, "no look at the incarnation", Style::Key, failover),
            of(Guard::Hello, "no hello", Style::Key, failover),
            of(Guard::SendTime, "freshness of the time of receipt", Style::Key, NOTHING),
            of(Guard::DeleteFirst, "the event before the removal", Style::Split, NOTHING),
            of(
                Guard::Contiguity,
                "a hint that moves the cursor over a gap",
                Style::Key,
                Limits { others: 1, ..NOTHING },
            ),
            of(Guard::LeaseTime, "the epoch of the time of the fill", Style::Key, failover),
            of(Guard::FlightJoin, "a load that anybody may join", Style::Key, NOTHING),
            of(
                Guard::TrimDetection,
                "a trim that nobody notices",
                Style::Key,
                Limits { trims: 1, ..NOTHING },
            ),
            of(
                Guard::GroupTable,
                "a gap without the stamps of the groups",
                Style::Group,
                Limits { trims: 1, ..NOTHING },
            ),
            of(Guard::PutTakesLease, "a put that leaves the lease", Style::Put, two),
            of(Guard::Version, "a put of any version", Style::Versioned, two),
            of(Guard::Floor, "a removal without a floor", Style::Versioned, Limits { flushes: 1, ..two }),
            of(
                Guard::OutdatedTold,
                "an outdated put that tells nobody",
                Style::Versioned,
                Limits { evictions: 1, ..NOTHING },
            ),
        ]
    }

    fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::default()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.possible(world, steps);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        self.take(&mut world, step).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1", |_, world: &World| world.nodes.iter().all(Node::is_as_fresh_as_it_says)),
            Property::always("I2", |_, world: &World| {
                world.live_version().is_none_or(|version| version >= world.acked)
            }),
            Property::always("I11", |_, world: &World| !world.answered_late),
            Property::sometimes("it works", |_, world: &World| {
                let again = |node: &Node| node.fresh == world.acked && node.served() == Some(world.source);
                world.acked > 0 && world.nodes.iter().any(again)
            }),
        ]
    }
}
