//! Where Redis is, how to log in, and the limits of this crate.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::topology::{self, Endpoint, Topology};

/// The name under which events are published as JSON for other services, where that is switched on.
pub const PUBLIC_CHANNEL: &str = "cache_invalidation_events";

/// How a deployment uses its Redis. All nodes of a deployment must agree on `prefix`, `db` and `partitions`.
///
/// A node opens at most `data_connections` + 2 × `control_connections` + 1 connections to each master: the store has a
/// data pool and a control pool, the transport a control pool and the connection on which hints arrive. (One more for a
/// moment where writes ask for replicas, and two to a Sentinel.)
///
/// ```
/// let config = cache_redis::RedisConfig::from_url("rediss://edge:secret@cache.internal:6380/3")?;
/// assert_eq!((config.host.as_str(), config.port, config.db), ("cache.internal", 6380, 3));
/// assert!(config.tls.is_some());
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), cache_redis::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// How the servers are put together.
    pub topology: Topology,
    /// Host name or address of the one server (with several: of one of them, for messages).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The number of the database.
    pub db: u32,
    /// The ACL user; `None` = the default user.
    pub username: Option<String>,
    /// The password of the user.
    pub password: Option<Secret>,
    /// Use TLS, and how.
    pub tls: Option<TlsConfig>,
    /// With what all names in Redis begin.
    pub prefix: String,
    /// How many partitions the deployment has: 1 for one master, 32 for several and for a Cluster.
    pub partitions: u32,
    /// How long a read or a write of one record may take (50 ms on a LAN, 250 ms on a WAN).
    pub operation_timeout: Duration,
    /// How long a sync or an invalidation may take.
    pub control_timeout: Duration,
    /// How long it may take to connect and log in.
    pub connect_timeout: Duration,
    /// Most connections for records. Each carries many commands at once; further ones are opened for bursts.
    pub data_connections: u32,
    /// Connections for syncs and invalidations, so that a burst of reads does not delay them.
    pub control_connections: u32,
    /// Most entries of the log of a partition. Older ones are trimmed; a node that was away longer flushes its L1.
    pub log_entries_max: u64,
    /// Most bytes of the log of a partition (about). Older entries are trimmed.
    pub log_bytes_max: u64,
    /// Most groups of a partition with a stamp. Outdated ones go first; if there are none, a new epoch begins.
    pub groups_max: u32,
    /// Most hints that wait for a slow receiver. Later ones are dropped, and the receiver is told to sync.
    pub hints_max: usize,
    /// Read from replicas where the caller says that any age will do ([`Store::read_replica`](cache_l2::Store::read_replica)).
    pub replica_reads: bool,
    /// The channel for events as JSON ([`PUBLIC_CHANNEL`]); `None` = none are published.
    pub public_channel: Option<String>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            topology: Topology::Standalone,
            host: "127.0.0.1".to_owned(),
            port: 6379,
            db: 0,
            username: None,
            password: None,
            tls: None,
            prefix: "ec".to_owned(),
            partitions: 1,
            operation_timeout: Duration::from_millis(50),
            control_timeout: Duration::from_millis(400),
            connect_timeout: Duration::from_secs(1),
            data_connections: 2,
            control_connections: 1,
            log_entries_max: 100_000,
            log_bytes_max: 64 * 1024 * 1024,
            groups_max: 10_000,
            hints_max: 8_192,
            replica_reads: false,
            public_channel: None,
        }
    }
}

/// How TLS is done.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// The authorities that may vouch for the server; `None` = those of the operating system.
    pub ca: Option<Pem>,
    /// Certificate (chain) and key by which the server knows this client.
    pub client: Option<(Pem, Pem)>,
    /// The name to expect in the server's certificate; `None` = the host.
    pub server_name: Option<String>,
    /// Accept any certificate. Anybody on the way can then read and change everything.
    pub insecure: bool,
}

/// PEM text, given or in a file. Never shown.
#[derive(Clone)]
pub enum Pem {
    /// The text itself.
    Text(Vec<u8>),
    /// A file that is read when the connection pool is made.
    File(PathBuf),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// A password: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is wrong with a [`RedisConfig`]. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis {field}: {rule}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// What is wrong with it.
    pub rule: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, rule: impl Into<String>) -> Self {
        Self { field, rule: rule.into() }
    }
}

impl RedisConfig {
    /// The defaults with what a URL says. With TLS the schemes begin with `rediss`.
    ///
    /// ```text
    /// redis://[user[:password]@]host[:port][/db]
    /// redis-sentinel://[user[:password]@]sentinel[:port][,sentinel[:port]…]/master[,master…][/db]
    /// redis-cluster://[user[:password]@]node[:port][,node[:port]…]
    /// ```
    ///
    /// A Cluster and several masters get 32 partitions, one master gets one.
    ///
    /// # Errors
    /// [`ConfigError`] if it is not such a URL.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let config = topology::parse(url)?;
        config.check().map(|()| config)
    }

    /// Host and port, as messages name the server.
    pub fn address(&self) -> String {
        match &self.topology {
            Topology::Standalone => self.endpoint().to_string(),
            Topology::Sentinel(sentinel) => {
                format!("{} by Sentinel {}", sentinel.masters.join(","), self.endpoint())
            }
            Topology::Cluster(_) => format!("cluster of {}", self.endpoint()),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.host.clone(), self.port)
    }

    /// Checks what types cannot.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let rule = |field, ok: bool, rule: &str| match ok {
            true => Ok(()),
            false => Err(ConfigError::new(field, rule)),
        };
        let name =
            |text: &str| !text.is_empty() && text.len() <= 64 && !text.contains(['{', '}', ' ', '\n', '\r']);
        match &self.topology {
            Topology::Standalone => {}
            Topology::Sentinel(sentinel) => {
                let mut masters = sentinel.masters.clone();
                masters.sort_unstable();
                masters.dedup();
                let named = !masters.is_empty() && masters.iter().all(|name| name_of_master(name));
                rule("sentinels", !sentinel.sentinels.is_empty(), "at least one")?;
                rule("masters", named, "at least one, of letters, digits, '_', '-' and '.'")?;
                rule("masters", masters.len() == sentinel.masters.len(), "each once")?;
            }
            Topology::Cluster(nodes) => {
                rule("nodes", !nodes.is_empty(), "at least one")?;
                rule("db", self.db == 0, "0 in a Cluster")?;
            }
        }
        rule("host", !self.host.is_empty(), "must not be empty")?;
        rule("prefix", name(&self.prefix), "1 to 64 bytes without braces and blanks")?;
        rule("partitions", (1..=1024).contains(&self.partitions), "1 to 1024")?;
        rule("data_connections", (1..=64).contains(&self.data_connections), "1 to 64")?;
        rule("control_connections", (1..=64).contains(&self.control_connections), "1 to 64")?;
        rule("log_entries_max", self.log_entries_max >= 8, "at least 8")?;
        rule("log_bytes_max", self.log_bytes_max >= 65_536, "at least 65536, the size of one event")?;
        rule("groups_max", self.groups_max >= 1, "at least 1")?;
        rule("hints_max", self.hints_max >= 1, "at least 1")?;
        rule("operation_timeout", !self.operation_timeout.is_zero(), "must not be 0")?;
        rule("control_timeout", !self.control_timeout.is_zero(), "must not be 0")?;
        rule("connect_timeout", !self.connect_timeout.is_zero(), "must not be 0")
    }
}

/// What Sentinel itself allows.
fn name_of_master(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_fills_the_config() {
        let config = RedisConfig::from_url("redis://:p%40ss@10.0.0.7/2").unwrap();
        assert_eq!((config.host.as_str(), config.port, config.db), ("10.0.0.7", 6379, 2));
        assert_eq!(config.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert!(config.tls.is_none());
        assert_eq!(RedisConfig::from_url("redis://[::1]:7000").unwrap().address(), "[::1]:7000");
        assert!(RedisConfig::from_url("rediss://h#insecure").unwrap().tls.unwrap().insecure);
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_secret() {
        for url in [
            "",
            "localhost",
            "http://h",
            "redis://u:hunter2@/x/y",
            "redis://u:hunter2@h/notanumber",
            "redis://h#insecure",
        ] {
            let error = RedisConfig::from_url(url).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut config = RedisConfig::from_url("rediss://u:hunter2@h").unwrap();
        config.tls = Some(TlsConfig {
            client: Some((Pem::Text(b"hunter3".to_vec()), Pem::Text(b"hunter3".to_vec()))),
            ..TlsConfig::default()
        });
        assert!(!format!("{config:?}").contains("hunter"));
    }
}
