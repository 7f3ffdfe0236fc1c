//! The shared tier: the port [`Store`], and the record that carries a value in it.

mod store;

pub use store::{
    Append, Invalidation, Lease, LeaseAnswer, LeaseAsk, LeaseToken, ReadAnswer, ReadItem, Store, StoreError,
};
