//! Telling somebody what leaves, and why.

use std::fmt;

use cache_policy::Policy;

use crate::Left;
use crate::cache::L1;

type Ear<K, V> = Box<dyn Fn(&Left<K, V>) + Send + Sync>;

/// Told of each entry that left, with its cause.
pub(crate) struct Listener<K, V>(Option<Ear<K, V>>);

impl<K, V> Default for Listener<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K, V> fmt::Debug for Listener<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "nobody" })
    }
}

impl<K, V> Listener<K, V> {
    #[inline]
    pub(crate) fn listens(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn tell<'a>(&self, left: impl IntoIterator<Item = &'a Left<K, V>>)
    where
        K: 'a,
        V: 'a,
    {
        if let Some(listener) = &self.0 {
            left.into_iter().for_each(listener);
        }
    }
}

impl<K, V, P: Policy> L1<K, V, P> {
    /// Has a listener told of every entry that leaves, once, with its [`Cause`](crate::Cause): in the thread that let it
    /// go, after all locks were released and before the caller has it. An entry that expired, or that a flush or a stamp
    /// outdated, leaves when it is swept or its room is needed; from its end on it is not served.
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use cache_l1::{Address, Cause, Config, Fence, L1, Meta};
    /// # use cache_policy::{PolicyKind, build};
    /// # let config = Config { entries_max: 100, bytes_max: 1 << 20, shards: None, own_group: 1 };
    /// let heard = Arc::new(Mutex::new(Vec::new()));
    /// let ear = heard.clone();
    /// let l1: L1<&str, u32> = L1::new(config, Arc::new(Fence::new(1)), |hint| build(PolicyKind::Lru, hint));
    /// let l1 = l1.listening(move |left| ear.lock().expect("no panic").push((left.key, left.cause)));
    ///
    /// let (at, meta) = (Address::bare(7, 0), Meta { hard_expiry: u64::MAX, ..Meta::default() });
    /// for value in [1, 2] {
    ///     let _ = l1.insert("key", value, &at, meta.clone(), &l1.snapshot(&at), 0);
    /// }
    /// l1.remove("key", &at);
    /// assert_eq!(*heard.lock().expect("no panic"), [("key", Cause::Replaced), ("key", Cause::Removed)]);
    /// ```
    #[must_use]
    pub fn listening(mut self, listener: impl Fn(&Left<K, V>) + Send + Sync + 'static) -> Self {
        self.listener = Listener(Some(Box::new(listener)));
        self
    }
}
