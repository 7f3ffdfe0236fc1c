//! One in-process server that is Store and Transport at once: the default without Redis.
