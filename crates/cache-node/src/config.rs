//! The configuration of a node in two steps: what was typed (`raw`), then types with units (`checked`), all errors at
//! once. Order: defaults ← profile ← cache tier ← file ← environment ← flags.

mod backing;
mod check;
mod checked;
mod database;
mod errors;
mod file;
mod namespaces;
mod nearest;
mod raw;
mod secret;
mod settings;

pub use checked::{Backing, DatabaseConfig, HttpConfig, Identity, NodeConfig, load};
pub use errors::{ConfigError, ConfigErrors};
pub use namespaces::CacheTypePlan;
pub use raw::{Origin, Sources};
pub use secret::Secret;
pub use settings::{CacheTier, Profile};
