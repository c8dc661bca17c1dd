//! Elementary functions over vectors, each written once for every instruction set and element type.

use crate::element::Element;
use crate::simd::Simd;

/// Constants of [`exp`] for one element type.
pub struct ExpConstants<T: 'static> {
    /// log2(e).
    pub log2_e: T,
    /// The leading bits of ln 2, negated: few enough that `n * ln2_hi` is exact.
    pub minus_ln2_hi: T,
    /// The rest of ln 2, negated.
    pub minus_ln2_lo: T,
    /// Coefficients of q in e^t = 1 + t + t² q(t) on |t| <= ln(2)/2, highest power first.
    pub coefficients: &'static [T],
    /// Below this argument the result is flushed to zero: it would not be a normal number.
    pub underflow: T,
    /// Above this argument the result is infinite.
    pub overflow: T,
}

/// Polynomial: Cephes `expf` (Moshier). With fused multiply-add the result is within 1 ULP of the true
/// value over all arguments whose exponential is a normal number (asserted exhaustively in the tests).
pub(crate) const EXP_F32: ExpConstants<f32> = ExpConstants {
    log2_e: std::f32::consts::LOG2_E,
    minus_ln2_hi: -0.693_359_375,
    minus_ln2_lo: 2.121_944_4e-4,
    coefficients: &[
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.000_000_1e-1,
    ],
    underflow: -87.336_54,
    overflow: 88.722_83,
};

/// Polynomial: the Taylor series to t^13, whose remainder on |t| <= ln(2)/2 is below 5e-18.
pub(crate) const EXP_F64: ExpConstants<f64> = ExpConstants {
    log2_e: std::f64::consts::LOG2_E,
    minus_ln2_hi: -6.931_457_519_531_25e-1,
    minus_ln2_lo: -1.428_606_820_309_417_2e-6,
    coefficients: &[
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ],
    underflow: -708.396_418_532_264_1,
    overflow: 709.782_712_893_384,
};

/// e^x lane by lane: NaN gives NaN, +inf gives +inf, and results below the smallest normal number are 0.
///
/// The range reduction is Cody and Waite's: x = n ln 2 + t with |t| <= ln(2)/2, e^x = 2^n e^t.
#[inline(always)]
pub fn exp<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let c = const { T::EXP };
    let n = simd.round(simd.mul(x, simd.splat(c.log2_e)));
    let t = simd.mul_add(n, simd.splat(c.minus_ln2_hi), x);
    let t = simd.mul_add(n, simd.splat(c.minus_ln2_lo), t);
    let mut q = simd.splat(c.coefficients[0]);
    for &coefficient in &c.coefficients[1..] {
        q = simd.mul_add(q, t, simd.splat(coefficient));
    }
    let p = simd.mul_add(q, simd.mul(t, t), t);
    let p = simd.add(p, simd.splat(T::ONE));
    let result = simd.scale_by_pow2(p, n);
    // Selected last: far outside the range n and t are meaningless.
    let result = simd.select(simd.less(x, simd.splat(c.underflow)), simd.splat(T::ZERO), result);
    simd.select(simd.less(simd.splat(c.overflow), x), simd.splat(T::INFINITY), result)
}

/// `x` with everything smaller in magnitude than the smallest normal number replaced by 0, for `x >= 0`.
///
/// Denormals cost a hundred cycles each in the matrix product that reads them.
#[inline(always)]
pub fn flush_positive<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let tiny = simd.less(x, simd.splat(T::MIN_POSITIVE));
    simd.select(tiny, simd.splat(T::ZERO), x)
}
