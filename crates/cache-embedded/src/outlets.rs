//! What leaves the server unasked: hints to the nodes, and events to whoever listens to the public channel.

use bytes::Bytes;
use cache_bus::Hint;
use cache_events::{Partition, Position};
use tokio::sync::broadcast;

pub(crate) struct Outlets {
    hints: broadcast::Sender<Hint>,
    public: broadcast::Sender<String>,
}

impl Outlets {
    pub(crate) fn new(hints_max: usize, public_events_max: usize) -> Self {
        Self {
            hints: broadcast::Sender::new(hints_max.max(1)),
            public: broadcast::Sender::new(public_events_max.max(1)),
        }
    }

    /// Tells all subscribers. Sent under the lock of the partition, so that hints leave in the order of the log.
    pub(crate) fn hint(&self, partition: Partition, position: Position, payload: Bytes) {
        // An error only says that nobody listens.
        let _ = self.hints.send(Hint::Event { partition, position, payload });
    }

    /// Sends an event to the public channel, with its place in the log as members `epoch` and `sequence`.
    pub(crate) fn publish(&self, object: &str, position: Position) {
        if self.public.receiver_count() > 0 {
            let _ = self.public.send(with_position(object, position));
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }

    pub(crate) fn public_events(&self) -> broadcast::Receiver<String> {
        self.public.subscribe()
    }
}

/// Adds the members at the end of a JSON object; any other text stays as it is.
fn with_position(object: &str, position: Position) -> String {
    let trimmed = object.trim();
    let Some(members) = trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return object.to_owned();
    };
    let comma = if members.trim().is_empty() { "" } else { "," };
    format!("{{{members}{comma}\"epoch\":{},\"sequence\":{}}}", position.epoch, position.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_becomes_the_last_members_of_the_object() {
        let at = Position::new(7, 9);
        assert_eq!(with_position(r#"{"a":{}} "#, at), r#"{"a":{},"epoch":7,"sequence":9}"#);
        assert_eq!(with_position("{ }", at), r#"{ "epoch":7,"sequence":9}"#);
        assert_eq!(with_position("[1]", at), "[1]");
    }
}
