//! What an invalidation covers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::hash64;
use crate::{Key, Namespace, Partition, Pattern, Tag};

/// What an invalidation covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// One key.
    Key(Key),
    /// A resource with all its parameters.
    Resource {
        /// The namespace of the resource.
        namespace: Namespace,
        /// The resource.
        resource: String,
    },
    /// All entries, of any namespace, that carry the tag.
    Tag(Tag),
    /// All of a namespace.
    Namespace(Namespace),
    /// All keys of a namespace that the pattern covers.
    Pattern {
        /// The namespace.
        namespace: Namespace,
        /// The pattern.
        pattern: Pattern,
    },
    /// Everything.
    All,
}

impl Scope {
    /// The one partition that the scope touches, or `None` if it touches all of them.
    pub fn partition(&self, partitions: u32) -> Option<Partition> {
        match self {
            Self::Key(key) => Some(key.partition(partitions)),
            Self::Resource { namespace, resource } => {
                Some(Partition::of(crate::resource_hash(namespace, resource), partitions))
            }
            Self::Tag(_) | Self::Namespace(_) | Self::Pattern { .. } | Self::All => None,
        }
    }

    /// The group that the scope stamps, if it is one of a group.
    pub fn group(&self) -> Option<Group> {
        match self {
            Self::Tag(tag) => Some(Group::tag(tag)),
            Self::Namespace(namespace) => Some(Group::namespace(namespace)),
            _ => None,
        }
    }

    /// Whether it covers a key whose value carries these groups.
    pub fn covers(&self, key: &Key, groups: &[u64]) -> bool {
        match self {
            Self::Key(of) => of == key,
            Self::Resource { namespace, resource } => {
                namespace == key.namespace() && resource == key.resource()
            }
            Self::Tag(tag) => groups.contains(&Group::tag(tag).id()),
            Self::Namespace(namespace) => namespace == key.namespace(),
            Self::Pattern { namespace, pattern } => namespace == key.namespace() && pattern.covers(key),
            Self::All => true,
        }
    }

    /// The namespace, where the scope lies within one.
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Key(key) => Some(key.namespace()),
            Self::Resource { namespace, .. }
            | Self::Pattern { namespace, .. }
            | Self::Namespace(namespace) => Some(namespace),
            Self::Tag(_) | Self::All => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Resource { namespace, resource } => write!(f, "resource {namespace}/{resource}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::Pattern { namespace, pattern } => write!(f, "pattern {namespace}/{pattern}"),
            Self::All => f.write_str("everything"),
        }
    }
}

/// A group of entries that one stamp invalidates in O(1): a tag or a namespace.
///
/// The text (`t:<tag>`, `n:<namespace>`) is what the log's meta holds; the id is its hash. Two groups whose ids
/// collide invalidate each other, which costs a reload and never a stale value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group(Box<str>);

impl Group {
    /// The group of a tag.
    pub fn tag(tag: &Tag) -> Self {
        Self(format!("t:{tag}").into())
    }

    /// The group of a namespace.
    pub fn namespace(namespace: &Namespace) -> Self {
        Self(format!("n:{namespace}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id.
    pub fn id(&self) -> u64 {
        Self::id_of(&self.0)
    }

    /// The id of a group by its text.
    pub fn id_of(text: &str) -> u64 {
        hash64([text.as_bytes()])
    }
}
