//! Logarithm of the sum of exponentials of rows, in one sweep.

use crate::error::Result;
use crate::ln_1p::{ln_1p, ln_1p_each};
use crate::long;
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// What the nearest `f64` to ln 2 lacks of it.
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;

/// The sum of e^{scale (x - max)} over what has been seen of a row.
///
/// What is exactly 1 is kept apart: a row with one large element has ones = 1 and a small rest, and the
/// logarithm of the sum is then `ln_1p(rest)`, which does not lose the rest to rounding.
#[derive(Clone, Copy)]
pub(crate) struct LogSum<T> {
    /// The largest element so far; negative infinity before the first that is larger.
    pub max: T,
    ones: f64,
    rest: f64,
}

impl<T: Element> Default for LogSum<T> {
    /// The sum over nothing.
    fn default() -> Self {
        LogSum { max: T::NEG_INFINITY, ones: 0.0, rest: 0.0 }
    }
}

impl<T: Element> LogSum<T> {
    /// The sum over a whole row; NaN if the row has a NaN or positive infinity, 0 if nothing in it is finite.
    #[inline(always)]
    pub(crate) fn of_row<X: Stored<Wide = T>, S: Simd<T>>(simd: S, row: &[X], scale: T) -> Self {
        let mut sum = LogSum::default();
        let mut ahead = row;
        while !ahead.is_empty() {
            let block;
            (block, ahead) = ahead.split_at(ahead.len().min(rows::SUM_BLOCK));
            sum.add(simd, block, scale, ahead);
        }
        sum
    }

    /// The sums over whole rows of `columns` elements, which `ahead` follows.
    #[inline(always)]
    pub(crate) fn of_rows<S: Simd<T>>(
        simd: S,
        x: &[T],
        columns: usize,
        scale: T,
        ahead: &[T],
        sums: &mut [Self],
    ) {
        if columns > rows::SUM_BLOCK {
            for (row, sum) in x.chunks_exact(columns).zip(sums) {
                *sum = Self::of_row(simd, row, scale);
            }
            return;
        }
        for (row, sum) in x.chunks_exact(columns).zip(&mut *sums) {
            *sum = LogSum { max: rows::maximum(simd, row), ..LogSum::default() };
        }
        for (index, (row, sum)) in x.chunks_exact(columns).zip(sums).enumerate() {
            sum.add_below(simd, row, scale, ahead.get(index * columns..).unwrap_or_default());
        }
    }

    /// Adds elements, of which there are few enough to be swept twice in the nearest cache.
    #[inline(always)]
    fn add<X: Stored<Wide = T>, S: Simd<T>>(&mut self, simd: S, block: &[X], scale: T, ahead: &[X]) {
        self.rise(rows::maximum(simd, block), scale);
        self.add_below(simd, block, scale, ahead);
    }

    /// Takes the sum relative to a maximum that may be larger.
    #[inline(always)]
    pub(crate) fn rise(&mut self, max: T, scale: T) {
        if max > self.max {
            let old = ((self.max.to_f64() - max.to_f64()) * scale.to_f64()).exp();
            self.rest = self.total() * old;
            self.ones = 0.0;
            self.max = max;
        }
    }

    /// What exponentials are taken relative to: as long as all is -inf, any finite number gives the zeros that belong
    /// in the sum.
    #[inline(always)]
    pub(crate) fn reference(&self) -> T {
        if self.max == T::NEG_INFINITY { T::ZERO } else { self.max }
    }

    /// Adds exponentials relative to the maximum, those that are 1 not told apart.
    #[inline(always)]
    pub(crate) fn add_total(&mut self, total: f64) {
        self.rest += total;
    }

    /// Adds elements that are not above the maximum; the caches are asked for as many of `ahead`, which are next.
    #[inline(always)]
    fn add_below<X: Stored<Wide = T>, S: Simd<T>>(&mut self, simd: S, block: &[X], scale: T, ahead: &[X]) {
        let exp = ExpBelow::new(simd, self.reference(), scale);
        let (packs, tail) = X::packs(block);
        let mut sums = [simd.splat(T::ZERO); 2];
        let mut ahead = X::packs(ahead).0.iter();
        for pack in packs {
            if let Some(next) = ahead.next() {
                simd.prefetch(std::slice::from_ref(next));
            }
            sums = add_split(simd, exp.eval(simd, X::load(simd, pack)), sums);
        }
        if !tail.is_empty() {
            sums = add_split(simd, exp.eval(simd, X::load_partial(simd, tail, T::NEG_INFINITY)), sums);
        }
        let [ones, rest] = sums;
        self.ones += simd.sum(ones).to_f64();
        self.rest += simd.sum(rest).to_f64();
    }

    /// The sum over two parts of a row.
    pub(crate) fn merge(self, other: Self, scale: T) -> Self {
        if self.max == other.max {
            return LogSum { max: self.max, ones: self.ones + other.ones, rest: self.rest + other.rest };
        }
        let (high, low) = if self.max > other.max { (self, other) } else { (other, self) };
        let factor = ((low.max.to_f64() - high.max.to_f64()) * scale.to_f64()).exp();
        LogSum { rest: high.rest + low.total() * factor, ..high }
    }

    /// ln sum e^x of the row with this sum, whose logarithm is `ln`.
    fn value<X: Stored<Wide = T>>(&self, row: &[X], ln: f64) -> T {
        if self.max == T::INFINITY {
            return if row.iter().any(|x| x.widen().is_nan()) { T::NAN } else { T::INFINITY };
        }
        T::from_f64(self.max.to_f64() + ln)
    }

    /// sum e^x of the row with this sum, as a number between 1 and 2 and the exponent of the 2 it is scaled by.
    fn pair<X: Stored<Wide = T>>(&self, row: &[X]) -> (f64, f64) {
        if self.max == T::INFINITY {
            return (self.value(row, 0.0).to_f64(), 0.0);
        }
        let total = self.total();
        if self.max == T::NEG_INFINITY {
            return (total, if total.is_nan() { total } else { f64::NEG_INFINITY });
        }
        let max = self.max.to_f64();
        let power = (max * std::f64::consts::LOG2_E).round();
        // ln 2 in two parts, so that the rest of e^max keeps its digits.
        let rest = (-power).mul_add(std::f64::consts::LN_2, max) - power * LN_2_REST;
        let mantissa = total * rest.exp();
        let shift = mantissa.log2().floor();
        (mantissa * (-shift).exp2(), power + shift)
    }

    /// The sum.
    #[inline(always)]
    pub(crate) fn total(&self) -> f64 {
        self.ones + self.rest
    }

    /// The logarithm of the sum, relative to `scale * max`.
    #[inline(always)]
    pub(crate) fn ln(&self) -> f64 {
        ln_1p(self.excess())
    }

    /// The sum less 1: what [`ln_1p`] takes.
    #[inline(always)]
    pub(crate) fn excess(&self) -> f64 {
        (self.ones - 1.0) + self.rest
    }
}

/// Adds powers to the sum of those that are exactly 1 and the sum of the smaller ones.
#[inline(always)]
fn add_split<T: Element, S: Simd<T>>(
    simd: S,
    power: S::Vector,
    [ones, rest]: [S::Vector; 2],
) -> [S::Vector; 2] {
    // A NaN is not less than one and stays in `ones`.
    let small = simd.less(power, simd.splat(T::ONE));
    [simd.select(small, ones, simd.add(ones, power)), simd.select(small, simd.add(rest, power), rest)]
}

/// The [`LogSum`] of a row, or of a block of a long one.
struct LogSumOf<'a, X: Stored> {
    x: &'a [X],
    scale: X::Wide,
}

impl<X: Stored> Kernel<X::Wide> for LogSumOf<'_, X> {
    type Output = LogSum<X::Wide>;

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) -> LogSum<X::Wide> {
        LogSum::of_row(simd, self.x, self.scale)
    }
}

/// The [`LogSum`] of a long row by all threads.
pub(crate) fn of_long_row<X: Stored>(row: &[X], scale: X::Wide, cancel: &Cancel) -> Result<LogSum<X::Wide>> {
    let sums = long::each_block(row.chunks(long::BLOCK), cancel, |(): &mut (), x| {
        X::Wide::dispatch(LogSumOf { x, scale })
    })?;
    Ok(long::merge(&sums, &|a: LogSum<X::Wide>, b| a.merge(b, scale)))
}

/// ln sum e^x of each row of `columns` elements.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn logsumexp<X: Stored>(x: &[X], columns: usize, lse: &mut [X::Wide], cancel: &Cancel) -> Result<()> {
    let count = rows::count_rows("logsumexp", x.len(), columns)?;
    rows::check_len("logsumexp", "lse", lse.len(), count)?;
    let sums = sums(x, columns, cancel)?;
    let mut logarithms: Vec<f64> = sums.iter().map(LogSum::excess).collect();
    f64::dispatch(Logarithms { list: &mut logarithms });
    let rows = x.chunks_exact(columns).zip(sums).zip(logarithms);
    for (lse, ((row, sum), ln)) in lse.iter_mut().zip(rows) {
        *lse = sum.value(row, ln);
    }
    Ok(())
}

/// Takes the logarithms of numbers plus 1.
struct Logarithms<'a> {
    list: &'a mut [f64],
}

impl Kernel<f64> for Logarithms<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f64>>(self, _: S) {
        ln_1p_each(self.list);
    }
}

/// sum e^x of each row of `columns` elements as mantissa * 2^exponent, for sums beyond the range of `T` and
/// logarithms that `T` would round.
///
/// The mantissa lies between 1 and 2; a row of negative infinities gives (0, -inf), one with positive infinity and
/// no NaN (inf, 0).
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn logsumexp_pair<X: Stored>(
    x: &[X],
    columns: usize,
    mantissa: &mut [X::Wide],
    exponent: &mut [X::Wide],
    cancel: &Cancel,
) -> Result<()> {
    let count = rows::count_rows("logsumexp", x.len(), columns)?;
    rows::check_len("logsumexp", "mantissa", mantissa.len(), count)?;
    rows::check_len("logsumexp", "exponent", exponent.len(), count)?;
    let sums = sums(x, columns, cancel)?;
    for (index, (sum, row)) in sums.into_iter().zip(x.chunks_exact(columns)).enumerate() {
        let (m, n) = sum.pair(row);
        (mantissa[index], exponent[index]) = (X::Wide::from_f64(m), X::Wide::from_f64(n));
    }
    Ok(())
}

/// The [`LogSum`] of each row.
fn sums<X: Stored>(x: &[X], columns: usize, cancel: &Cancel) -> Result<Vec<LogSum<X::Wide>>> {
    if long::is_long(columns) {
        return x.chunks_exact(columns).map(|row| of_long_row(row, X::Wide::ONE, cancel)).collect();
    }
    let piece = rows::rows_per_piece(columns);
    let mut sums = vec![LogSum::default(); x.len() / columns];
    let pieces: Vec<_> = x.chunks(piece * columns).zip(sums.chunks_mut(piece)).collect();
    threads::for_each(pieces, x.len(), cancel, Vec::new, |buffer, (x, sums)| {
        X::Wide::dispatch(LogSumRows { x: X::wide(x, buffer), sums, columns });
    })?;
    Ok(sums)
}

struct LogSumRows<'a, T> {
    x: &'a [T],
    sums: &'a mut [LogSum<T>],
    columns: usize,
}

impl<T: Element> Kernel<T> for LogSumRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let mut ahead = self.x;
        for sums in self.sums.chunks_mut(rows::together(self.columns)) {
            let x;
            (x, ahead) = ahead.split_at(sums.len() * self.columns);
            LogSum::of_rows(simd, x, self.columns, T::ONE, ahead, sums);
        }
    }
}

/// Gradient of [`logsumexp`]: dx = dlse softmax(x).
///
/// `lse` is what the forward returned. It only saves the search for the maximum: being rounded, it would give
/// e^{x - lse} an error of |lse| units in the last place, so the exponentials are divided by their sum.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn logsumexp_backward<X: Stored>(
    x: &[X],
    columns: usize,
    lse: &[X::Wide],
    dlse: &[X::Wide],
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let count = rows::count_rows("logsumexp_backward", x.len(), columns)?;
    rows::check_len("logsumexp_backward", "lse", lse.len(), count)?;
    rows::check_len("logsumexp_backward", "dlse", dlse.len(), count)?;
    rows::check_len("logsumexp_backward", "dx", dx.len(), x.len())?;
    let piece = rows::rows_per_piece(columns);
    let inputs = x.chunks(piece * columns).zip(lse.chunks(piece)).zip(dlse.chunks(piece));
    let pieces: Vec<_> = inputs.zip(dx.chunks_mut(piece * columns)).collect();
    let buffers = || (Vec::new(), Vec::new());
    threads::for_each(pieces, x.len(), cancel, buffers, |(wide, target), (((x, lse), dlse), dx)| {
        let (x, wide_dx) = (X::wide(x, wide), X::target(dx, target));
        X::Wide::dispatch(BackwardRows { x, lse, dlse, dx: wide_dx, columns });
        X::settle(target, dx);
    })
}

struct BackwardRows<'a, T> {
    x: &'a [T],
    lse: &'a [T],
    dlse: &'a [T],
    dx: &'a mut [T],
    columns: usize,
}

impl<T: Element> Kernel<T> for BackwardRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let inputs = self.x.chunks_exact(self.columns).zip(self.lse).zip(self.dlse);
        for (((x, &lse), &dlse), dx) in inputs.zip(self.dx.chunks_exact_mut(self.columns)) {
            let exp = ExpBelow::new(simd, lse, T::ONE);
            let sum = rows::exp_into(simd, &exp, x, dx);
            rows::scale(simd, dx, T::from_f64(dlse.to_f64() / sum));
        }
    }
}
