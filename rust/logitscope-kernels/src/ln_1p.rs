//! ln(1 + u) in plain arithmetic.
//!
//! A call into the C library between two rows costs more than the logarithm: all vector registers are spilled, and
//! nothing of the next row begins before it returns.

use logitscope_simd::Element;

const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// ln(1 + u) for u >= 0, within 2 ULP; -1 gives -inf, NaN and infinity stay.
///
/// 1 + u = m 2^e with m between sqrt(1/2) and sqrt(2), as in fdlibm's `log1p` (Sun Microsystems, 1993), with the series
/// ln m = 2 atanh s = 2 s + 2/3 s³ + ..., s = (m - 1) / (m + 1). Without a branch, so that a list of numbers is
/// computed in vectors.
#[inline(always)]
pub(crate) fn ln_1p(u: f64) -> f64 {
    let w = 1.0 + u;
    // What the sum was rounded by, over the sum.
    let lost = (if u < 1.0 { u - (w - 1.0) } else { 1.0 - (w - u) }) / w;
    let exponent = w.to_bits().wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits()) as i64 >> 52;
    let m = f64::from_bits(w.to_bits().wrapping_sub((exponent as u64) << 52));
    let e = exponent as f64;
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut series = f64::LN[0];
    for coefficient in &f64::LN[1..] {
        series = series * z + coefficient;
    }
    let half_square = 0.5 * f * f;
    let rest = s * (series * z + half_square) + (e * LN_2_LOW + lost);
    let result = e * LN_2_HIGH + (f - (half_square - rest));
    let result = if w == 0.0 { f64::NEG_INFINITY } else { result };
    if w.is_finite() { result } else { w }
}

/// [`ln_1p`] of each number of a list.
#[inline(always)]
pub(crate) fn ln_1p_each(list: &mut [f64]) {
    for x in list {
        *x = ln_1p(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::ln_1p;

    #[test]
    fn it_agrees_with_the_standard_library_at_every_size() {
        let mut u = 1e-320;
        while u < 1e300 {
            for u in [u, u * 1.3, u * 1.9, u + 0.37, u + 1.0] {
                let (got, want) = (ln_1p(u), u.ln_1p());
                assert!(
                    (got - want).abs() <= 2.0 * f64::EPSILON * want,
                    "ln_1p({u:e}) is {got:e}, not {want:e}"
                );
            }
            u *= 1.7;
        }
    }

    #[test]
    fn ends_and_nan_stay() {
        assert_eq!(ln_1p(0.0), 0.0);
        assert_eq!(ln_1p(-1.0), f64::NEG_INFINITY);
        assert_eq!(ln_1p(f64::INFINITY), f64::INFINITY);
        assert!(ln_1p(f64::NAN).is_nan());
    }
}
