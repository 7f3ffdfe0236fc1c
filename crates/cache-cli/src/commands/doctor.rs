//! `cachectl doctor`: what nodes find around them, and what is wrong between them.

use cache_api::operate::{Finding, Findings, NodeInfo, Nodes, Verdict as Found};
use serde::Serialize;

use super::Context;
use crate::arguments::DoctorArgs;
use crate::client::Client;
use crate::failure::{Failure, Told, Verdict};
use crate::screen::{Page, Word, bad, faint, good, odd, plain};

/// What was found, node by node and between them.
#[derive(Debug, Serialize)]
struct Report {
    nodes: Vec<OfNode>,
    between: Vec<Finding>,
}

/// What one node found.
#[derive(Debug, Serialize)]
struct OfNode {
    node: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    found: Option<Findings>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    failed: Option<Told>,
}

pub(super) fn run(cx: &Context, args: &DoctorArgs) -> Result<Verdict, Failure> {
    let mut clients = cx.clients.clone();
    let roster = roster(&clients);
    if args.all_nodes {
        for url in roster.iter().flatten().filter_map(|node| node.url.as_deref().filter(|_| !node.me)) {
            let client = cx.other(url)?;
            if !clients.iter().any(|known| known.node() == client.node()) {
                clients.push(client);
            }
        }
    }
    let (mut nodes, mut first) = (Vec::new(), None);
    for client in &clients {
        let (found, failed) = match client.get::<Findings>("/node/doctor") {
            Ok(found) => (Some(found), None),
            Err(failure) => {
                let told = failure.told();
                first.get_or_insert(failure);
                (None, Some(told))
            }
        };
        nodes.push(OfNode { node: client.node().to_owned(), found, failed });
    }
    // Where nobody answered there is nothing to be shown.
    if nodes.iter().all(|of| of.found.is_none())
        && let Some(failure) = first
    {
        return Err(failure);
    }
    let asked: Vec<&Findings> = nodes.iter().filter_map(|of| of.found.as_ref()).collect();
    let between = super::between::judge(&asked, roster.as_deref());
    let report = Report { nodes, between };
    cx.screen.show(&report, |page| draw(page, &report, args.quiet))?;
    if let Some(failure) = first {
        return Err(failure);
    }
    let worst = report.nodes.iter().filter_map(|of| of.found.as_ref()).flat_map(|found| &found.findings);
    let worst = worst.chain(&report.between).map(|finding| finding.verdict).max();
    let limit = if args.strict { Found::Warning } else { Found::Problem };
    Ok(Verdict::wrong_if(worst.is_some_and(|worst| worst >= limit)))
}

/// The nodes that the first one which answers knows of; nothing where none says.
fn roster(clients: &[Client]) -> Option<Vec<NodeInfo>> {
    clients.iter().find_map(|client| client.get::<Nodes>("/nodes").ok()).map(|roster| roster.nodes)
}

fn draw(page: &mut Page, report: &Report, quiet: bool) {
    for of in &report.nodes {
        match (&of.found, &of.failed) {
            (Some(found), _) => {
                page.line(&[plain(format!("{} at {}", found.facts.node_id, of.node))]);
                table(page, &found.findings, quiet);
            }
            (None, told) => {
                page.line(&[plain(&of.node), bad(told.as_ref().map_or("", |told| &told.error))]);
            }
        }
        page.gap();
    }
    if !report.between.is_empty() {
        page.line(&[plain("between the nodes")]);
        table(page, &report.between, quiet);
    }
}

fn table(page: &mut Page, findings: &[Finding], quiet: bool) {
    let shown = findings.iter().filter(|finding| !quiet || finding.verdict != Found::Ok);
    let rows: Vec<Vec<Word>> = shown
        .map(|finding| {
            let verdict = match finding.verdict {
                Found::Ok => good("ok"),
                Found::Unknown => faint("unknown"),
                Found::Warning => odd("warning"),
                Found::Problem => bad("problem"),
            };
            let cure = finding.cure.as_ref().map(|cure| format!("\n→ {cure}")).unwrap_or_default();
            vec![verdict, plain(&finding.check), plain(format!("{}{cure}", finding.found))]
        })
        .collect();
    match rows.is_empty() {
        true => page.line(&[good("all is well")]),
        false => page.table(&["verdict", "check", "found"], rows),
    }
}
