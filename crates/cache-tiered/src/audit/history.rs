//! What is remembered of a sampled key: what this node showed of it, and what happened to it lately.

use std::collections::VecDeque;
use std::fmt;

use cache_bus::FlushCause;
use cache_events::{Key, Position, Version};
use cache_l1::Groups;

use crate::answer::Tier;

/// Reads that saw the same within so many milliseconds are judged as one.
const SLICE_MS: u64 = 250;
/// Slices that wait to be judged; what comes beyond is counted as not judged.
const SLICES_MAX: usize = 8;

/// What a read was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) tier: Tier,
    pub(crate) origin: Position,
    pub(crate) version: Version,
    /// 0 unless this node loaded it itself.
    pub(crate) load_start: u64,
    pub(crate) born: u64,
}

/// Reads that were given the same, shortly after each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) look: Look,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) reads: u64,
}

/// Something that happened to a key, at a time of this node.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) at: u64,
    /// Where in the log it belongs.
    pub(crate) position: Position,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// An invalidation that covers the key was applied here; its writer began it at `said` (this node's time, as well as the
    /// clocks of the machines agree).
    Applied { said: u64 },
    /// The whole partition was flushed.
    Flushed(FlushCause),
    /// It came into L1.
    Inserted { tier: Tier, version: Version, load_start: u64, groups: Groups },
    /// A fence kept it out of L1.
    Refused,
    /// It left L1 for an invalidation.
    Dropped,
    /// L2 has this record.
    InL2 { version: Version, put: bool },
    /// L2 knows of an invalidation of its resource.
    Stamped,
    /// The log has an invalidation that covers it.
    Logged,
    /// The source has this version.
    AtSource(Version),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, position, what } = self;
        write!(f, "{at} ms: ")?;
        match what {
            What::Applied { .. } => write!(f, "invalidation {position} was applied"),
            What::Flushed(cause) => {
                let cause = format!("{cause:?}").to_lowercase();
                write!(f, "the partition was flushed ({cause}), epoch {}", position.epoch)
            }
            What::Inserted { tier, version, load_start, .. } => {
                write!(f, "came into L1 from {}, as of {position}", tier.as_str())?;
                if *version != Version::NONE {
                    write!(f, ", version {}", version.0)?;
                }
                if *load_start > 0 { write!(f, ", its load began at {load_start} ms") } else { Ok(()) }
            }
            What::Refused => write!(f, "a fence kept a value as of {position} out of L1"),
            What::Dropped => write!(f, "left L1 for invalidation {position}"),
            What::InL2 { version, put } => {
                write!(
                    f,
                    "L2 has a record that was {} as of {position}",
                    if *put { "put" } else { "loaded" }
                )?;
                if *version != Version::NONE { write!(f, ", version {}", version.0) } else { Ok(()) }
            }
            What::Stamped => write!(f, "L2 knows of invalidation {position} of its resource"),
            What::Logged => write!(f, "the log has invalidation {position}"),
            What::AtSource(version) => write!(f, "the source has version {}", version.0),
        }
    }
}

/// What is remembered of one sampled key.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) key: Key,
    current: Option<Slice>,
    waiting: Vec<Slice>,
    /// Reads that were given what is flagged as stale.
    pub(crate) flagged: u64,
    /// Reads for which there was no room.
    pub(crate) unjudged: u64,
    pub(crate) last_read: u64,
    /// What the last read was given.
    pub(crate) shown: Option<Look>,
    /// When L2 was asked last.
    pub(crate) looked_at: u64,
    /// It was read since then.
    pub(crate) due: bool,
    /// As of what the value was for whose sake the log was asked last.
    pub(crate) log_asked: Position,
    history: VecDeque<Happening>,
    history_max: usize,
}

impl Tracked {
    pub(crate) fn new(key: Key, history_max: usize) -> Self {
        Self {
            key,
            current: None,
            // A read must not allocate.
            waiting: Vec::with_capacity(SLICES_MAX),
            flagged: 0,
            unjudged: 0,
            last_read: 0,
            shown: None,
            looked_at: 0,
            due: false,
            log_asked: Position::ZERO,
            history: VecDeque::with_capacity(history_max),
            history_max,
        }
    }

    /// Notes a read. Allocates nothing.
    pub(crate) fn saw(&mut self, look: &Look, now: u64) {
        (self.last_read, self.due) = (now, true);
        if let Some(current) = &mut self.current {
            if current.look == *look && now.saturating_sub(current.first) < SLICE_MS {
                current.last = now;
                current.reads += 1;
                return;
            }
            if self.waiting.len() < SLICES_MAX {
                self.waiting.push(*current);
            } else {
                self.unjudged += current.reads;
            }
        }
        self.shown = Some(*look);
        self.current = Some(Slice { look: *look, first: now, last: now, reads: 1 });
    }

    /// All slices.
    pub(crate) fn take(&mut self) -> Vec<Slice> {
        let mut over = std::mem::replace(&mut self.waiting, Vec::with_capacity(SLICES_MAX));
        over.extend(self.current.take());
        over
    }

    /// Notes what happened; the same again (a hint that comes twice, a look that finds nothing new) is not noted.
    pub(crate) fn happened(&mut self, happening: Happening) {
        let again = |past: &Happening| {
            past.position == happening.position
                && std::mem::discriminant(&past.what) == std::mem::discriminant(&happening.what)
        };
        let repeats = match happening.what {
            What::Applied { .. } | What::InL2 { .. } | What::Stamped | What::Logged => {
                self.history.iter().any(again)
            }
            What::AtSource(version) => self
                .history
                .iter()
                .any(|past| matches!(past.what, What::AtSource(before) if before == version)),
            _ => false,
        };
        if repeats {
            return;
        }
        if self.history.len() >= self.history_max {
            self.history.pop_front();
        }
        self.history.push_back(happening);
    }

    pub(crate) fn history(&self) -> impl Iterator<Item = &Happening> {
        self.history.iter()
    }

    /// The groups of the value that came into L1 as of this position.
    pub(crate) fn groups_of(&self, origin: Position) -> Groups {
        let mut newest_first = self.history.iter().rev();
        newest_first
            .find_map(|past| match &past.what {
                What::Inserted { groups, .. } if past.position == origin => Some(groups.clone()),
                _ => None,
            })
            .unwrap_or_default()
    }
}
