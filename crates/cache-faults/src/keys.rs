//! What the storm writes and reads.

use cache_events::{Key, Namespace, Tag};
use cache_tiered::{TieredCache, TypedCache};

/// Keys of one tag.
const TAGGED: usize = 4;

pub(crate) fn namespace() -> Namespace {
    Namespace::new("storm").unwrap_or_else(|error| panic!("a valid name: {error}"))
}

pub(crate) fn handle(cache: &TieredCache) -> TypedCache<u64> {
    cache.namespace("storm").unwrap_or_else(|error| panic!("every node has the namespace: {error}"))
}

/// Variants of one resource are invalidated together.
pub(crate) fn key(number: usize) -> Key {
    let built = Key::builder(&namespace(), format!("resource-{}", number / 2)).param("n", number.to_string());
    built.build().unwrap_or_else(|error| panic!("a valid key: {error}"))
}

pub(crate) fn tag(number: usize) -> Tag {
    Tag::new(format!("tag-{}", number / TAGGED)).unwrap_or_else(|error| panic!("a valid tag: {error}"))
}
