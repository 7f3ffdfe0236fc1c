//! The commands against nodes: what they answer in both forms, and with which exit code.

mod support;

use std::io::Read;
use std::process::Stdio;

use cache_testkit::{RedisServer, RedisServerOptions};
use serde_json::json;
use support::{LONG, Running, at_terminal, cachectl, command, ran, stopwatch};

fn well() -> RedisServer {
    let args = ["--maxmemory", "200mb", "--maxmemory-policy", "volatile-ttl"].map(str::to_owned).to_vec();
    RedisServer::start_with(RedisServerOptions { args, ..Default::default() })
}

fn on(redis: &RedisServer, name: &str) -> Running {
    Running::start(&[("REDIS_URL", &redis.url()), ("EDGE_NODE_ID", name)])
}

#[test]
fn a_healthy_node_is_told_in_both_forms_and_a_degraded_one_by_the_exit_code() {
    let mut redis = RedisServer::start();
    let node = on(&redis, "a");
    let told = node.ask(&["health"]).good();
    assert_eq!((&told["status"], &told["node_id"]), (&json!("healthy"), &json!("a")));
    let table = node.ask(&["--table", "health"]);
    assert!(table.code == 0 && table.out.contains("healthy") && table.out.contains("MASTER"), "{table:?}");
    assert!(!table.out.contains('\u{1b}'), "no colours where no terminal is: {table:?}");
    redis.kill();
    let degraded = node.until(&["health"], "a degraded node", |ran| ran.code == 1);
    assert_eq!(degraded.json()["status"], "degraded");
    assert_eq!(node.ask(&["health", "--allow-degraded"]).code, 0);
}

#[test]
fn several_nodes_are_a_list_and_one_that_is_away_is_told_beside_the_others() {
    let (a, b) = (Running::start(&[("EDGE_NODE_ID", "a")]), Running::start(&[("EDGE_NODE_ID", "b")]));
    let both = a.ask(&["--node", &b.url, "health"]).good();
    assert_eq!(both[0]["answer"]["node_id"], "a");
    assert_eq!(both[1]["node"], json!(b.url));
    // The same by the environment.
    let mut by_env = command(&["health"]);
    by_env.env("CACHECTL_NODE", format!("{},{}", a.url, b.url));
    assert_eq!(ran(by_env).good()[1]["answer"]["node_id"], "b");
    let away = a.ask(&["--node", "http://127.0.0.1:1", "health"]);
    assert_eq!(away.code, 3, "{away:?}");
    assert_eq!(away.json()[0]["answer"]["status"], "healthy");
    assert!(away.json()[1]["error"].as_str().is_some_and(|error| error.contains("refused")), "{away:?}");
}

#[test]
fn a_value_is_written_read_and_counted() {
    let node = Running::start(&[]);
    let key = ["device_info", "rack/1 é", "site=a b"];
    let put = [&["put"][..], &key, &["--value", r#"{"n": 1}"#, "--ttl", "1h", "--tag", "user:7"]].concat();
    assert!(node.ask(&put).good()["token"].is_string());
    let got = node.ask(&[&["get"][..], &key].concat()).good();
    assert_eq!(
        (&got["value"], &got["found"], &got["stale"]),
        (&json!({"n": 1}), &json!(true), &json!(false))
    );
    assert!(got["tier"].is_string() && got["position"].is_string(), "{got}");
    let table = node.ask(&[&["--table", "get"][..], &key].concat());
    assert!(table.out.contains("\"n\": 1") && table.out.contains("tier"), "{table:?}");
    node.ask(&[&["get", "--freshness", "latest"][..], &key].concat()).good();
    let stats = node.ask(&["stats"]).good();
    assert_eq!(stats["namespaces"]["device_info"]["writes"], 1, "{stats}");
    let table = node.ask(&["--table", "stats"]);
    assert!(
        table.out.contains("device_info") && !table.out.contains("order_book"),
        "only what was used: {table:?}"
    );
    assert!(node.ask(&["--table", "stats", "--all"]).out.contains("order_book"));
    // From a file and from the standard input.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "7").expect("written");
    node.ask(&["put", "inventory", "w", "--file", file.path().to_str().expect("text")]).good();
    assert_eq!(node.ask(&["get", "inventory", "w"]).good()["value"], 7);
    let mut from_stdin = command(&["--node", &node.url, "put", "inventory", "w", "--file", "-"]);
    from_stdin.stdin(std::fs::File::open(file.path()).expect("a file"));
    ran(from_stdin).good();
}

#[test]
fn what_is_not_cached_is_an_answer_with_code_1() {
    let node = Running::start(&[]);
    let miss = node.ask(&["get", "inventory", "nothing"]);
    assert_eq!((miss.code, &miss.json()["found"]), (1, &json!(false)), "{miss:?}");
    assert!(miss.err.is_empty(), "{miss:?}");
    assert!(node.ask(&["--table", "get", "inventory", "nothing"]).out.contains("nothing is cached"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_code_2_and_a_cure() {
    let node = Running::start(&[]);
    let cases: [(&[&str], &str); 12] = [
        (&["get", "gpu_prices", "H100"], "known are"),
        (&["get", "inventory", "w", "--freshness", "warm"], "freshness"),
        (&["get", "inventory", "w", "site"], "name=value"),
        (&["put", "inventory", "w", "--value", "{"], "not JSON"),
        (&["put", "inventory", "w", "--value", "1", "--ttl", "soon"], "duration"),
        (&["put", "gpu_pricing", "H100", "--value", "{}"], "missing field"),
        (&["invalidate", "inventory", "w"], "--reason"),
        (&["invalidate", "inventory", "--reason", "x"], "--pattern"),
        (&["invalidate", "--tag", "a", "--pattern", "b", "--reason", "x"], "cannot be used"),
        (&["clear", "--reason", "x"], "--yes"),
        (&["health", "--timeout", "5"], "unit"),
        (&["health", "--client-cert", "x.pem"], "--client-key"),
    ];
    for (arguments, hint) in cases {
        let ran = node.ask(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(hint) && ran.out.is_empty(), "{arguments:?}: {ran:?}");
    }
    for url in ["ftp://here", "http://", "http://me:hunter2@here"] {
        let ran = cachectl(&["--node", url, "health"]);
        assert_eq!(ran.code, 2, "{url}: {ran:?}");
        assert!(ran.err.contains("cure:") && !ran.err.contains("hunter2"), "{ran:?}");
    }
    assert_eq!(cachectl(&["no-such-command"]).code, 2);
    assert_eq!(cachectl(&["--ca-file", "/does/not/exist", "--node", "https://here", "health"]).code, 2);
}

#[test]
fn a_node_that_is_away_is_named_with_the_setting() {
    for (url, hint) in [("http://127.0.0.1:1", "refused"), ("http://no-such-host.invalid", "no such host")] {
        let ran = cachectl(&["--node", url, "stats"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!([url, hint, "CACHECTL_NODE"].iter().all(|word| ran.err.contains(word)), "{ran:?}");
    }
    // Somebody is there, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let ran = cachectl(&["--node", &url, "--timeout", "200ms", "stats"]);
    assert!(ran.code == 3 && ran.err.contains("--timeout"), "{ran:?}");
}

#[test]
fn a_token_is_needed_shown_to_the_node_and_to_nobody_else() {
    let node = Running::start(&[("CACHE_AUTH_TOKEN", "s3cret-token")]);
    let none = node.ask(&["stats"]);
    assert_eq!(none.code, 4, "{none:?}");
    assert!(none.err.contains("CACHECTL_TOKEN") && none.err.contains("token is needed"), "{none:?}");
    let wrong = node.ask(&["stats", "--token", "wr0ng-token"]);
    assert!(
        wrong.code == 4 && wrong.err.contains("wrong") && !wrong.err.contains("wr0ng-token"),
        "{wrong:?}"
    );
    assert_eq!(node.ask(&["stats", "--token", "s3cret-token"]).code, 0);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "s3cret-token\n").expect("written");
    let file = file.path().to_str().expect("text");
    assert_eq!(node.ask(&["stats", "--token-file", file]).code, 0);
    for (value, code) in [("s3cret-token", 0), ("wr0ng-token", 4), ("two words", 2)] {
        for arguments in [&["stats"][..], &["help"], &["stats", "--help"]] {
            let mut by_env = command(&[&["--node", node.url.as_str()], arguments].concat());
            by_env.env("CACHECTL_TOKEN", value);
            let ran = ran(by_env);
            assert!(!format!("{ran:?}").contains(value), "{ran:?}");
            if arguments == ["stats"] {
                assert_eq!(ran.code, code, "{ran:?}");
            }
        }
    }
    // The file goes before the environment.
    let mut both = command(&["--node", &node.url, "stats", "--token-file", file]);
    both.env("CACHECTL_TOKEN", "wr0ng-token");
    assert_eq!(ran(both).code, 0);
}

#[test]
fn what_is_invalidated_or_cleared_is_gone_on_the_other_node() {
    let redis = RedisServer::start();
    let (a, b) = (on(&redis, "a"), on(&redis, "b"));
    let put = || {
        a.ask(&["put", "session", "s", "user=7", "--value", "1", "--tag", "user:7"]).good();
        b.until(&["get", "session", "s", "user=7"], "the value", |ran| ran.code == 0);
    };
    let ways: [&[&str]; 5] = [
        &["invalidate", "session", "s", "--reason", "logout"],
        &["invalidate", "--tag", "user:7", "--reason", "logout"],
        &["invalidate", "session", "--pattern", "user=*", "--reason", "logout"],
        &["clear", "session", "--yes", "--reason", "new release"],
        &["clear", "--yes", "--reason", "new release"],
    ];
    for way in ways {
        put();
        assert!(a.ask(way).good()["token"].is_string(), "{way:?}");
        b.until(&["get", "session", "s", "user=7"], "nothing", |ran| ran.code == 1);
    }
    let told = a.ask(&[&["--table"], ways[0]].concat());
    assert!(told.out.contains("invalidated session/s"), "{told:?}");
}

#[test]
fn at_a_terminal_reasons_and_confirmations_are_asked_for() {
    let node = Running::start(&[]);
    node.ask(&["put", "inventory", "w", "--value", "1"]).good();
    let clear = || command(&["--node", &node.url, "clear"]);
    let (code, seen) = at_terminal(clear(), "spring cleaning\nno\n");
    assert!(
        code == 1 && seen.contains("Why") && seen.contains("[y/N]") && seen.contains("nothing was done"),
        "{seen}"
    );
    assert_eq!(node.ask(&["get", "inventory", "w"]).code, 0, "it is still there");
    let (code, seen) = at_terminal(clear(), "\n");
    assert!(code == 2 && seen.contains("no reason"), "{seen}");
    let (code, seen) = at_terminal(clear(), "spring cleaning\nyes\n");
    assert!(code == 0 && seen.contains("cleared everything"), "{seen}");
    assert_eq!(node.ask(&["get", "inventory", "w"]).code, 1);
}

#[test]
fn a_terminal_sees_tables_in_colour_unless_it_wants_none() {
    let node = Running::start(&[]);
    let health = || command(&["--node", &node.url, "health"]);
    let (code, seen) = at_terminal(health(), "");
    assert!(code == 0 && seen.contains("status") && seen.contains("\u{1b}["), "{seen:?}");
    let mut plain = health();
    plain.env("NO_COLOR", "1");
    let (_, seen) = at_terminal(plain, "");
    assert!(seen.contains("status") && !seen.contains('\u{1b}'), "{seen:?}");
    let (_, seen) = at_terminal(command(&["--node", &node.url, "--json", "health"]), "");
    assert!(serde_json::from_str::<serde_json::Value>(&seen).is_ok(), "{seen:?}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let node = Running::start(&[]);
    let mut child = command(&["--node", &node.url, "stats", "--json"]).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), err.as_str()), (Some(0), ""));
    // The same of the completions, which come before any node is asked.
    let mut child = command(&["completions", "bash"]).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn each_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = cachectl(&["completions", shell]);
        assert!(ran.code == 0 && ran.out.contains("invalidate") && ran.out.contains("token-file"), "{shell}");
    }
}

#[test]
fn the_doctor_finds_what_is_wrong_around_a_node() {
    let redis = well();
    let node = on(&redis, "a");
    let told = node.until(&["doctor"], "no problem", |ran| ran.code == 0).json();
    assert_eq!(told["nodes"][0]["facts"]["node_id"], "a");
    // This Redis asks for no password.
    assert_eq!(node.ask(&["doctor", "--strict"]).code, 1);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let table = node.ask(&["--table", "doctor", "--quiet"]);
    assert_eq!(table.code, 1, "{table:?}");
    assert!(table.out.contains("problem") && table.out.contains("volatile-ttl"), "{table:?}");
    assert!(!table.out.contains(" ok "), "only what is not well: {table:?}");
}

#[test]
fn the_doctor_finds_what_is_wrong_between_nodes() {
    let (one, other) = (well(), well());
    let (a, b) = (on(&one, "a"), on(&one, "b"));
    let told = a.ask(&["--node", &b.url, "doctor"]).good();
    let store = |told: &serde_json::Value| {
        let between = told["between"].as_array().expect("a list");
        between.iter().find(|finding| finding["check"] == "one store").expect("it is looked at").clone()
    };
    assert_eq!(store(&told)["verdict"], "ok", "{told}");
    let apart = on(&other, "b");
    let ran = a.ask(&["--node", &apart.url, "doctor"]);
    assert_eq!((ran.code, &store(&ran.json())["verdict"]), (1, &json!("problem")), "{ran:?}");
    let away = a.ask(&["--node", "http://127.0.0.1:1", "doctor"]);
    assert!(away.code == 3 && away.json()["nodes"][0]["findings"].is_array(), "{away:?}");
}

#[test]
fn an_answer_takes_no_longer_than_it_may() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let began = stopwatch();
    assert_eq!(cachectl(&["--node", &url, "--timeout", "300ms", "get", "inventory", "w"]).code, 3);
    assert!(began.elapsed() < LONG / 2);
}
