//! All settings there are: their names in the file, their names in the environment, their defaults.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// `section.name` in the file.
    pub(crate) path: &'static str,
    /// The environment variable.
    pub(crate) env: Option<&'static str>,
    /// What holds if nobody says anything; `None` = it stays unset.
    pub(crate) default: Option<&'static str>,
    /// Its value is never shown. With an environment variable `NAME` there is also `NAME_FILE`, which names a file
    /// that holds the value.
    pub(crate) secret: bool,
    /// What it holds.
    pub(crate) kind: Kind,
    /// Whether a change takes effect in a node that runs, when it reads its configuration again.
    pub(crate) live: bool,
}

/// What a setting holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// One value.
    One,
    /// A list of values; in the environment with commas between them.
    List,
    /// A list of tables with these fields; only a file has it.
    Tables(&'static [Field]),
}

/// A field of a table in a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value is never shown.
    pub(crate) secret: bool,
}

impl Setting {
    /// A change takes effect at once when the node reads its configuration again.
    const fn live(self) -> Self {
        Self { live: true, ..self }
    }

    /// It is a list of values.
    const fn list(self) -> Self {
        Self { kind: Kind::List, ..self }
    }

    /// The second name in the environment of a secret: of the file that holds it.
    pub(crate) fn env_file(&self) -> Option<String> {
        self.env.filter(|_| self.secret).map(|name| format!("{name}_FILE"))
    }
}

const fn plain(path: &'static str, default: Option<&'static str>) -> Setting {
    Setting { path, env: None, default, secret: false, kind: Kind::One, live: false }
}

const fn named(path: &'static str, env: &'static str, default: Option<&'static str>) -> Setting {
    Setting { env: Some(env), ..plain(path, default) }
}

const fn secret(path: &'static str, env: &'static str) -> Setting {
    Setting { secret: true, ..named(path, env, None) }
}

const fn tables(path: &'static str, fields: &'static [Field]) -> Setting {
    Setting { kind: Kind::Tables(fields), ..plain(path, None) }
}

const fn field(name: &'static str) -> Field {
    Field { name, secret: false }
}

const fn secret_field(name: &'static str) -> Field {
    Field { name, secret: true }
}

/// Every setting outside of `[namespaces]`.
pub(crate) const SETTINGS: &[Setting] = &[
    named("profile", "CACHE_PROFILE", None),
    plain("listen", Some("127.0.0.1:8080")),
    // Who may follow the stream of events at the same time.
    plain("http.event_streams_max", Some("64")),
    // Where the others find this node; unset: where it listens, unless that is everywhere.
    plain("http.advertise", None),
    named("node.id", "EDGE_NODE_ID", None),
    named("node.region", "EDGE_NODE_REGION", Some("local")),
    named("node.datacenter", "EDGE_NODE_DATACENTER", Some("local")),
    named("node.cache_tier", "EDGE_NODE_CACHE_TIER", None),
    secret("redis.url", "REDIS_URL"),
    named("redis.host", "REDIS_HOST", None),
    named("redis.port", "REDIS_PORT", Some("6379")),
    named("redis.db", "REDIS_DB", Some("0")),
    plain("redis.username", None),
    secret("redis.password", "REDIS_PASSWORD"),
    named("redis.ssl", "REDIS_SSL", None),
    named("redis.max_connections", "REDIS_MAX_CONNECTIONS", None),
    plain("redis.prefix", Some("ec")),
    plain("redis.operation_timeout", Some("50ms")),
    plain("redis.ca_file", None),
    plain("redis.client_cert_file", None),
    plain("redis.client_key_file", None),
    // The name that all servers have in their certificates; unset: each its host.
    plain("redis.server_name", None),
    plain("redis.sentinel_username", None),
    secret("redis.sentinel_password", "REDIS_SENTINEL_PASSWORD"),
    // Whether replicas answer reads to which any age will do.
    plain("redis.replica_reads", Some("false")),
    // Whether the node refuses to start where a master may go on alone, cut off from its replicas.
    plain("redis.require_min_replicas", Some("false")),
    // The same on all nodes; unset: 1 for one master, 32 for several and for a Cluster.
    plain("redis.partitions", None),
    // The system of record of the marketplace.
    secret("database.url", "DATABASE_URL"),
    // Whether nodes that share a Redis may each have a marketplace of their own.
    plain("database.allow_private_ledger", Some("false")),
    // Entries in L1, for each cache type: the byte budgets of the types are what bounds the whole.
    named("cache.l1_size", "CACHE_L1_SIZE", Some("1000")),
    // Bytes in L1 over all cache types; unset: each is bounded by itself, and none borrows.
    plain("cache.l1_bytes_max", None),
    plain("cache.eviction_policy", Some("sieve")),
    plain("cache.staleness_bound", Some("2s")),
    plain("cache.write_deadline", Some("5s")),
    // Bytes of memory that the process may use; unset: what its control group allows.
    plain("cache.memory_limit_bytes", None).live(),
    plain("cache.memory_check_interval", Some("5s")).live(),
    plain("cache.body_bytes_max", Some("2097152")).live(),
    plain("cache.enable_l1_cache", Some("true")),
    named("cache.enable_event_driven_invalidation", "CACHE_ENABLE_EVENT_DRIVEN", Some("true")),
    plain("cache.enable_compression", Some("true")),
    named("cache.enable_metrics", "CACHE_ENABLE_METRICS", Some("true")),
    plain("cache.enable_health_checks", Some("true")),
    named("cache.health_check_interval", "CACHE_HEALTH_CHECK_INTERVAL", Some("30")).live(),
    named("cache.enable_tls", "CACHE_ENABLE_TLS", Some("false")),
    named("cache.require_auth", "CACHE_REQUIRE_AUTH", None).live(),
    secret("cache.auth_token", "CACHE_AUTH_TOKEN").live(),
    plain("cache.enable_public_channel", Some("false")),
    // Share of the keys that the auditor watches; 0: none.
    plain("cache.audit_rate", Some("0.01")),
    // Where traces and metrics go: a collector that speaks OTLP over HTTP.
    named("telemetry.otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", None),
    secret("telemetry.otlp_headers", "OTEL_EXPORTER_OTLP_HEADERS"),
    plain("telemetry.otlp_interval", Some("15s")),
    // Of the traces that begin here.
    plain("telemetry.trace_sample_ratio", Some("0.1")),
    // When figures are alarming, and for how long they must be.
    plain("telemetry.hit_ratio_warning", Some("70")).live(),
    plain("telemetry.hit_ratio_critical", Some("50")).live(),
    plain("telemetry.event_queue_warning", Some("1000")).live(),
    plain("telemetry.event_queue_critical", Some("5000")).live(),
    plain("telemetry.event_latency_warning_ms", Some("500")).live(),
    plain("telemetry.event_latency_critical_ms", Some("2000")).live(),
    plain("telemetry.redis_memory_warning", Some("80")).live(),
    plain("telemetry.redis_memory_critical", Some("95")).live(),
    plain("telemetry.connection_failures_warning", Some("5")).live(),
    plain("telemetry.connection_failures_critical", Some("20")).live(),
    plain("telemetry.alert_raise_after", Some("15s")).live(),
    plain("telemetry.alert_clear_after", Some("60s")).live(),
    plain("telemetry.alert_clear_margin", Some("0.1")).live(),
    // Which log lines are written, as `tracing` filters say it.
    named("log.filter", "RUST_LOG", Some("info")).live(),
    // How requests come in, and how many.
    plain("http.tls_cert_file", None),
    plain("http.tls_key_file", None),
    plain("http.client_ca_file", None),
    plain("http.connections_max", Some("4096")),
    plain("http.header_timeout", Some("30s")),
    plain("http.request_timeout", Some("30s")).live(),
    plain("http.requests_max", Some("1024")).live(),
    // Of each client; 0: any number.
    plain("http.requests_per_second", Some("0")).live(),
    plain("http.admin_requests_per_minute", Some("600")).live(),
    // Whether whoever reaches the node may read its metrics.
    plain("http.metrics_public", Some("false")).live(),
    plain("http.allow", None).list().live(),
    plain("http.trusted_proxies", None).list().live(),
    plain("http.drain_delay", Some("0s")),
    plain("http.drain_limit", Some("5s")),
    // What is written down about requests: off, stderr or a file.
    plain("audit.log", Some("stderr")).live(),
    plain("audit.writes", Some("false")).live(),
    plain("audit.access_log", Some("off")).live(),
    // Who may ask for what.
    tables("auth.tokens", &[field("name"), secret_field("token"), field("token_file"), field("scopes")])
        .live(),
];

/// The settings of one `[namespaces.<cache type>]`.
pub(crate) const NAMESPACE_SETTINGS: &[&str] = &[
    "type",
    "ttl",
    "ttl_max",
    "l1_ttl_max",
    "idle",
    "absent_ttl",
    "event_driven",
    "updates",
    "critical",
    "l1_entries_max",
    "l1_bytes_max",
    "tiers",
    "staleness_bound",
    "degraded",
    "compress_above_bytes",
    "value_bytes_max",
    "loads_max",
    "load_timeout",
];

/// Those of them that take effect in a node that runs.
pub(crate) const NAMESPACE_SETTINGS_LIVE: &[&str] = &["ttl"];

/// The setting at a path.
pub(crate) fn setting(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.path == path)
}

/// A set of defaults for a stage of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// On a desk: database 1, a small L1, no metrics, no health checks.
    Development,
    /// Like production, with the plain defaults.
    Staging,
    /// TLS, authentication, 50 connections, a large L1, everything on.
    Production,
}

impl Profile {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    /// The name that a configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    pub(crate) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Development => &[
                ("redis.db", "1"),
                ("cache.l1_size", "100"),
                ("cache.enable_metrics", "false"),
                ("cache.enable_health_checks", "false"),
            ],
            Self::Staging => &[],
            Self::Production => &[
                ("redis.max_connections", "50"),
                ("cache.l1_size", "2000"),
                ("cache.enable_l1_cache", "true"),
                ("cache.enable_event_driven_invalidation", "true"),
                ("cache.enable_compression", "true"),
                ("cache.enable_metrics", "true"),
                ("cache.enable_health_checks", "true"),
                ("cache.enable_tls", "true"),
                ("cache.require_auth", "true"),
            ],
        }
    }
}

/// Where in the hierarchy of a deployment a node stands; gives the size of its L1 unless that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheTier {
    /// Near the users.
    Edge,
    /// One for a region.
    Regional,
    /// One for all.
    Global,
}

impl CacheTier {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Edge, Self::Regional, Self::Global];

    /// The name that a configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Regional => "regional",
            Self::Global => "global",
        }
    }

    pub(crate) fn l1_size(self) -> &'static str {
        match self {
            Self::Edge => "500",
            Self::Regional => "2000",
            Self::Global => "5000",
        }
    }
}

/// Finds a name among some, whatever its case.
pub(crate) fn by_name<T: Copy>(all: &[T], name: fn(T) -> &'static str, typed: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|item| name(*item).eq_ignore_ascii_case(typed.trim()));
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|item| name(*item)).collect();
        format!("must be one of {}", names.join(", "))
    })
}
