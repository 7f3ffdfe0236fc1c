//! Rules of invalidations: keys, resources, patterns, groups.

use std::time::Duration;

use cache_events::{Group, Key, Namespace, Partition, Pattern, Position, Tag};

use super::{Bench, Harness, LONG, SHORT, Verdict, append, place, record, require, token};

/// The named keys are gone, and no other.
pub async fn only_the_named_keys_are_removed(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "named").await?;
    let (bare, a, b, c) = (bench.key()?, bench.variant("a")?, bench.variant("b")?, bench.variant("c")?);
    for key in [&bare, &a, &b, &c] {
        bench.put(key, record(key, 1)?).await?;
    }
    bench.invalidate_keys(&[&a, &c]).await?;
    for (key, stays) in [(&bare, true), (&a, false), (&b, true), (&c, false)] {
        require!(bench.is_stored(key).await? == stays, "{key}: should be stored: {stays}");
    }
    let stamp = bench.read(&b).await?.stamp;
    require!(stamp.is_none(), "the invalidation of a key stamped its resource: {stamp:?}");
    Ok(())
}

/// The invalidation of a resource is told with each of its keys and no other; what is put later is above it.
pub async fn a_resource_is_stamped_with_all_its_variants(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "stamp").await?;
    let keys = [bench.key()?, bench.variant("a")?, bench.variant("b")?];
    for key in &keys[..2] {
        bench.put(key, record(key, 1)?).await?;
    }
    let stamped = bench.invalidate_resource(0).await?;
    let answer = bench.store.read(bench.partition(), &keys).await?;
    for (key, item) in keys.iter().zip(&answer.items) {
        require!(item.stamp == Some(stamped), "{key}: invalidated at {stamped}, told {:?}", item.stamp);
        if let Some(record) = &item.record {
            require!(place(record)? < stamped, "{key}: a record that the invalidation did not overtake");
        }
    }
    let second = bench.invalidate_resource(0).await?;
    let stamp = bench.read(&keys[2]).await?.stamp;
    require!(stamp == Some(second), "invalidated again at {second}, told {stamp:?}");
    let put = bench.put(&keys[1], record(&keys[1], 1)?).await?;
    let item = bench.read(&keys[1]).await?;
    require!(item.stamp == Some(second) && put > second, "put at {put} after {second}: {:?}", item.stamp);

    let other = Bench::new(harness, "stamp-other").await?;
    let stamp = other.read(&other.key()?).await?.stamp;
    require!(stamp.is_none(), "the stamp is told for another resource: {stamp:?}");
    Ok(())
}

/// Sequences of another epoch say nothing: a lease does not tell such a stamp.
pub async fn a_stamp_of_another_epoch_is_not_told(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "old-stamp").await?;
    let key = bench.key()?;
    bench.head().await?;
    let stamped = bench.invalidate_resource(9).await?;
    bench.flush().await?;
    let answer = bench.granted(&key, token(1)).await?;
    require!(answer.stamp.is_none(), "a stamp of {stamped} is told in epoch {}", answer.head.epoch);
    Ok(())
}

/// A pattern covers keys of its namespace by their fields; all others stay. It takes one position, also where it
/// covers nothing.
pub async fn a_pattern_removes_exactly_what_it_covers(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "pattern").await?;
    let unit = |region: &str, currency: &str| {
        Key::builder(&bench.namespace, &bench.resource)
            .param("region", region)
            .param("currency", currency)
            .build()
    };
    let foreign = Key::builder(&Namespace::new("contract_other")?, &bench.resource)
        .param("region", "us-east")
        .build()?;
    let keys = [
        (unit("us-east", "usd")?, false),
        (unit("us-west", "eur")?, false),
        (unit("europe", "usd")?, true),
        (unit("eu-us-1", "usd")?, true),
        (bench.key()?, true),
        (foreign, true),
    ];
    for (key, _) in &keys {
        bench.put(key, record(key, 1)?).await?;
    }
    let head = bench.head().await?;
    let partition = bench.partition();
    let invalidate = async |pattern: &str| -> Result<Position, super::Broken> {
        let pattern = Pattern::new(pattern)?;
        Ok(bench.store.invalidate_pattern(partition, &bench.namespace, &pattern, append()).await?)
    };
    let at = invalidate("region=us-*").await?;
    require!(at == head.next(), "a pattern at {at} after {head}");
    let is_stored = async |key: &Key| -> Result<bool, super::Broken> {
        let partition = key.partition(bench.store.partitions());
        let answer = bench.store.read(partition, std::slice::from_ref(key)).await?;
        Ok(answer.items.iter().any(|item| item.record.is_some()))
    };
    for (key, stays) in &keys {
        require!(is_stored(key).await? == *stays, "{key}: should be stored: {stays}");
    }
    let again = invalidate("region=us-*").await?;
    require!(again == at.next(), "a pattern that covers nothing at {again} after {at}");
    invalidate("*").await?;
    for (key, _) in &keys {
        let stays = key.namespace() != &bench.namespace;
        require!(is_stored(key).await? == stays, "{key}: should be stored after `*`: {stays}");
    }
    Ok(())
}

/// Stamping groups, even several, takes one position and keeps the epoch.
pub async fn groups_take_one_position(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "groups").await?;
    bench.flush().await?;
    let head = bench.head().await?;
    let groups = groups(&bench, 0..3)?;
    let at = bench.store.invalidate_groups(bench.partition(), &groups, LONG, append()).await?;
    require!(at == head.next(), "groups at {at} after {head}");
    let again = bench.store.invalidate_groups(bench.partition(), &groups, LONG, append()).await?;
    require!(again == at.next(), "the same groups at {again} after {at}");
    Ok(())
}

/// At the limit, stamps that are older than any record that they could kill make room, and the epoch stays.
pub async fn old_groups_make_room(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "old-groups").await?;
    let epoch = fill_group_table(&bench).await?.epoch;
    harness.pass(SHORT * 2).await;
    let new = groups(&bench, 1_000_000..1_000_010)?;
    let at = bench.store.invalidate_groups(bench.partition(), &new, SHORT, append()).await?;
    require!(at.epoch == epoch, "old stamps made no room: epoch {epoch} became {}", at.epoch);
    Ok(())
}

/// At the limit, where all stamps are still needed, the epoch ends, and the event is in the new one. Groups that are
/// there already need no room.
pub async fn too_many_groups_end_the_epoch(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "full-groups").await?;
    let full = fill_group_table(&bench).await?;
    let known = groups(&bench, 0..10)?;
    let at = bench.store.invalidate_groups(bench.partition(), &known, LONG, append()).await?;
    require!(at == full.next(), "known groups at {at} after {full}");
    let new = groups(&bench, 1_000_000..1_000_010)?;
    let at = bench.store.invalidate_groups(bench.partition(), &new, LONG, append()).await?;
    require!(at.epoch > full.epoch, "more groups than the limit, and still in epoch {}", at.epoch);
    require!(at.seq == 1, "the event is not the first of its epoch: {at}");
    Ok(())
}

/// Begins an epoch and stamps as many groups as there may be.
async fn fill_group_table(bench: &Bench<'_>) -> Result<Position, super::Broken> {
    const CHUNK: usize = 500;
    let mut at = bench.flush().await?;
    let (epoch, max) = (at.epoch, bench.harness.groups_max());
    for start in (0..max).step_by(CHUNK) {
        let groups = groups(bench, start..max.min(start + CHUNK))?;
        let partition: Partition = bench.partition();
        let keep = Duration::from_secs(3600);
        at = bench.store.invalidate_groups(partition, &groups, keep, append()).await?;
        require!(at.epoch == epoch, "the epoch ended with {start} groups; the limit is {max}");
    }
    Ok(at)
}

fn groups(bench: &Bench<'_>, numbers: std::ops::Range<usize>) -> Result<Vec<Group>, super::Broken> {
    let group = |number| Ok(Group::tag(&Tag::new(format!("{}:{number}", bench.resource))?));
    numbers.map(group).collect()
}
