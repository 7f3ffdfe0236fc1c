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

/// What a policy says of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The resident's mark from now on, at most [`MARK_MAX`].
    pub mark: u8,
    /// Whether [`tend`](Policy::tend) is wanted.
    pub tend: bool,
}

/// The largest mark.
pub const MARK_MAX: u8 = 3;

/// What a store tells of its residents while it asks for a victim. Answers for residents only.
///
/// A store keeps a *mark* for each resident, a number from 0 to [`MARK_MAX`], beside what a hit reads anyway: a policy that
/// only wants to know whether or how often a resident was hit needs no memory of its own for it, and its hits no further
/// load. A newcomer's mark is 0.
///
/// A function from slots to hashes is a store without marks, good for tests.
pub trait Residents {
    /// The hash of the key. The store keeps the hashes for its table anyway, so a policy need not.
    fn hash(&self, slot: u32) -> u64;

    /// The mark as [`touched`](Policy::touched) left it.
    fn mark(&self, slot: u32) -> u8;

    /// Changes the mark.
    fn set_mark(&mut self, slot: u32, mark: u8);
}

impl<F: Fn(u32) -> u64> Residents for F {
    fn hash(&self, slot: u32) -> u64 {
        self(slot)
    }

    fn mark(&self, _slot: u32) -> u8 {
        0
    }

    fn set_mark(&mut self, _slot: u32, _mark: u8) {}
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
    /// `mark` is what the store keeps for the resident, see [`Residents`]. Hits may be lost where threads meet.
    fn touched(&self, slot: u32, hash: u64, mark: u8) -> Touch;

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
    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32>;

    /// Works off what hits have left behind. The store calls it when `touched` asked and the exclusive lock
    /// was free; it may skip it.
    fn tend(&mut self) {}

    /// How many residents it knows; the store's self-check compares.
    fn residents(&self) -> usize;
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    #[inline]
    fn touched(&self, slot: u32, hash: u64, mark: u8) -> Touch {
        (**self).touched(slot, hash, mark)
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

    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        (**self).evict(residents)
    }

    fn tend(&mut self) {
        (**self).tend();
    }

    fn residents(&self) -> usize {
        (**self).residents()
    }
}
