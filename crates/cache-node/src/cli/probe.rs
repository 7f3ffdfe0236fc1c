//! `cache-node health`: asks the node of this machine how it is, for containers without an HTTP client.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the node may take to answer.
const WITHIN: Duration = Duration::from_secs(3);
/// More than the first line of an answer has.
const FIRST_LINE_BYTES_MAX: u64 = 256;

/// Whether `GET /health` on plain HTTP answers 200: healthy, or degraded but of use.
///
/// # Errors
/// It does not, with what it said.
pub(super) async fn health(listen: &str) -> anyhow::Result<()> {
    let address = reachable(listen);
    let ask = async {
        let mut stream = TcpStream::connect(&address).await.context("nobody listens")?;
        let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut first = Vec::new();
        let _ = stream.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut first).await?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&first).lines().next().unwrap_or_default().to_owned())
    };
    let answer = tokio::time::timeout(WITHIN, ask).await;
    let answer = answer.with_context(|| format!("{address} did not answer within {WITHIN:?}"))?;
    let line = answer.with_context(|| address.clone())?;
    if line.split(' ').nth(1) != Some("200") {
        bail!("{address} said {line:?}");
    }
    Ok(())
}

/// An address to listen on as one to connect to: "all addresses" is reached on loopback.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}
