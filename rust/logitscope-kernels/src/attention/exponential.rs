//! The exponential of what lies below the largest score of a row.

use logitscope_simd::{Element, Simd};

/// e^x for x <= 0 lane by lane: NaN gives NaN, and what is below the smallest normal number is 0.
///
/// Three steps fewer than [`logitscope_simd::math::exp`]: nothing is too large, and ln 2 in one part makes the error grow to
/// |x| / 2 units in the last place, which is what the subtraction of the largest score has cost already.
#[inline(always)]
pub(super) fn exp_below<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let c = const { T::EXP };
    let n = simd.round(simd.mul(x, simd.splat(c.log2_e)));
    let t = simd.mul_add(n, simd.splat(T::from_f64(-std::f64::consts::LN_2)), x);
    let mut q = simd.splat(c.coefficients[0]);
    for &coefficient in &c.coefficients[1..] {
        q = simd.mul_add(q, t, simd.splat(coefficient));
    }
    let one = simd.splat(T::ONE);
    let power = simd.mul_add(simd.mul_add(q, t, one), t, one);
    // Selected last: far below n and t are meaningless.
    simd.zero_where_less(x, simd.splat(c.underflow), simd.scale_by_pow2(power, n))
}
