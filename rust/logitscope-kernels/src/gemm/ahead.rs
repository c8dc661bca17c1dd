//! What is packed next, fetched while something else is computed.

use super::Factor;
use crate::view::Matrix;
use logitscope_simd::{Simd, Stored};
use std::ops::Range;

/// How many numbers the caches fetch at a time.
pub(super) const fn line<X>() -> usize {
    64 / size_of::<X>()
}

/// Fetches a part of a row.
#[inline(always)]
pub(super) fn fetch<X: Stored, S: Simd<X::Wide>>(simd: S, row: &[X]) {
    for line in row.chunks(line::<X>()) {
        simd.prefetch(line);
    }
}

/// A part of a matrix of which a few lines are fetched at a time: asked for all at once they would wait for each other.
pub(super) struct Ahead<'a, X> {
    matrix: Matrix<'a, X>,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Where the next line begins in the first of the rows.
    column: usize,
    /// Lines of one time.
    lines: usize,
}

impl<'a, X: Stored> Ahead<'a, X> {
    /// Columns of `b`, of a part of its depth, in so many times.
    pub(super) fn columns_of(
        b: Factor<'a, X>,
        columns: Range<usize>,
        depth: Range<usize>,
        times: usize,
    ) -> Self {
        let (rows, columns) = if b.transposed { (columns, depth) } else { (depth, columns) };
        let lines = (rows.len() * columns.len().div_ceil(line::<X>())).div_ceil(times.max(1));
        Self { matrix: b.matrix, rows, column: columns.start, columns, lines }
    }

    /// Fetches the lines of one time.
    #[inline(always)]
    pub(super) fn fetch<S: Simd<X::Wide>>(&mut self, simd: S) {
        for _ in 0..self.lines {
            if self.rows.is_empty() {
                return;
            }
            simd.prefetch(&self.matrix.row(self.rows.start)[self.column..self.columns.end]);
            self.column += line::<X>();
            if self.column >= self.columns.end {
                self.column = self.columns.start;
                self.rows.start += 1;
            }
        }
    }
}
