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

pub use link::Link;
pub use problem::{Gradient, Options, Output, Problem, Statistics, Targets};
pub(crate) use problem::{check_classes, check_weight, split_off};
pub(crate) use reduce::Divisors;
pub use reduce::{Normalizer, Reduction};

use crate::error::Result;
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd};
use problem::Target;
use row::{Question, first_maximum, plain_row};
use spread_row::{Scratch, spread_row};

const NAME: &str = "cross_entropy";

/// Fills `output` and returns the reduced loss (for [`Reduction::None`], their sum).
///
/// # Errors
/// [`crate::Error::Target`] for a target that is neither a class nor ignored, before anything is written;
/// [`crate::Error::Shape`] if lengths do not fit; [`crate::Error::Argument`] for options out of range;
/// [`crate::Error::Interrupted`] when cancelled.
pub fn cross_entropy<T: Element>(
    problem: &Problem<'_, T>,
    output: Output<'_, T>,
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
            problem,
            scale,
            divisors,
            first: index * size,
            statistics: statistics.split_off(losses.len()),
            losses,
            penalties: parts.next(),
            gradient: gradients.as_mut().and_then(Iterator::next),
            upstream: upstreams.as_mut().and_then(Iterator::next),
        })
        .collect();
    threads::for_each(pieces, rows * classes, cancel, Scratch::default, |scratch, piece| {
        T::dispatch(PieceKernel { piece, scratch });
    })?;
    Ok(divisors.reduce(losses, &penalties))
}

/// Some rows of a problem and what is filled for them.
struct Piece<'a, T> {
    problem: &'a Problem<'a, T>,
    scale: T,
    divisors: Divisors<'a>,
    /// The index of the first of them.
    first: usize,
    losses: &'a mut [T],
    /// Where penalties go; if nowhere, they are added to the losses.
    penalties: Option<&'a mut [f64]>,
    gradient: Option<&'a mut [T]>,
    upstream: Option<&'a [T]>,
    statistics: Statistics<'a, T>,
}

struct PieceKernel<'a, 's, T> {
    piece: Piece<'a, T>,
    scratch: &'s mut Scratch<T>,
}

impl<T: Element> Kernel<T> for PieceKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let PieceKernel { mut piece, scratch } = self;
        let problem = piece.problem;
        let (_, classes) = problem.size();
        let options = &problem.options;
        let spread = piece.statistics.entropy.is_some()
            || options.softcap.is_some()
            || options.label_smoothing > 0.0
            || options.has_penalties()
            || matches!(problem.targets, Targets::Masses(_));
        for row in 0..piece.losses.len() {
            let (logits, target) = (problem.row(piece.first + row), problem.target(piece.first + row));
            let columns = row * classes..(row + 1) * classes;
            let mut gradient = piece.gradient.as_deref_mut().map(|gradient| &mut gradient[columns]);
            let max = match &mut piece.statistics.argmax {
                Some(argmax) => {
                    let (max, index) = first_maximum(simd, logits);
                    argmax[row] = index as i64;
                    max
                }
                None if spread => T::NAN,
                None => rows::maximum(simd, logits),
            };
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
                scale: piece.scale,
                factors: piece.divisors.factors(piece.first + row, upstream),
                wants_margin: piece.statistics.margin.is_some(),
                wants_entropy: piece.statistics.entropy.is_some(),
            };
            let answer = match target {
                Target::Class(class) if !spread => plain_row(simd, &question, class, max, gradient),
                Target::Ignored => spread_row(simd, &question, target, scratch, None),
                _ => spread_row(simd, &question, target, scratch, gradient),
            };
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
