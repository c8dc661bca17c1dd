//! NaN and infinities in what a tile does not see whole: a weight of 0 would carry them into every sum.
//!
//! Products are taken of rows with zeros in their place, and they are added where they are seen. So what is hidden
//! changes no bit, however products are computed, and nothing else is done where all is finite.

use super::operand::{NarrowHeads, Operand, pair_columns, pair_rows};
use super::products::{PairScratch, Part, add_weighted};
use super::sight::{Sees, Sight};
use crate::matmul::Panel;
use crate::view::Matrix;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Heads with zeros in the place of what is not finite.
#[derive(Debug)]
pub(super) struct FiniteHeads<'a, T>(pub(super) Operand<'a, T>);

impl<T: Element> FiniteHeads<'_, T> {
    /// Some rows, one after the other.
    fn rows(&self, batch: usize, head: usize, rows: Range<usize>) -> Vec<T> {
        let mut wide = vec![T::ZERO; rows.len() * self.0.shape()[3]];
        self.widen(batch, head, rows, &mut wide);
        wide
    }
}

impl<T: Element> NarrowHeads<T> for FiniteHeads<'_, T> {
    fn shape(&self) -> [usize; 4] {
        self.0.shape()
    }

    fn widen(&self, batch: usize, head: usize, rows: Range<usize>, wide: &mut [T]) {
        let mut buffer = Vec::new();
        let matrix = self.0.rows(batch, head, rows, &mut buffer);
        for (row, wide) in wide.chunks_exact_mut(matrix.columns().max(1)).enumerate() {
            for (&x, wide) in matrix.row(row).iter().zip(wide) {
                *wide = if x.is_finite() { x } else { T::ZERO };
            }
        }
    }

    fn has_pairs(&self) -> bool {
        self.0.has_pairs()
    }

    fn pair_columns(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [T]) {
        pair_columns(&self.rows(batch, head, rows), self.shape()[3], pairs);
    }

    fn pair_rows(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [T]) {
        pair_rows(&self.rows(batch, head, rows), self.shape()[3], pairs);
    }
}

/// Adds rows of keys or values, weighted, to the sums of the queries that see them, which lie in the lanes.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "the factors of a product and the buffers that they are brought into"
)]
pub(super) fn add_seen<T: Element, S: Simd<T>>(
    simd: S,
    operand: &Operand<'_, T>,
    part: Part<'_>,
    sight: &Sight<'_, T>,
    sees: Sees,
    weights: &Panel<'_, T>,
    spans: &[Range<usize>],
    rows: &mut Vec<T>,
    pairs: &mut PairScratch<T>,
    sums: &mut [T::Block],
) {
    let (batch, head, range) = part;
    let is_spoilt =
        sees == Sees::Part && has_non_finite(simd, operand.rows(batch, head, range.clone(), rows));
    let finite = FiniteHeads(*operand);
    let factor = if is_spoilt { Operand::Narrow(&finite) } else { *operand };
    add_weighted(simd, &factor, part, weights, spans, rows, pairs, sums);
    if is_spoilt {
        let rows = operand.rows(batch, head, range.clone(), rows);
        add_non_finite(simd, sight, rows, range, weights, sums);
    }
}

/// `sums[m] += weights[j] matrix[j][m]` for the numbers that are not finite, where the keys j are seen.
#[inline(always)]
fn add_non_finite<T: Element, S: Simd<T>>(
    simd: S,
    sight: &Sight<'_, T>,
    matrix: Matrix<'_, T>,
    keys: &Range<usize>,
    weights: &Panel<'_, T>,
    sums: &mut [T::Block],
) {
    let width = weights.width;
    for ((row, key), weights) in keys.clone().enumerate().zip(weights.blocks.chunks_exact(width)) {
        for (block, weight) in weights.iter().enumerate() {
            let (visible, weight) = (sight.visible(simd, key, block), simd.load(weight));
            for (&x, sums) in matrix.row(row).iter().zip(sums.chunks_exact_mut(width)) {
                if !x.is_finite() {
                    let before = simd.load(&sums[block]);
                    let after = simd.mul_add(simd.splat(x), weight, before);
                    simd.store(simd.select(visible, after, before), &mut sums[block]);
                }
            }
        }
    }
}

/// Whether a matrix holds a NaN or an infinity.
#[inline(always)]
pub(super) fn has_non_finite<T: Element, S: Simd<T>>(simd: S, matrix: Matrix<'_, T>) -> bool {
    let zero = simd.splat(T::ZERO);
    let mut sum = zero;
    for row in 0..matrix.rows() {
        let (blocks, tail) = T::blocks(matrix.row(row));
        for block in blocks {
            sum = simd.mul_add(simd.load(block), zero, sum);
        }
        sum = simd.mul_add(simd.load_partial(tail, T::ZERO), zero, sum);
    }
    simd.sum(sum).is_nan()
}
