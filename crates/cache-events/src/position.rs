//! Where in the log something happened.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// The number of a partition: the unit of coherence, with a log and an epoch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Partition(pub u32);

impl Partition {
    /// The partition of a resource hash when there are `partitions` (at least 1) of them.
    #[inline]
    pub fn of(resource_hash: u64, partitions: u32) -> Self {
        // One partition is the usual case, and a division is dear on the path of a hit.
        if partitions <= 1 {
            return Self(0);
        }
        Self((resource_hash % u64::from(partitions)) as u32)
    }

    /// The number as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the log of a partition: epochs first, then the sequence within the epoch.
///
/// Spelled `<epoch>-<seq>`, which is also the id of the entry in the Redis stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    /// The epoch: grows whenever the history of the partition may have been lost.
    pub epoch: u64,
    /// The sequence within the epoch; 0 is the epoch itself, before its first event.
    pub seq: u64,
}

impl Position {
    /// Before everything: what a node that has seen nothing has.
    pub const ZERO: Self = Self { epoch: 0, seq: 0 };
    /// Positions at or above this number of either field are refused: Redis scripts count in doubles.
    pub const LIMIT: u64 = 1 << 53;

    /// A position.
    pub const fn new(epoch: u64, seq: u64) -> Self {
        Self { epoch, seq }
    }

    /// The position that follows in the same epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq + 1 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::new("position", text, "is <epoch>-<seq>, both below 2^53");
        let (epoch, seq) = text.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().ok().filter(|&n| n < Self::LIMIT).ok_or_else(wrong);
        let position = Self { epoch: number(epoch)?, seq: number(seq)? };
        // One position, one text: no signs, no leading zeros.
        if position.to_string() == text { Ok(position) } else { Err(wrong()) }
    }
}

/// The version that the system of record gives a value: a number that grows with every change of it. 0 = unversioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// No version known.
    pub const NONE: Self = Self(0);

    /// The upper and the lower half, as scripts compare them.
    pub fn halves(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, self.0 as u32)
    }
}
