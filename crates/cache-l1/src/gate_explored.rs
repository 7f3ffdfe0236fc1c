//! The [gate](../gate.rs) of an exploration: the scheduler's own lock. That the real one excludes is explored by itself
//! (`tests/turns.rs`).

use crate::sync::RwLock;

/// Many readers or one writer.
#[derive(Debug)]
pub(crate) struct Gate<T>(RwLock<T>);

impl<T> Gate<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read()
    }

    /// Never at once: every read takes its turn.
    pub(crate) fn glance(&self) -> Option<shuttle::sync::RwLockReadGuard<'_, T>> {
        None
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write()
    }

    pub(crate) fn try_write(&self) -> Option<shuttle::sync::RwLockWriteGuard<'_, T>> {
        self.0.try_write()
    }
}
