//! A tile of queries laid out for the vectors, and what is done to it where keys are hidden.

use super::sight::Sight;
use crate::view::{Matrix, RowsMut};
use logitscope_simd::{Element, Simd, Stored};
use std::ops::Range;

/// Vectors of queries in a tile: 64 queries in f32, 32 in f64.
pub(super) const QUERY_BLOCKS: usize = 4;

/// Keys in a tile. With 64 queries its scores are 32 KiB and stay in the first-level cache.
pub(super) const KEYS: usize = 128;

/// The most lanes that a vector has.
pub(super) const MOST_LANES: usize = 16;

/// Queries of a tile in the narrowest type, at most.
pub(super) const MOST_QUERIES: usize = QUERY_BLOCKS * MOST_LANES;

/// Queries of a tile, at most.
pub(super) const fn tile_queries<T: Element>() -> usize {
    QUERY_BLOCKS * T::LANES
}

/// How many vectors hold `n` numbers.
pub(super) const fn blocks_for<T: Element>(n: usize) -> usize {
    n.div_ceil(T::LANES)
}

/// A fresh run of zero vectors in `buffer`, which keeps its memory.
pub(super) fn zeroed<T: Element>(buffer: &mut Vec<T::Block>, blocks: usize) -> &mut [T::Block] {
    buffer.clear();
    buffer.resize(blocks, T::block(T::ZERO));
    buffer
}

/// A run of vectors in `buffer`, which keeps its memory and what it holds: all of it is to be written.
pub(super) fn room<T: Element>(buffer: &mut Vec<T::Block>, blocks: usize) -> &mut [T::Block] {
    buffer.resize(blocks, T::block(T::ZERO));
    buffer
}

/// What the rows of a tile are multiplied by; None leaves a row out.
pub(super) type Factors<T> = [Option<T>; MOST_QUERIES];

/// All rows left out.
pub(super) fn no_factors<T: Element>() -> Factors<T> {
    [None; MOST_QUERIES]
}

/// Multiplies the lanes of each row of a panel by the factors of their rows, 0 for those that are left out.
#[inline(always)]
pub(super) fn multiply_lanes<T: Element, S: Simd<T>>(
    simd: S,
    factors: &Factors<T>,
    width: usize,
    panel: &mut [T::Block],
) {
    for block in 0..width {
        let mut lanes = T::block(T::ZERO);
        for (lane, factor) in lanes.as_mut().iter_mut().zip(&factors[block * T::LANES..]) {
            *lane = factor.unwrap_or(T::ZERO);
        }
        let factor = simd.load(&lanes);
        for cells in panel.chunks_exact_mut(width) {
            simd.store(simd.mul(simd.load(&cells[block]), factor), &mut cells[block]);
        }
    }
}

/// Writes the rows of `matrix` transposed: `out[column]` holds the rows in its lanes, `width` vectors. Rows without a
/// factor, and lanes beyond the rows, become 0. What the rows hold may be any bits.
#[inline(always)]
pub(super) fn transpose_bits<T: Element, S: Simd<T>>(
    simd: S,
    matrix: Matrix<'_, T>,
    factors: &Factors<T>,
    width: usize,
    out: &mut [T::Block],
) {
    let nothing = T::block(T::ZERO);
    let mut square = [nothing; MOST_LANES];
    fetch_rows(simd, matrix, 0..T::LANES);
    for block in 0..width {
        // Sixteen rows at once are no order in which the caches fetch ahead by themselves.
        fetch_rows(simd, matrix, (block + 1) * T::LANES..(block + 2) * T::LANES);
        let mut wholes: [&[T::Block]; MOST_LANES] = [&[]; MOST_LANES];
        let mut tails = [nothing; MOST_LANES];
        let first = block * T::LANES;
        for lane in 0..T::LANES.min(matrix.rows() - first) {
            if factors[first + lane].is_some() {
                let tail;
                (wholes[lane], tail) = T::blocks(matrix.row(first + lane));
                if !tail.is_empty() {
                    tails[lane] = simd.to_block(simd.load_partial(tail, T::ZERO));
                }
            }
        }
        for (index, columns) in out.chunks_mut(T::LANES * width).enumerate() {
            let mut rows = [&nothing; MOST_LANES];
            for lane in 0..T::LANES {
                rows[lane] = if index < wholes[lane].len() { &wholes[lane][index] } else { &tails[lane] };
            }
            simd.transpose(&rows[..T::LANES], &mut square[..T::LANES]);
            for (column, cells) in square.iter().zip(columns.chunks_exact_mut(width)) {
                cells[block] = *column;
            }
        }
    }
}

/// Asks the caches for some of the rows of a matrix, as far as it has them.
#[inline(always)]
fn fetch_rows<T: Element, S: Simd<T>>(simd: S, matrix: Matrix<'_, T>, rows: Range<usize>) {
    for row in rows.start..rows.end.min(matrix.rows()) {
        for line in matrix.row(row).chunks(T::LANES) {
            simd.prefetch(line);
        }
    }
}

/// The way back: writes what the lanes of `panel` hold as rows of whole vectors, each multiplied by its factor.
#[inline(always)]
pub(super) fn untranspose<T: Element, S: Simd<T>>(
    simd: S,
    panel: &[T::Block],
    width: usize,
    factors: &[T],
    rows: &mut [T::Block],
) {
    let nothing = T::block(T::ZERO);
    let mut square = [nothing; MOST_LANES];
    let row_width = rows.len() / factors.len();
    for (block, factors) in factors.chunks(T::LANES).enumerate() {
        let rows = &mut rows[block * T::LANES * row_width..];
        for (index, columns) in panel.chunks(T::LANES * width).enumerate() {
            let mut lines = [&nothing; MOST_LANES];
            for (line, cells) in lines.iter_mut().zip(columns.chunks_exact(width)) {
                *line = &cells[block];
            }
            simd.transpose(&lines[..T::LANES], &mut square[..T::LANES]);
            for (lane, &factor) in factors.iter().enumerate() {
                let line = simd.mul(simd.load(&square[lane]), simd.splat(factor));
                simd.store(line, &mut rows[lane * row_width + index]);
            }
        }
    }
}

/// Copies the rows of `matrix`, each multiplied by its factor, into whole vectors. Rows that are left out, and what the
/// last vector of a row has beyond the row, become 0.
#[inline(always)]
pub(super) fn pad<T: Element, S: Simd<T>>(
    simd: S,
    matrix: Matrix<'_, T>,
    factors: &Factors<T>,
    out: &mut [T::Block],
) {
    let width = blocks_for::<T>(matrix.columns());
    for (row, padded) in out.chunks_exact_mut(width.max(1)).enumerate() {
        let Some(factor) = factors[row] else {
            padded.fill(T::block(T::ZERO));
            continue;
        };
        let factor = simd.splat(factor);
        let (blocks, tail) = T::blocks(matrix.row(row));
        for (block, cell) in blocks.iter().zip(padded.iter_mut()) {
            simd.store(simd.mul(simd.load(block), factor), cell);
        }
        if !tail.is_empty() {
            simd.store(simd.mul(simd.load_partial(tail, T::ZERO), factor), &mut padded[width - 1]);
        }
    }
}

/// Where the rows of a piece are computed: where they belong, if that is whole vectors, else in `padded`; then
/// [`store_rows`] brings them there. What is in it before is without meaning.
pub(super) fn rows_or<'a, X: Stored>(
    rows: &'a mut RowsMut<'_, X>,
    blocks: usize,
    padded: &'a mut Vec<<X::Wide as Element>::Block>,
) -> &'a mut [<X::Wide as Element>::Block] {
    match rows.as_blocks() {
        Some(own) => own,
        None => room::<X::Wide>(padded, blocks),
    }
}

/// Stores padded rows where they belong, unless they were computed there.
pub(super) fn store_rows<X: Stored>(padded: &[<X::Wide as Element>::Block], mut rows: RowsMut<'_, X>) {
    if rows.as_blocks().is_none() {
        let stride = (padded.len() * X::Wide::LANES).checked_div(rows.len()).unwrap_or(0);
        rows.store(X::Wide::flatten(padded), stride);
    }
}

/// Writes `value` where a query does not see a key; `panel` has one row of `width` vectors a key.
#[inline(always)]
pub(super) fn clear_hidden<T: Element, S: Simd<T>>(
    simd: S,
    sight: &Sight<'_, T>,
    keys: Range<usize>,
    width: usize,
    value: T,
    panel: &mut [T::Block],
) {
    let value = simd.splat(value);
    if sight.is_band() {
        let seen = sight.seen_by_all(&keys);
        for part in [keys.start..seen.start, seen.end..keys.end] {
            let rows = &mut panel[(part.start - keys.start) * width..(part.end - keys.start) * width];
            for (key, row) in part.zip(rows.chunks_exact_mut(width)) {
                let lanes = sight.lanes_of(key);
                for (block, cell) in row.iter_mut().enumerate() {
                    // Lanes beyond the queries do not matter.
                    let (start, end) = (block * T::LANES, sight.count().min((block + 1) * T::LANES));
                    if lanes.end <= start || lanes.start >= end {
                        simd.store(value, cell);
                    } else if lanes.start > start || lanes.end < end {
                        let visible = sight.visible(simd, key, block);
                        simd.store(simd.select(visible, simd.load(cell), value), cell);
                    }
                }
            }
        }
        return;
    }
    for (key, row) in keys.zip(panel.chunks_exact_mut(width)) {
        for (block, cell) in row.iter_mut().enumerate() {
            if !sight.sees_block(key, block) {
                let visible = sight.visible(simd, key, block);
                simd.store(simd.select(visible, simd.load(cell), value), cell);
            }
        }
    }
}

/// The sum of products of two rows.
#[inline(always)]
pub(super) fn dot<T: Element, S: Simd<T>>(simd: S, a: &[T], b: &[T]) -> T {
    let ((a, a_tail), (b, b_tail)) = (T::blocks(a), T::blocks(b));
    let mut sum = simd.mul(simd.load_partial(a_tail, T::ZERO), simd.load_partial(b_tail, T::ZERO));
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add(simd.load(a), simd.load(b), sum);
    }
    simd.sum(sum)
}

/// The sum of all numbers of a panel.
#[inline(always)]
pub(super) fn total<T: Element, S: Simd<T>>(simd: S, panel: &[T::Block]) -> f64 {
    let mut sum = simd.splat(T::ZERO);
    for block in panel {
        sum = simd.add(sum, simd.load(block));
    }
    simd.sum(sum).to_f64()
}

/// Hands out the front of a slice, piece by piece.
pub(super) struct Cursor<'a, T>(pub &'a mut [T]);

impl<'a, T> Cursor<'a, T> {
    pub(super) fn take(&mut self, n: usize) -> &'a mut [T] {
        let (front, rest) = std::mem::take(&mut self.0).split_at_mut(n);
        self.0 = rest;
        front
    }
}
