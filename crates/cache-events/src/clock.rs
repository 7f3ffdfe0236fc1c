//! Time comes in from outside.

/// A source of time, in milliseconds.
///
/// Implementations must be monotone: [`now`](Clock::now) never returns less than it returned before, on any thread.
/// A clock that counts a suspended machine's sleep as elapsed is required wherever trust depends on it.
pub trait Clock: Send + Sync + 'static {
    /// Logical milliseconds since an arbitrary start that is at least 1; monotone.
    fn now(&self) -> u64;

    /// Milliseconds since the Unix epoch as this machine believes; may jump.
    fn wall(&self) -> u64;

    /// Called about every sync interval by the bus, so that a clock which composes several time sources can join
    /// their deltas. Does nothing by default.
    fn rebase(&self) {}
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> u64 {
        (**self).now()
    }
    fn wall(&self) -> u64 {
        (**self).wall()
    }
    fn rebase(&self) {
        (**self).rebase();
    }
}
