//! Two times of an entry in 4 bytes each: as distances from when the value was born.
//!
//! A distance of 49 days (2^32 ms) and more does not fit. It is cut in the safe direction: the entry is due for refresh
//! earlier, and its load began earlier.

/// Distance to a time that never comes, or (for the start of the load) that there is none.
const NEVER: u32 = u32::MAX;

/// How long after `born` the time is.
pub(crate) fn after(born: u64, time: u64) -> u32 {
    match time {
        u64::MAX => NEVER,
        _ => u32::try_from(time.saturating_sub(born)).unwrap_or(NEVER).min(NEVER - 1),
    }
}

/// The time so long after.
#[inline]
pub(crate) fn later(born: u64, distance: u32) -> u64 {
    if distance == NEVER { u64::MAX } else { born.saturating_add(u64::from(distance)) }
}

/// How long before `born` the time is; 0 is no time.
pub(crate) fn before(born: u64, time: u64) -> u32 {
    match time {
        0 => NEVER,
        _ => u32::try_from(born.saturating_sub(time)).unwrap_or(NEVER),
    }
}

/// The time so long before.
#[inline]
pub(crate) fn earlier(born: u64, distance: u32) -> u64 {
    if distance == NEVER { 0 } else { born.saturating_sub(u64::from(distance)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(born: u64, soft_expiry: u64, load_start: u64) -> [u64; 2] {
        [later(born, after(born, soft_expiry)), earlier(born, before(born, load_start))]
    }

    #[test]
    fn what_fits_is_exact() {
        let born = 1 << 40;
        assert_eq!(there_and_back(born, born + 5, born - 3), [born + 5, born - 3]);
        assert_eq!(there_and_back(7, u64::MAX, 0), [u64::MAX, 0]);
        assert_eq!(there_and_back(u64::MAX - 1, u64::MAX - 1, 0), [u64::MAX - 1, 0]);
    }

    #[test]
    fn what_does_not_fit_is_cut_in_the_safe_direction() {
        let far = 1 << 50;
        let [soft, load] = there_and_back(far, 3 * far, 5);
        assert!(soft > far + (1 << 31) && soft < 3 * far && load == 0);
        // Due for refresh before it was born, loaded after.
        assert_eq!(there_and_back(20, 10, 30), [20, 20]);
    }
}
