//! Rules of puts and reads.

use cache_events::{Key, Namespace};

use super::{Bench, Broken, Harness, LONG, SHORT, Verdict, append, place, record, require};
use crate::codec::JsonCodec;
use crate::record::{RecordFormat, VERSION_OFFSET};
use crate::store::{Append, Invalidation};

/// A put writes its position into the header of the record and changes nothing else of it.
pub async fn a_put_is_read_back_with_its_position(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "put").await?;
    let key = bench.key()?;
    require!(!bench.is_stored(&key).await?, "a key that nobody has put is stored");
    let given = record(&key, 5)?;
    let position = bench.put(&key, given.clone()).await?;
    let stored = bench.read(&key).await?.record.ok_or_else(|| Broken("what was put is not there".into()))?;
    let written = place(&stored)?;
    require!(written == position, "put answered {position} and wrote {written} into the record");
    require!(
        stored.len() == given.len() && stored[VERSION_OFFSET..] == given[VERSION_OFFSET..],
        "the record is not the one that was put"
    );
    let opened = RecordFormat::new(1).open::<String, _>(&stored, &key, &JsonCodec);
    require!(opened.is_ok(), "the record does not open: {:?}", opened.err());

    let second = bench.put(&key, given).await?;
    let stored = bench.read(&key).await?.record.unwrap_or_default();
    require!(place(&stored)? == second, "a second put is not what is read");
    Ok(())
}

/// A read answers for each key, in the order of the keys, and knows an epoch.
pub async fn reads_answer_in_order(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "order").await?;
    let keys = [bench.variant("a")?, bench.variant("nobody")?, bench.variant("b")?];
    let first = bench.put(&keys[0], record(&keys[0], 1)?).await?;
    let last = bench.put(&keys[2], record(&keys[2], 1)?).await?;
    let answer = bench.store.read(bench.partition(), &keys).await?;
    let places: Vec<_> = answer.items.iter().map(|item| item.record.as_deref().map(place)).collect();
    require!(
        places == [Some(Ok(first)), None, Some(Ok(last))],
        "asked for a, nobody, b at {first} and {last}; got {places:?}"
    );
    require!(
        answer.epoch > 0 && answer.epoch <= last.epoch,
        "a read of epoch {} after a put at {last}",
        answer.epoch
    );
    let nothing = bench.store.read(bench.partition(), &[]).await?;
    require!(nothing.items.is_empty(), "items for no keys");
    Ok(())
}

/// A record is gone after its time to live, whether it was put or filled.
pub async fn records_expire(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "expire").await?;
    let (put, filled, stays) = (bench.variant("put")?, bench.variant("filled")?, bench.variant("stays")?);
    bench.store.put(&put, record(&put, 1)?, SHORT, append()).await?;
    bench.put(&stays, record(&stays, 1)?).await?;
    bench.granted(&filled, super::token(1)).await?;
    bench.store.fill(&filled, super::token(1), record(&filled, 1)?, SHORT).await?;
    harness.pass(SHORT * 2).await;
    require!(!bench.is_stored(&put).await?, "what was put outlives its time");
    require!(!bench.is_stored(&filled).await?, "what was filled outlives its time");
    require!(bench.is_stored(&stays).await?, "a record left before its time");
    Ok(())
}

/// Every event takes the next position; what appends no event takes none.
pub async fn positions_grow_by_one(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "positions").await?;
    let (key, other) = (bench.key()?, bench.variant("other")?);
    let start = bench.head().await?;
    let mut told = vec![bench.put(&key, record(&key, 1)?).await?, bench.invalidate_keys(&[&key]).await?];
    bench.granted(&other, super::token(1)).await?;
    bench.fill(&other, super::token(1)).await?;
    bench.read(&other).await?;
    told.push(bench.invalidate_resource(0).await?);
    told.push(bench.store.invalidate(bench.partition(), &Invalidation::default(), append()).await?);
    let mut expected = start;
    for position in told {
        expected = expected.next();
        require!(position == expected, "after {start}: {position} where {expected} was due");
    }
    Ok(())
}

/// The public channel carries the object that was given, with members `epoch` and `sequence`.
pub async fn the_public_channel_carries_the_position(harness: &dyn Harness) -> Verdict {
    let bench = Bench::new(harness, "public").await?;
    let Some(mut events) = harness.public_events().await else { return Ok(()) };
    let key = Key::new(&Namespace::new("contract")?, &bench.resource)?;
    let object = serde_json::json!({ "resource_id": bench.resource, "data": { "a": [1, "}"] } });
    let public = Some(object.to_string());
    let position = bench.store.put(&key, record(&key, 1)?, LONG, Append { public, ..append() }).await?;
    let mut expected = object;
    expected["epoch"] = position.epoch.into();
    expected["sequence"] = position.seq.into();
    while let Some(text) = events.next().await {
        let heard: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Broken(format!("not JSON ({error}): {text}")))?;
        if heard == expected {
            return Ok(());
        }
        require!(heard["resource_id"] != expected["resource_id"], "heard {heard} where {expected} was due");
    }
    Err(Broken("the event was not heard on the public channel".into()))
}
