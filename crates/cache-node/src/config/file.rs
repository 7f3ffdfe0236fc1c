//! The configuration file: TOML, with no name in it that does not exist.

use std::path::Path;

use figment::value::{Dict, Value};

use super::errors::{ConfigError, ConfigErrors};
use super::nearest::nearest;
use super::raw::Origin;
use super::settings::{NAMESPACE_SETTINGS, SETTINGS};

/// Reads a TOML file. Its own messages show lines of the file, which may hold secrets: only the place is told.
///
/// # Errors
/// It cannot be read or is not TOML.
pub(crate) fn read(path: &Path) -> Result<Dict, ConfigErrors> {
    let wrong = |rule: String| {
        let origin = Origin::Flag("--config");
        ConfigErrors(vec![ConfigError::new("config", origin, Some(path.display().to_string()), rule)])
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!("cannot be read ({error}); name a readable TOML file or leave --config out"))
    })?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("is not TOML: line {line}: {}", error.message()))
    })?;
    match Value::serialize(table) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        _ => Err(wrong("holds a value that is no text, number, truth value, list or table".to_owned())),
    }
}

/// Takes out what has no place in a configuration, and says what that was.
pub(crate) fn take_misfits(dict: &mut Dict, path: &Path) -> Vec<ConfigError> {
    let mut misfits = Misfits { origin: Origin::File(path.to_path_buf()), found: Vec::new() };
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

struct Misfits {
    origin: Origin,
    found: Vec<ConfigError>,
}

impl Misfits {
    fn add(&mut self, path: String, rule: String) {
        // Without the value: under a mistyped name it may be a secret.
        self.found.push(ConfigError::new(path, self.origin.clone(), None, rule));
    }

    fn take_from_section(&mut self, section: &str, table: &mut Dict) {
        table.retain(|setting, _| {
            let path = format!("{section}.{setting}");
            let known = SETTINGS.iter().any(|known| known.path == path);
            if !known {
                let rule = unknown_rule(&path, SETTINGS.iter().map(|setting| setting.path));
                self.add(path, rule);
            }
            known
        });
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
