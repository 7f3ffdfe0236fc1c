//! How a node is reached, and what it takes from whom.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::auth::AuthConfig;
use super::check::Check;
use super::parse::{duration, whole};
use super::settings::Profile;

const MINUTE: Duration = Duration::from_secs(60);

/// How a node is reached. Holds from its start to its end.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Host and port to listen on.
    pub listen: String,
    /// Where its certificates are; `None` = it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Connections at a time; those beyond it wait until one ends.
    pub connections_max: usize,
    /// How long a TLS handshake and the head of a request may take, and how long a connection may be idle; past it the
    /// connection is closed.
    pub header_timeout: Duration,
    /// How many may follow the stream of events at the same time; the next one is refused with 503.
    pub event_streams_max: usize,
    /// Its URL as it tells the others; `None` = where it listens.
    pub advertise: Option<String>,
    /// How long the node goes on as before once it is told to stop, while it says that it is not ready.
    pub drain_delay: Duration,
    /// How long requests under way may still take after that; past it they are cut off.
    pub drain_limit: Duration,
}

impl HttpConfig {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.listen)
    }
}

/// Where the certificates of a node are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain that the node shows, its own certificate first (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Who signs the certificates that clients must show; `None` = they need none.
    pub client_ca: Option<PathBuf>,
}

/// What a node takes from whom. Can change while it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpLimits {
    /// Networks from which requests may come; none = everywhere. Others are answered 403.
    pub allow: Vec<IpNet>,
    /// Proxies that are believed when they say for whom they ask (`x-forwarded-for`).
    pub trusted_proxies: Vec<IpNet>,
    /// Administrative requests of each client, and wrong tokens of each address, in a minute; past it 429.
    pub admin_requests_per_minute: Option<u64>,
    /// Requests of each client in a second; past it 429.
    pub requests_per_second: Option<u64>,
    /// Requests under way at a time; past it 503.
    pub requests_max: usize,
    /// How long a request may take to arrive and to be answered; past it 408.
    pub request_timeout: Duration,
    /// `GET /metrics` needs no token.
    pub metrics_public: bool,
    /// What is written down about requests.
    pub logs: RequestLogs,
}

/// What is written down about requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLogs {
    /// Where administrative acts and invalidations go; `None` = nowhere.
    pub audit: Option<LogTarget>,
    /// Writes of values and changes of the market go there too.
    pub audit_writes: bool,
    /// Where every request goes; `None` = nowhere.
    pub access: Option<LogTarget>,
}

/// Where lines of a log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// The standard error of the process.
    Stderr,
    /// A file, to which is appended. Made for its owner alone if it is not there.
    File(PathBuf),
}

pub(super) fn http(
    check: &mut Check<'_>,
    profile: Option<Profile>,
    auth: &AuthConfig,
    warnings: &mut Vec<String>,
) -> HttpConfig {
    let listen = check.get("listen", String::new(), listen);
    let tls = tls(check);
    if !is_loopback(&listen) {
        if auth.tokens.is_empty() {
            warnings.push(format!(
                "listening on {listen} without a token: set CACHE_AUTH_TOKEN, anybody may write here"
            ));
        }
        if tls.is_none() && profile == Some(Profile::Production) {
            warnings.push(format!(
                "listening on {listen} without TLS: set http.tls_cert_file and http.tls_key_file, unless a proxy in \
                 front of the node ends TLS; tokens can be read on the way"
            ));
        }
    }
    HttpConfig {
        listen,
        tls,
        connections_max: check.get("http.connections_max", 1, whole(1, 1_000_000)) as usize,
        header_timeout: check.get("http.header_timeout", MINUTE, duration(Duration::from_millis(10), MINUTE)),
        event_streams_max: check.get("http.event_streams_max", 1, whole(1, 100_000)) as usize,
        advertise: check.read("http.advertise", advertised),
        drain_delay: check.get("http.drain_delay", MINUTE, duration(Duration::ZERO, 10 * MINUTE)),
        drain_limit: check.get("http.drain_limit", MINUTE, duration(Duration::ZERO, 10 * MINUTE)),
    }
}

fn tls(check: &mut Check<'_>) -> Option<TlsFiles> {
    let cert = check.read("http.tls_cert_file", file);
    let key = check.read("http.tls_key_file", file);
    let client_ca = check.read("http.client_ca_file", file);
    match (cert, key) {
        (Some(cert), Some(key)) => return Some(TlsFiles { cert, key, client_ca }),
        (Some(_), None) => check.wrong("http.tls_key_file", "is needed beside http.tls_cert_file"),
        (None, Some(_)) => check.wrong("http.tls_cert_file", "is needed beside http.tls_key_file"),
        (None, None) if client_ca.is_some() => {
            check.wrong("http.tls_cert_file", "is needed where clients must show certificates");
        }
        (None, None) => {}
    }
    None
}

pub(super) fn limits(check: &mut Check<'_>) -> HttpLimits {
    let rate = |check: &mut Check<'_>, path| {
        let rate = check.read(path, whole(0, 1_000_000_000));
        rate.filter(|rate| *rate > 0)
    };
    HttpLimits {
        allow: check.list("http.allow", network).unwrap_or_default(),
        trusted_proxies: check.list("http.trusted_proxies", network).unwrap_or_default(),
        admin_requests_per_minute: rate(check, "http.admin_requests_per_minute"),
        requests_per_second: rate(check, "http.requests_per_second"),
        requests_max: check.get("http.requests_max", 1, whole(1, 1_000_000)) as usize,
        request_timeout: check.get(
            "http.request_timeout",
            MINUTE,
            duration(Duration::from_millis(10), 60 * MINUTE),
        ),
        metrics_public: check.switch("http.metrics_public"),
        logs: RequestLogs {
            audit: check.read("audit.log", target).flatten(),
            audit_writes: check.switch("audit.writes"),
            access: check.read("audit.access_log", target).flatten(),
        },
    }
}

/// `off`, `stderr` or a path.
fn target(text: &str) -> Result<Option<LogTarget>, String> {
    match text {
        "" => Err("must be off, stderr or the path of a file".to_owned()),
        "off" => Ok(None),
        "stderr" => Ok(Some(LogTarget::Stderr)),
        path => Ok(Some(LogTarget::File(PathBuf::from(path)))),
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be the path of a PEM file".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address());
    network.map_err(|_| "must be a network such as 10.0.0.0/8, or an address".to_owned())
}

fn advertised(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host)
            if !host.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("must be a URL such as http://node-1.example:8080".to_owned()),
    }
}

fn listen(text: &str) -> Result<String, String> {
    let right = text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match right {
        Some((host, _)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
            Ok(text.to_owned())
        }
        _ => Err("must be host:port, such as 127.0.0.1:8080 or [::1]:8080".to_owned()),
    }
}

fn is_loopback(listen: &str) -> bool {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
