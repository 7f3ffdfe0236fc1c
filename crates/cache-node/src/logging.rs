//! The log: on stderr, and by a filter that can change.

use std::io::IsTerminal;

use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::telemetry::otlp::Slot;

/// The log of this process.
#[derive(Clone)]
pub struct Logging {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    traces: Slot,
}

impl Logging {
    /// Logs to stderr what `RUST_LOG` asks for, else what `otherwise` does.
    pub fn to_stderr(otherwise: &str) -> Self {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
        let (filter, handle) = reload::Layer::new(filter);
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            // Of the lines alone: traces choose by their own.
            .with_filter(filter);
        let traces = Slot::default();
        let installed = tracing_subscriber::registry().with(lines).with(traces.layer()).try_init();
        // Somebody else's subscriber in the same process is fine too; then the filter is theirs.
        Self { filter: installed.ok().map(|()| handle), traces }
    }

    /// For a process whose log is somebody else's: changes nothing.
    pub fn none() -> Self {
        Self { filter: None, traces: Slot::default() }
    }

    /// Where spans go, once that is known.
    pub(crate) fn traces(&self) -> &Slot {
        &self.traces
    }

    /// Logs by another filter from now on. The text is one that the configuration has checked; another changes nothing.
    pub fn filter(&self, text: &str) {
        let (Some(handle), Ok(filter)) = (&self.filter, EnvFilter::builder().parse(text)) else { return };
        // It fails only if the subscriber is gone, and then there is no log.
        let _ = handle.reload(filter);
    }
}
