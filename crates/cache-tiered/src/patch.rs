//! Values that are changed by deltas: the writer's side, and how a delta lies in a hint.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cache_events::{Group, Key, Position, Version};
use cache_l1::{Groups, Meta};
use cache_l2::{BincodeCodec, Codec, Over, RecordFormat, RecordHead, SealError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::answer::{PutOutcome, ReadOptions, WriteOptions, Written};
use crate::core::Core;
use crate::error::WriteError;
use crate::receive::Update;
use crate::space::{Cacheable, Found, Space, written_as};
use crate::typed::TypedCache;
use crate::updates::{Change, Patched, Patcher, SealDelta};

/// How often an update is tried when others write the same key at the same time.
const TRIES: u32 = 16;

/// A value that is changed by deltas, such as an order book.
///
/// ```
/// use cache_tiered::Patch;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Level { price: u64, amount: u64 }
/// #[derive(Serialize, Deserialize, Default)]
/// struct Book { levels: std::collections::BTreeMap<u64, u64> }
///
/// impl Patch for Book {
///     type Delta = Level;
///
///     fn patched(&self, level: &Level) -> Option<Self> {
///         let mut levels = self.levels.clone();
///         match level.amount {
///             0 => drop(levels.remove(&level.price)?),
///             amount => drop(levels.insert(level.price, amount)),
///         }
///         Some(Self { levels })
///     }
/// }
/// ```
pub trait Patch: Cacheable {
    /// What can happen to it.
    type Delta: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// What becomes of the value; `None` if the delta does not fit it. The same on every node: it must depend on nothing
    /// else. Called under a lock of the bus on nodes that are told of the delta: keep it short.
    fn patched(&self, delta: &Self::Delta) -> Option<Self>
    where
        Self: Sized;
}

/// What an update did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum UpdateOutcome {
    /// The new value was stored.
    Stored(Written),
    /// L2 has no value that could be changed: none that is alive, or one with other tags than the call's. Put a whole one.
    Missing,
    /// The delta does not fit the value.
    Misfit,
    /// Others wrote the key each time before this call could.
    Contended,
}

/// A delta in a hint, as the payload of a record whose fingerprint is that of the type of deltas.
#[derive(Serialize, Deserialize)]
struct Step {
    /// The value that it was made for: where it was written, and its version.
    epoch: u64,
    seq: u64,
    version: u64,
    /// What that value weighs, and the new one about as much.
    weight: u32,
    /// In the codec of the namespace.
    delta: Vec<u8>,
}

/// The deltas of a namespace.
pub(crate) struct Deltas<V: Patch> {
    format: RecordFormat,
    codec: Box<dyn Codec<V::Delta>>,
}

/// The value that an update is based on.
pub(crate) struct Base<V> {
    pub(crate) value: Arc<V>,
    pub(crate) position: Position,
    pub(crate) version: Version,
    pub(crate) groups: Groups,
    pub(crate) weight: u32,
}

impl<V: Patch> Deltas<V> {
    pub(crate) fn new(settings: &crate::NamespaceSettings) -> Self {
        let (format, codec) = written_as(settings);
        Self { format, codec }
    }

    pub(crate) fn seal(
        &self,
        key: &Key,
        head: &RecordHead,
        base: &Base<V>,
        delta: &V::Delta,
    ) -> Result<Bytes, SealError> {
        let (Position { epoch, seq }, version) = (base.position, base.version.0);
        let delta = self.codec.encode(delta).map_err(SealError::Encode)?;
        let step = Step { epoch, seq, version, weight: base.weight, delta };
        self.format.seal(head, key, Some(&step), &BincodeCodec)
    }
}

impl<V: Patch> Patcher<V> for Deltas<V> {
    fn patched(&self, update: &Update<'_>, value: &V, held: &Meta) -> Option<Patched<V>> {
        let opened = self.format.open::<Step, _>(&update.cargo.bytes, update.key, &BincodeCodec).ok()?;
        let step = opened.value?;
        let based_on = (step.epoch, step.seq, step.version);
        if based_on != (held.origin.epoch, held.origin.seq, held.version) && !mutated!("delta_base_unchecked")
        {
            return None;
        }
        let delta = self.codec.decode(&step.delta).ok()?;
        Some(Patched { value: value.patched(&delta)?, head: opened.head, weight: step.weight })
    }
}

impl<V: Patch> TypedCache<V> {
    /// Changes a value: reads it, writes what becomes of it through both tiers in place of just that record, and tells the
    /// other nodes the delta, or the whole value where that is shorter to tell or they cannot know what it was before. If
    /// somebody else has written meanwhile, tries again with what that made of it.
    ///
    /// The value must be there, and with the tags that the options name. Its version grows by one (from the store's clock
    /// in microseconds if it had none).
    ///
    /// # Errors
    /// [`WriteError`]; after [`WriteError::Unacked`] the delta may have been applied or not, and the key is invalidated: a
    /// delta that must not be applied twice must not just be repeated.
    pub async fn update(
        &self,
        key: &Key,
        delta: &V::Delta,
        options: &WriteOptions,
    ) -> Result<UpdateOutcome, WriteError> {
        self.check(key)?;
        let deltas = Deltas::<V>::new(&self.space.settings);
        let mut groups: Vec<Group> = options.tags.iter().map(Group::tag).collect();
        let ids: HashSet<u64> = groups.iter().map(Group::id).collect();
        // Of the whole namespace too a stamp must not lie behind it.
        groups.push(self.space.group.clone());
        for tried in 0..TRIES {
            // What L1 holds is proven to be the last by being replaced. When it was not, L2 is asked.
            let in_l1 = if tried == 0 { self.space.base_in_l1(&self.core, key) } else { None };
            let from_l1 = in_l1.is_some();
            let base = match in_l1 {
                Some(base) => Some(base),
                None => self.space.base_in_l2(&self.core, key).await,
            };
            let usable = |base: &Base<V>| base.groups.iter().copied().collect::<HashSet<_>>() == ids;
            let patched = base.as_ref().filter(|base| usable(base)).map(|base| base.value.patched(delta));
            let (base, value) = match (base, patched) {
                (Some(base), Some(Some(value))) => (base, value),
                _ if from_l1 => continue,
                (_, None) => return Ok(UpdateOutcome::Missing),
                (_, Some(_)) => return Ok(UpdateOutcome::Misfit),
            };
            let version = match base.version {
                Version::NONE => Version(self.core.server_now() * 1_000),
                Version(version) => Version(version + 1),
            };
            let over = Some(Over { position: base.position, groups: groups.clone() });
            // A version tells values of one position apart: a load begins where the log stands, and so may another.
            let seal = (base.version != Version::NONE).then(|| -> SealDelta<'_> {
                let (deltas, base) = (&deltas, &base);
                Box::new(move |head| deltas.seal(key, head, base, delta))
            });
            let change = Change { over, delta: seal };
            let put = self.space.put(&self.core, key, Some(Arc::new(value)), Some(version), options, change);
            if let PutOutcome::Stored(written) = put.await? {
                return Ok(UpdateOutcome::Stored(written));
            }
        }
        Ok(UpdateOutcome::Contended)
    }
}

impl<V: Cacheable> Space<V> {
    fn base_in_l1(&self, core: &Core, key: &Key) -> Option<Base<V>> {
        let (value, meta) = self.l1.peek(key, &self.address(key), core.clock.now())?;
        let position = Position::new(meta.origin.epoch, meta.origin.seq);
        let Meta { version, groups, weight, .. } = meta;
        Some(Base { value: value?, position, version: Version(version), groups, weight })
    }

    async fn base_in_l2(&self, core: &Core, key: &Key) -> Option<Base<V>> {
        let found = self.find_in_l2(core, key, &ReadOptions::default()).await?;
        let Found { origin: position, version, groups, weight, .. } = found;
        Some(Base { value: found.value?, position, version, groups, weight })
    }
}
