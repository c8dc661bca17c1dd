//! The sweeps over rows that the algorithms of softmax are made of.
//!
//! Each is a kernel over a row or over a block of a long one; an algorithm is a sequence of them.

use super::Algorithm;
use crate::error::Result;
use crate::ext_sum::{self, ExtSum};
use crate::logsumexp::{self, LogSum};
use crate::long::{self, BLOCK};
use crate::rows::{self, Empty};
use crate::threads::Cancel;
use logitscope_simd::math::{self, ExpBelow};
use logitscope_simd::{Element, Kernel, Simd};

/// Results of this size leave the last-level cache before anybody reads them, so they are written past it: a
/// twentieth faster at 256 MiB, no difference at 4 MiB (AMD EPYC with 32 MiB of it).
const STREAM_BYTES: usize = 64 << 20;

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
        for (x, y) in self.x.chunks_exact(self.columns).zip(self.y.chunks_exact_mut(self.columns)) {
            let max = match self.algorithm {
                Algorithm::ThreePassRecompute => three_pass_recompute(simd, x, self.scale, y),
                Algorithm::TwoPass => two_pass(simd, x, self.scale, y),
                Algorithm::Online => online(simd, x, self.scale, y),
                Algorithm::Auto | Algorithm::ThreePassReload => three_pass_reload(simd, x, self.scale, y),
            };
            fill_if_empty(x, max, self.empty, y);
        }
    }
}

/// Zeros for a row of negative infinities, if that is asked for.
fn fill_if_empty<T: Element>(x: &[T], max: T, empty: Empty, y: &mut [T]) {
    let only_negative_infinity = || x.iter().all(|&x| x == T::NEG_INFINITY);
    if empty == Empty::Zero && max == T::NEG_INFINITY && only_negative_infinity() {
        y.fill(T::ZERO);
    }
}

/// Writes the softmax of one row and returns its maximum.
#[inline(always)]
fn three_pass_reload<T: Element, S: Simd<T>>(simd: S, x: &[T], scale: T, y: &mut [T]) -> T {
    let max = Maximum { x }.run(simd);
    let sum = StorePowers { x, max, scale, y }.run(simd);
    rows::scale(simd, y, T::from_f64(1.0 / sum));
    max
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
pub(super) fn softmax_long<T: Element>(
    x: &[T],
    y: &mut [T],
    scale: T,
    algorithm: Algorithm,
    empty: Empty,
    cancel: &Cancel,
) -> Result<()> {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let maximum = || -> Result<T> {
        let maxima = long::each_block::<T, _>(x.chunks(BLOCK).map(|x| Maximum { x }), cancel)?;
        Ok(long::merge(&maxima, &larger))
    };
    let max = match algorithm {
        Algorithm::TwoPass => {
            let sums = long::each_block::<T, _>(x.chunks(BLOCK).map(|x| SumPairs { x, scale }), cancel)?;
            let Some(sum) = long::merge(&sums, &ExtSum::add).normalised() else {
                return softmax_long(x, y, scale, Algorithm::ThreePassRecompute, empty, cancel);
            };
            let stream = size_of_val(y) >= STREAM_BYTES;
            let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
            long::each_block::<T, _>(
                blocks.map(|(x, y)| WriteQuotients { x, scale, sum, y, stream }),
                cancel,
            )?;
            return Ok(());
        }
        Algorithm::ThreePassReload => {
            let max = maximum()?;
            let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
            let sums =
                long::each_block::<T, _>(blocks.map(|(x, y)| StorePowers { x, max, scale, y }), cancel)?;
            let factor = T::from_f64(1.0 / rows::pairwise_sum(&sums));
            long::each_block::<T, _>(y.chunks_mut(BLOCK).map(|y| Scale { y, factor }), cancel)?;
            max
        }
        _ => {
            let (max, total) = if algorithm == Algorithm::Online {
                let sum = logsumexp::of_long_row(x, scale, cancel)?;
                (sum.max, sum.total())
            } else {
                let max = maximum()?;
                let sums =
                    long::each_block::<T, _>(x.chunks(BLOCK).map(|x| SumPowers { x, max, scale }), cancel)?;
                (max, rows::pairwise_sum(&sums))
            };
            let factor = T::from_f64(1.0 / total);
            let blocks = x.chunks(BLOCK).zip(y.chunks_mut(BLOCK));
            long::each_block::<T, _>(blocks.map(|(x, y)| WriteBelow { x, max, scale, factor, y }), cancel)?;
            max
        }
    };
    fill_if_empty(x, max, empty, y);
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
        rows::scale(simd, self.y, self.factor);
    }
}

/// The sum of e^{scale x} as a pair.
struct SumPairs<'a, T> {
    x: &'a [T],
    scale: T,
}

impl<T: Element> Kernel<T> for SumPairs<'_, T> {
    type Output = ExtSum;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> ExtSum {
        ext_sum::sum_of_row(simd, self.x, self.scale)
    }
}

/// Writes e^{scale x} / sum.
struct WriteQuotients<'a, T> {
    x: &'a [T],
    scale: T,
    sum: ExtSum,
    y: &'a mut [T],
    /// Whether the result goes past the caches.
    stream: bool,
}

impl<T: Element> Kernel<T> for WriteQuotients<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        if self.stream {
            ext_sum::stream_quotients(simd, self.x, self.scale, self.sum, self.y);
        } else {
            ext_sum::write_quotients(simd, self.x, self.scale, self.sum, self.y);
        }
    }
}
