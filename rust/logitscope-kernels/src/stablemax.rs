//! `StableMax` of rows: a softmax whose exponential grows only linearly (arXiv 2501.04697).
//!
//! s(x) = x + 1 for x >= 0 and 1 / (1 - x) below, y = s(x) / sum s(x). It is the softmax of sign(x) ln(1 + |x|) and
//! not invariant to offsets, so no maximum is subtracted.

use crate::error::Result;
use crate::rows::{self, SUM_BLOCK};
use crate::threads::Cancel;
use logitscope_simd::{Element, Kernel, Simd, Stored, math};

/// Whether probabilities or their logarithms are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Probabilities.
    Linear,
    /// Logarithms of probabilities.
    Log,
}

impl Scale {
    /// The name of the operation.
    pub fn name(self) -> &'static str {
        match self {
            Scale::Linear => "stablemax",
            Scale::Log => "log_stablemax",
        }
    }
}

/// `StableMax`, or its logarithm, of each row of `columns` elements.
///
/// A row with a NaN or positive infinity, or with nothing above negative infinity, becomes NaN.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn stablemax<X: Stored>(
    x: &[X],
    columns: usize,
    scale: Scale,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    rows::fill(scale.name(), [("x", x)], ("y", y), columns, cancel, |[x], y| {
        X::Wide::dispatch(StablemaxRows { x, y, columns, scale });
    })
}

/// s(x).
#[inline(always)]
fn grow<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    let one = simd.splat(T::ONE);
    // In this order a NaN stays.
    let grown = simd.add(one, simd.max(simd.sub(zero, x), x));
    simd.select(simd.less(x, zero), simd.div(one, grown), grown)
}

fn grow_in_f64(x: f64) -> f64 {
    if x < 0.0 { 1.0 / (1.0 - x) } else { 1.0 + x }
}

/// The sum of s(x) over what is below the maximum, and over what is not.
#[derive(Clone, Copy)]
struct Sum {
    below: f64,
    at_max: f64,
}

impl Sum {
    #[inline(always)]
    fn of_row<T: Element, S: Simd<T>>(simd: S, row: &[T], max: T) -> Self {
        let mut sum = Sum { below: 0.0, at_max: 0.0 };
        let (zero, max) = (simd.splat(T::ZERO), simd.splat(max));
        for part in row.chunks(SUM_BLOCK) {
            let (blocks, tail) = T::blocks(part);
            let (mut below, mut at_max) = (zero, zero);
            for block in blocks {
                let x = simd.load(block);
                let grown = grow(simd, x);
                let low = simd.select(simd.less(x, max), grown, zero);
                below = simd.add(below, low);
                at_max = simd.add(at_max, simd.sub(grown, low));
            }
            if !tail.is_empty() {
                let x = simd.load_partial(tail, T::NEG_INFINITY);
                let grown = grow(simd, x);
                let low = simd.select(simd.less(x, max), grown, zero);
                below = simd.add(below, low);
                at_max = simd.add(at_max, simd.sub(grown, low));
            }
            sum.below += simd.sum(below).to_f64();
            sum.at_max += simd.sum(at_max).to_f64();
        }
        sum
    }
}

struct StablemaxRows<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    columns: usize,
    scale: Scale,
}

impl<T: Element> Kernel<T> for StablemaxRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for (x, y) in self.x.chunks_exact(self.columns).zip(self.y.chunks_exact_mut(self.columns)) {
            let max = rows::maximum(simd, x);
            let sum = Sum::of_row(simd, x, max);
            let total = sum.below + sum.at_max;
            if !in_range(simd, x, total) {
                row_in_f64(x, self.scale, y);
                continue;
            }
            let factor = simd.splat(T::from_f64(1.0 / total));
            if self.scale == Scale::Linear {
                rows::write_row!(simd, y, x in x => simd.mul(grow(simd, x), factor));
                continue;
            }
            rows::write_row!(simd, y, x in x => math::ln(simd, simd.mul(grow(simd, x), factor)));
            if sum.at_max > sum.below {
                // Near 1 the probability is told by what it lacks.
                let number = T::from_f64(log_at_max(max.to_f64(), sum.below, total));
                for (&x, y) in x.iter().zip(y) {
                    if x == max {
                        *y = number;
                    }
                }
            }
        }
    }
}

/// ln of the probability of the maximum.
fn log_at_max(max: f64, below: f64, total: f64) -> f64 {
    let others = total - grow_in_f64(max);
    // A lone maximum: what lies below it is all there is beside it.
    let others = if others < 0.5 * grow_in_f64(max) { below } else { others };
    (-others / total).ln_1p()
}

/// Whether neither the sum nor a finite element is so large that quotients would leave the normal numbers.
#[inline(always)]
fn in_range<T: Element, S: Simd<T>>(simd: S, x: &[T], total: f64) -> bool {
    // 1e13 for f32, 1e102 for f64.
    let limit = T::MIN_POSITIVE.to_f64().powf(-1.0 / 3.0);
    if !(total > 0.0 && total < limit) {
        return false;
    }
    let zero = simd.splat(T::ZERO);
    let infinity = simd.splat(T::INFINITY);
    let mut largest = zero;
    let (blocks, tail) = T::blocks(x);
    for block in blocks {
        let minus = simd.sub(zero, simd.load(block));
        largest = simd.max(simd.select(simd.less(minus, infinity), minus, zero), largest);
    }
    let minus = simd.sub(zero, simd.load_partial(tail, T::ZERO));
    largest = simd.max(simd.select(simd.less(minus, infinity), minus, zero), largest);
    simd.max_lane(largest).to_f64() < limit
}

/// A row of huge numbers, or of none that has a result.
#[cold]
fn row_in_f64<T: Element>(x: &[T], scale: Scale, y: &mut [T]) {
    let total: f64 = x.iter().map(|x| grow_in_f64(x.to_f64())).sum();
    if !(total > 0.0 && total.is_finite()) {
        y.fill(T::NAN);
        return;
    }
    for (x, y) in x.iter().zip(y) {
        let quotient = grow_in_f64(x.to_f64()) / total;
        *y = match scale {
            Scale::Linear => rows::normal_or_zero(quotient),
            Scale::Log if quotient > 0.5 => T::from_f64(quotient.ln()),
            Scale::Log => {
                let x = x.to_f64();
                T::from_f64(x.signum() * x.abs().ln_1p() - total.ln())
            }
        };
    }
}

/// Gradient of [`stablemax`], which gave `y`: dx = y (dy - sum y dy) / (1 + |x|), of the logarithm
/// dx = (dy - e^y sum dy) / (1 + |x|).
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn stablemax_backward<X: Stored>(
    [x, y, dy]: [&[X]; 3],
    columns: usize,
    scale: Scale,
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let inputs = [("x", x), ("y", y), ("dy", dy)];
    rows::fill(scale.name(), inputs, ("dx", dx), columns, cancel, |[x, y, dy], dx| {
        X::Wide::dispatch(BackwardRows { x, y, dy, dx, columns, scale });
    })
}

struct BackwardRows<'a, T> {
    x: &'a [T],
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    columns: usize,
    scale: Scale,
}

impl<T: Element> Kernel<T> for BackwardRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
        let columns = self.columns;
        let inputs = self.x.chunks_exact(columns).zip(self.y.chunks_exact(columns));
        let inputs = inputs.zip(self.dy.chunks_exact(columns));
        for (((x, y), dy), dx) in inputs.zip(self.dx.chunks_exact_mut(columns)) {
            if self.scale == Scale::Linear {
                let mean = simd.splat(T::from_f64(rows::dot(simd, y, dy)));
                rows::write_row!(simd, dx, y in y, dy in dy => simd.mul(y, simd.sub(dy, mean)));
            } else {
                let minus_total = simd.sub(zero, simd.splat(T::from_f64(rows::sum(simd, dy))));
                rows::write_row!(simd, dx, y in y, dy in dy => {
                    simd.mul_add(math::exp(simd, y), minus_total, dy)
                });
            }
            let (x_blocks, x_tail) = T::blocks(x);
            let (dx_blocks, dx_tail) = T::blocks_mut(dx);
            for (x, dx) in x_blocks.iter().zip(dx_blocks) {
                let x = simd.load(x);
                let grown = simd.add(one, simd.max(simd.sub(zero, x), x));
                simd.store(math::flush(simd, simd.div(simd.load(dx), grown)), dx);
            }
            if !x_tail.is_empty() {
                let x = simd.load_partial(x_tail, T::ZERO);
                let grown = simd.add(one, simd.max(simd.sub(zero, x), x));
                let quotient = simd.div(simd.load_partial(dx_tail, T::ZERO), grown);
                simd.store_partial(math::flush(simd, quotient), dx_tail);
            }
        }
    }
}
