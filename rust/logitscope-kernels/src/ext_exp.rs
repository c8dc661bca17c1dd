//! The exponential of each element as a (mantissa, exponent) pair, which cannot overflow.

use crate::error::Result;
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::ext_exp::ExtExp;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Elements in a piece.
const PIECE: usize = 1 << 14;

/// Lower numbers have the pair of 0.
const LOWEST: f64 = -4_194_304.0;

/// Fills m and n with e^x = m 2^n, n an integer and m between 0.69 and 1.45; (0, -inf) for negative infinity and what
/// is nearly so, (inf, 0) for positive infinity, NaN for NaN.
///
/// As exact as the element type up to |n| = 2^18.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn ext_exp<X: Stored>(
    x: &[X],
    mantissa: &mut [X::Wide],
    exponent: &mut [X::Wide],
    cancel: &Cancel,
) -> Result<()> {
    rows::check_len("ext_exp", "mantissa", mantissa.len(), x.len())?;
    rows::check_len("ext_exp", "exponent", exponent.len(), x.len())?;
    let work = x.len();
    let outputs = mantissa.chunks_mut(PIECE).zip(exponent.chunks_mut(PIECE));
    let pieces: Vec<_> = x.chunks(PIECE).zip(outputs).collect();
    threads::for_each(pieces, work, cancel, Vec::new, |wide, (x, (mantissa, exponent))| {
        X::Wide::dispatch(Pairs { x: X::wide(x, wide), mantissa, exponent });
    })
}

struct Pairs<'a, T> {
    x: &'a [T],
    mantissa: &'a mut [T],
    exponent: &'a mut [T],
}

impl<T: Element> Kernel<T> for Pairs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let exp = ExtExp::new(simd, T::ONE);
        let (zero, infinity) = (simd.splat(T::ZERO), simd.splat(T::INFINITY));
        let lowest = simd.splat(T::from_f64(LOWEST));
        let outputs = self.mantissa.chunks_mut(T::LANES).zip(self.exponent.chunks_mut(T::LANES));
        for (x, (mantissa, exponent)) in self.x.chunks(T::LANES).zip(outputs) {
            let x = simd.load_partial(x, T::ZERO);
            let (m, n) = exp.eval::<T, S, false>(simd, x);
            let is_zero = simd.less(x, lowest);
            let (m, n) =
                (simd.select(is_zero, zero, m), simd.select(is_zero, simd.splat(T::NEG_INFINITY), n));
            // Infinity and NaN stay what they are; the exponent of infinity is 0.
            let is_finite = simd.less(x, infinity);
            let m = simd.select(is_finite, m, x);
            let n = simd.select(is_finite, n, simd.select(simd.less(zero, x), zero, x));
            simd.store_partial(m, mantissa);
            simd.store_partial(n, exponent);
        }
    }
}
