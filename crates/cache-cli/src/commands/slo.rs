//! `cachectl slo`

use cache_api::operate::{SloReport, SloTarget};

use super::Context;
use super::alerts::figure;
use crate::arguments::SloArgs;
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, bad, faint, good, maybe, plain};

pub(super) fn run(cx: &Context, args: &SloArgs) -> Result<Verdict, Failure> {
    cx.each(|client| client.get::<SloReport>("/node/slo"), draw, |report| missed(report, args.strict))
}

fn missed(report: &SloReport, strict: bool) -> bool {
    !report.met || (strict && report.targets.iter().any(|target| target.met.is_none()))
}

fn draw(page: &mut Page, report: &SloReport) {
    let row = |target: &SloTarget| -> Vec<Word> {
        let verdict = match target.met {
            Some(true) => good("met"),
            Some(false) => bad("missed"),
            None => faint("no samples"),
        };
        vec![
            plain(&target.name),
            plain(format!("{} {}", target.direction, figure(target.target, &target.unit))),
            maybe(target.found.map(|found| figure(found, &target.unit))),
            plain(target.samples),
            verdict,
        ]
    };
    page.table(
        &["target", "wanted", "found", "samples", "verdict"],
        report.targets.iter().map(row).collect(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(met: Option<bool>) -> SloTarget {
        SloTarget {
            name: "response".into(),
            direction: "below".into(),
            target: 5.0,
            found: met.map(|_| 1.0),
            unit: "ms".into(),
            samples: 0,
            met,
        }
    }

    #[test]
    fn without_samples_nothing_is_missed_unless_that_is_asked_for() {
        let report = |met: Option<bool>| SloReport { targets: vec![target(met)], met: met != Some(false) };
        assert!(!missed(&report(None), false) && missed(&report(None), true));
        assert!(missed(&report(Some(false)), false) && !missed(&report(Some(true)), true));
    }
}
