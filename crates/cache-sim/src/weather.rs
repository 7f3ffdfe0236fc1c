//! How messages fare: what is lost, late or repeated, in general and on the line of one node.

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From a node to the server.
    Out,
    /// The answer.
    Back,
    /// A hint.
    Hints,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives after so many milliseconds.
    After(u64),
    /// It never arrives, and nobody is told.
    Lost,
    /// It is refused at once.
    Refused,
}

/// What holds for all lines. Shares are of a thousand messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// The least and the most that a message usually takes, in milliseconds.
    pub(crate) delay: (u64, u64),
    pub(crate) lost_permille: u32,
    pub(crate) hints_lost_permille: u32,
    /// Hints that come twice.
    pub(crate) repeated_permille: u32,
    pub(crate) garbled_permille: u32,
    /// Messages that are late, by up to `late_ms`.
    pub(crate) late_permille: u32,
    pub(crate) late_ms: u64,
    /// Faults during which a third of all messages is late.
    pub(crate) late_for_all: u32,
    /// Requests that a dead connection delivers long after the caller has given up.
    pub(crate) posthumous_permille: u32,
    /// Everything takes so many times as long; 0 = 1.
    pub(crate) slow: u64,
}

/// The line of one node. Each count is of faults that lie upon it, so that they may overlap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) out_cut: u32,
    pub(crate) back_cut: u32,
    pub(crate) hints_cut: u32,
    /// The control connections alone.
    pub(crate) control_cut: u32,
    pub(crate) refused: u32,
}

impl Line {
    pub(crate) fn is_cut(&self, way: Way) -> bool {
        match way {
            Way::Out => self.out_cut > 0,
            Way::Back => self.back_cut > 0,
            Way::Hints => self.hints_cut > 0,
        }
    }

    pub(crate) fn fate(&self, way: Way, weather: &Weather, rng: &mut fastrand::Rng) -> Fate {
        if self.refused > 0 && way == Way::Out {
            return Fate::Refused;
        }
        let lost = if way == Way::Hints { weather.hints_lost_permille } else { weather.lost_permille };
        if self.is_cut(way) || rng.u32(0..1000) < lost {
            return Fate::Lost;
        }
        let (least, most) = weather.delay;
        let mut delay = rng.u64(least..=most) * weather.slow.max(1);
        let (late_permille, late_ms) = match weather.late_for_all {
            0 => (weather.late_permille, weather.late_ms),
            _ => (333, 300),
        };
        if rng.u32(0..1000) < late_permille {
            delay += rng.u64(0..=late_ms);
        }
        Fate::After(delay)
    }
}
