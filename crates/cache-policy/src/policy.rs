//! The trait between a store and what decides about room.

/// What a policy may know about an entry when it comes in.
///
/// A struct, so that a later policy can ask for more without a change to those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The well-mixed hash of the key; the same key has the same hash each time it comes back.
    pub hash: u64,
    /// What the entry costs, in the store's unit (bytes).
    pub weight: u32,
    /// When the entry expires, in the store's unit; `u64::MAX` = never. Only good for comparing.
    pub deadline: u64,
}

/// Decides which resident of a bounded store leaves.
///
/// The store promises: a slot is told [`inserted`](Policy::inserted) before anything else about it, is not
/// inserted twice without leaving in between, and slots are small (they index arrays). Calls may come for
/// slots that have just left: a policy ignores them.
///
/// Every implementation runs [`contract`](crate::contract) in its tests.
pub trait Policy: Send + Sync + 'static {
    /// A hit, told under a shared lock by many threads at once: atomics only, no waiting, no allocation.
    ///
    /// Returns whether [`tend`](Policy::tend) is wanted. Hits may be lost where threads meet.
    fn touched(&self, slot: u32, hash: u64) -> bool;

    /// A new resident. The store has made room before.
    fn inserted(&mut self, slot: u32, newcomer: Newcomer);

    /// The resident left for another reason than eviction: expired, invalidated, replaced or removed. Says
    /// nothing about its popularity: the key may be back at once. `hash` is the one it came with.
    fn removed(&mut self, slot: u32, hash: u64);

    /// The resident's deadline has passed and it left; it is `now`, in the unit of deadlines. The store tells what
    /// expired by [`removed`](Policy::removed) or by this. For a policy that wants to know what time it is; to
    /// others it is a removal.
    fn expired(&mut self, slot: u32, hash: u64, now: u64) {
        let _ = now;
        self.removed(slot, hash);
    }

    /// Names a victim and forgets it. `None` if there is no resident.
    ///
    /// `hash_of` answers for residents only. The store keeps the hashes for its table anyway, so a policy
    /// need not.
    fn evict(&mut self, hash_of: &dyn Fn(u32) -> u64) -> Option<u32>;

    /// Works off what hits have left behind. The store calls it when `touched` asked and the exclusive lock
    /// was free; it may skip it.
    fn tend(&mut self) {}

    /// How many residents it knows; the store's self-check compares.
    fn residents(&self) -> usize;
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    #[inline]
    fn touched(&self, slot: u32, hash: u64) -> bool {
        (**self).touched(slot, hash)
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        (**self).inserted(slot, newcomer);
    }

    fn removed(&mut self, slot: u32, hash: u64) {
        (**self).removed(slot, hash);
    }

    fn expired(&mut self, slot: u32, hash: u64, now: u64) {
        (**self).expired(slot, hash, now);
    }

    fn evict(&mut self, hash_of: &dyn Fn(u32) -> u64) -> Option<u32> {
        (**self).evict(hash_of)
    }

    fn tend(&mut self) {
        (**self).tend();
    }

    fn residents(&self) -> usize {
        (**self).residents()
    }
}
