//! How a value becomes bytes.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Turns values into bytes and back.
///
/// Decoding must refuse bytes that it does not consume entirely, and must not allocate much more than it was given:
/// records come from a shared server, and their checksum proves no author.
pub trait Codec<V>: Send + Sync + 'static {
    /// What the header of a record calls this codec. 1 to 15 are reserved for the codecs of this crate.
    fn id(&self) -> u8;

    /// Encodes a value.
    ///
    /// # Errors
    /// [`CodecError`] if the value has no form in this codec.
    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError>;

    /// Decodes all of `bytes`.
    ///
    /// # Errors
    /// [`CodecError`] for anything that is not one whole encoded value.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// A value could not be encoded or decoded.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(#[source] Arc<dyn std::error::Error + Send + Sync>);

impl CodecError {
    /// An error with this cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Arc::from(cause.into()))
    }
}

/// JSON: readable from everywhere, larger and slower than [`BincodeCodec`](crate::BincodeCodec).
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonCodec;

impl JsonCodec {
    /// What the header calls it.
    pub const ID: u8 = 2;
}

impl<V: Serialize + DeserializeOwned> Codec<V> for JsonCodec {
    fn id(&self) -> u8 {
        Self::ID
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(CodecError::new)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}
