//! What Redis and its connections say about themselves, for statistics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dial::Tally;
use crate::fleet::Fleet;
use crate::lanes::LANE_COMMANDS;

/// What the masters say about themselves, added up.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RedisInfo {
    /// Its version.
    pub version: String,
    /// Bytes of memory in use.
    pub used_memory_bytes: u64,
    /// Bytes that it may use (`maxmemory`); where no bound is set, all memory of its machine. 0: it does not say.
    pub memory_max_bytes: u64,
    /// What the fullest master uses of its `maxmemory`, 0 to 1 (and beyond); `None` where none has a limit.
    pub memory_share: Option<f64>,
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
        self.memory_max_bytes += other.memory_max_bytes;
        // `None` is less than any share.
        if other.memory_share > self.memory_share {
            self.memory_share = other.memory_share;
        }
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
        let number = |name: &str| field(name).parse::<u64>().unwrap_or(0);
        Self {
            version: version.to_owned(),
            used_memory_bytes: number("used_memory"),
            memory_max_bytes: match number("maxmemory") {
                0 => number("total_system_memory"),
                bound => bound,
            },
            memory_share: Some(number("maxmemory"))
                .filter(|limit| *limit > 0)
                .map(|limit| number("used_memory") as f64 / limit as f64),
            connected_clients: number("connected_clients"),
            keys,
        }
    }
}

/// What goes on in the clients of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RedisStats {
    /// Commands that wait for their answer.
    pub commands_in_flight: usize,
    /// Connections that are open.
    pub connections: u32,
    /// Most connections that may be open, to the masters that are known.
    pub connections_max: u32,
    /// As many commands as may be under way before they wait for each other, over all connections that may be open.
    pub commands_max: usize,
    /// Connections that were opened.
    pub connects: u64,
    /// Connections that could not be opened: nobody there, no answer in time, refused, of another deployment.
    pub connection_failures: u64,
    /// Commands that got no answer in time.
    pub command_timeouts: u64,
}

impl RedisStats {
    pub(crate) fn of(fleets: &[&Fleet], tally: &Tally) -> Self {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let connections_max: u32 = fleets.iter().map(|fleet| fleet.open_max()).sum();
        Self {
            commands_in_flight: fleets.iter().map(|fleet| fleet.in_flight()).sum(),
            connections: fleets.iter().map(|fleet| fleet.open()).sum(),
            connections_max,
            commands_max: connections_max as usize * LANE_COMMANDS,
            connects: load(&tally.opened),
            connection_failures: load(&tally.failed),
            command_timeouts: load(&tally.unanswered),
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            commands_in_flight: self.commands_in_flight + other.commands_in_flight,
            connections: self.connections + other.connections,
            connections_max: self.connections_max + other.connections_max,
            commands_max: self.commands_max + other.commands_max,
            connects: self.connects + other.connects,
            connection_failures: self.connection_failures + other.connection_failures,
            command_timeouts: self.command_timeouts + other.command_timeouts,
        }
    }
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
        assert_eq!(info.memory_share, None, "no limit is said");
    }

    #[test]
    fn the_fullest_master_speaks_for_all() {
        let of = |used: u64, max: u64| {
            RedisInfo::parse(&format!("used_memory:{used}\r\nmaxmemory:{max}\r\nmaxmemory_human:1G\r\n"), 0)
        };
        let mut sum = RedisInfo::default();
        [of(900, 0), of(50, 100), of(96, 100), of(10, 100)].into_iter().for_each(|info| sum.add(info));
        assert_eq!((sum.memory_share, sum.used_memory_bytes), (Some(0.96), 1_056));
    }

    #[test]
    fn memory_is_bounded_by_the_setting_or_by_the_machine() {
        let bound = |text: &str| RedisInfo::parse(text, 0).memory_max_bytes;
        assert_eq!(bound("total_system_memory:900\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\n"), 900);
        assert_eq!(bound("total_system_memory:900\r\nmaxmemory:300\r\n"), 300);
    }
}
