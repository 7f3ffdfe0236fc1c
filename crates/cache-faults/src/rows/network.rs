//! What happens between nodes and servers.

use std::time::Duration;

use cache_testkit::Fault;

use super::{Field, LONG};

/// Lets the storm go on for a while.
pub(super) async fn wait(field: &mut Field) -> anyhow::Result<()> {
    tokio::time::sleep(LONG).await;
    field.storm.rages().await
}

pub(super) async fn disorder(field: &mut Field) -> anyhow::Result<()> {
    field.lines.iter().for_each(|line| line.hints.disorder(51));
    wait(field).await?;
    field.lines.iter().for_each(|line| line.hints.heal());
    Ok(())
}

pub(super) async fn deaf(field: &mut Field) -> anyhow::Result<()> {
    field.lines.iter().for_each(|line| line.hints.lose_hints(true));
    wait(field).await?;
    field.lines.iter().for_each(|line| line.hints.heal());
    Ok(())
}

/// Nothing closes: only time-outs tell.
pub(super) async fn black_hole_open(field: &mut Field) -> anyhow::Result<()> {
    for line in &field.lines {
        line.proxies.iter().for_each(|proxy| proxy.set_current(Fault::BlackHole));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    wait(field).await
}

pub(super) async fn resets(field: &mut Field) -> anyhow::Result<()> {
    for _ in 0..10 {
        for line in &field.lines {
            line.set(Fault::Reset);
            tokio::time::sleep(Duration::from_millis(30)).await;
            line.set(Fault::Pass);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    Ok(())
}

pub(super) async fn swallow(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::SwallowAnswers, LONG).await
}

pub(super) async fn partition(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::BlackHole, LONG).await
}

pub(super) async fn silence(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::BlackHole, Duration::from_secs(6)).await
}

pub(super) async fn delay(field: &mut Field) -> anyhow::Result<()> {
    one_suffers(field, Fault::Delay(Duration::from_millis(80)), LONG).await
}

async fn one_suffers(field: &mut Field, fault: Fault, how_long: Duration) -> anyhow::Result<()> {
    field.lines[2].set(fault);
    tokio::time::sleep(how_long).await;
    field.lines[2].set(Fault::Pass);
    Ok(())
}
