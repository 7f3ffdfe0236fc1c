//! The record that carries a value in the shared tier.
//!
//! All numbers are big endian; all times are milliseconds since the Unix epoch by the clock of the store.
//!
//! ```text
//!  0  magic "EC"              20  origin version u64        57  compression u8 (0 none, 1 LZ4 block)
//!  2  format version u8 = 1   28  load start u64            58  type fingerprint u64
//!  3  flags u8 (1 = absent)   36  soft expiry u64           66  key hash u64
//!  4  epoch u64               44  hard expiry u64           74  length of the encoded value u32
//! 12  seq u64                 52  load cost in µs u32       78  number of groups u16
//!                             56  codec u8                  80  group ids u64 .. · payload · CRC32C u32
//! ```
//!
//! The checksum covers all but epoch and seq: the store writes those itself when it stores a [`put`], since only there
//! the position of the write is known. Whatever is wrong with a record makes it a miss with a name, never an error of
//! the caller and never another value.
//!
//! [`put`]: crate::Store::put

use bytes::Bytes;
use cache_events::{Key, Position, Version, hash64};

use crate::codec::{Codec, CodecError};

/// Where the epoch begins: 8 bytes, written by the store for a put.
pub const EPOCH_OFFSET: usize = 4;
/// Where the sequence begins: 8 bytes, written by the store for a put.
pub const SEQ_OFFSET: usize = 12;
/// Where the origin version begins: two u32, the upper half first.
pub const VERSION_OFFSET: usize = 20;
/// Where the cost of the load begins: a u32.
const LOAD_COST_OFFSET: usize = 52;
/// Bytes before the groups.
pub const HEADER_BYTES: usize = 80;
/// Most groups of one record.
pub const GROUPS_MAX: usize = 256;
/// Longest encoded value that any [`RecordFormat`] may allow, in bytes.
pub const VALUE_BYTES_LIMIT: usize = 16 * 1024 * 1024;

const MAGIC: [u8; 2] = *b"EC";
const FORMAT_VERSION: u8 = 1;
const ABSENT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// LZ4 cannot do better; a header that claims more is false.
const LZ4_RATIO_MAX: usize = 255;

/// What a record says about its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordHead {
    /// Where the log stood when the load lease was granted; for a put, the position of the put itself.
    pub origin: Position,
    /// The version that the system of record gives the value.
    pub version: Version,
    /// When the load began (ms since the Unix epoch, store's clock).
    pub load_start: u64,
    /// From when on a refresh is due (ms since the Unix epoch, store's clock).
    pub soft_expiry: u64,
    /// From when on the value is not to be used (ms since the Unix epoch, store's clock).
    pub hard_expiry: u64,
    /// How long the load took, in microseconds; 0 if the value was not loaded but put, and never 0 otherwise
    /// ([`was_put`]).
    pub load_cost_us: u32,
    /// The ids of the groups that invalidate it besides its own namespace; at most [`GROUPS_MAX`].
    pub groups: Vec<u64>,
}

/// How the records of one namespace are written and what is accepted when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFormat {
    /// The fingerprint of the type of the values: [`fingerprint`].
    pub fingerprint: u64,
    /// Encoded values longer than this are compressed, where that makes them shorter; `None` = never.
    pub compress_above: Option<usize>,
    /// Longest encoded value, in bytes; at most [`VALUE_BYTES_LIMIT`]. Longer ones are refused both ways.
    pub value_bytes_max: usize,
}

/// A record that was found to be intact, of the right key and of the right type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<V> {
    /// What it says about the value.
    pub head: RecordHead,
    /// The value; `None` = the absence of a value was cached.
    pub value: Option<V>,
    /// Length of the encoded value before compression, in bytes: what it roughly weighs.
    pub raw_len: usize,
}

/// Why a value cannot become a record.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The codec refused it.
    #[error("the value cannot be encoded")]
    Encode(#[source] CodecError),
    /// It is too long.
    #[error("the encoded value has {bytes} bytes; the limit of its namespace is {max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It carries too many tags.
    #[error("the value carries {groups} groups; the limit is {GROUPS_MAX}")]
    TooManyGroups {
        /// How many it carries.
        groups: usize,
    },
}

/// Why a record is a miss.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than what its header announces.
    #[error("the record is cut short")]
    Truncated,
    /// Not a record, or one of a format that this version does not know.
    #[error("not a record of format {FORMAT_VERSION}")]
    Format,
    /// The checksum is wrong.
    #[error("the checksum of the record is wrong")]
    Checksum,
    /// It belongs to another key.
    #[error("the record belongs to another key")]
    ForeignKey,
    /// It holds another type, or another schema of the same type.
    #[error("the record holds another type")]
    OtherType,
    /// It was written by another codec or compression.
    #[error("the record was written by another codec")]
    OtherCodec,
    /// It is longer than its namespace allows.
    #[error("the record is over the limit of its namespace")]
    OverLimit,
    /// Its payload cannot be decompressed or decoded.
    #[error("the payload of the record cannot be decoded")]
    Decode(#[source] CodecError),
}

impl RecordError {
    /// The cause in one word, for counters.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Format => "format",
            Self::Checksum => "checksum",
            Self::ForeignKey => "foreign_key",
            Self::OtherType => "other_type",
            Self::OtherCodec => "other_codec",
            Self::OverLimit => "over_limit",
            Self::Decode(_) => "decode",
        }
    }
}

/// The fingerprint of a type: its name and the version that its owner gives its schema. Raise the version when the
/// fields change; records of another fingerprint are misses.
pub fn fingerprint(type_name: &str, schema_version: u32) -> u64 {
    hash64([type_name.as_bytes(), &schema_version.to_be_bytes()])
}

/// The position in the header of a record, without any check of the rest. `None` = not a record.
pub fn position_of(record: &[u8]) -> Option<Position> {
    let header = header_of(record)?;
    Some(Position::new(u64_at(header, EPOCH_OFFSET), u64_at(header, SEQ_OFFSET)))
}

/// The epoch in the header of a record, without any check of the rest. `None` = not a record.
pub fn epoch_of(record: &[u8]) -> Option<u64> {
    position_of(record).map(|position| position.epoch)
}

/// The sequence in the header of a record, without any check of the rest. `None` = not a record.
pub fn seq_of(record: &[u8]) -> Option<u64> {
    position_of(record).map(|position| position.seq)
}

/// The origin version in the header of a record, without any check of the rest. `None` = not a record.
pub fn version_of(record: &[u8]) -> Option<Version> {
    header_of(record).map(|header| Version(u64_at(header, VERSION_OFFSET)))
}

/// Whether the header of a record says that its value was put rather than loaded, without any check of the rest.
pub fn was_put(record: &[u8]) -> bool {
    header_of(record).is_some_and(|header| header[LOAD_COST_OFFSET..LOAD_COST_OFFSET + 4] == [0; 4])
}

/// Writes a position into the header of a record, as a put does. Says whether it was a record.
pub fn stamp_position(record: &mut [u8], position: Position) -> bool {
    if header_of(record).is_none() {
        return false;
    }
    record[EPOCH_OFFSET..SEQ_OFFSET].copy_from_slice(&position.epoch.to_be_bytes());
    record[SEQ_OFFSET..VERSION_OFFSET].copy_from_slice(&position.seq.to_be_bytes());
    true
}

impl RecordFormat {
    /// The defaults for a type: compression above 1 KiB, values up to 1 MiB.
    pub fn new(fingerprint: u64) -> Self {
        Self { fingerprint, compress_above: Some(1024), value_bytes_max: 1024 * 1024 }
    }

    /// Writes a record; without a value, one that says that there is none.
    ///
    /// # Errors
    /// [`SealError`] if the value cannot be encoded, is too long or has too many groups.
    pub fn seal<V, C>(
        &self,
        head: &RecordHead,
        key: &Key,
        value: Option<&V>,
        codec: &C,
    ) -> Result<Bytes, SealError>
    where
        C: Codec<V> + ?Sized,
    {
        if head.groups.len() > GROUPS_MAX {
            return Err(SealError::TooManyGroups { groups: head.groups.len() });
        }
        let raw = match value {
            Some(value) => codec.encode(value).map_err(SealError::Encode)?,
            None => Vec::new(),
        };
        let max = self.value_limit();
        if raw.len() > max {
            return Err(SealError::TooLarge { bytes: raw.len(), max });
        }
        let squeezed = match self.compress_above {
            Some(above) if raw.len() > above => Some(lz4_flex::block::compress(&raw)),
            _ => None,
        };
        let (compression, payload) = match &squeezed {
            Some(squeezed) if squeezed.len() < raw.len() => (LZ4, squeezed),
            _ => (PLAIN, &raw),
        };

        let mut record =
            Vec::with_capacity(HEADER_BYTES + head.groups.len() * 8 + payload.len() + CHECKSUM_BYTES);
        record.extend(MAGIC);
        record.push(FORMAT_VERSION);
        record.push(if value.is_none() { ABSENT } else { 0 });
        for number in [
            head.origin.epoch,
            head.origin.seq,
            head.version.0,
            head.load_start,
            head.soft_expiry,
            head.hard_expiry,
        ] {
            record.extend(number.to_be_bytes());
        }
        record.extend(head.load_cost_us.to_be_bytes());
        record.push(codec.id());
        record.push(compression);
        record.extend(self.fingerprint.to_be_bytes());
        record.extend(key.hash64().to_be_bytes());
        record.extend((raw.len() as u32).to_be_bytes());
        record.extend((head.groups.len() as u16).to_be_bytes());
        for group in &head.groups {
            record.extend(group.to_be_bytes());
        }
        record.extend(payload);
        let checksum = checksum(&record);
        record.extend(checksum.to_be_bytes());
        Ok(record.into())
    }

    /// Reads a record. Whether its epoch lives, whether a stamp overtook it and whether it has expired is for the
    /// caller to judge.
    ///
    /// # Errors
    /// [`RecordError`]: the record is a miss, for this reason.
    pub fn open<V, C>(&self, record: &[u8], key: &Key, codec: &C) -> Result<Opened<V>, RecordError>
    where
        C: Codec<V> + ?Sized,
    {
        let (head, parts) = self.checked(record, key, codec.id())?;
        if parts.absent {
            return Ok(Opened { head, value: None, raw_len: 0 });
        }
        let raw_len = parts.raw_len;
        let value = match parts.compression {
            PLAIN => codec.decode(parts.payload),
            _ => codec.decode(&decompress(parts.payload, raw_len)?),
        };
        Ok(Opened { head, value: Some(value.map_err(RecordError::Decode)?), raw_len })
    }

    /// Judges everything that can be judged before the payload is touched.
    fn checked<'a>(
        &self,
        record: &'a [u8],
        key: &Key,
        codec: u8,
    ) -> Result<(RecordHead, Parts<'a>), RecordError> {
        if record.len() < HEADER_BYTES + CHECKSUM_BYTES {
            return Err(RecordError::Truncated);
        }
        if record[..2] != MAGIC || record[2] != FORMAT_VERSION {
            return Err(RecordError::Format);
        }
        // Before the checksum, which would have to walk over all of it.
        let max = self.value_limit();
        if record.len() > HEADER_BYTES + GROUPS_MAX * 8 + max + CHECKSUM_BYTES {
            return Err(RecordError::OverLimit);
        }
        let (body, sum) = record.split_at(record.len() - CHECKSUM_BYTES);
        if sum != checksum(body).to_be_bytes() {
            return Err(RecordError::Checksum);
        }
        if body[3] & !ABSENT != 0 {
            return Err(RecordError::Format);
        }
        if u64_at(body, 66) != key.hash64() {
            return Err(RecordError::ForeignKey);
        }
        if u64_at(body, 58) != self.fingerprint {
            return Err(RecordError::OtherType);
        }
        if body[56] != codec || body[57] > LZ4 {
            return Err(RecordError::OtherCodec);
        }
        let groups = usize::from(u16::from_be_bytes([body[78], body[79]]));
        let (groups, payload) =
            body[HEADER_BYTES..].split_at_checked(groups * 8).ok_or(RecordError::Truncated)?;
        let parts = Parts {
            absent: body[3] & ABSENT != 0,
            compression: body[57],
            raw_len: u32_at(body, 74) as usize,
            payload,
        };
        if parts.raw_len > max || payload.len() > max {
            return Err(RecordError::OverLimit);
        }
        if parts.compression == PLAIN && parts.raw_len != payload.len() {
            return Err(RecordError::Truncated);
        }
        let head = RecordHead {
            origin: Position::new(u64_at(body, EPOCH_OFFSET), u64_at(body, SEQ_OFFSET)),
            version: Version(u64_at(body, VERSION_OFFSET)),
            load_start: u64_at(body, 28),
            soft_expiry: u64_at(body, 36),
            hard_expiry: u64_at(body, 44),
            load_cost_us: u32_at(body, 52),
            groups: groups.chunks_exact(8).map(|id| u64_at(id, 0)).collect(),
        };
        Ok((head, parts))
    }

    fn value_limit(&self) -> usize {
        self.value_bytes_max.min(VALUE_BYTES_LIMIT)
    }
}

struct Parts<'a> {
    absent: bool,
    compression: u8,
    raw_len: usize,
    payload: &'a [u8],
}

/// The caller has compared `raw_len` with the limit; here it must also be possible, before it is allocated.
fn decompress(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, RecordError> {
    let wrong = |what: &str| RecordError::Decode(CodecError::new(what));
    if raw_len > payload.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(wrong("an impossible compression ratio"));
    }
    let mut raw = vec![0; raw_len];
    let written = lz4_flex::block::decompress_into(payload, &mut raw)
        .map_err(|error| RecordError::Decode(CodecError::new(error)))?;
    if written != raw_len {
        return Err(wrong("shorter than its header says"));
    }
    Ok(raw)
}

fn checksum(body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&body[..EPOCH_OFFSET]), &body[VERSION_OFFSET..])
}

fn header_of(record: &[u8]) -> Option<&[u8]> {
    record.get(..HEADER_BYTES).filter(|header| header[..2] == MAGIC)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}
