//! The description of the interface (`GET /openapi.json`) and the interface itself: each says what the other does.

mod support;

#[path = "openapi/judge.rs"]
mod judge;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Client, InProcess, configured};

const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

fn node(token: Option<&str>) -> InProcess {
    let env: Vec<_> = token.map(|token| ("CACHE_AUTH_TOKEN", token)).into_iter().collect();
    InProcess::start(configured(&env, None))
}

struct Described {
    method: String,
    path: String,
    operation: Value,
}

impl Described {
    /// The path with something in the place of its parameters, and the query parameters that it needs.
    fn address(&self) -> String {
        let part = |part: &str| match part {
            "{cache_type}" => "session".to_owned(),
            part if part.starts_with('{') => "x".to_owned(),
            part => part.to_owned(),
        };
        let path: Vec<String> = self.path.split('/').map(part).collect();
        let needed = self.parameters().filter(|one| one["in"] == "query" && one["required"] == true);
        let query: Vec<String> = needed.map(|one| format!("{}=x", text(&one["name"]))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", path.join("/"), query.join("&"))
    }

    fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.operation["parameters"].as_array().into_iter().flatten()
    }

    fn is_public(&self) -> bool {
        self.operation["security"] == json!([])
    }

    fn ask(&self, client: &Client) -> support::Answer {
        let body: Option<&[u8]> = if self.operation["requestBody"].is_object() { Some(b"{}") } else { None };
        client.ask_text(&self.method.to_uppercase(), &self.address(), &[], body)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn described(document: &Value) -> Vec<Described> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().expect("an object").iter().map(|(method, operation)| Described {
            method: method.clone(),
            path: path.clone(),
            operation: operation.clone(),
        })
    });
    operations.collect()
}

fn document(client: &Client) -> Value {
    let answer = client.get("/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.body
}

#[test]
fn every_described_route_is_there_and_every_other_method_is_not() {
    let node = node(None);
    let all = described(&document(&node.client));
    assert!(all.len() > 20, "{}", all.len());
    for route in &all {
        let answer = route.ask(&node.client);
        let nobody = answer.status == 404 && answer.error().starts_with("nothing is at");
        assert!(!nobody && answer.status != 405, "{} {} gave {answer:?}", route.method, route.path);
    }
    // The other way round: what is routed is described. A method that a described path does not have is refused.
    let paths: BTreeSet<&str> = all.iter().map(|route| route.path.as_str()).collect();
    for path in paths {
        let of_path = || all.iter().filter(|route| route.path == path);
        for method in METHODS.into_iter().filter(|method| of_path().all(|route| route.method != *method)) {
            let route = Described { method: method.into(), path: path.into(), operation: json!({}) };
            // What a wildcard beside it takes is that one's.
            let beside = path.starts_with("/market/gpus/");
            let status = route.ask(&node.client).status;
            assert!(status == 405 || beside, "{method} {path} gave {status}");
        }
    }
}

#[test]
fn every_route_that_is_not_public_refuses_who_shows_no_token() {
    let node = node(Some("s3cret-t0ken"));
    let all = described(&document(&node.client));
    let public: BTreeSet<&str> =
        all.iter().filter(|route| route.is_public()).map(|route| route.path.as_str()).collect();
    let known = ["/health", "/health/live", "/health/ready", "/openapi.json"];
    for path in &public {
        let of_dashboard = *path == "/" || path.starts_with("/ui");
        assert!(known.contains(path) || of_dashboard, "{path} is public");
    }
    for route in all {
        let refused = route.ask(&node.client);
        let wrong = route.ask(&node.client.with_token("s3cret-t0keN"));
        for answer in [refused, wrong] {
            assert_eq!(answer.status == 401, !route.is_public(), "{} {}", route.method, route.path);
            if !route.is_public() {
                assert_eq!(answer.header("content-type"), Some("application/problem+json"));
                assert!(!answer.body.to_string().contains("s3cret"), "{answer:?}");
            }
        }
        let admitted = route.ask(&node.client.with_token("s3cret-t0ken"));
        assert!(![401, 403].contains(&admitted.status), "{} {}: {admitted:?}", route.method, route.path);
    }
}

#[test]
fn the_description_is_whole() {
    let node = node(None);
    let document = document(&node.client);
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for route in described(&document) {
        let place = format!("{} {}", route.method, route.path);
        let operation = &route.operation;
        assert!(METHODS.contains(&route.method.as_str()), "{place}");
        assert!(ids.insert(text(&operation["operationId"]).to_owned()), "{place}: its id is not its own");
        assert!(!text(&operation["summary"]).is_empty(), "{place} has no summary");
        for parameter in route.parameters() {
            assert!(!text(&parameter["description"]).is_empty(), "{place}: {}", parameter["name"]);
            assert!(parameter["schema"].is_object() || parameter["schema"].is_boolean(), "{place}");
        }
        let in_path: BTreeSet<&str> =
            route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let told: BTreeSet<&str> = route
            .parameters()
            .filter(|one| one["in"] == "path")
            .inspect(|one| assert_eq!(one["required"], true, "{place}"))
            .map(|one| text(&one["name"]))
            .collect();
        assert_eq!(in_path, told, "{place}");
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{place} never succeeds");
        assert!(responses.contains_key("default"), "{place}");
        for (status, response) in responses {
            assert!(response["$ref"].is_string() || response["description"].is_string(), "{place}: {status}");
        }
    }
    let mut references = Vec::new();
    gather(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

/// By the schema that the OpenAPI Initiative publishes, and each schema of a type by that of JSON Schema 2020-12.
#[test]
fn an_independent_judge_finds_nothing_wrong_with_the_description() {
    let judge = judge::OpenApi::new();
    let node = node(None);
    let document = document(&node.client);
    assert_eq!(judge.wrong(&document), None);
    let mut described = judge::Described::of(&document);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    assert!(schemas.len() > 30, "{}", schemas.len());
    for name in schemas.keys() {
        assert_eq!(described.wrong_schema(&format!("/components/schemas/{name}")), None);
    }

    // It does find what is wrong.
    let operation = "/paths/~1node~1hot-keys/get";
    let breaks = [
        ("/info", "title", Value::Null),
        (operation, "operationId", json!(7)),
        (operation, "security", json!({})),
        (&format!("{operation}/parameters/0"), "in", json!("body")),
        (&format!("{operation}/responses"), "2000", json!({ "description": "no status" })),
        (&format!("{operation}/responses/200"), "description", Value::Null),
        ("/components/securitySchemes/token", "type", json!("secret")),
    ];
    for (at, field, value) in breaks {
        let mut broken = document.clone();
        broken.pointer_mut(at).unwrap_or_else(|| panic!("nothing is at {at}"))[field] = value;
        assert!(judge.wrong(&broken).is_some(), "{at}/{field}");
    }
    let broken = [
        json!({ "type": "integr" }),
        json!({ "required": "a" }),
        json!({ "$ref": "#/components/schemas/None" }),
    ];
    for schema in broken {
        let document = json!({ "components": { "schemas": { "Broken": schema } } });
        let wrong = judge::Described::of(&document).wrong_schema("/components/schemas/Broken");
        assert!(wrong.is_some(), "{document}");
    }
}

/// What a route answers is what the description says of it, be it a success or a problem.
#[test]
fn every_answer_is_as_described() {
    let node = node(None);
    let client = &node.client;
    let gpu = json!({
        "provider_id": "p", "gpu_type": "H100", "region": "europe", "memory_gb": 80, "cuda_cores": 16_896,
        "performance_score": 989, "base_price_per_hour": 2_490_000, "currency": "USD",
    });
    assert_eq!(client.put("/market/gpus/x", &gpu).status, 200);
    assert_eq!(client.put("/cache/session/x", &json!({ "a": 1 })).status, 200);
    client.until("/node/history?series=memory_bytes", "points", |answer| {
        answer.body["series"]["memory_bytes"].as_array().is_some_and(|points| !points.is_empty())
    });
    let document = document(client);
    let mut judge = judge::Described::of(&document);
    let mut judged = BTreeSet::new();
    // What is read first, so that what is removed is still there.
    let (read, change): (Vec<_>, Vec<_>) =
        described(&document).into_iter().partition(|route| route.method == "get");
    for route in read.iter().chain(&change) {
        let answer = route.ask(client);
        let Some(kind) = answer.header("content-type").filter(|kind| kind.ends_with("json")) else {
            continue;
        };
        let escaped = |part: &str| part.replace('~', "~0").replace('/', "~1");
        let responses = format!("/paths/{}/{}/responses", escaped(&route.path), route.method);
        let said = format!("{responses}/{}/content/{}/schema", answer.status, escaped(kind));
        let place = format!("{} {} gave {answer:?}", route.method, route.address());
        let schema = match document.pointer(&said) {
            Some(_) => said,
            None if kind == "application/problem+json" => "/components/schemas/ErrorBody".to_owned(),
            None => panic!("{place}, of which nothing is said"),
        };
        assert_eq!(judge.wrong_value(&schema, &answer.body), None, "{place}");
        if answer.status < 300 {
            judged.insert((route.method.clone(), route.path.clone()));
        }
    }
    assert!(judged.len() > 20, "{judged:?}");
}

fn gather(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference.clone());
            }
            fields.values().for_each(|value| gather(value, references));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, references)),
        _ => {}
    }
}

#[test]
fn every_problem_is_a_problem_document() {
    let node = node(None);
    let long = vec![b'1'; 3_000_000];
    let asked = [
        (node.client.get("/nowhere"), 404),
        (node.client.ask("POST", "/cache/session/s", &[], Some(b"1")), 405),
        (node.client.put("/cache/gpu_pricing/r", &json!({})), 422),
        (node.client.get("/cache/session/%FF"), 400),
    ];
    for (answer, status) in asked {
        is_problem(&answer, status);
    }
    let allowed = node.client.ask("POST", "/cache/session/s", &[], Some(b"1"));
    assert!(allowed.header("allow").is_some_and(|allow| allow.contains("PUT")), "{allowed:?}");
    if let Ok(answer) = node.client.try_ask("PUT", "/cache/session/s", &[], Some(&long)) {
        is_problem(&answer, 413);
    }
}

fn is_problem(answer: &support::Answer, status: u16) {
    assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/problem+json")));
    let problem: cache_api::ErrorBody = serde_json::from_value(answer.body.clone()).expect("a problem");
    assert_eq!((problem.status, problem.kind.as_str()), (status, "about:blank"));
    assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
}
