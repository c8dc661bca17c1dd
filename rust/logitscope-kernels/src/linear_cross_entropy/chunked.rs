//! Some rows at a time: their logits, then in the same place the gradient of these.

use super::gradients::{Sums, Tile};
use super::problem::{Checked, Output, Problem};
use super::{Losses, gather};
use crate::cross_entropy::{Question, RowLoss, Scratch, Target, Wanted, row_loss};
use crate::error::Result;
use crate::gemm::{Factor, Start, product};
use crate::rows;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd};

/// Fills `output` and returns the reduced loss, with the logits of `chunk` rows (at least one) in memory.
///
/// # Errors
/// As [`crate::cross_entropy::cross_entropy`].
pub fn chunked<T: Element>(
    problem: &Problem<'_, T>,
    chunk: usize,
    output: Output<'_, T>,
    cancel: &Cancel,
) -> Result<f64> {
    let checked = problem.check()?;
    output.check(problem)?;
    let Output { losses, mut gradients, statistics } = output;
    let wanted = statistics.wanted();
    let rows = checked.rows(statistics.looks_at_ignored_rows());
    let ((_, classes), columns) = (problem.size(), problem.input.columns());
    let mut losses = Losses::new(&checked, losses, statistics);
    let mut sums = gradients.as_mut().map(|gradients| Sums::new(&checked, gradients, !rows.is_empty()));
    let (mut logits, mut input) = (Vec::new(), Vec::new());
    let start = problem.bias.map_or(Start::Zero, Start::Row);
    for (index, rows) in rows.chunks(chunk.max(1)).enumerate() {
        gather(problem.input, rows, &mut input);
        logits.resize(rows.len() * classes, T::ZERO);
        let factor = Factor::plain(Matrix::new(&input, rows.len(), columns, columns));
        product(factor, Factor::transposed(problem.weight), start, &mut logits, classes, cancel)?;
        let upstream: Vec<_> = rows.iter().map(|&row| sums.as_ref().map(|sums| sums.upstream(row))).collect();
        let answers = row_losses(&checked, wanted, rows, &upstream, &mut logits, cancel)?;
        losses.note(&checked, rows, &answers);
        if let Some(sums) = &mut sums {
            // What lies in rows without a target must not be multiplied, even by 0.
            for (input, &row) in input.chunks_exact_mut(columns.max(1)).zip(rows) {
                if matches!(checked.target(row), Target::Ignored) {
                    input.fill(T::ZERO);
                }
            }
            let tile = Tile { input: &input, rows, classes: 0..classes, first_rows: index == 0 };
            sums.add(&checked, &mut logits, &tile, cancel)?;
            sums.finish_rows(rows, columns);
        }
    }
    if let Some(sums) = sums {
        sums.finish();
    }
    Ok(losses.reduce(&checked))
}

/// The losses of rows; where there is an upstream, their logits become their gradient.
fn row_losses<T: Element>(
    checked: &Checked<'_, T>,
    wanted: Wanted,
    rows: &[usize],
    upstream: &[Option<f64>],
    logits: &mut [T],
    cancel: &Cancel,
) -> Result<Vec<RowLoss>> {
    let (_, classes) = checked.problem.size();
    let mut answers = vec![RowLoss::default(); rows.len()];
    let (work, size) = (logits.len(), rows::rows_per_piece(classes));
    let pieces: Vec<_> = rows
        .chunks(size)
        .zip(upstream.chunks(size))
        .zip(logits.chunks_mut(size * classes))
        .zip(answers.chunks_mut(size))
        .map(|(((rows, upstream), logits), answers)| Piece {
            checked,
            wanted,
            rows,
            upstream,
            logits,
            answers,
        })
        .collect();
    threads::for_each(pieces, work, cancel, Default::default, |buffers: &mut Buffers<T>, piece| {
        T::dispatch(PieceKernel { piece, buffers });
    })?;
    Ok(answers)
}

/// What a thread reuses from row to row.
#[derive(Default)]
struct Buffers<T> {
    row: Vec<T>,
    scratch: Scratch<T>,
}

struct Piece<'a, T> {
    checked: &'a Checked<'a, T>,
    wanted: Wanted,
    rows: &'a [usize],
    upstream: &'a [Option<f64>],
    logits: &'a mut [T],
    answers: &'a mut [RowLoss],
}

struct PieceKernel<'a, 's, T> {
    piece: Piece<'a, T>,
    buffers: &'s mut Buffers<T>,
}

impl<T: Element> Kernel<T> for PieceKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let PieceKernel { piece, buffers } = self;
        let Piece { checked, wanted, rows, upstream, logits, answers } = piece;
        let Buffers { row: copy, scratch } = buffers;
        let (_, classes) = checked.problem.size();
        for (i, logits) in logits.chunks_exact_mut(classes).enumerate() {
            let (row, target) = (rows[i], checked.target(rows[i]));
            copy.clear();
            copy.extend_from_slice(logits);
            let problem = &checked.problem.of_logits(copy);
            let factors = checked.divisors.factors(row, upstream[i].unwrap_or(1.0));
            let question =
                Question { problem, logits: copy, ahead: &[], scale: checked.scale, factors, wanted };
            let gradient = upstream[i].map(|_| &mut *logits);
            answers[i] = row_loss(simd, &question, target, scratch, gradient);
            if let (Target::Ignored, Some(_)) = (target, upstream[i]) {
                logits.fill(T::ZERO);
            }
        }
    }
}
