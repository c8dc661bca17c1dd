//! A tile of queries laid out for the vectors, and the limits of the tiles.

use super::problem::Problem;
use crate::matmul::Panel;
use crate::view::Matrix;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Vectors of queries in a tile: 64 queries in f32, 32 in f64.
pub(super) const QUERY_BLOCKS: usize = 4;

/// Keys in a tile. With 64 queries its scores are 32 KiB and stay in the first-level cache.
pub(super) const KEYS: usize = 128;

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

/// The key tiles that the queries `queries` see, in ascending order.
pub(super) fn key_tiles<T: Element>(
    problem: &Problem<'_, T>,
    queries: &Range<usize>,
) -> impl Iterator<Item = Range<usize>> + use<T> {
    let end = problem.visible(queries.end - 1);
    (0..end).step_by(KEYS).map(move |start| start..end.min(start + KEYS))
}

/// Writes rows `rows` of `matrix` transposed: `out[column]` holds the rows in its lanes, `width` vectors,
/// each row multiplied by its `factor`; lanes beyond the rows keep what they hold.
pub(super) fn transpose<T: Element>(
    matrix: Matrix<'_, T>,
    rows: &Range<usize>,
    width: usize,
    factor: impl Fn(usize) -> T,
    out: &mut [T::Block],
) {
    let columns = T::flatten_mut(out);
    for (lane, row) in rows.clone().enumerate() {
        let factor = factor(row);
        for (&x, column) in matrix.row(row).iter().zip(columns.chunks_exact_mut(width * T::LANES)) {
            column[lane] = x * factor;
        }
    }
}

/// Copies rows `rows` of `matrix`, each multiplied by its `factor`, into whole vectors; what the last vector
/// of a row has beyond the row keeps what it holds.
pub(super) fn pad<T: Element>(
    matrix: Matrix<'_, T>,
    rows: &Range<usize>,
    factor: impl Fn(usize) -> T,
    out: &mut [T::Block],
) {
    let padded_len = blocks_for::<T>(matrix.columns()) * T::LANES;
    if padded_len == 0 {
        return;
    }
    for (row, padded) in rows.clone().zip(T::flatten_mut(out).chunks_exact_mut(padded_len)) {
        let factor = factor(row);
        for (&x, cell) in matrix.row(row).iter().zip(padded) {
            *cell = x * factor;
        }
    }
}

/// The lanes of a vector of queries beyond the first `hidden` queries of the tile.
#[inline(always)]
fn visible_lanes<T: Element, S: Simd<T>>(simd: S, block: usize, hidden: usize) -> S::Mask {
    // Lane numbers inside a tile are small, so they are exact in any element type.
    let mut lanes = T::block(T::ZERO);
    for (lane, cell) in lanes.as_mut().iter_mut().enumerate() {
        *cell = T::from_f64((block * T::LANES + lane) as f64 + 0.5);
    }
    simd.less(simd.splat(T::from_f64(hidden as f64)), simd.load(&lanes))
}

/// How many of the first queries of a tile do not see the key `key`.
#[inline(always)]
pub(super) fn hidden_queries<T: Element>(
    problem: &Problem<'_, T>,
    queries: &Range<usize>,
    key: usize,
) -> usize {
    problem.first_query(key).saturating_sub(queries.start)
}

/// Whether rows `rows` of `matrix` hold a NaN or an infinity.
#[inline(always)]
pub(super) fn has_non_finite<T: Element, S: Simd<T>>(
    simd: S,
    matrix: Matrix<'_, T>,
    rows: Range<usize>,
) -> bool {
    let zero = simd.splat(T::ZERO);
    let mut sum = zero;
    for row in rows {
        let (blocks, tail) = T::blocks(matrix.row(row));
        for block in blocks {
            sum = simd.mul_add(simd.load(block), zero, sum);
        }
        sum = simd.mul_add(simd.load_partial(tail, T::ZERO), zero, sum);
    }
    simd.sum(sum).is_nan()
}

/// Writes `value` where a query does not see a key; `panel` has one row of `width` vectors a key.
#[inline(always)]
pub(super) fn clear_hidden<T: Element, S: Simd<T>>(
    simd: S,
    problem: &Problem<'_, T>,
    queries: &Range<usize>,
    keys: Range<usize>,
    width: usize,
    value: T,
    panel: &mut [T::Block],
) {
    let value = simd.splat(value);
    for (key, row) in keys.zip(panel.chunks_exact_mut(width)) {
        let hidden = hidden_queries(problem, queries, key);
        for (block, cell) in row.iter_mut().enumerate().take(hidden.div_ceil(T::LANES)) {
            let visible = visible_lanes(simd, block, hidden);
            simd.store(simd.select(visible, simd.load(cell), value), cell);
        }
    }
}

/// `out[m] += sum_j matrix[j][m] weights[j]`, touching only the queries that see key `j`: what hidden keys
/// hold (NaN, infinities) must not reach a query through a weight of 0. Slow; for tiles that hold such.
#[inline(always)]
pub(super) fn add_visible_product<T: Element, S: Simd<T>>(
    simd: S,
    problem: &Problem<'_, T>,
    queries: &Range<usize>,
    matrix: Matrix<'_, T>,
    keys: Range<usize>,
    weights: &Panel<'_, T>,
    out: &mut [T::Block],
) {
    let width = weights.width;
    for (key, weights) in keys.zip(weights.blocks.chunks_exact(width)) {
        let hidden = hidden_queries(problem, queries, key);
        for (&x, out) in matrix.row(key).iter().zip(out.chunks_exact_mut(width)) {
            for block in 0..width {
                let before = simd.load(&out[block]);
                let after = simd.mul_add(simd.splat(x), simd.load(&weights[block]), before);
                let visible = visible_lanes(simd, block, hidden);
                simd.store(simd.select(visible, after, before), &mut out[block]);
            }
        }
    }
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
