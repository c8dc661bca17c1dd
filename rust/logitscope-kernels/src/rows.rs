//! What the row operations share: how rows are cut into pieces, and the sweeps over one row.
//!
//! A row is added up in blocks of [`SUM_BLOCK`] elements, each in `T` over the lanes of a vector, and the blocks
//! in `f64`: the rounding of a sum does not grow with the length of the row, and its order is always the same.

use crate::error::{Error, Result};
use crate::threads::{self, Cancel};
pub(crate) use crate::write::{update_row, write_row, write_two};
use logitscope_simd::math::{self, ExpBelow};
use logitscope_simd::{Element, Simd, Stored};

/// Elements in a piece of rows: enough to be worth a task, few enough to stay in a core's cache.
const PIECE: usize = 1 << 14;

/// Elements whose sum is formed in `T`.
pub(crate) const SUM_BLOCK: usize = 1024;

/// What becomes of a row or a mean that has nothing to be computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// NaN, as in torch, JAX and `SciPy`.
    Nan,
    /// Zero.
    Zero,
}

/// Elements of 16 bits that are widened at a time: with their results they leave room in the nearest cache.
const WIDENED: usize = 1 << 11;

/// How many rows make a piece.
pub(crate) fn rows_per_piece(columns: usize) -> usize {
    (PIECE / columns.max(1)).max(1)
}

/// The most rows that are swept together.
pub(crate) const TOGETHER: usize = 16;

/// How many rows of `columns` elements are swept together, each sweep over all of them before the next: what ends a
/// sweep of a short row (the maximum of the lanes, their sum, a quotient) then waits beside the work of another row.
pub(crate) fn together(columns: usize) -> usize {
    (2048 / columns).clamp(1, TOGETHER)
}

/// The number of rows of `columns` elements in a buffer of `len`.
pub(crate) fn count_rows(operation: &'static str, len: usize, columns: usize) -> Result<usize> {
    if columns == 0 || !len.is_multiple_of(columns) {
        return Err(Error::Shape {
            operation,
            argument: "x",
            got: format!("of {len} elements in rows of {columns}"),
            expected: "rows of at least one element, all of one length".to_owned(),
        });
    }
    Ok(len / columns)
}

/// An error unless an array has as many elements as it must.
pub(crate) fn check_len(
    operation: &'static str,
    argument: &'static str,
    got: usize,
    expected: usize,
) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape {
        operation,
        argument,
        got: format!("of {got} elements"),
        expected: format!("one of {expected} elements"),
    })
}

/// 1 / temperature as the element type, if both are normal positive numbers there.
pub(crate) fn scale_of<T: Element>(operation: &'static str, temperature: f64) -> Result<T> {
    let scale = T::from_f64(1.0 / temperature);
    if temperature > 0.0 && temperature.is_finite() && scale >= T::MIN_POSITIVE && scale.is_finite() {
        return Ok(scale);
    }
    Err(Error::Argument {
        operation,
        argument: "temperature",
        got: format!("{temperature:?}"),
        expected: format!("a positive finite number whose reciprocal is one in {}", T::NAME),
    })
}

/// An array of rows with the name that errors give it.
pub(crate) type Named<A> = (&'static str, A);

/// Checks the lengths of arrays of rows, cuts them into pieces, and has `run` fill each piece of the last.
pub(crate) fn fill<X: Stored, const N: usize>(
    operation: &'static str,
    inputs: [Named<&[X]>; N],
    (output_name, output): Named<&mut [X]>,
    columns: usize,
    cancel: &Cancel,
    run: impl Fn([&[X::Wide]; N], &mut [X::Wide]) + Sync + Send,
) -> Result<()> {
    let len = inputs[0].1.len();
    count_rows(operation, len, columns)?;
    for (name, input) in inputs {
        check_len(operation, name, input.len(), len)?;
    }
    check_len(operation, output_name, output.len(), len)?;
    let size = rows_per_piece(columns) * columns;
    let widened = (WIDENED / columns).max(1) * columns;
    let part = if size_of::<X>() < size_of::<X::Wide>() { widened.min(size) } else { size };
    let pieces: Vec<_> = output.chunks_mut(size).enumerate().collect();
    let buffers = || (std::array::from_fn::<_, N, _>(|_| Vec::new()), Vec::new());
    threads::for_each(pieces, len, cancel, buffers, |(buffers, buffer), (index, output)| {
        for (place, output) in output.chunks_mut(part).enumerate() {
            let first = index * size + place * part;
            let mut rows: [&[X::Wide]; N] = [&[]; N];
            for ((rows, (_, input)), buffer) in rows.iter_mut().zip(inputs).zip(&mut *buffers) {
                *rows = X::wide(&input[first..first + output.len()], buffer);
            }
            run(rows, X::target(output, buffer));
            X::settle(buffer, output);
        }
    })
}

/// The nearest `T`, 0 where that would be a denormal.
#[inline(always)]
pub(crate) fn normal_or_zero<T: Element>(x: f64) -> T {
    let nearest = T::from_f64(x);
    if nearest.abs() < T::MIN_POSITIVE { T::ZERO } else { nearest }
}

/// The largest element that is not NaN; negative infinity if there is none.
#[inline(always)]
pub(crate) fn maximum<X: Stored, S: Simd<X::Wide>>(simd: S, row: &[X]) -> X::Wide {
    // Four maxima, since each waits for its own previous one only.
    let nothing = X::Wide::NEG_INFINITY;
    let mut largest = [simd.splat(nothing); 4];
    let (packs, tail) = X::packs(row);
    let (fours, rest) = packs.as_chunks::<4>();
    for four in fours {
        for (largest, pack) in largest.iter_mut().zip(four) {
            *largest = simd.max(X::load(simd, pack), *largest);
        }
    }
    for (largest, pack) in largest.iter_mut().zip(rest) {
        *largest = simd.max(X::load(simd, pack), *largest);
    }
    let [a, b, c, d] = largest;
    let d = simd.max(X::load_partial(simd, tail, nothing), d);
    simd.max_lane(simd.max(simd.max(a, b), simd.max(c, d)))
}

/// The sum of e^{scale (x - max)}.
///
/// Four sums a block: where one element towers, only those that share its lane and its sum are rounded to it.
#[inline(always)]
pub(crate) fn sum_exp<T: Element, S: Simd<T>>(simd: S, exp: &ExpBelow<S::Vector>, row: &[T]) -> f64 {
    let mut total = 0.0;
    for part in row.chunks(SUM_BLOCK) {
        let (blocks, tail) = T::blocks(part);
        let (fours, rest) = blocks.as_chunks::<4>();
        let mut sums = [simd.splat(T::ZERO); 4];
        for four in fours {
            for (sum, block) in sums.iter_mut().zip(four) {
                *sum = simd.add(*sum, exp.eval(simd, simd.load(block)));
            }
        }
        for (sum, block) in sums.iter_mut().zip(rest) {
            *sum = simd.add(*sum, exp.eval(simd, simd.load(block)));
        }
        if !tail.is_empty() {
            sums[3] = simd.add(sums[3], exp.eval(simd, simd.load_partial(tail, T::NEG_INFINITY)));
        }
        total += sum_of_four(simd, sums);
    }
    total
}

/// Writes e^{scale (x - max)} and returns the sum, the same as [`sum_exp`].
#[inline(always)]
pub(crate) fn exp_into<T: Element, S: Simd<T>>(
    simd: S,
    exp: &ExpBelow<S::Vector>,
    row: &[T],
    out: &mut [T],
) -> f64 {
    exp_into_before(simd, exp, row, out, &[])
}

/// As [`exp_into`]; the caches are meanwhile asked for as much of `ahead`, which is read next.
#[inline(always)]
pub(crate) fn exp_into_before<T: Element, S: Simd<T>>(
    simd: S,
    exp: &ExpBelow<S::Vector>,
    row: &[T],
    out: &mut [T],
    ahead: &[T],
) -> f64 {
    let mut total = 0.0;
    let mut ahead = T::blocks(ahead).0.iter();
    for (part, out) in row.chunks(SUM_BLOCK).zip(out.chunks_mut(SUM_BLOCK)) {
        let ((blocks, tail), (out_blocks, out_tail)) = (T::blocks(part), T::blocks_mut(out));
        let ((fours, rest), (out_fours, out_rest)) =
            (blocks.as_chunks::<4>(), out_blocks.as_chunks_mut::<4>());
        let mut sums = [simd.splat(T::ZERO); 4];
        for (four, out) in fours.iter().zip(out_fours) {
            for ((sum, block), out) in sums.iter_mut().zip(four).zip(out) {
                if let Some(next) = ahead.next() {
                    simd.prefetch(next.as_ref());
                }
                let power = exp.eval(simd, simd.load(block));
                simd.store(power, out);
                *sum = simd.add(*sum, power);
            }
        }
        for ((sum, block), out) in sums.iter_mut().zip(rest).zip(out_rest) {
            let power = exp.eval(simd, simd.load(block));
            simd.store(power, out);
            *sum = simd.add(*sum, power);
        }
        if !tail.is_empty() {
            let power = exp.eval(simd, simd.load_partial(tail, T::NEG_INFINITY));
            simd.store_partial(power, out_tail);
            sums[3] = simd.add(sums[3], power);
        }
        total += sum_of_four(simd, sums);
    }
    total
}

/// The sum of the lanes of four vectors.
#[inline(always)]
pub(crate) fn sum_of_four<T: Element, S: Simd<T>>(simd: S, [a, b, c, d]: [S::Vector; 4]) -> f64 {
    simd.sum(simd.add(simd.add(a, b), simd.add(c, d))).to_f64()
}

/// Multiplies a row by `factor` where it lies; no denormal is left.
#[inline(always)]
pub(crate) fn scale<T: Element, S: Simd<T>>(simd: S, row: &mut [T], factor: T) {
    let factor = simd.splat(factor);
    let (blocks, tail) = T::blocks_mut(row);
    for block in blocks {
        let scaled = simd.mul(simd.load(block), factor);
        simd.store(math::flush(simd, scaled), block);
    }
    if !tail.is_empty() {
        let scaled = simd.mul(simd.load_partial(tail, T::ZERO), factor);
        simd.store_partial(math::flush(simd, scaled), tail);
    }
}

/// As [`scale`], for numbers that are not negative and a positive factor (or NaN): with fewer steps, as what would
/// become a denormal is told before it is multiplied.
#[inline(always)]
pub(crate) fn scale_powers<T: Element, S: Simd<T>>(simd: S, row: &mut [T], factor: T) {
    // One unit up, so that no product is below the normal numbers.
    let lowest = (T::MIN_POSITIVE / factor) * (T::ONE + T::from_f64(1e-6));
    let (factor, lowest) = (simd.splat(factor), simd.splat(lowest));
    let (blocks, tail) = T::blocks_mut(row);
    for block in blocks {
        let power = simd.load(block);
        simd.store(simd.zero_where_less(power, lowest, simd.mul(power, factor)), block);
    }
    if !tail.is_empty() {
        let power = simd.load_partial(tail, T::ZERO);
        let scaled = simd.zero_where_less(power, lowest, simd.mul(power, factor));
        simd.store_partial(scaled, tail);
    }
}

/// The sum of w scale (max - x) over two rows; what has no weight adds nothing, however far below.
#[inline(always)]
pub(crate) fn weighted_distance<T: Element, S: Simd<T>>(
    simd: S,
    weights: &[T],
    row: &[T],
    max: T,
    scale: T,
) -> f64 {
    let (zero, max, scale) = (simd.splat(T::ZERO), simd.splat(max), simd.splat(scale));
    let mut total = 0.0;
    for (weights, row) in weights.chunks(SUM_BLOCK).zip(row.chunks(SUM_BLOCK)) {
        let ((w_blocks, w_tail), (x_blocks, x_tail)) = (T::blocks(weights), T::blocks(row));
        let mut sum = zero;
        for (w, x) in w_blocks.iter().zip(x_blocks) {
            let (w, x) = (simd.load(w), simd.load(x));
            sum = simd.add(sum, weighed(simd, w, simd.mul(simd.sub(max, x), scale)));
        }
        if !w_tail.is_empty() {
            let (w, x) = (simd.load_partial(w_tail, T::ZERO), simd.load_partial(x_tail, T::ZERO));
            sum = simd.add(sum, weighed(simd, w, simd.mul(simd.sub(max, x), scale)));
        }
        total += simd.sum(sum).to_f64();
    }
    total
}

/// `w * x`, 0 where w is 0 (or NaN) whatever x is.
#[inline(always)]
pub(crate) fn weighed<T: Element, S: Simd<T>>(simd: S, w: S::Vector, x: S::Vector) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    let magnitude = simd.max(w, simd.sub(zero, w));
    simd.select(simd.less(zero, magnitude), simd.mul(w, x), zero)
}

/// The sum of products of two rows.
#[inline(always)]
pub(crate) fn dot<T: Element, S: Simd<T>>(simd: S, a: &[T], b: &[T]) -> f64 {
    let mut total = 0.0;
    for (a, b) in a.chunks(SUM_BLOCK).zip(b.chunks(SUM_BLOCK)) {
        let ((a_blocks, a_tail), (b_blocks, b_tail)) = (T::blocks(a), T::blocks(b));
        let ((a_fours, a_rest), (b_fours, b_rest)) = (a_blocks.as_chunks::<4>(), b_blocks.as_chunks::<4>());
        let mut sums = [simd.splat(T::ZERO); 4];
        for (a, b) in a_fours.iter().zip(b_fours) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = simd.mul_add(simd.load(a), simd.load(b), *sum);
            }
        }
        for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
            *sum = simd.mul_add(simd.load(a), simd.load(b), *sum);
        }
        sums[3] =
            simd.mul_add(simd.load_partial(a_tail, T::ZERO), simd.load_partial(b_tail, T::ZERO), sums[3]);
        total += sum_of_four(simd, sums);
    }
    total
}

/// The sum of a row.
#[inline(always)]
pub(crate) fn sum<T: Element, S: Simd<T>>(simd: S, row: &[T]) -> f64 {
    let mut total = 0.0;
    for part in row.chunks(SUM_BLOCK) {
        let (blocks, tail) = T::blocks(part);
        let mut sum = simd.load_partial(tail, T::ZERO);
        for block in blocks {
            sum = simd.add(sum, simd.load(block));
        }
        total += simd.sum(sum).to_f64();
    }
    total
}

/// The sum of a list in `f64`, halved again and again: the rounding grows with the logarithm of its length.
pub(crate) fn pairwise_sum<T: Element>(list: &[T]) -> f64 {
    if list.len() <= 32 {
        return list.iter().map(|x| x.to_f64()).sum();
    }
    let (left, right) = list.split_at(list.len() / 2);
    pairwise_sum(left) + pairwise_sum(right)
}
