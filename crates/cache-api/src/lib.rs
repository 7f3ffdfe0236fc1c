//! The types of the HTTP interface, shared by node and clients.
