//! What invalidations leave behind, and for how long.

use std::time::Duration;

use cache_events::{Key, Position, Version};

use crate::expiring::Expiring;

/// The time of one step.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    /// Monotone milliseconds: all deadlines here are in it.
    pub(crate) tick: u64,
    /// Milliseconds since the Unix epoch, as told to callers.
    pub(crate) server_ms: u64,
}

/// What an invalidation left behind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stamp {
    pub(crate) at: Position,
    pub(crate) floor: Version,
}

/// Stamps and floors only grow, and live as long as the longest that was asked.
pub(crate) fn stamp(
    stamps: &mut Expiring<Key, Stamp>,
    key: &Key,
    floor: Version,
    keep: Duration,
    at: Position,
    now: Now,
) {
    let old = stamps.get(key, now.tick).copied().unwrap_or_default();
    let until = deadline(now, keep).max(now.tick + stamps.remaining(key, now.tick).unwrap_or_default());
    stamps.insert(key.clone(), Stamp { at, floor: floor.max(old.floor) }, key.weight(), until);
}

/// The key of the resource without parameters, under which its stamp lies.
pub(crate) fn resource_of(key: &Key) -> Key {
    if !key.has_params() {
        return key.clone();
    }
    // It cannot fail: the resource is one of a key already.
    Key::new(key.namespace(), key.resource()).unwrap_or_else(|_| key.clone())
}

pub(crate) fn deadline(now: Now, ttl: Duration) -> u64 {
    now.tick.saturating_add(millis(ttl).max(1))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
