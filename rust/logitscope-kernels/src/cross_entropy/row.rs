//! One row in two sweeps: a single target class and nothing but factors between loss and gradient.

use super::problem::{Problem, Target};
use super::spread_row::{Scratch, spread_row};
use crate::ln_1p::ln_1p;
use crate::rows;
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Simd};

/// Elements searched one by one for the first maximum.
const SEARCH: usize = 256;

/// What one row gives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowLoss {
    pub loss: f64,
    pub penalty: f64,
    pub v: f64,
    pub lse: f64,
    /// NaN where nobody asked.
    pub entropy: f64,
    /// NaN where nobody asked.
    pub margin: f64,
    pub collapsed: bool,
    /// 0 where nobody asked.
    pub argmax: usize,
}

/// The sum of the exponentials of a row below its maximum, seen from one class.
pub(crate) struct RowSum {
    /// The exponential of the class.
    pub own: f64,
    /// The sum of all.
    pub total: f64,
    /// Its logarithm.
    pub ln: f64,
    /// 1 - p of the class.
    pub missing: f64,
    /// Whether the exponential of the class absorbs the others in a sum of `T`s.
    pub absorbs: bool,
}

impl RowSum {
    /// From the sum over the other classes and the scaled distance of the class from the maximum.
    #[inline(always)]
    pub(crate) fn new<T: Element>(others: f64, distance: f64, complement: bool) -> Self {
        let own = (-distance).exp();
        let total = others + own;
        let absorbs = distance == 0.0 && T::ONE + T::from_f64(others) == T::ONE;
        if complement {
            // Where the class is not the largest, the largest is one of the others, which then sum up to 1 or more.
            let ln = ln_1p(if distance == 0.0 { others } else { (others - 1.0) + own });
            return RowSum { own, total, ln, missing: others / total, absorbs };
        }
        // As a computation in `T` has it, rounding included.
        let total = T::from_f64(total);
        let missing = T::ONE - T::from_f64(own) / total;
        RowSum { own, total: total.to_f64(), ln: total.ln().to_f64(), missing: missing.to_f64(), absorbs }
    }
}

/// Which statistics of a row are asked for beyond those that cost nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub argmax: bool,
    pub margin: bool,
    pub entropy: bool,
}

/// What is asked of one row.
pub(crate) struct Question<'a, T: Element> {
    pub problem: &'a Problem<'a, T>,
    pub logits: &'a [T],
    /// The next row, for the caches.
    pub ahead: &'a [T],
    /// 1 / temperature.
    pub scale: T,
    /// Of the gradients of loss and penalties.
    pub factors: (f64, f64),
    pub wanted: Wanted,
}

/// The loss and the penalties of a row, and their gradient; a row without a target has no gradient.
#[inline(always)]
pub(crate) fn row_loss<T: Element, S: Simd<T>>(
    simd: S,
    question: &Question<'_, T>,
    target: Target<'_, T>,
    scratch: &mut Scratch<T>,
    gradient: Option<&mut [T]>,
) -> RowLoss {
    let &Question { problem, logits, wanted, .. } = question;
    let options = &problem.options;
    let plain = !wanted.entropy
        && options.softcap.is_none()
        && options.label_smoothing == 0.0
        && !options.has_penalties();
    let (max, argmax) = if wanted.argmax { first_maximum(simd, logits) } else { (T::NAN, 0) };
    let answer = match target {
        Target::Class(class) if plain => {
            let max = if wanted.argmax { max } else { rows::maximum(simd, logits) };
            plain_row(simd, question, class, max, gradient)
        }
        Target::Ignored => spread_row(simd, question, target, scratch, None),
        _ => spread_row(simd, question, target, scratch, gradient),
    };
    RowLoss { argmax, ..answer }
}

/// The loss of a row with one target class, and its gradient.
#[inline(always)]
fn plain_row<T: Element, S: Simd<T>>(
    simd: S,
    question: &Question<'_, T>,
    target: usize,
    max: T,
    gradient: Option<&mut [T]>,
) -> RowLoss {
    let &Question { problem, logits, ahead, scale, factors, .. } = question;
    let options = &problem.options;
    let exp = ExpBelow::new(simd, max, scale);
    let distance = (max.to_f64() - logits[target].to_f64()) * scale.to_f64();
    let mut gradient = gradient;
    let others = powers(simd, &exp, logits, target, distance, ahead, gradient.as_deref_mut());
    let sum = RowSum::new::<T>(others, distance, options.complement);
    let v = distance + sum.ln;
    let weight = problem.class_weight(target);
    if let Some(gradient) = gradient {
        let factor = factors.0 * scale.to_f64() * weighted(weight, options.link.slope(v));
        // Whatever lies at the target is replaced: R stands there, not 1 - p.
        gradient[target] = T::ZERO;
        times(simd, gradient, T::from_f64(factor / sum.total));
        gradient[target] = rows::normal_or_zero(-factor * sum.missing);
    }
    let margin = if question.wanted.margin { margin(simd, logits, scale, target, v) } else { f64::NAN };
    RowLoss {
        loss: weighted(weight, options.link.value(v)),
        penalty: 0.0,
        v,
        lse: max.to_f64() * scale.to_f64() + sum.ln,
        entropy: f64::NAN,
        margin,
        collapsed: sum.absorbs,
        argmax: 0,
    }
}

/// The sum of the exponentials of a row without one class, which lies `distance` below the maximum; they are written
/// if there is where, and the caches meanwhile asked for what is `ahead`.
#[inline(always)]
pub(super) fn powers<T: Element, S: Simd<T>>(
    simd: S,
    exp: &ExpBelow<S::Vector>,
    row: &[T],
    class: usize,
    distance: f64,
    ahead: &[T],
    out: Option<&mut [T]>,
) -> f64 {
    if distance > 0.0 {
        // The largest is one of the others, which then sum up to 1 or more: no digit of theirs is lost beside it.
        let total = match out {
            None => rows::sum_exp(simd, exp, row),
            Some(out) => rows::exp_into_before(simd, exp, row, out, ahead),
        };
        return total - (-distance).exp();
    }
    // The block with the class is taken apart, so that those after it are aligned as the row is.
    let start = class - class % T::LANES;
    let end = row.len().min(start + T::LANES);
    let mut block = simd.to_block(simd.load_partial(&row[start..end], T::NEG_INFINITY));
    block.as_mut()[class - start] = T::NEG_INFINITY;
    let powers = exp.eval(simd, simd.load(&block));
    let beside = simd.sum(powers).to_f64();
    let (before, after) = (&row[..start], &row[end..]);
    match out {
        None => rows::sum_exp(simd, exp, before) + (beside + rows::sum_exp(simd, exp, after)),
        Some(out) => {
            simd.store_partial(powers, &mut out[start..end]);
            let (first, rest) = ahead.split_at(ahead.len().min(end));
            rows::exp_into_before(simd, exp, before, &mut out[..start], first)
                + (beside + rows::exp_into_before(simd, exp, after, &mut out[end..], rest))
        }
    }
}

/// Multiplies exponentials by a factor; those that are 0 stay 0 where it is infinite.
#[inline(always)]
pub(super) fn times<T: Element, S: Simd<T>>(simd: S, powers: &mut [T], factor: T) {
    if factor >= T::MIN_POSITIVE && factor < T::INFINITY {
        rows::scale_powers(simd, powers, factor);
    } else if factor.abs() < T::INFINITY || factor.is_nan() {
        rows::scale(simd, powers, factor);
    } else {
        for power in powers.iter_mut().filter(|power| **power > T::ZERO) {
            *power = factor;
        }
    }
}

/// The scaled distance of a class to the largest other; NaN in a row whose loss is.
#[inline(always)]
pub(super) fn margin<T: Element, S: Simd<T>>(simd: S, row: &[T], scale: T, class: usize, v: f64) -> f64 {
    let before = rows::maximum(simd, &row[..class]).to_f64();
    let after = rows::maximum(simd, &row[class + 1..]).to_f64();
    if v.is_nan() { v } else { (row[class].to_f64() - before.max(after)) * scale.to_f64() }
}

/// `weight * x`, 0 for a weight of 0 even where x is infinite.
#[inline(always)]
pub(crate) fn weighted(weight: f64, x: f64) -> f64 {
    if weight == 0.0 && x.is_infinite() { 0.0 } else { weight * x }
}

/// The largest logit and the index of the first that equals it.
#[inline(always)]
pub(crate) fn first_maximum<T: Element, S: Simd<T>>(simd: S, logits: &[T]) -> (T, usize) {
    let (mut max, mut start) = (T::NEG_INFINITY, 0);
    for (index, part) in logits.chunks(SEARCH).enumerate() {
        let largest = rows::maximum(simd, part);
        if largest > max {
            (max, start) = (largest, index * SEARCH);
        }
    }
    let part = &logits[start..logits.len().min(start + SEARCH)];
    (max, start + part.iter().position(|&x| x == max).unwrap_or(0))
}
