//! What Redis and its connections say about themselves, for statistics.

/// What the masters say about themselves, added up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RedisInfo {
    /// Its version.
    pub version: String,
    /// Bytes of memory in use.
    pub used_memory_bytes: u64,
    /// Clients that are connected.
    pub connected_clients: u64,
    /// Keys in our database.
    pub keys: u64,
}

impl RedisInfo {
    /// Adds what another master says.
    pub(crate) fn add(&mut self, other: Self) {
        if self.version.is_empty() {
            self.version = other.version;
        }
        self.used_memory_bytes += other.used_memory_bytes;
        self.connected_clients += other.connected_clients;
        self.keys += other.keys;
    }

    pub(crate) fn parse(text: &str, keys: u64) -> Self {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let version = match field("valkey_version") {
            "" => field("redis_version"),
            valkey => valkey,
        };
        Self {
            version: version.to_owned(),
            used_memory_bytes: field("used_memory").parse().unwrap_or(0),
            connected_clients: field("connected_clients").parse().unwrap_or(0),
            keys,
        }
    }
}

/// What goes on in the store of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RedisStats {
    /// Commands that wait for their answer.
    pub commands_in_flight: usize,
    /// Connections that are open.
    pub connections: u32,
    /// Most connections that may be open, to the masters that are known.
    pub connections_max: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_by_their_whole_name() {
        let text = "# Server\r\nredis_version:7.0.15\r\nused_memory_human:9M\r\nused_memory:1234\r\nconnected_clients:5\r\n";
        let info = RedisInfo::parse(text, 7);
        assert_eq!((info.version.as_str(), info.used_memory_bytes), ("7.0.15", 1234));
        assert_eq!((info.connected_clients, info.keys), (5, 7));
    }
}
