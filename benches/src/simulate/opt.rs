//! The best that any cache could do that knew the future.
//!
//! L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2),
//! 1966: the entry leaves whose next request is furthest away. Here a newcomer whose own next request is
//! furthest need not come in at all, as some policies refuse entries; so nothing that holds `capacity` entries
//! of equal weight gets more hits.

use std::collections::BinaryHeap;

/// Never asked for again.
const NEVER: u32 = u32::MAX;
/// Not in the cache.
const ABSENT: u32 = 0;

/// Hits among the requests, which are numbers below `keys`, with room for `capacity` entries.
///
/// ```
/// use edgecache_benches::simulate::opt::hits;
///
/// // With room for one, the best is to keep 0 and never take 1 or 2 in.
/// assert_eq!(hits(&[0, 1, 0, 2, 0], 3, 1), 2);
/// ```
pub fn hits(requests: &[u32], keys: usize, capacity: usize) -> u64 {
    let next = next_requests(requests, keys);
    // For each key held, the place of its next request, which is 1 at least.
    let mut held = vec![ABSENT; keys];
    // Pairs (place of the next request, key). Those that `held` does not confirm are of the past.
    let mut furthest = BinaryHeap::new();
    let (mut entries, mut hits) = (0, 0);
    for (&key, &next) in requests.iter().zip(&next) {
        let place = &mut held[key as usize];
        if *place != ABSENT {
            hits += 1;
            entries -= 1;
            *place = ABSENT;
        }
        // An entry that nobody asks for again is as good as gone.
        if next == NEVER {
            continue;
        }
        if entries == capacity {
            while furthest.peek().is_some_and(|&(place, key): &(u32, u32)| held[key as usize] != place) {
                furthest.pop();
            }
            match furthest.peek() {
                Some(&(place, victim)) if place > next => {
                    held[victim as usize] = ABSENT;
                    furthest.pop();
                    entries -= 1;
                }
                _ => continue,
            }
        }
        held[key as usize] = next;
        furthest.push((next, key));
        entries += 1;
    }
    hits
}

/// For each request, where its key is asked for next.
fn next_requests(requests: &[u32], keys: usize) -> Vec<u32> {
    let mut seen = vec![NEVER; keys];
    let mut next = vec![NEVER; requests.len()];
    for (at, &key) in requests.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut seen[key as usize], at as u32);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries every choice: what to throw out, or not to take in.
    fn by_trying(requests: &[u32], held: &mut Vec<u32>, capacity: usize) -> u64 {
        let Some((&key, rest)) = requests.split_first() else { return 0 };
        if held.contains(&key) {
            return 1 + by_trying(rest, held, capacity);
        }
        let mut best = by_trying(rest, held, capacity);
        if held.len() < capacity {
            held.push(key);
            best = best.max(by_trying(rest, held, capacity));
            held.pop();
        }
        for at in 0..held.len() {
            let victim = std::mem::replace(&mut held[at], key);
            best = best.max(by_trying(rest, held, capacity));
            held[at] = victim;
        }
        best
    }

    #[test]
    fn a_trace_worked_by_hand() {
        // The example of the textbooks: with three frames and everything taken in, 9 of 20 fault. Whoever may
        // refuse does not take 4 in, which never comes back, and keeps 0 for its next request.
        let requests = [7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1];
        assert_eq!(hits(&requests, 8, 3), 12);
        assert_eq!(hits(&requests, 8, 8), 14, "with room for all, each key misses once");
        // One frame holds one key from a request to its next: 0 thrice, 2 from 12 to 14, 0 from 15 to 18.
        assert_eq!(hits(&requests, 8, 1), 5);
    }

    #[test]
    fn no_choice_is_better() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..300 {
            let requests: Vec<u32> = (0..10).map(|_| rng.u32(0..5)).collect();
            for capacity in 1..4 {
                let best = by_trying(&requests, &mut Vec::new(), capacity);
                assert_eq!(hits(&requests, 5, capacity), best, "{requests:?} in {capacity}");
            }
        }
    }
}
