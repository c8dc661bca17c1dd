//! Queries, keys, values and gradients of outputs as arrays hold them: 16-bit numbers are widened a few rows at a time,
//! where a tile takes them in, so that no kernel knows of them.

use crate::view::{Heads, Matrix, Rows};
use logitscope_simd::{Element, Stored};
use std::fmt::Debug;
use std::ops::Range;

/// Heads of numbers that are computed with as `T`.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a, T> {
    /// Read where they lie.
    Wide(Heads<'a, T>),
    /// Stored in fewer bits.
    Narrow(&'a dyn NarrowHeads<T>),
}

/// Heads of numbers that have to be widened to `T`. One type for all of them, so that a kernel is compiled once.
pub trait NarrowHeads<T>: Debug + Send + Sync {
    /// Batch, heads, length, `head_dim`.
    fn shape(&self) -> [usize; 4];

    /// Writes rows of one head one after the other.
    fn widen(&self, batch: usize, head: usize, rows: Range<usize>, wide: &mut [T]);

    /// Whether two of the numbers are the halves of a `T`.
    fn has_pairs(&self) -> bool;

    /// Writes rows of one head with neighbours in a row as pairs; a last one alone has a 0 beside it.
    fn pair_columns(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [T]);

    /// Writes two rows of one head at a time, the numbers of a column as pairs; a last one alone has zeros beside it.
    fn pair_rows(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [T]);
}

impl<X: Stored> NarrowHeads<X::Wide> for Heads<'_, X> {
    fn shape(&self) -> [usize; 4] {
        Heads::shape(self)
    }

    fn widen(&self, batch: usize, head: usize, rows: Range<usize>, wide: &mut [X::Wide]) {
        let matrix = self.matrix(batch, head);
        if let Some(whole) = matrix.part(rows.clone()).without_gaps() {
            return X::widen_into(whole, wide);
        }
        for (row, wide) in rows.zip(wide.chunks_exact_mut(matrix.columns().max(1))) {
            X::widen_into(matrix.row(row), wide);
        }
    }

    fn has_pairs(&self) -> bool {
        X::IS_HALF
    }

    fn pair_columns(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [X::Wide]) {
        let matrix = self.matrix(batch, head);
        let width = matrix.columns().div_ceil(2);
        for (row, pairs) in rows.zip(pairs.chunks_exact_mut(width.max(1))) {
            let (whole, rest) = matrix.row(row).as_chunks::<2>();
            for (pair, &[low, high]) in pairs.iter_mut().zip(whole) {
                *pair = X::pair(low, high);
            }
            if let &[last] = rest {
                pairs[width - 1] = X::pair(last, X::narrow(X::Wide::ZERO));
            }
        }
    }

    fn pair_rows(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [X::Wide]) {
        let matrix = self.matrix(batch, head);
        for (first, pairs) in rows.clone().step_by(2).zip(pairs.chunks_exact_mut(matrix.columns().max(1))) {
            let low = matrix.row(first);
            if first + 1 < rows.end {
                for ((pair, &low), &high) in pairs.iter_mut().zip(low).zip(matrix.row(first + 1)) {
                    *pair = X::pair(low, high);
                }
            } else {
                for (pair, &low) in pairs.iter_mut().zip(low) {
                    *pair = X::pair(low, X::narrow(X::Wide::ZERO));
                }
            }
        }
    }
}

/// Rows of heads, each times a number of its own: (batch, heads, length) gates.
#[derive(Clone, Copy, Debug)]
pub struct Gated<'a, X: Stored> {
    heads: Heads<'a, X>,
    gates: Rows<'a, X::Wide>,
}

impl<'a, X: Stored> Gated<'a, X> {
    /// Heads and what their rows are multiplied by; 16-bit products are rounded to 16 bits.
    pub fn new(heads: Heads<'a, X>, gates: Rows<'a, X::Wide>) -> Self {
        Self { heads, gates }
    }

    /// The products of some rows, as they are computed with.
    fn products(&self, batch: usize, head: usize, rows: Range<usize>) -> Vec<X::Wide> {
        let mut wide = vec![X::Wide::ZERO; rows.len() * self.heads.shape()[3]];
        NarrowHeads::widen(self, batch, head, rows, &mut wide);
        wide
    }
}

impl<X: Stored> NarrowHeads<X::Wide> for Gated<'_, X> {
    fn shape(&self) -> [usize; 4] {
        self.heads.shape()
    }

    fn widen(&self, batch: usize, head: usize, rows: Range<usize>, wide: &mut [X::Wide]) {
        NarrowHeads::widen(&self.heads, batch, head, rows.clone(), wide);
        for (row, wide) in rows.zip(wide.chunks_exact_mut(self.heads.shape()[3].max(1))) {
            let gate = self.gates.get(batch, head, row);
            for x in wide {
                *x = X::narrow(*x * gate).widen();
            }
        }
    }

    fn has_pairs(&self) -> bool {
        X::IS_HALF
    }

    fn pair_columns(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [X::Wide]) {
        pair_columns(&self.products(batch, head, rows), self.shape()[3], pairs);
    }

    fn pair_rows(&self, batch: usize, head: usize, rows: Range<usize>, pairs: &mut [X::Wide]) {
        pair_rows(&self.products(batch, head, rows), self.shape()[3], pairs);
    }
}

/// [`NarrowHeads::pair_columns`] of widened rows, one after the other.
pub(super) fn pair_columns<T: Element>(wide: &[T], columns: usize, pairs: &mut [T]) {
    let width = columns.div_ceil(2).max(1);
    for (row, pairs) in wide.chunks_exact(columns.max(1)).zip(pairs.chunks_exact_mut(width)) {
        for (two, pair) in row.chunks(2).zip(pairs) {
            *pair = T::of_halves(two[0], two.get(1).copied().unwrap_or(T::ZERO));
        }
    }
}

/// [`NarrowHeads::pair_rows`] of widened rows, one after the other.
pub(super) fn pair_rows<T: Element>(wide: &[T], columns: usize, pairs: &mut [T]) {
    let columns = columns.max(1);
    for (two, pairs) in wide.chunks(2 * columns).zip(pairs.chunks_exact_mut(columns)) {
        for (column, pair) in pairs.iter_mut().enumerate() {
            *pair = T::of_halves(two[column], two.get(columns + column).copied().unwrap_or(T::ZERO));
        }
    }
}

impl<'a, T: Element> Operand<'a, T> {
    /// Heads whose rows are multiplied by gates, a few rows at a time where a tile takes them in.
    pub fn gated<X: Stored<Wide = T>>(gated: &'a Gated<'a, X>) -> Self {
        Self::Narrow(gated)
    }

    /// Heads however they are stored.
    pub fn new<X: Stored<Wide = T>>(heads: &'a Heads<'a, X>) -> Self {
        heads.as_wide().map_or(Self::Narrow(heads), Self::Wide)
    }

    /// Batch, heads, length, `head_dim`.
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Self::Wide(heads) => heads.shape(),
            Self::Narrow(heads) => heads.shape(),
        }
    }

    /// Rows of one head, counted from the first of them; in `buffer` unless they can be read where they lie.
    pub(super) fn rows<'b>(
        &self,
        batch: usize,
        head: usize,
        rows: Range<usize>,
        buffer: &'b mut Vec<T>,
    ) -> Matrix<'b, T>
    where
        'a: 'b,
    {
        self.widen(batch, head, rows.clone(), buffer);
        self.widened(batch, head, rows, buffer)
    }

    /// Puts rows of one head into `buffer` unless they can be read where they lie.
    pub(super) fn widen(&self, batch: usize, head: usize, rows: Range<usize>, buffer: &mut Vec<T>) {
        let Self::Narrow(heads) = self else { return };
        let len = rows.len() * heads.shape()[3];
        if buffer.len() < len {
            buffer.resize(len, T::ZERO);
        }
        heads.widen(batch, head, rows, &mut buffer[..len]);
    }

    /// Rows that [`Operand::widen`] has put into `buffer` where that is needed.
    pub(super) fn widened<'b>(
        &self,
        batch: usize,
        head: usize,
        rows: Range<usize>,
        buffer: &'b [T],
    ) -> Matrix<'b, T>
    where
        'a: 'b,
    {
        match self {
            Self::Wide(heads) => heads.matrix(batch, head).part(rows),
            Self::Narrow(heads) => {
                let columns = heads.shape()[3];
                Matrix::new(&buffer[..rows.len() * columns], rows.len(), columns, columns)
            }
        }
    }

    /// Whether the numbers are stored so that two of them are the halves of a `T`.
    pub(super) fn has_pairs(&self) -> bool {
        match self {
            Self::Wide(_) => false,
            Self::Narrow(heads) => heads.has_pairs(),
        }
    }

    /// Rows of one head with neighbours in a row as pairs, in `buffer`.
    ///
    /// # Panics
    /// If the numbers have none.
    pub(super) fn pair_columns<'b>(
        &self,
        batch: usize,
        head: usize,
        rows: Range<usize>,
        buffer: &'b mut Vec<T>,
    ) -> Matrix<'b, T> {
        let Self::Narrow(heads) = self else { unreachable!("pairs of wide numbers") };
        let (count, width) = (rows.len(), heads.shape()[3].div_ceil(2));
        buffer.resize(count * width, T::ZERO);
        heads.pair_columns(batch, head, rows, buffer);
        Matrix::new(buffer, count, width, width)
    }

    /// Rows of one head, two at a time as rows of pairs, in `buffer`.
    ///
    /// # Panics
    /// If the numbers have none.
    pub(super) fn pair_rows<'b>(
        &self,
        batch: usize,
        head: usize,
        rows: Range<usize>,
        buffer: &'b mut Vec<T>,
    ) -> Matrix<'b, T> {
        let Self::Narrow(heads) = self else { unreachable!("pairs of wide numbers") };
        let (count, columns) = (rows.len().div_ceil(2), heads.shape()[3]);
        buffer.resize(count * columns, T::ZERO);
        heads.pair_rows(batch, head, rows, buffer);
        Matrix::new(buffer, count, columns, columns)
    }

    /// One row of one head.
    pub(super) fn row<'b>(&self, batch: usize, head: usize, row: usize, buffer: &'b mut Vec<T>) -> &'b [T]
    where
        'a: 'b,
    {
        self.rows(batch, head, row..row + 1, buffer).row(0)
    }
}
