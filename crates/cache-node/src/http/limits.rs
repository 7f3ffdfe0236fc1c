//! How often a client may ask: a bound on the rate, per client, with a bound on the clients that are remembered.
//!
//! The generic cell rate algorithm: of each client one number is kept, the time at which its allowance is whole again. A
//! request moves it on by the time that one request costs, and is refused where that would be further ahead than the
//! allowance reaches. (ITU-T I.371; it is a leaky bucket without anything that leaks.)

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// Clients that are remembered. Beyond that, and while all of them are short of allowance, new ones share one.
const CLIENTS_MAX: usize = 65_536;

/// A bound on the rate of requests of each client.
#[derive(Debug)]
pub(crate) struct RateLimit<C> {
    /// What one request costs, in microseconds.
    cost: u64,
    /// How far ahead a client may be, in microseconds.
    reach: u64,
    clients_max: usize,
    whole_at: Mutex<HashMap<Option<C>, u64>>,
}

impl<C: Eq + Hash + Clone> RateLimit<C> {
    /// So many requests in so many seconds, all of which may come at once.
    pub(crate) fn new(requests: u64, seconds: u64) -> Self {
        let reach = seconds * 1_000_000;
        let cost = (reach / requests.max(1)).max(1);
        Self { cost, reach, clients_max: CLIENTS_MAX, whole_at: Mutex::new(HashMap::new()) }
    }

    /// Takes one request out of a client's allowance; `now` in milliseconds.
    ///
    /// # Errors
    /// There is none left: the seconds until there is.
    pub(crate) fn take(&self, client: &C, now: u64) -> Result<(), u64> {
        let now = now.saturating_mul(1000);
        let mut clients = self.whole_at.lock();
        let mut client = Some(client.clone());
        if clients.len() >= self.clients_max && !clients.contains_key(&client) {
            clients.retain(|_, whole_at| *whole_at > now);
            if clients.len() >= self.clients_max {
                client = None;
            }
        }
        let whole_at = clients.entry(client).or_insert(now);
        let next = (*whole_at).max(now) + self.cost;
        if next > now + self.reach {
            return Err((next - now - self.reach).div_ceil(1_000_000));
        }
        *whole_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_used_up_and_grows_again() {
        let limit = RateLimit::new(60, 60);
        for n in 0..60 {
            assert_eq!(limit.take(&"a", 5_000), Ok(()), "{n}");
        }
        assert_eq!(limit.take(&"a", 5_000), Err(1));
        assert_eq!(limit.take(&"b", 5_000), Ok(()), "each client has its own");
        assert_eq!(limit.take(&"a", 5_999), Err(1));
        assert_eq!(limit.take(&"a", 6_000), Ok(()));
        assert_eq!(limit.take(&"a", 6_000), Err(1));
        for n in 0..60 {
            assert_eq!(limit.take(&"a", 500_000), Ok(()), "{n}: never more than the whole");
        }
        assert!(limit.take(&"a", 500_000).is_err());
    }

    #[test]
    fn no_more_clients_are_remembered_than_the_bound() {
        let limit = RateLimit { clients_max: 3, ..RateLimit::new(1, 10) };
        for client in 0..100 {
            let taken = limit.take(&client, 1_000);
            // The three first have theirs; the others share one.
            assert_eq!(taken.is_ok(), client < 4, "{client}");
        }
        assert!(limit.whole_at.lock().len() <= 4);
        assert_eq!(limit.take(&50, 12_000), Ok(()), "those whose allowance is whole are forgotten");
    }
}
