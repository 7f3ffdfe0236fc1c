//! `GET /openapi.json`: the routes, described (OpenAPI 3.1).

use axum::Extension;
use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use cache_api::{ErrorBody, PROBLEM_JSON};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::route::Access::{Anybody, Needs, Public};
use super::route::{Parameter, Place, Route};

/// The description, as it is answered.
#[derive(Clone)]
pub(crate) struct Description(Bytes);

/// Where it stands.
pub(crate) const PATH: &str = "/openapi.json";

/// The route of the description itself.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get(PATH, Public, "This description.", described)
            .answer::<Value>(200, "An OpenAPI document, version 3.1."),
    ]
}

async fn described(Extension(Description(bytes)): Extension<Description>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
}

impl Description {
    /// Describes routes.
    pub(crate) fn of(routes: &[Route]) -> Self {
        let document = document(routes);
        Self(Bytes::from(serde_json::to_vec(&document).unwrap_or_default()))
    }
}

/// The document.
fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "edgecache node",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A cache that stays coherent over many nodes, and the GPU marketplace on it. Money is whole \
                            millionths of a dollar. Everything that is not a success is a problem document (RFC 9457).",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        // Where it was read.
        "servers": [{ "url": "/" }],
        "tags": tags(routes),
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": { "Problem": problem_answer("It did not succeed.", &problem.to_value()) },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token that the node was given, with the scope that the route names, or `admin`. \
                                    A node without tokens asks for none.",
                },
            },
        },
    })
}

fn tags(routes: &[Route]) -> Value {
    let mut names: Vec<&str> = routes.iter().map(tag).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

/// The group of a route: the first part of its path.
fn tag(route: &Route) -> &'static str {
    match route.path.split('/').nth(1).unwrap_or_default() {
        "" => "ui",
        part => part.split('.').next().unwrap_or(part),
    }
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag(route)],
        "parameters": route.parameters.iter().map(|one| parameter(one, schemas)).collect::<Value>(),
        "responses": responses(route, schemas),
        "security": match route.access {
            Public | Anybody => json!([]),
            Needs(scope) => json!([{ "token": [scope.name()] }]),
        },
    });
    if let Some((about, schema, optional)) = route.body {
        operation["requestBody"] = json!({
            "description": about,
            "required": !optional,
            "content": { "application/json": { "schema": schema(schemas) } },
        });
    }
    operation
}

/// Made of method and path: `get_cache_cache_type_resource`; a folder is its `index`, so that `/ui` and `/ui/` differ.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let method = route.method.as_str().to_lowercase();
    let index = route.path.ends_with('/').then_some("index");
    std::iter::once(method.as_str()).chain(words).chain(index).collect::<Vec<_>>().join("_")
}

fn parameter(parameter: &Parameter, schemas: &mut SchemaGenerator) -> Value {
    json!({
        "name": parameter.name,
        "in": match parameter.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        },
        "required": parameter.needed,
        "description": parameter.about,
        "schema": (parameter.schema)(schemas),
    })
}

fn responses(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let headers: Map<String, Value> = route
        .reply_headers
        .iter()
        .map(|(name, about)| {
            ((*name).to_owned(), json!({ "description": about, "schema": { "type": "string" } }))
        })
        .collect();
    for reply in &route.replies {
        let mut answer = json!({ "description": reply.about });
        if let Some((content_type, schema)) = reply.body {
            answer["content"] = json!({ content_type: { "schema": schema(schemas) } });
        }
        if !headers.is_empty() {
            answer["headers"] = Value::Object(headers.clone());
        }
        responses.insert(reply.status.to_string(), answer);
    }
    let problem = schemas.subschema_for::<ErrorBody>().to_value();
    for (status, about) in problems(route) {
        responses.entry(status.to_string()).or_insert_with(|| problem_answer(about, &problem));
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    Value::Object(responses)
}

/// What can go wrong: what the route says itself, and what its form brings with it.
fn problems(route: &Route) -> Vec<(u16, &'static str)> {
    let mut problems = route.problems.clone();
    if !route.parameters.is_empty() || route.body.is_some() {
        problems.push((400, "A parameter, a header or the body cannot be read."));
    }
    if route.body.is_some() {
        problems.push((413, "The body is too long."));
        problems.push((422, "The body is JSON and does not say what it must."));
    }
    if let Needs(_) = route.access {
        problems.push((401, "No token was shown, or a wrong one."));
        problems.push((403, "The token lacks the scope."));
        problems.push((429, "Too many requests; `retry-after` says for how long to wait."));
        problems.push((503, "The node cannot do it now; `retry-after` says for how long to wait."));
    }
    problems
}

fn problem_answer(about: &str, schema: &Value) -> Value {
    json!({ "description": about, "content": { PROBLEM_JSON: { "schema": schema } } })
}
