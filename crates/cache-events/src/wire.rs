//! The binary envelope of events, as logs and hints carry it.
//!
//! ```text
//! envelope   magic 0xEC · version 1 · flags · body (bincode 2, standard configuration, at most 64 KiB in all)
//! hint       partition u32 · epoch u64 · seq u64 (big endian) · envelope (empty: a new epoch)
//! ```
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

const MAGIC: u8 = 0xEC;
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

/// The fields in the order in which they lie on the wire. JSON data travels as text, since bincode is not
/// self-describing.
#[derive(Serialize, Deserialize)]
struct Body {
    kind: String,
    event_id: [u8; 16],
    origin: NodeId,
    timestamp: u64,
    reason: Option<String>,
    resource: String,
    namespaces: Vec<Namespace>,
    scopes: Vec<Scope>,
    data: Option<String>,
    announce: bool,
}

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
    let body = Body {
        kind: event.event_type.as_str().to_owned(),
        event_id: *event.event_id.as_uuid().as_bytes(),
        origin: event.source_node.clone(),
        timestamp: event.timestamp,
        reason: event.reason.clone(),
        resource: event.resource_id.clone(),
        namespaces: event.affected_namespaces.clone(),
        scopes: event.scopes.clone(),
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
    let (decoded, used): (Body, usize) = bincode::serde::decode_from_slice(body, config())
        .map_err(|error| WireError::Corrupt(error.to_string()))?;
    if used != body.len() {
        return Err(corrupt("bytes left over behind the body"));
    }
    if decoded.scopes.len() > ENVELOPE_SCOPES_MAX {
        let (size, max) = (decoded.scopes.len(), ENVELOPE_SCOPES_MAX);
        return Err(WireError::TooLarge { unit: "scopes", size, max });
    }
    let data = match decoded.data {
        Some(text) => Some(serde_json::from_str(&text).map_err(|_| corrupt("its data is not JSON"))?),
        None => None,
    };
    Ok(CacheEvent {
        event_type: EventKind::new(decoded.kind),
        resource_id: decoded.resource,
        data,
        timestamp: decoded.timestamp,
        source_node: decoded.origin,
        event_id: EventId::from_bytes(decoded.event_id),
        affected_namespaces: decoded.namespaces,
        scopes: decoded.scopes,
        reason: decoded.reason,
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
