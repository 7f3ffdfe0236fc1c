//! Who the nodes say they are, for transports that keep it themselves.

use std::collections::BTreeMap;

use bytes::Bytes;
use cache_events::NodeId;

use crate::transport::{Description, ROSTER_ROWS_MAX, ROSTER_TTL, RosterRow};

/// Each node with what it said and when, by the milliseconds of the server.
///
/// ```
/// use cache_bus::{Description, ROSTER_TTL, Roster};
/// use cache_events::NodeId;
///
/// let (node, mut roster) = (NodeId::new("a")?, Roster::default());
/// roster.introduce(&node, Description::new("rack 7").as_ref(), 1_000);
/// assert_eq!(roster.rows(1_200)[0].age_ms, 200);
/// assert!(roster.rows(1_001 + ROSTER_TTL.as_millis() as u64).is_empty());
/// # Ok::<(), cache_events::NameError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Roster(BTreeMap<NodeId, (Bytes, u64)>);

impl Roster {
    /// What [`Transport::introduce`](crate::Transport::introduce) does, at an instant.
    pub fn introduce(&mut self, node: &NodeId, description: Option<&Description>, now: u64) {
        let Some(description) = description else {
            self.0.remove(node);
            return;
        };
        if !self.0.contains_key(node) {
            self.0.retain(|_, (_, said)| is_kept(*said, now));
        }
        if self.0.len() < ROSTER_ROWS_MAX || self.0.contains_key(node) {
            self.0.insert(node.clone(), (description.bytes().clone(), now));
        }
    }

    /// What [`Transport::roster`](crate::Transport::roster) answers at an instant; by name.
    pub fn rows(&self, now: u64) -> Vec<RosterRow> {
        let kept = self.0.iter().filter(|(_, (_, said))| is_kept(*said, now));
        kept.map(|(node, (description, said))| RosterRow {
            node: node.clone(),
            description: description.clone(),
            age_ms: now.saturating_sub(*said),
        })
        .collect()
    }

    /// Forgets all nodes.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn is_kept(said: u64, now: u64) -> bool {
    u128::from(now.saturating_sub(said)) <= ROSTER_TTL.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> NodeId {
        NodeId::new(format!("n{number}")).expect("valid")
    }

    #[test]
    fn who_falls_silent_vanishes_and_makes_room() {
        let text = Description::new("x").expect("short");
        let (mut roster, ttl) = (Roster::default(), ROSTER_TTL.as_millis() as u64);
        (0..ROSTER_ROWS_MAX).for_each(|number| roster.introduce(&node(number), Some(&text), 1));
        roster.introduce(&node(ROSTER_ROWS_MAX), Some(&text), 1);
        assert_eq!(roster.rows(1).len(), ROSTER_ROWS_MAX, "full");
        roster.introduce(&node(7), Some(&text), 2);
        assert_eq!(roster.rows(ttl + 2), [RosterRow { node: node(7), description: "x".into(), age_ms: ttl }]);
        roster.introduce(&node(ROSTER_ROWS_MAX), Some(&text), ttl + 2);
        assert_eq!(roster.0.len(), 2);
    }
}
