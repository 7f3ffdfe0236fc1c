//! Rules of leases, fills and holds.

use std::time::Duration;

use cache_events::{Key, Pattern, Position, Version};

use super::{Bench, Broken, Harness, LONG, SHORT, Verdict, append, ask, place, record_of, require, token};
use crate::store::{Append, Invalidation, Lease, LeaseAsk};

/// One caller gets the lease, and gets it again when it repeats its request; others hear how long it lives. A record
/// that is there is the answer, unless the caller wants to refresh it.
pub async fn one_holds_the_lease(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "lease").await?;
    let key = bench.key()?;
    bench.granted(&key, token(1)).await?;
    let other = bench.lease(&key, token(2)).await?.lease;
    require!(
        matches!(other, Lease::Busy(left) if left > Duration::ZERO && left <= LONG),
        "a second caller heard {other:?}"
    );
    bench.granted(&key, token(1)).await?;
    require!(bench.fill(&key, token(1)).await?, "the holder may not fill");
    let after = bench.lease(&key, token(2)).await?;
    // It was filled with a record from before everything, so a store that looks closely may also grant the load.
    require!(
        matches!(after.lease, Lease::Value(_) | Lease::Granted),
        "after the fill a caller heard {:?}",
        after.lease
    );

    let key = bench.variant("alive")?;
    bench.put(&key, record_of(&key, 1, after.head)?).await?;
    let alive = bench.lease(&key, token(3)).await?.lease;
    let stored = bench.read(&key).await?.record.unwrap_or_default();
    require!(alive == Lease::Value(stored), "a live record was not the answer: {alive:?}");
    let refresh = bench.store.lease(&key, LeaseAsk { refresh: true, ..ask(token(3)) }).await?.lease;
    require!(refresh == Lease::Granted, "a refresh of a live record heard {refresh:?}");
    let second = bench.store.lease(&key, LeaseAsk { refresh: true, ..ask(token(4)) }).await?.lease;
    require!(matches!(second, Lease::Busy(_)), "a second refresh heard {second:?}");
    Ok(())
}

/// Only the token of the lease fills, and only once.
pub async fn a_fill_needs_the_lease(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "fill").await?;
    let key = bench.key()?;
    require!(!bench.fill(&key, token(1)).await?, "a fill without a lease was accepted");
    bench.granted(&key, token(1)).await?;
    require!(!bench.fill(&key, token(2)).await?, "a fill with another token was accepted");
    require!(!bench.is_stored(&key).await?, "a refused fill stored its record");
    require!(bench.fill(&key, token(1)).await?, "the fill of the holder was refused");
    require!(bench.is_stored(&key).await?, "an accepted fill stored nothing");
    require!(!bench.fill(&key, token(1)).await?, "a lease filled twice");
    Ok(())
}

/// A fill stores the record byte by byte: its position is that of the lease, and is not read again.
pub async fn a_fill_keeps_the_record_as_it_is(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "bytes").await?;
    let key = bench.key()?;
    let head = bench.granted(&key, token(1)).await?.head;
    bench.head().await?;
    let given = record_of(&key, 3, head)?;
    require!(bench.store.fill(&key, token(1), given.clone(), LONG).await?, "the fill was refused");
    let stored = bench.read(&key).await?.record;
    require!(stored.as_ref() == Some(&given), "a fill changed its record");
    let answer = bench.lease(&key, token(2)).await?.lease;
    require!(answer == Lease::Value(given), "what was filled is not the answer to a lease: {answer:?}");
    Ok(())
}

/// Lease, invalidation, fill: the fill comes too late, whatever was stored before, and a new lease does not help it.
pub async fn a_fill_after_an_invalidation_is_refused(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "late").await?;
    let key = bench.key()?;
    bench.granted(&key, token(1)).await?;
    bench.invalidate_keys(&[&key]).await?;
    require!(!bench.fill(&key, token(1)).await?, "a stale fill was accepted");
    require!(!bench.is_stored(&key).await?, "a stale fill is stored");
    bench.granted(&key, token(2)).await?;
    require!(!bench.fill(&key, token(1)).await?, "a stale fill was accepted under the lease of another");
    require!(bench.fill(&key, token(2)).await?, "the lease from after the invalidation may not fill");
    Ok(())
}

/// The same for an invalidation by pattern; a lease that it does not cover stays.
pub async fn a_fill_after_a_pattern_is_refused(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "late-pattern").await?;
    let (covered, other) = (bench.variant("us-east")?, bench.variant("europe")?);
    bench.granted(&covered, token(1)).await?;
    bench.granted(&other, token(2)).await?;
    let pattern = Pattern::new("variant=us-*")?;
    bench.store.invalidate_pattern(bench.partition(), &bench.namespace, &pattern, append()).await?;
    require!(!bench.fill(&covered, token(1)).await?, "a stale fill was accepted");
    require!(bench.fill(&other, token(2)).await?, "a lease was lost that the pattern does not cover");
    Ok(())
}

/// A lease ends with its time, and then another may have it.
pub async fn a_fill_after_the_lease_expired_is_refused(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "expired").await?;
    let key = bench.key()?;
    let brief = LeaseAsk { ttl: SHORT, ..ask(token(1)) };
    let answer = bench.store.lease(&key, brief).await?.lease;
    require!(answer == Lease::Granted, "a free lease was not granted: {answer:?}");
    harness.pass(SHORT * 2).await;
    require!(!bench.fill(&key, token(1)).await?, "a fill after the lease had expired was accepted");
    bench.granted(&key, token(2)).await?;
    Ok(())
}

/// The holder gives its lease back; a stranger cannot.
pub async fn only_the_holder_releases(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "release").await?;
    let key = bench.key()?;
    bench.granted(&key, token(1)).await?;
    bench.store.release(&key, token(2)).await?;
    let still = bench.lease(&key, token(2)).await?.lease;
    require!(matches!(still, Lease::Busy(_)), "a stranger released the lease: {still:?}");
    bench.store.release(&key, token(1)).await?;
    require!(!bench.fill(&key, token(1)).await?, "a lease that was given back still fills");
    bench.granted(&key, token(2)).await?;
    Ok(())
}

/// A put ends the load that was under way: what that load brings may be older.
pub async fn a_put_removes_the_lease(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "put-lease").await?;
    for versioned in [false, true] {
        let key = bench.variant(if versioned { "versioned" } else { "plain" })?;
        bench.granted(&key, token(1)).await?;
        let position = if versioned {
            let record = record_of(&key, 7, Default::default())?;
            let stored = bench.store.put_versioned(&key, Version(7), record, LONG, append()).await?;
            stored.ok_or_else(|| Broken("the first version was refused".into()))?
        } else {
            bench.put(&key, record_of(&key, 7, Default::default())?).await?
        };
        require!(!bench.fill(&key, token(1)).await?, "versioned {versioned}: a fill went over a put");
        let stored = bench.read(&key).await?.record.unwrap_or_default();
        require!(place(&stored)? == position, "versioned {versioned}: the record is not the one of the put");
    }
    Ok(())
}

/// During a hold nobody gets a lease and no fill is accepted; the hold ends with its time.
pub async fn a_hold_keeps_everybody_from_filling(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "hold").await?;
    let hold = async |key: &Key, hold: Duration| {
        let keys = vec![key.clone()];
        let what = Invalidation { keys, keep: LONG, hold, ..Default::default() };
        bench.store.invalidate(bench.partition(), &what, append()).await
    };
    let key = bench.variant("long")?;
    bench.granted(&key, token(1)).await?;
    hold(&key, LONG).await?;
    require!(!bench.fill(&key, token(1)).await?, "a fill from before the hold was accepted");
    let answer = bench.lease(&key, token(2)).await?.lease;
    require!(
        matches!(answer, Lease::Hold(left) if left > Duration::ZERO && left <= LONG),
        "during a hold a caller heard {answer:?}"
    );
    require!(!bench.fill(&key, token(2)).await?, "a fill during the hold was accepted");
    bench.store.release(&key, token(2)).await?;
    let answer = bench.lease(&key, token(2)).await?.lease;
    require!(matches!(answer, Lease::Hold(_)), "a caller released the hold: {answer:?}");

    let key = bench.variant("brief")?;
    hold(&key, SHORT).await?;
    harness.pass(SHORT * 2).await;
    bench.granted(&key, token(3)).await?;
    require!(bench.fill(&key, token(3)).await?, "a fill after the hold was refused");
    Ok(())
}

/// A hold lasts until its time, whatever is written meanwhile, unless a longer one comes.
pub async fn a_hold_lasts_unless_a_longer_one_comes(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "lasting-hold").await?;
    let (store, partition) = (bench.store, bench.partition());
    let left = async |key: &Key| {
        let ask = LeaseAsk { refresh: true, ..ask(token(1)) };
        match store.lease(key, ask).await?.lease {
            Lease::Hold(left) => Ok(left),
            other => Err(Broken(format!("the hold is gone: {other:?}"))),
        }
    };
    let key = bench.variant("lasting")?;
    let plain = Invalidation { keys: vec![key.clone()], keep: LONG, ..Default::default() };
    store.invalidate(partition, &Invalidation { hold: LONG, ..plain.clone() }, append()).await?;
    // A caller that knows where the log stands may be served on a shorter way.
    for known in [false, true] {
        for write in ["put", "invalidation", "versioned put", "floor", "shorter hold", "pattern"] {
            let at = if known { bench.head().await? } else { Position::ZERO };
            let (version, append) = (Version(7 + u64::from(known)), Append { at, ..append() });
            match write {
                "put" => {
                    store.put(&key, record_of(&key, 0, Default::default())?, LONG, append).await?;
                }
                "invalidation" => {
                    store.invalidate(partition, &plain, append).await?;
                }
                "versioned put" => {
                    let record = record_of(&key, version.0, Default::default())?;
                    let stored = store.put_versioned(&key, version, record, LONG, append).await?;
                    require!(stored.is_some(), "a hold is in the way of a put");
                }
                "floor" => {
                    let what = Invalidation { floor: version, ..plain.clone() };
                    store.invalidate(partition, &what, append).await?;
                }
                "shorter hold" => {
                    let what = Invalidation { hold: SHORT, ..plain.clone() };
                    store.invalidate(partition, &what, append).await?;
                }
                _ => {
                    let pattern = Pattern::new("variant=last*")?;
                    store.invalidate_pattern(partition, &bench.namespace, &pattern, append).await?;
                }
            }
            let left = left(&key).await.map_err(|Broken(seen)| Broken(format!("{write}: {seen}")))?;
            require!(left > SHORT * 2, "{write}: of a long hold {left:?} are left");
        }
    }
    harness.pass(SHORT * 2).await;
    left(&key).await?;

    let key = bench.variant("longer")?;
    for hold in [SHORT, LONG] {
        let what = Invalidation { keys: vec![key.clone()], keep: LONG, hold, ..Default::default() };
        store.invalidate(partition, &what, append()).await?;
    }
    harness.pass(SHORT * 2).await;
    left(&key).await?;
    Ok(())
}

/// A lease tells where the log stands, what the last invalidation of the resource was, and the time of the store.
pub async fn a_lease_tells_head_and_stamp(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "tells").await?;
    let key = bench.variant("a")?;
    let head = bench.head().await?;
    let answer = bench.granted(&key, token(1)).await?;
    require!(answer.head == head, "the log stands at {head}; the lease says {}", answer.head);
    require!(answer.stamp.is_none(), "a stamp of nothing: {:?}", answer.stamp);
    require!(answer.server_ms > 0, "no time of the store");
    bench.store.release(&key, token(1)).await?;

    let stamped = bench.invalidate_resource(0).await?;
    let head = bench.head().await?;
    let answer = bench.granted(&key, token(2)).await?;
    require!(
        answer.head == head && answer.stamp == Some(stamped),
        "invalidated at {stamped}, head {head}: the lease says {:?} and {}",
        answer.stamp,
        answer.head
    );
    harness.pass(SHORT).await;
    let later = bench.lease(&key, token(2)).await?.server_ms;
    require!(later > answer.server_ms, "the time of the store stands still at {later}");
    Ok(())
}

/// Where the stored record is dead (a stamp or an epoch overtook it), the load is granted: at once, or to a caller
/// that says that what it got is of no use.
pub async fn a_dead_record_does_not_block_the_load(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "dead").await?;
    for flush in [false, true] {
        let key = bench.variant(if flush { "flushed" } else { "stamped" })?;
        bench.put(&key, record_of(&key, 0, Default::default())?).await?;
        let event = if flush { bench.flush().await? } else { bench.invalidate_resource(0).await? };
        let mut answer = bench.lease(&key, token(1)).await?;
        if let Lease::Value(record) = &answer.lease {
            let at = place(record)?;
            let overtaken = answer.stamp.is_some_and(|stamp| stamp.seq > at.seq);
            require!(
                at.epoch != answer.head.epoch || overtaken,
                "nothing in the answer tells that {event} overtook the record of {at}"
            );
            answer = bench.store.lease(&key, LeaseAsk { refresh: true, ..ask(token(1)) }).await?;
        }
        require!(answer.lease == Lease::Granted, "a dead record blocks the load: {:?}", answer.lease);
        let fresh = record_of(&key, 0, answer.head)?;
        require!(bench.store.fill(&key, token(1), fresh.clone(), LONG).await?, "the load may not fill");
        let answer = bench.lease(&key, token(2)).await?.lease;
        require!(answer == Lease::Value(fresh), "the new record is not the answer: {answer:?}");
    }
    Ok(())
}
