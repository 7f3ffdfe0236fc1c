//! The bounded log of one epoch of one partition.

use std::collections::VecDeque;

use bytes::Bytes;
use cache_bus::LogEntry;
use cache_events::Position;

pub(crate) struct Log {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Log {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, entries_max, bytes_max }
    }

    /// Appends an entry, whose position follows the last one. The oldest entries leave for it.
    pub(crate) fn push(&mut self, position: Position, payload: Bytes) {
        self.bytes += payload.len();
        self.entries.push_back(LogEntry { position, payload });
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some(left) = self.entries.pop_front() else { break };
            self.bytes -= left.payload.len();
        }
    }

    /// At most `max` of the entries behind `seq`, contiguous; `None` if the first of them is gone.
    pub(crate) fn after(&self, seq: u64, max: usize) -> Option<Vec<LogEntry>> {
        let first = self.entries.front()?.position.seq;
        let skip = usize::try_from((seq + 1).checked_sub(first)?).ok()?;
        Some(self.entries.iter().skip(skip).take(max).cloned().collect())
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(count: u64, entries_max: usize, bytes_max: usize) -> Log {
        let mut log = Log::new(entries_max, bytes_max);
        for seq in 1..=count {
            log.push(Position::new(7, seq), Bytes::from(vec![0; 10]));
        }
        log
    }

    fn seqs(entries: Vec<LogEntry>) -> Vec<u64> {
        entries.iter().map(|entry| entry.position.seq).collect()
    }

    #[test]
    fn what_follows_is_contiguous_and_at_most_what_was_asked() {
        let log = log_of(10, 100, 1_000);
        assert_eq!(log.after(0, 3).map(seqs), Some(vec![1, 2, 3]));
        assert_eq!(log.after(8, 9).map(seqs), Some(vec![9, 10]));
        assert_eq!(log.after(10, 9).map(seqs), Some(vec![]));
    }

    #[test]
    fn either_limit_drops_the_oldest_and_their_readers_see_a_gap() {
        for log in [log_of(10, 4, 1_000), log_of(10, 100, 40)] {
            assert_eq!(log.len(), 4);
            assert_eq!(log.after(5, 9).map(seqs), None);
            assert_eq!(log.after(6, 9).map(seqs), Some(vec![7, 8, 9, 10]));
        }
    }
}
