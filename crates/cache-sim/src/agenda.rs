//! What is under way: messages, each with the instant of its arrival. One task carries all of them out, in order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::world::World;

type Deed = Box<dyn FnOnce(&Arc<World>) + Send>;

/// Deeds by instant and, of one instant, in the order in which they were asked for.
#[derive(Default)]
pub(crate) struct Agenda {
    waiting: Mutex<Waiting>,
    sooner: Notify,
}

#[derive(Default)]
struct Waiting {
    deeds: BTreeMap<(u64, u64), Deed>,
    serial: u64,
    done: u64,
}

impl Agenda {
    /// Asks for a deed at an instant.
    pub(crate) fn at(&self, ms: u64, deed: impl FnOnce(&Arc<World>) + Send + 'static) {
        let mut waiting = self.waiting.lock();
        waiting.serial += 1;
        let place = (ms, waiting.serial);
        let first = waiting.deeds.first_key_value().map(|(place, _)| Reverse(*place));
        waiting.deeds.insert(place, Box::new(deed));
        if first.is_none_or(|first| Reverse(place) > first) {
            self.sooner.notify_one();
        }
    }

    /// How many deeds were done.
    pub(crate) fn done(&self) -> u64 {
        self.waiting.lock().done
    }

    fn due(&self, now: u64) -> Result<Deed, Option<u64>> {
        let mut waiting = self.waiting.lock();
        match waiting.deeds.first_entry() {
            Some(first) if first.key().0 <= now => {
                let deed = first.remove();
                waiting.done += 1;
                Ok(deed)
            }
            first => Err(first.map(|first| first.key().0)),
        }
    }
}

/// Carries deeds out for ever.
pub(crate) async fn carry_out(world: Arc<World>) {
    loop {
        match world.agenda.due(world.now()) {
            Ok(deed) => deed(&world),
            Err(next) => {
                tokio::select! {
                    biased;
                    () = world.agenda.sooner.notified() => {}
                    () = tokio::time::sleep_until(world.timeline.at(next.unwrap_or(0))), if next.is_some() => {}
                }
            }
        }
    }
}
