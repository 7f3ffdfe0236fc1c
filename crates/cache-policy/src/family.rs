//! One policy for each shard of a cache, and what these have in common.

use std::fmt;

use crate::Policy;

/// Makes the policies of one cache: a member for each of its shards.
///
/// A closure or a constructor `Fn(usize) -> impl Policy` is a family whose members know nothing of each
/// other; that is enough for most policies. One whose members share something (as [`Auto`](crate::Auto) does)
/// implements the trait. One family belongs to one cache: not to be used for two.
///
/// ```
/// use cache_policy::{Family, Policy, PolicyKind, Sieve, boxed};
///
/// fn shards<F: Family>(family: F) -> Vec<F::Member> {
///     (0..4).map(|_| family.member(250)).collect()
/// }
///
/// // Chosen at compile time: nothing is boxed.
/// let shards_of_sieve: Vec<Sieve> = shards(Sieve::new);
/// // Chosen at run time.
/// let by_name: PolicyKind = "sieve".parse()?;
/// let shards_by_name: Vec<Box<dyn Policy>> = shards(by_name.family(1_000));
/// // A policy of one's own where one chosen at run time is expected.
/// let own: Vec<Box<dyn Policy>> = shards(boxed(Sieve::new));
/// # assert_eq!((shards_of_sieve.len(), shards_by_name.len(), own.len()), (4, 4, 4));
/// # Ok::<(), cache_policy::UnknownPolicy>(())
/// ```
pub trait Family {
    /// What decides in a shard.
    type Member: Policy;

    /// The policy of one more shard, empty. The hint (entries) saves growing and may be far off.
    fn member(&self, entries_hint: usize) -> Self::Member;
}

impl<P: Policy, F: Fn(usize) -> P> Family for F {
    type Member = P;

    fn member(&self, entries_hint: usize) -> P {
        self(entries_hint)
    }
}

/// A family chosen at run time; from [`PolicyKind::family`](crate::PolicyKind::family) or [`boxed`].
pub struct BoxedFamily(Box<dyn Family<Member = Box<dyn Policy>> + Send + Sync>);

impl Family for BoxedFamily {
    type Member = Box<dyn Policy>;

    fn member(&self, entries_hint: usize) -> Box<dyn Policy> {
        self.0.member(entries_hint)
    }
}

impl fmt::Debug for BoxedFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedFamily")
    }
}

/// Hides which policy it is, at the price of a virtual call for each hit.
pub fn boxed(family: impl Family + Send + Sync + 'static) -> BoxedFamily {
    struct Boxing<F>(F);

    impl<F: Family> Family for Boxing<F> {
        type Member = Box<dyn Policy>;

        fn member(&self, entries_hint: usize) -> Box<dyn Policy> {
            Box::new(self.0.member(entries_hint))
        }
    }

    BoxedFamily(Box::new(Boxing(family)))
}
