//! The configuration of a node: types with units, checked.

use std::fmt;
use std::time::Duration;

use cache_bus::BusConfig;
use cache_events::NodeId;
use cache_policy::PolicyKind;
use cache_redis::{RedisConfig, Topology};
use tracing_subscriber::EnvFilter;

use super::check::Check;
use super::errors::ConfigErrors;
use super::http::HttpConfig;
use super::live::{Live, LiveConfig};
use super::namespaces::{self, CacheTypePlan, Common};
use super::parse::{duration, label, seconds, share, whole};
use super::raw::{Raw, Sources};
use super::secret::Secret;
use super::settings::{CacheTier, Profile, by_name};
use super::shown::{AllTyped, Shown};
use super::telemetry::TelemetryConfig;

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The set of defaults that was chosen.
    pub profile: Option<Profile>,
    /// Who the node is.
    pub identity: Identity,
    /// What its nodes share.
    pub backing: Backing,
    /// The system of record of the marketplace.
    pub database: DatabaseConfig,
    /// How it is reached.
    pub http: HttpConfig,
    /// How L1 evicts.
    pub eviction: PolicyKind,
    /// Times of the bus.
    pub bus: BusConfig,
    /// How long a write is tried.
    pub write_deadline: Duration,
    /// Bytes in L1 over all cache types, of which each has its share; `None` = each is bounded by itself.
    pub l1_bytes_max: Option<u64>,
    /// Publish events as JSON for other services.
    pub public_channel: bool,
    /// Share of the keys that the auditor watches, 0 to 1; 0 = there is no auditor.
    pub audit_rate: f64,
    /// Refuse to start where a master of Redis goes on alone when it is cut off from its replicas.
    pub require_min_replicas: bool,
    /// Ask Redis for its own figures.
    pub enable_metrics: bool,
    /// Look at the node's own health now and then.
    pub health_checks: bool,
    /// What a collector is told.
    pub telemetry: TelemetryConfig,
    /// The cache types.
    pub cache_types: Vec<CacheTypePlan>,
    /// What can change while the node runs. Clones of the configuration share it.
    pub live: LiveConfig,
    /// What is allowed and still worth a word.
    pub warnings: Vec<String>,
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its unique name.
    pub id: NodeId,
    /// Its region.
    pub region: String,
    /// Its data centre.
    pub datacenter: String,
    /// Where it stands among the others.
    pub cache_tier: Option<CacheTier>,
}

/// What the nodes share.
#[derive(Debug, Clone)]
pub enum Backing {
    /// Nothing: a store inside of this process.
    Embedded,
    /// A Redis.
    Redis(Box<RedisConfig>),
}

impl Backing {
    /// A Redis at a URL.
    ///
    /// # Errors
    /// What is wrong with the URL; never holds its password.
    pub fn redis(url: &str) -> Result<Self, cache_redis::ConfigError> {
        Ok(Self::Redis(Box::new(RedisConfig::from_url(url)?)))
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Redis(config) => {
                let tls = if config.tls.is_some() { " with TLS" } else { "" };
                let address = config.address();
                match config.topology {
                    Topology::Cluster(_) => write!(f, "redis {address}{tls}"),
                    _ => write!(f, "redis at {address}/{}{tls}", config.db),
                }
            }
        }
    }
}

/// The system of record of the marketplace.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `sqlite:` or `postgres:`; may hold a password.
    pub url: Secret,
    /// Whether it lives in this process alone.
    pub private: bool,
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources) -> Result<NodeConfig, ConfigErrors> {
    read(sources).map(|reading| reading.config)
}

/// A configuration, and what was typed to get it.
pub struct Reading {
    /// What it means.
    pub config: NodeConfig,
    /// Every setting with its value and where that comes from, without secrets.
    pub shown: Vec<Shown>,
    pub(crate) typed: AllTyped,
}

/// [`load`], with what was typed.
///
/// # Errors
/// As [`load`].
pub fn read(sources: &Sources) -> Result<Reading, ConfigErrors> {
    let raw = Raw::gather(sources)?;
    let mut check = Check::new(&raw);
    let config = assemble(&mut check, &raw);
    if !check.errors.is_empty() {
        return Err(ConfigErrors(check.errors));
    }
    Ok(Reading { shown: super::shown::list(&raw, &config.cache_types), typed: AllTyped::of(&raw), config })
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn assemble(check: &mut Check<'_>, raw: &Raw) -> NodeConfig {
    let profile = check.read("profile", |text| by_name(&Profile::ALL, Profile::name, text));
    let bus = bus(check);
    let common = Common {
        l1_size: check.get("cache.l1_size", 1, whole(1, 100_000_000)) as usize,
        enable_l1: check.switch("cache.enable_l1_cache"),
        event_driven: check.switch("cache.enable_event_driven_invalidation"),
        compression: check.switch("cache.enable_compression"),
        staleness_bound: bus.staleness_bound,
        bound_least: bound_least(&bus),
    };
    let checks = check.switch("cache.enable_health_checks");
    let interval = check.get("cache.health_check_interval", MINUTE, seconds(Duration::from_secs(1), DAY));
    let tls = check.switch("cache.enable_tls");
    let identity = identity(check);
    let mut backing = super::backing::backing(check, tls);
    let public_channel = check.switch("cache.enable_public_channel");
    if let Backing::Redis(redis) = &mut backing {
        redis.public_channel = public_channel.then(|| cache_redis::PUBLIC_CHANNEL.to_owned());
    }
    let mut warnings = Vec::new();
    let cache_types = namespaces::check(check, &common, &raw.namespaces());
    let l1_bytes_max = l1_bytes_max(check, &cache_types);
    let database = super::database::database(check, &backing);
    let live = live(check, interval, &cache_types, &mut warnings);
    NodeConfig {
        profile,
        identity,
        backing,
        database,
        http: super::http::http(check, profile, &live.auth, &mut warnings),
        eviction: check.get("cache.eviction_policy", PolicyKind::default(), |text| {
            text.parse().map_err(|error: cache_policy::UnknownPolicy| error.to_string())
        }),
        write_deadline: check.get(
            "cache.write_deadline",
            MINUTE,
            duration(Duration::from_millis(100), MINUTE),
        ),
        public_channel,
        require_min_replicas: check.switch("redis.require_min_replicas"),
        audit_rate: check.get("cache.audit_rate", 0.0, share),
        enable_metrics: check.switch("cache.enable_metrics"),
        health_checks: checks,
        live: LiveConfig::new(live),
        telemetry: super::telemetry::telemetry(check),
        cache_types,
        l1_bytes_max,
        bus,
        warnings,
    }
}

/// The bound of the node, if it has one: no less than what its cache types are promised.
fn l1_bytes_max(check: &mut Check<'_>, cache_types: &[CacheTypePlan]) -> Option<u64> {
    let in_l1 = cache_types.iter().map(|plan| &plan.settings).filter(|settings| settings.tiers.l1());
    let promised: u64 = in_l1.map(|settings| settings.l1_bytes_max).sum();
    check.read("cache.l1_bytes_max", |text| match whole(1024, 1 << 50)(text)? {
        bytes if bytes < promised => Err(format!(
            "must not be below {promised}, what the cache types have for their own (l1_bytes_max of each)"
        )),
        bytes => Ok(bytes),
    })
}

/// The least bound that one lost sync does not break.
fn bound_least(bus: &BusConfig) -> Duration {
    (bus.sync_interval + bus.sync_timeout) * 2
}

fn bus(check: &mut Check<'_>) -> BusConfig {
    let bus = BusConfig::default();
    let bound = duration(bound_least(&bus), DAY);
    BusConfig { staleness_bound: check.get("cache.staleness_bound", bus.staleness_bound, bound), ..bus }
}

fn identity(check: &mut Check<'_>) -> Identity {
    let id =
        check.read("node.id", |text| NodeId::new(text).map_err(|error| format!("must be {}", error.rule)));
    let local = || "local".to_owned();
    Identity {
        id: id.unwrap_or_else(random_id),
        region: check.get("node.region", local(), label),
        datacenter: check.get("node.datacenter", local(), label),
        cache_tier: check.read("node.cache_tier", |text| by_name(&CacheTier::ALL, CacheTier::name, text)),
    }
}

fn random_id() -> NodeId {
    let id = format!("edge_node_{:08x}", fastrand::u32(..));
    NodeId::new(id).unwrap_or_else(|_| unreachable!("the pattern is a valid name"))
}

/// What can change while the node runs.
fn live(
    check: &mut Check<'_>,
    health_check_every: Duration,
    cache_types: &[CacheTypePlan],
    warnings: &mut Vec<String>,
) -> Live {
    let often = duration(Duration::from_millis(10), MINUTE);
    let settings = cache_types.iter().map(|plan| &plan.settings);
    Live {
        log_filter: check.get("log.filter", String::new(), |text| {
            let parsed = EnvFilter::builder().parse(text);
            parsed
                .map(|_| text.to_owned())
                .map_err(|error| format!("must be a filter such as info,cache_bus=debug ({error})"))
        }),
        auth: super::auth::auth(check, warnings),
        http: super::http::limits(check),
        alerts: super::telemetry::alerts(check),
        body_bytes_max: check.get("cache.body_bytes_max", 1, whole(1, 1 << 30)) as usize,
        memory_limit: check.read("cache.memory_limit_bytes", whole(1 << 20, 1 << 50)),
        memory_check_every: check.get("cache.memory_check_interval", MINUTE, often),
        health_check_every,
        ttls: settings.map(|settings| (settings.namespace.clone(), settings.ttl)).collect(),
    }
}

/// Nobody typed it: for what a program sets by itself.
impl Default for NodeConfig {
    fn default() -> Self {
        load(&Sources::default())
            .unwrap_or_else(|_| unreachable!("the defaults are valid (a test sees to it)"))
    }
}

impl NodeConfig {
    /// The cache type of a name, which may be that of its namespace.
    pub fn cache_type(&self, name: &str) -> Option<&CacheTypePlan> {
        self.cache_types.iter().find(|plan| plan.answers_to(name))
    }
}
