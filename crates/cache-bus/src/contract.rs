//! What every [`Transport`] must keep, as plain functions for the tests of whoever implements it.
//!
//! One function a rule, and [`all`] for all of them. A rule that is broken comes back as a [`Violation`]. The rules
//! can run one after the other, and again, against one server; nobody else may write to it meanwhile. They wait for
//! hints with Tokio's timer, so they want its runtime.
//!
//! A subscription may say that hints are missing. That is no violation but what it is to say, and the rule is begun anew;
//! one that says so every time keeps no rule.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_events::wire::{self, CargoKind};
use cache_events::{Group, NodeId, Partition, Position, Tag};

use crate::transport::{
    Description, Hint, HintStream, LogEntry, Missed, SyncAnswer, Transport, TransportError,
};

/// How long a hint may take to arrive.
const HINT_PATIENCE: Duration = Duration::from_secs(5);
/// How often a rule is begun that the subscription disturbs.
const RUNS_MAX: u32 = 5;
/// More than any rule appends.
const MANY: u32 = 1_000;

/// What the rules need of the place where they run: the transport, and the writing side of what it carries.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The transport.
    fn transport(&self) -> &dyn Transport;

    /// Appends an event to a partition and publishes it; says where it is.
    async fn append(&self, partition: Partition, payload: Bytes) -> Position;

    /// Stamps a group in a partition, with an event; says where it is.
    async fn stamp(&self, partition: Partition, group: &Group) -> Position;

    /// Begins a new epoch in a partition, with an event as its first entry; says where that is.
    async fn flush(&self, partition: Partition) -> Position;

    /// Appends a put whose hint carries something; says where it is and what is carried.
    async fn carry(&self, partition: Partition, payload: Bytes, kind: CargoKind) -> (Position, Bytes);

    /// Drops all entries of the log of a partition, without any event.
    async fn trim(&self, partition: Partition);
}

/// A rule that a transport breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.seen)
    }
}

impl std::error::Error for Violation {}

/// What a rule says: nothing, or how it is broken.
pub type Verdict = Result<(), Broken>;

/// What was seen where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    seen: String,
    /// The subscription said that hints are missing: the rule has seen nothing of what it is about.
    disturbed: bool,
}

impl Broken {
    /// The rule is broken, as these words say.
    pub fn new(seen: impl Into<String>) -> Self {
        Self { seen: seen.into(), disturbed: false }
    }

    fn disturbed(seen: &str) -> Self {
        Self { seen: seen.to_owned(), disturbed: true }
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One rule.
pub struct Rule {
    /// Its name: that of its function.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Harness) -> Running<'a>,
}

impl Rule {
    /// Runs the rule.
    ///
    /// # Errors
    /// [`Violation`] if the transport breaks it.
    pub async fn run(&self, harness: &dyn Harness) -> Result<(), Violation> {
        let mut verdict = (self.run)(harness).await;
        for _ in 1..RUNS_MAX {
            if verdict.as_ref().is_err_and(|broken| broken.disturbed) {
                verdict = (self.run)(harness).await;
            }
        }
        verdict.map_err(|broken| Violation { rule: self.name, seen: broken.seen })
    }
}

/// All rules.
pub fn rules() -> Vec<Rule> {
    macro_rules! rules {
        ($($name:ident),* $(,)?) => {
            vec![$(Rule { name: stringify!($name), run: |harness| Box::pin($name(harness)) }),*]
        };
    }
    rules![
        every_subscriber_hears_what_is_appended,
        what_a_put_carries_is_heard_and_not_logged,
        a_new_epoch_is_heard,
        a_sync_tells_what_was_missed,
        a_sync_tells_at_most_what_was_asked,
        a_sync_at_the_head_tells_nothing,
        another_epoch_is_a_reset_with_the_groups,
        a_node_ahead_ends_the_epoch,
        a_trimmed_log_is_a_gap_with_the_groups,
        positions_at_the_limit_are_refused,
        who_says_who_it_is_stands_in_the_roster_until_it_leaves,
    ]
}

/// Runs all rules, one after the other, and says which are broken.
pub async fn all(harness: &dyn Harness) -> Vec<Violation> {
    let mut violations = Vec::new();
    for rule in rules() {
        violations.extend(rule.run(harness).await.err());
    }
    violations
}

impl From<TransportError> for Broken {
    fn from(error: TransportError) -> Self {
        Self::new(format!("an unexpected error: {error}"))
    }
}

impl From<cache_events::NameError> for Broken {
    fn from(error: cache_events::NameError) -> Self {
        Self::new(error.to_string())
    }
}

macro_rules! require {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(Broken::new(format!($($text)+)));
        }
    };
}

/// What is appended after `subscribe` returned is heard, with its position and its bytes, in the order of the log, in
/// every partition and by every subscriber.
pub async fn every_subscriber_hears_what_is_appended(harness: &dyn Harness) -> Verdict {
    let transport = harness.transport();
    let mut streams = [transport.subscribe().await?, transport.subscribe().await?];
    for partition in partitions(harness) {
        let mut appended = Vec::new();
        for number in 0..3 {
            let payload = payload(number);
            appended.push((harness.append(partition, payload.clone()).await, payload));
        }
        for stream in &mut streams {
            for (position, payload) in &appended {
                let heard = hear(&mut **stream, partition).await?;
                require!(
                    heard == (*position, payload.clone()),
                    "partition {partition}: {position} was due, heard {} with {:?}",
                    heard.0,
                    heard.1
                );
            }
        }
    }
    Ok(())
}

/// What the hint of a put carries is heard with its envelope, byte for byte. The log has the envelope alone.
pub async fn what_a_put_carries_is_heard_and_not_logged(harness: &dyn Harness) -> Verdict {
    for partition in partitions(harness) {
        let mut stream = harness.transport().subscribe().await?;
        let mut at = harness.append(partition, payload(0)).await;
        hear(&mut *stream, partition).await?;
        for kind in [CargoKind::Record, CargoKind::Delta] {
            let (position, cargo) = harness.carry(partition, payload(1), kind).await;
            let (heard_at, heard) = hear(&mut *stream, partition).await?;
            let (envelope, carried) =
                wire::split_carrier(&heard).map_err(|error| Broken::new(error.to_string()))?;
            require!(
                heard_at == position && *envelope == payload(1) && carried == Some((kind, &*cargo)),
                "partition {partition}: a put at {position} that carries {cargo:?} is heard at {heard_at} as {heard:?}"
            );
            let answer = sync(harness, partition, at, MANY).await?;
            let logged: Vec<_> = entries(&answer, at)?.iter().map(|entry| entry.payload.clone()).collect();
            require!(
                logged == [payload(1)],
                "partition {partition}: the log has {logged:?} of a put that carries"
            );
            at = position;
        }
    }
    Ok(())
}

/// A new epoch is heard as a hint at its sequence 0 without bytes; then comes its first event.
pub async fn a_new_epoch_is_heard(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let mut stream = harness.transport().subscribe().await?;
    let flushed = harness.flush(partition).await;
    let (began, payload) = hear(&mut *stream, partition).await?;
    require!(
        began == Position::new(flushed.epoch, 0) && payload.is_empty(),
        "flushed at {flushed}: heard {began} with {} bytes first",
        payload.len()
    );
    let (first, _) = hear(&mut *stream, partition).await?;
    require!(first == flushed, "flushed at {flushed}: heard {first} next");
    Ok(())
}

/// A sync from an earlier position tells all entries behind it, contiguous, with their bytes, and the head.
pub async fn a_sync_tells_what_was_missed(harness: &dyn Harness) -> Verdict {
    for partition in partitions(harness) {
        let start = harness.append(partition, payload(0)).await;
        let mut appended = Vec::new();
        for number in 1..=5 {
            appended.push((harness.append(partition, payload(number)).await, payload(number)));
        }
        let head = appended[4].0;
        for behind in 0..=5 {
            let at = if behind == 5 { start } else { appended[4 - behind].0 };
            let answer = sync(harness, partition, at, MANY).await?;
            let entries = entries(&answer, at)?;
            require!(
                answer.head == head && answer.server_ms > 0,
                "head {head}: a sync says {} at {} ms",
                answer.head,
                answer.server_ms
            );
            let told: Vec<_> = entries.iter().map(|e| (e.position, e.payload.clone())).collect();
            require!(
                told == appended[5 - behind..],
                "partition {partition}, from {at} to {head}: told {:?}",
                told.iter().map(|entry| entry.0.to_string()).collect::<Vec<_>>()
            );
        }
    }
    Ok(())
}

/// A sync tells at most as many entries as were asked for; going on from the last of them reaches the head.
pub async fn a_sync_tells_at_most_what_was_asked(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let mut at = harness.append(partition, payload(0)).await;
    let mut head = at;
    for number in 1..=7 {
        head = harness.append(partition, payload(number)).await;
    }
    for expected in [3, 3, 1] {
        let answer = sync(harness, partition, at, 3).await?;
        let entries = entries(&answer, at)?;
        require!(entries.len() == expected, "asked for 3 from {at}, head {head}: told {}", entries.len());
        require!(answer.head == head, "head {head}: a sync says {}", answer.head);
        at = entries[expected - 1].position;
    }
    require!(at == head, "told all, and stands at {at}, not at {head}");
    Ok(())
}

/// A sync at the head tells nothing, and moves nothing.
pub async fn a_sync_at_the_head_tells_nothing(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let head = harness.append(partition, payload(0)).await;
    for _ in 0..2 {
        let answer = sync(harness, partition, head, MANY).await?;
        let told = entries(&answer, head)?.len();
        require!(
            told == 0 && answer.head == head,
            "at the head {head}: {told} entries, head {}",
            answer.head
        );
    }
    let next = harness.append(partition, payload(1)).await;
    require!(next == head.next(), "syncs moved the head from {head}: the next entry is {next}");
    Ok(())
}

/// A node of another epoch, or of none, is told to reset, with the stamps of all groups of this epoch and no other.
pub async fn another_epoch_is_a_reset_with_the_groups(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let (old, new) = (Group::tag(&Tag::new("contract old")?), Group::tag(&Tag::new("contract new")?));
    let before = harness.stamp(partition, &old).await;
    harness.flush(partition).await;
    let stamped = harness.stamp(partition, &new).await;
    let again = harness.stamp(partition, &new).await;
    require!(again == stamped.next(), "a group stamped at {stamped} and again at {again}");
    for at in [Position::ZERO, before, Position::new(again.epoch - 1, again.seq + 50)] {
        let answer = sync(harness, partition, at, MANY).await?;
        require!(answer.head == again, "at {at}, head {again}: a sync says {}", answer.head);
        let Missed::Reset(groups) = &answer.missed else {
            return Err(Broken::new(format!("at {at}, head {again}: no reset but {:?}", answer.missed)));
        };
        let seq_of = |group: &Group| groups.iter().find(|s| s.group == group.id()).map(|stamp| stamp.seq);
        require!(
            seq_of(&new) == Some(again.seq) && seq_of(&old).is_none(),
            "stamped at {again}: told {:?}; stamped in another epoch: told {:?}",
            seq_of(&new),
            seq_of(&old)
        );
    }
    Ok(())
}

/// A node that stands ahead of the log has seen history that was lost: the epoch ends, above what the node knows.
pub async fn a_node_ahead_ends_the_epoch(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let group = Group::tag(&Tag::new("contract ahead")?);
    let mut head = harness.stamp(partition, &group).await;
    let mut stream = harness.transport().subscribe().await?;
    for epochs_ahead in [0, 1_000_000] {
        // Ahead of the log as it is now: an epoch is a time, and those that begin meanwhile grow with it.
        let ahead = Position::new(head.epoch + epochs_ahead, head.seq + 1);
        let answer = sync(harness, partition, ahead, MANY).await?;
        require!(answer.head.epoch > ahead.epoch, "a node at {ahead} was answered from {}", answer.head);
        require!(
            matches!(&answer.missed, Missed::Reset(groups) if groups.is_empty()),
            "a node at {ahead} was told {:?}",
            answer.missed
        );
        let heard = hear(&mut *stream, partition).await?;
        require!(heard.0 == answer.head, "the epoch {} began: heard {}", answer.head.epoch, heard.0);
        head = answer.head;
    }
    Ok(())
}

/// Where the log no longer has the next entry, a sync tells a gap, with the groups and the head; from the head it
/// goes on as ever.
pub async fn a_trimmed_log_is_a_gap_with_the_groups(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let group = Group::tag(&Tag::new("contract gap")?);
    let start = harness.append(partition, payload(0)).await;
    let stamped = harness.stamp(partition, &group).await;
    let last = harness.append(partition, payload(1)).await;
    harness.trim(partition).await;
    let mut head = last;
    // With an empty log, and with one that begins too late.
    for _ in 0..2 {
        let answer = sync(harness, partition, start, MANY).await?;
        let Missed::Gap(groups) = &answer.missed else {
            return Err(Broken::new(format!(
                "from {start} of a trimmed log: no gap but {:?}",
                answer.missed
            )));
        };
        require!(
            groups.iter().any(|stamp| stamp.group == group.id() && stamp.seq == stamped.seq),
            "a gap without the group that was stamped at {stamped}: {groups:?}"
        );
        require!(answer.head == head, "head {head}: the gap says {}", answer.head);
        let at_head = sync(harness, partition, head, MANY).await?;
        require!(entries(&at_head, head)?.is_empty(), "entries behind the head {head}");
        let next = harness.append(partition, payload(2)).await;
        let told = sync(harness, partition, head, MANY).await?;
        let told = entries(&told, head)?;
        require!(told.len() == 1 && told[0].position == next, "from {head} to {next}: told {told:?}");
        head = next;
    }
    Ok(())
}

/// Positions at or above 2^53, which a script could not count, are refused and move nothing.
pub async fn positions_at_the_limit_are_refused(harness: &dyn Harness) -> Verdict {
    let partition = Partition(0);
    let head = harness.append(partition, payload(0)).await;
    for at in [Position::new(Position::LIMIT, 0), Position::new(head.epoch, Position::LIMIT)] {
        let answer = sync(harness, partition, at, MANY).await;
        require!(answer.is_err(), "a node at {at} got an answer");
    }
    let next = harness.append(partition, payload(1)).await;
    require!(next == head.next(), "refused syncs moved the head from {head} to {next}");
    Ok(())
}

fn partitions(harness: &dyn Harness) -> impl Iterator<Item = Partition> {
    (0..harness.transport().partitions()).map(Partition)
}

/// Bytes of any kind must travel.
fn payload(number: u8) -> Bytes {
    Bytes::from(vec![b'\n', 0, 0xff, number, b'"'])
}

async fn sync(
    harness: &dyn Harness,
    partition: Partition,
    at: Position,
    max: u32,
) -> Result<SyncAnswer, Broken> {
    let node = NodeId::new("contract_node")?;
    Ok(harness.transport().sync(partition, &node, at, max).await?)
}

fn entries(answer: &SyncAnswer, at: Position) -> Result<&[LogEntry], Broken> {
    let Missed::Entries(entries) = &answer.missed else {
        return Err(Broken::new(format!("from {at} to {}: no entries but {:?}", answer.head, answer.missed)));
    };
    let mut expected = at;
    for entry in entries {
        expected = expected.next();
        require!(entry.position == expected, "from {at}: {} where {expected} was due", entry.position);
    }
    Ok(entries)
}

/// The next event of a partition.
async fn hear(stream: &mut dyn HintStream, wanted: Partition) -> Result<(Position, Bytes), Broken> {
    let listen = async {
        loop {
            match stream.next().await {
                Hint::Event { partition, position, payload } if partition == wanted => {
                    return Ok((position, payload));
                }
                Hint::Overflow => return Err(Broken::disturbed("the subscription keeps overflowing")),
                Hint::Heard(partition) if partition == wanted => {
                    return Err(Broken::disturbed("the subscription keeps losing the partition"));
                }
                // Until it is heard again.
                Hint::Event { .. } | Hint::Unheard(_) | Hint::Heard(_) => {}
                other => return Err(Broken::new(format!("the subscription says {other:?}"))),
            }
        }
    };
    match tokio::time::timeout(HINT_PATIENCE, listen).await {
        Ok(heard) => heard,
        Err(_) => Err(Broken::new(format!("nothing was heard of partition {wanted}"))),
    }
}

/// Each node stands in the roster with what it said last, and no more once it has left.
pub async fn who_says_who_it_is_stands_in_the_roster_until_it_leaves(harness: &dyn Harness) -> Verdict {
    let transport = harness.transport();
    let (a, b) = (NodeId::new("roster_a")?, NodeId::new("roster_b")?);
    let said = |text: &'static str| Description::new(Bytes::from_static(text.as_bytes()));
    let stands = async || -> Result<Vec<(String, Bytes)>, Broken> {
        let mut rows = transport.roster().await?;
        rows.retain(|row| row.node == a || row.node == b);
        rows.sort_by(|one, other| one.node.cmp(&other.node));
        if let Some(old) = rows.iter().find(|row| row.age_ms > 10_000) {
            return Err(Broken::new(format!("what was said just now is {} ms old", old.age_ms)));
        }
        Ok(rows.into_iter().map(|row| (row.node.to_string(), row.description)).collect())
    };
    let row = |node: &NodeId, text: &'static str| (node.to_string(), Bytes::from_static(text.as_bytes()));
    transport.introduce(&a, said("first").as_ref()).await?;
    transport.introduce(&b, said("{\"json\": \"\u{fc}:\u{0}\"}").as_ref()).await?;
    transport.introduce(&a, said("second").as_ref()).await?;
    let found = stands().await?;
    require!(
        found == [row(&a, "second"), row(&b, "{\"json\": \"\u{fc}:\u{0}\"}")],
        "the roster is {found:?}"
    );
    transport.introduce(&a, None).await?;
    transport.introduce(&a, None).await?;
    let found = stands().await?;
    require!(
        found.len() == 1 && found[0].0 == b.as_str(),
        "after the first has left the roster is {found:?}"
    );
    transport.introduce(&b, None).await?;
    let found = stands().await?;
    require!(found.is_empty(), "after all have left the roster is {found:?}");
    Ok(())
}
