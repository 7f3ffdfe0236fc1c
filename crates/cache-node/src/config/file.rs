//! The configuration file: TOML, with no name in it that does not exist.

use std::collections::BTreeMap;
use std::path::Path;

use figment::value::{Dict, Num, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigError, ConfigErrors};
use super::nearest::nearest;
use super::raw::Origin;
use super::settings::{Field, Kind, NAMESPACE_SETTINGS, SETTINGS, Setting};

/// Lines of a file, by the path of what begins there: `cache.l1_size`, `auth.tokens[0].name`.
pub(crate) type Lines = BTreeMap<String, usize>;

/// Reads a TOML file. Its own messages show lines of the file, which may hold secrets: only the place is told.
///
/// # Errors
/// It cannot be read or is not TOML.
pub(crate) fn read(path: &Path) -> Result<(Dict, Lines), ConfigErrors> {
    let wrong = |rule: String| {
        let origin = Origin::Flag("--config");
        ConfigErrors(vec![ConfigError::new("config", origin, Some(path.display().to_string()), rule)])
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!("cannot be read ({error}); name a readable TOML file or leave --config out"))
    })?;
    let table = DeTable::parse(&text).map_err(|error| {
        let line = line_of(&text, error.span().map_or(0, |span| span.start));
        wrong(format!("is not TOML: line {line}: {}", error.message()))
    })?;
    let mut reading = Reading { text: &text, lines: Lines::new() };
    let dict = reading.dict("", table.get_ref());
    let dict = dict.ok_or_else(|| wrong("holds a number that is too large".to_owned()))?;
    Ok((dict, reading.lines))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Turns what TOML says into values, and notes on which line each stands.
struct Reading<'a> {
    text: &'a str,
    lines: Lines,
}

impl Reading<'_> {
    /// Nothing if a number does not fit.
    fn dict(&mut self, path: &str, table: &DeTable<'_>) -> Option<Dict> {
        let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &str = AsRef::<str>::as_ref(name.get_ref());
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            Some((name.to_owned(), self.value(inner, value)?))
        };
        table.iter().map(entry).collect()
    }

    fn value(&mut self, path: String, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let line = line_of(self.text, value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Integer(digits) => {
                let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok()?;
                Value::from(Num::I128(number))
            }
            DeValue::Float(digits) => Value::from(digits.as_str().parse::<f64>().ok()?),
            DeValue::Boolean(yes) => Value::from(*yes),
            DeValue::Datetime(time) => Value::from(time.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(index, item)| self.value(format!("{path}[{index}]"), item));
                Value::from(items.collect::<Option<Vec<Value>>>()?)
            }
            DeValue::Table(table) => Value::from(self.dict(&path, table)?),
        };
        self.lines.insert(path, line);
        Some(value)
    }
}

/// Takes out what has no place in a configuration, and says what that was.
pub(crate) fn take_misfits(dict: &mut Dict, path: &Path, lines: &Lines) -> Vec<ConfigError> {
    let mut misfits = Misfits { file: path, lines, found: Vec::new() };
    let sections: Vec<&str> =
        SETTINGS.iter().filter_map(|setting| Some(setting.path.split_once('.')?.0)).collect();
    let single = SETTINGS.iter().map(|setting| setting.path).filter(|path| !path.contains('.'));
    let single: Vec<&str> = single.collect();
    dict.retain(|name, value| {
        if single.contains(&name.as_str()) {
            return true;
        }
        if name != "namespaces" && !sections.contains(&name.as_str()) {
            let known = sections.iter().chain(&single).chain(&["namespaces"]).copied();
            misfits.add(name.clone(), unknown_rule(name, known));
            return false;
        }
        let Value::Dict(_, table) = value else {
            misfits.add(name.clone(), format!("must be a table: write [{name}]"));
            return false;
        };
        match name.as_str() {
            "namespaces" => misfits.take_from_namespaces(table),
            section => misfits.take_from_section(section, table),
        }
        true
    });
    misfits.found
}

struct Misfits<'a> {
    file: &'a Path,
    lines: &'a Lines,
    found: Vec<ConfigError>,
}

impl Misfits<'_> {
    fn add(&mut self, path: String, rule: String) {
        let origin = Origin::File(self.file.to_path_buf(), self.lines.get(&path).copied());
        // Without the value: under a mistyped name it may be a secret.
        self.found.push(ConfigError::new(path, origin, None, rule));
    }

    fn take_from_section(&mut self, section: &str, table: &mut Dict) {
        table.retain(|setting, value| {
            let path = format!("{section}.{setting}");
            let Some(known) = SETTINGS.iter().find(|known| known.path == path) else {
                let rule = unknown_rule(&path, SETTINGS.iter().map(|setting| setting.path));
                self.add(path, rule);
                return false;
            };
            if let Kind::Tables(fields) = known.kind {
                self.take_from_tables(known, fields, value);
            }
            true
        });
    }

    /// Other things than tables are left for the check to refuse.
    fn take_from_tables(&mut self, setting: &Setting, fields: &[Field], value: &mut Value) {
        let Value::Array(_, items) = value else { return };
        for (index, item) in items.iter_mut().enumerate() {
            let Value::Dict(_, table) = item else { continue };
            table.retain(|name, _| {
                let known = fields.iter().any(|field| field.name == name);
                if !known {
                    let rule = unknown_rule(name, fields.iter().map(|field| field.name));
                    self.add(format!("{}[{index}].{name}", setting.path), rule);
                }
                known
            });
        }
    }

    fn take_from_namespaces(&mut self, tables: &mut Dict) {
        tables.retain(|namespace, value| {
            let Value::Dict(_, table) = value else {
                let rule = format!("must be a table: write [namespaces.{namespace}]");
                self.add(format!("namespaces.{namespace}"), rule);
                return false;
            };
            table.retain(|setting, _| {
                let known = NAMESPACE_SETTINGS.contains(&setting.as_str());
                if !known {
                    let rule = unknown_rule(setting, NAMESPACE_SETTINGS.iter().copied());
                    self.add(format!("namespaces.{namespace}.{setting}"), rule);
                }
                known
            });
            true
        });
    }
}

fn unknown_rule<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(typed, known) {
        Some(nearest) => format!("unknown setting; did you mean {nearest}?"),
        None => "unknown setting".to_owned(),
    }
}
