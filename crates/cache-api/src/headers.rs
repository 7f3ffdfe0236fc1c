//! The names of the headers that requests and answers carry, as they are on the wire (lower case).

/// Request: hard TTL of a written value, as a number with a unit: `30s`, `5m`, `1h 30m`.
pub const CACHE_TTL: &str = "cache-ttl";
/// Request: tags of a written value, separated by commas; bytes that mean something else are percent-encoded.
pub const CACHE_TAGS: &str = "cache-tags";
/// Request: how fresh the answer must be: `any`, `at-most=2s`, `at-least=<token>` (of [`CACHE_TOKEN`]), `latest`, or
/// `bounded`, which is what no header means.
pub const CACHE_FRESHNESS: &str = "cache-freshness";
/// Answer: the tier that answered: `l1`, `l2` or `source`.
pub const CACHE_TIER: &str = "x-cache-tier";
/// Answer: how long ago, in milliseconds, it was last known that no acknowledged change is missing. Absent where
/// nothing is known, as in namespaces that live by TTL alone.
pub const CACHE_LAG_MS: &str = "x-cache-lag-ms";
/// Answer: the time since when no acknowledged change is known to be missing, by this node's clock, in RFC 3339: the time of
/// the answer less [`CACHE_LAG_MS`], and absent where that is.
pub const CACHE_AS_OF: &str = "x-cache-as-of";
/// Answer: the version that the source gave the value, a number. Absent for values without one.
pub const CACHE_VERSION: &str = "x-cache-version";
/// Answer: the state of its partition's log that the value reflects, at least, as `<epoch>-<sequence>`. Comparable between
/// answers for one key.
pub const CACHE_POSITION: &str = "x-cache-position";
/// Answer: `true` if the value was served although the staleness bound had passed. Absent otherwise.
pub const CACHE_STALE: &str = "x-cache-stale";
/// Answer to a write: its token, to be shown to other nodes.
pub const CACHE_TOKEN: &str = "x-cache-token";
