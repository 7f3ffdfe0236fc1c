//! The latest operations that changed something, with how long each took. The audit log says who did them and lasts; this
//! is the node's own memory, for "what was going on when it became slow".

use std::collections::VecDeque;
use std::sync::Arc;

/// Operations that are remembered: about 1 MB.
pub(crate) const OPERATIONS_MAX: usize = 10_000;

/// One request that was to change something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    /// When it began, in logical milliseconds.
    pub(crate) at: u64,
    /// Method and route, such as `PUT /cache/{cache_type}/{*resource}`.
    pub(crate) what: Arc<str>,
    /// The status of the answer.
    pub(crate) status: u16,
    pub(crate) took_us: u64,
}

/// The latest of them.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    log: VecDeque<Operation>,
    /// Each kind once: there are as many as routes.
    names: Vec<Arc<str>>,
    seen: u64,
}

impl Operations {
    pub(crate) fn push(&mut self, at: u64, method: &str, route: &str, status: u16, took_us: u64) {
        let same = |name: &&Arc<str>| {
            name.strip_prefix(method)
                .and_then(|rest| rest.strip_prefix(' '))
                .is_some_and(|rest| rest == route)
        };
        let what = match self.names.iter().find(same) {
            Some(name) => name.clone(),
            None => {
                let name: Arc<str> = format!("{method} {route}").into();
                self.names.push(name.clone());
                name
            }
        };
        if self.log.len() == OPERATIONS_MAX {
            self.log.pop_front();
        }
        self.log.push_back(Operation { at, what, status, took_us });
        self.seen += 1;
    }

    /// The latest, newest first.
    pub(crate) fn latest(&self, limit: usize) -> impl Iterator<Item = &Operation> {
        self.log.iter().rev().take(limit)
    }

    /// How many there were since the start.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_ten_thousand_are_remembered() {
        let mut operations = Operations::default();
        for at in 0..12_000_u64 {
            let route = if at % 2 == 0 { "/cache/clear" } else { "/cache/invalidate" };
            operations.push(at, "POST", route, 200, at);
        }
        assert_eq!((operations.latest(usize::MAX).count(), operations.seen()), (10_000, 12_000));
        let newest = operations.latest(1).next().expect("some");
        assert_eq!((newest.at, &*newest.what), (11_999, "POST /cache/invalidate"));
        assert_eq!(operations.latest(usize::MAX).last().expect("some").at, 2_000);
        assert_eq!(operations.names.len(), 2, "each name is kept once");
        assert!(size_of::<Operation>() <= 48);
    }
}
