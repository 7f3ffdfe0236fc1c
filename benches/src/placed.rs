//! Threads that stay on a core, and the ports to a server.

use std::sync::Arc;

use cache_redis::{RedisConfig, RedisStore, RedisTransport};
use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// What a node needs of Redis.
pub type Ports = (Arc<RedisStore>, Arc<RedisTransport>);

/// The ports of a node.
///
/// # Errors
/// If a setting is out of range.
pub fn ports(config: &RedisConfig) -> anyhow::Result<Ports> {
    Ok((Arc::new(RedisStore::new(config.clone())?), Arc::new(RedisTransport::new(config.clone())?)))
}

/// The number of the calling thread, for [`pin`].
pub fn this_thread() -> u32 {
    gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Keeps a thread, or the first thread of a process, on one core.
///
/// # Errors
/// If it does not stay there: what is measured depends on it.
pub fn pin(id: u32, core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    let pid = Pid::from_raw(id.try_into()?).ok_or_else(|| anyhow::anyhow!("no process {id}"))?;
    sched_setaffinity(Some(pid), &cores)?;
    anyhow::ensure!(sched_getaffinity(Some(pid))? == cores, "{id} does not stay on core {core}");
    Ok(())
}
