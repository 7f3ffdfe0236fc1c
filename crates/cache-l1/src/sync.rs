//! The atomics and locks of the tier: those of the machine, or with `--cfg edgecache_shuttle` those of a scheduler that
//! explores the order in which threads take turns (`tests/races.rs`, `cargo xtask explore`).

#[cfg(not(edgecache_shuttle))]
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[cfg(not(edgecache_shuttle))]
pub(crate) use std::thread::yield_now;

#[cfg(not(edgecache_shuttle))]
pub(crate) use parking_lot::RwLock;
#[cfg(edgecache_shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(edgecache_shuttle)]
pub(crate) use shuttle::thread::yield_now;

/// A lock of the scheduler with the calls of the one it stands for.
#[cfg(edgecache_shuttle)]
#[derive(Debug)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

#[cfg(edgecache_shuttle)]
impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn try_write(&self) -> Option<shuttle::sync::RwLockWriteGuard<'_, T>> {
        self.0.try_write().ok()
    }
}
