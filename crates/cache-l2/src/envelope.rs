//! Values in bincode. The one module of this crate that may name it: the crate is unmaintained, so replacing it must
//! stay a small change.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Codec, CodecError};
use crate::record::VALUE_BYTES_LIMIT;

/// Bincode 2 in its standard configuration: small and fast. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct BincodeCodec;

impl BincodeCodec {
    /// What the header calls it.
    pub const ID: u8 = 1;
}

impl<V: Serialize + DeserializeOwned> Codec<V> for BincodeCodec {
    fn id(&self) -> u8 {
        Self::ID
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(CodecError::new)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        // Bincode's limit counts what numbers take in memory, up to 16 times what they take on the wire, and is a
        // constant of the type: the smallest that cannot refuse an honest value of this length is chosen, so that a
        // false length inside cannot make it allocate more than a small multiple of what came.
        match bytes.len() {
            0..=0x1000 => decode_all::<V, 0x1_0000>(bytes),
            0x1001..=0x1_0000 => decode_all::<V, 0x10_0000>(bytes),
            0x1_0001..=0x10_0000 => decode_all::<V, 0x100_0000>(bytes),
            0x10_0001..=VALUE_BYTES_LIMIT => decode_all::<V, { VALUE_BYTES_LIMIT * 16 }>(bytes),
            _ => Err(CodecError::new("longer than any record")),
        }
    }
}

fn decode_all<V: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<V, CodecError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config).map_err(CodecError::new)?;
    if used != bytes.len() {
        return Err(CodecError::new("bytes are left over behind the value"));
    }
    Ok(value)
}
