//! Sums of exponentials as (mantissa, exponent) pairs: a running sum that needs no maximum and cannot overflow.

use crate::long;
use logitscope_simd::ext_exp::{EXACT_EXPONENT, ExtExp};
use logitscope_simd::{Element, Simd, Stored};

/// Elements whose sum is formed in `T`: 16 additions a lane.
const SUM_BLOCK: usize = 1024;

/// Below the exponent of any pair that [`ExtExp`] gives.
const LOWEST_EXPONENT: f64 = -8_388_608.0;

/// The number m 2^n, n an integer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExtSum {
    pub mantissa: f64,
    pub exponent: f64,
}

impl Default for ExtSum {
    /// Zero.
    fn default() -> Self {
        ExtSum { mantissa: 0.0, exponent: LOWEST_EXPONENT }
    }
}

/// 2^n for an integer n <= 0; 0 where that is no normal number.
fn pow2(n: f64) -> f64 {
    if n < -1022.0 { 0.0 } else { f64::from_bits(((n as i64 + 1023) as u64) << 52) }
}

impl ExtSum {
    /// The sum of two: both are brought to the larger exponent by exact factors.
    pub(crate) fn add(self, other: Self) -> Self {
        let exponent = if self.exponent > other.exponent { self.exponent } else { other.exponent };
        let at = |part: Self| part.mantissa * pow2(part.exponent - exponent);
        ExtSum { mantissa: at(self) + at(other), exponent }
    }

    /// The sum of e^{scale x} over a row; `SCALED` says whether the scale is other than 1.
    #[inline(always)]
    fn of_row<X: Stored, S: Simd<X::Wide>, const SCALED: bool>(
        simd: S,
        exp: &ExtExp<S::Vector>,
        row: &[X],
    ) -> Self {
        let mut total = ExtSum::default();
        for part in row.chunks(SUM_BLOCK) {
            total = total.add(Self::of_block::<X, S, SCALED>(simd, exp, part));
        }
        total
    }

    #[inline(always)]
    fn of_block<X: Stored, S: Simd<X::Wide>, const SCALED: bool>(
        simd: S,
        exp: &ExtExp<S::Vector>,
        part: &[X],
    ) -> Self {
        let (packs, tail) = X::packs(part);
        let (fours, rest) = packs.as_chunks::<4>();
        let (pairs, odd) = fours.as_chunks::<2>();
        let nothing = (simd.splat(X::Wide::ZERO), simd.splat(X::Wide::from_f64(LOWEST_EXPONENT)));
        // Two sums: where one element towers, fewer of the others are rounded to it.
        let mut sums = [nothing; 2];
        for pair in pairs {
            for (sum, four) in sums.iter_mut().zip(pair) {
                *sum = add_four::<X, S, SCALED>(simd, exp, *sum, four);
            }
        }
        for four in odd {
            sums[0] = add_four::<X, S, SCALED>(simd, exp, sums[0], four);
        }
        for pack in rest {
            sums[1] = add_one(simd, sums[1], exp.eval::<X::Wide, S, SCALED>(simd, X::load(simd, pack)));
        }
        if !tail.is_empty() {
            let x = X::load_partial(simd, tail, X::Wide::NEG_INFINITY);
            sums[1] = add_one(simd, sums[1], exp.eval::<X::Wide, S, SCALED>(simd, x));
        }
        let sum = add_one(simd, sums[0], sums[1]);
        let exponent = simd.max_lane(sum.1);
        let mantissa = simd.sum(at(simd, sum, simd.splat(exponent)));
        ExtSum { mantissa: mantissa.to_f64(), exponent: exponent.to_f64() }
    }

    /// The sum with a mantissa between 1 and 2; None if pairs so large are not exact, or it is no positive number.
    pub(crate) fn normalised(self) -> Option<Self> {
        let inexact = self.exponent.abs() > EXACT_EXPONENT;
        if inexact || !self.mantissa.is_normal() || self.mantissa < 0.0 {
            return None;
        }
        let bits = self.mantissa.to_bits();
        let power = (bits >> 52) as i32 - 1023;
        let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1.0_f64.to_bits());
        Some(ExtSum { mantissa, exponent: self.exponent + f64::from(power) })
    }
}

/// The mantissa of a pair at a larger exponent.
#[inline(always)]
fn at<T: Element, S: Simd<T>>(simd: S, (m, n): (S::Vector, S::Vector), exponent: S::Vector) -> S::Vector {
    simd.scale_down_by_pow2(m, simd.sub(n, exponent))
}

/// Adds the exponentials of four vectors of elements.
#[inline(always)]
fn add_four<X: Stored, S: Simd<X::Wide>, const SCALED: bool>(
    simd: S,
    exp: &ExtExp<S::Vector>,
    sum: (S::Vector, S::Vector),
    [a, b, c, d]: &[X::Pack; 4],
) -> (S::Vector, S::Vector) {
    let (a, b) = (X::load(simd, a), X::load(simd, b));
    let (a, b) = (exp.eval::<X::Wide, S, SCALED>(simd, a), exp.eval::<X::Wide, S, SCALED>(simd, b));
    let (c, d) = (X::load(simd, c), X::load(simd, d));
    let (c, d) = (exp.eval::<X::Wide, S, SCALED>(simd, c), exp.eval::<X::Wide, S, SCALED>(simd, d));
    let exponent = simd.max(simd.max(simd.max(a.1, b.1), simd.max(c.1, d.1)), sum.1);
    let low = simd.add(at(simd, a, exponent), at(simd, b, exponent));
    let high = simd.add(at(simd, c, exponent), at(simd, d, exponent));
    (simd.add(at(simd, sum, exponent), simd.add(low, high)), exponent)
}

#[inline(always)]
fn add_one<T: Element, S: Simd<T>>(
    simd: S,
    sum: (S::Vector, S::Vector),
    power: (S::Vector, S::Vector),
) -> (S::Vector, S::Vector) {
    let exponent = simd.max(sum.1, power.1);
    (simd.add(at(simd, sum, exponent), at(simd, power, exponent)), exponent)
}

/// x -> e^{scale x} / sum, for a normalised sum; what is no normal number becomes 0.
#[derive(Clone, Copy)]
pub(crate) struct ExtQuotient<V> {
    exp: ExtExp<V>,
    /// 1 / mantissa, and what that is rounded by: a lone element gets exactly 1.
    factor: V,
    factor_rest: V,
    exponent: V,
    lowest: V,
}

impl<V: Copy> ExtQuotient<V> {
    #[inline(always)]
    pub(crate) fn new<T: Element, S: Simd<T, Vector = V>>(simd: S, exp: ExtExp<V>, sum: ExtSum) -> Self {
        let factor = T::from_f64(1.0 / sum.mantissa);
        let rest = (-factor.to_f64()).mul_add(sum.mantissa, 1.0) * factor.to_f64();
        ExtQuotient {
            exp,
            factor: simd.splat(factor),
            factor_rest: simd.splat(T::from_f64(rest)),
            exponent: simd.splat(T::from_f64(sum.exponent)),
            // A mantissa of at least 0.69 / 2 leaves 2^lowest times it normal.
            lowest: simd.splat(T::EXP.lowest_exponent + T::ONE),
        }
    }

    #[inline(always)]
    pub(crate) fn eval<T: Element, S: Simd<T, Vector = V>, const SCALED: bool>(&self, simd: S, x: V) -> V {
        let (m, n) = self.exp.eval::<T, S, SCALED>(simd, x);
        let n = simd.sub(n, self.exponent);
        let quotient = simd.mul_add(m, self.factor, simd.mul(m, self.factor_rest));
        let quotient = simd.scale_by_pow2(quotient, n);
        simd.zero_where_less(n, self.lowest, quotient)
    }

    /// Writes a row; `STREAM` says whether past the caches.
    #[inline(always)]
    fn write<X: Stored, S: Simd<X::Wide, Vector = V>, const SCALED: bool, const STREAM: bool>(
        &self,
        simd: S,
        x: &[X],
        y: &mut [X],
    ) {
        let ((x_packs, x_tail), (y_packs, y_tail)) = (X::packs(x), X::packs_mut(y));
        for (x, y) in x_packs.iter().zip(y_packs) {
            let quotient = self.eval::<X::Wide, S, SCALED>(simd, X::load(simd, x));
            if STREAM {
                X::store_stream(simd, quotient, y);
            } else {
                X::store(simd, quotient, y);
            }
        }
        if !x_tail.is_empty() {
            let x = X::load_partial(simd, x_tail, X::Wide::ZERO);
            X::store_partial(simd, self.eval::<X::Wide, S, SCALED>(simd, x), y_tail);
        }
    }
}

/// The sum of e^{scale x} over a row.
#[inline(always)]
pub(crate) fn sum_of_row<X: Stored, S: Simd<X::Wide>>(simd: S, row: &[X], scale: X::Wide) -> ExtSum {
    let exp = ExtExp::new(simd, scale);
    if scale == X::Wide::ONE {
        ExtSum::of_row::<X, S, false>(simd, &exp, row)
    } else {
        ExtSum::of_row::<X, S, true>(simd, &exp, row)
    }
}

/// Writes e^{scale x} / sum over a row, for a normalised sum.
#[inline(always)]
pub(crate) fn write_quotients<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    x: &[X],
    scale: X::Wide,
    sum: ExtSum,
    y: &mut [X],
) {
    let quotient = ExtQuotient::new(simd, ExtExp::new(simd, scale), sum);
    if scale == X::Wide::ONE {
        quotient.write::<X, S, false, false>(simd, x, y);
    } else {
        quotient.write::<X, S, true, false>(simd, x, y);
    }
}

/// As [`write_quotients`], past the caches.
#[inline(always)]
pub(crate) fn stream_quotients<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    x: &[X],
    scale: X::Wide,
    sum: ExtSum,
    y: &mut [X],
) {
    let ahead = long::until_aligned(y);
    let (first_x, x) = x.split_at(ahead);
    let (first_y, y) = y.split_at_mut(ahead);
    write_quotients(simd, first_x, scale, sum, first_y);
    let quotient = ExtQuotient::new(simd, ExtExp::new(simd, scale), sum);
    if scale == X::Wide::ONE {
        quotient.write::<X, S, false, true>(simd, x, y);
    } else {
        quotient.write::<X, S, true, true>(simd, x, y);
    }
    simd.fence();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(mantissa: f64, exponent: f64) -> ExtSum {
        ExtSum { mantissa, exponent }
    }

    #[test]
    fn zero_is_neutral_and_order_does_not_matter() {
        let (a, b) = (pair(1.25, -40.0), pair(0.75, 3.0));
        for sum in [a.add(ExtSum::default()), ExtSum::default().add(a)] {
            assert_eq!((sum.mantissa, sum.exponent), (1.25, -40.0));
        }
        let (one, other) = (a.add(b), b.add(a));
        assert_eq!((one.mantissa, one.exponent), (other.mantissa, other.exponent));
        assert_eq!(one.mantissa, 0.75 + 1.25 * 2.0_f64.powi(-43));
    }

    #[test]
    fn far_smaller_numbers_add_nothing_and_nan_stays() {
        let sum = pair(1.0, 200_000.0).add(pair(1.0, -200_000.0));
        assert_eq!((sum.mantissa, sum.exponent), (1.0, 200_000.0));
        assert!(pair(f64::NAN, 0.0).add(pair(1.0, -3000.0)).mantissa.is_nan());
        assert!(pair(f64::NAN, f64::INFINITY).add(pair(1.0, 0.0)).normalised().is_none());
    }

    #[test]
    fn normalised_mantissas_lie_between_one_and_two() {
        let sum = pair(40.0, -3.0).normalised().unwrap();
        assert_eq!((sum.mantissa, sum.exponent), (1.25, 2.0));
        assert!(pair(1.0, 300_000.0).normalised().is_none());
        assert!(ExtSum::default().normalised().is_none());
    }
}
