//! `PolyNorm`: a sum of the powers of a row, each divided by its root mean square (Zhuo et al., arXiv 2411.03884).
//!
//! x^k is not formed, since it overflows: with s a power of two near the largest |x| and t = x / s, N(x^k) is
//! t^k q with q = (mean t^{2k} + eps s^{-2k})^{-1/2}, exactly the same number.

use super::{add_up, by_order, check_weight, coefficients};
use crate::error::{Error, Result};
use crate::rows::{self, SUM_BLOCK};
use crate::threads::{self, Cancel};
use logitscope_simd::math;
use logitscope_simd::{Element, Kernel, Simd, Stored};

const NAME: &str = "poly_norm";

/// Rows of smaller numbers than 2^-14 are divided by that, so that eps s^{-2k} stays in range.
const LEAST_EXPONENT: i32 = -14;

/// What a power is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormScale {
    /// (mean u² + eps)^{1/2}.
    Rms,
    /// (sum u² + eps)^{1/2}.
    L2,
}

impl NormScale {
    fn count(self, columns: usize) -> f64 {
        match self {
            NormScale::Rms => columns as f64,
            NormScale::L2 => 1.0,
        }
    }
}

/// `weight[0]` N(x^r) + ... + `weight[r - 1]` N(x) + `bias` of each row of `columns`, and what the gradient needs: for
/// each row s and the factors q of the powers, in the order of the weights.
///
/// A row with NaN or an infinity becomes NaN.
///
/// # Errors
/// [`Error`] if lengths do not fit or `eps` is not above 0, or when cancelled.
pub fn poly_norm<X: Stored>(
    x: &[X],
    columns: usize,
    (weight, bias): (&[f64], f64),
    (eps, scale): (f64, NormScale),
    y: &mut [X],
    saved: &mut [X::Wide],
    cancel: &Cancel,
) -> Result<()> {
    check_weight(NAME, weight)?;
    if !(eps > 0.0 && eps.is_finite()) {
        let (got, expected) = (format!("{eps:?}"), "a positive finite number".to_owned());
        return Err(Error::Argument { operation: NAME, argument: "eps", got, expected });
    }
    let count = rows::count_rows(NAME, x.len(), columns)?;
    let width = weight.len() + 1;
    rows::check_len(NAME, "y", y.len(), x.len())?;
    rows::check_len(NAME, "saved", saved.len(), count * width)?;
    let (rows, work) = (rows::rows_per_piece(columns), x.len());
    let outputs = y.chunks_mut(rows * columns).zip(saved.chunks_mut(rows * width));
    let pieces: Vec<_> = x.chunks(rows * columns).zip(outputs).collect();
    let (count, buffers) = (scale.count(columns), || (Vec::new(), Vec::new()));
    by_order!(weight, R => {
        let (weight, bias) = (coefficients::<X::Wide, R>(weight), X::Wide::from_f64(bias));
        threads::for_each(pieces, work, cancel, buffers, |(wide, target), (x, (y, saved))| {
            let (x, wide_y) = (X::wide(x, wide), X::target(y, target));
            X::Wide::dispatch(Forward { x, columns, weight, bias, eps, count, y: wide_y, saved });
            X::settle(target, y);
        })
    })
}

struct Forward<'a, T, const R: usize> {
    x: &'a [T],
    columns: usize,
    weight: [T; R],
    bias: T,
    eps: f64,
    /// What sums are divided by.
    count: f64,
    y: &'a mut [T],
    saved: &'a mut [T],
}

impl<T: Element, const R: usize> Kernel<T> for Forward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let outputs = self.y.chunks_exact_mut(self.columns).zip(self.saved.chunks_exact_mut(R + 1));
        for (x, (y, saved)) in self.x.chunks_exact(self.columns).zip(outputs) {
            let exponent = exponent_of::<T>(largest_magnitude(simd, x));
            let inverse = simd.splat(T::from_f64(2.0_f64.powi(-exponent)));
            let sums = sums_of_squares::<T, S, R>(simd, x, inverse);
            saved[0] = T::from_f64(2.0_f64.powi(exponent));
            let mut factors = [T::ZERO; R];
            for (index, (&sum, factor)) in sums.iter().zip(&mut factors).enumerate() {
                let power = 2.0_f64.powi(-2 * exponent * (R - index) as i32);
                let square = sum / self.count + self.eps * power;
                // An infinity in the row.
                let q = if square.is_finite() { square.sqrt().recip() } else { f64::NAN };
                saved[index + 1] = T::from_f64(q);
                *factor = self.weight[index] * saved[index + 1];
            }
            let bias = simd.splat(self.bias);
            rows::write_row!(simd, y, x in x => {
                let t = simd.mul(x, inverse);
                let mut value = simd.splat(factors[0]);
                for &factor in &factors[1..] {
                    value = simd.mul_add(value, t, simd.splat(factor));
                }
                math::flush(simd, simd.mul_add(value, t, bias))
            });
        }
    }
}

/// The largest magnitude of a row, NaN passed over.
#[inline(always)]
fn largest_magnitude<T: Element, S: Simd<T>>(simd: S, row: &[T]) -> T {
    let zero = simd.splat(T::ZERO);
    let (blocks, tail) = T::blocks(row);
    let x = simd.load_partial(tail, T::ZERO);
    let mut largest = simd.max(simd.max(simd.sub(zero, x), x), zero);
    for block in blocks {
        let x = simd.load(block);
        largest = simd.max(simd.max(simd.sub(zero, x), x), largest);
    }
    simd.max_lane(largest)
}

/// The exponent of the power of two that a row is divided by. Its reciprocal is a normal number too.
fn exponent_of<T: Element>(largest: T) -> i32 {
    let most = if T::LANES == 16 { 126 } else { 1022 };
    let exponent = (largest.to_f64().to_bits() >> 52 & 0x7ff) as i32 - 1023;
    exponent.clamp(LEAST_EXPONENT, most)
}

/// Sums of t^{2r}, ..., t² over a row.
#[inline(always)]
fn sums_of_squares<T: Element, S: Simd<T>, const R: usize>(
    simd: S,
    row: &[T],
    inverse: S::Vector,
) -> [f64; R] {
    let mut totals = [0.0; R];
    for part in row.chunks(SUM_BLOCK) {
        let (blocks, tail) = T::blocks(part);
        let mut sums = [simd.splat(T::ZERO); R];
        for block in blocks {
            add_squares(simd, &mut sums, simd.mul(simd.load(block), inverse));
        }
        if !tail.is_empty() {
            add_squares(simd, &mut sums, simd.mul(simd.load_partial(tail, T::ZERO), inverse));
        }
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += simd.sum(sum).to_f64();
        }
    }
    totals
}

#[inline(always)]
fn add_squares<T: Element, S: Simd<T>, const R: usize>(simd: S, sums: &mut [S::Vector; R], t: S::Vector) {
    let square = simd.mul(t, t);
    let mut power = square;
    for k in (1..R).rev() {
        sums[k] = simd.add(sums[k], power);
        power = simd.mul(power, square);
    }
    sums[0] = simd.add(sums[0], power);
}

/// Gradients of [`poly_norm`], which filled `saved`: fills that of x, and returns those of the weights and of the
/// bias.
///
/// # Errors
/// [`Error`] if lengths do not fit, or when cancelled.
pub fn poly_norm_backward<X: Stored>(
    [x, dy]: [&[X]; 2],
    columns: usize,
    weight: &[f64],
    saved: &[X::Wide],
    scale: NormScale,
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    check_weight(NAME, weight)?;
    let (count, width) = (rows::count_rows(NAME, x.len(), columns)?, weight.len() + 1);
    rows::check_len(NAME, "dy", dy.len(), x.len())?;
    rows::check_len(NAME, "saved", saved.len(), count * width)?;
    rows::check_len(NAME, "dx", dx.len(), x.len())?;
    let (rows, work) = (rows::rows_per_piece(columns), x.len());
    let size = rows * columns;
    // There is a piece even of nothing: its sums are 0.
    let mut sums = vec![vec![0.0; width]; count.div_ceil(rows).max(1)];
    let inputs = x.chunks(size).zip(dy.chunks(size)).zip(saved.chunks(rows * width));
    let pieces: Vec<_> = inputs.zip(dx.chunks_mut(size).zip(&mut sums)).collect();
    let (count, buffers) = (scale.count(columns), || (Vec::new(), Vec::new(), Vec::new()));
    by_order!(weight, R => {
        let weight = coefficients::<X::Wide, R>(weight);
        threads::for_each(pieces, work, cancel, buffers, |(wide, wide_dy, target), piece| {
            let (((x, dy), saved), (dx, sums)) = piece;
            let (x, dy) = (X::wide(x, wide), X::wide(dy, wide_dy));
            let wide_dx = X::target(dx, target);
            X::Wide::dispatch(Backward { x, dy, columns, weight, saved, count, dx: wide_dx, sums });
            X::settle(target, dx);
        })
    })?;
    Ok(add_up(&sums))
}

struct Backward<'a, T, const R: usize> {
    x: &'a [T],
    dy: &'a [T],
    columns: usize,
    weight: [T; R],
    saved: &'a [T],
    /// What sums are divided by.
    count: f64,
    dx: &'a mut [T],
    sums: &'a mut [f64],
}

impl<T: Element, const R: usize> Kernel<T> for Backward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let inputs = self.x.chunks_exact(self.columns).zip(self.dy.chunks_exact(self.columns));
        let rows = inputs.zip(self.saved.chunks_exact(R + 1)).zip(self.dx.chunks_exact_mut(self.columns));
        for (((x, dy), saved), dx) in rows {
            let s = saved[0].to_f64();
            let inverse = simd.splat(T::from_f64(1.0 / s));
            let (moments, total) = moments::<T, S, R>(simd, x, dy, inverse);
            // dx = dy A(t) - B(t): the sum of k w q / s t^{k-1} (dy - n m) with n = t^k q and m the mean of dy n.
            let (mut a, mut b) = ([T::ZERO; R], [T::ZERO; R]);
            for index in 0..R {
                let q = saved[index + 1].to_f64();
                let dw = q * moments[index];
                self.sums[index] += dw;
                let slope = (R - index) as f64 * self.weight[index].to_f64() * q / s;
                a[index] = T::from_f64(slope);
                b[index] = T::from_f64(slope * q * dw / self.count);
            }
            self.sums[R] += total;
            rows::write_row!(simd, dx, x in x, dy in dy => {
                let t = simd.mul(x, inverse);
                let square = simd.mul(t, t);
                let (mut with_dy, mut rest) = (simd.splat(a[0]), simd.splat(b[0]));
                for k in 1..R {
                    with_dy = simd.mul_add(with_dy, t, simd.splat(a[k]));
                    rest = simd.mul_add(rest, square, simd.splat(b[k]));
                }
                let minus_rest = simd.sub(simd.splat(T::ZERO), simd.mul(rest, t));
                math::flush(simd, simd.mul_add(dy, with_dy, minus_rest))
            });
        }
    }
}

/// Sums of dy t^r, ..., dy t over a row, and of dy.
#[inline(always)]
fn moments<T: Element, S: Simd<T>, const R: usize>(
    simd: S,
    x: &[T],
    dy: &[T],
    inverse: S::Vector,
) -> ([f64; R], f64) {
    let (mut totals, mut total) = ([0.0; R], 0.0);
    for (x, dy) in x.chunks(SUM_BLOCK).zip(dy.chunks(SUM_BLOCK)) {
        let ((x_blocks, x_tail), (dy_blocks, dy_tail)) = (T::blocks(x), T::blocks(dy));
        let mut sums = [simd.splat(T::ZERO); R];
        let mut sum = simd.splat(T::ZERO);
        for (x, dy) in x_blocks.iter().zip(dy_blocks) {
            let dy = simd.load(dy);
            add_moments(simd, &mut sums, dy, simd.mul(simd.load(x), inverse));
            sum = simd.add(sum, dy);
        }
        if !x_tail.is_empty() {
            let dy = simd.load_partial(dy_tail, T::ZERO);
            add_moments(simd, &mut sums, dy, simd.mul(simd.load_partial(x_tail, T::ZERO), inverse));
            sum = simd.add(sum, dy);
        }
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += simd.sum(sum).to_f64();
        }
        total += simd.sum(sum).to_f64();
    }
    (totals, total)
}

#[inline(always)]
fn add_moments<T: Element, S: Simd<T>, const R: usize>(
    simd: S,
    sums: &mut [S::Vector; R],
    dy: S::Vector,
    t: S::Vector,
) {
    let mut power = simd.mul(dy, t);
    for k in (1..R).rev() {
        sums[k] = simd.add(sums[k], power);
        power = simd.mul(power, t);
    }
    sums[0] = simd.add(sums[0], power);
}
