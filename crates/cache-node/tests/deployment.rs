//! What stands in `docker/` is checked as far as that goes without an engine of containers: it parses, it names only
//! settings and routes that there are, files that exist, and images of a version.

mod support;
#[path = "support/yaml.rs"]
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cache_node::config::{Sources, load};
use cache_testkit::certificates;
use serde_json::Value;
use support::{Client, Serving};
use yaml::{document, documents};

const REGIONS: [(&str, &str, u64); 3] =
    [("us-east", "US_EAST_NODES", 5), ("us-west", "US_WEST_NODES", 4), ("europe", "EUROPE_NODES", 6)];

fn docker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker")
}

fn object(value: &Value) -> Vec<(&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The text with `${NAME:?…}` and `${NAME:-default}` filled in.
fn filled(text: &str, names: &mut BTreeSet<String>) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (inner, after) = rest.split_once('}').unwrap_or_else(|| panic!("{text}"));
    let end = inner.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(inner.len());
    let (name, rule) = inner.split_at(end);
    names.insert(name.to_owned());
    let value = match rule.strip_prefix(":-") {
        Some(default) => default.to_owned(),
        None => {
            assert!(rule.starts_with(":?"), "{text}: neither demanded nor with a default");
            format!("given-{}", name.to_ascii_lowercase())
        }
    };
    format!("{before}{value}{}", filled(after, names))
}

fn environment(service: &Value, names: &mut BTreeSet<String>) -> BTreeMap<String, String> {
    let of = |(name, value): (&str, &Value)| (name.to_owned(), filled(value.as_str().expect("text"), names));
    object(&service["environment"]).into_iter().map(of).collect()
}

#[test]
fn every_image_has_a_version() {
    let compose = document(&docker().join("compose.yml"));
    let mut images: Vec<String> = object(&compose["services"])
        .iter()
        .map(|(_, service)| service["image"].as_str().expect("an image").to_owned())
        .collect();
    let dockerfile = std::fs::read_to_string(docker().join("Dockerfile")).expect("readable");
    images.extend(
        dockerfile.lines().filter_map(|line| Some(line.strip_prefix("FROM ")?.split(' ').next()?.to_owned())),
    );
    assert!(images.len() > 14, "{images:?}");
    for image in images {
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
        assert!(tag.contains('.') && tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'), "{image}");
    }
    // Both programs are built and copied.
    for (built, copied) in [("--package cache-node", "/cache-node"), ("--package cache-cli", "/cachectl")] {
        assert!(dockerfile.contains(built), "{built}");
        let copy = dockerfile.lines().find(|line| line.starts_with("COPY --from=build")).expect("a copy");
        assert!(copy.split(' ').any(|word| word == copied), "{copy}");
    }
    // The image does not run as root, and asks its node how it is by a command that is there.
    assert!(
        dockerfile.contains("USER 10001") && dockerfile.contains(r#"CMD ["cache-node", "health""#),
        "{dockerfile}"
    );
}

#[test]
fn nodes_of_compose_are_started_with_settings_that_a_node_knows() {
    let compose = document(&docker().join("compose.yml"));
    let metrics = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(metrics.path(), "metrics-token").expect("written");
    // The secret is where the engine mounts it; here it is elsewhere.
    let toml = std::fs::read_to_string(docker().join("node.toml")).expect("readable");
    assert!(toml.contains("/run/secrets/metrics_token"));
    let toml = toml.replace("/run/secrets/metrics_token", &metrics.path().display().to_string());
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), toml).expect("written");

    let mut demanded = BTreeSet::new();
    for (region, parameter, count) in REGIONS {
        let service = &compose["services"][region];
        let env = environment(service, &mut demanded);
        let known = known_environment();
        for name in env.keys() {
            assert!(known.contains(name), "{region}: a node knows no {name}");
        }
        let sources = Sources { file: Some(file.path().to_owned()), env: env.clone(), flags: vec![] };
        let config = load(&sources).unwrap_or_else(|errors| panic!("{region}: {errors}"));
        assert_eq!(config.identity.region, region);
        assert!(config.identity.id.as_str().starts_with("edge_node_"), "or scaled nodes had one id");
        assert!(config.require_min_replicas && !config.database.private);
        let tokens = config.live.current().auth.tokens.clone();
        assert_eq!(
            tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(),
            ["prometheus", "admin"]
        );
        assert_eq!(tokens[1].secret.expose(), "given-cache_auth_token");
        assert_eq!(config.backing.to_string(), "redis cluster of redis-1:6379");
        let mut scaled = BTreeSet::new();
        let replicas = service["deploy"]["replicas"].as_str().expect("text");
        assert_eq!(filled(replicas, &mut scaled), count.to_string());
        assert!(scaled.contains(parameter));
        // The command is one that the program takes.
        let arguments = list(&service["command"]);
        assert_eq!((arguments[0], arguments[3]), ("serve", "--config"), "{arguments:?}");
        let mounted = list(&service["volumes"]);
        assert!(mounted.iter().any(|mount| mount.contains(&format!(":{}:", arguments[4]))), "{mounted:?}");
    }
    for name in ["REDIS_PASSWORD", "POSTGRES_PASSWORD", "CACHE_AUTH_TOKEN"] {
        assert!(demanded.contains(name), "{name} has a default, or none is asked for");
    }
}

/// All names of the environment that a node reads, of the settings that it shows.
fn known_environment() -> BTreeSet<String> {
    let text = std::fs::read_to_string(docker().join("../docs/configuration.md")).expect("readable");
    let names = text.split('`').filter(|word| {
        word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    });
    names.map(str::to_owned).collect()
}

#[test]
fn what_compose_names_is_there() {
    let folder = docker();
    let compose = document(&folder.join("compose.yml"));
    let services = object(&compose["services"]);
    let (volumes, secrets) = (&compose["volumes"], &compose["secrets"]);
    for (name, service) in &services {
        for mount in list(&service["volumes"]) {
            let source = mount.split(':').next().expect("a source");
            match source.strip_prefix("./") {
                Some(path) => assert!(folder.join(path).exists(), "{name} mounts {path}, which is not there"),
                None => {
                    assert!(volumes.get(source).is_some(), "{name} mounts {source}, which is not declared")
                }
            }
        }
        for secret in list(&service["secrets"]) {
            assert!(secrets[secret]["environment"].is_string(), "{name}: {secret}");
        }
        let before = match &service["depends_on"] {
            Value::Object(table) => table.keys().map(String::as_str).collect(),
            other => list(other),
        };
        for other in before {
            assert!(services.iter().any(|(name, _)| *name == other), "{name} waits for {other}");
        }
        for text in service.to_string().split("${").skip(1) {
            assert!(text.contains(":?") || text.contains(":-"), "{name}: ${{{text}");
        }
    }
    // Six servers with one file, and the script that makes one Cluster of them names each.
    let nodes = compose["services"]["redis-cluster"]["environment"]["REDIS_NODES"].as_str().expect("a list");
    assert_eq!(nodes, (1..=6).map(|n| format!("redis-{n}:6379")).collect::<Vec<_>>().join(" "));
    for prometheus in documents(&folder.join("prometheus/prometheus.yml")) {
        let job = &prometheus["scrape_configs"][0];
        assert_eq!(list(&job["dns_sd_configs"][0]["names"]), REGIONS.map(|(region, ..)| region));
        assert_eq!(job["dns_sd_configs"][0]["port"], 8080);
        assert_eq!(list(&prometheus["rule_files"]), ["*rules.yml"], "whatever rules stand beside it");
    }
    let source = document(&folder.join("grafana/provisioning/datasources/prometheus.yml"));
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let boards = document(&folder.join("grafana/provisioning/dashboards/edgecache.yml"));
    let path = boards["providers"][0]["options"]["path"].as_str().expect("a path");
    let path = path.strip_suffix("/dashboards").expect("the folder of dashboards");
    let mounted = list(&compose["services"]["grafana"]["volumes"]);
    assert!(mounted.iter().any(|mount| *mount == format!("./grafana:{path}:ro")), "{mounted:?}");
}

#[test]
fn manifests_name_what_is_there_and_routes_that_answer() {
    let folder = docker().join("kubernetes");
    let base = folder.join("base");
    let kustomization = document(&base.join("kustomization.yaml"));
    let mut by_kind = BTreeMap::new();
    for file in list(&kustomization["resources"]) {
        for resource in documents(&base.join(file)) {
            let kind = resource["kind"].as_str().expect("a kind").to_owned();
            assert!(
                resource["apiVersion"].is_string() && resource["metadata"]["name"] == "cache-node",
                "{file}"
            );
            assert!(by_kind.insert(kind, resource).is_none(), "{file}");
        }
    }
    let kinds: Vec<&str> = by_kind.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"]);

    let deployment = &by_kind["Deployment"]["spec"];
    let labels = &deployment["template"]["metadata"]["labels"];
    for selector in [
        &deployment["selector"]["matchLabels"],
        &by_kind["Service"]["spec"]["selector"],
        &by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        &by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let rolling = &deployment["strategy"]["rollingUpdate"];
    assert_eq!((&rolling["maxUnavailable"], &rolling["maxSurge"]), (&Value::from(0), &Value::from(1)));
    let pod = &deployment["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(container["resources"]["limits"]["memory"].is_string());

    // The settings are ones that a node knows and takes.
    let secret = document(&folder.join("secret.example.yaml"));
    let known = known_environment();
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in object(&by_kind["ConfigMap"]["data"]) {
        env.insert(name.to_owned(), value.as_str().expect("text").to_owned());
    }
    for (name, value) in object(&secret["stringData"]) {
        assert_eq!(value, "", "{name} has a value that everybody knows");
        env.insert(
            name.to_owned(),
            if name == "DATABASE_URL" { "postgres://u:p@h/m" } else { "secret" }.to_owned(),
        );
    }
    for variable in container["env"].as_array().expect("a list") {
        env.insert(
            variable["name"].as_str().expect("a name").to_owned(),
            "cache-node-7d9f8c6b5-x2x4z".to_owned(),
        );
    }
    for name in env.keys() {
        assert!(known.contains(name), "a node knows no {name}");
    }
    let config = load(&Sources { env, ..Sources::default() }).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.live.current().auth.tokens.len(), 1);
    let references: Vec<&Value> = container["envFrom"].as_array().expect("a list").iter().collect();
    assert_eq!(references[0]["configMapRef"]["name"], by_kind["ConfigMap"]["metadata"]["name"]);
    assert_eq!(references[1]["secretRef"]["name"], secret["metadata"]["name"]);

    for (region, _, count) in REGIONS {
        let overlay = document(&folder.join(region).join("kustomization.yaml"));
        assert_eq!(list(&overlay["resources"]), ["../base"]);
        assert_eq!(overlay["replicas"][0]["count"], count);
        assert_eq!(overlay["nameSuffix"], format!("-{region}"));
        let patch = overlay["patches"][0]["patch"].as_str().expect("text");
        assert!(patch.contains(&format!("/data/EDGE_NODE_REGION, value: {region} ")), "{patch}");
    }

    // Probes ask what a node answers, at the port where it listens.
    let port = &container["ports"][0];
    assert!(list(&container["args"]).contains(&"0.0.0.0:8080") && port["containerPort"] == 8080);
    assert_eq!(by_kind["Service"]["spec"]["ports"][0]["targetPort"], port["name"]);
    assert_eq!(by_kind["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"], port["containerPort"]);
    let node = Serving::start(&[("CACHE_AUTH_TOKEN", "t")]);
    for (probe, path) in PROBES {
        let ask = &container[probe]["httpGet"];
        assert_eq!((&ask["port"], &ask["path"], &ask["scheme"]), (&port["name"], &path.into(), &Value::Null));
        node.client.until(path, "that it is well, without a token", |answer| answer.status == 200);
    }
}

const PROBES: [(&str, &str); 2] = [("readinessProbe", "/health/ready"), ("livenessProbe", "/health/live")];

/// Does what a patch (RFC 6902) says, as far as those of this project go: `add` and `replace` of members.
fn patched(mut document: Value, patch: &Value) -> Value {
    for step in patch.as_array().expect("a list") {
        let path = step["path"].as_str().expect("a path");
        let (above, member) = path.rsplit_once('/').expect("a member");
        let above = document.pointer_mut(above).unwrap_or_else(|| panic!("nothing is at {above}"));
        let known = above.get(member).is_some();
        assert_eq!(known, step["op"] == "replace", "{step}");
        above[member] = step["value"].clone();
    }
    document
}

#[test]
fn with_the_component_tls_a_node_answers_its_probes_over_tls() {
    let folder = docker().join("kubernetes");
    let component = document(&folder.join("tls/kustomization.yaml"));
    let patch = yaml::parsed(component["patches"][0]["patch"].as_str().expect("text"));
    let deployment = patched(document(&folder.join("base/deployment.yaml")), &patch);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // What is mounted is there, and holds what the arguments and the configuration name.
    let mounts: Vec<(&str, &str)> = container["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mount| (mount["name"].as_str().expect("a name"), mount["mountPath"].as_str().expect("a path")))
        .collect();
    assert_eq!(mounts, [("file", "/etc/edgecache"), ("tls", "/etc/edgecache-tls")]);
    assert_eq!(pod["volumes"][0]["configMap"]["name"], component["configMapGenerator"][0]["name"]);
    assert_eq!(list(&component["configMapGenerator"][0]["files"]), ["node.toml"]);
    assert_eq!((&pod["volumes"][0]["name"], &pod["volumes"][1]["name"]), (&"file".into(), &"tls".into()));
    let arguments = list(&container["args"]);
    assert_eq!((arguments[0], &arguments[3..]), ("serve", &["--config", "/etc/edgecache/node.toml"][..]));

    let certificates_in = tempfile::tempdir().expect("a folder");
    let [cert, key, ca] = certificates(certificates_in.path());
    let settings = std::fs::read_to_string(folder.join("tls/node.toml")).expect("readable");
    assert_eq!(settings.matches("/etc/edgecache-tls/tls.").count(), 2, "the names that a Secret of TLS has");
    let settings = settings
        .replace("/etc/edgecache-tls/tls.crt", cert.to_str().expect("UTF-8"))
        .replace("/etc/edgecache-tls/tls.key", key.to_str().expect("UTF-8"));
    let file = certificates_in.path().join("node.toml");
    std::fs::write(&file, settings).expect("written");
    let arguments = ["--listen", "127.0.0.1:0", "--config", file.to_str().expect("UTF-8")];
    let node = Serving::start_with(&arguments, &[]);
    let client = Client::trusting(&node.base, &ca);
    for (probe, path) in PROBES {
        let ask = &container[probe]["httpGet"];
        assert_eq!((&ask["path"], &ask["scheme"]), (&path.into(), &"HTTPS".into()), "{probe}");
        client.until(path, "that it is well", |answer| answer.status == 200);
    }
}

#[test]
fn the_script_that_makes_the_cluster_is_one() {
    let script = docker().join("redis/create-cluster.sh");
    assert!(Command::new("sh").arg("-n").arg(script).status().expect("sh runs").success());
}
