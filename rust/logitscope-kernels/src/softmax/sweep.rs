//! The sweeps over rows that the algorithms of softmax are made of.
//!
//! Each is a kernel over a row or over a block of a long one; an algorithm is a sequence of them.

use super::{Algorithm, short};
use crate::error::Result;
use crate::ext_sum::{self, ExtSum};
use crate::logsumexp::{self, LogSum};
use crate::long::{self, BLOCK};
use crate::rows::{self, Empty};
use crate::threads::Cancel;
use logitscope_simd::math::{self, ExpBelow};
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Rows one after the other, each by one thread.
pub(super) struct SoftmaxRows<'a, T> {
    pub x: &'a [T],
    pub y: &'a mut [T],
    pub columns: usize,
    pub scale: T,
    pub algorithm: Algorithm,
    pub empty: Empty,
}

impl<T: Element> Kernel<T> for SoftmaxRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let SoftmaxRows { x, y, columns, scale, algorithm, empty } = self;
        if matches!(algorithm, Algorithm::Auto | Algorithm::ThreePassReload) {
            let size = rows::together(columns) * columns;
            let mut ahead = x;
            for y in y.chunks_mut(size) {
                let x;
                (x, ahead) = ahead.split_at(y.len());
                three_pass_reload(simd, x, columns, scale, empty, y, ahead);
            }
            return;
        }
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            let max = match algorithm {
                Algorithm::TwoPass => two_pass(simd, x, scale, y),
                Algorithm::Online => online(simd, x, scale, y),
                _ => three_pass_recompute(simd, x, scale, y),
            };
            fill_if_empty(x, max, empty, y);
        }
    }
}

/// Zeros for a row of negative infinities, if that is asked for.
fn fill_if_empty<X: Stored>(x: &[X], max: X::Wide, empty: Empty, y: &mut [X]) {
    let nothing = X::Wide::NEG_INFINITY;
    if empty == Empty::Zero && max == nothing && x.iter().all(|x| x.widen() == nothing) {
        y.fill(X::narrow(X::Wide::ZERO));
    }
}

/// Writes the softmax of at most [`rows::TOGETHER`] rows, which `ahead` follows.
#[inline(always)]
fn three_pass_reload<T: Element, S: Simd<T>>(
    simd: S,
    x: &[T],
    columns: usize,
    scale: T,
    empty: Empty,
    y: &mut [T],
    ahead: &[T],
) {
    let mut maxima = [T::ZERO; rows::TOGETHER];
    let mut factors = [T::ZERO; rows::TOGETHER];
    for (x, max) in x.chunks_exact(columns).zip(&mut maxima) {
        *max = rows::maximum(simd, x);
    }
    let lists = maxima.iter().zip(&mut factors);
    for (index, (y, (&max, factor))) in y.chunks_exact_mut(columns).zip(lists).enumerate() {
        let row = index * columns..(index + 1) * columns;
        let ahead = ahead.get(row.start..).unwrap_or_default();
        let exp = ExpBelow::new(simd, max, scale);
        *factor = T::from_f64(1.0 / rows::exp_into_before(simd, &exp, &x[row], y, ahead));
    }
    let lists = maxima.iter().zip(&factors);
    for ((x, y), (&max, &factor)) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).zip(lists) {
        rows::scale_powers(simd, y, factor);
        fill_if_empty(x, max, empty, y);
    }
}

/// Writes the softmax of one row and returns its maximum.
#[inline(always)]
fn three_pass_recompute<T: Element, S: Simd<T>>(simd: S, x: &[T], scale: T, y: &mut [T]) -> T {
    let max = Maximum { x }.run(simd);
    let sum = SumPowers { x, max, scale }.run(simd);
    WriteBelow { x, max, scale, factor: T::from_f64(1.0 / sum), y }.run(simd);
    max
}

/// Writes the softmax of one row and returns its maximum.
#[inline(always)]
fn online<T: Element, S: Simd<T>>(simd: S, x: &[T], scale: T, y: &mut [T]) -> T {
    let sum = LogSum::of_row(simd, x, scale);
    WriteBelow { x, max: sum.max, scale, factor: T::from_f64(1.0 / sum.total()), y }.run(simd);
    sum.max
}

/// Writes the softmax of one row and returns its maximum, or 0 where it is not negative infinity.
#[inline(always)]
fn two_pass<T: Element, S: Simd<T>>(simd: S, x: &[T], scale: T, y: &mut [T]) -> T {
    match ext_sum::sum_of_row(simd, x, scale).normalised() {
        Some(sum) => {
            ext_sum::write_quotients(simd, x, scale, sum, y);
            T::ZERO
        }
        // Pairs are not exact for it, or it has no finite sum.
        None => three_pass_recompute(simd, x, scale, y),
    }
}

/// One long row by all threads, in blocks.
pub(super) fn softmax_long<X: Stored>(
    x: &[X],
    y: &mut [X],
    scale: X::Wide,
    algorithm: Algorithm,
    empty: Empty,
    cancel: &Cancel,
) -> Result<()> {
    let max = match algorithm {
        Algorithm::Online => match short::online_long(x, scale, y, cancel)? {
            Some(max) => max,
            None => online_long(x, scale, y, cancel)?,
        },
        Algorithm::TwoPass => match two_pass_long(x, scale, y, cancel)? {
            Some(max) => max,
            None => three_pass_recompute_long(x, scale, y, cancel)?,
        },
        Algorithm::ThreePassReload => match (X::as_wide(x), X::as_wide_mut(y)) {
            (Some(x), Some(y)) => three_pass_reload_long(x, scale, y, cancel)?,
            // There is no room in the result for powers that are not rounded yet.
            _ => three_pass_recompute_long(x, scale, y, cancel)?,
        },
        Algorithm::Auto | Algorithm::ThreePassRecompute => three_pass_recompute_long(x, scale, y, cancel)?,
    };
    fill_if_empty(x, max, empty, y);
    Ok(())
}

/// As [`online`].
fn online_long<X: Stored>(x: &[X], scale: X::Wide, y: &mut [X], cancel: &Cancel) -> Result<X::Wide> {
    let sum = logsumexp::of_long_row(x, scale, cancel)?;
    write_long(x, sum.max, scale, sum.total(), y, cancel)?;
    Ok(sum.max)
}

/// As [`two_pass`]; None where pairs are not exact for the row, or it has no finite sum.
fn two_pass_long<X: Stored>(
    x: &[X],
    scale: X::Wide,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<Option<X::Wide>> {
    let Some(sum) = sum_pairs_of_long(x, scale, cancel)?.normalised() else { return Ok(None) };
    write_quotients_long(x, scale, sum, y, cancel)?;
    Ok(Some(X::Wide::ZERO))
}

/// As [`three_pass_recompute`].
fn three_pass_recompute_long<X: Stored>(
    x: &[X],
    scale: X::Wide,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<X::Wide> {
    let max = maximum_of_long(x, cancel)?;
    let total = sum_powers_of_long(x, max, scale, cancel)?;
    write_long(x, max, scale, total, y, cancel)?;
    Ok(max)
}

/// As [`three_pass_reload`].
fn three_pass_reload_long<T: Element>(x: &[T], scale: T, y: &mut [T], cancel: &Cancel) -> Result<T> {
    let max = maximum_of_long(x, cancel)?;
    let total = store_powers_long(x, max, scale, y, cancel)?;
    scale_long(y, total, cancel)?;
    Ok(max)
}

/// The maximum of a long row.
pub(super) fn maximum_of_long<X: Stored>(x: &[X], cancel: &Cancel) -> Result<X::Wide> {
    let maxima = long::each_block(x.chunks(BLOCK), cancel, |buffer: &mut Vec<_>, x| {
        X::Wide::dispatch(Maximum { x: X::wide(x, buffer) })
    })?;
    Ok(long::merge(&maxima, &|a, b| if b > a { b } else { a }))
}

/// The sum of e^{scale (x - max)} over a long row.
pub(super) fn sum_powers_of_long<X: Stored>(
    x: &[X],
    max: X::Wide,
    scale: X::Wide,
    cancel: &Cancel,
) -> Result<f64> {
    let sums = long::each_block(x.chunks(BLOCK), cancel, |buffer: &mut Vec<_>, x| {
        X::Wide::dispatch(SumPowers { x: X::wide(x, buffer), max, scale })
    })?;
    Ok(rows::pairwise_sum(&sums))
}

/// Writes e^{scale (x - max)} over a long row and returns the sum.
pub(super) fn store_powers_long<T: Element>(
    x: &[T],
    max: T,
    scale: T,
    y: &mut [T],
    cancel: &Cancel,
) -> Result<f64> {
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    let sums = long::each_block(blocks, cancel, |(): &mut (), (x, y)| {
        T::dispatch(StorePowers { x, max, scale, y })
    })?;
    Ok(rows::pairwise_sum(&sums))
}

/// Divides a long row of powers by their sum.
pub(super) fn scale_long<T: Element>(y: &mut [T], total: f64, cancel: &Cancel) -> Result<()> {
    let factor = T::from_f64(1.0 / total);
    long::each_block(y.chunks_mut(BLOCK), cancel, |(): &mut (), y| T::dispatch(Scale { y, factor }))?;
    Ok(())
}

/// The sum of e^{scale x} over a long row as a pair.
pub(super) fn sum_pairs_of_long<X: Stored>(x: &[X], scale: X::Wide, cancel: &Cancel) -> Result<ExtSum> {
    let sums =
        long::each_block(x.chunks(BLOCK), cancel, |(): &mut (), x| X::Wide::dispatch(SumPairs { x, scale }))?;
    Ok(long::merge(&sums, &ExtSum::add))
}

/// Writes e^{scale x} / sum over a long row, for a normalised sum.
pub(super) fn write_quotients_long<X: Stored>(
    x: &[X],
    scale: X::Wide,
    sum: ExtSum,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let stream = size_of_val(y) >= long::STREAM_BYTES;
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    long::each_block(blocks, cancel, |(): &mut (), (x, y)| {
        X::run(WriteQuotients { x, scale, sum, y, stream });
    })?;
    Ok(())
}

/// Writes e^{scale (x - max)} / total over a long row.
pub(super) fn write_long<X: Stored>(
    x: &[X],
    max: X::Wide,
    scale: X::Wide,
    total: f64,
    y: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let factor = X::Wide::from_f64(1.0 / total);
    let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
    long::each_block(blocks, cancel, |(wide, target): &mut (Vec<_>, Vec<_>), (x, y)| {
        let (x, wide_y) = (X::wide(x, wide), X::target(y, target));
        X::Wide::dispatch(WriteBelow { x, max, scale, factor, y: wide_y });
        X::settle(target, y);
    })?;
    Ok(())
}

struct Maximum<'a, T> {
    x: &'a [T],
}

impl<T: Element> Kernel<T> for Maximum<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> T {
        rows::maximum(simd, self.x)
    }
}

/// The sum of e^{scale (x - max)}.
struct SumPowers<'a, T> {
    x: &'a [T],
    max: T,
    scale: T,
}

impl<T: Element> Kernel<T> for SumPowers<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> f64 {
        rows::sum_exp(simd, &ExpBelow::new(simd, self.max, self.scale), self.x)
    }
}

/// Writes e^{scale (x - max)} and returns the sum.
struct StorePowers<'a, T> {
    x: &'a [T],
    max: T,
    scale: T,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for StorePowers<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> f64 {
        rows::exp_into(simd, &ExpBelow::new(simd, self.max, self.scale), self.x, self.y)
    }
}

/// Writes e^{scale (x - max)} times a factor.
struct WriteBelow<'a, T> {
    x: &'a [T],
    max: T,
    scale: T,
    factor: T,
    y: &'a mut [T],
}

impl<T: Element> Kernel<T> for WriteBelow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let exp = ExpBelow::new(simd, self.max, self.scale);
        let factor = simd.splat(self.factor);
        rows::write_row!(simd, self.y, x in self.x => {
            math::flush_positive(simd, simd.mul(exp.eval(simd, x), factor))
        });
    }
}

struct Scale<'a, T> {
    y: &'a mut [T],
    factor: T,
}

impl<T: Element> Kernel<T> for Scale<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        rows::scale_powers(simd, self.y, self.factor);
    }
}

/// The sum of e^{scale x} as a pair.
struct SumPairs<'a, X: Stored> {
    x: &'a [X],
    scale: X::Wide,
}

impl<X: Stored> Kernel<X::Wide> for SumPairs<'_, X> {
    type Output = ExtSum;

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) -> ExtSum {
        ext_sum::sum_of_row(simd, self.x, self.scale)
    }
}

/// Writes e^{scale x} / sum.
struct WriteQuotients<'a, X: Stored> {
    x: &'a [X],
    scale: X::Wide,
    sum: ExtSum,
    y: &'a mut [X],
    /// Whether the result goes past the caches.
    stream: bool,
}

impl<X: Stored> Kernel<X::Wide> for WriteQuotients<'_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) {
        if self.stream {
            ext_sum::stream_quotients(simd, self.x, self.scale, self.sum, self.y);
        } else {
            ext_sum::write_quotients(simd, self.x, self.scale, self.sum, self.y);
        }
    }
}
