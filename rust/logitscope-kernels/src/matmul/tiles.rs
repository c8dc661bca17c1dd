//! The part of a product that whole tiles cover, where the CPU has tiles (AMX).
//!
//! Two by two tiles at a time; what is left of the depth, and rows fewer than a tile has, go through vectors.

use super::{Extent, Panel, ROWS, RowsLhs, Target, micro_tile};
use logitscope_simd::{Element, Simd, TileProduct};

/// Computes `COLUMNS` vectors from `n` on of all rows that fill tiles; gives the first row that is left.
#[inline(always)]
pub(super) fn rows_in_tiles<T: Element, S: Simd<T>, const COLUMNS: usize>(
    simd: S,
    lhs: &RowsLhs<'_, T>,
    extent: Extent<'_>,
    b: &Panel<'_, T>,
    c: &mut [T::Block],
    n: usize,
    target: Target,
) -> usize {
    let rows = extent.rows(n);
    let mut m = rows.start;
    while m + T::LANES <= rows.end {
        let row_tiles = if m + 2 * T::LANES <= rows.end { 2 } else { 1 };
        tiles::<T, S, COLUMNS>(simd, lhs, extent, b, c, (m, row_tiles), n, target);
        m += row_tiles * T::LANES;
    }
    m
}

/// One or two tiles of rows.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a place in each of three matrices")]
fn tiles<T: Element, S: Simd<T>, const COLUMNS: usize>(
    simd: S,
    lhs: &RowsLhs<'_, T>,
    extent: Extent<'_>,
    b: &Panel<'_, T>,
    c: &mut [T::Block],
    (first, row_tiles): (usize, usize),
    n: usize,
    mut target: Target,
) {
    let rows = first..first + row_tiles * T::LANES;
    let depth = extent.depth_of_rows(&rows, n, b.depth());
    let whole = depth.len() / T::LANES;
    let rest = depth.start + whole * T::LANES..depth.end;
    if whole > 0 {
        simd.multiply_tiles(TileProduct {
            a: &lhs.matrix.onwards(first)[depth.start..],
            a_stride: lhs.matrix.stride(),
            b: &b.blocks[depth.start * b.width + n..],
            b_width: b.width,
            c: &mut c[first * b.width + n..],
            c_width: b.width,
            row_tiles,
            column_tiles: COLUMNS,
            depth: whole,
            adds: target == Target::AddedTo,
        });
        target = Target::AddedTo;
    }
    if whole == 0 || !rest.is_empty() {
        for m in rows.step_by(ROWS) {
            micro_tile::<T, S, _, ROWS, COLUMNS, true>(simd, lhs, &rest, b, c, m, n, target);
        }
    }
}
