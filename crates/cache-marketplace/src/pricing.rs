//! Dynamic pricing: what scarcity does to a price.

use crate::Permille;

/// A rule by which the price of a type in a region follows how much of it is free. Must be a pure function.
pub trait Pricing: Send + Sync + 'static {
    /// The factor on the base price when `available` of `total` GPUs are free.
    fn multiplier(&self, available: u64, total: u64) -> Permille;
}

/// Less than 10 % free costs double, less than 30 % half as much again, less than 50 % a fifth more.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScarcityPricing;

impl Pricing for ScarcityPricing {
    fn multiplier(&self, available: u64, total: u64) -> Permille {
        let below = |percent: u128| u128::from(available) * 100 < u128::from(total) * percent;
        match () {
            () if below(10) => Permille(2_000),
            () if below(30) => Permille(1_500),
            () if below(50) => Permille(1_200),
            () => Permille::ONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_exclusive() {
        let rows =
            [(9, 2_000), (10, 1_500), (29, 1_500), (30, 1_200), (49, 1_200), (50, 1_000), (100, 1_000)];
        for (available, expected) in rows {
            assert_eq!(ScarcityPricing.multiplier(available, 100), Permille(expected), "{available} %");
        }
        assert_eq!(ScarcityPricing.multiplier(0, 0), Permille::ONE);
        assert_eq!(ScarcityPricing.multiplier(0, 1), Permille(2_000));
    }
}
