//! A map whose entries expire, in the order of their expiry, without a scan.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What an entry costs beyond its key and value: its places in the map and in the queue.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// Entries with a deadline (exclusive: at its deadline an entry is gone) and a weight in bytes.
pub(crate) struct Expiring<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// By deadline, then by age: who leaves first stands first.
    queue: BTreeMap<(u64, u64), K>,
    bytes: usize,
    serial: u64,
}

struct Entry<V> {
    value: V,
    deadline: u64,
    serial: u64,
    weight: usize,
}

impl<K: Hash + Eq + Clone, V> Expiring<K, V> {
    pub(crate) fn new() -> Self {
        Self { entries: HashMap::new(), queue: BTreeMap::new(), bytes: 0, serial: 0 }
    }

    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize, deadline: u64) {
        self.remove(&key);
        let weight = weight + ENTRY_OVERHEAD_BYTES;
        self.serial += 1;
        self.bytes += weight;
        self.queue.insert((deadline, self.serial), key.clone());
        self.entries.insert(key, Entry { value, deadline, serial: self.serial, weight });
    }

    pub(crate) fn get(&self, key: &K, now: u64) -> Option<&V> {
        self.entries.get(key).filter(|entry| entry.deadline > now).map(|entry| &entry.value)
    }

    /// Milliseconds until the entry expires.
    pub(crate) fn remaining(&self, key: &K, now: u64) -> Option<u64> {
        self.entries.get(key).and_then(|entry| entry.deadline.checked_sub(now)).filter(|&left| left > 0)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.queue.remove(&(entry.deadline, entry.serial));
        self.bytes -= entry.weight;
        Some(entry.value)
    }

    /// Removes what has expired, at most `count` entries: a little with every step, so that no step pays for all.
    pub(crate) fn expire(&mut self, now: u64, count: usize) {
        for _ in 0..count {
            match self.queue.first_key_value() {
                Some((&(deadline, _), _)) if deadline <= now => self.pop_first(),
                _ => return,
            };
        }
    }

    /// Removes the entry that would expire first. Says whether there was one.
    pub(crate) fn pop_first(&mut self) -> bool {
        let Some((_, key)) = self.queue.pop_first() else { return false };
        if let Some(entry) = self.entries.remove(&key) {
            self.bytes -= entry.weight;
        }
        true
    }

    /// Removes everything; tells what had not expired, and how many milliseconds it had left.
    pub(crate) fn take_all(&mut self, now: u64) -> impl Iterator<Item = (K, V, u64)> + use<K, V> {
        let all = std::mem::replace(self, Self::new()).entries;
        let left = move |(key, entry): (K, Entry<V>)| {
            let left = entry.deadline.checked_sub(now).filter(|&left| left > 0)?;
            Some((key, entry.value, left))
        };
        all.into_iter().filter_map(left)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_gone_at_its_deadline_and_leaves_without_being_asked_for() {
        let mut map = Expiring::new();
        map.insert("a", 1, 10, 100);
        map.insert("b", 2, 10, 200);
        assert_eq!(map.get(&"a", 99), Some(&1));
        assert_eq!((map.get(&"a", 100), map.remaining(&"a", 100)), (None, None));
        map.expire(100, 8);
        assert_eq!((map.len(), map.remaining(&"b", 150)), (1, Some(50)));
    }

    #[test]
    fn expiry_does_a_bounded_amount_of_work() {
        let mut map = Expiring::new();
        for key in 0..10 {
            map.insert(key, (), 0, 1);
        }
        map.expire(5, 4);
        assert_eq!(map.len(), 6);
    }

    #[test]
    fn the_first_to_expire_leaves_first_and_of_equals_the_oldest() {
        let mut map = Expiring::new();
        for (key, deadline) in [("late", 30), ("old", 20), ("young", 20)] {
            map.insert(key, (), 5, deadline);
        }
        for left in [vec!["late", "young"], vec!["late"], vec![]] {
            assert!(map.pop_first());
            let mut keys: Vec<_> = map.keys().copied().collect();
            keys.sort_unstable();
            assert_eq!(keys, left);
        }
        assert!(!map.pop_first());
        assert_eq!(map.bytes(), 0);
    }

    #[test]
    fn an_entry_that_is_replaced_counts_once() {
        let mut map = Expiring::new();
        map.insert("a", 1, 10, 5);
        map.insert("a", 2, 30, 9);
        assert_eq!(map.bytes(), 30 + ENTRY_OVERHEAD_BYTES);
        map.expire(8, 8);
        assert_eq!(map.get(&"a", 8), Some(&2));
        assert_eq!(map.remove(&"a"), Some(2));
        assert_eq!(map.bytes(), 0);
    }
}
