//! Patterns over the fields of a key.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Key, NameError};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// A pattern over the fields of keys; `*` stands for any run of characters *within one field*.
///
/// - `*` alone covers the whole namespace.
/// - `runpod/*` covers each key with a field like that: the resource, or one parameter spelled `name=value`;
///   so `region=us-*` covers all variants of that parameter.
/// - `H100*?region=us-*&currency=usd` wants the resource and each of the parameters to match.
///
/// ```
/// use cache_events::{Key, Namespace, Pattern};
/// let ns = Namespace::new("gpu_pricing")?;
/// let key = Key::builder(&ns, "H100").param("region", "us-east").build()?;
/// assert!(Pattern::new("region=us-*")?.covers(&key));
/// assert!(Pattern::new("H*?region=*east")?.covers(&key));
/// assert!(!Pattern::new("H100*east")?.covers(&key));
/// # Ok::<(), cache_events::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Checks the text and makes the pattern.
    ///
    /// # Errors
    /// [`NameError`] if the text is empty or longer than 1,024 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
        let text = text.as_ref();
        if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
            return Err(NameError::new("pattern", text, format!("1 to {PATTERN_BYTES_MAX} bytes")));
        }
        Ok(Self(text.into()))
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is `*`: everything in the namespace.
    pub fn is_everything(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether the pattern covers a key (whose namespace the caller has already compared).
    pub fn covers(&self, key: &Key) -> bool {
        if self.is_everything() {
            return true;
        }
        let param = |pattern: &str| key.params().any(|(name, value)| pair_matches(pattern, name, value));
        match self.0.split_once('?') {
            Some((resource, params)) => {
                field_matches(resource, key.resource())
                    && params.split('&').filter(|p| !p.is_empty()).all(param)
            }
            None => field_matches(&self.0, key.resource()) || param(&self.0),
        }
    }
}

fn pair_matches(pattern: &str, name: &str, value: &str) -> bool {
    // A `*` may not run over the `=`: name and value are two fields.
    match pattern.split_once('=') {
        Some((want_name, want_value)) => field_matches(want_name, name) && field_matches(want_value, value),
        None => false,
    }
}

/// Greedy matching with one point of return: linear in practice, at worst the product of both lengths.
fn field_matches(pattern: &str, field: &str) -> bool {
    let (pattern, field) = (pattern.as_bytes(), field.as_bytes());
    let (mut p, mut f) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while f < field.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, f));
            p += 1;
        } else if p < pattern.len() && pattern[p] == field[f] {
            p += 1;
            f += 1;
        } else if let Some((after_star, from)) = retry {
            p = after_star;
            f = from + 1;
            retry = Some((after_star, f));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Pattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.into()
    }
}
