//! What the auditor adds to a hit, in instructions ([`edgecache_benches::instructions`]): `cargo xtask bench audit`.
//!
//! Hits in L1 through the whole engine, statistics on, of 20,000 keys by turns, without an auditor and with one that watches so
//! many of them. Time goes on with the reads, 64 a millisecond, so that no read of a watched key is passed over.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Clock, Key, Namespace};
use cache_tiered::{AuditSettings, NodeSettings};
use edgecache_benches::instructions::{asked_for, each};
use edgecache_benches::simulate::markdown;
use edgecache_benches::{node_with, value};

const KEYS: usize = 20_000;
const FEW: u64 = 20_000;
const MANY: u64 = 80_000;
/// Looks at the clock a millisecond.
const LOOKS: u64 = 64;
/// Shares of the keys that are watched.
const RATES: [f64; 3] = [0.0, 0.01, 0.1];
/// What the auditor may add to a hit at 1 %.
const AUDIT_MAX: f64 = 0.03;

/// Time goes on with the looks at it.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> u64 {
        1_000 + self.0.fetch_add(1, Ordering::Relaxed) / LOOKS
    }

    fn wall(&self) -> u64 {
        1_762_000_000_000 + self.0.load(Ordering::Relaxed) / LOOKS
    }
}

/// So many hits; says how many keys are watched, if any are.
fn hits(rate: f64, n: u64) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clock = Arc::new(Ticking(AtomicU64::new(0)));
        let server = Arc::new(EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()));
        let audit = (rate > 0.0).then(|| AuditSettings { rate, keys_max: KEYS, ..AuditSettings::default() });
        let settings = NodeSettings { audit, ..NodeSettings::default() };
        let wishes = |builder: cache_tiered::Builder| builder.clock(clock.clone()).settings(settings);
        let (cache, bench) = node_with("bench", server.clone(), server, KEYS * 2, wishes).await?;
        let namespace = Namespace::new("bench")?;
        let keys =
            (0..KEYS).map(|n| Key::new(&namespace, format!("gpu-{n}"))).collect::<Result<Vec<_>, _>>()?;
        for (n, key) in keys.iter().enumerate() {
            let _ = bench.put(key, value(n)).await?;
        }
        // A proof for all that is read from here on; nothing else of the node runs meanwhile.
        ensure!(cache.sync(Duration::from_secs(5)).await, "the node is not at the head of its log");
        for key in keys.iter().cycle().take(n as usize) {
            black_box(&bench.resident(key));
        }
        let stats = bench.stats();
        ensure!(
            stats.l1_misses == 0 && stats.stale_served == 0,
            "not all of them were fresh hits: {stats:?}"
        );
        cache.stop().await;
        Ok(stats.audit.map_or(0, |audit| audit.keys))
    })
}

fn main() -> Result<()> {
    if let Some((work, n)) = asked_for()? {
        return hits(*RATES.get(work).context("no such work")?, n).map(drop);
    }
    // To see that it works; what is counted is not worth the time there.
    if std::env::args().any(|arg| arg == "--quick" || arg == "--test") {
        return hits(RATES[1], FEW).map(drop);
    }
    let mut lines = vec![["instructions of a hit", "each", "added"].map(str::to_owned).to_vec()];
    let mut counts = Vec::new();
    for (work, rate) in RATES.into_iter().enumerate() {
        let watched = hits(rate, 1)? as f64 / KEYS as f64;
        eprintln!("{:.2} % of the keys watched …", 100.0 * watched);
        counts.push(each(work, FEW, MANY)?);
        let (each, added) = (counts[work], 100.0 * (counts[work] / counts[0] - 1.0));
        let name = format!("{:.2} % of the keys watched", 100.0 * watched);
        lines.push(vec![name, format!("{each:.1}"), format!("{added:.2} %")]);
    }
    print!("{}", markdown(&lines));
    ensure!(counts[1] / counts[0] - 1.0 < AUDIT_MAX, "the auditor adds more than {} %", 100.0 * AUDIT_MAX);
    Ok(())
}
