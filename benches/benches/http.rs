//! Requests a second for a cached read over HTTP, without and with a token, against a bare axum handler that answers the same
//! bytes as a constant. Both are in this process, on ports of their own; `wrk` asks, in interleaved rounds.

use std::process::Command;

use anyhow::{Context, bail, ensure};
use axum::http::header;
use axum::routing::get;
use cache_node::config::{Sources, load};
use cache_node::node::Node;
use edgecache_benches::quick;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const VALUE: &str = r#"{"gpu_type":"H100_80GB_SXM5","region":"us-east","base_price_per_hour":2100000,"current_price_per_hour":2520000,"last_updated":1763700000000}"#;
const PATH: &str = "/cache/gpu_pricing/H100_80GB_SXM5?region=us-east";
const TOKEN: &str = "a-token-of-the-usual-length-0123456789abcdef";
/// What the cached read must reach of the bare handler.
const TARGET: f64 = 0.8;

/// Requests a second, as `wrk` counts them.
fn ask(url: &str, seconds: u32, token: Option<&str>) -> anyhow::Result<f64> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c32", &format!("-d{seconds}s")]);
    if let Some(token) = token {
        wrk.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let done = wrk.arg(url).output().context("wrk is needed (Debian: apt-get install wrk)")?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success() && !said.contains("Non-2xx"), "wrk says: {said}");
    let figure = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    figure.and_then(|figure| figure.trim().parse().ok()).with_context(|| format!("wrk says: {said}"))
}

struct Serving {
    base: String,
    served: JoinHandle<anyhow::Result<()>>,
}

/// A node that holds the value, as it would be served: with the logs of requests that are on by default.
async fn node(token: Option<&str>, shutdown: &CancellationToken) -> anyhow::Result<Serving> {
    let env = token.map(|token| ("CACHE_AUTH_TOKEN".to_owned(), token.to_owned())).into_iter().collect();
    let flags = vec![("listen", "--listen", "127.0.0.1:0".to_owned())];
    let node = Node::start(load(&Sources { file: None, env, flags })?).await?;
    let base = format!("http://{}", node.address()?);
    let prices = node.cache().json("gpu_pricing")?;
    let namespace = cache_events::Namespace::new("gpu_pricing")?;
    let key = cache_events::Key::builder(&namespace, "H100_80GB_SXM5").param("region", "us-east").build()?;
    let _ = prices.put(&key, serde_json::from_str(VALUE)?, &cache_tiered::WriteOptions::default()).await?;
    Ok(Serving { base, served: spawned(node.serve(shutdown.clone())) })
}

async fn bare(shutdown: &CancellationToken) -> anyhow::Result<Serving> {
    let constant = get(async || ([(header::CONTENT_TYPE, "application/json")], VALUE));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let router = axum::Router::new().route("/cache/{cache_type}/{*resource}", constant);
    let stopping = shutdown.clone().cancelled_owned();
    let served =
        spawned(async move { Ok(axum::serve(listener, router).with_graceful_shutdown(stopping).await?) });
    Ok(Serving { base, served })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the servers live as long as the benchmark, which waits for them"
)]
fn spawned(
    server: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(server)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let shutdown = CancellationToken::new();
    let servers = runtime.block_on(async {
        Ok::<_, anyhow::Error>([
            bare(&shutdown).await?,
            node(None, &shutdown).await?,
            node(Some(TOKEN), &shutdown).await?,
        ])
    })?;
    let (rounds, seconds) = if quick() { (1, 1) } else { (9, 2) };
    let mut figures = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((server, token), figures) in servers.iter().zip([None, None, Some(TOKEN)]).zip(&mut figures) {
            figures.push(ask(&format!("{}{PATH}", server.base), seconds, token)?);
        }
    }
    let of_round =
        |n: usize| median(figures[n].iter().zip(&figures[0]).map(|(this, bare)| this / bare).collect());
    let ratios = [1.0, of_round(1), of_round(2)];
    println!("| | requests a second | of the bare handler |");
    println!("|---|---|---|");
    for ((name, figures), ratio) in ["bare axum handler, constant", "cached read", "cached read with a token"]
        .iter()
        .zip(figures)
        .zip(ratios)
    {
        println!("| {name} | {:.0} | {:.0} % |", median(figures), ratio * 100.0);
    }
    shutdown.cancel();
    for server in servers {
        runtime.block_on(server.served)??;
    }
    if !quick() && ratios[1].min(ratios[2]) < TARGET {
        bail!("the target is {:.0} %", TARGET * 100.0);
    }
    Ok(())
}
