//! Where the shared tier is: nowhere, or in a Redis of some topology.

use std::path::PathBuf;
use std::time::Duration;

use cache_redis::{Pem, RedisConfig, Secret, TlsConfig, Topology};

use super::check::Check;
use super::checked::Backing;
use super::parse::{duration, label, whole};
use super::raw::Origin;

const MINUTE: Duration = Duration::from_secs(60);
/// Two for control, one for hints, one for data.
const CONNECTIONS_LEAST: u64 = 4;
/// More multiplexed connections than this bring nothing.
const DATA_CONNECTIONS_MOST: u32 = 4;

/// Redis where its URL or host was typed, else embedded. What was typed later in the order of precedence decides
/// between the two; what the URL does not say, the other settings do.
pub(super) fn backing(check: &mut Check<'_>, tls: bool) -> Backing {
    let url = check.read("redis.url", |text| {
        let config = RedisConfig::from_url(text).map_err(|error| error.rule)?;
        let says_db = says_db(text, &config.topology);
        Ok((config, says_db))
    });
    let host = check.read("redis.host", |text| match text {
        "" => Err("must not be blank".to_owned()),
        text if text.contains(['/', '@', ' ']) => {
            Err("must be a host name or address; a URL goes to REDIS_URL".to_owned())
        }
        text => Ok(text.to_owned()),
    });
    let port = check.get("redis.port", 0, whole(1, 65_535)) as u16;
    let db = check.get("redis.db", 0, whole(0, 1_000_000)) as u32;
    let login = login(check, "redis.username", "redis.password");
    let sentinel_login = login_of_sentinels(check);
    let tls = tls_of(check, tls);
    let connections = check.read("redis.max_connections", whole(CONNECTIONS_LEAST, 1_000));
    let partitions = check.read("redis.partitions", whole(1, 1024));
    let replica_reads = check.switch("redis.replica_reads");
    let prefix = check.get("redis.prefix", String::new(), label);
    let operation_timeout =
        check.get("redis.operation_timeout", MINUTE, duration(Duration::from_millis(1), MINUTE));
    let by_host = host.is_some()
        && (url.is_none() || check.origin("redis.host").rank() > check.origin("redis.url").rank());
    let (mut config, db_said) = match (url, host) {
        (_, Some(host)) if by_host => (RedisConfig { host, port, ..RedisConfig::default() }, false),
        (Some(stated), _) => stated,
        _ => return Backing::Embedded,
    };
    match &mut config.topology {
        Topology::Cluster(_) => {
            if db > 0 && check.origin("redis.db").is_typed() {
                check.wrong("redis.db", "must be 0 in a Cluster, which has one database");
            }
        }
        topology => {
            if !db_said {
                config.db = db;
            }
            if let Topology::Sentinel(sentinel) = topology {
                (sentinel.username, sentinel.password) = sentinel_login;
            }
        }
    }
    config.username = config.username.or(login.0);
    config.password = config.password.or(login.1);
    config.tls = match (config.tls.take(), tls) {
        (Some(stated), settings) => Some(TlsConfig { insecure: stated.insecure, ..settings.files }),
        (None, settings) => settings.on.then_some(settings.files),
    };
    if let Some(partitions) = partitions {
        config.partitions = partitions as u32;
    }
    config.prefix = prefix;
    config.replica_reads = replica_reads;
    config.operation_timeout = operation_timeout;
    if let Some(connections) = connections {
        let rest = connections as u32 - (2 * config.control_connections + 1);
        config.data_connections = rest.min(DATA_CONNECTIONS_MOST);
    }
    Backing::Redis(Box::new(config))
}

type Login = (Option<String>, Option<Secret>);

fn login(check: &mut Check<'_>, username: &str, password: &str) -> Login {
    let username = check.read(username, |text| Ok(text.to_owned()));
    (username, check.read(password, |text| Ok(Secret::new(text))))
}

/// Sentinels are logged into apart from what they watch.
fn login_of_sentinels(check: &mut Check<'_>) -> Login {
    login(check, "redis.sentinel_username", "redis.sentinel_password")
}

/// Whether to use TLS, and with what.
struct Tls {
    on: bool,
    files: TlsConfig,
}

fn tls_of(check: &mut Check<'_>, tls: bool) -> Tls {
    let file = |text: &str| match std::fs::metadata(text) {
        Ok(file) if file.is_file() => Ok(Pem::File(PathBuf::from(text))),
        Ok(_) => Err("must be a file in PEM format".to_owned()),
        Err(error) => Err(format!("cannot be read ({error})")),
    };
    // What was typed for Redis is more special than the switch for all.
    let on = check.read("redis.ssl", super::parse::truth).unwrap_or(tls);
    let ca = check.read("redis.ca_file", file);
    let client = (check.read("redis.client_cert_file", file), check.read("redis.client_key_file", file));
    let client = match client {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) if check.origin("redis.client_key_file") == Origin::Default => {
            check.wrong("redis.client_cert_file", "needs redis.client_key_file as well");
            None
        }
        (None, Some(_)) if check.origin("redis.client_cert_file") == Origin::Default => {
            check.wrong("redis.client_key_file", "needs redis.client_cert_file as well");
            None
        }
        _ => None,
    };
    let server_name = check.read("redis.server_name", |text| Ok(text.to_owned()));
    Tls { on, files: TlsConfig { ca, client, server_name, insecure: false } }
}

/// Whether a URL names a database: behind the host, or behind the masters of Sentinels.
fn says_db(url: &str, topology: &Topology) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['#', '?']).next().unwrap_or_default();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let before = if matches!(topology, Topology::Sentinel(_)) { 2 } else { 1 };
    place.splitn(before + 1, '/').nth(before).is_some_and(|db| !db.is_empty())
}
