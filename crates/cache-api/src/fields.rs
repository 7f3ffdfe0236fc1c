//! Reading the fields of a JSON object, so that what is wrong is told by the field's name.

use serde_json::{Map, Value};

use crate::BodyError;

pub(crate) fn content(field: impl Into<String>, message: impl Into<String>) -> BodyError {
    BodyError::Content { field: field.into(), message: message.into() }
}

/// The fields of a JSON object, all of them known.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn parse(body: &[u8], known: &[&str]) -> Result<Self, BodyError> {
        let value = serde_json::from_slice(body).map_err(|error| BodyError::Syntax(error.to_string()))?;
        let Value::Object(fields) = value else {
            return Err(content("body", "must be a JSON object"));
        };
        if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
            return Err(content(unknown, format!("is unknown; known are {}", known.join(", "))));
        }
        Ok(Self(fields))
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<String>, BodyError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(content(field, "must be a string")),
        }
    }

    /// A text that must be there.
    pub(crate) fn named(&self, field: &str) -> Result<String, BodyError> {
        self.text(field)?.ok_or_else(|| content(field, "is missing"))
    }

    /// A whole number from 0.
    pub(crate) fn number(&self, field: &str) -> Result<Option<u64>, BodyError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(number) => Ok(Some(number)),
                None if number.is_i64() => Err(content(field, format!("{number} is negative"))),
                None => Err(content(field, format!("{number} is not a whole number of at most 64 bits"))),
            },
            Some(_) => Err(content(field, "must be a whole number")),
        }
    }

    /// A number that must be there.
    pub(crate) fn counted(&self, field: &str) -> Result<u64, BodyError> {
        self.number(field)?.ok_or_else(|| content(field, "is missing"))
    }

    /// A number of at most 32 bits; 0 if it is not there.
    pub(crate) fn figure(&self, field: &str) -> Result<u32, BodyError> {
        let number = self.number(field)?.unwrap_or_default();
        u32::try_from(number).map_err(|_| content(field, format!("{number} is too large")))
    }
}
