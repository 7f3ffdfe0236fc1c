//! The times of an entry in 20 bytes: one in full, the others as distances from it.
//!
//! A distance of 49 days and more does not fit. It is cut in the safe direction: an entry expires and is due for
//! refresh earlier, never later, is older and began to load earlier, never the other way round.

use crate::Meta;

/// Distance to a time that never comes, or (for the start of the load) that there is none.
const NEVER: u32 = u32::MAX;

/// Aligned to 4 bytes, so that nothing is lost beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    born: [u32; 2],
    hard: u32,
    soft: u32,
    load: u32,
}

impl Times {
    pub(crate) fn new(meta: &Meta) -> Self {
        // What expired before it was born is dead all the same; it must not get more time by the cut.
        let born = meta.born.min(meta.hard_expiry);
        let after = |time: u64| match time {
            u64::MAX => NEVER,
            _ => u32::try_from(time.saturating_sub(born)).unwrap_or(NEVER).min(NEVER - 1),
        };
        let load = match meta.load_start {
            0 => NEVER,
            start => u32::try_from(born.saturating_sub(start)).unwrap_or(NEVER),
        };
        Self {
            born: [born as u32, (born >> 32) as u32],
            hard: after(meta.hard_expiry),
            soft: after(meta.soft_expiry),
            load,
        }
    }

    #[inline]
    pub(crate) fn born(&self) -> u64 {
        u64::from(self.born[0]) | u64::from(self.born[1]) << 32
    }

    #[inline]
    pub(crate) fn hard_expiry(&self) -> u64 {
        self.after(self.hard)
    }

    #[inline]
    pub(crate) fn soft_expiry(&self) -> u64 {
        self.after(self.soft)
    }

    #[inline]
    pub(crate) fn load_start(&self) -> u64 {
        if self.load == NEVER { 0 } else { self.born().saturating_sub(u64::from(self.load)) }
    }

    #[inline]
    fn after(&self, distance: u32) -> u64 {
        if distance == NEVER { u64::MAX } else { self.born().saturating_add(u64::from(distance)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(born: u64, hard_expiry: u64, soft_expiry: u64, load_start: u64) -> [u64; 4] {
        let times = Times::new(&Meta { born, hard_expiry, soft_expiry, load_start, ..Meta::default() });
        [times.born(), times.hard_expiry(), times.soft_expiry(), times.load_start()]
    }

    #[test]
    fn what_fits_is_exact() {
        let born = 1 << 40;
        assert_eq!(there_and_back(born, born + 9, born + 5, born - 3), [born, born + 9, born + 5, born - 3]);
        assert_eq!(there_and_back(7, u64::MAX, u64::MAX, 0), [7, u64::MAX, u64::MAX, 0]);
    }

    #[test]
    fn what_does_not_fit_is_cut_in_the_safe_direction() {
        let far = 1 << 50;
        let [born, hard, soft, load] = there_and_back(far, 2 * far, 3 * far, 5);
        assert!(born == far && hard > far + (1 << 31) && hard < 2 * far && soft <= hard && load == 0);
        // Born after it expired, loaded after it was born.
        assert_eq!(there_and_back(20, 10, 5, 30), [10, 10, 10, 10]);
        let [_, hard, ..] = there_and_back(u64::MAX - 1, u64::MAX - 1, 0, 0);
        assert_eq!(hard, u64::MAX - 1);
    }
}
