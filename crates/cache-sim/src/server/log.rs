//! The log of one partition: a stream that counts by itself, as the one of Redis does.

use std::collections::VecDeque;

use bytes::Bytes;
use cache_bus::LogEntry;
use cache_events::Position;

/// Entries of one epoch, and the last sequence given out, which outlives them.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) epoch: u64,
    pub(super) last: u64,
    entries: VecDeque<LogEntry>,
}

impl Log {
    /// The log of a new epoch. (Its marker is told as a hint alone; no sync answers it.)
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, last: 0, entries: VecDeque::new() }
    }

    pub(super) fn append(&mut self, payload: Bytes, entries_max: usize) -> u64 {
        self.last += 1;
        let position = Position::new(self.epoch, self.last);
        self.entries.push_back(LogEntry { position, payload });
        while self.entries.len() > entries_max {
            self.entries.pop_front();
        }
        self.last
    }

    /// At most `max` of the entries behind `seq`, whether they follow it or not.
    pub(super) fn after(&self, seq: u64, max: usize) -> Vec<LogEntry> {
        self.entries.iter().filter(|entry| entry.position.seq > seq).take(max).cloned().collect()
    }

    /// Drops all entries but the last `keep`.
    pub(super) fn trim(&mut self, keep: usize) {
        while self.entries.len() > keep {
            self.entries.pop_front();
        }
    }

    /// Replaces the last entry by bytes that no node can read.
    pub(super) fn spoil(&mut self) {
        if let Some(entry) = self.entries.back_mut() {
            entry.payload = Bytes::from_static(b"\xff of a later version");
        }
    }
}
