//! Money in integer micro-dollars. Nothing here is ever a float.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MICROS: u64 = 1_000_000;
const HOUR_MS: u128 = 3_600_000;

/// An amount in millionths of a US dollar. As JSON and on the wire it is that integer.
///
/// ```
/// use cache_marketplace::MicroUsd;
/// let price: MicroUsd = "1.65".parse()?;
/// assert_eq!(price, MicroUsd(1_650_000));
/// assert_eq!(price.to_string(), "1.65");
/// # Ok::<(), cache_marketplace::MoneyError>(())
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

/// A factor in thousandths: 1,500 is ×1.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permille(pub u32);

impl Permille {
    /// ×1.
    pub const ONE: Self = Self(1_000);
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Anything but digits, optionally with a point and more digits.
    #[error("{0:?} is not an amount such as 1.65")]
    NotAnAmount(String),
    /// Finer than a millionth.
    #[error("{0:?} has more than 6 decimals")]
    TooFine(String),
    /// Beyond what the type holds.
    #[error("{0:?} is too large an amount")]
    TooLarge(String),
}

impl MicroUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(u64::MAX);

    /// The amount times the factor, rounded half up to the micro-dollar; [`MAX`](Self::MAX) at the limit.
    #[must_use]
    pub fn scaled(self, factor: Permille) -> Self {
        Self::rounded(u128::from(self.0) * u128::from(factor.0), 1_000)
    }

    /// What so many milliseconds cost at this price per hour, rounded half up; [`MAX`](Self::MAX) at the limit.
    #[must_use]
    pub fn for_duration(self, milliseconds: u64) -> Self {
        Self::rounded(u128::from(self.0) * u128::from(milliseconds), HOUR_MS)
    }

    /// A sum divided by a number (at least 1), rounded half up.
    pub(crate) fn rounded(sum: u128, by: u128) -> Self {
        let by = by.max(1);
        Self(u64::try_from((sum + by / 2) / by).unwrap_or(u64::MAX))
    }
}

impl FromStr for MicroUsd {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let shown = || text.chars().take(80).collect::<String>();
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        if !digits(whole) || !digits(decimals) {
            return Err(MoneyError::NotAnAmount(shown()));
        }
        if decimals.len() > 6 {
            return Err(MoneyError::TooFine(shown()));
        }
        let too_large = || MoneyError::TooLarge(shown());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let micros: u64 = format!("{decimals:0<6}").parse().map_err(|_| too_large())?;
        whole.checked_mul(MICROS).and_then(|whole| whole.checked_add(micros)).map(Self).ok_or_else(too_large)
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars with two to six decimals, exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % MICROS);
        let (cents, rest) = decimals.split_at(2);
        write!(f, "{}.{cents}{}", self.0 / MICROS, rest.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_exactly() {
        let rows = [
            ("1.65", 1_650_000),
            ("0", 0),
            ("0.000001", 1),
            ("12.345678", 12_345_678),
            ("007.10", 7_100_000),
            ("18446744073709.551615", u64::MAX),
        ];
        for (text, micros) in rows {
            assert_eq!(text.parse(), Ok(MicroUsd(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_named() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "NaN", "1.2.3", "١"] {
            assert_eq!(text.parse::<MicroUsd>(), Err(MoneyError::NotAnAmount(text.into())));
        }
        let fine = "1.1234567".parse::<MicroUsd>().unwrap_err();
        assert_eq!(fine.to_string(), "\"1.1234567\" has more than 6 decimals");
        for text in ["18446744073709.551616", "99999999999999999999999"] {
            assert_eq!(text.parse::<MicroUsd>(), Err(MoneyError::TooLarge(text.into())));
        }
    }

    #[test]
    fn factors_and_durations_round_half_up() {
        assert_eq!(MicroUsd(1_650_000).scaled(Permille(1_500)), MicroUsd(2_475_000));
        assert_eq!(MicroUsd(1).scaled(Permille(1_500)), MicroUsd(2));
        assert_eq!(MicroUsd(1).scaled(Permille(1_200)), MicroUsd(1));
        assert_eq!(MicroUsd(u64::MAX).scaled(Permille::ONE), MicroUsd::MAX);
        assert_eq!(MicroUsd(u64::MAX).scaled(Permille(2_000)), MicroUsd::MAX);
        assert_eq!(MicroUsd(2_000_000).for_duration(90 * 60_000), MicroUsd(3_000_000));
        assert_eq!(MicroUsd(1).for_duration(1_800_000), MicroUsd(1));
        assert_eq!(MicroUsd(1).for_duration(1_799_999), MicroUsd(0));
    }

    #[test]
    fn json_is_the_integer_and_nothing_else() {
        assert_eq!(serde_json::to_string(&MicroUsd(1_650_000)).unwrap(), "1650000");
        for wrong in ["1.65", "-1", "\"1650000\""] {
            assert!(serde_json::from_str::<MicroUsd>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_reads_back_from_its_text(micros: u64) {
            prop_assert_eq!(MicroUsd(micros).to_string().parse(), Ok(MicroUsd(micros)));
        }
    }
}
