//! Invalidating while a slot moves and the keys of a partition are in two places, so that no script can have them all.
//!
//! Each key is then removed by a step of its own, wherever it is; the event, which needs meta and log alone, comes last.
//! Every prefix of the steps is safe:
//!
//! 1. Resources are *closed*: their stamps get a sequence above all, so that every record of them is worthless.
//! 2. Leases go before records: what would still be filled is refused, and what was filled before is removed now.
//! 3. The event is appended and published, and only then acknowledged.
//! 4. Resources are opened again: their stamps get the position of the event. If that fails they stay closed, which
//!    costs hits and nothing else, until the next invalidation or until their time is over.

use std::time::Duration;

use bb8_redis::redis::{self, Value};
use cache_events::{Partition, Position, Version};
use cache_l2::{Append, Invalidation};

use crate::fault::Fault;
use crate::layout::KeyNames;
use crate::reply;
use crate::store::{KEEP_MIN, RedisStore, hold_millis, millis};

/// Length of a record's header up to the end of its version.
const HEAD_BYTES: usize = 28;

impl RedisStore {
    /// Takes the steps. `stamps` are the names of the resources' stamps.
    pub(crate) async fn invalidate_apart(
        &self,
        partition: Partition,
        what: &Invalidation,
        stamps: &[String],
        append: &Append,
    ) -> Result<Position, Fault> {
        tracing::debug!(%partition, "the slot is moving: invalidating key by key");
        let part = self.dialer.layout.part(partition);
        let epoch = self.dialer.epoch(partition);
        // Nobody else closes with the same number, so that each opens only what it closed itself.
        let closed = Position::LIMIT - 1 - fastrand::u64(0..1 << 32);
        let floor =
            |at: Position, replaced: Option<u64>| Stamp { at, replaced, floor: what.floor, keep: what.keep };
        for stamp in stamps {
            self.stamp_apart(partition, stamp, &floor(Position::new(epoch, closed), None)).await?;
        }
        for key in &what.keys {
            self.remove_apart(partition, &part.key(key), what).await?;
        }
        let position = self.append_alone(partition, append).await?;
        for stamp in stamps {
            if let Err(why) = self.stamp_apart(partition, stamp, &floor(position, Some(closed))).await {
                tracing::debug!(%partition, %why, "a resource stays closed");
            }
        }
        Ok(position)
    }

    async fn remove_apart(
        &self,
        partition: Partition,
        names: &KeyNames,
        what: &Invalidation,
    ) -> Result<(), Fault> {
        let script = &self.dialer.scripts.free;
        let mut lease = script.call(1);
        lease.arg(&names.lease).arg(hold_millis(what));
        self.control.eval_apart(partition, script, &lease).await?;
        let mut look = redis::cmd("GETRANGE");
        look.arg(&names.value).arg(0).arg(HEAD_BYTES - 1);
        let head = self.control.run_apart(partition, "reading a version", &look).await?;
        let floor = version_in(&head).max(what.floor);
        if floor != Version::NONE {
            let stamp = Stamp {
                at: Position::new(self.dialer.epoch(partition), 0),
                replaced: None,
                floor,
                keep: what.keep,
            };
            self.stamp_apart(partition, &names.floor, &stamp).await?;
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(&names.value);
        self.control.run_apart(partition, "removing a record", &unlink).await.map(drop)
    }

    async fn stamp_apart(&self, partition: Partition, name: &str, stamp: &Stamp) -> Result<(), Fault> {
        let script = &self.dialer.scripts.apart;
        let mut cmd = script.call(1);
        let (hi, lo) = stamp.floor.halves();
        cmd.arg(name)
            .arg(stamp.at.epoch)
            .arg(stamp.at.seq)
            .arg(hi)
            .arg(lo)
            .arg(millis(stamp.keep.max(KEEP_MIN)));
        match stamp.replaced {
            Some(replaced) => cmd.arg(replaced),
            None => cmd.arg(""),
        };
        self.control.eval_apart(partition, script, &cmd).await.map(drop)
    }

    /// An event that removes nothing.
    async fn append_alone(&self, partition: Partition, append: &Append) -> Result<Position, Fault> {
        let script = &self.dialer.scripts.inval;
        let mut cmd = self.appending(script, partition, append, 0, |_| {});
        cmd.arg(0).arg(1);
        let answer = self.control.eval(partition, script, &cmd).await?;
        let position = reply::position(&answer)?.ok_or_else(|| reply::odd("position"))?;
        self.dialer.saw_epoch(partition, position.epoch);
        Ok(position)
    }
}

/// What a stamp is to say.
struct Stamp {
    at: Position,
    /// Only in the place of this sequence.
    replaced: Option<u64>,
    floor: Version,
    keep: Duration,
}

/// The version of a record, by its first bytes.
fn version_in(head: &Value) -> Version {
    match head {
        Value::BulkString(bytes) if bytes.len() == HEAD_BYTES && bytes.starts_with(b"EC") => {
            let version = bytes[HEAD_BYTES - 8..].try_into().map_or(0, u64::from_be_bytes);
            Version(version)
        }
        _ => Version::NONE,
    }
}
