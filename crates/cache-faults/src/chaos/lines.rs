//! What a seed does to lines and to clocks.

use std::time::Duration;

use cache_testkit::Fault;
use fastrand::Rng;

use super::Diary;
use crate::deployment::Line;
use crate::storm::now;

const HOUR: Duration = Duration::from_secs(3_600);

/// One fault after the other, each on one node, until the time is over.
pub(super) async fn rage(lines: &[Line], lasts: Duration, mut random: Rng, diary: &Diary) {
    let began = now();
    while began.elapsed() < lasts {
        let node = random.usize(0..lines.len());
        let line = &lines[node];
        let time = Duration::from_millis(random.u64(50..2_000));
        let on = format!(", node {node}, {} ms", time.as_millis());
        // Where clients learn addresses from servers there is nothing between them.
        let kinds = if line.proxies.is_empty() { 6 } else { 13 };
        match random.u8(0..kinds) {
            0 => {
                diary.note("hints lost, repeated and reordered", &on);
                line.hints.disorder(random.u8(10..120));
            }
            1 => {
                diary.note("all hints lost", &on);
                line.hints.lose_hints(true);
            }
            2 => {
                diary.note("bus cut", &on);
                line.hints.cut();
            }
            3 => {
                diary.note("hints held back", &on);
                line.hints.hold_hints(true);
            }
            4 => {
                diary.note("clock of a node an hour ahead", &on);
                line.clock.forward(HOUR);
            }
            5 => {
                diary.note("clock of a node an hour behind", &on);
                line.clock.back(HOUR);
            }
            6 => wire(line, Fault::BlackHole, "black hole", &on, diary),
            7 => wire(line, Fault::SwallowAnswers, "answers lost", &on, diary),
            8 => wire(line, Fault::SwallowRequests, "requests lost", &on, diary),
            9 => wire(line, Fault::Stall, "nobody listens", &on, diary),
            10 => wire(line, Fault::Reset, "connections reset", &on, diary),
            11 => {
                let by = Duration::from_millis(random.u64(5..100));
                wire(line, Fault::Delay(by), "slow network", &on, diary);
            }
            _ => {
                diary.note("open connections black-holed", &on);
                line.proxies.iter().for_each(|proxy| proxy.set_current(Fault::BlackHole));
            }
        }
        tokio::time::sleep(time).await;
        line.hints.heal();
        line.set(Fault::Pass);
        tokio::time::sleep(Duration::from_millis(random.u64(0..600))).await;
    }
}

fn wire(line: &Line, fault: Fault, kind: &'static str, on: &str, diary: &Diary) {
    diary.note(kind, on);
    line.set(fault);
}
