//! What the sync of a node costs Redis: its processor time over some seconds with no node, and with N idle nodes.

use std::time::Duration;

use cache_bus::BusConfig;
use cache_redis::RedisConfig;
use cache_testkit::RedisServer;
use edgecache_benches::placed::ports;
use edgecache_benches::{node, now, quick};

/// Seconds of processor time that the server has used.
fn used(server: &RedisServer) -> anyhow::Result<f64> {
    let of = |field| server.info("cpu", field).parse::<f64>();
    Ok(of("used_cpu_user")? + of("used_cpu_sys")?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let span = if quick() { Duration::from_millis(500) } else { Duration::from_secs(10) };
    let counts: &[usize] = if quick() { &[4] } else { &[16, 64, 128] };
    let interval = BusConfig::default().sync_interval;
    println!("| nodes | processor time of Redis a second | for one sync | 1,000 nodes |");
    println!("|---|---|---|---|");
    for &count in counts {
        let server = RedisServer::start();
        let config = RedisConfig::from_url(&server.url())?;
        let share = async |span: Duration| -> anyhow::Result<f64> {
            let (began, had) = (now(), used(&server)?);
            tokio::time::sleep(span).await;
            Ok((used(&server)? - had) / began.elapsed().as_secs_f64())
        };
        let idle = share(span / 2).await?;
        let mut nodes = Vec::new();
        for n in 0..count {
            let (store, transport) = ports(&config)?;
            nodes.push(node(&format!("n{n}"), store, transport, 1_000).await?.0);
        }
        let busy = share(span).await? - idle;
        let each = busy * interval.as_secs_f64() / count as f64;
        println!(
            "| {count} | {:.1} ms | {:.0} µs | {:.0} % of a core |",
            busy * 1e3,
            each * 1e6,
            each * 1e5 / interval.as_secs_f64()
        );
        for node in nodes {
            node.stop().await;
        }
    }
    Ok(())
}
