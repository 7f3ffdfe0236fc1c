//! What is wrong with a configuration: all of it at once.

use std::fmt;

use super::raw::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting.
    pub setting: String,
    /// Where it was typed.
    pub origin: Origin,
    /// What was typed; `None` for secrets and where nothing was.
    pub value: Option<String>,
    /// The rule that it breaks.
    pub rule: String,
}

impl ConfigError {
    pub(crate) fn new(
        setting: impl Into<String>,
        origin: Origin,
        value: Option<String>,
        rule: impl Into<String>,
    ) -> Self {
        Self { setting: setting.into(), origin, value, rule: rule.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?} ({}): {}", self.setting, self.origin, self.rule),
            None => write!(f, "{} ({}): {}", self.setting, self.origin, self.rule),
        }
    }
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration is wrong:")?,
            many => write!(f, "the configuration is wrong in {many} places:")?,
        }
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}
