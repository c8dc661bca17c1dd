//! Logarithm of the softmax of rows: y = x / temperature - ln sum e^{x / temperature}.

use crate::error::Result;
use crate::ln_1p::ln_1p_each;
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
        let (max, ln) = (sum.max, sum.ln());
        // The stores of 16-bit numbers are none that pass the caches.
        let stream = size_of_val(y) >= long::STREAM_BYTES && X::as_wide(x).is_some();
        let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
        long::each_block(blocks, cancel, |(): &mut (), (x, y)| {
            let ahead = if stream { long::until_aligned(y) } else { 0 };
            let ((first_x, x), (first_y, y)) = (x.split_at(ahead), y.split_at_mut(ahead));
            X::run(Write { x: first_x, max, ln, scale, y: first_y, stream: false });
            X::run(Write { x, max, ln, scale, y, stream });
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
        let mut logarithms = [0.0; rows::TOGETHER];
        let mut ahead = x;
        for y in y.chunks_mut(size) {
            let x;
            (x, ahead) = ahead.split_at(y.len());
            let sums = &mut sums[..y.len() / columns];
            LogSum::of_rows(simd, x, columns, scale, ahead, sums);
            for (ln, sum) in logarithms.iter_mut().zip(&*sums) {
                *ln = sum.excess();
            }
            ln_1p_each(&mut logarithms);
            let lists = sums.iter().zip(logarithms);
            for ((x, y), (sum, ln)) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).zip(lists) {
                Write { x, max: sum.max, ln, scale, y, stream: false }.run(simd);
            }
        }
    }
}

/// Writes scale (x - max) - ln.
struct Write<'a, T: Stored> {
    x: &'a [T],
    max: T::Wide,
    ln: f64,
    scale: T::Wide,
    y: &'a mut [T],
    /// Whether the result goes past the caches.
    stream: bool,
}

impl<T: Stored> Kernel<T::Wide> for Write<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T::Wide>>(self, simd: S) {
        let Write { x, max, ln, scale, y, stream } = self;
        let scaled = (max * scale).abs();
        let (max, minus_ln) = (simd.splat(max), simd.splat(rows::normal_or_zero(-ln)));
        let factor = simd.splat(scale);
        // Beside a maximum of some size no distance is so small that its product is a denormal.
        let may_be_denormal =
            !(scaled > T::Wide::MIN_POSITIVE * T::Wide::from_f64(1e20) && scaled.is_finite());
        if may_be_denormal {
            rows::write_row!(simd, y, x in x => {
                math::flush(simd, simd.mul_add(simd.sub(x, max), factor, minus_ln))
            });
        } else if stream {
            rows::write_row!(simd, store_stream, y, x in x => {
                simd.mul_add(simd.sub(x, max), factor, minus_ln)
            });
            simd.fence();
        } else {
            rows::write_two!(simd, y, x in x => simd.mul_add(simd.sub(x, max), factor, minus_ln));
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
