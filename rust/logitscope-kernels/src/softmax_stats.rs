//! What a row of logits looks like and what its softmax would: statistics of one read.

use crate::error::Result;
use crate::long;
use crate::rows::{self, SUM_BLOCK};
use crate::threads::{self, Cancel};
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// The statistics of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The largest logit.
    pub max: f64,
    /// Where it stands first.
    pub argmax: usize,
    /// ln sum e^x.
    pub lse: f64,
    /// Entropy of the softmax, in nats.
    pub entropy: f64,
    /// Mean of the logits.
    pub mean: f64,
    /// Standard deviation of the logits, from the mean over all of them.
    pub deviation: f64,
}

/// Statistics of each row of `columns` elements, in row-major order.
///
/// A row with a NaN has NaN everywhere and its first NaN as `argmax`; one with positive infinity, or with nothing
/// finite, has no entropy (NaN).
///
/// # Errors
/// [`crate::Error`] if the length does not fit, or when cancelled.
pub fn softmax_stats<X: Stored>(x: &[X], columns: usize, cancel: &Cancel) -> Result<Vec<Stats>> {
    let count = rows::count_rows("softmax_stats", x.len(), columns)?;
    let mut sums = vec![Sums::default(); count];
    if long::is_long(columns) {
        for (row, sums) in x.chunks_exact(columns).zip(&mut sums) {
            let blocks = row.chunks(long::BLOCK).enumerate();
            let parts = long::each_block(blocks, cancel, |buffer: &mut Vec<_>, (index, x)| {
                X::Wide::dispatch(Part { x: X::wide(x, buffer), offset: index * long::BLOCK })
            })?;
            *sums = long::merge(&parts, &Sums::merge);
        }
    } else {
        let piece = rows::rows_per_piece(columns);
        let pieces: Vec<_> = x.chunks(piece * columns).zip(sums.chunks_mut(piece)).collect();
        threads::for_each(pieces, x.len(), cancel, Vec::new, |buffer, (x, sums)| {
            X::Wide::dispatch(StatsRows { x: X::wide(x, buffer), sums, columns });
        })?;
    }
    Ok(sums.iter().zip(x.chunks_exact(columns)).map(|(sums, row)| sums.finish(row)).collect())
}

/// What the statistics are made of, over a part of a row.
#[derive(Clone, Copy)]
struct Sums {
    max: f64,
    argmax: usize,
    /// Sum of e^{x - max}.
    powers: f64,
    /// Sum of e^{x - max} (x - max).
    weighted: f64,
    count: f64,
    mean: f64,
    /// Sum of (x - mean)².
    squares: f64,
}

impl Default for Sums {
    fn default() -> Self {
        let max = f64::NEG_INFINITY;
        Sums { max, argmax: 0, powers: 0.0, weighted: 0.0, count: 0.0, mean: 0.0, squares: 0.0 }
    }
}

impl Sums {
    /// The sums of `self` followed by those of `other` (moments: Chan, Golub and `LeVeque`, 1983).
    fn merge(self, other: Self) -> Self {
        let (a, b) = if other.max > self.max { (other, self) } else { (self, other) };
        let distance = b.max - a.max;
        let factor = if b.powers == 0.0 { 0.0 } else { distance.exp() };
        let shifted = if b.powers == 0.0 { 0.0 } else { b.weighted + b.powers * distance };
        let count = self.count + other.count;
        let step = other.mean - self.mean;
        let mean = self.mean + step * (other.count / count);
        let squares = self.squares + other.squares + step * step * (self.count * other.count / count);
        Sums {
            max: a.max,
            argmax: a.argmax,
            powers: a.powers + b.powers * factor,
            weighted: a.weighted + shifted * factor,
            count,
            mean,
            squares,
        }
    }

    fn finish<X: Stored>(&self, row: &[X]) -> Stats {
        let nan = if self.powers.is_nan() { row.iter().position(|x| x.widen().is_nan()) } else { None };
        if let Some(argmax) = nan {
            let nan = f64::NAN;
            return Stats { max: nan, argmax, lse: nan, entropy: nan, mean: nan, deviation: nan };
        }
        let (lse, entropy) = if self.max.is_infinite() {
            (self.max, f64::NAN)
        } else {
            let ln = self.powers.ln();
            (self.max + ln, (ln - self.weighted / self.powers).max(0.0))
        };
        // An infinity has no distance from the mean; which of the two it is, a sum tells.
        let mean = if self.mean.is_nan() { row.iter().map(|x| x.widen().to_f64()).sum() } else { self.mean };
        // Squares that underflow leave a sum below 0; a NaN stays.
        let squares = if self.squares < 0.0 { 0.0 } else { self.squares };
        let deviation = if mean.is_finite() { (squares / self.count).sqrt() } else { f64::NAN };
        Stats { max: self.max, argmax: self.argmax, lse, entropy, mean, deviation }
    }
}

/// The sums of one row or one block of a long row, which begins at `offset`.
struct Part<'a, T> {
    x: &'a [T],
    offset: usize,
}

impl<T: Element> Kernel<T> for Part<'_, T> {
    type Output = Sums;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Sums {
        let mut total = sums_of_block(simd, &self.x[..SUM_BLOCK.min(self.x.len())], self.offset);
        for (index, block) in self.x.chunks(SUM_BLOCK).enumerate().skip(1) {
            total = total.merge(sums_of_block(simd, block, self.offset + index * SUM_BLOCK));
        }
        total
    }
}

/// The sums of a block that stays in the nearest cache while it is swept three times.
#[inline(always)]
fn sums_of_block<T: Element, S: Simd<T>>(simd: S, x: &[T], offset: usize) -> Sums {
    let max = rows::maximum(simd, x);
    let argmax = offset + first_equal(x, max);
    let count = x.len() as f64;
    let mean = T::from_f64(rows::sum(simd, x) / count);
    // As long as all is -inf, any finite reference gives the zeros that belong in the sum.
    let reference = if max == T::NEG_INFINITY { T::ZERO } else { max };
    let exp = ExpBelow::new(simd, reference, T::ONE);
    let (top, middle) = (simd.splat(reference), simd.splat(mean));
    // Far below where the exponential is 0, and finite.
    let lowest = simd.splat(T::from_f64(-1e4));
    let zero = simd.splat(T::ZERO);
    let (mut powers, mut weighted, mut squares, mut steps) = (zero, zero, zero, zero);
    let (blocks, tail) = T::blocks(x);
    for block in blocks {
        let x = simd.load(block);
        let power = exp.eval(simd, x);
        powers = simd.add(powers, power);
        weighted = simd.mul_add(power, simd.max(lowest, simd.sub(x, top)), weighted);
        let step = simd.sub(x, middle);
        squares = simd.mul_add(step, step, squares);
        steps = simd.add(steps, step);
    }
    if !tail.is_empty() {
        let x = simd.load_partial(tail, T::NEG_INFINITY);
        let power = exp.eval(simd, x);
        powers = simd.add(powers, power);
        weighted = simd.mul_add(power, simd.max(lowest, simd.sub(x, top)), weighted);
        let step = simd.sub(simd.load_partial(tail, mean), middle);
        squares = simd.mul_add(step, step, squares);
        steps = simd.add(steps, step);
    }
    // The mean was rounded to `T`; the distances from it tell by how much.
    let rest = simd.sum(steps).to_f64() / count;
    Sums {
        max: max.to_f64(),
        argmax,
        powers: simd.sum(powers).to_f64(),
        weighted: simd.sum(weighted).to_f64(),
        count,
        mean: mean.to_f64() + rest,
        squares: simd.sum(squares).to_f64() - count * rest * rest,
    }
}

/// Where a number stands first; 0 if nowhere.
fn first_equal<T: Element>(x: &[T], number: T) -> usize {
    x.iter().position(|&x| x == number).unwrap_or(0)
}

struct StatsRows<'a, T> {
    x: &'a [T],
    sums: &'a mut [Sums],
    columns: usize,
}

impl<T: Element> Kernel<T> for StatsRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for (x, sums) in self.x.chunks_exact(self.columns).zip(self.sums) {
            *sums = Part { x, offset: 0 }.run(simd);
        }
    }
}
