//! `PolyReLU`: a polynomial of max(x, 0), element by element (Zhuo et al., arXiv 2411.03884).

use super::{add_up, by_order, check_weight, coefficients};
use crate::error::Result;
use crate::rows::{self, SUM_BLOCK};
use crate::threads::{self, Cancel};
use logitscope_simd::math;
use logitscope_simd::{Element, Kernel, Simd, Stored};

const NAME: &str = "poly_relu";

/// Elements in a piece.
const PIECE: usize = 1 << 14;

/// With p = max(x, 0): `weight[0]` p^r + ... + `weight[r - 1]` p + `bias`; a NaN stays.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn poly_relu<X: Stored>(x: &[X], weight: &[f64], bias: f64, y: &mut [X], cancel: &Cancel) -> Result<()> {
    check_weight(NAME, weight)?;
    rows::check_len(NAME, "y", y.len(), x.len())?;
    // What is multiplied by 0 would make NaN of infinity.
    let first = weight.iter().position(|&w| w != 0.0).unwrap_or(weight.len() - 1);
    let weight = &weight[first..];
    let work = x.len();
    let pieces: Vec<_> = x.chunks(PIECE).zip(y.chunks_mut(PIECE)).collect();
    let buffers = || (Vec::new(), Vec::new());
    by_order!(weight, R => {
        let (weight, bias) = (coefficients::<X::Wide, R>(weight), X::Wide::from_f64(bias));
        threads::for_each(pieces, work, cancel, buffers, |(wide, target), (x, y)| {
            X::Wide::dispatch(Forward { x: X::wide(x, wide), weight, bias, y: X::target(y, target) });
            X::settle(target, y);
        })
    })
}

struct Forward<'a, T, const R: usize> {
    x: &'a [T],
    weight: [T; R],
    bias: T,
    y: &'a mut [T],
}

impl<T: Element, const R: usize> Kernel<T> for Forward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let (zero, bias) = (simd.splat(T::ZERO), simd.splat(self.bias));
        rows::write_row!(simd, self.y, x in self.x => {
            // In this order a NaN stays.
            let p = simd.max(zero, x);
            let mut value = simd.splat(self.weight[0]);
            for &w in &self.weight[1..] {
                value = simd.mul_add(value, p, simd.splat(w));
            }
            math::flush(simd, simd.mul_add(value, p, bias))
        });
    }
}

/// Gradients of [`poly_relu`]: fills that of x, 0 where x is not above 0, and returns those of the weights and of the
/// bias.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn poly_relu_backward<X: Stored>(
    x: &[X],
    dy: &[X],
    weight: &[f64],
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    check_weight(NAME, weight)?;
    rows::check_len(NAME, "dy", dy.len(), x.len())?;
    rows::check_len(NAME, "dx", dx.len(), x.len())?;
    let work = x.len();
    // There is a piece even of nothing: its sums are 0.
    let mut sums = vec![vec![0.0; weight.len() + 1]; x.len().div_ceil(PIECE).max(1)];
    let inputs = x.chunks(PIECE).zip(dy.chunks(PIECE));
    let pieces: Vec<_> = inputs.zip(dx.chunks_mut(PIECE).zip(&mut sums)).collect();
    let buffers = || (Vec::new(), Vec::new(), Vec::new());
    by_order!(weight, R => {
        let weight = coefficients::<X::Wide, R>(weight);
        threads::for_each(pieces, work, cancel, buffers, |(wide, wide_dy, target), ((x, dy), (dx, sums))| {
            let (x, dy) = (X::wide(x, wide), X::wide(dy, wide_dy));
            X::Wide::dispatch(Backward { x, dy, weight, dx: X::target(dx, target), sums });
            X::settle(target, dx);
        })
    })?;
    Ok(add_up(&sums))
}

struct Backward<'a, T, const R: usize> {
    x: &'a [T],
    dy: &'a [T],
    weight: [T; R],
    dx: &'a mut [T],
    sums: &'a mut [f64],
}

impl<T: Element, const R: usize> Kernel<T> for Backward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let zero = simd.splat(T::ZERO);
        let parts = self.x.chunks(SUM_BLOCK).zip(self.dy.chunks(SUM_BLOCK));
        for ((x, dy), dx) in parts.zip(self.dx.chunks_mut(SUM_BLOCK)) {
            // Sums of dy p^r, ..., dy p.
            let mut sums = [zero; R];
            let mut total = zero;
            rows::write_row!(simd, dx, x in x, dy in dy => {
                let p = simd.max(zero, x);
                let mut power = simd.mul(dy, p);
                let mut slope = simd.splat(T::from_f64(R as f64) * self.weight[0]);
                for k in 1..R {
                    sums[R - k] = simd.add(sums[R - k], power);
                    power = simd.mul(power, p);
                    let factor = T::from_f64((R - k) as f64) * self.weight[k];
                    slope = simd.mul_add(slope, p, simd.splat(factor));
                }
                sums[0] = simd.add(sums[0], power);
                total = simd.add(total, dy);
                // p where it is 0 or NaN.
                simd.select(simd.less(zero, p), math::flush(simd, simd.mul(dy, slope)), p)
            });
            for (sum, &part) in self.sums.iter_mut().zip(&sums) {
                *sum += simd.sum(part).to_f64();
            }
            self.sums[R] += simd.sum(total).to_f64();
        }
    }
}
