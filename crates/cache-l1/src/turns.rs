//! Who may enter: many readers or one writer, decided by atomics alone. Safe code; [`Gate`](crate::gate) puts
//! the data behind it. Tests compile this file a second time over loom's atomics (`tests/turns.rs`), hence
//! `crate::atomic`.
//!
//! # Readers sit, writers look at the seats
//!
//! A reader-writer lock that counts its readers costs a hit two locked instructions, and its word wanders
//! between the cores. Here every thread has a *seat*: a word of its own, on a cache line of its own, in which
//! it notes at which door it is inside. Entering is one locked instruction on a line that nobody else writes,
//! leaving is a plain store. A writer takes the door's word and then waits until no seat names the door. So
//! writers pay for readers: they look at as many seats as threads ever read at once.
//!
//! This is the big-reader lock (Linux `brlock`; Calciu et al., "NUMA-Aware Reader-Writer Locks", PPoPP 2013)
//! with one set of seats for all doors.
//!
//! **Why it excludes.** A reader stores its seat, then loads the word; a writer sets the word, then loads the
//! seats; all four are sequentially consistent, so one of them comes second and sees the other. If it is the
//! writer, it waits. If it is the reader, it stands up again and waits. Both may see each other, then both
//! wait for the reader to stand up, which it does at once. The stores by which they leave release, and the
//! loads that see it acquire.
//!
//! **Nobody waits for ever, nobody burns the processor.** A reader that meets a writer, and a writer that
//! meets a writer, spin a little, then sleep until the writer leaves. New readers stand aside as soon as a
//! writer has the word, so readers cannot starve it. A writer that waits for a seat (its owner is inside, for
//! some ten nanoseconds unless the system took the processor away) spins, then yields, then naps: the reader
//! that leaves wakes nobody, since knowing whether to would cost it the second locked instruction.
//!
//! **Without a seat.** The seats are limited. A thread that finds none, is inside already, or is being torn down
//! counts itself in the door's word instead, like in any other lock.

use crate::atomic::{AtomicUsize, Condvar, Mutex, Ordering, SPINS, nap, spin};

const WRITER: usize = 1;
/// Somebody sleeps until the writer leaves.
const SLEEPER: usize = 2;
/// One reader without a seat.
const COUNTED: usize = 4;

/// A thread's note of the door at which it is inside; 0 = outside of all. Two lines wide, as processors fetch
/// pairs.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Seat(pub(crate) AtomicUsize);

impl Seat {
    /// Ends what `sit` began.
    #[inline]
    pub(crate) fn leave(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// How a reader went in, and so how it has to leave.
#[derive(Debug)]
pub(crate) enum Entered<'s> {
    Seated(&'s Seat),
    Counted,
}

/// The word of one lock.
#[derive(Debug)]
pub(crate) struct Door {
    word: AtomicUsize,
    sleepers: Mutex<()>,
    opened: Condvar,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self { word: AtomicUsize::new(0), sleepers: Mutex::new(()), opened: Condvar::new() }
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Goes in as a reader; waits for a writer to leave.
    #[inline]
    pub(crate) fn enter<'s>(&self, seat: Option<&'s Seat>) -> Entered<'s> {
        if let Some(seat) = seat
            && self.sit(seat)
        {
            return Entered::Seated(seat);
        }
        self.enter_slowly(seat)
    }

    /// One try with a seat. False if the seat is in use by a read around this one, or a writer has the word.
    #[inline]
    pub(crate) fn sit(&self, seat: &Seat) -> bool {
        // Only the seat's own thread writes it: it fails for a read around this one, and never otherwise.
        if seat.0.compare_exchange(0, self.id(), Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        if self.word.load(Ordering::SeqCst) & WRITER == 0 {
            return true;
        }
        seat.leave();
        false
    }

    #[cold]
    fn enter_slowly<'s>(&self, seat: Option<&'s Seat>) -> Entered<'s> {
        // A read around this one has the seat: that one stays.
        let seat = seat.filter(|seat| seat.0.load(Ordering::Relaxed) == 0);
        loop {
            self.await_writer();
            match seat {
                Some(seat) if self.sit(seat) => return Entered::Seated(seat),
                Some(_) => {}
                None => {
                    let word = self.word.load(Ordering::Relaxed);
                    if word & WRITER == 0
                        && self
                            .word
                            .compare_exchange(word, word + COUNTED, Ordering::SeqCst, Ordering::Relaxed)
                            .is_ok()
                    {
                        return Entered::Counted;
                    }
                }
            }
        }
    }

    /// Ends what `enter` began.
    #[inline]
    pub(crate) fn leave(&self, entered: &Entered<'_>) {
        match entered {
            Entered::Seated(seat) => seat.leave(),
            Entered::Counted => {
                self.word.fetch_sub(COUNTED, Ordering::Release);
            }
        }
    }

    /// Goes in as the writer, alone. `seats` are all that readers may sit on, asked for after the word is taken.
    #[inline]
    pub(crate) fn lock<'s>(&self, seats: impl Fn() -> &'s [Seat]) {
        if self.word.compare_exchange(0, WRITER, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            self.lock_slowly();
        }
        for seat in seats() {
            let mut round = 0;
            while seat.0.load(Ordering::SeqCst) == self.id() {
                nap(round);
                round += 1;
            }
        }
        let mut round = 0;
        while self.word.load(Ordering::Acquire) >= COUNTED {
            nap(round);
            round += 1;
        }
    }

    /// Goes in as the writer if nobody is inside.
    pub(crate) fn try_lock<'s>(&self, seats: impl Fn() -> &'s [Seat]) -> bool {
        if self.word.compare_exchange(0, WRITER, Ordering::SeqCst, Ordering::Relaxed).is_err() {
            return false;
        }
        let taken = seats().iter().any(|seat| seat.0.load(Ordering::SeqCst) == self.id());
        if taken {
            self.unlock();
        }
        !taken
    }

    /// Ends what `lock` began.
    #[inline]
    pub(crate) fn unlock(&self) {
        if self.word.fetch_sub(WRITER, Ordering::SeqCst) & SLEEPER != 0 {
            self.wake();
        }
    }

    #[cold]
    fn lock_slowly(&self) {
        loop {
            self.await_writer();
            let word = self.word.load(Ordering::Relaxed);
            if word & WRITER == 0
                && self
                    .word
                    .compare_exchange(word, word | WRITER, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
    }

    /// Returns when there was no writer for a moment.
    fn await_writer(&self) {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) & WRITER == 0 {
                return;
            }
            spin();
        }
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & WRITER == 0 {
                return;
            }
            match self.word.compare_exchange(word, word | SLEEPER, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(present) => word = present,
            }
        }
        let mut sleepers = self.sleepers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Who sees both marks under the lock is woken: by the writer that has the word, or by an earlier one that is
        // about to take the second mark away and wake all.
        while self.word.load(Ordering::Relaxed) & (WRITER | SLEEPER) == WRITER | SLEEPER {
            sleepers = self.opened.wait(sleepers).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    #[cold]
    fn wake(&self) {
        self.word.fetch_and(!SLEEPER, Ordering::SeqCst);
        // Whoever looked at the word before it changed is asleep once this is granted.
        drop(self.sleepers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        self.opened.notify_all();
    }
}
