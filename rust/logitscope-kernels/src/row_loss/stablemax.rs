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

/// What a smoothed target gives the classes.
#[derive(Clone, Copy)]
pub(super) struct Masses<'a, T> {
    /// The target's own, its weight included.
    pub kept: f64,
    /// What each class gets, times its weight.
    pub share: f64,
    pub weight: Option<&'a [T]>,
}

/// The loss of one row for a smoothed target, sum t (ln total - ln s(z)) with t the masses, and `factor` times its
/// gradient (p sum t - t) / (1 + |z|).
#[inline(always)]
pub(super) fn smooth_row<T: Element, S: Simd<T>>(
    simd: S,
    logits: &[T],
    target: usize,
    masses: Masses<'_, T>,
    factor: f64,
    gradient: Option<&mut [T]>,
) -> f64 {
    let Masses { kept, share, weight } = masses;
    let others = sum(simd, &logits[..target]) + sum(simd, &logits[target + 1..]);
    let z = logits[target].to_f64();
    let own = if z < 0.0 { 1.0 / (1.0 - z) } else { 1.0 + z };
    let total = others + own;
    if !total.is_finite() {
        if let Some(gradient) = gradient {
            gradient.fill(T::NAN);
        }
        return f64::NAN;
    }
    let weights = match weight {
        Some(weight) => rows::sum(simd, weight),
        None => logits.len() as f64,
    };
    if let Some(gradient) = gradient {
        let scale = simd.splat(T::from_f64(factor * (kept + share * weights) / total));
        let share = simd.splat(T::from_f64(factor * share));
        if let Some(weight) = weight {
            write_row!(simd, gradient, x in logits, w in weight => slope(simd, x, scale, simd.mul(share, w)));
        } else {
            write_row!(simd, gradient, x in logits => slope(simd, x, scale, share));
        }
        let rest = masses.share * (weights - weight.map_or(1.0, |weight| weight[target].to_f64()));
        let at_target = rest - (kept + masses.share * weights) * (others / total);
        gradient[target] = rows::normal_or_zero(factor * at_target / (1.0 + z.abs()));
    }
    // No mass counts nothing, even of a class without a share.
    let of_target = if kept > 0.0 { kept * (others / own).ln_1p() } else { 0.0 };
    of_target + share * (weights * total.ln() - sum_logarithms(simd, logits, weight))
}

/// (scale s(x) - mass) / (1 + |x|).
#[inline(always)]
fn slope<T: Element, S: Simd<T>>(simd: S, x: S::Vector, scale: S::Vector, mass: S::Vector) -> S::Vector {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let share = reciprocal(simd, x);
    let square = simd.mul(share, share);
    let grown = simd.select(simd.less(x, zero), square, one);
    math::flush(simd, simd.sub(simd.mul(scale, grown), simd.mul(mass, share)))
}

/// The sum of ln s, each times its weight.
#[inline(always)]
fn sum_logarithms<T: Element, S: Simd<T>>(simd: S, row: &[T], weight: Option<&[T]>) -> f64 {
    let one = simd.splat(T::ONE);
    let mut total = 0.0;
    for (index, part) in row.chunks(SUM_BLOCK).enumerate() {
        let weight = weight.map(|weight| T::blocks(&weight[index * SUM_BLOCK..][..part.len()]));
        let (blocks, tail) = T::blocks(part);
        let mut sum = simd.splat(T::ZERO);
        for (index, block) in blocks.iter().enumerate() {
            let w = match weight {
                Some((blocks, _)) => simd.load(&blocks[index]),
                None => one,
            };
            sum = simd.add(sum, logarithm(simd, simd.load(block), w));
        }
        // ln s(0) is 0: what is beyond the row counts nothing.
        let w = match weight {
            Some((_, tail)) => simd.load_partial(tail, T::ZERO),
            None => one,
        };
        sum = simd.add(sum, logarithm(simd, simd.load_partial(tail, T::ZERO), w));
        total += simd.sum(sum).to_f64();
    }
    total
}

/// w ln s(x), of a weight of 0 always 0.
#[inline(always)]
fn logarithm<T: Element, S: Simd<T>>(simd: S, x: S::Vector, w: S::Vector) -> S::Vector {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let minus = simd.sub(zero, x);
    let size = math::ln(simd, simd.add(one, simd.max(x, minus)));
    let signed = simd.select(simd.less(x, zero), simd.sub(zero, size), size);
    simd.select(simd.less(zero, w), simd.mul(w, signed), zero)
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
