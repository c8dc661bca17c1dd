//! The spherical family: losses of a row's sum, its sum of squares and the target's logit.
//!
//! Their gradient is base + slope (z - shift) at every class, and something more at the target.

use super::RowLoss;
use crate::rows::{self, SUM_BLOCK, write_row};
use logitscope_simd::math;
use logitscope_simd::{Element, Simd};

/// A loss and its gradient.
struct Affine<T> {
    loss: f64,
    base: f64,
    slope: f64,
    shift: T,
    at_target: f64,
}

/// The loss of one row, and `factor` times its gradient.
#[inline(always)]
pub(super) fn row<T: Element, S: Simd<T>>(
    simd: S,
    loss: RowLoss,
    logits: &[T],
    target: usize,
    factor: f64,
    gradient: Option<&mut [T]>,
) -> f64 {
    let (count, own) = (logits.len() as f64, logits[target].to_f64());
    let affine = match loss {
        RowLoss::ZStandardized { a, b } => {
            // From the target's logit, not from 0: a common offset is gone before anything is rounded.
            let mean = own + moments(simd, logits, logits[target]).0 / count;
            let shift = T::from_f64(mean);
            standardized(moments(simd, logits, shift), shift, count, own, a, b)
        }
        RowLoss::Spherical { epsilon } => {
            let total = moments(simd, logits, T::ZERO).1 + count * epsilon;
            let share = own * own + epsilon;
            Affine {
                loss: total.ln() - share.ln(),
                base: 0.0,
                slope: 2.0 / total,
                shift: T::ZERO,
                at_target: -2.0 * own / share,
            }
        }
        RowLoss::Squared => {
            // Less than 0 by rounding alone. (`max` would lose a NaN.)
            let others = moments(simd, logits, T::ZERO).1 - own * own;
            let others = if others < 0.0 { 0.0 } else { others };
            Affine {
                loss: others + (own - 1.0) * (own - 1.0),
                base: 0.0,
                slope: 2.0,
                shift: T::ZERO,
                at_target: -2.0,
            }
        }
        RowLoss::Taylor | RowLoss::StableMax { .. } | RowLoss::Margin => {
            let (sum, squares) = moments(simd, logits, T::ZERO);
            let total = count + sum + 0.5 * squares;
            let share = 1.0 + own + 0.5 * own * own;
            Affine {
                loss: ((total - share) / share).ln_1p(),
                base: 1.0 / total,
                slope: 1.0 / total,
                shift: T::ZERO,
                at_target: -(1.0 + own) / share,
            }
        }
    };
    // Of infinite sums nothing can be said.
    let affine =
        if affine.loss.is_finite() { affine } else { Affine { loss: f64::NAN, slope: f64::NAN, ..affine } };
    if let Some(gradient) = gradient {
        let Affine { base, slope, shift, at_target, .. } = affine;
        let (even, steep) = (simd.splat(T::from_f64(factor * base)), simd.splat(T::from_f64(factor * slope)));
        let from = simd.splat(shift);
        write_row!(simd, gradient, x in logits => {
            math::flush(simd, simd.mul_add(steep, simd.sub(x, from), even))
        });
        let at_target = base + slope * (own - shift.to_f64()) + at_target;
        gradient[target] = rows::normal_or_zero(factor * at_target);
    }
    affine.loss
}

/// The Z-loss from the sums of x - shift and of (x - shift)², shift being the mean up to rounding.
#[inline(always)]
fn standardized<T: Element>(
    (sum, squares): (f64, f64),
    shift: T,
    count: f64,
    own: f64,
    a: f64,
    b: f64,
) -> Affine<T> {
    let rest = sum / count;
    let deviation = (squares / count - rest * rest).max(0.0).sqrt();
    // Of equal logits none stands out, and no direction lowers the loss. (NaN is not equal to 0.)
    let flat = deviation == 0.0;
    let z = if flat { 0.0 } else { (own - shift.to_f64() - rest) / deviation };
    let t = a * (b - z);
    // The derivative with respect to z: minus the logistic function of t.
    let of_z = if t >= 0.0 { -1.0 / (1.0 + (-t).exp()) } else { -t.exp() / (1.0 + t.exp()) };
    let at_target = if flat { 0.0 } else { of_z / deviation };
    let slope = if flat { 0.0 } else { -at_target * z / (count * deviation) };
    let softplus = t.max(0.0) + (-t.abs()).exp().ln_1p();
    Affine {
        loss: if squares.is_finite() { softplus / a } else { f64::NAN },
        base: -at_target / count - slope * rest,
        slope,
        shift,
        at_target,
    }
}

/// The sums of x - shift and of (x - shift)².
#[inline(always)]
fn moments<T: Element, S: Simd<T>>(simd: S, row: &[T], shift: T) -> (f64, f64) {
    let from = simd.splat(shift);
    let mut totals = (0.0, 0.0);
    for part in row.chunks(SUM_BLOCK) {
        let (blocks, tail) = T::blocks(part);
        let (mut sum, mut squares) = (simd.splat(T::ZERO), simd.splat(T::ZERO));
        for block in blocks {
            let x = simd.sub(simd.load(block), from);
            (sum, squares) = (simd.add(sum, x), simd.mul_add(x, x, squares));
        }
        if !tail.is_empty() {
            let x = simd.sub(simd.load_partial(tail, shift), from);
            (sum, squares) = (simd.add(sum, x), simd.mul_add(x, x, squares));
        }
        totals.0 += simd.sum(sum).to_f64();
        totals.1 += simd.sum(squares).to_f64();
    }
    totals
}
