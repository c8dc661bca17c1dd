//! The matrix products of a tile of queries with rows of keys and values: of numbers as they are computed with, or,
//! where the instruction set has it ([`Simd::HAS_PAIRS`]), of 16-bit numbers in pairs along the depth.
//!
//! Rows of pairs are also what tiles ([`Simd::HAS_TILES`]) want of the left factor, and a panel of pairs what they want of
//! the right one. Values alone have to be turned for them: their depth is that of the keys.

use super::operand::Operand;
use super::tile::{
    Factors, KEYS, MOST_LANES, MOST_QUERIES, QUERY_BLOCKS, blocks_for, multiply_lanes, room, transpose_bits,
    zeroed,
};
use crate::matmul::{
    Panel, ROWS, add_columns_product, add_rows_product, add_rows_product_by_columns, rows_product,
};
use crate::view::Matrix;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Rows of one head of an operand: batch element, head, rows.
pub(super) type Part<'a> = (usize, usize, &'a Range<usize>);

/// Rows of an operand, one a lane; multiplied by their factors unless they stay as they are stored, and then what is
/// multiplied with them is.
#[inline(always)]
pub(super) fn transposed<'b, T: Element, S: Simd<T>>(
    simd: S,
    operand: &Operand<'_, T>,
    (batch, head, range): Part<'_>,
    factors: &Factors<T>,
    width: usize,
    rows: &mut Vec<T>,
    lanes: &'b mut Vec<T::Block>,
) -> Panel<'b, T> {
    let rows = if S::HAS_PAIRS {
        operand.pair_columns(batch, head, range.clone(), rows)
    } else {
        operand.rows(batch, head, range.clone(), rows)
    };
    let lanes = room::<T>(lanes, rows.columns() * width);
    transpose_bits(simd, rows, factors, width, lanes);
    if !S::HAS_PAIRS {
        multiply_lanes(simd, factors, width, lanes);
    }
    Panel { blocks: lanes, width }
}

/// Buffers for products of pairs, which a thread uses again.
pub(super) struct PairScratch<T: Element> {
    /// Weights, rounded.
    weights: Vec<T::Block>,
    /// Values, for tiles.
    turned: Vec<T::Block>,
}

impl<T: Element> Default for PairScratch<T> {
    fn default() -> Self {
        Self { weights: Vec::new(), turned: Vec::new() }
    }
}

/// The products of rows of keys or values with what [`transposed`] gave, one row a key; `spans` says of which keys.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the factors of a product and where they go")]
pub(super) fn multiply<T: Element, S: Simd<T>>(
    simd: S,
    operand: &Operand<'_, T>,
    (batch, head, range): Part<'_>,
    lanes: &Panel<'_, T>,
    factors: &Factors<T>,
    spans: &[Range<usize>],
    rows: &mut Vec<T>,
    products: &mut [T::Block],
) {
    if S::HAS_PAIRS {
        let rows = operand.pair_columns(batch, head, range.clone(), rows);
        rows_product::<T, S, true>(simd, rows, lanes, spans, products);
        multiply_lanes(simd, factors, lanes.width, products);
    } else {
        let rows = operand.rows(batch, head, range.clone(), rows);
        rows_product::<T, S, false>(simd, rows, lanes, spans, products);
    }
}

/// Adds rows of keys or values, weighted, to the sums of the queries, which lie in the lanes.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the factors of a product and where they go")]
pub(super) fn add_weighted<T: Element, S: Simd<T>>(
    simd: S,
    operand: &Operand<'_, T>,
    (batch, head, range): Part<'_>,
    weights: &Panel<'_, T>,
    spans: &[Range<usize>],
    rows: &mut Vec<T>,
    PairScratch { weights: pairs, turned }: &mut PairScratch<T>,
    sums: &mut [T::Block],
) {
    if S::HAS_PAIRS {
        let rows = operand.pair_rows(batch, head, range.clone(), rows);
        let weights = pair_weights(simd, weights, pairs);
        let mut spans_of_pairs = [const { 0..0 }; QUERY_BLOCKS];
        for (pairs, span) in spans_of_pairs.iter_mut().zip(spans) {
            *pairs = span.start / 2..span.end.div_ceil(2);
        }
        let spans = &spans_of_pairs[..spans.len()];
        if S::HAS_TILES {
            let rows = turn(simd, rows, turned);
            add_rows_product_by_columns::<T, S, true>(simd, rows, &weights, spans, sums);
        } else {
            add_columns_product::<T, S, true>(simd, rows, &weights, spans, sums);
        }
    } else {
        let rows = operand.rows(batch, head, range.clone(), rows);
        add_columns_product::<T, S, false>(simd, rows, weights, spans, sums);
    }
}

/// The columns of a matrix, at most as long as a tile has keys, as rows.
#[inline(always)]
fn turn<'b, T: Element, S: Simd<T>>(
    simd: S,
    matrix: Matrix<'_, T>,
    turned: &'b mut Vec<T::Block>,
) -> Matrix<'b, T> {
    let width = blocks_for::<T>(matrix.rows());
    let turned = room::<T>(turned, matrix.columns() * width);
    transpose_bits(simd, matrix, &[Some(T::ONE); MOST_QUERIES], width, turned);
    Matrix::new(T::flatten(turned), matrix.columns(), matrix.rows(), width * T::LANES)
}

/// The weights of two keys at a time as pairs; a last one alone has weights of 0 beside it.
#[inline(always)]
fn pair_weights<'b, T: Element, S: Simd<T>>(
    simd: S,
    weights: &Panel<'_, T>,
    pairs: &'b mut Vec<T::Block>,
) -> Panel<'b, T> {
    let Panel { blocks, width } = *weights;
    let pairs = room::<T>(pairs, blocks.len().div_ceil(2 * width) * width);
    let zero = simd.splat(T::ZERO);
    for (weights, pairs) in blocks.chunks(2 * width).zip(pairs.chunks_exact_mut(width)) {
        let (low, high) = weights.split_at(width);
        for (block, pair) in pairs.iter_mut().enumerate() {
            let high = if high.is_empty() { zero } else { simd.load(&high[block]) };
            simd.store(simd.pair(simd.load(&low[block]), high), pair);
        }
    }
    Panel { blocks: pairs, width }
}

/// Rows of queries or of gradients of outputs, two at a time in pairs and as they are stored, padded to whole vectors: the
/// right factor of [`add_lanes`].
#[inline(always)]
pub(super) fn paired_rows<'b, T: Element>(
    operand: &Operand<'_, T>,
    (batch, head, range): Part<'_>,
    rows: &mut Vec<T>,
    blocks: &'b mut Vec<T::Block>,
) -> Panel<'b, T> {
    let rows = operand.pair_rows(batch, head, range.clone(), rows);
    let width = blocks_for::<T>(rows.columns());
    let blocks = zeroed::<T>(blocks, rows.rows() * width);
    for (index, padded) in T::flatten_mut(blocks).chunks_exact_mut((width * T::LANES).max(1)).enumerate() {
        padded[..rows.columns()].copy_from_slice(rows.row(index));
    }
    Panel { blocks, width }
}

/// `sums[key] += sum_i weights[key][i] rows[i]` over the queries i of a tile, multiplied by their factors; `lanes` says of
/// each [`ROWS`] keys which queries count.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the factors of a product and where they go")]
pub(super) fn add_lanes<T: Element, S: Simd<T>>(
    simd: S,
    weights: &Panel<'_, T>,
    factors: &Factors<T>,
    queries: usize,
    rows: &Panel<'_, T>,
    lanes: &[Range<usize>],
    PairScratch { weights: pairs, .. }: &mut PairScratch<T>,
    sums: &mut [T::Block],
) {
    let keys = weights.blocks.len() / weights.width;
    if S::HAS_PAIRS {
        let width = weights.width.div_ceil(2);
        let pairs = room::<T>(pairs, keys * width);
        pair_lanes(simd, weights, factors, pairs);
        let pairs = Matrix::new(T::flatten(pairs), keys, queries.div_ceil(2), width * T::LANES);
        let mut halved = [const { 0..0 }; KEYS / ROWS];
        for (halved, lanes) in halved.iter_mut().zip(lanes) {
            *halved = lanes.start / 2..lanes.end.div_ceil(2);
        }
        add_rows_product::<T, S, true>(simd, pairs, rows, &halved, sums);
    } else {
        let weights = Matrix::new(T::flatten(weights.blocks), keys, queries, weights.width * T::LANES);
        add_rows_product::<T, S, false>(simd, weights, rows, lanes, sums);
    }
}

/// The weights of neighbouring queries as pairs, multiplied by the factors of their rows.
#[inline(always)]
fn pair_lanes<T: Element, S: Simd<T>>(
    simd: S,
    weights: &Panel<'_, T>,
    factors: &Factors<T>,
    pairs: &mut [T::Block],
) {
    let width = weights.width;
    let zero = simd.splat(T::ZERO);
    for block in (0..width).step_by(2) {
        let mut of_lanes = [[T::ZERO; MOST_LANES]; 2];
        for (half, numbers) in of_lanes.iter_mut().enumerate() {
            for (number, factor) in numbers[..T::LANES].iter_mut().zip(&factors[(block + half) * T::LANES..])
            {
                *number = factor.unwrap_or(T::ZERO);
            }
        }
        let [low_factor, high_factor] = of_lanes;
        let (low_factor, high_factor) = (
            simd.load_partial(&low_factor[..T::LANES], T::ZERO),
            simd.load_partial(&high_factor[..T::LANES], T::ZERO),
        );
        for (weights, pairs) in
            weights.blocks.chunks_exact(width).zip(pairs.chunks_exact_mut(width.div_ceil(2)))
        {
            let low = simd.mul(simd.load(&weights[block]), low_factor);
            let high =
                if block + 1 < width { simd.mul(simd.load(&weights[block + 1]), high_factor) } else { zero };
            simd.store(simd.pair_neighbours(low, high), &mut pairs[block / 2]);
        }
    }
}
