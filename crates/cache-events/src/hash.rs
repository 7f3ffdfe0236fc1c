//! The one 64-bit hash that all nodes share.

/// Hashes the fields with XXH3 (64 bit, seed 0), each preceded by its length, so that `["ab", "c"]` and
/// `["a", "bc"]` differ. The result is part of the wire contract: partitions, record bindings and group ids use it.
pub fn hash64<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut state = xxhash_rust::xxh3::Xxh3Default::new();
    for field in fields {
        state.update(&(field.len() as u32).to_le_bytes());
        state.update(field);
    }
    state.digest()
}
