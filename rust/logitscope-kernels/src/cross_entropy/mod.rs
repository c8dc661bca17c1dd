//! Losses of rows of logits against class indices or masses, and their gradient in the same call.
//!
//! Complement form: let d be the distance from the target's logit to the largest one, and R the sum of
//! e^{z - max} over all classes **other** than the target. Then v = -ln p is `ln_1p(R)` where d = 0, else
//! d + ln(R + e^{-d}), and the gradient at the target is -R / (R + e^{-d}). Neither is a small difference of
//! numbers near 1, so losses and gradients of confident rows stay accurate down to the smallest normal number.
//!
//! What is a function of v alone takes two sweeps (`row`), the rest of the family a few more (`spread_row`).

mod link;
mod problem;
mod reduce;
mod row;
mod spread_row;
mod statistics;

pub use link::Link;
pub use problem::{Gradient, Options, Output, Problem, Targets};
pub(crate) use problem::{Target, check_classes, check_weight};
pub(crate) use reduce::Divisors;
pub use reduce::{Normalizer, Reduction};
pub(crate) use row::{Question, RowLoss, RowSum, Wanted, first_maximum, row_loss, weighted};
pub(crate) use spread_row::{Scratch, Seen, Spread, cap_row, uncap_gradient, write_gradient};
pub use statistics::Statistics;
pub(crate) use statistics::split_off;

use crate::error::Result;
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd, Stored};

const NAME: &str = "cross_entropy";

/// Fills `output` and returns the reduced loss (for [`Reduction::None`], their sum).
///
/// # Errors
/// [`crate::Error::Target`] for a target that is neither a class nor ignored, before anything is written;
/// [`crate::Error::Shape`] if lengths do not fit; [`crate::Error::Argument`] for options out of range;
/// [`crate::Error::Interrupted`] when cancelled.
pub fn cross_entropy<X: Stored>(
    problem: &Problem<'_, X>,
    output: Output<'_, X>,
    cancel: &Cancel,
) -> Result<f64> {
    let (weights, live) = problem.check()?;
    output.check(problem)?;
    let scale = rows::scale_of(problem.options.operation, problem.options.temperature)?;
    let (rows, classes) = problem.size();
    let reduction = problem.options.reduction;
    let divisors = Divisors::new(reduction, problem.options.normalizer, weights, live, problem.options.empty);
    let apart = problem.options.has_penalties() && reduction != Reduction::None;
    let mut penalties = vec![0.0; if apart { rows } else { 0 }];

    let size = rows::rows_per_piece(classes);
    let Output { losses, gradient, mut statistics } = output;
    let (gradient, upstream) = gradient.map_or((None, None), |g| (Some(g.logits), g.upstream));
    let mut gradients = gradient.map(|g| g.chunks_mut(size * classes));
    let mut upstreams = upstream.map(|u| u.chunks(size));
    let mut parts = penalties.chunks_mut(size);
    let pieces: Vec<_> = losses
        .chunks_mut(size)
        .enumerate()
        .map(|(index, losses)| Piece {
            first: index * size,
            statistics: statistics.split_off(losses.len()),
            losses,
            penalties: parts.next(),
            gradient: gradients.as_mut().and_then(Iterator::next),
            upstream: upstreams.as_mut().and_then(Iterator::next),
        })
        .collect();
    let wide = problem.as_wide();
    threads::for_each(pieces, rows * classes, cancel, Buffers::default, |buffers, mut piece| {
        let Buffers { scratch, logits, masses, target } = buffers;
        let mut gradient = piece.gradient.take();
        let rows = piece.first..piece.first + piece.losses.len();
        let widened;
        let (problem, offset) = if let Some(problem) = &wide {
            (problem, rows.start)
        } else {
            widened = problem.widened(rows, logits, masses);
            (&widened, 0)
        };
        let wide_gradient = gradient.as_deref_mut().map(|gradient| X::target(gradient, target));
        let piece = piece.with_gradient(wide_gradient);
        X::Wide::dispatch(PieceKernel { problem, offset, scale, divisors, piece, scratch });
        if let Some(gradient) = gradient {
            X::settle(target, gradient);
        }
    })?;
    Ok(divisors.reduce(losses, &penalties))
}

/// What a thread reuses from piece to piece.
#[derive(Default)]
struct Buffers<T> {
    scratch: Scratch<T>,
    logits: Vec<T>,
    masses: Vec<T>,
    target: Vec<T>,
}

/// What is filled for some rows, with a gradient of numbers `X`.
struct Piece<'a, X: Stored> {
    /// The index of the first of them.
    first: usize,
    losses: &'a mut [X::Wide],
    /// Where penalties go; if nowhere, they are added to the losses.
    penalties: Option<&'a mut [f64]>,
    gradient: Option<&'a mut [X]>,
    upstream: Option<&'a [X::Wide]>,
    statistics: Statistics<'a, X::Wide>,
}

impl<'a, X: Stored> Piece<'a, X> {
    /// The same with another place for the gradient.
    fn with_gradient<'b>(self, gradient: Option<&'b mut [X::Wide]>) -> Piece<'b, X::Wide>
    where
        'a: 'b,
    {
        let Piece { first, losses, penalties, upstream, statistics, .. } = self;
        Piece { first, losses, penalties, gradient, upstream, statistics }
    }
}

struct PieceKernel<'a, 's, T: Element> {
    problem: &'a Problem<'a, T>,
    /// Which row of `problem` is the first of the piece.
    offset: usize,
    scale: T,
    divisors: Divisors<'a>,
    piece: Piece<'a, T>,
    scratch: &'s mut Scratch<T>,
}

impl<T: Element> Kernel<T> for PieceKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let PieceKernel { problem, offset, scale, divisors, mut piece, scratch } = self;
        let (rows, classes) = problem.size();
        let wanted = piece.statistics.wanted();
        for row in 0..piece.losses.len() {
            let (logits, target) = (problem.row(offset + row), problem.target(offset + row));
            let columns = row * classes..(row + 1) * classes;
            let mut gradient = piece.gradient.as_deref_mut().map(|gradient| &mut gradient[columns]);
            if let (Target::Ignored, Some(gradient)) = (target, &mut gradient) {
                gradient.fill(T::ZERO);
            }
            if matches!(target, Target::Ignored) && !piece.statistics.looks_at_ignored_rows() {
                piece.losses[row] = T::ZERO;
                piece.statistics.leave_out(row);
                continue;
            }
            let upstream = piece.upstream.map_or(1.0, |upstream| upstream[row].to_f64());
            let question = Question {
                problem,
                logits,
                ahead: if offset + row + 1 < rows { problem.row(offset + row + 1) } else { &[] },
                scale,
                factors: divisors.factors(piece.first + row, upstream),
                wanted,
            };
            let answer = row_loss(simd, &question, target, scratch, gradient);
            piece.losses[row] = match &mut piece.penalties {
                None => T::from_f64(answer.loss + answer.penalty),
                Some(penalties) => {
                    penalties[row] = answer.penalty;
                    T::from_f64(answer.loss)
                }
            };
            piece.statistics.note(row, &answer);
            if matches!(target, Target::Ignored) {
                piece.statistics.leave_out(row);
            }
        }
    }
}
