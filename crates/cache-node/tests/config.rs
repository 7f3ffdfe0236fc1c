//! What configurations mean, and what is said about wrong ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use cache_node::config::{Backing, ConfigErrors, NodeConfig, Profile, Sources, load};
use cache_redis::Topology;
use cache_tiered::{Degraded, Tiers, Updates};
use tempfile::NamedTempFile;

type Env<'a> = &'a [(&'a str, &'a str)];

struct Typed {
    sources: Sources,
    _file: Option<NamedTempFile>,
}

fn typed(file: &str, env: Env<'_>) -> Typed {
    let on_disk = (!file.is_empty()).then(|| {
        let mut on_disk = NamedTempFile::new().expect("a file");
        on_disk.write_all(file.as_bytes()).expect("writable");
        on_disk
    });
    let env: BTreeMap<String, String> =
        env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let path = on_disk.as_ref().map(|file| file.path().to_path_buf());
    // So that each test needs to name only what it is about.
    let flags = vec![("database.allow_private_ledger", "--allow-private-ledger", "true".to_owned())];
    Typed { sources: Sources { file: path, env, flags }, _file: on_disk }
}

fn right(file: &str, env: Env<'_>) -> NodeConfig {
    load(&typed(file, env).sources).unwrap_or_else(|errors| panic!("{errors}"))
}

fn wrong(file: &str, env: Env<'_>) -> ConfigErrors {
    load(&typed(file, env).sources).expect_err("a wrong configuration")
}

fn l1_size(config: &NodeConfig) -> usize {
    config.cache_type("gpu_pricing").expect("known").settings.l1_entries_max
}

#[test]
fn the_defaults_are_valid_and_need_nothing() {
    let config = NodeConfig::default();
    assert!(matches!(config.backing, Backing::Embedded));
    assert_eq!(config.http.listen, "127.0.0.1:8080");
    let live = config.live.current();
    assert!(config.health_checks && live.health_check_every == Duration::from_secs(30));
    assert!(live.auth.tokens.is_empty() && config.warnings.is_empty());
    assert_eq!(l1_size(&config), 1_000);
    let id = config.identity.id.as_str();
    let suffix = id.strip_prefix("edge_node_").expect(id);
    assert!(suffix.len() == 8 && suffix.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    assert_ne!(config.identity.id, NodeConfig::default().identity.id);
}

#[test]
fn the_size_of_l1_follows_the_order_of_precedence() {
    let production = ("CACHE_PROFILE", "production");
    let token = ("CACHE_AUTH_TOKEN", "t");
    let tier = ("EDGE_NODE_CACHE_TIER", "global");
    let size = ("CACHE_L1_SIZE", "77");
    let in_file = "[cache]\nl1_size = 88\n";
    let cases: &[(&str, Env<'_>, usize)] = &[
        ("", &[], 1_000),
        ("profile = \"development\"", &[], 100),
        ("", &[production, token], 2_000),
        ("", &[("EDGE_NODE_CACHE_TIER", "edge")], 500),
        ("[node]\ncache_tier = \"regional\"", &[], 2_000),
        ("", &[production, token, tier], 5_000),
        (in_file, &[production, token, tier], 88),
        (in_file, &[production, token, tier, size], 77),
        (in_file, &[("CACHE_L1_SIZE", "")], 88),
    ];
    for (file, env, expected) in cases {
        assert_eq!(l1_size(&right(file, env)), *expected, "{file:?} {env:?}");
    }
}

#[test]
fn a_flag_stands_above_all() {
    let mut typed = typed("listen = \"127.0.0.1:1\"", &[]);
    assert_eq!(load(&typed.sources).expect("right").http.listen, "127.0.0.1:1");
    typed.sources.flags.push(("listen", "--listen", "127.0.0.1:2".to_owned()));
    assert_eq!(load(&typed.sources).expect("right").http.listen, "127.0.0.1:2");
}

#[test]
fn every_name_of_the_environment_is_heard() {
    let config = right(
        "",
        &[
            ("REDIS_HOST", "cache.internal"),
            ("REDIS_PORT", "7000"),
            ("REDIS_DB", "3"),
            ("REDIS_PASSWORD", "hunter2"),
            ("REDIS_SSL", "true"),
            ("REDIS_MAX_CONNECTIONS", "6"),
            ("EDGE_NODE_ID", "n1"),
            ("EDGE_NODE_REGION", "us-east"),
            ("EDGE_NODE_DATACENTER", "dc1"),
            ("EDGE_NODE_CACHE_TIER", "edge"),
            ("CACHE_L1_SIZE", "12"),
            ("CACHE_ENABLE_EVENT_DRIVEN", "false"),
            ("CACHE_ENABLE_METRICS", "0"),
            ("CACHE_HEALTH_CHECK_INTERVAL", "45"),
            ("CACHE_REQUIRE_AUTH", "yes"),
            ("CACHE_AUTH_TOKEN", "hunter3"),
        ],
    );
    let Backing::Redis(redis) = &config.backing else { panic!("not on Redis") };
    assert_eq!((redis.address().as_str(), redis.db, redis.data_connections), ("cache.internal:7000", 3, 3));
    assert!(redis.tls.is_some() && redis.password.is_some());
    let identity = &config.identity;
    assert_eq!(
        (identity.id.as_str(), identity.region.as_str(), identity.datacenter.as_str()),
        ("n1", "us-east", "dc1")
    );
    assert_eq!(l1_size(&config), 12);
    assert!(config.cache_types.iter().all(|plan| !plan.settings.event_driven));
    assert!(!config.enable_metrics);
    let live = config.live.current();
    assert_eq!(live.health_check_every, Duration::from_secs(45));
    assert_eq!(live.auth.tokens[0].secret.expose(), "hunter3");
    let with_tls = right("", &[("REDIS_URL", "redis://h"), ("CACHE_ENABLE_TLS", "true")]);
    assert!(matches!(with_tls.backing, Backing::Redis(redis) if redis.tls.is_some()));
}

#[test]
fn what_the_url_of_redis_says_is_filled_up_by_the_other_settings() {
    let cases: &[(&str, Env<'_>, &str)] = &[
        ("", &[("REDIS_URL", "redis://a/2"), ("REDIS_DB", "5")], "redis at a:6379/2"),
        ("", &[("REDIS_URL", "redis://a"), ("REDIS_DB", "5")], "redis at a:6379/5"),
        ("", &[("REDIS_URL", "redis://a"), ("REDIS_HOST", "b"), ("REDIS_PORT", "7")], "redis at a:6379/0"),
        ("[redis]\nurl = \"redis://a\"", &[("REDIS_HOST", "b"), ("REDIS_PORT", "7")], "redis at b:7/0"),
        ("profile = \"development\"", &[("REDIS_URL", "redis://u:p@a")], "redis at a:6379/1"),
        ("", &[("REDIS_URL", "rediss://a:1")], "redis at a:1/0 with TLS"),
        ("[redis]\nhost = \"a\"\nport = 9", &[], "redis at a:9/0"),
        ("[redis]\nport = 9", &[], "embedded"),
        ("", &[("REDIS_URL", "redis-sentinel://s,t:1/m1,m2/3")], "redis at m1,m2 by Sentinel s:26379/3"),
        ("", &[("REDIS_URL", "redis-sentinel://s/m"), ("REDIS_DB", "2")], "redis at m by Sentinel s:26379/2"),
        ("", &[("REDIS_URL", "rediss-cluster://a,b:7")], "redis cluster of a:6379 with TLS"),
        ("profile = \"development\"", &[("REDIS_URL", "redis-cluster://a")], "redis cluster of a:6379"),
    ];
    for (file, env, expected) in cases {
        assert_eq!(right(file, env).backing.to_string(), *expected, "{file:?} {env:?}");
    }
}

#[test]
fn several_masters_have_settings_of_their_own() {
    let file = "[redis]\nsentinel_username = \"watcher\"\npartitions = 64\nserver_name = \"redis.internal\"";
    let env = [("REDIS_URL", "rediss-sentinel://u:p@s/m1,m2"), ("REDIS_SENTINEL_PASSWORD", "hunter2")];
    let config = right(file, &env);
    let Backing::Redis(redis) = &config.backing else { panic!("not on Redis") };
    let Topology::Sentinel(sentinel) = &redis.topology else { panic!("{redis:?}") };
    assert_eq!((sentinel.username.as_deref(), redis.username.as_deref()), (Some("watcher"), Some("u")));
    assert!(sentinel.password.is_some() && !format!("{config:?}").contains("hunter2"));
    assert_eq!(redis.partitions, 64);
    assert_eq!(redis.tls.as_ref().and_then(|tls| tls.server_name.as_deref()), Some("redis.internal"));

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cert.pem").display().to_string();
    std::fs::write(&path, "x").expect("written");
    let file = format!("[redis]\nclient_cert_file = \"{path}\"");
    let errors = wrong(&file, &[("REDIS_URL", "redis-cluster://a"), ("REDIS_DB", "3")]).to_string();
    for told in ["redis.client_cert_file", "needs redis.client_key_file", "redis.db", "one database"] {
        assert!(errors.contains(told), "{told}: {errors}");
    }
}

#[test]
fn profiles_set_their_switches() {
    let development = right("profile = \"Development\"", &[]);
    assert_eq!(development.profile, Some(Profile::Development));
    assert!(!development.enable_metrics && !development.health_checks);
    let production =
        right("", &[("CACHE_PROFILE", "production"), ("CACHE_AUTH_TOKEN", "t"), ("REDIS_HOST", "h")]);
    let Backing::Redis(redis) = &production.backing else { panic!("not on Redis") };
    assert!(
        redis.tls.is_some() && redis.data_connections > 2 && production.live.current().auth.tokens.len() == 1
    );
    let errors = wrong("profile = \"production\"", &[]);
    assert!(
        errors.to_string().contains("cache.require_auth") && errors.to_string().contains("CACHE_AUTH_TOKEN")
    );
}

#[test]
fn all_errors_are_told_at_once_with_place_value_and_rule() {
    let file = "[cache]\nl1_size = \"many\"\nstaleness_bound = \"1s\"\n[node]\nregion = \"a b\"\n";
    let errors =
        wrong(file, &[("REDIS_URL", "redis:/x"), ("REDIS_PORT", "99999"), ("CACHE_ENABLE_TLS", "maybe")]);
    let text = errors.to_string();
    assert_eq!(errors.0.len(), 6, "{text}");
    for expected in [
        "cache.l1_size = \"many\" (in /",
        "whole number",
        "cache.staleness_bound = \"1s\"",
        "1s 800ms",
        "node.region = \"a b\"",
        "redis.url (in the environment as REDIS_URL): needs redis://",
        "redis.port = \"99999\" (in the environment as REDIS_PORT): must be a whole number from 1 to 65535",
        "cache.enable_tls = \"maybe\" (in the environment as CACHE_ENABLE_TLS): must be true or false",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
}

#[test]
fn a_name_that_does_not_exist_is_an_error_with_the_nearest_one() {
    let cases = [
        ("lisen = \"x\"", "lisen", "did you mean listen?"),
        ("[cahce]\nl1_size = 1", "cahce", "did you mean cache?"),
        ("[cache]\nl1_szie = 1", "cache.l1_szie", "did you mean cache.l1_size?"),
        ("[namespaces.gpu_pricing]\ntl = \"1s\"", "namespaces.gpu_pricing.tl", "did you mean ttl?"),
        ("[namespaces.gpu_pricng]\nttl = \"1s\"", "namespaces.gpu_pricng", "did you mean gpu_pricing?"),
        ("[namespaces.mine]\nttl = \"1s\"", "namespaces.mine", "add type = \"json\""),
        ("cache = 7", "cache", "write [cache]"),
        ("[redis]\nport = [1]", "redis.port", "single value"),
    ];
    for (file, setting, rule) in cases {
        let errors = wrong(file, &[]);
        let found = errors.0.iter().find(|error| error.setting == setting);
        assert!(found.is_some_and(|error| error.rule.contains(rule)), "{file:?} gave {errors}");
    }
}

#[test]
fn cache_types_can_be_changed_and_declared_in_the_file() {
    let config = right(
        "[namespaces.gpu_availability]\nttl = \"10s\"\nl1_entries_max = 5\nstaleness_bound = \"3s\"\n\
         [namespaces.session]\ntiers = \"l2\"\ndegraded = \"stale:1h\"\ncompress_above_bytes = \"never\"\n\
         [namespaces.my_type]\ntype = \"json\"\nttl = \"2m\"\ncritical = true\nupdates = \"value\"\n",
        &[],
    );
    let of = |name: &str| &config.cache_type(name).unwrap_or_else(|| panic!("{name}")).settings;
    assert_eq!((of("gpu_avail").ttl, of("gpu_avail").l1_entries_max), (Duration::from_secs(10), 5));
    assert_eq!(of("gpu_availability").staleness_bound, Duration::from_secs(3));
    assert_eq!(of("gpu_availability").degraded, Degraded::Strict);
    assert_eq!(of("session").tiers, Tiers::L2Only);
    assert_eq!(of("session").degraded, Degraded::BoundedStale(Duration::from_secs(3_600)));
    assert_eq!(of("session").compress_above_bytes, None);
    assert_eq!((of("my_type").updates, of("session").updates), (Updates::Value, Updates::Invalidate));
    assert_eq!((of("my_type").ttl, of("my_type").degraded), (Duration::from_secs(120), Degraded::Strict));
    assert!(config.cache_type("my_type").expect("declared").free_json);
}

#[test]
fn an_idle_time_is_a_duration_or_never() {
    let config = right("[namespaces.session]\nidle = \"30m\"\n[namespaces.inventory]\nidle = \"never\"", &[]);
    let of = |name: &str| config.cache_type(name).unwrap_or_else(|| panic!("{name}")).settings.idle;
    assert_eq!((of("session"), of("inventory")), (Some(Duration::from_secs(1_800)), None));
    let errors = wrong("[namespaces.session]\nidle = \"soon\"", &[]);
    assert!(errors.to_string().contains("or never"), "{errors}");
}

#[test]
fn the_bound_of_the_node_covers_what_its_cache_types_have_for_their_own() {
    let config = right("", &[]);
    assert_eq!(config.l1_bytes_max, None, "off unless it is set");
    let promised: u64 = config.cache_types.iter().map(|plan| plan.settings.l1_bytes_max).sum();
    let file = |bytes: u64| format!("[cache]\nl1_bytes_max = {bytes}");
    assert_eq!(right(&file(promised), &[]).l1_bytes_max, Some(promised));
    let errors = wrong(&file(promised - 1), &[]);
    assert!(errors.0.iter().any(|error| error.setting == "cache.l1_bytes_max"), "{errors}");
    // What stays out of L1 needs nothing of it.
    let without = format!("{}\n[namespaces.historical_data]\ntiers = \"l2\"", file(promised - 1));
    assert_eq!(right(&without, &[]).l1_bytes_max, Some(promised - 1));
}

#[test]
fn settings_of_cache_types_are_checked() {
    let cases = [
        ("[namespaces.order_book]\nttl = 5", "namespaces.order_book.ttl"),
        ("[namespaces.order_book]\ntype = \"json\"", "namespaces.order_book.type"),
        ("[namespaces.order_book]\ndegraded = \"stale\"", "namespaces.order_book.degraded"),
        ("[namespaces.order_book]\nttl_max = \"1s\"", "namespaces.order_book.ttl_max"),
        ("[namespaces.order_book]\ntiers = \"l3\"", "namespaces.order_book.tiers"),
        (
            "[cache]\nenable_l1_cache = false\n[namespaces.session]\ntiers = \"l1\"",
            "namespaces.session.tiers",
        ),
        ("[namespaces.Mine]\ntype = \"json\"", "namespaces.Mine"),
        ("namespaces = 1", "namespaces"),
        ("[namespaces]\nsession = 1", "namespaces.session"),
    ];
    for (file, setting) in cases {
        let errors = wrong(file, &[]);
        assert!(errors.0.iter().any(|error| error.setting == setting), "{file:?} gave {errors}");
    }
}

#[test]
fn without_l1_every_cache_type_uses_l2_alone() {
    let config = right("[cache]\nenable_l1_cache = false\nenable_compression = false", &[]);
    assert!(config.cache_types.iter().all(|plan| plan.settings.tiers == Tiers::L2Only));
    assert!(config.cache_types.iter().all(|plan| plan.settings.compress_above_bytes.is_none()));
}

#[test]
fn secrets_are_never_shown() {
    let env = [
        ("REDIS_URL", "redis://user:hunter2@h/1"),
        ("REDIS_PASSWORD", "hunter2"),
        ("CACHE_AUTH_TOKEN", "hunter2"),
    ];
    let shown = format!("{:?} {:?}", right("", &env), typed("", &env).sources);
    assert!(!shown.contains("hunter2"), "{shown}");
    let file = "[cache]\nl1_size = 0\nauth_token = \"hunter2 blank\"\n[redis]\nurl = \"hunter2://x\"\npassword = [\"hunter2\"]\n";
    let errors = wrong(file, &[]);
    assert!(errors.0.len() >= 4, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
    let broken = wrong("[redis]\npassword = \"hunter2\n", &[]);
    assert!(!broken.to_string().contains("hunter2") && broken.to_string().contains("line 2"), "{broken}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_the_cure() {
    let sources = Sources { file: Some("/does/not/exist.toml".into()), ..Sources::default() };
    let text = load(&sources).expect_err("no file").to_string();
    assert!(text.contains("/does/not/exist.toml") && text.contains("cannot be read"), "{text}");
}

#[test]
fn doors_left_open_are_told() {
    let open = right("listen = \"0.0.0.0:1\"", &[]);
    assert!(open.warnings.iter().any(|warning| warning.contains("without a token")), "{:?}", open.warnings);
    let closed = right("listen = \"0.0.0.0:1\"", &[("CACHE_AUTH_TOKEN", "t")]);
    assert!(closed.warnings.is_empty());
    let off = right("", &[("CACHE_AUTH_TOKEN", "t"), ("CACHE_REQUIRE_AUTH", "false")]);
    assert!(off.live.current().auth.tokens.is_empty() && off.warnings.len() == 1);
    for listen in ["8080", "host", "host:99999", ":80", "::1:80"] {
        assert!(load(&typed(&format!("listen = \"{listen}\""), &[]).sources).is_err(), "{listen}");
    }
}

#[test]
fn nodes_that_share_a_redis_must_share_their_database() {
    let load = |env: Env<'_>, flags| {
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        load(&Sources { file: None, env, flags })
    };
    let redis = ("REDIS_URL", "redis://h");
    let flag = || vec![("database.allow_private_ledger", "--allow-private-ledger", "true".to_owned())];
    let told = |env: Env<'_>| load(env, vec![]).expect_err("refused").to_string();
    for env in [vec![redis], vec![redis, ("DATABASE_URL", "sqlite::memory:")]] {
        let told = told(&env);
        assert!(told.contains("DATABASE_URL") && told.contains("--allow-private-ledger"), "{told}");
        assert!(load(&env, flag()).expect("allowed").database.private);
    }
    for url in ["postgres://u:hunter2@h/market", "sqlite:market.db"] {
        let config = load(&[redis, ("DATABASE_URL", url)], vec![]).expect("shared");
        assert!(!config.database.private);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    assert!(load(&[], vec![]).expect("a node alone").database.private);
    let unknown = told(&[("DATABASE_URL", "mysql://u:hunter2@h/m")]);
    assert!(unknown.contains("postgres://") && !unknown.contains("hunter2"), "{unknown}");
}

#[test]
fn tokens_are_a_list_of_tables_with_scopes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "hunter4\n").expect("written");
    let file = format!(
        "[[auth.tokens]]\nname = \"dashboard\"\ntoken = \"hunter3\"\nscopes = [\"read\"]\n\
         [[auth.tokens]]\nname = \"deploy\"\ntoken_file = \"{}\"\nscopes = [\"Read\", \"invalidate\"]\n",
        path.display()
    );
    let config = right(&file, &[("CACHE_AUTH_TOKEN", "hunter2"), ("CACHE_REQUIRE_AUTH", "true")]);
    let tokens = config.live.current().auth.tokens.clone();
    let told: Vec<_> = tokens
        .iter()
        .map(|token| (token.name.as_str(), token.secret.expose(), token.scopes.clone()))
        .collect();
    use cache_node::config::TokenScope::{Admin, Invalidate, Read};
    assert_eq!(
        told,
        [
            ("dashboard", "hunter3", vec![Read]),
            ("deploy", "hunter4", vec![Read, Invalidate]),
            ("admin", "hunter2", vec![Admin])
        ]
    );

    let file = "[auth]\n[[auth.tokens]]\nname = \"a\"\ntoken = \"hunter2\"\nscopes = [\"reed\"]\n\
                [[auth.tokens]]\nname = \"a\"\ntoken = \"hunter2\"\ntoken_file = \"/no\"\nscope = [\"read\"]\n\
                [[auth.tokens]]\ntoken = \"hunter2 blank\"\nscopes = \"read\"\n\
                [[auth.tokens]]\nname = \"b\"\ntoken_file = \"/does/not/exist\"\nscopes = [\"read\"]\n";
    let errors = wrong(file, &[]).to_string();
    for told in [
        "auth.tokens[0].scopes",
        "must be one of read, write, invalidate, admin",
        "line 5",
        "auth.tokens[1].scope (",
        "did you mean scopes?",
        "auth.tokens[1].name = \"a\"",
        "another token",
        "needs either token or token_file",
        "auth.tokens[2].token (",
        "auth.tokens[2].name",
        "auth.tokens[2].scopes = \"read\"",
        "must be a list",
        "auth.tokens[3].token_file",
        "cannot be read",
    ] {
        assert!(errors.contains(told), "{told:?} is not in {errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
    assert!(wrong("[auth]\ntokens = 7", &[]).to_string().contains("[[auth.tokens]]"));
}

#[test]
fn a_secret_may_stand_in_a_file_that_the_environment_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("url").display().to_string();
    std::fs::write(&path, "redis://u:hunter2@h/2\n").expect("written");
    let config = right("", &[("REDIS_URL_FILE", &path)]);
    assert_eq!(config.backing.to_string(), "redis at h:6379/2");
    let both = wrong("", &[("REDIS_URL_FILE", &path), ("REDIS_URL", "redis://hunter2@h")]).to_string();
    assert!(both.contains("REDIS_URL_FILE too") && !both.contains("hunter2"), "{both}");
    let gone = wrong("", &[("CACHE_AUTH_TOKEN_FILE", "/does/not/exist")]).to_string();
    assert!(gone.contains("CACHE_AUTH_TOKEN_FILE") && gone.contains("cannot be read"), "{gone}");
}

#[test]
fn errors_name_the_line_of_the_file() {
    let file = "# a comment\n[cache]\nl1_size = 0\n\n[namespaces.session]\nttl = \"soon\"\n";
    let errors = wrong(file, &[]).to_string();
    assert!(errors.contains("line 3): must be a whole number"), "{errors}");
    assert!(errors.contains("line 6): must be a duration"), "{errors}");
}
