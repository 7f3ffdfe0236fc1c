//! The lock under every interleaving and every order of memory that the language allows, as far as loom explores
//! them: `src/turns.rs` compiled over loom's atomics.

#[path = "../src/turns.rs"]
#[allow(dead_code, reason = "each test uses a part")]
mod turns;

/// What `turns` sees as the machine.
mod atomic {
    pub(crate) use loom::sync::atomic::Ordering;
    use loom::sync::atomic::fence;
    pub(crate) use loom::sync::{Condvar, Mutex};

    /// Loom takes a sequentially consistent access for one that acquires and releases, and so sees failures that the
    /// language rules out; it does know such fences. One after each store that asks for it and before each load gives
    /// the accesses their single order back. Those that ask for less get none.
    #[derive(Debug)]
    pub(crate) struct AtomicUsize(loom::sync::atomic::AtomicUsize);

    fn in_order(order: Ordering) {
        if order == Ordering::SeqCst {
            fence(Ordering::SeqCst);
        }
    }

    impl AtomicUsize {
        pub(crate) fn new(value: usize) -> Self {
            Self(loom::sync::atomic::AtomicUsize::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> usize {
            in_order(order);
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: usize, order: Ordering) {
            self.0.store(value, order);
            in_order(order);
        }

        pub(crate) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
            let before = self.0.fetch_sub(value, order);
            in_order(order);
            before
        }

        pub(crate) fn fetch_and(&self, value: usize, order: Ordering) -> usize {
            let before = self.0.fetch_and(value, order);
            in_order(order);
            before
        }

        pub(crate) fn compare_exchange(
            &self,
            from: usize,
            to: usize,
            order: Ordering,
            failed: Ordering,
        ) -> Result<usize, usize> {
            let before = self.0.compare_exchange(from, to, order, failed);
            in_order(order);
            before
        }
    }

    /// Small, since loom tries every number of them.
    pub(crate) const SPINS: u32 = 1;

    pub(crate) fn spin() {
        loom::thread::yield_now();
    }

    pub(crate) fn nap(_round: u32) {
        loom::thread::yield_now();
    }
}

use std::sync::Arc;

use atomic::AtomicUsize;
use loom::cell::UnsafeCell;
use turns::{Door, Seat};

/// A door with seats and something behind it that loom watches: it panics if a reader and a writer, or two writers,
/// are inside at once, and if what a writer did is not seen by whoever comes after.
struct Room {
    door: Door,
    seats: [Seat; 2],
    value: UnsafeCell<usize>,
}

// SAFETY: that the cell is only used as the door allows is what is tested; loom panics if it is not.
#[allow(unsafe_code, reason = "loom's cell is to be shared, as the real one is")]
unsafe impl Sync for Room {}

impl Room {
    fn new() -> Arc<Self> {
        let seat = || Seat(AtomicUsize::new(0));
        Arc::new(Self { door: Door::new(), seats: [seat(), seat()], value: UnsafeCell::new(0) })
    }

    fn read(&self, seat: Option<usize>) -> usize {
        let entered = self.door.enter(seat.map(|seat| &self.seats[seat]));
        #[allow(unsafe_code, reason = "as the gate does")]
        // SAFETY: inside as a reader.
        let value = self.value.with(|value| unsafe { *value });
        self.door.leave(&entered);
        value
    }

    fn add(&self) {
        self.door.lock(|| &self.seats);
        self.change();
        self.door.unlock();
    }

    fn try_add(&self) -> bool {
        let inside = self.door.try_lock(|| &self.seats);
        if inside {
            self.change();
            self.door.unlock();
        }
        inside
    }

    fn change(&self) {
        #[allow(unsafe_code, reason = "as the gate does")]
        // SAFETY: inside as the only one.
        self.value.with_mut(|value| unsafe { *value += 1 });
    }
}

fn explore(run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // Bugs of locks show with two or three; without a bound it takes hours.
    model.preemption_bound = Some(3);
    model.check(run);
}

#[test]
fn a_seated_reader_and_a_writer_exclude_each_other() {
    explore(|| {
        let room = Room::new();
        let reader = loom::thread::spawn({
            let room = room.clone();
            move || room.read(Some(0))
        });
        room.add();
        assert!(reader.join().unwrap() <= 1);
        assert_eq!(room.read(Some(1)), 1);
    });
}

#[test]
fn a_reader_without_a_seat_and_a_writer_exclude_each_other() {
    explore(|| {
        let room = Room::new();
        let reader = loom::thread::spawn({
            let room = room.clone();
            move || room.read(None)
        });
        room.add();
        assert!(reader.join().unwrap() <= 1);
        assert_eq!(room.read(None), 1);
    });
}

#[test]
fn two_writers_exclude_each_other_and_none_sleeps_for_ever() {
    explore(|| {
        let room = Room::new();
        let other = loom::thread::spawn({
            let room = room.clone();
            move || room.add()
        });
        room.add();
        other.join().unwrap();
        assert_eq!(room.read(Some(0)), 2);
    });
}

#[test]
fn two_writers_and_a_reader() {
    explore(|| {
        let room = Room::new();
        let writer = loom::thread::spawn({
            let room = room.clone();
            move || room.add()
        });
        let reader = loom::thread::spawn({
            let room = room.clone();
            move || room.read(Some(0))
        });
        room.add();
        writer.join().unwrap();
        assert!(reader.join().unwrap() <= 2);
        assert_eq!(room.read(None), 2);
    });
}

#[test]
fn a_try_beside_a_reader_either_waits_for_nobody_or_is_alone() {
    explore(|| {
        let room = Room::new();
        let reader = loom::thread::spawn({
            let room = room.clone();
            move || room.read(Some(0))
        });
        let inside = room.try_add();
        reader.join().unwrap();
        assert_eq!(room.read(Some(1)), usize::from(inside));
    });
}

#[test]
fn a_read_within_a_read_keeps_the_seat_of_the_outer() {
    explore(|| {
        let room = Room::new();
        let outer = room.door.enter(Some(&room.seats[0]));
        let writer = loom::thread::spawn({
            let other = room.clone();
            move || other.try_add()
        });
        let (inner, elsewhere) = (Room::new(), Room::new());
        let seat = Some(&room.seats[0]);
        let entered = inner.door.enter(seat);
        assert_eq!(elsewhere.read(None), 0);
        inner.door.leave(&entered);
        assert!(!writer.join().unwrap(), "the outer read was over too early");
        room.door.leave(&outer);
    });
}
