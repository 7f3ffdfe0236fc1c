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
use super::file::{self, Lines};
use super::settings::{CacheTier, Kind, Profile, SETTINGS, Setting, by_name, setting};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody typed it.
    Default,
    /// It belongs to the profile.
    Profile(&'static str),
    /// It follows from the node's cache tier.
    CacheTier(&'static str),
    /// The configuration file, and the line where the value begins.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Env(&'static str),
    /// The file that the environment variable of this name and `_FILE` names.
    EnvFile(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// Whether somebody typed it, rather than that it followed from something.
    pub(crate) fn is_typed(&self) -> bool {
        self.rank() >= 3
    }

    /// Its place in the order of precedence: the higher one holds.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Profile(_) => 1,
            Self::CacheTier(_) => 2,
            Self::File(..) => 3,
            Self::Env(_) | Self::EnvFile(_) => 4,
            Self::Flag(_) => 5,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("by default"),
            Self::Profile(name) => write!(f, "by profile {name}"),
            Self::CacheTier(name) => write!(f, "by cache tier {name}"),
            Self::File(path, None) => write!(f, "in {}", path.display()),
            Self::File(path, Some(line)) => write!(f, "in {} line {line}", path.display()),
            Self::Env(name) => write!(f, "in the environment as {name}"),
            Self::EnvFile(name) => write!(f, "in the file of {name}_FILE"),
            Self::Flag(name) => write!(f, "by {name}"),
        }
    }
}

/// What was typed. Holds secrets, hence no `Debug`.
pub(crate) struct Raw {
    figment: Figment,
    origins: Vec<Origin>,
    file: Option<PathBuf>,
    lines: Lines,
    /// Names that the file should not have, and files of secrets that cannot be read.
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
        let mut typed = Typing::new(sources);
        if let Some(path) = &sources.file {
            (typed.dict, typed.lines) = file::read(path)?;
            typed.misfits.extend(file::take_misfits(&mut typed.dict, path, &typed.lines));
        }
        // Profile and cache tier decide defaults and may themselves be typed anywhere.
        let first = Self::merge(&[], &typed);
        let mut implied = Vec::new();
        let profile =
            first.text("profile").and_then(|name| by_name(&Profile::ALL, Profile::name, &name).ok());
        if let Some(profile) = profile {
            let origin = Origin::Profile(profile.name());
            implied.extend(profile.settings().iter().map(|(path, value)| (origin.clone(), *path, *value)));
        }
        let tier = first.text("node.cache_tier");
        if let Some(tier) = tier.and_then(|name| by_name(&CacheTier::ALL, CacheTier::name, &name).ok()) {
            implied.push((Origin::CacheTier(tier.name()), "cache.l1_size", tier.l1_size()));
        }
        Ok(Self { misfits: std::mem::take(&mut typed.misfits), ..Self::merge(&implied, &typed) })
    }

    fn merge(implied: &[(Origin, &'static str, &'static str)], typed: &Typing<'_>) -> Self {
        let (file, lines) = (typed.sources.file.clone(), typed.lines.clone());
        let mut raw = Self { figment: Figment::new(), origins: Vec::new(), file, lines, misfits: Vec::new() };
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                raw.layer(Origin::Default, single(setting.path, default));
            }
        }
        for (origin, path, value) in implied {
            raw.layer(origin.clone(), single(path, *value));
        }
        raw.layer(raw.file_origin(), typed.dict.clone());
        for (setting, origin, value) in &typed.env {
            raw.layer(origin.clone(), single(setting.path, in_one_line(setting, value)));
        }
        for (path, flag, value) in &typed.sources.flags {
            let value =
                setting(path).map_or_else(|| value.as_str().into(), |known| in_one_line(known, value));
            raw.layer(Origin::Flag(flag), single(path, value));
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
        let origin = match self.origin(value.tag()) {
            Origin::File(..) => self.origin_in_file(path),
            other => other,
        };
        Some(Typed { value, origin })
    }

    /// The tables `[namespaces.…]`; only a file has them.
    pub(crate) fn namespaces(&self) -> Dict {
        self.figment.find_value("namespaces").ok().and_then(Value::into_dict).unwrap_or_default()
    }

    /// The file, as an origin.
    pub(crate) fn file_origin(&self) -> Origin {
        self.file.clone().map_or(Origin::Default, |file| Origin::File(file, None))
    }

    /// What stands at a path of the file.
    pub(crate) fn origin_in_file(&self, path: &str) -> Origin {
        match self.file_origin() {
            Origin::File(file, None) => Origin::File(file, self.lines.get(path).copied()),
            other => other,
        }
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

/// What all sources say, before any weighs more than another.
struct Typing<'a> {
    sources: &'a Sources,
    dict: Dict,
    lines: Lines,
    env: Vec<(&'static Setting, Origin, String)>,
    misfits: Vec<ConfigError>,
}

impl<'a> Typing<'a> {
    /// What the environment says, and the files of secrets that it names.
    fn new(sources: &'a Sources) -> Self {
        let mut typed =
            Self { sources, dict: Dict::new(), lines: Lines::new(), env: Vec::new(), misfits: Vec::new() };
        for setting in SETTINGS {
            let Some(name) = setting.env else { continue };
            // An empty variable is how compose files and shells say "unset".
            let get = |name: &str| sources.env.get(name).filter(|value| !value.is_empty());
            let (value, file) = (get(name), setting.env_file().and_then(|name| get(&name)));
            let mut wrong = |rule: String| {
                typed.misfits.push(ConfigError::new(setting.path, Origin::EnvFile(name), None, rule));
            };
            match (value, file) {
                (Some(_), Some(_)) => wrong(format!("must not be set by {name} and by {name}_FILE too")),
                (Some(value), None) => typed.env.push((setting, Origin::Env(name), value.clone())),
                (None, Some(file)) => match std::fs::read_to_string(file) {
                    // Editors and `echo` end a file with a line break, which no secret has.
                    Ok(text) => {
                        typed.env.push((setting, Origin::EnvFile(name), text.trim_end().to_owned()));
                    }
                    Err(error) => wrong(format!("{file} cannot be read ({error})")),
                },
                (None, None) => {}
            }
        }
        typed
    }
}

/// A value that was typed as one text: in the environment or as a flag.
fn in_one_line(setting: &Setting, value: &str) -> Value {
    match setting.kind {
        Kind::List => {
            let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(Value::from).collect::<Vec<Value>>().into()
        }
        Kind::One | Kind::Tables(_) => value.into(),
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
