//! The part of the configuration that can change while a node runs, behind one handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_events::Namespace;
use tokio::sync::watch;

use super::auth::AuthConfig;
use super::http::HttpLimits;
use crate::telemetry::AlertSettings;

/// What can change while a node runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Which log lines are written.
    pub log_filter: String,
    /// Who may do what.
    pub auth: AuthConfig,
    /// What is taken from whom.
    pub http: HttpLimits,
    /// Longest body of a request, in bytes; longer ones are refused with 413.
    pub body_bytes_max: usize,
    /// Bytes of memory that the process may use; `None` = what its control group allows.
    pub memory_limit: Option<u64>,
    /// How often the use of memory is looked at.
    pub memory_check_every: Duration,
    /// How often the node looks at its own health, if it does so at all.
    pub health_check_every: Duration,
    /// When figures are alarming.
    pub alerts: AlertSettings,
    /// The time to live of each namespace.
    pub ttls: Vec<(Namespace, Duration)>,
}

/// The one place where a node keeps its [`Live`] part. Clones share it.
///
/// Read it where it is used, at each use ([`current`](Self::current) costs about as much as an uncontended lock), or
/// subscribe to act on a change.
#[derive(Clone)]
pub struct LiveConfig(Arc<watch::Sender<Arc<Live>>>);

impl LiveConfig {
    /// What holds from the start.
    pub fn new(live: Live) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(live))))
    }

    /// What holds now.
    pub fn current(&self) -> Arc<Live> {
        self.0.borrow().clone()
    }

    /// A receiver that is told of each reading, also of one that changed nothing: what files hold that the settings
    /// name (certificates, tokens) may be another all the same.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Live>> {
        self.0.subscribe()
    }

    /// Puts another in its place and tells all who subscribed.
    pub fn replace(&self, live: Live) {
        self.0.send_replace(Arc::new(live));
    }
}

impl fmt::Debug for LiveConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}
