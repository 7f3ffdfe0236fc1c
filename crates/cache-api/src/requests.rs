//! The bodies of requests, checked as they are read: an unknown field is an error, not a wish that is ignored.

use std::borrow::Cow;
use std::fmt;

use cache_events::{Pattern, Tag, WriteToken};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fields::{Fields, content};

/// `POST /cache/invalidate`: what has become untrue.
///
/// In JSON it has exactly one of `resource`, `tag` and `pattern`, with `cache_type` (which a `resource` must have)
/// and `reason` beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidateRequest {
    /// What is invalidated.
    pub target: Target,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// What an [`InvalidateRequest`] covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A resource with all its parameters.
    Resource {
        /// Cache type or namespace.
        cache_type: String,
        /// The resource.
        resource: String,
    },
    /// All entries that carry the tag, of every cache type: a tag knows no bounds between them.
    Tag {
        /// Checked to be known, if it is given.
        cache_type: Option<String>,
        /// The tag.
        tag: Tag,
    },
    /// The keys that the pattern covers.
    Pattern {
        /// Where; nowhere named is everywhere.
        cache_type: Option<String>,
        /// The pattern.
        pattern: Pattern,
    },
}

/// `POST /cache/clear`: everything, or one cache type.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClearRequest {
    /// Only this cache type or namespace.
    pub cache_type: Option<String>,
    /// Why, for the audit.
    pub reason: Option<String>,
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// Where the write stands; the header `x-cache-token` says the same.
    #[schemars(with = "String")]
    pub token: WriteToken,
}

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// It is not JSON.
    Syntax(String),
    /// It is JSON and does not say what it must.
    Content {
        /// The field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "the body is not JSON: {message}"),
            Self::Content { field, message } => write!(f, "{field}: {message}"),
        }
    }
}

impl std::error::Error for BodyError {}

impl InvalidateRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`BodyError`].
    ///
    /// ```
    /// use cache_api::{InvalidateRequest, Target};
    ///
    /// let body = br#"{"cache_type": "gpu_pricing", "resource": "H100", "reason": "new list"}"#;
    /// let request = InvalidateRequest::parse(body)?;
    /// assert!(matches!(request.target, Target::Resource { resource, .. } if resource == "H100"));
    /// assert!(InvalidateRequest::parse(br#"{"tag": "a", "pattern": "*"}"#).is_err());
    /// # Ok::<(), cache_api::BodyError>(())
    /// ```
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let fields = Fields::parse(body, &["cache_type", "resource", "tag", "pattern", "reason"])?;
        let (cache_type, reason) = (fields.text("cache_type")?, fields.text("reason")?);
        let targets = (fields.text("resource")?, fields.text("tag")?, fields.text("pattern")?);
        let refused = |field: &'static str| {
            move |error: cache_events::NameError| content(field, format!("{:?}: {}", error.value, error.rule))
        };
        let target = match targets {
            (Some(resource), None, None) => {
                let cache_type = cache_type
                    .ok_or_else(|| content("cache_type", "is missing: a resource belongs to a cache type"))?;
                if resource.is_empty() {
                    return Err(content("resource", "must not be empty"));
                }
                Target::Resource { cache_type, resource }
            }
            (None, Some(tag), None) => {
                Target::Tag { cache_type, tag: Tag::new(tag).map_err(refused("tag"))? }
            }
            (None, None, Some(pattern)) => {
                Target::Pattern { cache_type, pattern: Pattern::new(pattern).map_err(refused("pattern"))? }
            }
            (None, None, None) => {
                return Err(content("resource", "one of `resource`, `tag` and `pattern` is needed"));
            }
            (_, _, third) => {
                let field = if third.is_some() { "pattern" } else { "tag" };
                return Err(content(field, "only one of `resource`, `tag` and `pattern` may be given"));
            }
        };
        Ok(Self { target, reason })
    }
}

impl ClearRequest {
    /// Reads a body; an empty one asks for everything.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let fields = Fields::parse(body, &["cache_type", "reason"])?;
        Ok(Self { cache_type: fields.text("cache_type")?, reason: fields.text("reason")? })
    }
}

impl Serialize for InvalidateRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Map::new();
        let (cache_type, name, value) = match &self.target {
            Target::Resource { cache_type, resource } => (Some(cache_type), "resource", resource.as_str()),
            Target::Tag { cache_type, tag } => (cache_type.as_ref(), "tag", tag.as_str()),
            Target::Pattern { cache_type, pattern } => (cache_type.as_ref(), "pattern", pattern.as_str()),
        };
        fields.insert(name.to_owned(), value.into());
        put(&mut fields, "cache_type", cache_type);
        put(&mut fields, "reason", self.reason.as_ref());
        fields.serialize(serializer)
    }
}

impl JsonSchema for InvalidateRequest {
    fn schema_name() -> Cow<'static, str> {
        "InvalidateRequest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What has become untrue: exactly one of `resource`, `tag` and `pattern`.",
            "type": "object",
            "properties": {
                "cache_type": { "type": "string", "description": "Cache type or namespace; a resource needs it." },
                "resource": { "type": "string", "minLength": 1, "description": "A resource with all its parameters." },
                "tag": { "type": "string", "minLength": 1, "description": "All entries that carry it." },
                "pattern": { "type": "string", "minLength": 1, "description": "The keys that it covers." },
                "reason": { "type": "string", "description": "Why, for the audit." }
            },
            "oneOf": [
                { "required": ["cache_type", "resource"] },
                { "required": ["tag"] },
                { "required": ["pattern"] }
            ],
            "additionalProperties": false
        })
    }
}

impl Serialize for ClearRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Map::new();
        put(&mut fields, "cache_type", self.cache_type.as_ref());
        put(&mut fields, "reason", self.reason.as_ref());
        fields.serialize(serializer)
    }
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), value.as_str().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (String, String) {
        match InvalidateRequest::parse(body.as_bytes()) {
            Err(BodyError::Content { field, message }) => (field, message),
            other => panic!("{body} gave {other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let requests = [
            r#"{"cache_type":"gpu_pricing","resource":"H100","reason":"why"}"#,
            r#"{"tag":"provider:runpod"}"#,
            r#"{"cache_type":"gpu_pricing","pattern":"region=us-*"}"#,
        ];
        for body in requests {
            let request = InvalidateRequest::parse(body.as_bytes()).unwrap();
            let spelled = serde_json::to_vec(&request).unwrap();
            assert_eq!(InvalidateRequest::parse(&spelled), Ok(request), "{body}");
        }
        let clear = ClearRequest { cache_type: Some("session".into()), reason: Some("why".into()) };
        assert_eq!(ClearRequest::parse(&serde_json::to_vec(&clear).unwrap()), Ok(clear));
    }

    #[test]
    fn a_refusal_names_the_field() {
        let cases = [
            (r#"{"cache_type":"a"}"#, "resource"),
            (r#"{"cache_type":"a","resource":"b","tag":"c"}"#, "tag"),
            (r#"{"tag":"c","pattern":"*"}"#, "pattern"),
            (r#"{"resource":"b"}"#, "cache_type"),
            (r#"{"cache_type":"a","resource":""}"#, "resource"),
            (r#"{"tag":""}"#, "tag"),
            (r#"{"pattern":""}"#, "pattern"),
            (r#"{"tag":7}"#, "tag"),
            (r#"{"tag":"c","resaon":"x"}"#, "resaon"),
            ("[]", "body"),
        ];
        for (body, field) in cases {
            assert_eq!(refused(body).0, field, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        assert!(matches!(InvalidateRequest::parse(b"{"), Err(BodyError::Syntax(_))));
        assert!(matches!(ClearRequest::parse(b"nope"), Err(BodyError::Syntax(_))));
    }

    #[test]
    fn to_clear_everything_needs_no_body() {
        assert_eq!(ClearRequest::parse(b" \n"), Ok(ClearRequest::default()));
        assert_eq!(ClearRequest::parse(b"{}"), Ok(ClearRequest::default()));
    }
}
