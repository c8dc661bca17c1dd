//! The binned attention map: the weights of a head averaged into a few rows and summed into a few columns.
//!
//! Bins of columns are extra value columns of the attention product (the one-hot matrix of the bins), so
//! they are rescaled with the output and are exact: a row of the map sums to 1 when its queries see a key
//! (to the mean sum of their weights with sigmoid weighting).

use super::problem::Problem;
use super::tile::tile_queries;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Size of a map. Bin `i` of `n` queries or keys begins at [`bin_edge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapBins {
    /// Bins over the queries, at least 1.
    pub rows: usize,
    /// Bins over the keys, at least 1.
    pub columns: usize,
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

/// Sums the finished column bins of a tile's queries into the tile's part of the map's rows.
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
            *column += sum[block].as_ref()[cell] * shares[lane];
        }
    }
}

/// Adds up the parts of all tiles, in their order, and divides by the number of queries in each row.
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
                *cell += x;
            }
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
