//! The configuration of a node in two steps: what was typed (`raw`), then types with units (`checked`), all errors at
//! once. Order: defaults ← profile ← cache tier ← file ← environment ← flags.

mod auth;
mod backing;
mod check;
mod checked;
mod database;
#[cfg(test)]
mod documented;
mod errors;
mod file;
mod http;
mod live;
mod namespaces;
mod nearest;
mod parse;
mod raw;
mod secret;
mod settings;
mod shown;
mod telemetry;

pub use auth::{AuthConfig, Token, TokenScope};
pub use checked::{Backing, DatabaseConfig, Identity, NodeConfig, Reading, load, read};
pub use errors::{ConfigError, ConfigErrors};
pub use http::{HttpConfig, HttpLimits, LogTarget, RequestLogs, TlsFiles};
pub use live::{Live, LiveConfig};
pub use namespaces::CacheTypePlan;
pub use raw::{Origin, Sources};
pub use secret::Secret;
pub use settings::{CacheTier, Profile};
pub(crate) use shown::AllTyped;
pub use shown::{REDACTED, Shown};
pub use telemetry::{OtlpConfig, TelemetryConfig};
