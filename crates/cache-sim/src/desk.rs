//! Who has written what and waits for whom: keys whose writers take turns, and writes without an acknowledgement.

use std::collections::{BTreeSet, VecDeque};

use cache_events::{Scope, Version, WriteToken};
use parking_lot::Mutex;

/// An event that was published and acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) by: usize,
    pub(crate) id: String,
    pub(crate) at_ms: u64,
    /// The lives that were live just before.
    pub(crate) audience: Vec<(usize, u64)>,
}

/// The notes of all clients.
#[derive(Default)]
pub(crate) struct Desk(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    taken: BTreeSet<usize>,
    /// By the node whose outbox has them.
    unacked: Vec<(usize, Scope)>,
    /// What only the system of record remembers: their node died.
    orphans: Vec<Scope>,
    published: Vec<Published>,
    /// Of the last writes: the row, its version, the token.
    tokens: VecDeque<(usize, Version, WriteToken)>,
}

const TOKENS_MAX: usize = 6;

impl Desk {
    /// Takes the turn of a row, if nobody has it.
    pub(crate) fn take_turn(&self, row: usize) -> bool {
        self.0.lock().taken.insert(row)
    }

    pub(crate) fn end_turn(&self, row: usize) {
        self.0.lock().taken.remove(&row);
    }

    /// A write was not acknowledged; the node goes on trying.
    pub(crate) fn unacked(&self, node: usize, scope: Scope) {
        self.0.lock().unacked.push((node, scope));
    }

    /// A write whose node has died: the caller has to repeat it.
    pub(crate) fn orphan(&self, scope: Scope) {
        self.0.lock().orphans.push(scope);
    }

    /// A node died, and its outbox with it.
    pub(crate) fn died(&self, node: usize) {
        let mut notes = self.0.lock();
        let (its, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut notes.unacked).into_iter().partition(|(of, _)| *of == node);
        notes.unacked = others;
        notes.orphans.extend(its.into_iter().map(|(_, scope)| scope));
    }

    pub(crate) fn take_orphans(&self) -> Vec<Scope> {
        std::mem::take(&mut self.0.lock().orphans)
    }

    /// A write was acknowledged with this token.
    pub(crate) fn token(&self, row: usize, version: Version, token: &WriteToken) {
        let mut notes = self.0.lock();
        notes.tokens.push_back((row, version, token.clone()));
        if notes.tokens.len() > TOKENS_MAX {
            notes.tokens.pop_front();
        }
    }

    /// The token of one of the last writes, with what it has written.
    pub(crate) fn any_token(&self, rng: &mut fastrand::Rng) -> Option<(usize, Version, WriteToken)> {
        let notes = self.0.lock();
        let last = notes.tokens.len().checked_sub(1)?;
        notes.tokens.get(rng.usize(0..=last)).cloned()
    }

    pub(crate) fn published(&self, published: Published) {
        self.0.lock().published.push(published);
    }

    pub(crate) fn take_published(&self) -> Vec<Published> {
        std::mem::take(&mut self.0.lock().published)
    }
}
