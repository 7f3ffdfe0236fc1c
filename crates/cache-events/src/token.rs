//! Write tokens: proof of where a write stands, to be shown to other nodes.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::{Partition, Position};

const VERSION: u8 = 1;
const ITEM: usize = 20;
/// Longest token text, in bytes.
const TOKEN_BYTES_MAX: usize = 1024;

/// The positions of a write, one for each partition that it touched, and one for each epoch there.
///
/// As text it is base64url of a version byte and (partition u32, epoch u64, seq u64) items, big endian. A token whose
/// text would pass 1,024 bytes (more than 38 partitions) cannot be spelled: [`fits`](Self::fits).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteToken {
    items: Vec<(Partition, Position)>,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a write token: {0}")]
pub struct TokenError(&'static str);

impl WriteToken {
    /// The token of a write to one partition.
    pub fn single(partition: Partition, position: Position) -> Self {
        Self { items: vec![(partition, position)] }
    }

    /// Adds a position; of two in one epoch of a partition the later stays. Of two epochs both stay: their numbers do not
    /// always grow with time.
    pub fn add(&mut self, partition: Partition, position: Position) {
        let mut known = self.items.iter_mut();
        match known.find(|(at, known)| *at == partition && known.epoch == position.epoch) {
            Some((_, known)) => *known = (*known).max(position),
            None => self.items.push((partition, position)),
        }
    }

    /// The positions, in the order they were added.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = (Partition, Position)> {
        self.items.iter().copied()
    }

    /// The positions in a partition; more than one where an epoch began in the middle of the write.
    pub fn positions_in(&self, partition: Partition) -> impl Iterator<Item = Position> {
        self.items.iter().filter(move |(at, _)| *at == partition).map(|&(_, position)| position)
    }

    /// Whether the text stays within 1,024 bytes.
    pub fn fits(&self) -> bool {
        (1 + self.items.len() * ITEM).div_ceil(3) * 4 <= TOKEN_BYTES_MAX
    }
}

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        for (partition, position) in &self.items {
            bytes.extend(partition.0.to_be_bytes());
            bytes.extend(position.epoch.to_be_bytes());
            bytes.extend(position.seq.to_be_bytes());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for WriteToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError("longer than 1024 bytes"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError("is not base64url"))?;
        let (&version, items) = bytes.split_first().ok_or(TokenError("is empty"))?;
        if version != VERSION {
            return Err(TokenError("of another version"));
        }
        if items.is_empty() || items.len() % ITEM != 0 {
            return Err(TokenError("has a wrong length"));
        }
        let mut token = Self::default();
        for item in items.chunks_exact(ITEM) {
            let number = |from: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&item[from..from + 8]);
                u64::from_be_bytes(bytes)
            };
            let partition = Partition((number(0) >> 32) as u32);
            let position = Position::new(number(4), number(12));
            if position.epoch >= Position::LIMIT || position.seq >= Position::LIMIT {
                return Err(TokenError("has a position at or above 2^53"));
            }
            token.add(partition, position);
        }
        Ok(token)
    }
}

impl Serialize for WriteToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WriteToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
