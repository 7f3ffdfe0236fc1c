//! Structural keys: namespace / resource / parameters.
//!
//! A key stays structural all the way: scope matching looks at its fields, never at fragments of its text. The text
//! form is canonical (parameters sorted by name, reserved bytes percent-encoded) and is what Redis shows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::hash::hash64;
use crate::names::FromText;
use crate::{NameError, Namespace, Partition};

/// Longest canonical text of a key, in bytes.
pub const KEY_BYTES_MAX: usize = 4096;
/// Most parameters of one key.
pub const PARAMS_MAX: usize = 64;

/// Bytes that stay as they are; all others are percent-encoded, so `/ ? & = % *` and spaces never appear raw.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b',');

/// Whether a field is its own canonical text.
fn is_plain(field: &str) -> bool {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:@,".contains(&byte);
    field.bytes().all(stays)
}

/// The key of one cached value. Cheap to clone; both hashes are computed once, when it is built.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

/// In this order, so that what a look-up needs lies in the first cache line.
#[repr(C)]
struct Inner {
    hash: u64,
    resource_hash: u64,
    params: Box<[(Box<str>, Box<str>)]>,
    namespace: Namespace,
    resource: Box<str>,
}

/// The stable hash of a resource of a namespace: partition, L1 shard and stripe follow from it.
pub fn resource_hash(namespace: &Namespace, resource: &str) -> u64 {
    hash64([namespace.as_str().as_bytes(), resource.as_bytes()])
}

impl Key {
    /// A key without parameters.
    ///
    /// # Errors
    /// [`NameError`] if the resource is empty or the key would be longer than [`KEY_BYTES_MAX`].
    pub fn new(namespace: &Namespace, resource: impl AsRef<str>) -> Result<Self, NameError> {
        Self::builder(namespace, resource).build()
    }

    /// Starts a key to which parameters are added, in any order.
    pub fn builder(namespace: &Namespace, resource: impl AsRef<str>) -> KeyBuilder {
        KeyBuilder {
            namespace: namespace.clone(),
            resource: resource.as_ref().to_owned(),
            params: Vec::new(),
        }
    }

    /// Reads a key back from its canonical text.
    ///
    /// # Errors
    /// [`NameError`] if the text is not one that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = |rule: &str| NameError::new("key", text, rule);
        let mut fields = text.splitn(3, '/');
        let namespace = Namespace::new(fields.next().unwrap_or_default())?;
        let resource = fields.next().ok_or_else(|| wrong("needs namespace/resource/parameters"))?;
        let params = fields.next().ok_or_else(|| wrong("needs namespace/resource/parameters"))?;
        if params.is_empty() && text.len() <= KEY_BYTES_MAX && !resource.is_empty() && is_plain(resource) {
            // Nearly all keys of events: each byte stands for itself, so this is the one way to spell it.
            let (hash, params) = (resource_hash(&namespace, resource), Box::default());
            let resource = resource.into();
            return Ok(Self(Arc::new(Inner { hash, resource_hash: hash, params, namespace, resource })));
        }
        let decode = |field: &str| {
            percent_decode_str(field)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| wrong("is not UTF-8 after decoding"))
        };
        let mut builder = Self::builder(&namespace, decode(resource)?);
        for pair in params.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("a parameter is name=value"))?;
            builder = builder.param(decode(name)?, decode(value)?);
        }
        // One key, one text: what sorts, repeats or escapes differently is not the name of a key.
        let key = builder.build()?;
        if key.to_string() == text { Ok(key) } else { Err(wrong("is not spelled canonically")) }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// The resource, as given.
    pub fn resource(&self) -> &str {
        &self.0.resource
    }

    /// The parameters, sorted by name.
    pub fn params(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.params.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether the key has parameters, that is, whether it is one of several variants of its resource.
    pub fn has_params(&self) -> bool {
        !self.0.params.is_empty()
    }

    /// The stable hash over all fields: binds a record to its key and addresses L1.
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }

    /// The stable hash over namespace and resource.
    pub fn resource_hash(&self) -> u64 {
        self.0.resource_hash
    }

    /// The partition of the key when there are `partitions` of them.
    pub fn partition(&self, partitions: u32) -> Partition {
        Partition::of(self.0.resource_hash, partitions)
    }

    /// Bytes that the key takes in memory beyond the pointer to it.
    pub fn weight(&self) -> usize {
        let params: usize = self.0.params.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        std::mem::size_of::<Inner>() + 16 + self.0.resource.len() + params
    }
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.resource == other.0.resource
                && self.0.params == other.0.params
                && self.0.namespace == other.0.namespace)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.0.namespace, utf8_percent_encode(&self.0.resource, ESCAPED))?;
        for (at, (name, value)) in self.params().enumerate() {
            let (name, value) = (utf8_percent_encode(name, ESCAPED), utf8_percent_encode(value, ESCAPED));
            write!(f, "{}{name}={value}", if at == 0 { "" } else { "&" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText(Self::parse, "the text of a key"))
    }
}

/// Collects the fields of a [`Key`].
#[derive(Debug, Clone)]
pub struct KeyBuilder {
    namespace: Namespace,
    resource: String,
    params: Vec<(Box<str>, Box<str>)>,
}

impl KeyBuilder {
    /// Adds a parameter. The order of calls does not matter.
    #[must_use]
    pub fn param(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.params.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Checks the fields and makes the key.
    ///
    /// # Errors
    /// [`NameError`] if the resource or a parameter name is empty, a name comes twice, there are more than
    /// [`PARAMS_MAX`] parameters, or the text would be longer than [`KEY_BYTES_MAX`].
    pub fn build(mut self) -> Result<Key, NameError> {
        if self.resource.is_empty() {
            return Err(NameError::new("resource", "", "must not be empty"));
        }
        if self.params.len() > PARAMS_MAX {
            return Err(NameError::new(
                "parameters",
                &self.resource,
                format!("at most {PARAMS_MAX} of them"),
            ));
        }
        self.params.sort();
        if let Some(pair) = self.params.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(NameError::new("parameter", &pair[0].0, "is given twice"));
        }
        if self.params.iter().any(|(name, _)| name.is_empty()) {
            return Err(NameError::new("parameter", "", "must have a name"));
        }
        let resource_hash = resource_hash(&self.namespace, &self.resource);
        let fields = [self.namespace.as_str().as_bytes(), self.resource.as_bytes()].into_iter();
        let params = self.params.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let hash = hash64(fields.chain(params));
        let key = Key(Arc::new(Inner {
            hash,
            resource_hash,
            namespace: self.namespace,
            resource: self.resource.into(),
            params: self.params.into(),
        }));
        let pairs = key.params().map(|(name, value)| name.len() + value.len());
        let raw = key.resource().len() + pairs.sum::<usize>();
        // An escaped byte is three. What is short even so need not be spelled to be known to be short.
        let signs = key.namespace().as_str().len() + 2 + 2 * key.params().len();
        if 3 * raw + signs > KEY_BYTES_MAX && (raw > KEY_BYTES_MAX || key.to_string().len() > KEY_BYTES_MAX) {
            return Err(NameError::new("key", key.resource(), format!("longer than {KEY_BYTES_MAX} bytes")));
        }
        Ok(key)
    }
}
