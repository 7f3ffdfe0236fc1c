//! Policies by name, for a configuration.

use std::fmt;
use std::str::FromStr;

use crate::{
    AutoFamily, BoxedFamily, Family, Fifo, Lfu, Lru, OldestExpiry, Policy, S3Fifo, Sieve, WTinyLfu, boxed,
};

/// The policies a configuration can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`Fifo`], written `fifo`.
    Fifo,
    /// [`Lru`], written `lru`.
    Lru,
    /// [`Lfu`], written `lfu`.
    Lfu,
    /// [`OldestExpiry`], written `oldest_expiry`.
    OldestExpiry,
    /// [`Sieve`], written `sieve`.
    #[default]
    Sieve,
    /// [`S3Fifo`], written `s3_fifo`.
    S3Fifo,
    /// [`WTinyLfu`], written `w_tiny_lfu`.
    WTinyLfu,
    /// [`Auto`](crate::Auto), written `auto`.
    Auto,
}

impl PolicyKind {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Fifo,
        Self::Lru,
        Self::Lfu,
        Self::OldestExpiry,
        Self::Sieve,
        Self::S3Fifo,
        Self::WTinyLfu,
        Self::Auto,
    ];

    /// The name a configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::OldestExpiry => "oldest_expiry",
            Self::Sieve => "sieve",
            Self::S3Fifo => "s3_fifo",
            Self::WTinyLfu => "w_tiny_lfu",
            Self::Auto => "auto",
        }
    }

    /// What makes the policies of one cache of so many entries at most, over all its shards. Where the real
    /// bound is another (bytes), `entries_max` may be far too high.
    pub fn family(self, entries_max: usize) -> BoxedFamily {
        match self {
            Self::Fifo => boxed(Fifo::new),
            Self::Lru => boxed(Lru::new),
            Self::Lfu => boxed(Lfu::new),
            Self::OldestExpiry => boxed(OldestExpiry::new),
            Self::Sieve => boxed(Sieve::new),
            Self::S3Fifo => boxed(S3Fifo::new),
            Self::WTinyLfu => boxed(WTinyLfu::new),
            Self::Auto => boxed(AutoFamily::new(entries_max)),
        }
    }
}

/// The policy of that kind for a cache of one shard, empty. The hint (entries) saves growing.
///
/// ```
/// use cache_policy::{build, Policy, PolicyKind};
///
/// let kind: PolicyKind = "lru".parse()?;
/// assert_eq!(build(kind, 100).residents(), 0);
/// # Ok::<(), cache_policy::UnknownPolicy>(())
/// ```
pub fn build(kind: PolicyKind, capacity_hint: usize) -> Box<dyn Policy> {
    kind.family(capacity_hint).member(capacity_hint)
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    /// Case does not matter.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

/// A name that is no [`PolicyKind`]; holds what was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy(pub String);

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown eviction policy {:?}; known are", self.0)?;
        for (index, kind) in PolicyKind::ALL.into_iter().enumerate() {
            write!(f, "{} {kind}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownPolicy {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn every_kind_is_found_by_its_name_and_keeps_the_contract() {
        for kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().to_uppercase().parse(), Ok(kind));
            contract::check_family(|| kind.family(400));
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = "mru".parse::<PolicyKind>().unwrap_err().to_string();
        assert!(error.starts_with("unknown eviction policy \"mru\"; known are fifo, lru, lfu"), "{error}");
    }
}
