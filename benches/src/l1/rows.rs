//! The rows: what is done in them, and what must be true of it whatever the time it took.

use anyhow::{Result, bail, ensure};

use super::{Key, Outcome, Pace, Record, Value, contest, value};

/// Entries of the rows of hits, and of those with a bound.
const ENTRIES: usize = 10_000;
/// Distinct keys of the reads through the cache.
const ZIPF_KEYS: usize = 100_000;
const ZIPF_EXPONENT: f64 = 0.99;
/// Keys that are read while others come in.
const HOT_KEYS: usize = 1_000;

/// The rows there are.
pub const NAMES: [&str; 5] = ["get", "get_text", "zipf", "insert", "get_beside_inserts"];

/// Runs the named rows, all if none is named; `starts` is told the title of each.
///
/// # Errors
/// If a row does not exist, a cache cannot be made, or one did not do what the row is about.
pub fn rows(pace: Pace, only: &[String], starts: impl Fn(&str)) -> Result<Vec<Outcome>> {
    for name in only {
        if !NAMES.contains(&name.as_str()) {
            bail!("there is no row {name:?}; there are: {}", NAMES.join(", "));
        }
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut outcomes = Vec::new();
    for threads in [1, 2] {
        if wanted("get") {
            starts("get");
            outcomes.push(gets::<u64>("get", "get, 10,000 entries, all hits, `u64` keys", threads, pace)?);
        }
    }
    if wanted("get_text") {
        starts("get_text");
        outcomes.push(gets::<String>(
            "get_text",
            "get, 10,000 entries, all hits, keys of 33 bytes",
            1,
            pace,
        )?);
    }
    for threads in [1, 2] {
        if wanted("zipf") {
            starts("zipf");
            outcomes.push(reads_through(threads, pace)?);
        }
    }
    for threads in [1, 2] {
        if wanted("insert") {
            starts("insert");
            outcomes.push(inserts(threads, pace)?);
        }
    }
    if wanted("get_beside_inserts") {
        starts("get_beside_inserts");
        outcomes.extend(gets_beside_inserts(pace)?);
    }
    Ok(outcomes)
}

fn pairs<K: Key>(count: usize) -> Vec<(K, Value)> {
    (0..count as u64).map(|n| (K::nth(n), value(n))).collect()
}

fn gets<K: Key>(what: &'static str, title: &str, threads: usize, pace: Pace) -> Result<Outcome> {
    let pairs = pairs::<K>(ENTRIES);
    let mut rng = fastrand::Rng::with_seed(1);
    let keys: Vec<K> = (0..65_536).map(|_| pairs[rng.usize(0..ENTRIES)].0.clone()).collect();
    // Room for twice as many, so that no shard is full.
    let records = contest(
        pace.rounds,
        2 * ENTRIES,
        false,
        |cache| cache.fill(&pairs),
        |cache, _| cache.gets(&keys, threads, pace.lap),
    )?;
    for Record { name, laps, entries } in &records {
        ensure!(
            entries.is_none_or(|entries| entries == ENTRIES),
            "{name} holds {entries:?} of {ENTRIES} entries"
        );
        let all = laps.iter().all(|lap| lap.hits == lap.operations);
        ensure!(all, "{name}: not all were hits: {laps:?}");
    }
    Ok(Outcome::new(what, title, threads, &records, |lap| lap.ns))
}

fn reads_through(threads: usize, pace: Pace) -> Result<Outcome> {
    let keys = zipf(ZIPF_KEYS, ZIPF_EXPONENT, 1 << 20, 2);
    let full = pairs::<u64>(2 * ENTRIES);
    let values: Vec<Value> = (0..1_024).map(value).collect();
    let records = contest(
        pace.rounds,
        ENTRIES,
        true,
        // Full, whatever the pace, and then some time to learn what is asked for.
        |cache| {
            cache.fill(&full);
            cache.reads_through(&keys, &values, 1, 8 * pace.lap, 0);
        },
        |cache, turn| cache.reads_through(&keys, &values, threads, pace.lap, turn * keys.len() / pace.rounds),
    )?;
    check_bounds(&records, ENTRIES)?;
    for Record { name, laps, .. } in &records {
        let hits: u64 = laps.iter().map(|lap| lap.hits).sum();
        let of: u64 = laps.iter().map(|lap| lap.operations).sum();
        // The 10,000 most popular keys get 78 % of the requests; in a short lap it may be more or less.
        let ratio = hits as f64 / of as f64;
        ensure!((0.5..0.95).contains(&ratio), "{name}: a hit ratio of {ratio} cannot be");
    }
    let title = "read-through, Zipf 0.99 over 100,000 keys, room for 10,000";
    Ok(Outcome::new("zipf", title, threads, &records, |lap| lap.ns))
}

fn inserts(threads: usize, pace: Pace) -> Result<Outcome> {
    let pairs = pairs::<u64>(ENTRIES);
    let values: Vec<Value> = (0..1_024).map(value).collect();
    let records = contest(
        pace.rounds,
        ENTRIES,
        true,
        |cache| cache.fill(&pairs),
        |cache, turn| cache.inserts(&values, threads, pace.lap, (turn as u64 + 1) << 48),
    )?;
    check_bounds(&records, ENTRIES)?;
    Ok(Outcome::new(
        "insert",
        "insert of a new key, room for 10,000, each drives one out",
        threads,
        &records,
        |lap| lap.ns,
    ))
}

fn gets_beside_inserts(pace: Pace) -> Result<[Outcome; 2]> {
    let full = pairs::<u64>(ENTRIES);
    let hot = &full[..HOT_KEYS];
    let values: Vec<Value> = (0..1_024).map(value).collect();
    let records = contest(
        pace.rounds,
        ENTRIES,
        true,
        |cache| cache.fill(&full),
        |cache, turn| cache.duel(hot, &values, pace.lap, (turn as u64 + 1) << 48),
    )?;
    check_bounds(&records, ENTRIES)?;
    for Record { name, laps, .. } in &records {
        ensure!(laps.iter().any(|lap| lap.hits > 0), "{name}: there were no hits: {laps:?}");
    }
    let inserts = "insert of a new key while another thread reads";
    let gets = "p99.9 of get while another thread inserts";
    Ok([
        Outcome::new("insert_beside_gets", inserts, 2, &records, |lap| lap.ns),
        Outcome::new("get_p999_beside_inserts", gets, 2, &records, |lap| lap.aside_ns),
    ])
}

/// Full, and not fuller than allowed.
fn check_bounds(records: &[Record], capacity: usize) -> Result<()> {
    for Record { name, entries, .. } in records {
        let Some(entries) = *entries else { continue };
        // Peers with shards round the shares up.
        let slack = if name.starts_with("cache-l1/") { 0 } else { capacity / 50 };
        ensure!(entries <= capacity + slack, "{name} holds {entries} entries with room for {capacity}");
        ensure!(entries >= capacity / 2, "{name} holds only {entries} entries with room for {capacity}");
    }
    Ok(())
}

/// Requests for keys below `keys`, of which the k-th most popular is asked for by k to the power of minus
/// `exponent`. Which key is how popular is shuffled.
pub fn zipf(keys: usize, exponent: f64, requests: usize, seed: u64) -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut by_rank: Vec<u64> = (0..keys as u64).collect();
    rng.shuffle(&mut by_rank);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let mut draw = || {
        let drawn = rng.f64() * sum;
        by_rank[sums.partition_point(|&sum| sum <= drawn).min(keys - 1)]
    };
    (0..requests).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Lap;
    use super::*;

    #[test]
    fn zipf_is_as_skewed_as_it_says() {
        let requests = zipf(1_000, 0.99, 200_000, 5);
        let mut counts = vec![0_u32; 1_000];
        requests.iter().for_each(|&key| counts[key as usize] += 1);
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let first_by = |rank: usize| f64::from(counts[0]) / f64::from(counts[rank - 1]);
        assert!((1.8..2.2).contains(&first_by(2)), "{}", first_by(2));
        assert!((85.0..115.0).contains(&first_by(100)), "{}", first_by(100));
    }

    #[test]
    fn an_unknown_row_is_told() {
        let error = rows(Pace::SHORT, &["set".to_owned()], |_| ()).unwrap_err().to_string();
        assert!(error.contains("set") && error.contains("zipf"), "{error}");
    }

    #[test]
    fn too_many_entries_are_noticed() {
        let record =
            |name: &str, entries| Record { name: name.to_owned(), laps: vec![Lap::default()], entries };
        assert!(check_bounds(&[record("cache-l1/lru", Some(100)), record("TinyUFO", None)], 100).is_ok());
        assert!(check_bounds(&[record("cache-l1/lru", Some(101))], 100).is_err());
        assert!(check_bounds(&[record("peer", Some(103))], 100).is_err());
        assert!(check_bounds(&[record("peer", Some(49))], 100).is_err());
    }
}
