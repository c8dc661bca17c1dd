//! The values of a chunk, weighted and added to the outputs of the rows, which stay in registers.

use super::CHUNK;
use crate::view::Matrix;
use logitscope_simd::{Element, Simd, Stored};

/// Rows of values that are read again from the first-level cache for the next rows of queries.
const VALUES: usize = 8;

/// So many vectors of columns are read two at a time, in the order of [`Stored::load_two`].
const PAIRED: usize = 4;

/// Puts the columns of the sums of all rows in order, once all values are in them.
#[inline(always)]
pub(super) fn put_in_order<X: Stored>(
    columns: usize,
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    let paired = columns / X::Wide::LANES / PAIRED * PAIRED;
    for row in sums.chunks_exact_mut(width.max(1)) {
        for two in row[..paired].as_chunks_mut::<2>().0 {
            X::put_in_order(two);
        }
    }
}

/// Adds the rows of values, weighted, to the sums of all rows; `weights` has one row of weights a chunk apart.
#[inline(always)]
pub(super) fn add_values<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    values: Matrix<'_, X>,
    weights: &[X::Wide],
    group: usize,
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    // Rows that all queries take in at once need not be read again.
    let step = if group <= 2 { values.rows().max(1) } else { VALUES };
    for first in (0..values.rows()).step_by(step) {
        let part = values.part(first..values.rows().min(first + step));
        let mut row = 0;
        while row < group {
            let weights = &weights[row * CHUNK + first..];
            let sums = &mut sums[row * width..];
            if row + 2 <= group {
                add_rows::<X, S, 2>(simd, part, weights, width, sums);
                row += 2;
            } else {
                add_rows::<X, S, 1>(simd, part, weights, width, sums);
                row += 1;
            }
        }
    }
}

/// The same for `R` rows.
#[inline(always)]
fn add_rows<X: Stored, S: Simd<X::Wide>, const R: usize>(
    simd: S,
    values: Matrix<'_, X>,
    weights: &[X::Wide],
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    let whole = values.columns() / X::Wide::LANES;
    let mut column = 0;
    while column + 8 <= whole {
        add_columns::<X, S, R, 8>(simd, values, weights, column, width, sums);
        column += 8;
    }
    if column + 4 <= whole {
        add_columns::<X, S, R, 4>(simd, values, weights, column, width, sums);
        column += 4;
    }
    while column < whole {
        add_columns::<X, S, R, 1>(simd, values, weights, column, width, sums);
        column += 1;
    }
    if whole < width {
        for i in 0..R {
            let mut sum = simd.load(&sums[i * width + whole]);
            for row in 0..values.rows() {
                let tail = &values.row(row)[whole * X::Wide::LANES..];
                let rest = X::load_partial(simd, tail, X::Wide::ZERO);
                sum = simd.mul_add(simd.splat(weights[i * CHUNK + row]), rest, sum);
            }
            simd.store(sum, &mut sums[i * width + whole]);
        }
    }
}

/// The same for `C` vectors of columns, which stay in registers.
#[inline(always)]
fn add_columns<X: Stored, S: Simd<X::Wide>, const R: usize, const C: usize>(
    simd: S,
    values: Matrix<'_, X>,
    weights: &[X::Wide],
    column: usize,
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    let mut totals = [[simd.splat(X::Wide::ZERO); C]; R];
    let mut rows: [&[X::Wide]; R] = [&[]; R];
    for i in 0..R {
        rows[i] = &weights[i * CHUNK..i * CHUNK + values.rows()];
        for c in 0..C {
            totals[i][c] = simd.load(&sums[i * width + column + c]);
        }
    }
    let mut row = 0;
    while row < values.rows() {
        let packs = &X::packs(values.row(row)).0[column..column + C];
        let mut numbers = [simd.splat(X::Wide::ZERO); C];
        if C >= PAIRED {
            for (numbers, packs) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(packs.as_chunks::<2>().0) {
                *numbers = X::load_two(simd, packs);
            }
        } else {
            for c in 0..C {
                numbers[c] = X::load(simd, &packs[c]);
            }
        }
        for i in 0..R {
            let weight = simd.splat(rows[i][row]);
            for c in 0..C {
                totals[i][c] = simd.mul_add(weight, numbers[c], totals[i][c]);
            }
        }
        row += 1;
    }
    for i in 0..R {
        for c in 0..C {
            simd.store(totals[i][c], &mut sums[i * width + column + c]);
        }
    }
}
