//! Rules of epochs and positions.

use cache_events::Position;

use super::{Bench, Harness, LONG, Verdict, append, ask, place, record, require, token};
use crate::store::{Append, Invalidation, Lease, LeaseAsk};

/// A flush begins an epoch above the old one; its own event is the first entry.
pub async fn a_flush_begins_an_epoch_with_its_event(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "flush").await?;
    let mut before = bench.head().await?;
    // Two in a row: the second must be above the first, however coarse the clock.
    for _ in 0..2 {
        let flushed = bench.flush().await?;
        require!(flushed.epoch > before.epoch, "flushed at {before}, now {flushed}");
        require!(flushed.seq == 1, "the event of the flush is not the first of its epoch: {flushed}");
        let next = bench.head().await?;
        require!(next == flushed.next(), "after a flush at {flushed} comes {next}");
        before = next;
    }
    Ok(())
}

/// After a flush nothing that was stored is taken for alive, and no load from before is.
pub async fn a_flush_kills_what_was_stored(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "kill").await?;
    let (key, loading) = (bench.variant("stored")?, bench.variant("loading")?);
    bench.put(&key, record(&key, 1)?).await?;
    let lease = bench.granted(&loading, token(1)).await?;
    let flushed = bench.flush().await?;
    bench.store.fill(&loading, token(1), super::record_of(&loading, 1, lease.head)?, LONG).await?;
    for key in [key, loading] {
        let answer = bench.lease(&key, token(2)).await?;
        require!(answer.head == flushed, "flushed at {flushed}; the lease says {}", answer.head);
        if let Lease::Value(record) = answer.lease {
            let at = place(&record)?;
            require!(at.epoch != flushed.epoch, "a record of {at} lives after a flush at {flushed}");
        }
    }
    Ok(())
}

/// A caller that stands ahead of the store has seen history that the store lost: the epoch ends. A caller that stands
/// at the head, or behind, ends nothing.
pub async fn a_caller_ahead_ends_the_epoch(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "ahead").await?;
    let key = bench.key()?;
    let nothing = Invalidation::default();
    let from = |at: Position| Append { at, ..append() };
    let head = bench.head().await?;
    let mut last = head;
    for at in
        [head, Position::ZERO, Position::new(head.epoch, 0), Position::new(head.epoch - 1, head.seq + 9)]
    {
        let position = bench.store.invalidate(bench.partition(), &nothing, from(at)).await?;
        require!(position == last.next(), "a caller at {at}, head {last}: {position}");
        last = position;
    }

    let ahead = Position::new(last.epoch, last.seq + 1);
    let position = bench.store.invalidate(bench.partition(), &nothing, from(ahead)).await?;
    require!(
        position.epoch > ahead.epoch && position.seq == 1,
        "head {last}, a caller at {ahead}: {position}"
    );

    let ahead = Position::new(position.epoch + 1000, 3);
    let put = bench.store.put(&key, record(&key, 1)?, LONG, from(ahead)).await?;
    require!(put.epoch > ahead.epoch && put.seq == 1, "head {position}, a put from {ahead}: {put}");
    let stored = bench.read(&key).await?.record.unwrap_or_default();
    require!(place(&stored)? == put, "a put at {put} carries {}", place(&stored)?);

    let ahead = Position::new(put.epoch, put.seq + 1);
    let groups = bench.store.invalidate_groups(bench.partition(), &[], LONG, from(ahead)).await?;
    require!(groups.epoch > ahead.epoch, "head {put}, groups from {ahead}: {groups}");

    let ahead = Position::new(groups.epoch + 1000, 0);
    let flushed = bench.store.flush(bench.partition(), from(ahead)).await?;
    require!(
        flushed.epoch > ahead.epoch && flushed.seq == 1,
        "head {groups}, a flush from {ahead}: {flushed}"
    );
    Ok(())
}

/// A lease never tells a head that is behind what its caller has seen: what it grants could not be judged.
pub async fn a_lease_is_not_answered_from_behind_its_caller(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "lease-ahead").await?;
    let key = bench.key()?;
    let head = bench.put(&key, record(&key, 1)?).await?;
    let at = Position::new(head.epoch, head.seq + 5);
    let answer = bench.store.lease(&key, LeaseAsk { at, ..ask(token(1)) }).await?;
    require!(answer.head > at, "a caller at {at} was answered from {}", answer.head);
    if let Lease::Value(record) = &answer.lease {
        let epoch = place(record)?.epoch;
        require!(epoch != answer.head.epoch, "a record of a lost history is the answer");
    }
    Ok(())
}

/// Positions at or above 2^53, which a script could not count, are refused and do nothing.
pub async fn positions_at_the_limit_are_refused(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "limit").await?;
    let key = bench.key()?;
    let head = bench.head().await?;
    let (partition, nothing) = (bench.partition(), Invalidation::default());
    for at in [
        Position::new(Position::LIMIT, 0),
        Position::new(head.epoch, Position::LIMIT),
        Position::new(u64::MAX, u64::MAX),
        Position::new(0, Position::LIMIT),
    ] {
        let append = || Append { at, ..append() };
        let refused = [
            bench.store.put(&key, record(&key, 1)?, LONG, append()).await.is_err(),
            bench.store.invalidate(partition, &nothing, append()).await.is_err(),
            bench.store.invalidate_groups(partition, &[], LONG, append()).await.is_err(),
            bench.store.flush(partition, append()).await.is_err(),
            bench.store.lease(&key, LeaseAsk { at, ..ask(token(1)) }).await.is_err(),
        ];
        require!(
            refused == [true; 5],
            "a caller at {at}: put, invalidate, groups, flush, lease refused: {refused:?}"
        );
    }
    require!(!bench.is_stored(&key).await?, "a refused put is stored");
    let after = bench.head().await?;
    require!(after == head.next(), "refused steps moved the head from {head} to {after}");
    Ok(())
}
