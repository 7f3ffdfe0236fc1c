//! What is wrong between nodes that are each right for themselves.

use std::collections::{BTreeMap, BTreeSet};

use cache_api::operate::{Finding, Findings, NodeInfo, Verdict};

/// Clocks that differ by more make times in events and logs hard to compare. Promises do not depend on them.
const CLOCKS_APART_MS: u64 = 500;

/// Judges what nodes told about themselves, and what one of them heard of the others.
pub(super) fn judge(asked: &[&Findings], roster: Option<&[NodeInfo]>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(roster) = roster.filter(|roster| !roster.is_empty()) {
        let of = |node: &NodeInfo| (node.node_id.clone(), node.fingerprint.clone());
        findings.push(alike(
            "fingerprint",
            roster.iter().map(of),
            Verdict::Problem,
            "give all nodes on one store the same settings of what they share (prefix, partitions, cache types)",
        ));
        let of = |node: &NodeInfo| (node.node_id.clone(), node.version.clone());
        findings.push(alike(
            "version",
            roster.iter().map(of),
            Verdict::Warning,
            "finish the update: nodes of two versions understand each other, but not for longer than it takes",
        ));
    }
    if asked.len() < 2 {
        return findings;
    }
    findings.push(names(asked));
    let of = |of: &&Findings| (of.facts.node_id.clone(), of.facts.store.clone());
    findings.push(alike(
        "one store",
        asked.iter().map(of),
        Verdict::Problem,
        "point all nodes at the same Redis: what is invalidated on one never reaches the others",
    ));
    let of = |of: &&Findings| (of.facts.node_id.clone(), format!("{} ms", of.facts.staleness_bound_ms));
    findings.push(alike(
        "staleness bound",
        asked.iter().map(of),
        Verdict::Warning,
        "set the same cache.staleness_bound on all nodes, so that the promise is the same whoever answers",
    ));
    findings.extend(clocks(asked));
    findings
}

fn finding(check: &str, verdict: Verdict, found: String, cure: Option<&str>) -> Finding {
    Finding { check: check.to_owned(), verdict, found, cure: cure.map(str::to_owned) }
}

/// All nodes say the same, or who says what.
fn alike(check: &str, told: impl Iterator<Item = (String, String)>, verdict: Verdict, cure: &str) -> Finding {
    let mut by_value = BTreeMap::<String, Vec<String>>::new();
    told.for_each(|(node, value)| by_value.entry(value).or_default().push(node));
    let nodes: usize = by_value.values().map(Vec::len).sum();
    match by_value.len() {
        0 | 1 => {
            let value = by_value.keys().next().cloned().unwrap_or_default();
            finding(check, Verdict::Ok, format!("the same on {nodes} nodes: {value}"), None)
        }
        _ => {
            let groups = by_value.iter().map(|(value, nodes)| format!("{value} on {}", nodes.join(", ")));
            finding(check, verdict, groups.collect::<Vec<_>>().join("; "), Some(cure))
        }
    }
}

/// Two nodes of one name are one node for the others.
fn names(asked: &[&Findings]) -> Finding {
    let mut seen = BTreeSet::new();
    // The same node may be asked under two addresses.
    let nodes: BTreeSet<_> = asked.iter().map(|of| (&of.facts.node_id, &of.facts.started_at)).collect();
    let twice: BTreeSet<_> =
        nodes.iter().filter(|(name, _)| !seen.insert(*name)).map(|(name, _)| *name).collect();
    match twice.first() {
        None => finding("names", Verdict::Ok, format!("each of {} nodes has its own", seen.len()), None),
        Some(name) => finding(
            "names",
            Verdict::Problem,
            format!("several nodes are called {name}"),
            Some(
                "give each node a name of its own (node.id, EDGE_NODE_ID): they overhear each other's events",
            ),
        ),
    }
}

/// Each node knows how far the clock of the store is from its own, so the difference of two nodes is known too.
fn clocks(asked: &[&Findings]) -> Option<Finding> {
    let known = asked.iter().filter_map(|of| Some((of.facts.clock_offset_ms?, &of.facts.node_id)));
    let known: Vec<_> = known.collect();
    let (first, last) = (known.iter().min()?, known.iter().max()?);
    let apart = last.0.abs_diff(first.0);
    // The store's clock less the node's: the greater, the further behind the node is.
    let found = format!("{} is {apart} ms behind {}", last.1, first.1);
    Some(match apart > CLOCKS_APART_MS {
        false => finding("clocks of the nodes", Verdict::Ok, format!("at most {apart} ms apart"), None),
        true => finding(
            "clocks of the nodes",
            Verdict::Warning,
            found,
            Some("synchronize the clocks (chrony, ntpd)"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use cache_api::operate::NodeFacts;

    use super::*;

    fn node(name: &str, store: &str, offset: i64, bound: u64) -> Findings {
        let facts = NodeFacts {
            node_id: name.into(),
            started_at: name.into(),
            store: store.into(),
            clock_offset_ms: Some(offset),
            staleness_bound_ms: bound,
            ..NodeFacts::default()
        };
        Findings { facts, findings: Vec::new() }
    }

    fn verdicts(nodes: &[Findings]) -> Vec<(String, Verdict)> {
        let found = judge(&nodes.iter().collect::<Vec<_>>(), None);
        found.into_iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn nodes_that_agree_are_well() {
        let found = verdicts(&[node("a", "s", 3, 2000), node("b", "s", -4, 2000)]);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|(_, verdict)| *verdict == Verdict::Ok), "{found:?}");
    }

    #[test]
    fn what_differs_is_told_with_who_says_what() {
        let nodes = [node("a", "s", 0, 2000), node("b", "other", 900, 5000)];
        let found = judge(&nodes.iter().collect::<Vec<_>>(), None);
        let of = |check: &str| found.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(of("one store").verdict, Verdict::Problem);
        assert_eq!(of("one store").found, "other on b; s on a");
        assert_eq!(of("staleness bound").verdict, Verdict::Warning);
        assert_eq!(of("clocks of the nodes").found, "b is 900 ms behind a");
        assert!(found.iter().all(|finding| (finding.verdict == Verdict::Ok) == finding.cure.is_none()));
    }

    #[test]
    fn two_nodes_of_one_name_are_found_and_one_asked_twice_is_not() {
        let mut twin = node("a", "s", 0, 2000);
        assert_eq!(verdicts(&[node("a", "s", 0, 2000), twin.clone()])[0], ("names".into(), Verdict::Ok));
        twin.facts.started_at = "later".into();
        assert_eq!(verdicts(&[node("a", "s", 0, 2000), twin])[0], ("names".into(), Verdict::Problem));
    }
}
