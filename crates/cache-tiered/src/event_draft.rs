//! What a caller says about an event; the cache adds who, when and which.

use std::time::Duration;

use cache_events::{EventKind, Namespace, Scope};

use crate::acknowledge::Acknowledge;

/// An event to be published: what happened, and which entries it invalidates.
#[derive(Debug, Clone)]
pub struct EventDraft {
    /// What happened.
    pub kind: EventKind,
    /// The resource that it happened to, in the words of the application.
    pub resource_id: String,
    /// Anything else that handlers want to know.
    pub data: Option<serde_json::Value>,
    /// The entries that it invalidates; empty for an event without a write.
    pub scopes: Vec<Scope>,
    /// Why, for the audit.
    pub reason: Option<String>,
    /// Whether handlers and the public channel hear of it.
    pub announce: bool,
    /// When its invalidation counts as acknowledged.
    pub acknowledge: Acknowledge,
    /// For how long nothing that is loaded for its keys is kept.
    pub hold: Duration,
}

impl EventDraft {
    /// An event that invalidates nothing yet.
    pub fn new(kind: EventKind, resource_id: impl Into<String>) -> Self {
        let resource_id = resource_id.into();
        let acknowledge = Acknowledge::Master;
        Self {
            kind,
            resource_id,
            data: None,
            scopes: Vec::new(),
            reason: None,
            announce: true,
            acknowledge,
            hold: Duration::ZERO,
        }
    }

    /// Adds an entry, or entries, that the event invalidates.
    #[must_use]
    pub fn touching(mut self, scope: Scope) -> Self {
        self.scopes.push(scope);
        self
    }

    /// Adds data for handlers.
    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Self {
        self.data = Some(data);
        self
    }

    /// Says why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Keeps the event from handlers and the public channel.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.announce = false;
        self
    }

    /// Says when its invalidation counts as acknowledged.
    #[must_use]
    pub fn acknowledge(mut self, level: Acknowledge) -> Self {
        self.acknowledge = level;
        self
    }

    /// For a source whose replicas lag: until so long after the acknowledgement, what anybody loads for the keys that the
    /// event touches goes to those who asked and into no tier, since it may be the value from before. With a hold at least as
    /// long as the lag the staleness bound holds as if the source did not lag; a put of the value is kept and does
    /// not end the hold; of several holds of a key the one that lasts longest counts.
    ///
    /// For keys alone: of a resource, a tag or a pattern nobody knows which keys it covers, so an event that has such a scope
    /// beside a hold is refused ([`WriteError::Refused`](crate::WriteError::Refused)). A node that cannot reach L2 keeps what
    /// it loads, for as long as it trusts that.
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        let mut all: Vec<Namespace> = self.scopes.iter().filter_map(Scope::namespace).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}
