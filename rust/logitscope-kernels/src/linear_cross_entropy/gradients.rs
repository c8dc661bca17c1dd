//! From the gradient of a tile of logits to those of input, weight and bias.

use super::problem::{Checked, Gradients};
use crate::error::Result;
use crate::gemm::{Factor, Start, product};
use crate::rows::update_row;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd, Stored};
use std::ops::Range;

/// Rows and columns of the blocks that a filter looks at.
const FILTER: (usize, usize) = (64, 1024);

/// Columns of a bias that make a piece.
const BIAS_PIECE: usize = 1024;

/// Gradients while tiles are added to them, in a fixed order, and the rows that have any.
///
/// What is stored in fewer bits is added up beside its array, and rounded into it once.
pub(super) struct Sums<'a, 'b, X: Stored> {
    gradients: &'b mut Gradients<'a, X>,
    rows: &'b [usize],
    columns: usize,
    input: Vec<X::Wide>,
    weight: Vec<X::Wide>,
    bias: Vec<f64>,
}

/// Some rows of logits and some classes of them.
///
/// Tiles of the same `span` follow each other in the order of their rows, or of their classes.
pub(super) struct Tile<'a, T> {
    /// The input of the rows, one after the other.
    pub input: Matrix<'a, T>,
    /// Where they are among the rows that have gradients.
    pub rows: Range<usize>,
    pub classes: Range<usize>,
    /// Rows whose gradients are added up before they are rounded; so are those of `classes`.
    pub span: Range<usize>,
}

impl<'a, 'b, X: Stored> Sums<'a, 'b, X> {
    /// Gradients of nothing yet, of some rows.
    pub(super) fn new(
        checked: &Checked<'_, X>,
        gradients: &'b mut Gradients<'a, X>,
        rows: &'b [usize],
    ) -> Self {
        let (_, classes) = checked.problem.size();
        if let (Some(weight), true) = (&mut gradients.weight, rows.is_empty()) {
            weight.fill(X::narrow(X::Wide::ZERO));
        }
        let bias = vec![0.0; if gradients.bias.is_some() { classes } else { 0 }];
        let columns = checked.problem.input.columns();
        Self { gradients, rows, columns, input: Vec::new(), weight: Vec::new(), bias }
    }

    /// What the gradient of a row is multiplied by.
    pub(super) fn upstream(&self, row: usize) -> f64 {
        self.gradients.upstream.map_or(1.0, |upstream| upstream[row].to_f64())
    }

    /// Adds the part of a tile, whose `logits` have become their gradient.
    pub(super) fn add(
        &mut self,
        checked: &Checked<'_, X>,
        logits: &mut [X::Wide],
        tile: &Tile<'_, X::Wide>,
        cancel: &Cancel,
    ) -> Result<()> {
        let (problem, columns) = (&checked.problem, self.columns);
        let (height, width) = (tile.rows.len(), tile.classes.len());
        if let Some(filter) = problem.filter {
            drop_small_blocks(logits, width, X::Wide::from_f64(filter), cancel)?;
        }
        let logits = Matrix::new(logits, height, width, width);
        let weight = Factor::plain(problem.weight.part(tile.classes.clone()));
        let (mut left, mut turned) = (Factor::plain(logits), Factor::transposed(logits));
        if problem.filter.is_some() {
            (left, turned) = (left.sparse(), turned.sparse());
        }
        if let Some(gradient) = &mut self.gradients.input {
            let span = &mut gradient[tile.span.start * columns..tile.span.end * columns];
            let first = (tile.rows.start - tile.span.start) * columns;
            let part = &mut X::target(span, &mut self.input)[first..first + height * columns];
            let start = if tile.classes.start == 0 { Start::Zero } else { Start::Kept };
            product(left, weight, start, part, columns, cancel)?;
        }
        if let Some(gradient) = &mut self.gradients.weight {
            let part = &mut gradient[tile.classes.start * columns..tile.classes.end * columns];
            let start = if tile.rows.start == 0 { Start::Zero } else { Start::Kept };
            product(
                turned,
                Factor::plain(tile.input),
                start,
                X::target(part, &mut self.weight),
                columns,
                cancel,
            )?;
        }
        if self.gradients.bias.is_some() {
            let totals = self.bias[tile.classes.clone()].chunks_mut(BIAS_PIECE);
            let pieces: Vec<_> = totals.enumerate().collect();
            threads::for_each(pieces, height * width, cancel, Vec::new, |sums, (index, totals)| {
                X::Wide::dispatch(SumColumns { logits, first: index * BIAS_PIECE, sums, totals });
            })?;
        }
        Ok(())
    }

    /// Stores the gradients of a span of rows, all of whose tiles have come.
    pub(super) fn settle_rows(&mut self, span: &Range<usize>) {
        if let Some(gradient) = &mut self.gradients.input {
            X::settle(&self.input, &mut gradient[span.start * self.columns..span.end * self.columns]);
        }
    }

    /// Stores the gradients of classes, all of whose tiles have come.
    pub(super) fn settle_classes(&mut self, classes: &Range<usize>) {
        if let (Some(gradient), false) = (&mut self.gradients.weight, self.rows.is_empty()) {
            X::settle(&self.weight, &mut gradient[classes.start * self.columns..classes.end * self.columns]);
        }
    }

    /// Stores what is left.
    pub(super) fn finish(self) {
        if let Some(gradient) = &mut self.gradients.input {
            spread(gradient, self.rows, self.columns);
        }
        if let Some(bias) = &mut self.gradients.bias {
            for (gradient, sum) in bias.iter_mut().zip(self.bias) {
                *gradient = X::narrow(X::Wide::from_f64(sum));
            }
        }
    }
}

/// Moves rows, which lie one after the other, to where they belong; what is between them is 0.
fn spread<X: Stored>(gradient: &mut [X], rows: &[usize], columns: usize) {
    let zero = X::narrow(X::Wide::ZERO);
    let mut end = gradient.len();
    // From the last, as no row lies behind its place.
    for (from, &row) in rows.iter().enumerate().rev() {
        gradient.copy_within(from * columns..(from + 1) * columns, row * columns);
        gradient[(row + 1) * columns..end].fill(zero);
        end = row * columns;
    }
    gradient[..end].fill(zero);
}

/// Adds the sums of some columns to totals.
struct SumColumns<'a, T> {
    logits: Matrix<'a, T>,
    first: usize,
    sums: &'a mut Vec<T>,
    totals: &'a mut [f64],
}

impl<T: Element> Kernel<T> for SumColumns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        self.sums.clear();
        self.sums.resize(self.totals.len(), T::ZERO);
        for row in 0..self.logits.rows() {
            let part = &self.logits.row(row)[self.first..self.first + self.totals.len()];
            update_row!(simd, self.sums.as_mut_slice(), sum, x in part => simd.add(sum, x));
        }
        for (total, sum) in self.totals.iter_mut().zip(self.sums.iter()) {
            *total += sum.to_f64();
        }
    }
}

/// Makes 0 of blocks that nowhere reach `least`.
fn drop_small_blocks<T: Element>(logits: &mut [T], width: usize, least: T, cancel: &Cancel) -> Result<()> {
    let (height, part) = FILTER;
    let work = logits.len();
    let bands: Vec<_> = logits.chunks_mut(height * width).collect();
    threads::for_each(
        bands,
        work,
        cancel,
        || (),
        |(), band| {
            for first in (0..width).step_by(part) {
                let columns = first..width.min(first + part);
                // NaN reaches everything.
                let small = |x: &T| x.abs() < least;
                if band.chunks_exact(width).all(|row| row[columns.clone()].iter().all(small)) {
                    for row in band.chunks_exact_mut(width) {
                        row[columns.clone()].fill(T::ZERO);
                    }
                }
            }
        },
    )
}
