//! The clock of a node: runs a little fast or slow, has a grain, jumps when told, and stands still while the node does.

use cache_events::Clock;
use parking_lot::Mutex;

use crate::server::EPOCH_OF_TIME;
use crate::time::Timeline;

/// What every logical clock shows at the start.
const BORN: u64 = 1_000;

/// One node's clock.
#[derive(Debug)]
pub(crate) struct NodeClock {
    timeline: Timeline,
    /// Milliseconds gained in a million.
    drift: i64,
    /// It shows multiples of this, in milliseconds.
    grain: u64,
    hands: Mutex<Hands>,
}

#[derive(Debug, Default)]
struct Hands {
    ahead: u64,
    wall_off: i64,
    stopped_at: Option<u64>,
    last: u64,
}

impl NodeClock {
    pub(crate) fn new(timeline: Timeline, drift: i64, grain: u64, wall_off: i64) -> Self {
        let hands = Hands { wall_off, ..Hands::default() };
        Self { timeline, drift, grain: grain.max(1), hands: Mutex::new(hands) }
    }

    /// The machine slept, or its clock was put forward: both times jump.
    pub(crate) fn forward(&self, ms: u64) {
        let mut hands = self.hands.lock();
        hands.ahead += ms;
        hands.wall_off += ms as i64;
    }

    /// The wall clock was put back; logical time goes on.
    pub(crate) fn wall_back(&self, ms: u64) {
        self.hands.lock().wall_off -= ms as i64;
    }

    /// The process stands still: whatever it reads now, it read before.
    pub(crate) fn stop(&self) {
        self.hands.lock().stopped_at.get_or_insert(self.timeline.ms());
    }

    /// The process goes on, and sees how late it is.
    pub(crate) fn go_on(&self) {
        self.hands.lock().stopped_at = None;
    }
}

impl Clock for NodeClock {
    fn now(&self) -> u64 {
        let mut hands = self.hands.lock();
        let world = hands.stopped_at.unwrap_or_else(|| self.timeline.ms());
        let drifted = world.saturating_add_signed(world as i64 * self.drift / 1_000_000);
        let shown = BORN + drifted + hands.ahead;
        hands.last = hands.last.max(shown - shown % self.grain);
        hands.last
    }

    fn wall(&self) -> u64 {
        let hands = self.hands.lock();
        let world = hands.stopped_at.unwrap_or_else(|| self.timeline.ms());
        (EPOCH_OF_TIME + world).saturating_add_signed(hands.wall_off)
    }
}
