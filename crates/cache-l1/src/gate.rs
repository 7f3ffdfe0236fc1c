//! A reader-writer lock around one value: [`turns`](crate::turns) with the data behind it, and a seat for each
//! thread.
//!
//! This is the one module with unsafe code. It pays: a hit through it costs three locked instructions, with the
//! caller's two on an `Arc` among them, instead of four, and two threads that read meet on no line at all
//! (`cargo xtask bench l1`).

#![allow(unsafe_code, reason = "a lock hands out references to what it guards; the argument is at each use")]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicBool;

use crate::atomic::{AtomicUsize, Ordering};
use crate::turns::{Door, Entered, Seat};

/// Threads that can have a seat at once; others count themselves in.
const SEATS_MAX: usize = 64;

static SEATS: [Seat; SEATS_MAX] = [const { Seat(AtomicUsize::new(0)) }; SEATS_MAX];
static TAKEN: [AtomicBool; SEATS_MAX] = [const { AtomicBool::new(false) }; SEATS_MAX];
/// Seats that were ever taken: as many as writers look at.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's seat. Without a destructor, so that looking costs one load.
    static SEAT: Cell<Option<&'static Seat>> = const { Cell::new(None) };
    /// Gives the seat back when the thread ends.
    static CLAIM: Claim = Claim::new();
}

struct Claim(Option<usize>);

impl Claim {
    /// The lowest free seat, so that there are few to look at.
    fn new() -> Self {
        let free = TAKEN.iter().position(|taken| !taken.swap(true, Ordering::AcqRel));
        if let Some(at) = free {
            // Before the first use: a writer that comes after that use sees it.
            IN_USE.fetch_max(at + 1, Ordering::SeqCst);
        }
        Self(free)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Reads from destructors that run later count themselves.
        SEAT.set(None);
        if let Some(at) = self.0 {
            TAKEN[at].store(false, Ordering::Release);
        }
    }
}

#[inline]
fn seat() -> Option<&'static Seat> {
    SEAT.get().or_else(claim)
}

#[cold]
fn claim() -> Option<&'static Seat> {
    // An error means that this thread is being torn down.
    let seat = CLAIM.try_with(|claim| claim.0).ok().flatten().map(|at| &SEATS[at]);
    SEAT.set(seat);
    seat
}

fn seats() -> &'static [Seat] {
    &SEATS[..IN_USE.load(Ordering::SeqCst)]
}

/// Many readers or one writer.
pub(crate) struct Gate<T> {
    door: Door,
    value: UnsafeCell<T>,
}

// SAFETY: as for any reader-writer lock. The value moves with the gate (`Send`), is handed out as `&mut T` to one
// thread at a time (`T: Send`) and as `&T` to many (`T: Sync`).
unsafe impl<T: Send> Send for Gate<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Gate<T> {}

impl<T> Gate<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { door: Door::new(), value: UnsafeCell::new(value) }
    }

    /// Waits for a writer to leave, then reads.
    #[inline]
    pub(crate) fn read(&self) -> Reading<'_, T> {
        Reading { entered: self.door.enter(seat()), gate: self, here: PhantomData }
    }

    /// Reads at once: only if this thread has a seat that no other read of it is on, and no writer is inside. Calls
    /// nothing, so that a hit through it keeps all it needs in registers.
    #[inline]
    pub(crate) fn glance(&self) -> Option<Glance<'_, T>> {
        let seat = SEAT.get()?;
        self.door.sit(seat).then(|| Glance { seat, gate: self, here: PhantomData })
    }

    /// Waits for all to leave, then writes.
    #[inline]
    pub(crate) fn write(&self) -> Writing<'_, T> {
        self.door.lock(seats);
        Writing { gate: self }
    }

    /// Writes if nobody is inside.
    pub(crate) fn try_write(&self) -> Option<Writing<'_, T>> {
        self.door.try_lock(seats).then(|| Writing { gate: self })
    }
}

impl<T> fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// The value, for as long as this lives.
#[must_use = "leaves at once if not held"]
pub(crate) struct Reading<'g, T> {
    entered: Entered<'static>,
    gate: &'g Gate<T>,
    /// Not `Send`: a seat is written by the thread it belongs to and by no other.
    here: PhantomData<*const ()>,
}

impl<T> Deref for Reading<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: made by `read` alone, after `enter`: until `leave`, which only `drop` calls, no writer is inside
        // (see `turns`), so there is no `&mut T`.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T> Drop for Reading<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.gate.door.leave(&self.entered);
    }
}

/// The value, for as long as this lives.
#[must_use = "leaves at once if not held"]
pub(crate) struct Glance<'g, T> {
    seat: &'static Seat,
    gate: &'g Gate<T>,
    /// Not `Send`, as above.
    here: PhantomData<*const ()>,
}

impl<T> Deref for Glance<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: made by `glance` alone, after `sit` said yes: until `leave`, which only `drop` calls, no writer is
        // inside.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T> Drop for Glance<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.seat.leave();
    }
}

/// The value alone, for as long as this lives.
#[must_use = "leaves at once if not held"]
pub(crate) struct Writing<'g, T> {
    gate: &'g Gate<T>,
}

impl<T> Deref for Writing<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: made after `lock` alone: until `unlock`, which only `drop` calls, nobody else is inside.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T> DerefMut for Writing<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` keeps this guard from handing out a second one.
        unsafe { &mut *self.gate.value.get() }
    }
}

impl<T> Drop for Writing<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.gate.door.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// More threads than seats, so that some count themselves.
    #[test]
    fn many_threads_see_whole_values_and_lose_no_change() {
        let gate = Arc::new(Gate::new((0_u64, 0_u64)));
        std::thread::scope(|scope| {
            for number in 0..SEATS_MAX + 16 {
                let gate = gate.clone();
                scope.spawn(move || {
                    for round in 0..200 {
                        if (number + round) % 8 == 0 {
                            let mut both = gate.write();
                            both.0 += 1;
                            both.1 += 1;
                        } else {
                            let both = gate.read();
                            assert_eq!(both.0, both.1);
                        }
                    }
                });
            }
        });
        assert_eq!(gate.read().0, (SEATS_MAX as u64 + 16) * 25);
    }

    #[test]
    fn a_seat_is_given_back_when_its_thread_ends() {
        let gate = Gate::new(());
        let before = TAKEN.iter().filter(|taken| taken.load(Ordering::Relaxed)).count();
        for _ in 0..4 * SEATS_MAX {
            std::thread::scope(|scope| {
                scope.spawn(|| drop(gate.read()));
            });
        }
        let taken = TAKEN.iter().filter(|taken| taken.load(Ordering::Relaxed)).count();
        // Other tests of this process take seats as well.
        assert!(taken < before + SEATS_MAX / 2, "{before} before, {taken} after");
    }

    #[test]
    fn a_read_within_a_read_of_another_gate_is_a_read() {
        let (outer, inner) = (Gate::new(1), Gate::new(2));
        let first = outer.read();
        let second = inner.read();
        assert!(outer.try_write().is_none() && inner.try_write().is_none());
        drop(first);
        assert!(outer.try_write().is_some() && inner.try_write().is_none());
        assert_eq!(*second, 2);
        drop(second);
        assert!(inner.try_write().is_some());
    }
}
