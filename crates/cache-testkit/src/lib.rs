//! Real servers, a manual clock and faults, for tests; never published.

mod faulty_store;
mod faulty_transport;
mod manual_clock;

pub use faulty_store::FaultyStore;
pub use faulty_transport::FaultyTransport;
pub use manual_clock::ManualClock;
