//! What was typed, and where: defaults ← profile ← cache tier ← file ← environment ← flags, merged by figment.
//!
//! Every value stays text and keeps its origin, so that the checks can name both. Nothing is judged here but what
//! keeps a source from being read at all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Provider};

use super::errors::{ConfigError, ConfigErrors};
use super::file;
use super::settings::{CacheTier, Profile, SETTINGS, by_name};

/// Where the parts of a configuration come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Settings given as flags: the path of the setting, the name of the flag, the value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment holds secrets.
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// The environment of this process. Bytes that are not UTF-8 become U+FFFD, so that the checks see and refuse
    /// them, rather than that the variable counts as unset.
    pub fn process_env(mut self) -> Self {
        let readable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        self.env = std::env::vars_os().filter_map(readable).collect();
        self
    }
}

/// Where a value was typed. In the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody typed it.
    Default,
    /// It belongs to the profile.
    Profile(&'static str),
    /// It follows from the node's cache tier.
    CacheTier(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Whether somebody typed it, rather than that it followed from something.
    pub(crate) fn is_typed(&self) -> bool {
        *self >= Self::File(PathBuf::new())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("by default"),
            Self::Profile(name) => write!(f, "by profile {name}"),
            Self::CacheTier(name) => write!(f, "by cache tier {name}"),
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Env(name) => write!(f, "in the environment as {name}"),
            Self::Flag(name) => write!(f, "by {name}"),
        }
    }
}

/// What was typed. Holds secrets, hence no `Debug`.
pub(crate) struct Raw {
    figment: Figment,
    origins: Vec<Origin>,
    file: Option<PathBuf>,
    /// Names that the file should not have.
    pub(crate) misfits: Vec<ConfigError>,
}

/// One typed value.
pub(crate) struct Typed {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl Raw {
    /// Reads all sources.
    ///
    /// # Errors
    /// What kept the file from being read.
    pub(crate) fn gather(sources: &Sources) -> Result<Self, ConfigErrors> {
        let (mut dict, mut misfits) = (Dict::new(), Vec::new());
        if let Some(path) = &sources.file {
            dict = file::read(path)?;
            misfits = file::take_misfits(&mut dict, path);
        }
        // Profile and cache tier decide defaults and may themselves be typed anywhere.
        let typed = Self::merge(&[], &dict, sources);
        let mut implied = Vec::new();
        let profile =
            typed.text("profile").and_then(|name| by_name(&Profile::ALL, Profile::name, &name).ok());
        if let Some(profile) = profile {
            let origin = Origin::Profile(profile.name());
            implied.extend(profile.settings().iter().map(|(path, value)| (origin.clone(), *path, *value)));
        }
        let tier = typed.text("node.cache_tier");
        if let Some(tier) = tier.and_then(|name| by_name(&CacheTier::ALL, CacheTier::name, &name).ok()) {
            implied.push((Origin::CacheTier(tier.name()), "cache.l1_size", tier.l1_size()));
        }
        Ok(Self { misfits, ..Self::merge(&implied, &dict, sources) })
    }

    fn merge(implied: &[(Origin, &'static str, &'static str)], dict: &Dict, sources: &Sources) -> Self {
        let file = sources.file.clone();
        let mut raw = Self { figment: Figment::new(), origins: Vec::new(), file, misfits: Vec::new() };
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                raw.layer(Origin::Default, single(setting.path, default));
            }
        }
        for (origin, path, value) in implied {
            raw.layer(origin.clone(), single(path, *value));
        }
        raw.layer(raw.file_origin(), dict.clone());
        for setting in SETTINGS {
            // An empty variable is how compose files and shells say "unset".
            let typed = setting.env.and_then(|name| Some((name, sources.env.get(name)?)));
            if let Some((name, value)) = typed.filter(|(_, value)| !value.is_empty()) {
                raw.layer(Origin::Env(name), single(setting.path, value.as_str()));
            }
        }
        for (path, flag, value) in &sources.flags {
            raw.layer(Origin::Flag(flag), single(path, value.as_str()));
        }
        raw
    }

    fn layer(&mut self, origin: Origin, dict: Dict) {
        // Figment knows a value's provider by its metadata; the name there is the index here.
        let layer = Layer { name: self.origins.len().to_string(), dict };
        self.origins.push(origin);
        self.figment = std::mem::take(&mut self.figment).merge(layer);
    }

    /// What was typed for a setting.
    pub(crate) fn typed(&self, path: &str) -> Option<Typed> {
        let value = self.figment.find_value(path).ok()?;
        let origin = self.origin(value.tag());
        Some(Typed { value, origin })
    }

    /// The tables `[namespaces.…]`; only a file has them.
    pub(crate) fn namespaces(&self) -> Dict {
        self.figment.find_value("namespaces").ok().and_then(Value::into_dict).unwrap_or_default()
    }

    /// The file, as an origin.
    pub(crate) fn file_origin(&self) -> Origin {
        self.file.clone().map_or(Origin::Default, Origin::File)
    }

    /// Where a value was typed.
    fn origin(&self, tag: Tag) -> Origin {
        let index = self.figment.get_metadata(tag).and_then(|metadata| metadata.name.parse::<usize>().ok());
        index.and_then(|index| self.origins.get(index).cloned()).unwrap_or(Origin::Default)
    }

    fn text(&self, path: &str) -> Option<String> {
        text_of(&self.typed(path)?.value)
    }
}

/// The text of a value, as it could have been typed; `None` for tables and lists.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, letter) => Some(letter.to_string()),
        Value::Bool(_, yes) => Some(yes.to_string()),
        Value::Num(_, number) => {
            let whole = number.to_i128().map(|n| n.to_string());
            whole
                .or_else(|| number.to_u128().map(|n| n.to_string()))
                .or_else(|| number.to_f64().map(|n| n.to_string()))
        }
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

struct Layer {
    name: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<figment::Profile, Dict>, figment::Error> {
        Ok(Map::from([(figment::Profile::Default, self.dict.clone())]))
    }
}

fn single(path: &str, value: impl Into<Value>) -> Dict {
    let value = value.into();
    match path.split_once('.') {
        Some((section, name)) => {
            Dict::from([(section.to_owned(), Dict::from([(name.to_owned(), value)]).into())])
        }
        None => Dict::from([(path.to_owned(), value)]),
    }
}
