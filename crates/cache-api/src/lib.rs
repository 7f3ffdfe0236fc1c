//! The types of the HTTP interface, shared by node and clients.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /health` | – | [`Health`]; 200, or 503 when unhealthy |
//! | `GET /cache/stats` | – | [`Stats`] |
//! | `POST /cache/clear` | [`ClearRequest`] or nothing | [`Written`] |
//! | `POST /cache/invalidate` | [`InvalidateRequest`] | [`Written`] |
//! | `GET /cache/{cache_type}/{resource}?name=value…` | – | the value as JSON |
//! | `PUT /cache/{cache_type}/{resource}?name=value…` | the value as JSON | [`Written`] |
//! | `DELETE /cache/{cache_type}/{resource}` | – | [`Written`] |
//! | `GET /market/…` | – | the value as JSON, with its `currency` ([`market::Priced`]) |
//! | `GET /nodes`, `GET /node/…` | – | see [`operate`] |
//! | `PUT`, `POST`, `DELETE /market/…` | see [`market`] | [`market::Changed`] |
//!
//! The whole stands in the description that a node serves as `GET /openapi.json`. Everything that is not a success has an [`ErrorBody`]. Names in JSON are those of the fields.

mod error;
mod fields;
pub mod headers;
mod health;
pub mod market;
pub mod operate;
mod requests;
mod stats;

pub use error::{ErrorBody, PROBLEM_JSON};
pub use health::{ClusterHealth, Health, Liveness, MasterHealth, Status, TopologyHealth};
pub use requests::{BodyError, ClearRequest, InvalidateRequest, Target, Written};
pub use stats::{AuditStats, CurrentStats, LatencyStats, NamespaceStats, Stats, TierStats, ViolationReport};
