//! Reading the configuration again while the node runs: all of it is checked; what can change does, and what needs a
//! restart is named.

use cache_tiered::TieredCache;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{self, AllTyped, ConfigErrors, LiveConfig, Reading, Sources};
use crate::logging::Logging;

/// What came of reading the configuration again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that have changed and hold from now on.
    pub applied: Vec<String>,
    /// Settings that differ from those the node was started with, and hold once it is started again.
    pub needs_restart: Vec<String>,
    /// What is allowed and still worth a word.
    pub warnings: Vec<String>,
}

/// Reads the configuration of a node again.
pub struct Reloader {
    sources: Sources,
    live: LiveConfig,
    started: AllTyped,
    last: AllTyped,
    logging: Logging,
}

impl Reloader {
    /// For a node that was started with what `reading` made of `sources`.
    pub fn new(sources: Sources, reading: &Reading, logging: Logging) -> Self {
        let typed = reading.typed.clone();
        logging.filter(&reading.config.live.current().log_filter);
        Self { sources, live: reading.config.live.clone(), started: typed.clone(), last: typed, logging }
    }

    /// Reads all sources again. Parts of the node read what is live where they use it.
    ///
    /// # Errors
    /// Everything that is wrong; then nothing has changed.
    pub fn reload(&mut self, cache: &TieredCache) -> Result<Reloaded, ConfigErrors> {
        let reading = config::read(&self.sources)?;
        let mut live = (*reading.config.live.current()).clone();
        let since_last = self.last.differences(&reading.typed).into_iter();
        let mut applied: Vec<String> = since_last.filter_map(|(path, live)| live.then_some(path)).collect();
        let since_start = self.started.differences(&reading.typed).into_iter();
        let mut needs_restart: Vec<String> =
            since_start.filter_map(|(path, live)| (!live).then_some(path)).collect();
        let before = self.live.current();
        for (namespace, ttl) in &mut live.ttls {
            let old = before.ttls.iter().find(|(known, _)| known == namespace).map(|(_, ttl)| *ttl);
            // A cache type that the node does not have, or beyond what the stamps of its namespace are kept for.
            if old != Some(*ttl) && cache.set_ttl(namespace.as_str(), *ttl).is_err() {
                let plan = reading.config.cache_type(namespace.as_str());
                let answers = |path: &String| {
                    let name = path.strip_prefix("namespaces.").and_then(|rest| rest.strip_suffix(".ttl"));
                    name.is_some_and(|name| plan.is_some_and(|plan| plan.answers_to(name)))
                };
                applied.retain(|path| !answers(path));
                let own = plan.map_or_else(|| namespace.to_string(), |plan| plan.cache_type.clone());
                needs_restart.push(format!("namespaces.{own}.ttl"));
                *ttl = old.unwrap_or(*ttl);
            }
        }
        needs_restart.sort_unstable();
        needs_restart.dedup();
        self.logging.filter(&live.log_filter);
        self.live.replace(live);
        self.last = reading.typed;
        Ok(Reloaded { applied, needs_restart, warnings: reading.config.warnings })
    }

    /// [`reload`](Self::reload) at each SIGHUP, until `shutdown`; the log says what came of it.
    ///
    /// # Errors
    /// The operating system refuses to tell of the signal.
    pub fn on_hangup(
        mut self,
        cache: TieredCache,
        shutdown: CancellationToken,
    ) -> std::io::Result<impl Future<Output = ()>> {
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = hangup.recv() => {}
                }
                match self.reload(&cache) {
                    Ok(reloaded) => tell(&reloaded),
                    Err(errors) => error!("the configuration was read again, and nothing changes: {errors}"),
                }
            }
        })
    }
}

fn tell(reloaded: &Reloaded) {
    reloaded.warnings.iter().for_each(|warning| warn!("{warning}"));
    let or_none = |paths: &[String]| if paths.is_empty() { "none".to_owned() } else { paths.join(", ") };
    info!(changed = or_none(&reloaded.applied), "the configuration was read again");
    if !reloaded.needs_restart.is_empty() {
        let settings = or_none(&reloaded.needs_restart);
        warn!(settings, "these settings have changed and hold once the node is started again");
    }
}
