//! `cachectl diff`
//!
//! Each node keeps in its L1 what was asked of it, so that one has what another has not says nothing. That both hold a
//! key with another value may be a change under way; if the older of the two is still there after the staleness bound,
//! that node serves what it must not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cache_api::Stats;
use cache_api::operate::{Entries, EntrySummary};
use serde::Serialize;

use super::{Context, nothing, path};
use crate::arguments::DiffArgs;
use crate::client::{Client, escaped};
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, bad, good, maybe, odd, plain, span};

/// What was found of all cache types.
#[derive(Debug, Default, Serialize)]
struct Report {
    left: String,
    right: String,
    /// Keys that both hold with the same value.
    same: u64,
    only_left: u64,
    only_right: u64,
    /// Differences of the first look that were gone at the second.
    passed: u64,
    /// Differences that lasted.
    differences: Vec<Difference>,
    /// Cache types of which a node has more than were compared.
    truncated: Vec<String>,
}

/// A key of which two nodes hold different values.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Difference {
    cache_type: String,
    key: String,
    /// The node that holds what is older; null where that cannot be told.
    older: Option<&'static str>,
    left: EntrySummary,
    right: EntrySummary,
}

/// What two nodes hold of a cache type, compared.
#[derive(Debug, Default)]
struct Look {
    same: u64,
    only_left: u64,
    only_right: u64,
    differences: Vec<Difference>,
    truncated: bool,
}

pub(super) fn run(cx: &Context, args: &DiffArgs) -> Result<Verdict, Failure> {
    let (left, right) = (cx.other(&args.left)?, cx.other(&args.right)?);
    let types = match args.cache_types.is_empty() {
        false => args.cache_types.iter().cloned().collect(),
        true => known(&left)?,
    };
    let limit = args.limit.to_string();
    let look = |cache_type: &str| -> Result<Look, Failure> {
        let path = path(&format!("/node/entries/{}", escaped(cache_type)), &[("limit", &limit)]);
        Ok(compare(cache_type, left.get(&path)?, right.get(&path)?))
    };
    let mut report =
        Report { left: left.node().to_owned(), right: right.node().to_owned(), ..Report::default() };
    let mut candidates = Vec::new();
    for cache_type in &types {
        let found = look(cache_type)?;
        report.same += found.same;
        report.only_left += found.only_left;
        report.only_right += found.only_right;
        if found.truncated {
            report.truncated.push(cache_type.clone());
        }
        candidates.extend(found.differences);
    }
    if !candidates.is_empty() {
        wait(args.settle);
        let again: BTreeSet<&str> = candidates.iter().map(|found| found.cache_type.as_str()).collect();
        let mut second = Vec::new();
        for cache_type in again {
            second.extend(look(cache_type)?.differences);
        }
        report.differences = lasting(&candidates, second);
        report.passed = (candidates.len() - report.differences.len()) as u64;
    }
    cx.screen.show(&report, |page| draw(page, &report, args.settle))?;
    Ok(Verdict::wrong_if(!report.differences.is_empty()))
}

/// The cache types of a node.
fn known(client: &Client) -> Result<BTreeSet<String>, Failure> {
    let stats: Stats = client.get("/cache/stats")?;
    Ok(stats.namespaces.into_values().map(|space| space.cache_type).collect())
}

#[expect(clippy::disallowed_methods, reason = "the time that nodes may take is part of the question")]
fn wait(settle: Duration) {
    std::thread::sleep(settle);
}

fn compare(cache_type: &str, left: Entries, right: Entries) -> Look {
    let mut look = Look { truncated: left.truncated || right.truncated, ..Look::default() };
    let mut others: BTreeMap<String, EntrySummary> =
        right.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    for left in left.entries {
        let Some(right) = others.remove(&left.key) else {
            look.only_left += 1;
            continue;
        };
        // The position alone may differ: it is where the node was when it took the value.
        if (left.version, &left.digest) == (right.version, &right.digest) {
            look.same += 1;
            continue;
        }
        let older = older(&left, &right);
        let (cache_type, key) = (cache_type.to_owned(), left.key.clone());
        look.differences.push(Difference { cache_type, key, older, left, right });
    }
    look.only_right = others.len() as u64;
    look
}

/// Which of two entries is older: by version where both have one, else by position.
fn older(left: &EntrySummary, right: &EntrySummary) -> Option<&'static str> {
    let by = match (left.version, right.version) {
        (Some(left), Some(right)) if left != right => left.cmp(&right),
        _ => numbers(&left.position).cmp(&numbers(&right.position)),
    };
    match by {
        std::cmp::Ordering::Less => Some("left"),
        std::cmp::Ordering::Greater => Some("right"),
        std::cmp::Ordering::Equal => None,
    }
}

/// The numbers of a position, which come from the most to the least significant.
fn numbers(position: &str) -> Vec<u64> {
    position.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The differences of the second look whose older side is what it was at the first.
fn lasting(first: &[Difference], second: Vec<Difference>) -> Vec<Difference> {
    let before: BTreeMap<(&str, &str), &Difference> =
        first.iter().map(|found| ((found.cache_type.as_str(), found.key.as_str()), found)).collect();
    let lasts = |now: &Difference| {
        let Some(then) = before.get(&(now.cache_type.as_str(), now.key.as_str())) else { return false };
        match now.older {
            Some("left") => now.left == then.left,
            Some(_) => now.right == then.right,
            None => now.left == then.left && now.right == then.right,
        }
    };
    second.into_iter().filter(lasts).collect()
}

fn draw(page: &mut Page, report: &Report, settle: Duration) {
    page.fields([
        ("left", plain(&report.left)),
        ("right", plain(&report.right)),
        ("same", plain(report.same)),
        ("only left, only right", plain(format!("{}, {}", report.only_left, report.only_right))),
        ("differed and passed", plain(report.passed)),
    ]);
    if !report.truncated.is_empty() {
        let which = report.truncated.join(", ");
        page.line(&[odd(format!("not all was compared of: {which} (see --limit)"))]);
    }
    page.gap();
    if report.same + report.only_left + report.only_right == 0 && report.differences.is_empty() {
        return nothing(page, "neither holds anything");
    }
    let settle = span(u64::try_from(settle.as_millis()).unwrap_or(u64::MAX));
    if report.differences.is_empty() {
        page.line(&[good(format!("no difference lasted for {settle}"))]);
        return;
    }
    page.line(&[bad(format!("differences that lasted for {settle}: {}", report.differences.len()))]);
    let rows = report.differences.iter().map(|found| {
        let side = |entry: &EntrySummary| {
            let version = entry.version.map(|version| format!(" v{version}")).unwrap_or_default();
            plain(format!("{}{version} {}", entry.position, entry.digest))
        };
        vec![plain(&found.key), maybe(found.older), side(&found.left), side(&found.right)]
    });
    page.table(&["key", "older", "left", "right"], rows.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, position: &str, digest: &str) -> EntrySummary {
        EntrySummary { key: key.into(), position: position.into(), version: None, digest: digest.into() }
    }

    fn entries(list: &[(&str, &str, &str)]) -> Entries {
        let entries = list.iter().map(|(key, position, digest)| entry(key, position, digest));
        Entries { entries: entries.collect(), truncated: false }
    }

    #[test]
    fn what_only_one_holds_and_another_position_are_no_differences() {
        let left = entries(&[("a", "0:1:1", "x"), ("b", "0:1:2", "y"), ("l", "0:1:1", "z")]);
        let right =
            entries(&[("a", "0:1:9", "x"), ("b", "0:1:10", "w"), ("r", "0:1:1", "z"), ("s", "0:1:1", "z")]);
        let look = compare("t", left, right);
        assert_eq!((look.same, look.only_left, look.only_right), (1, 1, 2));
        assert_eq!(look.differences.len(), 1);
        // As numbers, not as text.
        assert_eq!(look.differences[0].older, Some("left"));
    }

    #[test]
    fn a_version_says_more_than_a_position() {
        let with =
            |position: &str, version| EntrySummary { version: Some(version), ..entry("k", position, "x") };
        assert_eq!(older(&with("0:1:9", 3), &with("0:1:1", 4)), Some("left"));
        assert_eq!(older(&with("0:1:9", 3), &with("0:1:9", 3)), None);
    }

    #[test]
    fn only_an_old_value_that_stays_is_a_lasting_difference() {
        let differ = |left: (&str, &str), right: (&str, &str)| {
            compare("t", entries(&[("k", left.0, left.1)]), entries(&[("k", right.0, right.1)])).differences
        };
        let first = differ(("0:1:1", "old"), ("0:1:2", "new"));
        // The old one stayed, and the new one may even have moved on.
        assert_eq!(lasting(&first, differ(("0:1:1", "old"), ("0:1:2", "new"))).len(), 1);
        assert_eq!(lasting(&first, differ(("0:1:1", "old"), ("0:1:3", "newer"))).len(), 1);
        // Both moved on: a key that is changed all the time.
        assert_eq!(lasting(&first, differ(("0:1:3", "newer"), ("0:1:4", "newest"))), []);
        assert_eq!(lasting(&first, Vec::new()), []);
    }
}
