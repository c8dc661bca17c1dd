//! Some rows at a time: their logits, then in the same place the gradient of these.

use super::gradients::{Sums, Tile};
use super::problem::{Checked, Output, Problem, Terms};
use super::{Losses, gather};
use crate::cross_entropy::{Question, RowLoss, Scratch, Target, Wanted, row_loss};
use crate::error::Result;
use crate::gemm::{Factor, MICRO_ROWS, Start, product};
use crate::rows;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Fills `output` and returns the reduced loss, with the logits of `chunk` rows (at least one) in memory.
///
/// # Errors
/// As [`crate::cross_entropy::cross_entropy`].
pub fn chunked<X: Stored>(
    problem: &Problem<'_, X>,
    chunk: usize,
    output: Output<'_, X>,
    cancel: &Cancel,
) -> Result<f64> {
    let checked = problem.check()?;
    output.check(problem)?;
    let Output { losses, mut gradients, statistics } = output;
    let wanted = statistics.wanted();
    let rows = checked.rows(statistics.looks_at_ignored_rows());
    let ((_, classes), columns) = (problem.size(), problem.input.columns());
    let mut losses = Losses::new(&checked, losses, statistics);
    let mut sums = gradients.as_mut().map(|gradients| Sums::new(&checked, gradients, &rows));
    let (mut logits, mut input) = (Vec::new(), Vec::new());
    let start = problem.bias.map_or(Start::Zero, Start::Row);
    // Rows that are missing of a micro-tile cost as much as those that are there.
    let chunk = chunk.max(1).next_multiple_of(MICRO_ROWS);
    for (index, rows) in rows.chunks(chunk).enumerate() {
        gather(problem.input, rows, &mut input);
        logits.resize(rows.len() * classes, X::Wide::ZERO);
        let factor = Factor::plain(Matrix::new(&input, rows.len(), columns, columns));
        product(factor, Factor::transposed(problem.weight), start, &mut logits, classes, cancel)?;
        let upstream: Vec<_> = rows.iter().map(|&row| sums.as_ref().map(|sums| sums.upstream(row))).collect();
        let answers = row_losses(&checked, wanted, rows, &upstream, &mut logits, cancel)?;
        losses.note(&checked, rows, &answers);
        if let Some(sums) = &mut sums {
            // What lies in rows without a target must not be multiplied, even by 0.
            for (input, &row) in input.chunks_exact_mut(columns.max(1)).zip(rows) {
                if checked.is_ignored(row) {
                    input.fill(X::Wide::ZERO);
                }
            }
            let span = index * chunk..index * chunk + rows.len();
            let input = Matrix::new(&input, rows.len(), columns, columns);
            let tile = Tile { input, rows: span.clone(), classes: 0..classes, span };
            sums.add(&checked, &mut logits, &tile, cancel)?;
            sums.settle_rows(&tile.span);
        }
    }
    if let Some(mut sums) = sums {
        sums.settle_classes(&(0..classes));
        sums.finish();
    }
    Ok(losses.reduce(&checked))
}

/// The losses of rows; where there is an upstream, their logits become their gradient.
fn row_losses<X: Stored>(
    checked: &Checked<'_, X>,
    wanted: Wanted,
    rows: &[usize],
    upstream: &[Option<f64>],
    logits: &mut [X::Wide],
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
        .map(|(((rows, upstream), logits), answers)| (rows, upstream, logits, answers))
        .collect();
    threads::for_each(pieces, work, cancel, Default::default, |(buffers, masses), piece| {
        let (rows, upstream, logits, answers) = piece;
        let (terms, targets) = (checked.terms, &*checked.targets(rows, masses));
        X::Wide::dispatch(Piece { terms, wanted, rows, targets, upstream, logits, answers, buffers });
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
    terms: Terms<'a, T>,
    wanted: Wanted,
    rows: &'a [usize],
    targets: &'a [Target<'a, T>],
    upstream: &'a [Option<f64>],
    logits: &'a mut [T],
    answers: &'a mut [RowLoss],
    buffers: &'a mut Buffers<T>,
}

impl<T: Element> Kernel<T> for Piece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Piece { terms, wanted, rows, targets, upstream, logits, answers, buffers } = self;
        let Buffers { row: copy, scratch } = buffers;
        let classes = logits.len() / rows.len();
        for (i, logits) in logits.chunks_exact_mut(classes).enumerate() {
            copy.clear();
            copy.extend_from_slice(logits);
            let problem = &terms.of_row(copy);
            let factors = terms.divisors.factors(rows[i], upstream[i].unwrap_or(1.0));
            let question =
                Question { problem, logits: copy, ahead: &[], scale: terms.scale, factors, wanted };
            let gradient = upstream[i].map(|_| &mut *logits);
            answers[i] = row_loss(simd, &question, targets[i], scratch, gradient);
            if let (Target::Ignored, Some(_)) = (targets[i], upstream[i]) {
                logits.fill(T::ZERO);
            }
        }
    }
}
