//! The system of record: keys, each with a version that grows with every write.

use cache_events::{Key, Namespace, Scope, Tag, Version};
use cache_tiered::Patch;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A value: which version of its key it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    /// What the source said.
    pub(crate) version: u64,
}

/// What makes a value of the one before it: a delta.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Growth {
    by: u64,
    /// The version before. Its writer knows it and nobody is told: that a delta meets the value that it was made for is for
    /// the cache to see to.
    #[serde(skip)]
    from: Option<u64>,
}

impl Growth {
    /// From the version before to this one.
    pub(crate) fn to(version: Version) -> Self {
        Self { by: 1, from: Some(version.0 - 1) }
    }
}

impl Patch for Value {
    type Delta = Growth;

    fn patched(&self, growth: &Growth) -> Option<Self> {
        let fits = growth.from.is_none_or(|from| from == self.version);
        fits.then(|| Self { version: self.version + growth.by })
    }
}

/// How a namespace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Write the source, then invalidate.
    Aside,
    /// The same, in a critical namespace: strict when degraded.
    Strict,
    /// Write the source, then put; writers of a key take turns.
    Put,
    /// Write the source, then put with its version; writers do not wait for each other.
    Versioned,
}

impl Style {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Aside, Self::Strict, Self::Put, Self::Versioned];

    /// The name of its namespace.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aside => "aside",
            Self::Strict => "strict",
            Self::Put => "puts",
            Self::Versioned => "versioned",
        }
    }

    /// Whether invalidations of tags and the like are writes of its source. A versioned put that is late knows nothing of
    /// a tag: there they only refresh.
    pub(crate) fn written_by_scopes(self) -> bool {
        matches!(self, Self::Aside | Self::Strict)
    }
}

/// A key of the source.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) style: Style,
    pub(crate) tag: Tag,
}

/// The source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) rows: Vec<Row>,
    versions: Mutex<Vec<u64>>,
}

pub(crate) const TAGS: usize = 3;

impl Source {
    pub(crate) fn new() -> Self {
        let mut rows = Vec::new();
        for style in Style::ALL {
            let namespace = namespace(style);
            for resource in 0..5 {
                let of = |name: String| Key::builder(&namespace, name);
                let variants = if style == Style::Aside { 3 } else { 1 };
                for variant in 0..variants {
                    let builder = of(format!("r{resource}"));
                    let builder =
                        if variant == 0 { builder } else { builder.param("v", variant.to_string()) };
                    let Ok(key) = builder.build() else { continue };
                    rows.push(Row { key, style, tag: tag((resource + variant) % TAGS) });
                }
            }
        }
        let versions = Mutex::new(vec![1; rows.len()]);
        Self { rows, versions }
    }

    /// The present version of a row.
    pub(crate) fn read(&self, row: usize) -> Version {
        Version(self.versions.lock()[row])
    }

    /// Changes rows; says their new versions.
    pub(crate) fn write(&self, rows: &[usize]) -> Vec<(usize, Version)> {
        let mut versions = self.versions.lock();
        let mut bump = |&row: &usize| {
            versions[row] += 1;
            (row, Version(versions[row]))
        };
        rows.iter().map(&mut bump).collect()
    }

    /// The rows that a scope covers and whose source changes with it.
    pub(crate) fn written_by(&self, scope: &Scope) -> Vec<usize> {
        let covers = |row: &Row| match scope {
            Scope::Key(key) => row.key == *key,
            Scope::Resource { namespace, resource } => {
                row.key.namespace() == namespace && row.key.resource() == resource
            }
            Scope::Tag(tag) => row.tag == *tag,
            Scope::Namespace(namespace) => row.key.namespace() == namespace,
            Scope::Pattern { namespace, pattern } => {
                row.key.namespace() == namespace && pattern.covers(&row.key)
            }
            Scope::All => true,
            _ => false,
        };
        let written = |(_, row): &(usize, &Row)| row.style.written_by_scopes() && covers(row);
        self.rows.iter().enumerate().filter(written).map(|(index, _)| index).collect()
    }
}

/// The namespace of a style.
pub(crate) fn namespace(style: Style) -> Namespace {
    Namespace::new(style.name()).unwrap_or_else(|_| unreachable!("a constant that is a valid name"))
}

/// A tag by its number.
pub(crate) fn tag(number: usize) -> Tag {
    Tag::new(format!("t{number}")).unwrap_or_else(|_| unreachable!("a letter and a digit are a valid tag"))
}
