//! The system of record of the marketplace: which database, and whether the nodes agree on it.

use super::check::Check;
use super::checked::{Backing, DatabaseConfig};
use super::secret::Secret;

/// A database in memory of this process.
const IN_MEMORY: &str = "sqlite::memory:";

/// The database that was typed, else one in memory.
pub(super) fn database(check: &mut Check<'_>, backing: &Backing) -> DatabaseConfig {
    let url = check.read("database.url", |text| {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        match scheme {
            Some("sqlite" | "postgres" | "postgresql") => Ok(text.to_owned()),
            _ => Err(format!(
                "must be {IN_MEMORY}, a file such as sqlite:market.db, or postgres://user:password@host/database"
            )),
        }
    });
    let url = url.unwrap_or_else(|| IN_MEMORY.to_owned());
    let allowed = check.switch("database.allow_private_ledger");
    let private = is_private(&url);
    if private && !allowed && matches!(backing, Backing::Redis(_)) {
        check.wrong(
            "database.url",
            "must name a database that all nodes share, since they share a Redis: with one in memory each node \
             would have a market of its own, and they would disagree. Set DATABASE_URL to a postgres:// URL (or, for \
             nodes on one machine, to a file such as sqlite:market.db), or pass --allow-private-ledger",
        );
    }
    DatabaseConfig { url: Secret::new(&url), private }
}

/// Whether nobody but this process sees the database.
fn is_private(url: &str) -> bool {
    url.starts_with("sqlite:") && (url.contains(":memory:") || url.contains("mode=memory"))
}
