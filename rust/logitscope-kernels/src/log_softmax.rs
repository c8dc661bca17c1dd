//! Logarithm of the softmax of rows: y = x / temperature - ln sum e^{x / temperature}.

use crate::error::Result;
use crate::logsumexp::{self, LogSum};
use crate::long::{self, BLOCK};
use crate::rows;
use crate::threads::Cancel;
use logitscope_simd::math::{self, ExpBelow};
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Logarithm of the softmax of each row of `columns` elements.
///
/// It is taken relative to the maximum, (x - max) - ln sum e^{x - max}: neither a common offset of the row nor a
/// probability near 1 costs digits.
///
/// # Errors
/// [`crate::Error`] if lengths or the temperature do not fit, or when cancelled.
pub fn log_softmax<X: Stored>(
    x: &[X],
    columns: usize,
    temperature: f64,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let scale: X::Wide = rows::scale_of("log_softmax", temperature)?;
    if !long::is_long(columns) {
        return rows::fill("log_softmax", [("x", x)], ("y", y), columns, cancel, |[x], y| {
            X::Wide::dispatch(LogSoftmaxRows { x, y, columns, scale });
        });
    }
    rows::count_rows("log_softmax", x.len(), columns)?;
    rows::check_len("log_softmax", "y", y.len(), x.len())?;
    for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
        let sum = logsumexp::of_long_row(x, scale, cancel)?;
        let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
        long::each_block(blocks, cancel, |(wide, target): &mut (Vec<_>, Vec<_>), (x, y)| {
            X::Wide::dispatch(Write { x: X::wide(x, wide), sum, scale, y: X::target(y, target) });
            X::settle(target, y);
        })?;
    }
    Ok(())
}

struct LogSoftmaxRows<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    columns: usize,
    scale: T,
}

impl<T: Element> Kernel<T> for LogSoftmaxRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let LogSoftmaxRows { x, y, columns, scale } = self;
        let size = rows::together(columns) * columns;
        let mut sums = [LogSum::default(); rows::TOGETHER];
        let mut ahead = x;
        for y in y.chunks_mut(size) {
            let x;
            (x, ahead) = ahead.split_at(y.len());
            let sums = &mut sums[..y.len() / columns];
            LogSum::of_rows(simd, x, columns, scale, ahead, sums);
            for ((x, y), &mut sum) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).zip(sums) {
                Write { x, sum, scale, y }.run(simd);
            }
        }
    }
}

/// Writes scale (x - max) - ln sum.
struct Write<'a, T> {
    x: &'a [T],
    sum: LogSum<T>,
    scale: T,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for Write<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let scaled = (self.sum.max * self.scale).abs();
        let scale = simd.splat(self.scale);
        let minus_ln = rows::normal_or_zero(-self.sum.ln());
        let (max, minus_ln) = (simd.splat(self.sum.max), simd.splat(minus_ln));
        // Beside a maximum of some size no distance is so small that its product is a denormal.
        if scaled > T::MIN_POSITIVE * T::from_f64(1e20) && scaled.is_finite() {
            rows::write_row!(simd, self.y, x in self.x => simd.mul_add(simd.sub(x, max), scale, minus_ln));
        } else {
            rows::write_row!(simd, self.y, x in self.x => {
                math::flush(simd, simd.mul_add(simd.sub(x, max), scale, minus_ln))
            });
        }
    }
}

/// Gradient of [`log_softmax`]: dx = (dy - e^y sum dy) / temperature.
///
/// # Errors
/// [`crate::Error`] if lengths or the temperature do not fit, or when cancelled.
pub fn log_softmax_backward<X: Stored>(
    y: &[X],
    dy: &[X],
    columns: usize,
    temperature: f64,
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let scale: X::Wide = rows::scale_of("log_softmax_backward", temperature)?;
    let inputs = [("y", y), ("dy", dy)];
    rows::fill("log_softmax_backward", inputs, ("dx", dx), columns, cancel, |[y, dy], dx| {
        X::Wide::dispatch(BackwardRows { y, dy, dx, columns, scale });
    })
}

struct BackwardRows<'a, T> {
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
    columns: usize,
    scale: T,
}

impl<T: Element> Kernel<T> for BackwardRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let (scale, zero) = (simd.splat(self.scale), simd.splat(T::ZERO));
        let exp = ExpBelow::new(simd, T::ZERO, T::ONE);
        let inputs = self.y.chunks_exact(self.columns).zip(self.dy.chunks_exact(self.columns));
        for ((y, dy), dx) in inputs.zip(self.dx.chunks_exact_mut(self.columns)) {
            let minus_total = simd.sub(zero, simd.splat(T::from_f64(rows::sum(simd, dy))));
            rows::write_row!(simd, dx, y in y, dy in dy => {
                let gradient = simd.mul_add(exp.eval(simd, y), minus_total, dy);
                math::flush(simd, simd.mul(gradient, scale))
            });
        }
    }
}
