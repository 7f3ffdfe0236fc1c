//! From text to types: reads settings one by one and remembers everything that is wrong.

use std::time::Duration;

use figment::value::{Dict, Value};

use super::errors::ConfigError;
use super::raw::{Origin, Raw, text_of};
use super::settings::setting;

/// Reads settings and collects what is wrong with them.
pub(crate) struct Check<'a> {
    raw: &'a Raw,
    pub(crate) errors: Vec<ConfigError>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(raw: &'a Raw) -> Self {
        Self { raw, errors: raw.misfits.clone() }
    }

    /// Where a setting was typed.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        self.raw.typed(path).map_or(Origin::Default, |typed| typed.origin)
    }

    /// Says that a setting is wrong.
    pub(crate) fn wrong(&mut self, path: &str, rule: impl Into<String>) {
        let typed = self.raw.typed(path);
        let origin = typed.as_ref().map_or(Origin::Default, |typed| typed.origin.clone());
        let secret = setting(path).is_some_and(|setting| setting.secret);
        let value = typed.and_then(|typed| text_of(&typed.value)).filter(|_| !secret);
        self.errors.push(ConfigError::new(path, origin, value, rule));
    }

    /// A setting, if it is set and right.
    pub(crate) fn read<T>(&mut self, path: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let typed = self.raw.typed(path)?;
        let Some(text) = text_of(&typed.value) else {
            self.wrong(path, "must be a single value");
            return None;
        };
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.wrong(path, rule);
                None
            }
        }
    }

    /// A setting that has a default. If what was typed is wrong, `meanwhile` stands in so that the check can go on.
    pub(crate) fn get<T>(
        &mut self,
        path: &str,
        meanwhile: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.read(path, parse).unwrap_or(meanwhile)
    }

    pub(crate) fn switch(&mut self, path: &str) -> bool {
        self.get(path, false, truth)
    }

    /// The table of one namespace.
    pub(crate) fn namespace<'b>(&'b mut self, name: &'b str, table: &'b Dict) -> NamespaceCheck<'b> {
        NamespaceCheck { name, table, origin: self.raw.file_origin(), errors: &mut self.errors }
    }
}

/// Reads the settings of one namespace.
pub(crate) struct NamespaceCheck<'a> {
    name: &'a str,
    table: &'a Dict,
    origin: Origin,
    errors: &'a mut Vec<ConfigError>,
}

impl NamespaceCheck<'_> {
    /// Says that a setting is wrong; without a setting, that the whole is.
    pub(crate) fn wrong(&mut self, setting: Option<&str>, rule: impl Into<String>) {
        let value = setting.and_then(|setting| self.table.get(setting)).and_then(text_of);
        let path = match setting {
            Some(setting) => format!("namespaces.{}.{setting}", self.name),
            None => format!("namespaces.{}", self.name),
        };
        self.errors.push(ConfigError::new(path, self.origin.clone(), value, rule));
    }

    /// Replaces a value by what was typed, if anything right was.
    pub(crate) fn set<T>(
        &mut self,
        setting: &str,
        target: &mut T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> bool {
        let Some(value) = self.table.get(setting) else { return false };
        let parsed = match text_of(value) {
            Some(text) => parse(text.trim()),
            None => Err("must be a single value".to_owned()),
        };
        match parsed {
            Ok(value) => {
                *target = value;
                true
            }
            Err(rule) => {
                self.wrong(Some(setting), rule);
                false
            }
        }
    }

    /// The text of a setting.
    pub(crate) fn text(&self, setting: &str) -> Option<String> {
        self.table.get(setting).and_then(|value: &Value| text_of(value))
    }
}

/// `true` or `false`, in the spellings that environments use.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number within bounds.
pub(crate) fn whole(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let number =
            text.replace('_', "").parse::<u64>().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }
}

/// A share of a whole.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// A duration with its unit, within bounds.
pub(crate) fn duration(least: Duration, most: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let parsed = humantime::parse_duration(text);
        parsed.ok().filter(|duration| (least..=most).contains(duration)).ok_or_else(|| {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            format!("must be a duration with its unit from {least} to {most}, such as 30s or 1h 30m")
        })
    }
}

/// A duration, where a bare number means seconds.
pub(crate) fn seconds(least: Duration, most: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    let with_unit = duration(least, most);
    move |text| match text.parse::<u64>() {
        Ok(_) => with_unit(&format!("{text}s")),
        Err(_) => with_unit(text),
    }
}

/// A short name in plain letters.
pub(crate) fn label(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 letters, digits, '_', '-' or '.'".to_owned())
}
