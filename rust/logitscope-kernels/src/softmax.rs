//! Softmax of rows: y = e^{x / temperature} / sum e^{x / temperature}.

use crate::error::Result;
use crate::logsumexp::LogSum;
use crate::rows::{self, Empty};
use crate::threads::{self, Cancel};
use logitscope_simd::math::{self, ExpBelow};
use logitscope_simd::{Element, Kernel, Simd};

/// How a row is swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The one that suits the length of the rows.
    Auto,
    /// Maximum; exponentials, written and summed; what was written scaled. One exponential an element, three
    /// sweeps: for rows in the cache.
    ThreePassReload,
    /// Maximum and sum in one sweep (Milakov and Gimelshein, arXiv 1805.02867), then the result. Two
    /// exponentials an element, two sweeps: for rows out of the cache.
    Online,
}

impl Algorithm {
    /// The algorithms and the names that Python knows them by.
    pub const NAMED: [(&'static str, Algorithm); 3] = [
        ("auto", Algorithm::Auto),
        ("three_pass_reload", Algorithm::ThreePassReload),
        ("online", Algorithm::Online),
    ];

    /// Rows up to this size are swept three times: half of a usual second-level cache.
    const CACHED_BYTES: usize = 512 << 10;

    fn for_rows<T: Element>(self, columns: usize) -> Algorithm {
        match self {
            Algorithm::Auto if columns * size_of::<T>() <= Self::CACHED_BYTES => Algorithm::ThreePassReload,
            Algorithm::Auto => Algorithm::Online,
            chosen => chosen,
        }
    }
}

/// Options of [`softmax`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the elements are divided by first; positive.
    pub temperature: f64,
    /// How a row is swept.
    pub algorithm: Algorithm,
    /// What becomes of a row of negative infinities.
    pub empty: Empty,
}

impl Default for Options {
    fn default() -> Self {
        Options { temperature: 1.0, algorithm: Algorithm::Auto, empty: Empty::Nan }
    }
}

/// Softmax of each row of `columns` elements.
///
/// A row with a NaN or positive infinity becomes NaN; results below the normal numbers become 0.
///
/// # Errors
/// [`crate::Error`] if lengths or options do not fit, or when cancelled.
pub fn softmax<T: Element>(
    x: &[T],
    columns: usize,
    options: Options,
    y: &mut [T],
    cancel: &Cancel,
) -> Result<()> {
    rows::count_rows("softmax", x.len(), columns)?;
    rows::check_len("softmax", "y", y.len(), x.len())?;
    let scale = rows::scale_of("softmax", options.temperature)?;
    let algorithm = options.algorithm.for_rows::<T>(columns);
    let piece = rows::rows_per_piece(columns) * columns;
    let pieces: Vec<_> = x.chunks(piece).zip(y.chunks_mut(piece)).collect();
    threads::for_each(
        pieces,
        x.len(),
        cancel,
        || (),
        |(), (x, y)| {
            T::dispatch(SoftmaxRows { x, y, columns, scale, algorithm, empty: options.empty });
        },
    )
}

struct SoftmaxRows<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    columns: usize,
    scale: T,
    algorithm: Algorithm,
    empty: Empty,
}

impl<T: Element> Kernel<T> for SoftmaxRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for (x, y) in self.x.chunks_exact(self.columns).zip(self.y.chunks_exact_mut(self.columns)) {
            let max = if self.algorithm == Algorithm::Online {
                online(simd, x, self.scale, y)
            } else {
                three_pass_reload(simd, x, self.scale, y)
            };
            let only_negative_infinity = || x.iter().all(|&x| x == T::NEG_INFINITY);
            if self.empty == Empty::Zero && max == T::NEG_INFINITY && only_negative_infinity() {
                y.fill(T::ZERO);
            }
        }
    }
}

/// Writes the softmax of one row and returns its maximum.
#[inline(always)]
fn three_pass_reload<T: Element, S: Simd<T>>(simd: S, x: &[T], scale: T, y: &mut [T]) -> T {
    let max = rows::maximum(simd, x);
    let exp = ExpBelow::new(simd, max, scale);
    let sum = rows::exp_into(simd, &exp, x, y);
    rows::scale(simd, y, T::from_f64(1.0 / sum));
    max
}

/// Writes the softmax of one row and returns its maximum.
#[inline(always)]
fn online<T: Element, S: Simd<T>>(simd: S, x: &[T], scale: T, y: &mut [T]) -> T {
    let sum = LogSum::of_row(simd, x, scale);
    let exp = ExpBelow::new(simd, sum.max, scale);
    let factor = simd.splat(T::from_f64(1.0 / sum.total()));
    rows::write_row!(simd, y, x in x => math::flush_positive(simd, simd.mul(exp.eval(simd, x), factor)));
    sum.max
}

/// Gradient of [`softmax`]: dx = y (dy - sum y dy) / temperature.
///
/// # Errors
/// [`crate::Error`] if lengths or the temperature do not fit, or when cancelled.
pub fn softmax_backward<T: Element>(
    y: &[T],
    dy: &[T],
    columns: usize,
    temperature: f64,
    dx: &mut [T],
    cancel: &Cancel,
) -> Result<()> {
    rows::count_rows("softmax_backward", y.len(), columns)?;
    rows::check_len("softmax_backward", "dy", dy.len(), y.len())?;
    rows::check_len("softmax_backward", "dx", dx.len(), y.len())?;
    let scale = rows::scale_of("softmax_backward", temperature)?;
    let piece = rows::rows_per_piece(columns) * columns;
    let pieces: Vec<_> = y.chunks(piece).zip(dy.chunks(piece)).zip(dx.chunks_mut(piece)).collect();
    threads::for_each(
        pieces,
        y.len(),
        cancel,
        || (),
        |(), ((y, dy), dx)| {
            T::dispatch(BackwardRows { y, dy, dx, columns, scale });
        },
    )
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
        let scale = simd.splat(self.scale);
        let inputs = self.y.chunks_exact(self.columns).zip(self.dy.chunks_exact(self.columns));
        for ((y, dy), dx) in inputs.zip(self.dx.chunks_exact_mut(self.columns)) {
            let mean = simd.splat(T::from_f64(rows::dot(simd, y, dy)));
            rows::write_row!(simd, dx, y in y, dy in dy => {
                math::flush(simd, simd.mul(simd.mul(y, simd.sub(dy, mean)), scale))
            });
        }
    }
}
