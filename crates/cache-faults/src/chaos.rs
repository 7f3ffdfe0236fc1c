//! A storm in which a seed draws what happens to servers and to lines, two things at a time.
//!
//! What happens, and in which order, follows from the seed; how much of it happens within the time, and when exactly, from
//! the servers. No run is like another, but its list can be read, and each fault of it has a row of its own.

mod lines;
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deployment::{Servers, Setup, nodes};
use crate::storm::{Seen, Storm, Weather, now};

/// What a chaos has shown.
pub struct Chaos {
    /// Over what.
    pub topology: &'static str,
    /// What the readers saw.
    pub seen: Seen,
    /// How many faults of each kind.
    pub figures: Vec<String>,
    /// What went wrong.
    pub result: anyhow::Result<()>,
}

/// Tells what happens, as it happens, and counts it.
#[derive(Clone)]
struct Diary {
    began: Instant,
    drawn: Arc<parking_lot::Mutex<Vec<&'static str>>>,
}

impl Diary {
    fn note(&self, kind: &'static str, details: &str) {
        eprintln!("  {:>5.1} s  {kind}{details}", self.began.elapsed().as_secs_f32());
        self.drawn.lock().push(kind);
    }

    fn figure(&self) -> String {
        let mut drawn = self.drawn.lock().clone();
        drawn.sort_unstable();
        let kinds = drawn.chunk_by(|a, b| a == b);
        let counted: Vec<String> = kinds.map(|same| format!("{} × {}", same.len(), same[0])).collect();
        format!("{} faults: {}", drawn.len(), counted.join(", "))
    }
}

/// Lets random things happen for so long, and judges what readers saw.
pub async fn run(servers: fn() -> Servers, lasts: Duration, seed: u64) -> Chaos {
    let mut chaos = Chaos { topology: "", seen: Seen::default(), figures: Vec::new(), result: Ok(()) };
    chaos.result = rage(&mut chaos, servers, lasts, seed).await;
    chaos
}

async fn rage(chaos: &mut Chaos, servers: fn() -> Servers, lasts: Duration, seed: u64) -> anyhow::Result<()> {
    let mut servers = tokio::task::spawn_blocking(servers).await?;
    chaos.topology = servers.topology();
    let (nodes, lines) = nodes(&servers, 3, &Setup::default()).await?;
    let lines = Arc::new(lines);
    let storm = Storm::begin(nodes, None, Weather::default(), seed).await?;
    // Of one seed each kind of deployment has faults of its own.
    let seed = chaos.topology.bytes().fold(seed, |mixed, byte| mixed.rotate_left(9) ^ u64::from(byte));
    let diary = Diary { began: now(), drawn: Arc::default() };
    let (told, beside) = (diary.clone(), lines.clone());
    // Servers are processes, and one waits for them in a thread.
    let happens = tokio::task::spawn_blocking(move || {
        servers::rage(&mut servers, &beside, lasts, fastrand::Rng::with_seed(seed), &told);
        servers
    });
    lines::rage(&lines, lasts, fastrand::Rng::with_seed(!seed), &diary).await;
    let happened = happens.await;
    chaos.seen = storm.seen();
    chaos.figures.push(diary.figure());
    let servers = happened?;
    let live = storm.live().await?;
    chaos.figures.push(format!("all nodes live {} ms after the last fault", live.as_millis()));
    let (seen, ended) = storm.end().await;
    chaos.seen = seen;
    tokio::task::spawn_blocking(move || drop(servers)).await?;
    ended
}
