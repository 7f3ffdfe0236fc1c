//! One node over HTTP.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use cache_api::ErrorBody;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{HeaderMap, Request, Uri};

use crate::arguments::Global;
use crate::failure::{Failure, Told};
use crate::tls;

/// More is no answer of a node.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// What may stand in a part of a path or in a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a part of a path or of a query; a slash in it is no border.
pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A token: never shown.
#[derive(Clone)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token that the arguments name.
    pub(crate) fn of(global: &Global) -> Result<Option<Self>, Failure> {
        let (text, origin) = match (&global.token, &global.token_file) {
            (_, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::usage(
                        format!("--token-file: {} cannot be read: {error}", file.display()),
                        "name a file that holds the token and that this user may read",
                    )
                })?;
                (text, "the token in --token-file")
            }
            (Some(token), None) => (token.clone(), "the token"),
            (None, None) => return Ok(None),
        };
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(
                format!("{origin} is blank or holds blanks"),
                "a token is printable ASCII without blanks, as the node was given it",
            ));
        }
        Ok(Some(Self(text.to_owned())))
    }
}

/// A node that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    node: String,
    token: Option<Token>,
}

/// What a node answered, whatever it is.
#[derive(Debug)]
pub(crate) struct Answer {
    node: String,
    pub(crate) status: u16,
    headers: HeaderMap,
    body: String,
}

impl Client {
    /// The node at a URL.
    pub(crate) fn new(url: &str, global: &Global, token: Option<Token>) -> Result<Self, Failure> {
        let node = checked(url)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A token is for the node alone, not for whoever is in between.
            .proxy(None)
            .user_agent(concat!("cachectl/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(global.timeout));
        if node.starts_with("https:") {
            config = config.tls_config(tls::config(global)?);
        }
        Ok(Self { agent: config.build().new_agent(), node, token })
    }

    /// Its URL.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Asks for a document.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask("GET", path, &[], None)?.success()?.read()
    }

    /// Asks, and gives whatever the answer is.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path, headers);
        let answered = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body);
                self.agent.run(request.map_err(|error| self.failed(error.into()))?)
            }
            None => self.agent.run(request.body(()).map_err(|error| self.failed(error.into()))?),
        };
        let mut response = answered.map_err(|error| self.failed(error))?;
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_string();
        Ok(Answer {
            node: self.node.clone(),
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: body.map_err(|error| self.failed(error))?,
        })
    }

    /// Opens a stream of events. Between two reads at most `silence` may pass.
    pub(crate) fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        (connecting, silence): (Duration, Duration),
    ) -> Result<impl BufRead + use<>, Failure> {
        let request = self.request("GET", path, headers).header("accept", "text/event-stream");
        let request = request.body(()).map_err(|error| self.failed(error.into()))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(None)
            .timeout_connect(Some(connecting))
            .timeout_recv_response(Some(connecting))
            .timeout_per_read(Some(silence))
            .build();
        let mut response = self.agent.run(request).map_err(|error| self.failed(error))?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_string();
            let headers = response.headers().clone();
            let answer = Answer { node: self.node.clone(), status, headers, body: body.unwrap_or_default() };
            answer.success()?;
            return Err(Failure::Node(Told::new(format!("{} gave no stream", self.node))));
        }
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> ureq::http::request::Builder {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.node));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.0)),
            None => request,
        }
    }

    /// Why there is no answer.
    fn failed(&self, error: ureq::Error) -> Failure {
        let node = &self.node;
        let told = match &error {
            ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
                return Failure::usage(format!("this cannot be asked of {node}: {error}"), "look at --help");
            }
            ureq::Error::HostNotFound => self.no_such_host(),
            // The operating system's resolver has no kind of its own for it.
            ureq::Error::Io(cause) if cause.to_string().contains("lookup") => self.no_such_host(),
            ureq::Error::Timeout(_) => Told::new(format!("{node} did not answer in time ({error})"))
                .cure("give it longer with --timeout, or look whether it hangs"),
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Pem(_) => self.tls_failed(&error),
            ureq::Error::Io(cause) if is_tls(cause) => self.tls_failed(&error),
            ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
                Told::new(format!("nothing listens at {node} (connection refused)"))
                    .cure("start the node, or name another with --node URL or CACHECTL_NODE")
            }
            ureq::Error::Protocol(_) | ureq::Error::Io(_) if node.starts_with("http:") => {
                Told::new(format!("{node} did not answer in HTTP: {error}"))
                    .cure("if it speaks TLS, its URL begins with https://")
            }
            _ => Told::new(format!("{node}: {error}")).cure("name the node with --node URL or CACHECTL_NODE"),
        };
        Failure::Unreachable(told)
    }

    fn no_such_host(&self) -> Told {
        Told::new(format!("{}: there is no such host", self.node))
            .cure("name the node with --node URL or CACHECTL_NODE")
    }

    fn tls_failed(&self, error: &ureq::Error) -> Told {
        Told::new(format!("{}: no TLS connection: {error}", self.node)).cure(
            "name who vouches for the node with --ca-file, what this client shows with --client-cert and --client-key, \
             and the node by the name that is in its certificate",
        )
    }
}

impl Answer {
    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The document in the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|error| {
            let told =
                Told::new(format!("{} answered what cachectl does not understand: {error}", self.node));
            Failure::Node(told.cure("is it a cache-node, and of this version?"))
        })
    }

    /// The answer if it is a success, else what it says is wrong.
    pub(crate) fn success(self) -> Result<Self, Failure> {
        match self.status {
            200..=299 => Ok(self),
            _ => Err(self.failure()),
        }
    }

    /// What an answer that is not a success says.
    pub(crate) fn failure(&self) -> Failure {
        // A proxy in between may answer with something else.
        let problem: Option<ErrorBody> = serde_json::from_str(&self.body).ok();
        let (status, node) = (self.status, &self.node);
        let says = problem.as_ref().map(|problem| [&problem.detail, &problem.title]);
        let error = match says.into_iter().flatten().find(|says| !says.is_empty()) {
            Some(says) => format!("{node} says: {says} ({status})"),
            None => format!("{node} answered {status}"),
        };
        let (field, cure) = problem.map(|problem| (problem.field, problem.cure)).unwrap_or_default();
        let told = Told { error, cure };
        let or_cure = |told: Told, cure: &str| match told.cure {
            None => told.cure(cure),
            Some(_) => told,
        };
        match status {
            401 => Failure::Refused(told.cure("give the node's token with CACHECTL_TOKEN or --token-file")),
            403 => Failure::Refused(or_cure(
                told,
                "use a token that has the right, or ask from an allowed address",
            )),
            404 | 405 if field.is_none() => {
                Failure::Node(or_cure(told, "the node does not know this; is it older than this cachectl?"))
            }
            400 | 404 | 405 | 409 | 413 | 415 | 422 => Failure::Usage(told),
            300..=399 => Failure::Node(or_cure(told, "name the node itself, not what redirects to it")),
            _ => Failure::Node(told),
        }
    }
}

fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// A URL without its last slash; `http://` is understood where nothing is said.
fn checked(url: &str) -> Result<String, Failure> {
    const CURE: &str = "a node's URL is http://HOST:PORT or https://HOST:PORT";
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let wrong = |why: &str| Failure::usage(format!("--node {url:?}: {why}"), CURE);
    let uri: Uri = whole.parse().map_err(|_| wrong("not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("neither http nor https"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        // Not quoted: it may be a secret.
        return Err(Failure::usage(
            "the URL of a node holds a user or password",
            "tokens go to CACHECTL_TOKEN",
        ));
    }
    if authority.host().is_empty() {
        return Err(wrong("names no host"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok(whole.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_nodes_are_checked() {
        assert_eq!(checked("127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(checked("https://node.example/").unwrap(), "https://node.example");
        assert_eq!(checked("http://[::1]:80").unwrap(), "http://[::1]:80");
        for wrong in ["", "ftp://h", "http://", "http://h?x=1", "http://h h", "://h"] {
            assert!(matches!(checked(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        let failure = checked("http://me:hunter2@h").unwrap_err();
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }

    #[test]
    fn a_slash_in_a_resource_is_no_border() {
        assert_eq!(escaped("a/b c?d=é"), "a%2Fb%20c%3Fd%3D%C3%A9");
    }

    #[test]
    fn problems_are_told_by_what_the_caller_can_do() {
        let told = |status, body: &str| {
            Answer { node: "http://n".into(), status, headers: HeaderMap::new(), body: body.into() }.failure()
        };
        let problem = r#"{"type":"about:blank","title":"T","status":404,"detail":"no cache type","field":"cache_type","cure":"known are a, b"}"#;
        let unknown = told(404, problem);
        assert_eq!(unknown.exit_code(), 2);
        assert_eq!(unknown.to_string(), "http://n says: no cache type (404)\n  cure: known are a, b");
        let brief = told(507, r#"{"title":"Insufficient Storage","status":507}"#);
        assert_eq!(brief.to_string(), "http://n says: Insufficient Storage (507)");
        assert_eq!(told(401, "").exit_code(), 4);
        assert_eq!(told(403, "{}").exit_code(), 4);
        assert_eq!(told(404, "").exit_code(), 5);
        assert_eq!(told(429, "").exit_code(), 5);
        assert_eq!(told(503, "no json").exit_code(), 5);
        assert_eq!(told(302, "").exit_code(), 5);
    }
}
