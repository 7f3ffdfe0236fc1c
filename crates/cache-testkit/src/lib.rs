//! Real servers, a manual clock and other things for tests; never published.
