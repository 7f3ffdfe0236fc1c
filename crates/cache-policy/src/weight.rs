//! Weights in seven bits, for queues whose shares are by weight.
//!
//! A weight is rounded down to one of 4 steps for each power of two, so it is off by a fifth at most; the same weight
//! always has the same code, so equal weights give exact shares. Seven bits find room in a byte that a policy
//! has anyway, where the weight itself would cost four.

/// The largest code + 1.
pub(crate) const CODES: u8 = 128;

/// The code of a weight.
#[inline]
pub(crate) fn code(weight: u32) -> u8 {
    if weight < 4 {
        return weight as u8;
    }
    let exponent = weight.ilog2();
    let step = (weight >> (exponent - 2)) & 3;
    ((exponent - 1) * 4 + step) as u8
}

/// The weight that stands for a code.
#[inline]
pub(crate) fn of_code(code: u8) -> u64 {
    let (exponent, step) = (u64::from(code / 4), u64::from(code % 4));
    if exponent == 0 { step.max(1) } else { (4 + step) << (exponent - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_fit_rise_with_the_weight_and_are_off_by_a_fifth_at_most() {
        let mut last = 0;
        for shift in 0..32 {
            for part in 0..64_u64 {
                let weight = ((64 + part) << shift >> 6).min(u64::from(u32::MAX)) as u32;
                let code = code(weight);
                assert!(code < CODES && code >= last, "{weight}");
                last = code;
                let of_code = of_code(code);
                assert!(
                    of_code <= u64::from(weight.max(1)) && of_code * 5 >= u64::from(weight) * 4,
                    "{weight}"
                );
            }
        }
        assert_eq!((of_code(code(0)), of_code(code(1)), of_code(code(7))), (1, 1, 7));
    }
}
