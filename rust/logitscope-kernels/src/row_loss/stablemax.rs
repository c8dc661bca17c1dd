//! Cross entropy over `StableMax`: the loss is ln(1 + R / s(z)) with R the sum of s over the other classes.

use crate::rows::{self, SUM_BLOCK, write_row};
use logitscope_simd::math;
use logitscope_simd::{Element, Simd};

/// The loss of one row, and `factor` times its gradient (p - [k = target]) / (1 + |z|).
#[inline(always)]
pub(super) fn row<T: Element, S: Simd<T>>(
    simd: S,
    logits: &[T],
    target: usize,
    factor: f64,
    gradient: Option<&mut [T]>,
) -> f64 {
    let others = sum(simd, &logits[..target]) + sum(simd, &logits[target + 1..]);
    let z = logits[target].to_f64();
    let own = if z < 0.0 { 1.0 / (1.0 - z) } else { 1.0 + z };
    let total = others + own;
    // Infinity over infinity: nothing can be said.
    let nothing = !total.is_finite();
    if let Some(gradient) = gradient {
        let scale = simd.splat(if nothing { T::NAN } else { T::from_f64(factor / total) });
        let zero = simd.splat(T::ZERO);
        // s(x) / (1 + |x|) is 1 above 0 and s(x)² below.
        write_row!(simd, gradient, x in logits => {
            let share = reciprocal(simd, x);
            let square = simd.mul(share, share);
            let one = simd.splat(T::ONE);
            math::flush(simd, simd.mul(scale, simd.select(simd.less(x, zero), square, one)))
        });
        gradient[target] =
            if nothing { T::NAN } else { rows::normal_or_zero(-factor * (others / total) / (1.0 + z.abs())) };
    }
    if nothing { f64::NAN } else { (others / own).ln_1p() }
}

/// 1 / (1 + |x|).
#[inline(always)]
fn reciprocal<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let one = simd.splat(T::ONE);
    let magnitude = simd.max(x, simd.sub(simd.splat(T::ZERO), x));
    simd.div(one, simd.add(one, magnitude))
}

/// The sum of s.
#[inline(always)]
fn sum<T: Element, S: Simd<T>>(simd: S, row: &[T]) -> f64 {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let mut total = 0.0;
    for part in row.chunks(SUM_BLOCK) {
        let (blocks, tail) = T::blocks(part);
        let mut sum = zero;
        for block in blocks {
            let x = simd.load(block);
            let s = simd.select(simd.less(x, zero), reciprocal(simd, x), simd.add(one, x));
            sum = simd.add(sum, s);
        }
        if !tail.is_empty() {
            let x = simd.load_partial(tail, T::NEG_INFINITY);
            let s = simd.select(simd.less(x, zero), reciprocal(simd, x), simd.add(one, x));
            sum = simd.add(sum, s);
        }
        total += simd.sum(sum).to_f64();
    }
    total
}
