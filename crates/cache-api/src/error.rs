//! What every answer that is not a success says: a problem document (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The content type of an [`ErrorBody`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of every answer that is not a success: a problem document as RFC 9457 has it, with the field that is wrong
/// and what would help beside it.
///
/// ```
/// let body = cache_api::ErrorBody::new(404, "Not Found", "nothing is at /nowhere").cure("look at /openapi.json");
/// assert_eq!(serde_json::to_value(&body).unwrap()["type"], "about:blank");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Which kind of problem it is; `about:blank`: the one that the status says.
    #[serde(rename = "type", default = "blank")]
    pub kind: String,
    /// The kind in words.
    #[serde(default)]
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong this time.
    #[serde(default)]
    pub detail: String,
    /// The field that is wrong: a path into the body, or the name of a header or parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

fn blank() -> String {
    "about:blank".to_owned()
}

impl ErrorBody {
    /// A problem without field and cure; `title` says what the status means.
    pub fn new(status: u16, title: impl Into<String>, detail: impl Into<String>) -> Self {
        let (title, detail) = (title.into(), detail.into());
        Self { kind: blank(), title, status, detail, field: None, cure: None }
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the cure.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}
