//! What goes wrong, as an answer.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cache_api::{BodyError, ErrorBody, PROBLEM_JSON};
use cache_l2::{SealError, StoreError};
use cache_tiered::{ReadError, WriteError};

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<String>,
    cure: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), field: None, cure: None, headers: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn bad(field: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail).field(field)
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same of what stands in a well-formed body: 422.
    pub(crate) fn in_body(self) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, ..self }
    }

    pub(crate) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn retry_soon(self) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Problem");
        let body = ErrorBody::new(self.status.as_u16(), title, self.detail);
        let body = ErrorBody { field: self.field, cure: self.cure, ..body };
        // Text alone can always be written.
        let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Syntax(_) => Self::bad("body", error.to_string()),
            BodyError::Content { field, message } => {
                let message = format!("{field}: {message}");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).field(field)
            }
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Degraded { .. } | ReadError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_soon()
            }
            ReadError::Timeout { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            ReadError::Source { .. } | ReadError::Panicked { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, error.to_string())
            }
            error => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let message = error.to_string();
        match error {
            WriteError::Value(SealError::TooLarge { .. }) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, message),
            WriteError::Value(SealError::TooManyGroups { .. }) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, message).field(cache_api::headers::CACHE_TAGS)
            }
            WriteError::Value(_) | WriteError::Event(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, message),
            WriteError::Type { field, message } => wrong_type(&field, &message),
            WriteError::Refused(StoreError::Refused { message: why }) if why.contains("OOM") => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, message)
                    .cure("Redis is out of memory: raise its maxmemory or remove keys")
            }
            WriteError::Refused(_) => Self::new(StatusCode::BAD_GATEWAY, message),
            WriteError::Unacked { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "{message}. The write may or may not have happened; this node dropped its own copies and goes \
                     on telling the others to do the same"
                ),
            )
            .cure("repeat the request once the shared tier is back")
            .retry_soon(),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}

/// A value that is not of its cache type. The path may be in the message: types that look at their fields before they
/// choose a form cannot give it otherwise, and a missing field has no path of its own.
fn wrong_type(path: &str, message: &str) -> Problem {
    let quoted = |start: &str| message.strip_prefix(start)?.split('`').next();
    let named = quoted("missing field `").or_else(|| quoted("unknown field `"));
    let in_message = || {
        let (path, _) = message.split_once(": ")?;
        path.chars().all(|c| c.is_ascii_alphanumeric() || "_.[]".contains(c)).then_some(path)
    };
    let field = match (path, named) {
        (".", Some(named)) => named.to_owned(),
        (".", None) => in_message().unwrap_or("body").to_owned(),
        (path, Some(named)) if path != named && !path.ends_with(&format!(".{named}")) => {
            format!("{path}.{named}")
        }
        (path, _) => path.to_owned(),
    };
    let told =
        if message.starts_with(field.as_str()) { message.to_owned() } else { format!("{field}: {message}") };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, told).field(field)
}
