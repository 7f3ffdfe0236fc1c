//! What a state of the model is made of.

/// Everything at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct World {
    /// The version at the source.
    pub source: u8,
    /// The highest version whose writer was told that it is done.
    pub acked: u8,
    /// Versions written to the source and not yet to the cache.
    pub written: Vec<u8>,
    /// Of a write in two steps the first was taken.
    pub half_done: bool,
    /// Versions that a put found there already, to be announced.
    pub outdated: Vec<u8>,
    /// The server that answers.
    pub master: Server,
    /// What its replica has.
    pub replica: Server,
    /// The highest epoch that ever was; the clock sees to it that a new one is above.
    pub last_epoch: u8,
    /// Load leases given.
    pub leases: u8,
    /// Failovers, other events, trims, flushes and evictions so far.
    pub happened: [u8; 5],
    /// The nodes.
    pub nodes: [Node; 2],
    /// A caller was answered with less than its node knew when it came.
    pub answered_late: bool,
}

/// One server's data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Server {
    /// Which life of which process.
    pub life: u8,
    /// The life that began the epoch.
    pub epoch_of_life: u8,
    /// The epoch.
    pub epoch: u8,
    /// What happened in it, in order.
    pub log: Vec<Event>,
    /// So many of the first entries are gone.
    pub trimmed: u8,
    /// The sequence of the group's last stamp.
    pub stamp: u8,
    /// The record in L2.
    pub record: Option<Record>,
    /// The load lease that is out.
    pub lease: Option<u8>,
    /// Versions at or below are outdated.
    pub floor: u8,
}

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Of the key.
    Key,
    /// Of its group.
    Group,
    /// Of another key.
    Other,
}

/// A record in L2: what it holds, and where the log stood when its lease was given (or where its put stands).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    /// The version of the value.
    pub version: u8,
    /// The epoch.
    pub epoch: u8,
    /// The sequence.
    pub seq: u8,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Node {
    /// The epoch in which it stands.
    pub epoch: u8,
    /// Everything up to here was applied.
    pub cursor: u8,
    /// Moves with everything that is applied to the key.
    pub generation: u8,
    /// The last stamp of the group that it knows.
    pub stamp: u8,
    /// L1.
    pub entry: Option<Entry>,
    /// A load under way.
    pub load: Option<Load>,
    /// A put whose answer has not come.
    pub put: Option<Putting>,
    /// What was acknowledged when the last complete sync was sent.
    pub fresh: u8,
    /// The life of the server to which its connection leads.
    pub connected: u8,
    /// The epoch that its last hello taught.
    pub taught: u8,
    /// A sync under way.
    pub sync: Option<Sync>,
}

/// A value in L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its version.
    pub version: u8,
    /// Its sequence.
    pub seq: u8,
}

/// A load, and what the fences were when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Load {
    /// Its lease.
    pub lease: u8,
    /// The generation.
    pub generation: u8,
    /// The stamp of the group.
    pub stamp: u8,
    /// Epoch and sequence of the lease, or of the record that was found.
    pub origin: (u8, u8),
    /// How far it is.
    pub stage: Stage,
    /// What the node knew to be acknowledged when another caller joined.
    pub joined: Option<u8>,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It has a lease.
    Leased,
    /// It has read the source.
    Read(u8),
    /// It is to be put into L1.
    Found(u8),
}

/// A put that the server has carried out and the writer has not heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Putting {
    /// The version.
    pub version: u8,
    /// The generation before it was sent.
    pub generation: u8,
    /// Its position.
    pub position: (u8, u8),
}

/// A sync under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sync {
    /// What was acknowledged when it was sent.
    pub acked: u8,
    /// The position that it asks about.
    pub at: (u8, u8),
    /// What the server said.
    pub answer: Option<Answer>,
}

/// What the server says to a sync.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The epoch.
    pub epoch: u8,
    /// The last sequence.
    pub head: u8,
    /// What was missed; nothing where the log cannot tell.
    pub missed: Option<Vec<Event>>,
    /// The group's last stamp.
    pub stamp: u8,
}

impl World {
    /// The version in the record that a node which knows all would take.
    pub fn live_version(&self) -> Option<u8> {
        let Server { life, epoch_of_life, epoch, stamp, record, .. } = &self.master;
        let alive = |record: &Record| life == epoch_of_life && record.epoch == *epoch && record.seq >= *stamp;
        record.filter(alive).map(|record| record.version)
    }
}

impl Node {
    /// What a read would get from L1.
    pub fn served(&self) -> Option<u8> {
        self.entry.filter(|entry| entry.seq >= self.stamp).map(|entry| entry.version)
    }

    /// I1.
    pub(super) fn is_as_fresh_as_it_says(&self) -> bool {
        self.served().is_none_or(|version| version >= self.fresh)
    }

    /// Applies an event of the log.
    pub(super) fn apply(&mut self, event: Event, seq: u8) {
        if self.put.is_some_and(|put| put.position == (self.epoch, seq)) {
            // Its own: left to the writer.
            return;
        }
        match event {
            Event::Key => {
                self.generation += 1;
                self.entry = self.entry.filter(|entry| entry.seq >= seq);
            }
            Event::Group => self.stamp = self.stamp.max(seq),
            Event::Other => {}
        }
    }

    /// Forgets everything and stands elsewhere.
    pub(super) fn flush(&mut self, epoch: u8, head: u8, stamp: u8) {
        self.generation += 1;
        self.entry = None;
        self.stamp = if epoch == self.epoch { self.stamp.max(stamp) } else { stamp };
        (self.epoch, self.cursor) = (epoch, head);
    }
}

impl Server {
    /// The last sequence.
    pub fn head(&self) -> u8 {
        self.log.len() as u8
    }
}
