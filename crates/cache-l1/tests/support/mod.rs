//! A tier that is found in order when its test is done with it.

use std::ops::Deref;

use cache_l1::L1;
use cache_policy::Policy;

/// Checks the inner order of the tier when it goes, unless the test has failed already.
pub(crate) struct Checked<K: Eq, V, P: Policy>(Option<L1<K, V, P>>);

pub(crate) fn checked<K: Eq, V, P: Policy>(l1: L1<K, V, P>) -> Checked<K, V, P> {
    Checked(Some(l1))
}

impl<K: Eq, V, P: Policy> Checked<K, V, P> {
    /// With something that the tier is made with.
    #[allow(dead_code, reason = "each test file uses its share")]
    pub(crate) fn with(mut self, make: impl FnOnce(L1<K, V, P>) -> L1<K, V, P>) -> Self {
        Self(self.0.take().map(make))
    }
}

impl<K: Eq, V, P: Policy> Deref for Checked<K, V, P> {
    type Target = L1<K, V, P>;

    fn deref(&self) -> &L1<K, V, P> {
        self.0.as_ref().expect("there until it goes")
    }
}

impl<K: Eq, V, P: Policy> Drop for Checked<K, V, P> {
    fn drop(&mut self) {
        if let Some(l1) = &self.0
            && !std::thread::panicking()
        {
            l1.validate();
        }
    }
}
