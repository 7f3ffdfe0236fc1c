//! The shared tier: the port [`Store`], and the record that carries a value in it.
//!
//! ```
//! use cache_events::{Key, Namespace};
//! use cache_l2::{BincodeCodec, RecordFormat, RecordHead, fingerprint};
//!
//! let key = Key::new(&Namespace::new("gpu_info")?, "H100")?;
//! let format = RecordFormat::new(fingerprint("gpu", 1));
//! let record = format.seal(&RecordHead::default(), &key, Some(&80_u32), &BincodeCodec)?;
//! assert_eq!(format.open::<u32, _>(&record, &key, &BincodeCodec)?.value, Some(80));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
pub mod contract;
mod envelope;
mod record;
mod store;

pub use codec::{Codec, CodecError, JsonCodec};
pub use envelope::BincodeCodec;
pub use record::{
    EPOCH_OFFSET, GROUPS_MAX, HEADER_BYTES, Opened, RecordError, RecordFormat, RecordHead, SEQ_OFFSET,
    SealError, VALUE_BYTES_LIMIT, VERSION_OFFSET, epoch_of, fingerprint, position_of, seq_of, stamp_position,
    version_of, was_put,
};
pub use store::{
    Append, Carry, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, NodeRoll, NodeRow, Over,
    ReadAnswer, ReadItem, Store, StoreError,
};
