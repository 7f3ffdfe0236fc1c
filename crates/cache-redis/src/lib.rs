//! Redis as Store and as Transport.
