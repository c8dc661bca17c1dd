//! From the gradient of a tile of logits to those of input, weight and bias.

use super::problem::{Checked, Gradients};
use crate::error::Result;
use crate::gemm::{Factor, Start, product};
use crate::rows::update_row;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd};
use std::ops::Range;

/// Rows and columns of the blocks that a filter looks at.
const FILTER: (usize, usize) = (64, 1024);

/// Columns of a bias that make a piece.
const BIAS_PIECE: usize = 1024;

/// Gradients while tiles are added to them, in a fixed order.
pub(super) struct Sums<'a, 'b, T> {
    gradients: &'b mut Gradients<'a, T>,
    /// The gradient of some rows of the input.
    input: Vec<T>,
    bias: Vec<f64>,
}

/// Some rows of logits and some classes of them.
pub(super) struct Tile<'a, T> {
    /// The input of these rows, one after the other.
    pub input: &'a [T],
    pub rows: &'a [usize],
    pub classes: Range<usize>,
    /// Whether no other rows came before.
    pub first_rows: bool,
}

impl<'a, 'b, T: Element> Sums<'a, 'b, T> {
    /// Gradients of nothing yet.
    pub(super) fn new(checked: &Checked<'_, T>, gradients: &'b mut Gradients<'a, T>, any_rows: bool) -> Self {
        let (_, classes) = checked.problem.size();
        if let Some(input) = &mut gradients.input {
            // Ignored rows are not visited.
            input.fill(T::ZERO);
        }
        if let (Some(weight), false) = (&mut gradients.weight, any_rows) {
            weight.fill(T::ZERO);
        }
        let bias = vec![0.0; if gradients.bias.is_some() { classes } else { 0 }];
        Self { gradients, input: Vec::new(), bias }
    }

    /// What the gradient of a row is multiplied by.
    pub(super) fn upstream(&self, row: usize) -> f64 {
        self.gradients.upstream.map_or(1.0, |upstream| upstream[row].to_f64())
    }

    /// Adds the part of a tile, whose `logits` have become their gradient. Tiles of the same rows follow each other.
    pub(super) fn add(
        &mut self,
        checked: &Checked<'_, T>,
        logits: &mut [T],
        tile: &Tile<'_, T>,
        cancel: &Cancel,
    ) -> Result<()> {
        let problem = &checked.problem;
        let columns = problem.input.columns();
        let (height, width) = (tile.rows.len(), tile.classes.len());
        if let Some(filter) = problem.filter {
            drop_small_blocks(logits, width, T::from_f64(filter), cancel)?;
        }
        let logits = Matrix::new(logits, height, width, width);
        let weight = Factor::plain(problem.weight.part(tile.classes.clone()));
        let (mut left, mut turned) = (Factor::plain(logits), Factor::transposed(logits));
        if problem.filter.is_some() {
            (left, turned) = (left.sparse(), turned.sparse());
        }
        if self.gradients.input.is_some() {
            self.input.resize(height * columns, T::ZERO);
            let start = if tile.classes.start == 0 { Start::Zero } else { Start::Kept };
            product(left, weight, start, &mut self.input, columns, cancel)?;
        }
        if let Some(gradient) = &mut self.gradients.weight {
            let part = &mut gradient[tile.classes.start * columns..tile.classes.end * columns];
            let start = if tile.first_rows { Start::Zero } else { Start::Kept };
            let input = Factor::plain(Matrix::new(tile.input, height, columns, columns));
            product(turned, input, start, part, columns, cancel)?;
        }
        if self.gradients.bias.is_some() {
            let totals = self.bias[tile.classes.clone()].chunks_mut(BIAS_PIECE);
            let pieces: Vec<_> = totals.enumerate().collect();
            threads::for_each(pieces, height * width, cancel, Vec::new, |sums, (index, totals)| {
                T::dispatch(SumColumns { logits, first: index * BIAS_PIECE, sums, totals });
            })?;
        }
        Ok(())
    }

    /// Hands out the gradient of the rows of the input whose tiles have all come.
    pub(super) fn finish_rows(&mut self, rows: &[usize], columns: usize) {
        if let Some(input) = &mut self.gradients.input {
            for (sums, &row) in self.input.chunks_exact(columns.max(1)).zip(rows) {
                input[row * columns..(row + 1) * columns].copy_from_slice(sums);
            }
        }
    }

    /// Hands out what is left.
    pub(super) fn finish(self) {
        if let Some(bias) = &mut self.gradients.bias {
            for (gradient, sum) in bias.iter_mut().zip(self.bias) {
                *gradient = T::from_f64(sum);
            }
        }
    }
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
