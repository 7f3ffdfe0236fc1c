//! What `docker/compose.yml` starts, started without containers: six servers of Redis with its file, made one Cluster by
//! its script, PostgreSQL, and nodes of three regions with its environment and their shared file.

mod support;
#[path = "support/yaml.rs"]
mod yaml;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use cache_testkit::{PostgresServer, RedisServer, RedisServerOptions};
use serde_json::{Value, json};
use support::Serving;
use yaml::document;

const PASSWORD: &str = "of-this-test";
const TOKEN: &str = "admin-of-this-test";
const METRICS_TOKEN: &str = "reader-of-this-test";
/// The bus of a server of a Cluster is so far above its port.
const BUS: u16 = 10_000;

fn docker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker")
}

/// Ports that are free, and those of their buses too.
fn ports(count: usize) -> Vec<u16> {
    let free =
        |port: &u16| [*port, *port + BUS].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    // Below those that the system gives away, and not where another run of this test begins.
    let begin = 12_000 + (std::process::id() % 500) as u16 * 16;
    (begin..begin + 2_000).filter(free).take(count).collect()
}

/// The six servers, with the file of the repository as arguments.
fn servers() -> Vec<RedisServer> {
    let file = std::fs::read_to_string(docker().join("redis/redis.conf")).expect("readable");
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let directive = |line: &str| {
        let (name, value) = line.split_once(' ').expect("a name and a value");
        [format!("--{name}"), value.trim_matches('"').to_owned()]
    };
    let mut args: Vec<String> = lines.flat_map(directive).collect();
    args.extend(["--masterauth".to_owned(), PASSWORD.to_owned()]);
    let start = |port| {
        let password = Some(PASSWORD.to_owned());
        RedisServer::start_with(RedisServerOptions {
            password,
            args: args.clone(),
            port: Some(port),
            ..Default::default()
        })
    };
    ports(6).into_iter().map(start).collect()
}

fn make_cluster(servers: &[RedisServer]) -> String {
    let nodes: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
    let made = Command::new("sh")
        .arg(docker().join("redis/create-cluster.sh"))
        .env("REDIS_PASSWORD", PASSWORD)
        .env("REDIS_NODES", nodes.join(" "))
        .output()
        .expect("sh runs");
    let told = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{told}{}", String::from_utf8_lossy(&made.stderr));
    told
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64
}

#[test]
fn a_gpu_booked_in_one_region_is_seen_in_the_others() {
    let redis = servers();
    assert!(make_cluster(&redis).contains("the Cluster is up"));
    // Once more it finds that all is done.
    let again = make_cluster(&redis);
    assert!(again.contains("the Cluster is up") && !again.contains("slots"), "{again}");
    let postgres = PostgresServer::start();

    let folder = tempfile::tempdir().expect("a folder");
    let (token, file) = (folder.path().join("metrics_token"), folder.path().join("node.toml"));
    std::fs::write(&token, METRICS_TOKEN).expect("written");
    let toml = std::fs::read_to_string(docker().join("node.toml")).expect("readable");
    std::fs::write(&file, toml.replace("/run/secrets/metrics_token", &token.display().to_string()))
        .expect("written");
    let file = file.display().to_string();

    let compose = document(&docker().join("compose.yml"));
    let masters: Vec<String> = redis[..3].iter().map(|server| server.addr().to_string()).collect();
    let start = |region: &str| {
        let environment = compose["services"][region]["environment"].as_object().expect("a table");
        let value = |name: &str, value: &Value| match name {
            "REDIS_URL" => format!("redis-cluster://{}", masters.join(",")),
            "REDIS_PASSWORD" => PASSWORD.to_owned(),
            "DATABASE_URL" => postgres.url(),
            "CACHE_AUTH_TOKEN" => TOKEN.to_owned(),
            _ => value.as_str().expect("text").to_owned(),
        };
        let env: Vec<(&str, String)> =
            environment.iter().map(|(name, typed)| (name.as_str(), value(name, typed))).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", &file], &env);
        node.client.until_status("healthy");
        node
    };
    // US_EAST_NODES=2 US_WEST_NODES=1 EUROPE_NODES=1
    let nodes = ["us-east", "us-east", "us-west", "europe"].map(start);
    let clients = nodes.each_ref().map(|node| node.client.with_token(TOKEN));
    let mut ids: Vec<String> = clients
        .iter()
        .map(|client| client.get("/health").body["node_id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), nodes.len(), "each has an id of its own");

    let gpu = json!({
        "provider_id": "p", "gpu_type": "H100", "region": "europe", "memory_gb": 80, "base_price_per_hour": 1_650_000,
    });
    assert_eq!(clients[0].put("/market/gpus/g1", &gpu).status, 200);
    for client in &clients {
        client.until("/market/gpus/g1", "a free GPU", |answer| {
            answer.body["availability_status"] == "available"
        });
    }
    let now = now_ms();
    let booking = json!({"booking_id": "b1", "gpu_id": "g1", "user_id": "u", "start_time": now, "end_time": now + 3_600_000});
    let booked = clients[0].post("/market/bookings", &booking);
    assert_eq!(booked.status, 201, "{booked:?}");
    for client in &clients {
        client
            .until("/market/gpus/g1", "a rented GPU", |answer| answer.body["availability_status"] == "busy");
        assert_eq!(client.get("/market/bookings/b1").status, 200);
    }

    // What Prometheus shows lets it read, and do nothing else.
    let prometheus = nodes[3].client.with_token(METRICS_TOKEN);
    assert_eq!(prometheus.get("/cache/stats").status, 200);
    assert_eq!(prometheus.post("/cache/clear", &json!({})).status, 403);
    assert_eq!(nodes[3].client.get("/cache/stats").status, 401);
}
