//! The binary envelope of events, as logs and hints carry it.
//!
//! ```text
//! envelope   magic 0xEC · version 1 · flags · body (bincode 2, standard configuration, at most 64 KiB in all)
//! hint       partition u32 · epoch u64 · seq u64 (big endian) · envelope (empty: a new epoch), or a carrier
//! carrier    magic 0xED · version 1 · kind of cargo · length of the envelope u32 (big endian) · envelope · cargo
//! ```
//!
//! A carrier stands in hints alone: the log keeps what an event says, and what else a hint brought is gone when the hint
//! is. A node that does not know carriers cannot read such a hint, and asks the log.
//!
//! A flag says that something follows which this version does not know (bit 0 is kept for a MAC of 32 bytes behind
//! the body). Decoding arbitrary bytes never panics and never allocates more than a small multiple of that limit.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CacheEvent, EventId, EventKind, Namespace, NodeId, Partition, Position, Scope};

/// Longest envelope, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;
/// Most keys and resources in one envelope; larger batches are split.
pub const ENVELOPE_SCOPES_MAX: usize = 1000;
/// Deepest nesting of lists and objects in an event's data; a JSON reader gives up soon behind it.
pub const DATA_DEPTH_MAX: usize = 100;
/// Bytes before the envelope in a hint.
pub const HINT_PREFIX_BYTES: usize = 20;

/// Bytes of a carrier beside its envelope and its cargo.
pub const CARRIER_BYTES: usize = 7;

const MAGIC: u8 = 0xEC;
const CARRIER: u8 = 0xED;
const VERSION: u8 = 1;
const HEADER: usize = 3;

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Not an envelope, cut short, or with bytes left over.
    #[error("not an event envelope: {0}")]
    Corrupt(String),
    /// Written by a version (or with a flag) that this one does not know.
    #[error(
        "an event envelope of version {version}, flags {flags:#04x}: this node knows version 1 without flags"
    )]
    Unsupported {
        /// The version byte.
        version: u8,
        /// The flags byte.
        flags: u8,
    },
    /// Over a limit.
    #[error("an event of {size} {unit}; the limit is {max}")]
    TooLarge {
        /// What was counted.
        unit: &'static str,
        /// How many there are.
        size: usize,
        /// How many there may be.
        max: usize,
    },
}

/// The fields in the order in which they lie on the wire: those of an event that is written, borrowed, and those of one
/// that is read. JSON data travels as text, since bincode is not self-describing.
#[derive(Serialize, Deserialize)]
struct Body<Text, Data, Node, Namespaces, Scopes> {
    kind: Text,
    event_id: [u8; 16],
    origin: Node,
    timestamp: u64,
    reason: Option<Text>,
    resource: Text,
    namespaces: Namespaces,
    scopes: Scopes,
    data: Option<Data>,
    announce: bool,
}

/// Every node reads every event: its texts are copied only to where they stay.
type Read<'a> = Body<&'a str, &'a str, NodeId, Vec<Namespace>, Vec<Scope>>;
type Written<'a> = Body<&'a str, String, &'a NodeId, &'a [Namespace], &'a [Scope]>;

/// What a decoder may claim. bincode counts what a field takes in memory, not on the wire: the length of a text is
/// one byte there and eight here, so a full envelope of short texts claims up to nine times its size.
const CLAIM_BYTES_MAX: usize = 9 * ENVELOPE_BYTES_MAX;

fn config() -> Configuration<LittleEndian, Varint, Limit<CLAIM_BYTES_MAX>> {
    bincode::config::standard().with_limit::<CLAIM_BYTES_MAX>()
}

fn deeper_than(levels: usize, value: &Value) -> bool {
    let Some(below) = levels.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper_than(below, item)),
        Value::Object(fields) => fields.values().any(|field| deeper_than(below, field)),
        _ => false,
    }
}

/// Encodes an event.
///
/// # Errors
/// [`WireError::TooLarge`] if it has more than [`ENVELOPE_SCOPES_MAX`] scopes, takes more than
/// [`ENVELOPE_BYTES_MAX`] bytes or nests its data deeper than [`DATA_DEPTH_MAX`].
pub fn encode(event: &CacheEvent) -> Result<Vec<u8>, WireError> {
    if event.scopes.len() > ENVELOPE_SCOPES_MAX {
        let (size, max) = (event.scopes.len(), ENVELOPE_SCOPES_MAX);
        return Err(WireError::TooLarge { unit: "scopes", size, max });
    }
    if event.data.as_ref().is_some_and(|data| deeper_than(DATA_DEPTH_MAX, data)) {
        let (size, max) = (DATA_DEPTH_MAX + 1, DATA_DEPTH_MAX);
        return Err(WireError::TooLarge { unit: "levels of data", size, max });
    }
    let body = Written {
        kind: event.event_type.as_str(),
        event_id: *event.event_id.as_uuid().as_bytes(),
        origin: &event.source_node,
        timestamp: event.timestamp,
        reason: event.reason.as_deref(),
        resource: &event.resource_id,
        namespaces: &event.affected_namespaces,
        scopes: &event.scopes,
        data: event.data.as_ref().map(ToString::to_string),
        announce: event.announce,
    };
    let mut bytes = vec![MAGIC, VERSION, 0];
    // Encoding without the limit: the size is judged on the whole, so that the error can say it.
    bincode::serde::encode_into_std_write(&body, &mut bytes, bincode::config::standard())
        .map_err(|error| WireError::Corrupt(error.to_string()))?;
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(WireError::TooLarge { unit: "bytes", size: bytes.len(), max: ENVELOPE_BYTES_MAX });
    }
    Ok(bytes)
}

/// Decodes an envelope.
///
/// # Errors
/// [`WireError`] for anything that [`encode`] of this version does not write.
pub fn decode(bytes: &[u8]) -> Result<CacheEvent, WireError> {
    let corrupt = |what: &str| WireError::Corrupt(what.to_owned());
    if bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(WireError::TooLarge { unit: "bytes", size: bytes.len(), max: ENVELOPE_BYTES_MAX });
    }
    let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(|| corrupt("shorter than its header"))?;
    if header[0] != MAGIC {
        return Err(corrupt("wrong magic byte"));
    }
    if header[1] != VERSION || header[2] != 0 {
        return Err(WireError::Unsupported { version: header[1], flags: header[2] });
    }
    let (decoded, used): (Read<'_>, usize) = bincode::serde::borrow_decode_from_slice(body, config())
        .map_err(|error| WireError::Corrupt(error.to_string()))?;
    if used != body.len() {
        return Err(corrupt("bytes left over behind the body"));
    }
    if decoded.scopes.len() > ENVELOPE_SCOPES_MAX {
        let (size, max) = (decoded.scopes.len(), ENVELOPE_SCOPES_MAX);
        return Err(WireError::TooLarge { unit: "scopes", size, max });
    }
    let data = match decoded.data {
        Some(text) => Some(serde_json::from_str(text).map_err(|_| corrupt("its data is not JSON"))?),
        None => None,
    };
    Ok(CacheEvent {
        event_type: EventKind::read(decoded.kind),
        resource_id: decoded.resource.to_owned(),
        data,
        timestamp: decoded.timestamp,
        source_node: decoded.origin,
        event_id: EventId::from_bytes(decoded.event_id),
        affected_namespaces: decoded.namespaces,
        scopes: decoded.scopes,
        reason: decoded.reason.map(str::to_owned),
        announce: decoded.announce,
    })
}

/// Puts a position in front of an envelope.
pub fn encode_hint(partition: Partition, position: Position, envelope: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HINT_PREFIX_BYTES + envelope.len());
    bytes.extend(partition.0.to_be_bytes());
    bytes.extend(position.epoch.to_be_bytes());
    bytes.extend(position.seq.to_be_bytes());
    bytes.extend(envelope);
    bytes
}

/// Splits a hint into its place and its envelope (empty: a new epoch).
///
/// # Errors
/// [`WireError::Corrupt`] if it is shorter than its prefix or its position is at or above 2^53.
pub fn decode_hint(bytes: &[u8]) -> Result<(Partition, Position, &[u8]), WireError> {
    let (prefix, envelope) = bytes
        .split_at_checked(HINT_PREFIX_BYTES)
        .ok_or_else(|| WireError::Corrupt("a hint shorter than its prefix".into()))?;
    let number = |range: std::ops::Range<usize>| {
        prefix[range].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
    };
    let position = Position::new(number(4..12), number(12..20));
    if position.epoch >= Position::LIMIT || position.seq >= Position::LIMIT {
        return Err(WireError::Corrupt("a hint whose position is at or above 2^53".into()));
    }
    Ok((Partition(number(0..4) as u32), position, envelope))
}

/// What a hint may carry beside its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CargoKind {
    /// The record that the event wrote.
    Record,
    /// What has to be done to the value that was there before.
    Delta,
}

impl CargoKind {
    /// How it is written.
    pub fn code(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Delta => 2,
        }
    }
}

/// Whether a hint can carry so much.
pub fn fits(envelope: &[u8], cargo: &[u8]) -> bool {
    CARRIER_BYTES + envelope.len() + cargo.len() <= ENVELOPE_BYTES_MAX
}

/// Puts an envelope and a cargo into a carrier, to stand behind the position of a hint. Whether it [`fits`] is for the
/// caller to see to.
pub fn encode_carrier(envelope: &[u8], kind: CargoKind, cargo: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CARRIER_BYTES + envelope.len() + cargo.len());
    bytes.extend([CARRIER, VERSION, kind.code()]);
    bytes.extend((envelope.len() as u32).to_be_bytes());
    bytes.extend(envelope);
    bytes.extend(cargo);
    bytes
}

/// What a carrier carries.
pub type Carried<'a> = (CargoKind, &'a [u8]);

/// Takes what stands behind the position of a hint apart: the envelope, and the cargo if it is a carrier. Looks into
/// neither.
///
/// # Errors
/// [`WireError`] for a carrier of another version or kind, one that is too large, or one cut short.
pub fn split_carrier(payload: &[u8]) -> Result<(&[u8], Option<Carried<'_>>), WireError> {
    if payload.first() != Some(&CARRIER) {
        return Ok((payload, None));
    }
    if payload.len() > ENVELOPE_BYTES_MAX {
        let (size, max) = (payload.len(), ENVELOPE_BYTES_MAX);
        return Err(WireError::TooLarge { unit: "bytes", size, max });
    }
    let short = || WireError::Corrupt("a carrier that is cut short".into());
    let (header, rest) = payload.split_first_chunk::<CARRIER_BYTES>().ok_or_else(short)?;
    let kind = match (header[1], header[2]) {
        (VERSION, 1) => CargoKind::Record,
        (VERSION, 2) => CargoKind::Delta,
        (version, flags) => return Err(WireError::Unsupported { version, flags }),
    };
    let length = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
    let (envelope, cargo) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok((envelope, Some((kind, cargo))))
}
