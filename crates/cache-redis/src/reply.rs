//! Reading answers of Redis.

use bb8_redis::redis::Value;
use bytes::Bytes;
use cache_events::Position;

use crate::fault::Fault;

/// The answer has not the shape that the scripts of this version give.
pub(crate) fn odd(what: &str) -> Fault {
    Fault::Unknown(format!("{what}: an answer of unknown shape"))
}

/// The text of a reply.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// The bytes of a reply, taken.
pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

/// Epoch, sequence and server ms from three consecutive members of an array.
pub(crate) fn head(value: &Value, from: usize) -> Result<(Position, u64), Fault> {
    let member = |at: usize| match value {
        Value::Array(list) => list.get(from + at).and_then(number),
        _ => None,
    };
    match (member(0), member(1), member(2)) {
        (Some(epoch), Some(seq), Some(ms)) => Ok((Position::new(epoch, seq), ms)),
        _ => Err(odd("head")),
    }
}

/// The position that a writing script answers; `None` = it refused.
pub(crate) fn position(value: &Value) -> Result<Option<Position>, Fault> {
    match value {
        Value::Nil => Ok(None),
        value => match text(value).and_then(|id| id.parse().ok()) {
            Some(position) => Ok(Some(position)),
            None => Err(odd("position")),
        },
    }
}

/// The position in a stamp, `epoch:seq:hi:lo`. What is not one stamps nothing: floors are read by the scripts.
pub(crate) fn stamp(bytes: &[u8]) -> Option<Position> {
    let mut fields = std::str::from_utf8(bytes).ok()?.split(':');
    let epoch = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    Some(Position::new(epoch, seq))
}
