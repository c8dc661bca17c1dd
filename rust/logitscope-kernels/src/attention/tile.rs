//! A tile of queries laid out for the vectors, and what is done to it where keys are hidden.

use super::sight::Sight;
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

/// Writes rows `rows` of `matrix` transposed: `out[column]` holds the rows in its lanes, `width` vectors,
/// each row multiplied by its `factor`; rows without one and lanes beyond the rows keep what they hold.
pub(super) fn transpose<T: Element>(
    matrix: Matrix<'_, T>,
    rows: &Range<usize>,
    width: usize,
    factor: impl Fn(usize) -> Option<T>,
    out: &mut [T::Block],
) {
    let columns = T::flatten_mut(out);
    for (lane, row) in rows.clone().enumerate() {
        let Some(factor) = factor(row) else { continue };
        for (&x, column) in matrix.row(row).iter().zip(columns.chunks_exact_mut(width * T::LANES)) {
            column[lane] = x * factor;
        }
    }
}

/// Copies rows `rows` of `matrix`, each multiplied by its `factor`, into whole vectors; rows without one, and what the
/// last vector of a row has beyond the row, keep what they hold.
pub(super) fn pad<T: Element>(
    matrix: Matrix<'_, T>,
    rows: &Range<usize>,
    factor: impl Fn(usize) -> Option<T>,
    out: &mut [T::Block],
) {
    let padded_len = blocks_for::<T>(matrix.columns()) * T::LANES;
    if padded_len == 0 {
        return;
    }
    for (row, padded) in rows.clone().zip(T::flatten_mut(out).chunks_exact_mut(padded_len)) {
        let Some(factor) = factor(row) else { continue };
        for (&x, cell) in matrix.row(row).iter().zip(padded) {
            *cell = x * factor;
        }
    }
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
    sight: &Sight<'_, T>,
    keys: Range<usize>,
    width: usize,
    value: T,
    panel: &mut [T::Block],
) {
    let value = simd.splat(value);
    for (key, row) in keys.zip(panel.chunks_exact_mut(width)) {
        for (block, cell) in row.iter_mut().enumerate() {
            if !sight.sees_block(key, block) {
                let visible = sight.visible(simd, key, block);
                simd.store(simd.select(visible, simd.load(cell), value), cell);
            }
        }
    }
}

/// `out[m] += sum_j matrix[j][m] weights[j]`, touching only the queries that see key `j`: what hidden keys
/// hold (NaN, infinities) must not reach a query through a weight of 0. Slow; for tiles that hold such.
/// Has the bits that the plain product has where those keys hold finite numbers.
#[inline(always)]
pub(super) fn add_visible_product<T: Element, S: Simd<T>>(
    simd: S,
    sight: &Sight<'_, T>,
    matrix: Matrix<'_, T>,
    keys: Range<usize>,
    weights: &Panel<'_, T>,
    out: &mut [T::Block],
) {
    let width = weights.width;
    let mut sums = vec![T::block(T::ZERO); out.len()];
    for (key, weights) in keys.zip(weights.blocks.chunks_exact(width)) {
        for (block, weight) in weights.iter().enumerate() {
            let visible = sight.visible(simd, key, block);
            for (&x, sums) in matrix.row(key).iter().zip(sums.chunks_exact_mut(width)) {
                let before = simd.load(&sums[block]);
                let after = simd.mul_add(simd.splat(x), simd.load(weight), before);
                simd.store(simd.select(visible, after, before), &mut sums[block]);
            }
        }
    }
    add_all(simd, &sums, out);
}

/// `out += sum_i weights[i] rows[i]` over the queries of a tile that see the key: the same from its side.
#[inline(always)]
pub(super) fn add_visible_rows<T: Element, S: Simd<T>>(
    simd: S,
    sight: &Sight<'_, T>,
    key: usize,
    weights: &[T::Block],
    rows: &Panel<'_, T>,
    out: &mut [T::Block],
) {
    let mut sums = vec![T::block(T::ZERO); out.len()];
    for lane in sight.lanes_of(key) {
        if sight.allows(key, lane) {
            let weight = simd.splat(T::flatten(weights)[lane]);
            let row = &rows.blocks[lane * rows.width..(lane + 1) * rows.width];
            for (sum, block) in sums.iter_mut().zip(row) {
                simd.store(simd.mul_add(weight, simd.load(block), simd.load(sum)), sum);
            }
        }
    }
    add_all(simd, &sums, out);
}

/// `out += sums`.
#[inline(always)]
fn add_all<T: Element, S: Simd<T>>(simd: S, sums: &[T::Block], out: &mut [T::Block]) {
    for (cell, sum) in out.iter_mut().zip(sums) {
        simd.store(simd.add(simd.load(cell), simd.load(sum)), cell);
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
