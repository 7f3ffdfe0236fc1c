//! What happens to the data without a step: evictions, operators, damage.

use bytes::BytesMut;

use super::Part;

impl Part {
    /// Records leave for room, about half of them. Stamps live longer and stay (`volatile-ttl`).
    pub(crate) fn evict(&mut self, rng: &mut fastrand::Rng) {
        self.records.retain(|_, _| rng.bool());
    }

    /// What has expired is removed where the server comes across it, about half of it. Only where a step has seen the clock:
    /// one that goes ahead and back while nobody looks is noticed by nobody.
    pub(crate) fn expire(&mut self, ms: u64, rng: &mut fastrand::Rng) {
        if self.meta.as_ref().is_none_or(|meta| meta.latest_ms + 1_000 <= ms) {
            return;
        }
        let mut stays = |at_ms: u64| at_ms > ms || rng.bool();
        self.records.retain(|_, record| stays(record.at_ms));
        self.stamps.retain(|_, stamp| stays(stamp.at_ms));
    }

    /// Meta is gone, by eviction or by hand.
    pub(crate) fn lose_meta(&mut self) {
        self.meta = None;
    }

    /// The log is gone, by hand.
    pub(crate) fn lose_log(&mut self) {
        self.log = None;
    }

    /// The log keeps so many entries.
    pub(crate) fn trim(&mut self, keep: usize) {
        if let Some(log) = &mut self.log {
            log.trim(keep);
        }
    }

    /// The last entry of the log becomes unreadable.
    pub(crate) fn spoil_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.spoil();
        }
    }

    /// Flips a bit in each record behind its header, or cuts it short.
    pub(crate) fn spoil_records(&mut self, cut: bool) {
        for record in self.records.values_mut() {
            let mut bytes = BytesMut::from(record.what.clone());
            let middle = bytes.len() - 3;
            if cut {
                bytes.truncate(middle);
            } else {
                bytes[middle] ^= 0x10;
            }
            record.what = bytes.freeze();
        }
    }
}
