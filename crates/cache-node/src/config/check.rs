//! From text to types: reads settings one by one and remembers everything that is wrong.

use figment::value::{Dict, Value};

use super::errors::ConfigError;
use super::parse::truth;
use super::raw::{Origin, Raw, text_of};
use super::settings::{Kind, setting};
use super::shown::without_secrets;

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
        let value = value.map(|text| without_secrets(&text));
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

    /// The items of a list that are right; nothing if it is not set. One that is wrong is told with its number.
    pub(crate) fn list<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let typed = self.raw.typed(path)?;
        let Value::Array(_, items) = typed.value else {
            self.wrong(path, "must be a list, such as [\"a\", \"b\"]");
            return None;
        };
        let mut right = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let text = text_of(item);
            let parsed = text.as_deref().map(|text| parse(text.trim()));
            match parsed.unwrap_or_else(|| Err("must be a single value".to_owned())) {
                Ok(value) => right.push(value),
                Err(rule) => {
                    let secret = setting(path).is_some_and(|setting| setting.secret);
                    let text = text.filter(|_| !secret).map(|text| without_secrets(&text));
                    let (place, origin) =
                        (format!("{path}[{index}]"), self.place(path, index, &typed.origin));
                    self.errors.push(ConfigError::new(place, origin, text, rule));
                }
            }
        }
        Some(right)
    }

    /// What `read` makes of each table of a list, where it makes something of it.
    pub(crate) fn tables<T>(
        &mut self,
        path: &str,
        mut read: impl FnMut(&mut TableCheck<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(typed) = self.raw.typed(path) else { return Vec::new() };
        let Value::Array(_, items) = &typed.value else {
            self.wrong(path, format!("must be a list of tables: write [[{path}]]"));
            return Vec::new();
        };
        let mut made = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Value::Dict(_, table) = item else {
                self.wrong(path, format!("must be a list of tables: write [[{path}]]"));
                break;
            };
            let path = format!("{path}[{index}]");
            made.extend(read(&mut TableCheck { path, table, raw: self.raw, errors: &mut self.errors }));
        }
        made
    }

    /// The table of one namespace.
    pub(crate) fn namespace<'b>(&'b mut self, name: &str, table: &'b Dict) -> TableCheck<'b> {
        let path = format!("namespaces.{name}");
        TableCheck { path, table, raw: self.raw, errors: &mut self.errors }
    }

    fn place(&self, path: &str, index: usize, origin: &Origin) -> Origin {
        match origin {
            Origin::File(..) => self.raw.origin_in_file(&format!("{path}[{index}]")),
            other => other.clone(),
        }
    }
}

/// Reads the settings of one table: of a namespace, or of one in a list.
pub(crate) struct TableCheck<'a> {
    path: String,
    table: &'a Dict,
    raw: &'a Raw,
    errors: &'a mut Vec<ConfigError>,
}

impl TableCheck<'_> {
    /// Says that a setting is wrong; without a setting, that the whole is.
    pub(crate) fn wrong(&mut self, setting: Option<&str>, rule: impl Into<String>) {
        let shown = setting.filter(|setting| !self.is_secret(setting));
        let value = shown.and_then(|setting| self.table.get(setting)).and_then(text_of);
        let path = setting.map_or_else(|| self.path.clone(), |setting| format!("{}.{setting}", self.path));
        // What is missing stands nowhere, but its table does.
        let at = if setting.is_some_and(|name| self.table.contains_key(name)) { &path } else { &self.path };
        let origin = self.raw.origin_in_file(at);
        self.errors.push(ConfigError::new(path, origin, value.map(|text| without_secrets(&text)), rule));
    }

    fn is_secret(&self, name: &str) -> bool {
        let list = self.path.split('[').next().and_then(setting);
        let Some(Kind::Tables(fields)) = list.map(|setting| setting.kind) else { return false };
        fields.iter().any(|field| field.name == name && field.secret)
    }

    /// Replaces a value by what was typed, if anything right was.
    pub(crate) fn set<T>(
        &mut self,
        setting: &str,
        target: &mut T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> bool {
        let read = self.read(setting, parse);
        let right = read.is_some();
        if let Some(value) = read {
            *target = value;
        }
        right
    }

    /// A setting, if it is set and right.
    pub(crate) fn read<T>(&mut self, setting: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.table.get(setting)?;
        let parsed = match text_of(value) {
            Some(text) => parse(text.trim()),
            None => Err("must be a single value".to_owned()),
        };
        parsed.map_err(|rule| self.wrong(Some(setting), rule)).ok()
    }

    /// A list of values, if it is set and right.
    pub(crate) fn list<T>(
        &mut self,
        setting: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let read = match self.table.get(setting)? {
            Value::Array(_, items) => {
                items.iter().map(|item| parse(text_of(item).unwrap_or_default().trim())).collect()
            }
            _ => Err("must be a list, such as [\"a\", \"b\"]".to_owned()),
        };
        read.map_err(|rule| self.wrong(Some(setting), rule)).ok()
    }

    /// Whether the table has it, right or wrong.
    pub(crate) fn has(&self, setting: &str) -> bool {
        self.table.contains_key(setting)
    }

    /// The text of a setting.
    pub(crate) fn text(&self, setting: &str) -> Option<String> {
        self.table.get(setting).and_then(text_of)
    }
}
