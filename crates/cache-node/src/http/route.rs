//! One route: how it is reached, who may, what it takes and answers, what does it. The router, the scopes of tokens and the
//! description that `GET /openapi.json` answers are all made from the same routes, so that none can lack in one of them.
//!
//! ```ignore
//! pub(crate) fn routes() -> Vec<Route> {
//!     vec![
//!         Route::get("/node/hot-keys", Needs(TokenScope::Read), "The keys that are read most of late.", hot_keys)
//!             .query::<u64>("limit", "How many at most; 20 if it is left out.")
//!             .answer::<HotKeys>(200, "The keys."),
//!     ]
//! }
//! ```

use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use cache_api::headers;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::App;
use crate::config::TokenScope;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Public,
    /// Everybody, within the rates and bounds that hold for requests with a token.
    Anybody,
    /// Who shows a token with the scope, or with `admin`; everybody where no token is configured.
    Needs(TokenScope),
}

/// Makes the schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

/// A parameter of a request, or a header of an answer.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) needed: bool,
    pub(crate) about: &'static str,
    pub(crate) schema: SchemaOf,
}

/// One answer that is a success.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) about: &'static str,
    /// Content type and schema; `None` = it has no body.
    pub(crate) body: Option<(&'static str, SchemaOf)>,
}

/// One route. Made by [`Route::get`] and its like; the other methods describe it further.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// As axum spells it: `/cache/{cache_type}/{*resource}`.
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) summary: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    /// About it, and what it is; whether it may be left out.
    pub(crate) body: Option<(&'static str, SchemaOf, bool)>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) reply_headers: Vec<(&'static str, &'static str)>,
    pub(crate) problems: Vec<(u16, &'static str)>,
    /// `None`: the router reaches it by a wildcard of another route.
    pub(crate) handler: Option<MethodRouter<Arc<App>>>,
    /// Asked before the handler, of `GET`.
    pub(crate) at_once: Option<AtOnce>,
}

/// The answer to a request where none has to be waited for.
pub(crate) type AtOnce = fn(&App, &Request) -> Option<Response>;

const JSON: &str = "application/json";

impl Route {
    fn new(method: Method, path: &'static str, access: Access, summary: &'static str) -> Self {
        let mut route = Self {
            method,
            path,
            access,
            summary,
            parameters: Vec::new(),
            body: None,
            replies: Vec::new(),
            reply_headers: Vec::new(),
            problems: Vec::new(),
            handler: None,
            at_once: None,
        };
        route.parameters = route.names_in_path().map(|name| path_parameter(name, "")).collect();
        route
    }

    fn on<H, T>(self, filter: MethodFilter, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self { handler: Some(on(filter, handler)), ..self }
    }

    /// `GET`, and with it `HEAD`.
    pub(crate) fn get<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::GET, path, access, summary).on(MethodFilter::GET, handler)
    }

    /// `PUT`.
    pub(crate) fn put<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::PUT, path, access, summary).on(MethodFilter::PUT, handler)
    }

    /// `POST`.
    pub(crate) fn post<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::POST, path, access, summary).on(MethodFilter::POST, handler)
    }

    /// `DELETE`.
    pub(crate) fn delete<H, T>(path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        Self::new(Method::DELETE, path, access, summary).on(MethodFilter::DELETE, handler)
    }

    /// A route that the wildcard of another one with the same method and access takes.
    pub(crate) fn within_another(
        method: Method,
        path: &'static str,
        access: Access,
        summary: &'static str,
    ) -> Self {
        Self::new(method, path, access, summary)
    }

    /// `GET` is answered by that where it can be. It spares what a handler costs whose answer is there: copies of itself and
    /// of parts of the request, boxes for them and for its future.
    pub(crate) fn at_once(self, answer: AtOnce) -> Self {
        Self { at_once: Some(answer), ..self }
    }

    /// Says what a part of the path is.
    pub(crate) fn at(mut self, name: &'static str, about: &'static str) -> Self {
        let found = self.parameters.iter_mut().find(|parameter| parameter.name == name);
        match found.filter(|parameter| parameter.place == Place::Path) {
            Some(parameter) => parameter.about = about,
            None => unreachable!("{} has no part {name}", self.path),
        }
        self
    }

    /// A parameter of the query that may be left out.
    pub(crate) fn query<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<T>(name, Place::Query, false, about)
    }

    /// A parameter of the query that must be there.
    pub(crate) fn query_needed<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<T>(name, Place::Query, true, about)
    }

    /// A header of the request that may be left out.
    pub(crate) fn header(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<String>(name, Place::Header, false, about)
    }

    fn parameter<T: JsonSchema>(
        mut self,
        name: &'static str,
        place: Place,
        needed: bool,
        about: &'static str,
    ) -> Self {
        let schema = schema_of::<T>;
        self.parameters.push(Parameter { name, place, needed, about, schema });
        self
    }

    /// The body that it takes, as JSON.
    pub(crate) fn takes<T: JsonSchema>(self, about: &'static str) -> Self {
        Self { body: Some((about, schema_of::<T>, false)), ..self }
    }

    /// The body that it takes, as JSON, and that may be left out.
    pub(crate) fn may_take<T: JsonSchema>(self, about: &'static str) -> Self {
        Self { body: Some((about, schema_of::<T>, true)), ..self }
    }

    /// A success with JSON.
    pub(crate) fn answer<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        self.answer_as::<T>(status, JSON, about)
    }

    /// A success in another format.
    pub(crate) fn answer_as<T: JsonSchema>(
        mut self,
        status: u16,
        content_type: &'static str,
        about: &'static str,
    ) -> Self {
        self.replies.push(Reply { status, about, body: Some((content_type, schema_of::<T>)) });
        self
    }

    /// An answer that leads elsewhere.
    pub(crate) fn leads(mut self, status: u16, about: &'static str) -> Self {
        self.replies.push(Reply { status, about, body: None });
        self
    }

    /// A header that successes carry, at least sometimes.
    pub(crate) fn answers_header(mut self, name: &'static str, about: &'static str) -> Self {
        self.reply_headers.push((name, about));
        self
    }

    /// A problem of its own; those that every route has are described by themselves.
    pub(crate) fn problem(mut self, status: u16, about: &'static str) -> Self {
        self.problems.push((status, about));
        self
    }

    /// A read through the cache: the wish for freshness, and what answers tell about theirs.
    pub(crate) fn cached(self) -> Self {
        self.header(
            headers::CACHE_FRESHNESS,
            "How fresh the answer must be: any, bounded (as if left out), at-most=2s, at-least=<token>, latest.",
        )
        .answers_header(headers::CACHE_TIER, "The tier that answered: l1, l2 or source.")
        .answers_header("age", "Seconds since the value was filled in.")
        .answers_header(
            headers::CACHE_LAG_MS,
            "Milliseconds since it was last known that no acknowledged change is missing; absent where nothing is known.",
        )
        .answers_header(
            headers::CACHE_AS_OF,
            "Since when no acknowledged change is known to be missing (RFC 3339).",
        )
        .answers_header(headers::CACHE_VERSION, "The version that the source gave the value.")
        .answers_header(headers::CACHE_POSITION, "The state of the log that the value reflects: <epoch>-<sequence>.")
        .answers_header(
            headers::CACHE_STALE,
            "`true` if the value was served although the staleness bound had passed.",
        )
        .problem(504, "The value could not be had in time.")
        .problem(502, "The source failed.")
    }

    /// A write: its token, and what can go wrong with it.
    pub(crate) fn writes(self) -> Self {
        self.answers_header(headers::CACHE_TOKEN, "Where the write stands: to be shown to other nodes.")
    }

    /// The names in the path.
    pub(crate) fn names_in_path(&self) -> impl Iterator<Item = &'static str> + use<> {
        let path: &'static str = self.path;
        path.split('/')
            .filter_map(|part| Some(part.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*')))
    }
}

fn path_parameter(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: Place::Path, needed: true, about, schema: schema_of::<String> }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
