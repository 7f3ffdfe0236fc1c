//! Rules of versioned puts and the floors that invalidations leave.

use cache_events::{Group, Key, Position, Tag, Version};

use super::{Bench, Broken, Harness, LONG, Verdict, append, place, record, require};
use crate::record::version_of;
use crate::store::{Append, Invalidation, Over};

/// A version above the stored one is stored; the same or an older one is refused, stores nothing and tells nobody.
pub async fn only_a_newer_version_is_stored(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "newer").await?;
    let key = bench.key()?;
    require!(bench.put_version(&key, 5).await?, "the first version was refused");
    let head = bench.head().await?;
    require!(!bench.put_version(&key, 5).await?, "the same version was accepted");
    require!(!bench.put_version(&key, 4).await?, "an older version was accepted");
    let stored = bench.read(&key).await?.record.as_deref().and_then(version_of);
    require!(stored == Some(Version(5)), "a refused put left {stored:?}");
    let after = bench.head().await?;
    require!(after == head.next(), "refused puts appended events: {head} became {after}");
    require!(bench.put_version(&key, 6).await?, "a newer version was refused");
    let stored = bench.read(&key).await?.record.as_deref().and_then(version_of);
    require!(stored == Some(Version(6)), "a newer version was accepted and {stored:?} is stored");
    Ok(())
}

/// Versions compare as numbers of 64 bits: not as text, not as doubles, not with a sign.
pub async fn versions_are_numbers(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "numbers").await?;
    let ascending = [
        1,
        2,
        9,
        10,
        99,
        127,
        128,
        255,
        256,
        0x0a0d,
        u64::from(u32::MAX) - 1,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 32) + 1,
        (2 << 32) + 1,
        (1 << 53) - 1,
        1 << 53,
        (1 << 53) + 1,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    let (stored, floored) = (bench.variant("stored")?, bench.variant("floored")?);
    for pair in ascending.windows(2) {
        let (old, new) = (pair[0], pair[1]);
        bench.put_version(&stored, old).await?;
        require!(!bench.put_version(&stored, old).await?, "{old} over a stored {old} was accepted");
        require!(bench.put_version(&stored, new).await?, "{new} over a stored {old} was refused");
        require!(!bench.put_version(&stored, old).await?, "{old} over a stored {new} was accepted");

        floor_of_key(&bench, &floored, old).await?;
        require!(!bench.put_version(&floored, old).await?, "{old} at a floor of {old} was accepted");
        require!(bench.put_version(&floored, new).await?, "{new} above a floor of {old} was refused");
        bench.invalidate_keys(&[&floored]).await?;
        require!(!bench.put_version(&floored, old).await?, "{old} below a floor of {new} was accepted");
    }
    Ok(())
}

/// What an invalidation removes leaves its version: a late writer does not bring an older value back.
pub async fn the_version_of_a_removed_record_is_a_floor(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "removed").await?;
    let (key, other) = (bench.variant("a")?, bench.variant("b")?);
    bench.put_version(&key, 10).await?;
    bench.put_version(&other, 3).await?;
    bench.invalidate_keys(&[&key, &other]).await?;
    bench.invalidate_keys(&[&key]).await?;
    require!(!bench.put_version(&key, 9).await?, "9 was accepted after 10 had been removed");
    require!(!bench.put_version(&key, 10).await?, "10 was accepted after 10 had been removed");
    require!(
        bench.put_version(&other, 4).await?,
        "4 was refused after 3 had been removed: it is another key"
    );
    require!(bench.put_version(&key, 11).await?, "11 was refused after 10 had been removed");
    Ok(())
}

/// A caller that knows the new version gives it as floor: for keys, and for resources with all their variants.
pub async fn given_floors_count(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "given").await?;
    let (key, other) = (bench.variant("a")?, bench.variant("b")?);
    floor_of_key(&bench, &key, 7).await?;
    require!(!bench.put_version(&key, 7).await?, "7 was accepted at a floor of 7");
    require!(bench.put_version(&other, 1).await?, "the floor of one key holds for another");
    require!(bench.put_version(&key, 8).await?, "8 was refused above a floor of 7");

    bench.invalidate_resource(20).await?;
    for key in [bench.key()?, bench.variant("c")?] {
        require!(!bench.put_version(&key, 20).await?, "{key}: 20 was accepted at a floor of 20");
        require!(bench.put_version(&key, 21).await?, "{key}: 21 was refused above a floor of 20");
    }
    Ok(())
}

/// An invalidation of a resource leaves its records where they are, and its floor counts all the same.
pub async fn a_floor_counts_where_the_record_is_still_stored(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "stored").await?;
    let key = bench.variant("a")?;
    bench.put_version(&key, 10).await?;
    bench.invalidate_resource(15).await?;
    require!(!bench.put_version(&key, 12).await?, "12 was accepted below a floor of 15, above a dead 10");
    require!(!bench.put_version(&key, 9).await?, "9 was accepted below a dead 10 and a floor of 15");
    require!(bench.put_version(&key, 16).await?, "16 was refused above a floor of 15");
    Ok(())
}

/// A later invalidation with a lower floor, or none, does not lower it.
pub async fn floors_only_grow(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "grow").await?;
    let key = bench.variant("a")?;
    floor_of_key(&bench, &key, 10).await?;
    floor_of_key(&bench, &key, 5).await?;
    bench.invalidate_keys(&[&key]).await?;
    require!(!bench.put_version(&key, 10).await?, "the floor of the key sank");
    bench.invalidate_resource(30).await?;
    bench.invalidate_resource(0).await?;
    require!(!bench.put_version(&key, 30).await?, "the floor of the resource sank");
    require!(bench.put_version(&key, 31).await?, "31 was refused above a floor of 30");
    Ok(())
}

/// Floors hold in the next epoch too, since versions are the origin's, and so does the version of a record that died with
/// its epoch: a put that began before and comes late is not newer for that.
pub async fn floors_outlive_an_epoch(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "outlive").await?;
    let (removed, dead) = (bench.variant("removed")?, bench.variant("dead")?);
    bench.put_version(&removed, 10).await?;
    bench.invalidate_keys(&[&removed]).await?;
    bench.put_version(&dead, 20).await?;
    bench.flush().await?;
    require!(!bench.put_version(&removed, 9).await?, "the floor of a key ended with its epoch");
    require!(!bench.put_version(&dead, 15).await?, "15 was accepted over a 20 of a dead epoch");
    require!(bench.put_version(&dead, 21).await?, "21 was refused over a 20 of a dead epoch");
    bench.invalidate_resource(40).await?;
    bench.flush().await?;
    require!(!bench.put_version(&removed, 39).await?, "the floor of a resource ended with its epoch");
    Ok(())
}

/// A put over a named record is stored only in its place: not over another, not over nothing, and not once that record is
/// worthless, by an invalidation of its key, its resource, one of the groups given, or everything.
pub async fn a_put_over_a_record_takes_its_place_alone(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "over").await?;
    let group = Group::tag(&Tag::new(format!("over/{}", bench.resource.replace(':', "/")))?);
    let key = bench.key()?;
    let over = async |position: Position, version: u64| -> Result<Option<Position>, Broken> {
        let append = Append { over: Some(Over { position, groups: vec![group.clone()] }), ..append() };
        let record = record(&key, version)?;
        Ok(bench.store.put_versioned(&key, Version(version), record, LONG, append).await?)
    };
    let head = bench.head().await?;
    require!(over(head, 1).await?.is_none(), "a put over nothing was accepted");
    let first = bench.put(&key, record(&key, 1)?).await?;
    let other = Position::new(first.epoch, first.seq - 1);
    require!(over(other, 2).await?.is_none(), "a put over the record of {other} replaced that of {first}");
    let future = Position::new(first.epoch, first.seq + 1);
    require!(over(future, 2).await?.is_none(), "a put over the record of {future} replaced that of {first}");
    require!(over(first, 1).await?.is_none(), "a put over a record replaced one of the same version");
    let Some(second) = over(first, 2).await? else {
        return Err(Broken("a put over the record that is stored was refused".into()));
    };
    let stored = bench.read(&key).await?.record.as_deref().map(place).transpose()?;
    require!(stored == Some(second), "put at {second}: {stored:?} is stored");
    require!(over(first, 3).await?.is_none(), "a put over a record that was replaced was accepted");
    require!(bench.head().await? == second.next(), "refused puts appended events");

    bench.store.invalidate_groups(bench.partition(), std::slice::from_ref(&group), LONG, append()).await?;
    require!(
        over(second, 4).await?.is_none(),
        "a put was accepted over a record of which a group was stamped"
    );
    let third = bench.put(&key, record(&key, 4)?).await?;
    bench.invalidate_resource(0).await?;
    require!(over(third, 5).await?.is_none(), "a put was accepted over a record whose resource was stamped");
    let fourth = bench.put(&key, record(&key, 5)?).await?;
    bench.invalidate_keys(&[&key]).await?;
    require!(over(fourth, 6).await?.is_none(), "a put was accepted over a record that was removed");
    let fifth = bench.put(&key, record(&key, 6)?).await?;
    bench.flush().await?;
    require!(over(fifth, 7).await?.is_none(), "a put was accepted over a record of a dead epoch");
    Ok(())
}

async fn floor_of_key(bench: &Bench<'_>, key: &Key, floor: u64) -> Verdict {
    let keys = vec![key.clone()];
    let what = Invalidation { keys, keep: LONG, floor: Version(floor), ..Default::default() };
    bench.store.invalidate(bench.partition(), &what, append()).await?;
    require!(!bench.is_stored(key).await?, "{key} is still stored after its invalidation");
    Ok(())
}
