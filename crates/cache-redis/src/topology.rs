//! Which servers there are: one, several masters under Sentinel, or a Cluster.

use std::fmt;

use bb8_redis::redis::{ConnectionAddr, IntoConnectionInfo};

use crate::config::{ConfigError, RedisConfig, Secret, TlsConfig};

/// How many partitions a URL with several masters asks for.
const PARTITIONS_OF_SEVERAL: u32 = 32;
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How the servers of a deployment are put together.
///
/// The URL says it: `redis://`, `redis-sentinel://` or `redis-cluster://`, see [`RedisConfig::from_url`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// One server, named by `host` and `port` of the [`RedisConfig`].
    #[default]
    Standalone,
    /// One or several masters, each with replicas, watched over by Sentinels. Each partition belongs to one of them.
    Sentinel(SentinelConfig),
    /// A Redis Cluster, with some of its nodes: the others are learnt from them.
    Cluster(Vec<Endpoint>),
}

/// Where Sentinels are, and what they watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SentinelConfig {
    /// The Sentinels; any of them will do.
    pub sentinels: Vec<Endpoint>,
    /// The names of the masters. Their order does not matter; all nodes of a deployment must name the same.
    pub masters: Vec<String>,
    /// The ACL user at the Sentinels, which are logged into apart from the servers that they watch.
    pub username: Option<String>,
    /// The password at the Sentinels.
    pub password: Option<Secret>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// A host, which may be an IPv6 address in brackets, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port }
    }

    /// `host:port`, or the host alone where there is a default.
    pub(crate) fn parse(text: &str, default: Option<u16>) -> Option<Self> {
        // `[::1]`, `[::1]:7000`, `::1:7000` (as Redis writes it), `host`, `host:7000`.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok()?),
            _ => (text, default?),
        };
        (!host.is_empty() && port > 0).then(|| Self::new(host, port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Reads a URL.
pub(crate) fn parse(url: &str) -> Result<RedisConfig, ConfigError> {
    let wrong = |rule: &str| ConfigError::new("URL", rule.to_owned());
    const SCHEMES: &str = "needs redis://, rediss://, redis-sentinel:// or redis-cluster://";
    let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| wrong(SCHEMES))?;
    let (family, kind) = scheme.split_once('-').unwrap_or((scheme, ""));
    let tls = match family {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(wrong(SCHEMES)),
    };
    // The client is built without its own TLS and would refuse the scheme.
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let insecure = match fragment {
        "" => false,
        "insecure" if tls => true,
        _ => return Err(wrong("may end in #insecure with TLS and in no other fragment")),
    };
    let config = match kind {
        "" => one(rest)?,
        "sentinel" => sentinel(rest)?,
        "cluster" => cluster(rest)?,
        _ => return Err(wrong(SCHEMES)),
    };
    Ok(RedisConfig { tls: tls.then(|| TlsConfig { insecure, ..TlsConfig::default() }), ..config })
}

/// `[user[:password]@]host[:port][/db]`
fn one(rest: &str) -> Result<RedisConfig, ConfigError> {
    let wrong = |rule: &str| ConfigError::new("URL", rule.to_owned());
    let info = format!("redis://{rest}").into_connection_info().map_err(|error| {
        wrong(&format!("is not [user[:password]@]host[:port][/db]: {}", error.category()))
    })?;
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        return Err(wrong("needs a host"));
    };
    let (Endpoint { host, port }, settings) = (Endpoint::new(host, *port), info.redis_settings());
    Ok(RedisConfig {
        host,
        port,
        db: u32::try_from(settings.db()).map_err(|_| wrong("has a negative database"))?,
        username: settings.username().map(str::to_owned),
        password: settings.password().map(Secret::new),
        ..RedisConfig::default()
    })
}

/// `[user[:password]@]host[:port][,host[:port]…]/master[,master…][/db]`
fn sentinel(rest: &str) -> Result<RedisConfig, ConfigError> {
    let wrong = |rule: &str| ConfigError::new("URL", rule.to_owned());
    let (authority, path) = rest
        .split_once('/')
        .ok_or_else(|| wrong("needs the names of masters: redis-sentinel://host,host/master"))?;
    let (masters, db) = path.split_once('/').unwrap_or((path, ""));
    let (login, sentinels) = several(authority, SENTINEL_PORT)?;
    let masters: Vec<String> =
        masters.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let config = one(&format!("{login}{}/{db}", sentinels[0]))?;
    let partitions = if masters.len() > 1 { PARTITIONS_OF_SEVERAL } else { 1 };
    let topology = Topology::Sentinel(SentinelConfig { sentinels, masters, username: None, password: None });
    Ok(RedisConfig { topology, partitions, ..config })
}

/// `[user[:password]@]host[:port][,host[:port]…]`
fn cluster(rest: &str) -> Result<RedisConfig, ConfigError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, nodes) = several(authority, PORT)?;
    let config = one(&format!("{login}{}/{path}", nodes[0]))?;
    Ok(RedisConfig { topology: Topology::Cluster(nodes), partitions: PARTITIONS_OF_SEVERAL, ..config })
}

/// The login, with its `@`, and the hosts (at least one).
fn several(authority: &str, port: u16) -> Result<(String, Vec<Endpoint>), ConfigError> {
    let wrong = || ConfigError::new("URL", "needs hosts: host[:port][,host[:port]...]");
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
    };
    let parsed = hosts.split(',').map(|host| Endpoint::parse(host, Some(port)).ok_or_else(wrong));
    Ok((login, parsed.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(list: &[(&str, u16)]) -> Vec<Endpoint> {
        list.iter().map(|(host, port)| Endpoint::new(*host, *port)).collect()
    }

    #[test]
    fn a_url_names_sentinels_and_masters() {
        let config =
            RedisConfig::from_url("rediss-sentinel://edge:p%40ss@s1,s2:7,[::1]:8/one,two/3").unwrap();
        let Topology::Sentinel(sentinel) = &config.topology else { panic!("{config:?}") };
        assert_eq!(sentinel.sentinels, endpoints(&[("s1", 26379), ("s2", 7), ("::1", 8)]));
        assert_eq!(sentinel.masters, ["one", "two"]);
        assert_eq!((config.db, config.partitions, config.username.as_deref()), (3, 32, Some("edge")));
        assert!(config.tls.is_some() && !format!("{config:?}").contains("p@ss"));
        assert_eq!(RedisConfig::from_url("redis-sentinel://s/one").unwrap().partitions, 1);
    }

    #[test]
    fn a_url_names_nodes_of_a_cluster() {
        let config = RedisConfig::from_url("redis-cluster://:pw@a,b:7000").unwrap();
        assert_eq!(config.topology, Topology::Cluster(endpoints(&[("a", 6379), ("b", 7000)])));
        assert_eq!((config.partitions, config.password.is_some()), (32, true));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for url in [
            "redis-sentinel://s1",
            "redis-sentinel://s1/",
            "redis-sentinel://s1/a,a",
            "redis-sentinel:///a",
            "redis-cluster://a,,b",
            "redis-cluster://a:0",
            "redis-cluster://a/1",
            "redis-ring://a",
        ] {
            assert!(RedisConfig::from_url(url).is_err(), "{url}");
        }
    }
}
