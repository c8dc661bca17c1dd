//! The margin of a row as a loss: by how much the largest other logit is above the target's.

use crate::rows;
use logitscope_simd::{Element, Simd};

/// The loss of one row, and `factor` times its gradient: 1 at the first of the largest others, -1 at the target.
#[inline(always)]
pub(super) fn row<T: Element, S: Simd<T>>(
    simd: S,
    logits: &[T],
    target: usize,
    factor: f64,
    gradient: Option<&mut [T]>,
) -> f64 {
    let (before, after) = (&logits[..target], &logits[target + 1..]);
    let (first, second) = (rows::maximum(simd, before), rows::maximum(simd, after));
    let largest = if second > first { second } else { first };
    let known = is_below_infinity(simd, logits);
    if let Some(gradient) = gradient {
        gradient.fill(if known { T::ZERO } else { T::NAN });
        if known {
            let is_largest = |&(class, x): &(usize, &T)| class != target && *x == largest;
            if let Some((class, _)) = logits.iter().enumerate().find(is_largest) {
                gradient[class] = rows::normal_or_zero(factor);
            }
            gradient[target] = rows::normal_or_zero(-factor);
        }
    }
    if known { largest.to_f64() - logits[target].to_f64() } else { f64::NAN }
}

/// Whether a row has neither NaN nor positive infinity.
#[inline(always)]
fn is_below_infinity<T: Element, S: Simd<T>>(simd: S, row: &[T]) -> bool {
    let (infinity, one) = (simd.splat(T::INFINITY), simd.splat(T::ONE));
    let mut found = simd.splat(T::ZERO);
    let (blocks, tail) = T::blocks(row);
    for block in blocks {
        found = simd.select(simd.less(simd.load(block), infinity), found, one);
    }
    found = simd.select(simd.less(simd.load_partial(tail, T::ZERO), infinity), found, one);
    simd.sum(found) == T::ZERO
}
