//! A linear layer and a loss over its logits in one, without ever holding all logits.
//!
//! [`chunked`] makes the logits of some rows at a time and turns them into their gradient where they lie; [`recompute`]
//! holds a tile of some rows and some classes, keeps four numbers a row, and makes the logits a second time for the
//! gradients. 16-bit numbers are widened a tile at a time, and gradients of them rounded once. Rows without a target are left out of the products, so nothing that they hold reaches a gradient.

mod chunked;
mod gradients;
mod online;
mod problem;
mod recompute;
mod visit;

pub use chunked::chunked;
pub use problem::{Gradients, Output, Problem};
pub use recompute::{recompute, recompute_backward};

use crate::cross_entropy::{Options, Reduction, RowLoss, Statistics};
use crate::view::Matrix;
use logitscope_simd::{Element, Stored};
use problem::Checked;

/// Copies some rows of a matrix, one after the other, as what is computed with.
fn gather<X: Stored>(matrix: Matrix<'_, X>, rows: &[usize], out: &mut Vec<X::Wide>) {
    let columns = matrix.columns();
    out.resize(rows.len() * columns, X::Wide::ZERO);
    for (&row, out) in rows.iter().zip(out.chunks_exact_mut(columns.max(1))) {
        X::widen_into(matrix.row(row), out);
    }
}

/// The losses of rows, and the penalties that are reduced apart from them.
struct Losses<'a, T> {
    of_rows: &'a mut [T],
    penalties: Vec<f64>,
    statistics: Statistics<'a, T>,
}

impl<'a, T: Element> Losses<'a, T> {
    /// Those of rows of which none has been visited.
    fn new<X: Stored<Wide = T>>(
        checked: &Checked<'_, X>,
        losses: &'a mut [T],
        mut statistics: Statistics<'a, T>,
    ) -> Self {
        let options = &checked.problem.options;
        let apart = options.has_penalties() && options.reduction != Reduction::None;
        losses.fill(T::ZERO);
        for row in 0..losses.len() {
            if checked.is_ignored(row) {
                statistics.leave_out(row);
            }
        }
        let penalties = vec![0.0; if apart { losses.len() } else { 0 }];
        Self { of_rows: losses, penalties, statistics }
    }

    /// Notes what rows gave.
    fn note<X: Stored<Wide = T>>(&mut self, checked: &Checked<'_, X>, rows: &[usize], answers: &[RowLoss]) {
        for (&row, answer) in rows.iter().zip(answers) {
            self.statistics.note(row, answer);
            if checked.is_ignored(row) {
                self.statistics.leave_out(row);
                continue;
            }
            self.of_rows[row] = match self.penalties.get_mut(row) {
                None => T::from_f64(answer.loss + answer.penalty),
                Some(penalty) => {
                    *penalty = answer.penalty;
                    T::from_f64(answer.loss)
                }
            };
        }
    }

    fn reduce<X: Stored<Wide = T>>(&self, checked: &Checked<'_, X>) -> f64 {
        checked.terms.divisors.reduce(self.of_rows, &self.penalties)
    }
}

/// What the softcap makes of scaled logits: the slope at 0 before it, and the cap.
fn cap_of<T: Element>(options: &Options<'_>, scale: T) -> Option<(T, T)> {
    options.softcap.map(|cap| (T::from_f64(scale.to_f64() / cap), T::from_f64(cap)))
}
