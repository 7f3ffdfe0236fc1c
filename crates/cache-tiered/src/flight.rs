//! Single flight: one piece of work for a key at a time, with many waiters.
//!
//! A flight belongs to a key *and* to a fence: a caller that comes after an invalidation sees another fence and never
//! joins a flight from before it; it starts a new one, which takes the place of the old (whose waiters are still
//! answered). A leader that is dropped frees the place and tells its waiters to try again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

const SHARDS: usize = 32;

/// The flights of one kind of one namespace: `F` is the fence, `T` the result that all waiters share.
pub(crate) struct Flights<K, F, T> {
    shards: Shards<K, F, T>,
}

type Shards<K, F, T> = Arc<[Mutex<HashMap<K, Flight<F, T>>>]>;

struct Flight<F, T> {
    fence: F,
    landing: Arc<Landing<T>>,
}

/// Where the result is laid down. One allocation a flight: a watch channel costs several times as much.
struct Landing<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

enum State<T> {
    UnderWay,
    Landed(T),
    /// The leader was dropped.
    Abandoned,
}

impl<T> Landing<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::UnderWay), changed: Notify::new() })
    }

    fn set(&self, state: State<T>) {
        *self.state.lock() = state;
        self.changed.notify_waiters();
    }

    fn is_abandoned(&self) -> bool {
        matches!(*self.state.lock(), State::Abandoned)
    }
}

/// What [`Flights::join`] gives: the work, or somebody to wait for.
pub(crate) enum Role<K: Eq + Hash, F, T> {
    /// The caller leads: it must do the work and [`land`](Lead::land) it.
    Lead(Lead<K, F, T>),
    /// Another leads.
    Wait(Waiter<T>),
}

/// The duty of a leader. Dropped without landing, it frees the place and its waiters try again.
pub(crate) struct Lead<K: Eq + Hash, F, T> {
    shards: Shards<K, F, T>,
    key: K,
    fence: F,
    shard: usize,
    landing: Arc<Landing<T>>,
    landed: bool,
}

/// A place to wait for a leader.
pub(crate) struct Waiter<T>(Arc<Landing<T>>);

impl<K: Eq + Hash + Clone, F: PartialEq + Copy, T: Clone> Flights<K, F, T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Joins the flight of the key under the same fence, or leads a new one. `hash` picks the shard.
    pub(crate) fn join(&self, key: &K, hash: u64, fence: F) -> Role<K, F, T> {
        let shard = (hash >> 32) as usize % SHARDS;
        let mut flights = self.shards[shard].lock();
        if let Some(flight) = flights.get(key)
            && (flight.fence == fence || mutated!("flight_joined_across"))
            && !flight.landing.is_abandoned()
        {
            return Role::Wait(Waiter(flight.landing.clone()));
        }
        let landing = Landing::new();
        let replaced = flights.insert(key.clone(), Flight { fence, landing: landing.clone() });
        drop(flights);
        drop(replaced);
        Role::Lead(Lead {
            shards: self.shards.clone(),
            key: key.clone(),
            fence,
            shard,
            landing,
            landed: false,
        })
    }

    /// Joins a flight if there is one under the same fence; never leads.
    pub(crate) fn find(&self, key: &K, hash: u64, fence: &F) -> Option<Waiter<T>> {
        let flights = self.shards[(hash >> 32) as usize % SHARDS].lock();
        let flight = flights.get(key)?;
        (flight.fence == *fence || mutated!("flight_joined_across")).then(|| Waiter(flight.landing.clone()))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<K: Eq + Hash, F, T> Lead<K, F, T> {
    /// The fence under which the flight began: taken before any I/O.
    pub(crate) fn fence(&self) -> &F {
        &self.fence
    }

    /// A place to wait for this very flight.
    pub(crate) fn waiter(&self) -> Waiter<T> {
        Waiter(self.landing.clone())
    }

    /// Ends the flight: all waiters get the result, the place is free.
    pub(crate) fn land(mut self, result: T) {
        self.landed = true;
        self.landing.set(State::Landed(result));
    }
}

impl<K: Eq + Hash, F, T> Drop for Lead<K, F, T> {
    fn drop(&mut self) {
        if !self.landed {
            self.landing.set(State::Abandoned);
        }
        let mut flights = self.shards[self.shard].lock();
        // Only if the place is still ours: a later flight may have taken it.
        let ours = flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(&flight.landing, &self.landing));
        let left = if ours { flights.remove(&self.key) } else { None };
        drop(flights);
        drop(left);
    }
}

impl<T: Clone> Waiter<T> {
    /// The result, or `None` if the leader was dropped: try again. Cancel safe.
    pub(crate) async fn landed(self) -> Option<T> {
        loop {
            // Registered before the look, so that a landing between look and wait is not missed.
            let changed = self.0.changed.notified();
            match &*self.0.state.lock() {
                State::Landed(result) => return Some(result.clone()),
                State::Abandoned => return None,
                State::UnderWay => {}
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = Flights<&'static str, u64, u32>;

    #[tokio::test]
    async fn waiters_share_the_leaders_result() {
        let flights = Table::new();
        let Role::Lead(lead) = flights.join(&"k", 1, 7) else { panic!("first must lead") };
        let Role::Wait(waiter) = flights.join(&"k", 1, 7) else { panic!("second must wait") };
        let found = flights.find(&"k", 1, &7).expect("in flight");
        lead.land(42);
        assert_eq!((waiter.landed().await, found.landed().await), (Some(42), Some(42)));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_dropped_leader_frees_the_key_and_its_waiters_try_again() {
        let flights = Table::new();
        let Role::Lead(lead) = flights.join(&"k", 1, 7) else { panic!("first must lead") };
        let Role::Wait(waiter) = flights.join(&"k", 1, 7) else { panic!("second must wait") };
        drop(lead);
        assert_eq!(waiter.landed().await, None);
        assert!(matches!(flights.join(&"k", 1, 7), Role::Lead(_)));
    }

    #[tokio::test]
    async fn nobody_joins_a_flight_from_before_an_invalidation() {
        let flights = Table::new();
        let Role::Lead(old) = flights.join(&"k", 1, 7) else { panic!("first must lead") };
        let Role::Lead(new) = flights.join(&"k", 1, 8) else { panic!("another fence must lead") };
        assert!(flights.find(&"k", 1, &7).is_none());
        old.land(1);
        let Role::Wait(waiter) = flights.join(&"k", 1, 8) else {
            panic!("the old landing keeps the new flight")
        };
        new.land(2);
        assert_eq!(waiter.landed().await, Some(2));
    }
}
