//! How much memory this process uses, and how much it may.
//!
//! With a limit that was set, what counts is the resident set. Without one it is the limit of the control group (version
//! 2), and what counts there is `memory.current` less `inactive_file`: pages of files that nobody needs go by themselves
//! before the limit is enforced. Where there is neither, there is nothing to watch.

use std::fs;
use std::path::{Path, PathBuf};

use cache_l1::{MemoryPressure, MemoryReading};
use cache_tiered::TieredCache;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::LiveConfig;

/// Where usage and limit are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meter {
    /// The resident set against a limit in bytes.
    Resident {
        /// What the process may use.
        limit: u64,
    },
    /// A control group, by its folder.
    ControlGroup(PathBuf),
}

/// The resident set of this process; nothing if it cannot be read.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl Meter {
    /// The meter for this process; nothing if it has no limit.
    pub fn of_this_process(limit: Option<u64>) -> Option<Self> {
        match limit {
            Some(limit) => Some(Self::Resident { limit }),
            None => Self::control_group(
                Path::new("/sys/fs/cgroup"),
                &fs::read_to_string("/proc/self/cgroup").ok()?,
            ),
        }
    }

    /// Of the group of the process and those above it, the one with the least limit. `membership` is what
    /// `/proc/self/cgroup` says.
    fn control_group(root: &Path, membership: &str) -> Option<Self> {
        let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
        // In a name space of its own the process sees its group as the root, or a path that is not there.
        let own = Some(root.join(path)).filter(|folder| folder.is_dir()).unwrap_or_else(|| root.to_owned());
        let groups = own.ancestors().take_while(|folder| folder.starts_with(root));
        let limited =
            groups.filter_map(|folder| Some((number(&folder.join("memory.max"))?, folder.to_owned())));
        limited.min_by_key(|(limit, _)| *limit).map(|(_, folder)| Self::ControlGroup(folder))
    }

    /// What is used and what may be used, in bytes; nothing if that cannot be read now.
    pub fn read(&self) -> Option<(u64, u64)> {
        match self {
            Self::Resident { limit } => Some((resident_bytes()?, *limit)),
            Self::ControlGroup(folder) => {
                let current = number(&folder.join("memory.current"))?;
                let stat = fs::read_to_string(folder.join("memory.stat")).ok()?;
                let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?;
                let used = current.saturating_sub(inactive.trim().parse().ok()?);
                Some((used, number(&folder.join("memory.max"))?))
            }
        }
    }
}

/// A file with a number in it; `max` is none.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Looks at memory now and then, and lets entries leave L1 where that helps. Ends with `shutdown`.
pub(crate) async fn watch(cache: TieredCache, live: LiveConfig, shutdown: CancellationToken) {
    let mut pressure = MemoryPressure::default();
    let mut told = false;
    // What is watched now, and by which limit it was chosen.
    let mut watched: Option<(Option<u64>, Option<Meter>)> = None;
    loop {
        let now = live.current();
        if watched.as_ref().is_none_or(|(limit, _)| *limit != now.memory_limit) {
            let meter = Meter::of_this_process(now.memory_limit);
            match &meter {
                Some(meter) => info!(?meter, "watching memory"),
                None => info!("memory has no limit, so none is watched: set cache.memory_limit_bytes"),
            }
            watched = Some((now.memory_limit, meter));
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(now.memory_check_every) => {}
        }
        let Some((_, Some(meter))) = &watched else { continue };
        let Some((used, limit)) = meter.read() else {
            if !std::mem::replace(&mut told, true) {
                warn!(?meter, "the use of memory cannot be read; entries do not leave for it");
            }
            continue;
        };
        let live = cache.l1_bytes();
        let Some(share) = pressure.decide(MemoryReading { used, limit, live }) else {
            debug!(used, limit, live, "memory");
            continue;
        };
        let shed = cache.shed(share).await;
        info!(
            used,
            limit,
            live,
            entries = shed.entries,
            bytes = shed.bytes,
            "memory pressure: entries left L1"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, max: &str, current: u64, inactive: u64) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("memory.max"), format!("{max}\n")).expect("written");
        fs::write(folder.join("memory.current"), format!("{current}\n")).expect("written");
        fs::write(folder.join("memory.stat"), format!("anon 1\ninactive_file {inactive}\nactive_file 2\n"))
            .expect("written");
    }

    #[test]
    fn pages_that_go_by_themselves_do_not_count() {
        let root = tempfile::tempdir().expect("a folder");
        group(&root.path().join("a/b"), "1000", 900, 300);
        let meter = Meter::control_group(root.path(), "12:cpu:/x\n0::/a/b\n").expect("limited");
        assert_eq!(meter.read(), Some((600, 1_000)));
        group(&root.path().join("a/b"), "1000", 200, 300);
        assert_eq!(meter.read(), Some((0, 1_000)));
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().expect("a folder");
        group(&root.path().join("a"), "500", 450, 50);
        group(&root.path().join("a/b"), "max", 100, 0);
        group(&root.path().join("a/b/c"), "900", 90, 0);
        let meter = Meter::control_group(root.path(), "0::/a/b/c").expect("limited");
        assert_eq!(meter.read(), Some((400, 500)));
    }

    #[test]
    fn a_group_that_is_not_there_is_the_root_of_its_name_space() {
        let root = tempfile::tempdir().expect("a folder");
        group(root.path(), "700", 70, 7);
        let meter = Meter::control_group(root.path(), "0::/of/the/host").expect("limited");
        assert_eq!(meter.read(), Some((63, 700)));
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_watch() {
        let root = tempfile::tempdir().expect("a folder");
        group(root.path(), "max", 70, 7);
        assert_eq!(Meter::control_group(root.path(), "0::/"), None);
        assert_eq!(Meter::control_group(root.path(), "3:memory:/x"), None, "version 1 has no such line");
    }

    #[test]
    fn the_resident_set_is_that_of_this_process() {
        let meter = Meter::of_this_process(Some(1 << 40)).expect("a limit was set");
        let (before, limit) = meter.read().expect("readable");
        let block = vec![1_u8; 64 << 20];
        let (after, _) = meter.read().expect("readable");
        assert!(limit == 1 << 40 && after >= before + (48 << 20), "{before} {after} with {}", block.len());
    }
}
