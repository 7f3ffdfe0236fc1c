//! `cache-node config check` and `config show`, and `cache-node health`.

mod support;

use std::io::Write;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::Serving;
use tempfile::NamedTempFile;

fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache-node"));
    command.args(arguments).env_clear().envs(env.iter().copied());
    command.output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(toml: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(toml.as_bytes()).expect("writable");
    file
}

#[test]
fn check_says_what_is_wrong_or_that_all_is_right() {
    let right = run(&["config", "check"], &[]);
    assert_eq!(right.status.code(), Some(0));
    assert!(text(&right.stdout).contains("is right: transport embedded"), "{right:?}");
    let open = run(&["config", "check", "--listen", "0.0.0.0:80"], &[]);
    assert_eq!(open.status.code(), Some(0));
    assert!(text(&open.stdout).contains("warning: listening on 0.0.0.0:80 without a token"), "{open:?}");
    let file = file("[cache]\nl1_size = 0\nlisten = 5\n");
    let path = file.path().to_str().expect("UTF-8");
    let wrong = run(&["config", "check", "--config", path, "--profile", "prod"], &[("REDIS_PORT", "x")]);
    assert_eq!(wrong.status.code(), Some(2));
    for told in ["4 places", "line 2", "cache.listen", "REDIS_PORT", "--profile"] {
        assert!(text(&wrong.stderr).contains(told), "{told:?} is not in {wrong:?}");
    }
}

#[test]
fn show_tells_every_setting_with_its_origin() {
    let file = file("[redis]\nport = 7000\n\n[namespaces.session]\nttl = \"2h\"\n");
    let path = file.path().to_str().expect("UTF-8");
    let env =
        [("CACHE_PROFILE", "development"), ("EDGE_NODE_CACHE_TIER", "edge"), ("EDGE_NODE_REGION", "eu")];
    let flags = ["--config", path, "--listen", "127.0.0.1:9"];
    let shown = run(&[&["config", "show"], flags.as_slice()].concat(), &env);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let lines = text(&shown.stdout);
    for line in [
        "listen = 127.0.0.1:9  # by --listen".to_owned(),
        "node.id = (unset)  # by default".to_owned(),
        "node.region = eu  # in the environment as EDGE_NODE_REGION".to_owned(),
        "redis.db = 1  # by profile development".to_owned(),
        "cache.l1_size = 500  # by cache tier edge".to_owned(),
        "cache.body_bytes_max = 2097152  # by default; live".to_owned(),
        format!("redis.port = 7000  # in {path} line 2"),
        format!("namespaces.session.ttl = 2h  # in {path} line 5; live"),
    ] {
        assert!(lines.lines().any(|told| told == line), "{line:?} is not in {lines}");
    }
    assert!(!lines.contains("namespaces.gpu_availability.ttl"), "nobody said anything about it: {lines}");

    let all = run(&[&["config", "show", "--json", "--all"], flags.as_slice()].concat(), &env);
    let all: Value = serde_json::from_slice(&all.stdout).expect("JSON");
    let of = |name: &str| {
        let settings = all["settings"].as_array().expect("a list");
        settings.iter().find(|shown| shown["setting"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    assert_eq!(of("redis.port")["line"], 2);
    assert_eq!(
        (of("cache.l1_size")["origin"].clone(), of("node.id")["value"].clone()),
        (json!("cache_tier"), Value::Null)
    );
    assert_eq!(of("namespaces.gpu_availability.ttl")["value"], "30s");
    assert_eq!(of("namespaces.order_book.l1_entries_max")["value"], "500");
}

#[test]
fn no_secret_is_ever_shown_not_even_inside_of_a_url() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret").display().to_string();
    std::fs::write(&secret, "hunter2").expect("written");
    let file = file(&format!(
        "[[auth.tokens]]\nname = \"a\"\ntoken = \"hunter2\"\nscopes = [\"read\"]\n\
         [[auth.tokens]]\nname = \"b\"\ntoken_file = \"{secret}\"\nscopes = [\"read\"]\n"
    ));
    let path = file.path().to_str().expect("UTF-8");
    // Every setting that is a secret, by each name of the environment it has.
    let plain = run(&["config", "show", "--json"], &[]);
    let plain: Value = serde_json::from_slice(&plain.stdout).expect("JSON");
    assert!(plain["settings"].as_array().is_some_and(|settings| settings.len() > 40));
    let urls = [
        ("REDIS_URL", "redis://user:hunter2@h/1"),
        ("DATABASE_URL", "postgres://u:hunter2@h/m?password=hunter2"),
    ];
    let rest = [
        ("REDIS_PASSWORD", "hunter2"),
        ("REDIS_SENTINEL_PASSWORD", "hunter2"),
        ("CACHE_AUTH_TOKEN", "hunter2"),
    ];
    for format in
        [&["config", "show", "--all"][..], &["config", "show", "--all", "--json"], &["config", "check"]]
    {
        let by_value: Vec<_> = urls.iter().chain(&rest).copied().collect();
        let names: Vec<String> = rest.iter().map(|(name, _)| format!("{name}_FILE")).collect();
        let by_file = names.iter().map(|name| (name.as_str(), secret.as_str()));
        let by_file: Vec<_> = by_file.chain(urls).collect();
        for env in [by_value, by_file] {
            let output = run(&[format, &["--config", path]].concat(), &env);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains("hunter2"), "{said}");
            if format.contains(&"show") {
                assert!(
                    said.contains("redis://user:<redacted>@h/1")
                        && said.contains("postgres://u:<redacted>@h/m"),
                    "{said}"
                );
                assert!(said.matches("<redacted>").count() >= 6, "{said}");
            }
        }
    }
}

#[test]
fn health_asks_the_node_that_listens_here() {
    let node = Serving::start(&[]);
    let address = node.base.strip_prefix("http://").expect("a URL").to_owned();
    let well = run(&["health", "--listen", &address], &[]);
    assert_eq!(well.status.code(), Some(0), "{well:?}");
    let (status, log) = node.terminate();
    assert!(status.success(), "{log}");
    let gone = run(&["health", "--listen", &address], &[]);
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(text(&gone.stderr).contains("nobody listens"), "{gone:?}");
}
