//! An event cut into atomic steps: one store call each, of one partition, within the limits of the envelope.

use std::time::Duration;

use bytes::Bytes;
use cache_events::wire::{self, ENVELOPE_SCOPES_MAX, WireError};
use cache_events::{CacheEvent, Group, Namespace, Partition, Pattern, Position, Scope, Version, hash64};
use cache_l2::{Append, Invalidation, Store, StoreError};

/// One atomic step of an event.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) partition: Partition,
    pub(crate) event: CacheEvent,
    payload: Bytes,
    /// The JSON for the public channel; one part of an event carries it.
    pub(crate) public: Option<String>,
    step: Step,
}

#[derive(Debug, Clone)]
enum Step {
    Drop(Invalidation),
    Groups(Vec<Group>, Duration),
    Pattern(Namespace, Pattern),
    Flush,
}

impl Part {
    /// Whether the step begins a new epoch, which the caller must adopt before it goes on.
    pub(crate) fn is_flush(&self) -> bool {
        matches!(self.step, Step::Flush)
    }

    /// A step that makes everything of a partition worthless.
    pub(crate) fn flush(partition: Partition, event: CacheEvent) -> Result<Self, WireError> {
        Self::new(partition, event, Step::Flush)
    }

    fn new(partition: Partition, event: CacheEvent, step: Step) -> Result<Self, WireError> {
        let payload = wire::encode(&event)?.into();
        Ok(Self { partition, event, payload, public: None, step })
    }

    /// Nothing is to be filled for its keys for so long.
    pub(crate) fn hold(&mut self, hold: Duration) {
        if let Step::Drop(what) = &mut self.step {
            what.hold = hold;
        }
    }

    /// Its keys are known to have a newer value than this version at their source: no put of it or an older one is stored.
    pub(crate) fn floor(&mut self, floor: Version) {
        if let Step::Drop(what) = &mut self.step {
            what.floor = floor;
        }
    }

    /// Whether the step names a version of which, and of older ones, no put is stored.
    pub(crate) fn has_floor(&self) -> bool {
        matches!(&self.step, Step::Drop(what) if what.floor > Version::NONE)
    }

    /// Takes the step once.
    pub(crate) async fn attempt(&self, store: &dyn Store, at: Position) -> Result<Position, StoreError> {
        let append =
            Append { at, payload: self.payload.clone(), public: self.public.clone(), ..Append::default() };
        match &self.step {
            Step::Drop(what) => store.invalidate(self.partition, what, append).await,
            Step::Groups(groups, keep) => {
                store.invalidate_groups(self.partition, groups, *keep, append).await
            }
            Step::Pattern(namespace, pattern) => {
                store.invalidate_pattern(self.partition, namespace, pattern, append).await
            }
            Step::Flush => store.flush(self.partition, append).await,
        }
    }
}

/// Cuts an event. `keep` says how long the stamps of a scope must be kept. Where the store does not find patterns, a
/// pattern becomes its whole namespace.
pub(crate) fn split(
    event: CacheEvent,
    partitions: u32,
    finds_patterns: bool,
    keep: impl Fn(Option<&Namespace>) -> Duration,
) -> Result<Vec<Part>, WireError> {
    // Mostly an event has one scope, of one partition: then nothing is copied.
    if let [scope] = event.scopes.as_slice()
        && let Some(partition) = scope.partition(partitions)
    {
        let what = drop_of(&event.scopes, &keep);
        return Ok(vec![Part::new(partition, event, Step::Drop(what))?]);
    }
    let all = || (0..partitions).map(Partition);
    let with = |scopes: Vec<Scope>| CacheEvent { scopes, ..event.clone() };
    if event.scopes.contains(&Scope::All) {
        return all().map(|partition| Part::flush(partition, with(vec![Scope::All]))).collect();
    }
    let mut parts = Vec::new();
    let (mut groups, mut patterns) = (Vec::new(), Vec::new());
    let mut local: Vec<Vec<Scope>> = vec![Vec::new(); partitions as usize];
    for scope in event.scopes.iter().cloned() {
        match scope.partition(partitions) {
            Some(partition) => local[partition.index()].push(scope),
            None => match scope {
                Scope::Pattern { namespace, pattern } if pattern.is_everything() || !finds_patterns => {
                    groups.push(Scope::Namespace(namespace));
                }
                Scope::Pattern { .. } => patterns.push(scope),
                scope => groups.push(scope),
            },
        }
    }
    for partition in all() {
        for scopes in local[partition.index()].chunks(ENVELOPE_SCOPES_MAX) {
            push_fitting(partition, scopes, &with, &keep, &mut parts)?;
        }
        for scopes in groups.chunks(ENVELOPE_SCOPES_MAX) {
            let stamped = scopes.iter().filter_map(Scope::group).collect();
            let step = Step::Groups(stamped, keep(None));
            parts.push(Part::new(partition, with(scopes.to_vec()), step)?);
        }
        for scope in &patterns {
            if let Scope::Pattern { namespace, pattern } = scope {
                let step = Step::Pattern(namespace.clone(), pattern.clone());
                parts.push(Part::new(partition, with(vec![scope.clone()]), step)?);
            }
        }
    }
    if parts.is_empty() {
        // An event without a write: it lives where its resource does.
        let partition = Partition::of(hash64([event.resource_id.as_bytes()]), partitions);
        parts.push(Part::new(partition, event, Step::Drop(Invalidation::default()))?);
    }
    Ok(parts)
}

/// What keys and resources ask of the store.
fn drop_of(scopes: &[Scope], keep: &impl Fn(Option<&Namespace>) -> Duration) -> Invalidation {
    let mut what = Invalidation::default();
    for scope in scopes {
        what.keep = what.keep.max(keep(scope.namespace()));
        match scope {
            Scope::Key(key) => what.keys.push(key.clone()),
            Scope::Resource { namespace, resource } => {
                what.resources.push((namespace.clone(), resource.clone()));
            }
            _ => {}
        }
    }
    what
}

/// Halves what does not fit into one envelope until it does; a single scope that does not fit is an error.
fn push_fitting(
    partition: Partition,
    scopes: &[Scope],
    with: &impl Fn(Vec<Scope>) -> CacheEvent,
    keep: &impl Fn(Option<&Namespace>) -> Duration,
    parts: &mut Vec<Part>,
) -> Result<(), WireError> {
    let what = drop_of(scopes, keep);
    match Part::new(partition, with(scopes.to_vec()), Step::Drop(what)) {
        Err(WireError::TooLarge { .. }) if scopes.len() > 1 => {
            let (first, second) = scopes.split_at(scopes.len() / 2);
            push_fitting(partition, first, with, keep, parts)?;
            push_fitting(partition, second, with, keep, parts)
        }
        part => {
            parts.push(part?);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_events::{EventId, EventKind, Key, NodeId, Tag};

    fn event(scopes: Vec<Scope>) -> CacheEvent {
        CacheEvent {
            event_type: EventKind::MANUAL_INVALIDATION,
            resource_id: "r".into(),
            data: None,
            timestamp: 1,
            source_node: NodeId::new("n").expect("valid"),
            event_id: EventId::from_parts(1, [0; 10]),
            affected_namespaces: Vec::new(),
            scopes,
            reason: None,
            announce: true,
        }
    }

    fn ns() -> Namespace {
        Namespace::new("n").expect("valid")
    }

    fn cut(scopes: Vec<Scope>, partitions: u32) -> Vec<Part> {
        split(event(scopes), partitions, true, |_| Duration::from_secs(9)).expect("fits")
    }

    #[test]
    fn a_batch_beyond_the_envelope_is_split_without_loss() {
        let long = "x".repeat(300);
        let keys: Vec<Key> =
            (0..2500).map(|n| Key::new(&ns(), format!("{long}{n}")).expect("valid")).collect();
        let parts = cut(keys.iter().cloned().map(Scope::Key).collect(), 1);
        assert!(parts.iter().all(|part| part.payload.len() <= wire::ENVELOPE_BYTES_MAX));
        let sent: Vec<Scope> = parts.iter().flat_map(|part| part.event.scopes.clone()).collect();
        assert_eq!(sent, keys.into_iter().map(Scope::Key).collect::<Vec<_>>());
    }

    #[test]
    fn a_group_goes_to_every_partition_and_a_key_to_its_own() {
        let key = Key::new(&ns(), "k").expect("valid");
        let parts = cut(vec![Scope::Tag(Tag::new("t").expect("valid")), Scope::Key(key.clone())], 4);
        let groups: Vec<u32> =
            parts.iter().filter(|p| matches!(p.step, Step::Groups(..))).map(|p| p.partition.0).collect();
        assert_eq!(groups, [0, 1, 2, 3]);
        let drops: Vec<Partition> =
            parts.iter().filter(|p| matches!(p.step, Step::Drop(_))).map(|p| p.partition).collect();
        assert_eq!(drops, [key.partition(4)]);
    }

    #[test]
    fn the_pattern_of_everything_is_the_namespace() {
        let pattern = Pattern::new("*").expect("valid");
        let parts = cut(vec![Scope::Pattern { namespace: ns(), pattern }], 1);
        assert_eq!(parts[0].event.scopes, [Scope::Namespace(ns())]);
    }

    #[test]
    fn a_pattern_that_cannot_be_found_is_the_namespace() {
        let pattern = Pattern::new("a*").expect("valid");
        let scope = Scope::Pattern { namespace: ns(), pattern };
        let parts = split(event(vec![scope.clone()]), 2, false, |_| Duration::ZERO).expect("fits");
        assert!(parts.len() == 2 && parts.iter().all(|p| p.event.scopes == [Scope::Namespace(ns())]));
        assert_eq!(cut(vec![scope.clone()], 1)[0].event.scopes, [scope]);
    }

    #[test]
    fn everything_subsumes_the_rest() {
        let parts = cut(vec![Scope::Key(Key::new(&ns(), "k").expect("valid")), Scope::All], 2);
        assert!(parts.len() == 2 && parts.iter().all(Part::is_flush));
    }
}
