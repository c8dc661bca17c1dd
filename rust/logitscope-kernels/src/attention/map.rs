//! The binned attention map: the weights of a head averaged into a few rows and summed into a few columns.
//!
//! Bins of columns are extra value columns of the attention product (the one-hot matrix of the bins), so
//! they are rescaled with the output and are exact: a row of the map sums to 1 when its queries see a key
//! (to the mean sum of their weights with sigmoid weighting).
//!
//! The largest weight of a bin is that of its largest score, which needs neither `m` nor `l`: no second pass.

use super::problem::Problem;
use super::sigmoid;
use super::tile::tile_queries;
use logitscope_simd::{Element, Simd, math};
use std::ops::Range;

/// Size of a map. Bin `i` of `n` queries or keys begins at [`bin_edge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapBins {
    /// Bins over the queries, at least 1.
    pub rows: usize,
    /// Bins over the keys, at least 1.
    pub columns: usize,
    /// What a bin makes of its weights.
    pub pooling: Pooling,
}

/// What a bin makes of the weights in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Those of a row are summed, those of rows averaged.
    Mean,
    /// The largest one.
    Max,
}

/// The first of `n` positions that belongs to bin `index` of `bins`.
pub fn bin_edge(index: usize, n: usize, bins: usize) -> usize {
    index * n / bins
}

/// The bin of a position: the last one that begins at or before it.
pub(super) fn bin_of(position: usize, n: usize, bins: usize) -> usize {
    ((position + 1) * bins - 1) / n
}

/// Rows of the map that a tile of queries may touch.
pub(super) fn rows_per_tile<T: Element>(queries: usize, bins: MapBins) -> usize {
    bins.rows.min(tile_queries::<T>() * bins.rows / queries + 2)
}

/// Adds the weights of the keys `keys` (rows of `weights`, `width` vectors each) to their column bins; of each block
/// of queries those of the rows in its span.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the weights of a tile and where they go")]
pub(super) fn add_columns<T: Element, S: Simd<T>>(
    simd: S,
    weights: &[T::Block],
    width: usize,
    keys: Range<usize>,
    spans: &[Range<usize>],
    all_keys: usize,
    bins: MapBins,
    sums: &mut [T::Block],
) {
    for (row, (key, weights)) in keys.zip(weights.chunks_exact(width)).enumerate() {
        let bin = bin_of(key, all_keys, bins.columns);
        let sums = &mut sums[bin * width..(bin + 1) * width];
        for ((sum, weight), span) in sums.iter_mut().zip(weights).zip(spans) {
            if span.contains(&row) {
                simd.store(simd.add(simd.load(sum), simd.load(weight)), sum);
            }
        }
    }
}

/// Raises the largest scores of the column bins to those of the keys `keys`, which lie as in [`add_columns`].
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the scores of a tile and where they go")]
pub(super) fn raise_columns<T: Element, S: Simd<T>>(
    simd: S,
    scores: &[T::Block],
    width: usize,
    keys: Range<usize>,
    spans: &[Range<usize>],
    all_keys: usize,
    bins: MapBins,
    largest: &mut [T::Block],
) {
    for (row, (key, scores)) in keys.zip(scores.chunks_exact(width)).enumerate() {
        let bin = bin_of(key, all_keys, bins.columns);
        let largest = &mut largest[bin * width..(bin + 1) * width];
        for ((cell, score), span) in largest.iter_mut().zip(scores).zip(spans) {
            if span.contains(&row) {
                simd.store(simd.max(simd.load(score), simd.load(cell)), cell);
            }
        }
    }
}

/// Turns the largest scores of one vector of rows into weights before they are divided by `sum`: e^(s - max), or those of
/// the sigmoid with `bias`.
#[inline(always)]
pub(super) fn weigh_largest<T: Element, S: Simd<T>>(
    simd: S,
    largest: &mut [T::Block],
    width: usize,
    block: usize,
    (max, sum): (S::Vector, S::Vector),
    bias: Option<S::Vector>,
) {
    let (zero, lowest) = (simd.splat(T::ZERO), simd.splat(T::NEG_INFINITY));
    let reference = simd.select(simd.less(lowest, max), max, zero);
    for cells in largest.chunks_exact_mut(width) {
        let score = simd.load(&cells[block]);
        let weight = match bias {
            Some(bias) => sigmoid::weight(simd, simd.add(score, bias)),
            None => math::exp(simd, simd.sub(score, reference)),
        };
        // A NaN has not reached the largest score; it always reaches the sum.
        simd.store(simd.mul_add(sum, zero, weight), &mut cells[block]);
    }
}

/// Puts the finished column bins of a tile's queries into the tile's part of the map's rows.
pub(super) fn add_rows<T: Element>(
    sums: &[T::Block],
    width: usize,
    queries: &Range<usize>,
    all_queries: usize,
    bins: MapBins,
    shares: &[T],
    part: &mut [T],
) {
    let first = bin_of(queries.start, all_queries, bins.rows);
    for (lane, query) in queries.clone().enumerate() {
        let row = (bin_of(query, all_queries, bins.rows) - first) * bins.columns;
        let (block, cell) = (lane / T::LANES, lane % T::LANES);
        for (column, sum) in part[row..row + bins.columns].iter_mut().zip(sums.chunks_exact(width)) {
            put(bins.pooling, column, sum[block].as_ref()[cell] * shares[lane]);
        }
    }
}

/// Puts one more number into a bin.
#[inline(always)]
fn put<T: Element>(pooling: Pooling, cell: &mut T, x: T) {
    match pooling {
        Pooling::Mean => *cell += x,
        // NaN stays.
        Pooling::Max if x > *cell || x.is_nan() => *cell = x,
        Pooling::Max => {}
    }
}

/// Puts the parts of all tiles together, in their order; a mean is divided by the number of queries in its row.
pub(super) fn merge<T: Element>(problem: &Problem<'_, T>, bins: MapBins, parts: &[T], map: &mut [T]) {
    let [batch, heads, queries, _] = problem.queries.shape();
    let part_len = rows_per_tile::<T>(queries, bins) * bins.columns;
    let tiles = queries.div_ceil(tile_queries::<T>());
    map.fill(T::ZERO);
    let maps = map.chunks_exact_mut(bins.rows * bins.columns);
    for (map, parts) in maps.zip(parts.chunks_exact(tiles * part_len)).take(batch * heads) {
        for (tile, part) in parts.chunks_exact(part_len).enumerate() {
            let first = bin_of(tile * tile_queries::<T>(), queries, bins.rows) * bins.columns;
            for (cell, &x) in map[first..].iter_mut().zip(part) {
                put(bins.pooling, cell, x);
            }
        }
        if bins.pooling == Pooling::Max {
            continue;
        }
        for (row, cells) in map.chunks_exact_mut(bins.columns).enumerate() {
            let count = bin_edge(row + 1, queries, bins.rows) - bin_edge(row, queries, bins.rows);
            let share = T::ONE / T::from_f64(count as f64);
            for cell in cells {
                *cell *= share;
            }
        }
    }
}
