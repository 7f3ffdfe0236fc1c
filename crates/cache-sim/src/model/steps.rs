//! What may happen next, and what it does.

use super::parts::{Answer, Entry, Event, Load, Putting, Record, Stage, Sync, World};
use super::{Guard, Protocol, Style};

/// A step. Those with a number are of a node; hints also name a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The source changes.
    Write,
    /// One script removes record and lease and appends the event; its writer is told.
    Invalidate,
    /// The first of two steps removes record and lease.
    Remove,
    /// The second appends the event.
    Announce,
    /// The group is stamped; its writer is told.
    Stamp,
    /// A put of the first node is carried out.
    Put,
    /// Its answer comes.
    PutAnswered,
    /// A versioned put is carried out and answered, the first or the second of those that wait.
    PutVersion(u8),
    /// A put that was outdated is announced; its writer is told.
    Tell,
    /// A versioned key is removed, though the source is as before.
    Refresh,
    /// A node that has nothing reads L2, or asks for a lease.
    Ask(usize),
    /// Another caller joins its load.
    Join(usize),
    /// Its loader reads the source.
    ReadSource(usize),
    /// Its fill arrives.
    Fill(usize),
    /// What it found goes into L1.
    Insert(usize),
    /// It sends a sync.
    SendSync(usize),
    /// The sync arrives.
    AnswerSync(usize),
    /// The answer comes.
    TakeSync(usize),
    /// A hint comes.
    Hint(usize, u8),
    /// It says hello to the server that is there now.
    Hello(usize),
    /// The replica catches up.
    Replicate,
    /// The replica is the master from here on.
    Failover,
    /// The lease runs out.
    LeaseEnds,
    /// An event of another key.
    Other,
    /// The log loses what it holds.
    Trim,
    /// Somebody asks for a new epoch.
    Flush,
    /// The record leaves L2 for room.
    Evict,
}

const FAILOVERS: usize = 0;
const OTHERS: usize = 1;
const TRIMS: usize = 2;
const FLUSHES: usize = 3;
const EVICTIONS: usize = 4;

impl Protocol {
    /// All steps that may come next.
    pub(super) fn possible(&self, world: &World, steps: &mut Vec<Step>) {
        let limits = &self.limits;
        let writers = if self.style == Style::Versioned { 2 } else { 1 };
        if world.source < limits.writes && world.written.len() < writers {
            steps.push(Step::Write);
        }
        self.of_the_writer(world, steps);
        for node in 0..world.nodes.len() {
            self.of_a_node(world, node, steps);
        }
        let left = |what: usize, limit: u8| world.happened[what] < limit;
        let master = &world.master;
        if left(FAILOVERS, limits.failovers) {
            if world.replica != world.master {
                steps.push(Step::Replicate);
            }
            steps.push(Step::Failover);
        }
        if master.lease.is_some() {
            steps.push(Step::LeaseEnds);
        }
        if left(OTHERS, limits.others) {
            steps.push(Step::Other);
        }
        if left(TRIMS, limits.trims) && master.trimmed < master.head() {
            steps.push(Step::Trim);
        }
        if left(FLUSHES, limits.flushes) {
            steps.push(Step::Flush);
            if self.style == Style::Versioned && master.record.is_some() {
                steps.push(Step::Refresh);
            }
        }
        if left(EVICTIONS, limits.evictions) && master.record.is_some() {
            steps.push(Step::Evict);
        }
    }

    fn of_the_writer(&self, world: &World, steps: &mut Vec<Step>) {
        let waits = !world.written.is_empty();
        match self.style {
            Style::Key if waits => steps.push(Step::Invalidate),
            Style::Split if waits => {
                let removes = self.has(Guard::DeleteFirst) != world.half_done;
                steps.push(if removes { Step::Remove } else { Step::Announce });
            }
            Style::Group if waits => steps.push(Step::Stamp),
            Style::Put if world.nodes[0].put.is_some() => steps.push(Step::PutAnswered),
            Style::Put if waits => steps.push(Step::Put),
            Style::Versioned => {
                steps.extend((0..world.written.len() as u8).map(Step::PutVersion));
                if !world.outdated.is_empty() {
                    steps.push(Step::Tell);
                }
            }
            _ => {}
        }
    }

    fn of_a_node(&self, world: &World, number: usize, steps: &mut Vec<Step>) {
        let (node, master) = (&world.nodes[number], &world.master);
        match node.load {
            None if node.served().is_none() => steps.push(Step::Ask(number)),
            None => {}
            Some(load) => {
                steps.push(match load.stage {
                    Stage::Leased => Step::ReadSource(number),
                    Stage::Read(_) => Step::Fill(number),
                    Stage::Found(_) => Step::Insert(number),
                });
                let same = load.generation == node.generation && load.stamp == node.stamp;
                if load.joined.is_none() && node.fresh > 0 && (same || !self.has(Guard::FlightJoin)) {
                    steps.push(Step::Join(number));
                }
            }
        }
        match &node.sync {
            None => {
                let behind =
                    node.fresh < world.acked || (node.epoch, node.cursor) != (master.epoch, master.head());
                if behind || !world.written.is_empty() || master.life != master.epoch_of_life {
                    steps.push(Step::SendSync(number));
                }
            }
            Some(Sync { answer: None, .. }) => steps.push(Step::AnswerSync(number)),
            Some(_) => steps.push(Step::TakeSync(number)),
        }
        if node.epoch == master.epoch && node.generation < self.limits.hints {
            steps.extend((node.cursor + 1..=master.head()).map(|seq| Step::Hint(number, seq)));
        }
        if node.connected != master.life {
            steps.push(Step::Hello(number));
        }
    }

    /// Takes a step; false if it changes nothing after all.
    pub(super) fn take(&self, world: &mut World, step: Step) -> bool {
        match step {
            Step::Write => {
                world.source += 1;
                world.written.push(world.source);
            }
            Step::Invalidate => {
                self.ensure(world, (0, 0));
                world.remove();
                world.master.log.push(Event::Key);
                world.acknowledge_first();
            }
            Step::Remove => {
                world.remove();
                self.half(world);
            }
            Step::Announce => {
                self.ensure(world, (0, 0));
                world.master.log.push(Event::Key);
                self.half(world);
            }
            Step::Stamp => {
                self.ensure(world, (0, 0));
                world.master.log.push(Event::Group);
                world.master.stamp = world.master.head();
                world.acknowledge_first();
            }
            Step::Put => self.put(world),
            Step::PutAnswered => world.put_answered(),
            Step::PutVersion(place) => self.put_version(world, usize::from(place)),
            Step::Tell => {
                self.ensure(world, (0, 0));
                world.master.log.push(Event::Key);
                let version = world.outdated.remove(0);
                world.acked = world.acked.max(version);
            }
            Step::Refresh => {
                world.happened[FLUSHES] += 1;
                self.ensure(world, (0, 0));
                let held = world.master.record.map_or(0, |record| record.version);
                if self.has(Guard::Floor) {
                    world.master.floor = world.master.floor.max(held);
                }
                world.remove();
                world.master.log.push(Event::Key);
            }
            Step::Ask(node) => return self.ask(world, node),
            Step::Join(node) => {
                let fresh = world.nodes[node].fresh;
                if let Some(load) = &mut world.nodes[node].load {
                    load.joined = Some(fresh);
                }
            }
            Step::ReadSource(node) => {
                let version = world.source;
                if let Some(load) = &mut world.nodes[node].load {
                    load.stage = Stage::Read(version);
                }
            }
            Step::Fill(node) => return self.fill(world, node),
            Step::Insert(node) => self.insert(world, node),
            Step::SendSync(node) => {
                let acked = world.acked;
                let node = &mut world.nodes[node];
                node.sync = Some(Sync { acked, at: (node.epoch, node.cursor), answer: None });
            }
            Step::AnswerSync(node) => self.answer_sync(world, node),
            Step::TakeSync(node) => self.take_sync(world, node),
            Step::Hint(node, seq) => {
                let event = world.master.log[usize::from(seq) - 1];
                let node = &mut world.nodes[node];
                node.apply(event, seq);
                if seq == node.cursor + 1 || !self.has(Guard::Contiguity) {
                    node.cursor = seq;
                }
            }
            Step::Hello(node) => {
                let at = (world.nodes[node].epoch, 0);
                self.ensure(world, at);
                let (life, epoch) = (world.master.life, world.master.epoch);
                let node = &mut world.nodes[node];
                (node.connected, node.taught) = (life, epoch);
            }
            Step::Replicate => world.replica = world.master.clone(),
            Step::Failover => {
                world.happened[FAILOVERS] += 1;
                let life = world.master.life + 1;
                world.master = world.replica.clone();
                world.master.life = life;
            }
            Step::LeaseEnds => world.master.lease = None,
            Step::Other => {
                world.happened[OTHERS] += 1;
                self.ensure(world, (0, 0));
                world.master.log.push(Event::Other);
            }
            Step::Trim => {
                world.happened[TRIMS] += 1;
                world.master.trimmed = world.master.head();
            }
            Step::Flush => {
                world.happened[FLUSHES] += 1;
                world.begin_epoch();
            }
            Step::Evict => {
                world.happened[EVICTIONS] += 1;
                world.master.record = None;
            }
        }
        true
    }

    /// Is the history still the one that the caller knows? If not, a new epoch begins.
    fn ensure(&self, world: &mut World, at: (u8, u8)) {
        let master = &world.master;
        let other_life = master.life != master.epoch_of_life && self.has(Guard::Incarnation);
        if other_life || at > (master.epoch, master.head()) {
            world.begin_epoch();
        }
    }

    /// One of two steps of a write was taken.
    fn half(&self, world: &mut World) {
        world.half_done = !world.half_done;
        if !world.half_done {
            world.acknowledge_first();
        }
    }

    fn put(&self, world: &mut World) {
        let Some(&version) = world.written.first() else { return };
        let at = (world.nodes[0].epoch, world.nodes[0].cursor);
        self.ensure(world, at);
        world.master.log.push(Event::Key);
        let (epoch, seq) = (world.master.epoch, world.master.head());
        world.master.record = Some(Record { version, epoch, seq });
        if self.has(Guard::PutTakesLease) {
            world.master.lease = None;
        }
        let node = &mut world.nodes[0];
        node.generation += 1;
        node.entry = None;
        node.put = Some(Putting { version, generation: node.generation, position: (epoch, seq) });
    }

    fn put_version(&self, world: &mut World, place: usize) {
        self.ensure(world, (0, 0));
        let version = world.written.remove(place);
        // Of whatever epoch: versions are the source's.
        let known = world.master.record.map_or(0, |record| record.version).max(world.master.floor);
        if version <= known && self.has(Guard::Version) {
            match self.has(Guard::OutdatedTold) {
                true => world.outdated.push(version),
                false => world.acked = world.acked.max(version),
            }
            return;
        }
        world.master.log.push(Event::Key);
        let (epoch, seq) = (world.master.epoch, world.master.head());
        world.master.record = Some(Record { version, epoch, seq });
        world.master.lease = None;
        world.acked = world.acked.max(version);
    }

    fn ask(&self, world: &mut World, number: usize) -> bool {
        let before = world.last_epoch;
        let node = &world.nodes[number];
        if self.has(Guard::Hello) && (node.connected != world.master.life || node.taught > node.epoch) {
            return false;
        }
        let (generation, stamp, epoch) = (node.generation, node.stamp, node.epoch);
        let load = |lease, origin, stage| Load { lease, generation, stamp, origin, stage, joined: None };
        if let Some(record) = world.master.record
            && record.epoch == epoch
            && record.seq >= stamp
        {
            let found = load(0, (record.epoch, record.seq), Stage::Found(record.version));
            world.nodes[number].load = Some(found);
            return true;
        }
        if world.leases == self.limits.leases || world.master.lease.is_some() {
            return false;
        }
        self.ensure(world, (epoch, world.nodes[number].cursor));
        if world.master.epoch != epoch {
            return world.last_epoch != before;
        }
        world.leases += 1;
        world.master.lease = Some(world.leases);
        let leased = load(world.leases, (epoch, world.master.head()), Stage::Leased);
        world.nodes[number].load = Some(leased);
        true
    }

    fn fill(&self, world: &mut World, number: usize) -> bool {
        if self.has(Guard::Hello) && world.nodes[number].connected != world.master.life {
            return false;
        }
        let Some(Load { lease, origin, stage: Stage::Read(version), joined, .. }) = world.nodes[number].load
        else {
            return false;
        };
        if world.master.lease == Some(lease) || !self.has(Guard::Lease) {
            let now = (world.nodes[number].epoch, world.nodes[number].cursor);
            let (epoch, seq) = if self.has(Guard::LeaseTime) { origin } else { now };
            world.master.record = Some(Record { version, epoch, seq });
            world.master.lease = None;
            if let Some(load) = &mut world.nodes[number].load {
                load.stage = Stage::Found(version);
            }
        } else {
            world.nodes[number].load = None;
            world.answer(version, joined);
        }
        true
    }

    fn insert(&self, world: &mut World, number: usize) {
        let node = &mut world.nodes[number];
        let Some(Load { generation, origin, stage: Stage::Found(version), joined, .. }) = node.load.take()
        else {
            return;
        };
        let unmoved = node.generation == generation && node.epoch == origin.0;
        if unmoved && node.stamp <= origin.1 || !self.has(Guard::Generation) {
            node.entry = Some(Entry { version, seq: origin.1 });
        }
        world.answer(version, joined);
    }

    fn answer_sync(&self, world: &mut World, number: usize) {
        let Some(at) = world.nodes[number].sync.as_ref().map(|sync| sync.at) else { return };
        self.ensure(world, at);
        let master = &world.master;
        let told = at.0 == master.epoch && at.1 >= master.trimmed.min(master.head());
        let missed = told.then(|| master.log[usize::from(at.1)..].to_vec());
        let answer = Answer { epoch: master.epoch, head: master.head(), missed, stamp: master.stamp };
        if let Some(sync) = &mut world.nodes[number].sync {
            sync.answer = Some(answer);
        }
    }

    fn take_sync(&self, world: &mut World, number: usize) {
        let acked_now = world.acked;
        let node = &mut world.nodes[number];
        let Some(Sync { acked, at, answer: Some(answer) }) = node.sync.take() else { return };
        if answer.epoch < node.epoch {
            return;
        }
        match answer.missed {
            Some(events) if answer.epoch == node.epoch => {
                for (seq, event) in (at.1 + 1..).zip(events) {
                    if seq > node.cursor {
                        node.apply(event, seq);
                        node.cursor = seq;
                    }
                }
            }
            Some(_) => return,
            None if answer.epoch == node.epoch && answer.head <= node.cursor => {}
            None if answer.epoch == node.epoch && !self.has(Guard::TrimDetection) => {
                node.cursor = answer.head
            }
            None => {
                let tells = answer.epoch != node.epoch || self.has(Guard::GroupTable);
                node.flush(answer.epoch, answer.head, if tells { answer.stamp } else { 0 });
            }
        }
        let fresh = if self.has(Guard::SendTime) { acked } else { acked_now };
        node.fresh = node.fresh.max(fresh);
    }
}

impl World {
    /// A new epoch: what lies in L2 is dead, what it says of versions is not.
    fn begin_epoch(&mut self) {
        self.last_epoch += 1;
        let master = &mut self.master;
        (master.epoch, master.epoch_of_life) = (self.last_epoch, master.life);
        (master.stamp, master.trimmed) = (0, 0);
        master.log.clear();
    }

    fn remove(&mut self) {
        self.master.record = None;
        self.master.lease = None;
    }

    /// The writer that has waited longest is told that it is done.
    fn acknowledge_first(&mut self) {
        if !self.written.is_empty() {
            let version = self.written.remove(0);
            self.acked = self.acked.max(version);
        }
    }

    fn put_answered(&mut self) {
        let node = &mut self.nodes[0];
        let Some(Putting { version, generation, position }) = node.put.take() else { return };
        if node.generation == generation && node.epoch == position.0 {
            node.entry = Some(Entry { version, seq: position.1 });
        } else {
            // The hint may have been left to this moment.
            node.entry = node.entry.filter(|entry| node.epoch != position.0 || entry.seq >= position.1);
        }
        node.generation += 1;
        if position == (node.epoch, node.cursor + 1) {
            node.cursor += 1;
        }
        self.acknowledge_first();
    }

    /// A load answers its callers.
    fn answer(&mut self, version: u8, joined: Option<u8>) {
        self.answered_late |= joined.is_some_and(|known| version < known);
    }
}
