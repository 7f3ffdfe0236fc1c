//! What a caller says about an event; the cache adds who, when and which.

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
}

impl EventDraft {
    /// An event that invalidates nothing yet.
    pub fn new(kind: EventKind, resource_id: impl Into<String>) -> Self {
        let resource_id = resource_id.into();
        let acknowledge = Acknowledge::Master;
        Self { kind, resource_id, data: None, scopes: Vec::new(), reason: None, announce: true, acknowledge }
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

    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        let mut all: Vec<Namespace> = self.scopes.iter().filter_map(Scope::namespace).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}
