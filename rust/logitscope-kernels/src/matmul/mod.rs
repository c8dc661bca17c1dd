//! The register-blocked matrix product that attention is built on: `c += a b` or `c = a b`, with `b` and `c` made of
//! vectors and `a` read one number at a time.
//!
//! A micro-tile keeps `MR` x `NR` vectors of `c` in registers while it walks the depth; `MR` and `NR` are
//! what the register file of the instruction set holds. Every number of `c` is summed in the order of the depth.
//! With `PAIRED` all numbers of `a` and `b` are pairs of half the bits, and the depth counts pairs.

mod tiles;

use crate::view::Matrix;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Rows of vectors, all `width` vectors long.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a, T: Element> {
    pub blocks: &'a [T::Block],
    pub width: usize,
}

impl<T: Element> Panel<'_, T> {
    fn depth(&self) -> usize {
        self.blocks.len().checked_div(self.width).unwrap_or(0)
    }
}

/// How many rows of `a` have one range of the depth in [`add_rows_product`]; ranges of rows that do not begin or end at a
/// multiple of it are computed more slowly.
pub(crate) const ROWS: usize = 8;

/// `c[m] = sum_k a[m][k] b[k]` for the rows `a`, whose columns are the depth; `wanted` says of each vector of the width
/// which rows. The others stay what they are.
#[inline(always)]
pub(crate) fn rows_product<T: Element, S: Simd<T>, const PAIRED: bool>(
    simd: S,
    a: Matrix<'_, T>,
    b: &Panel<'_, T>,
    wanted: &[Range<usize>],
    c: &mut [T::Block],
) {
    let lhs = RowsLhs { matrix: a, depth: b.depth() };
    product::<T, S, _, PAIRED>(simd, &lhs, Extent::Rows(wanted), b, c, Target::Written);
}

/// `c[m] += sum_k a[m][k] b[k]` for the rows `a`, whose columns are the depth; `depths` are the ranges of k that count,
/// one for each [`ROWS`] rows.
#[inline(always)]
pub(crate) fn add_rows_product<T: Element, S: Simd<T>, const PAIRED: bool>(
    simd: S,
    a: Matrix<'_, T>,
    b: &Panel<'_, T>,
    depths: &[Range<usize>],
    c: &mut [T::Block],
) {
    let lhs = RowsLhs { matrix: a, depth: b.depth() };
    product::<T, S, _, PAIRED>(simd, &lhs, Extent::DepthOfRows(depths, a.rows()), b, c, Target::AddedTo);
}

/// `c[m] += sum_k a[m][k] b[k]` for the rows `a`, whose columns are the depth; `depths` are the ranges of k that count, one
/// for each vector of the width.
#[inline(always)]
pub(crate) fn add_rows_product_by_columns<T: Element, S: Simd<T>, const PAIRED: bool>(
    simd: S,
    a: Matrix<'_, T>,
    b: &Panel<'_, T>,
    depths: &[Range<usize>],
    c: &mut [T::Block],
) {
    let lhs = RowsLhs { matrix: a, depth: b.depth() };
    product::<T, S, _, PAIRED>(simd, &lhs, Extent::Depth(depths, a.rows()), b, c, Target::AddedTo);
}

/// What becomes of the numbers that are in `c` before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Written,
    AddedTo,
}

/// `c[m] += sum_k a[k][m] b[k]`: the depth runs over the rows of `a`; `depths` are the ranges of it that count, one for
/// each vector of the width.
#[inline(always)]
pub(crate) fn add_columns_product<T: Element, S: Simd<T>, const PAIRED: bool>(
    simd: S,
    a: Matrix<'_, T>,
    b: &Panel<'_, T>,
    depths: &[Range<usize>],
    c: &mut [T::Block],
) {
    let lhs = ColumnsLhs { matrix: a };
    product::<T, S, _, PAIRED>(simd, &lhs, Extent::Depth(depths, a.columns()), b, c, Target::AddedTo);
}

/// Which part of a product is computed.
#[derive(Clone, Copy)]
enum Extent<'a> {
    /// Some of the rows, for each vector of the width.
    Rows(&'a [Range<usize>]),
    /// A part of the depth, for each vector of the width; all rows, which are so many.
    Depth(&'a [Range<usize>], usize),
    /// A part of the depth, for each [`ROWS`] rows; so many rows.
    DepthOfRows(&'a [Range<usize>], usize),
}

impl Extent<'_> {
    /// Whether it is the same for the vectors `n..n + count` of the width.
    #[inline(always)]
    fn is_shared(&self, n: usize, count: usize) -> bool {
        match self {
            Self::Rows(ranges) | Self::Depth(ranges, _) => {
                let mut shared = true;
                for range in &ranges[n..n + count] {
                    shared &= *range == ranges[n];
                }
                shared
            }
            Self::DepthOfRows(..) => true,
        }
    }

    #[inline(always)]
    fn rows(&self, n: usize) -> Range<usize> {
        match self {
            Self::Rows(ranges) => ranges[n].clone(),
            Self::Depth(_, rows) | Self::DepthOfRows(_, rows) => 0..*rows,
        }
    }

    #[inline(always)]
    fn depth(&self, m: usize, n: usize, all: usize) -> Range<usize> {
        match self {
            Self::Rows(_) => 0..all,
            Self::Depth(ranges, _) => ranges[n].clone(),
            Self::DepthOfRows(ranges, _) => ranges[m / ROWS].clone(),
        }
    }

    /// The same for some rows at once: all that counts for one of them.
    #[inline(always)]
    fn depth_of_rows(&self, rows: &Range<usize>, n: usize, all: usize) -> Range<usize> {
        let mut depth = self.depth(rows.start, n, all);
        for m in rows.clone().step_by(ROWS).skip(1) {
            let other = self.depth(m, n, all);
            if depth.is_empty() {
                depth = other;
            } else if !other.is_empty() {
                depth = depth.start.min(other.start)..depth.end.max(other.end);
            }
        }
        depth
    }
}

/// Where a micro-tile gets its left factor from.
trait Lhs<T> {
    /// What is prepared once for the rows `m..m + MR` and a part of the depth.
    type Tile<const MR: usize>: Copy;

    fn tile<const MR: usize>(&self, m: usize, depth: &Range<usize>) -> Self::Tile<MR>;

    /// The `MR` numbers at place `k` of that part.
    fn at<const MR: usize>(&self, tile: Self::Tile<MR>, m: usize, k: usize) -> [T; MR];

    /// The factor itself if it can be read in tiles: the depth lies along its rows.
    fn as_rows(&self) -> Option<&RowsLhs<'_, T>>;
}

struct RowsLhs<'a, T> {
    matrix: Matrix<'a, T>,
    depth: usize,
}

impl<'a, T: Element> Lhs<T> for RowsLhs<'a, T> {
    type Tile<const MR: usize> = [&'a [T]; MR];

    #[inline(always)]
    fn tile<const MR: usize>(&self, m: usize, depth: &Range<usize>) -> [&'a [T]; MR] {
        let mut rows: [&'a [T]; MR] = [&[]; MR];
        for (i, row) in rows.iter_mut().enumerate() {
            // Cut to the depth, so that the compiler sees that no index below it can be out of bounds.
            *row = &self.matrix.row(m + i)[..self.depth][depth.clone()];
        }
        rows
    }

    #[inline(always)]
    fn at<const MR: usize>(&self, tile: [&'a [T]; MR], _m: usize, k: usize) -> [T; MR] {
        let mut numbers = [T::ZERO; MR];
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = tile[i][k];
        }
        numbers
    }

    #[inline(always)]
    fn as_rows(&self) -> Option<&RowsLhs<'_, T>> {
        Some(self)
    }
}

struct ColumnsLhs<'a, T> {
    matrix: Matrix<'a, T>,
}

impl<T: Element> Lhs<T> for ColumnsLhs<'_, T> {
    type Tile<const MR: usize> = usize;

    #[inline(always)]
    fn tile<const MR: usize>(&self, _m: usize, depth: &Range<usize>) -> usize {
        depth.start
    }

    #[inline(always)]
    fn at<const MR: usize>(&self, first: usize, m: usize, k: usize) -> [T; MR] {
        let mut numbers = [T::ZERO; MR];
        numbers.copy_from_slice(&self.matrix.row(first + k)[m..m + MR]);
        numbers
    }

    #[inline(always)]
    fn as_rows(&self) -> Option<&RowsLhs<'_, T>> {
        None
    }
}

#[inline(always)]
fn product<T: Element, S: Simd<T>, L: Lhs<T>, const PAIRED: bool>(
    simd: S,
    lhs: &L,
    extent: Extent<'_>,
    b: &Panel<'_, T>,
    c: &mut [T::Block],
    target: Target,
) {
    if S::REGISTERS >= 32 {
        blocked::<T, S, L, 8, 2, PAIRED>(simd, lhs, extent, b, c, target);
    } else {
        blocked::<T, S, L, 4, 1, PAIRED>(simd, lhs, extent, b, c, target);
    }
}

#[inline(always)]
fn blocked<T: Element, S: Simd<T>, L: Lhs<T>, const MR: usize, const NR: usize, const PAIRED: bool>(
    simd: S,
    lhs: &L,
    extent: Extent<'_>,
    b: &Panel<'_, T>,
    c: &mut [T::Block],
    target: Target,
) {
    let mut n = 0;
    while n < b.width {
        if n + NR <= b.width && extent.is_shared(n, NR) {
            column_tiles::<T, S, L, MR, NR, PAIRED>(simd, lhs, extent, b, c, n, target);
            n += NR;
        } else {
            column_tiles::<T, S, L, MR, 1, PAIRED>(simd, lhs, extent, b, c, n, target);
            n += 1;
        }
    }
}

#[inline(always)]
fn column_tiles<T: Element, S: Simd<T>, L: Lhs<T>, const MR: usize, const NR: usize, const PAIRED: bool>(
    simd: S,
    lhs: &L,
    extent: Extent<'_>,
    b: &Panel<'_, T>,
    c: &mut [T::Block],
    n: usize,
    target: Target,
) {
    let rows = extent.rows(n);
    let mut m = rows.start;
    if PAIRED
        && S::HAS_TILES
        && let Some(lhs) = lhs.as_rows()
    {
        m = tiles::rows_in_tiles::<T, S, NR>(simd, lhs, extent, b, c, n, target);
    }
    while m + MR <= rows.end {
        let depth = extent.depth(m, n, b.depth());
        micro_tile::<T, S, L, MR, NR, PAIRED>(simd, lhs, &depth, b, c, m, n, target);
        m += MR;
    }
    while m < rows.end {
        let depth = extent.depth(m, n, b.depth());
        micro_tile::<T, S, L, 1, NR, PAIRED>(simd, lhs, &depth, b, c, m, n, target);
        m += 1;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a place in each of three matrices")]
fn micro_tile<T: Element, S: Simd<T>, L: Lhs<T>, const MR: usize, const NR: usize, const PAIRED: bool>(
    simd: S,
    lhs: &L,
    depth: &Range<usize>,
    b: &Panel<'_, T>,
    c: &mut [T::Block],
    m: usize,
    n: usize,
    target: Target,
) {
    let tile = lhs.tile::<MR>(m, depth);
    let mut sums = [[simd.splat(T::ZERO); NR]; MR];
    let rows = &b.blocks[depth.start * b.width..depth.end * b.width];
    for (k, row) in rows.chunks_exact(b.width).enumerate() {
        // No closures here: they are compiled on their own, without the instruction set of the kernel.
        let mut vectors = [simd.splat(T::ZERO); NR];
        for (vector, block) in vectors.iter_mut().zip(&row[n..n + NR]) {
            *vector = simd.load(block);
        }
        let a = lhs.at::<MR>(tile, m, k);
        for i in 0..MR {
            let x = simd.splat(a[i]);
            for j in 0..NR {
                sums[i][j] = if PAIRED {
                    simd.add_pairs(x, vectors[j], sums[i][j])
                } else {
                    simd.mul_add(x, vectors[j], sums[i][j])
                };
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let start = (m + i) * b.width + n;
        for (block, sum) in c[start..start + NR].iter_mut().zip(sums) {
            let sum = if target == Target::Written { sum } else { simd.add(simd.load(block), sum) };
            simd.store(sum, block);
        }
    }
}
