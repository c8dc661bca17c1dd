//! Losses of rows of logits against classes that are no function of the softmax: over `StableMax`, the margin, and the
//! spherical family, whose rows are seen through their sum, their sum of squares and the target's logit.

mod margin;
mod spherical;
mod stablemax;

use crate::cross_entropy::{Divisors, Reduction, check_classes, check_weight, split_off};
use crate::error::{Error, Result};
use crate::rows::{self, Empty};
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd, Stored};
use stablemax::Masses;

/// Which loss is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowLoss {
    /// -log of the target's share of s(z), s(x) = 1 + x above 0 and 1 / (1 - x) below (Prieto et al.,
    /// arXiv 2501.04697).
    StableMax {
        /// The part of the target's mass that all classes share, 0..1.
        label_smoothing: f64,
    },
    /// The largest other logit less the target's.
    Margin,
    /// -log of the target's share of 1 + z + z² / 2 (Vincent, de Brébisson and Bouthillier, arXiv 1412.7091).
    Taylor,
    /// The squared distance of z from the target's unit vector.
    Squared,
    /// -log of the target's share of z² + epsilon.
    Spherical {
        /// Above 0.
        epsilon: f64,
    },
    /// softplus(a (b - z)) / a of the target's standardised logit z (de Brébisson and Vincent, arXiv 1604.08859).
    ZStandardized {
        /// Above 0.
        a: f64,
        /// Any finite number.
        b: f64,
    },
}

/// What a loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, X: Stored> {
    /// Rows of `classes` logits, one after the other.
    pub logits: &'a [X],
    /// The length of a row.
    pub classes: usize,
    /// The class of each row.
    pub targets: &'a [i64],
    /// Rows with this target have no loss and no gradient.
    pub ignore_index: i64,
    /// A factor for the loss of each class, not negative.
    pub weight: Option<&'a [X::Wide]>,
    /// Which loss.
    pub loss: RowLoss,
    /// How the losses become one number.
    pub reduction: Reduction,
    /// What the mean of no rows is.
    pub empty: Empty,
}

impl RowLoss {
    /// The name of the loss's operation.
    pub fn name(self) -> &'static str {
        match self {
            RowLoss::StableMax { .. } => "stablemax_cross_entropy",
            RowLoss::Margin => "margin_loss",
            RowLoss::Taylor => "taylor_softmax_loss",
            RowLoss::Squared => "squared_error_loss",
            RowLoss::Spherical { .. } => "spherical_softmax_loss",
            RowLoss::ZStandardized { .. } => "z_standardized_loss",
        }
    }

    fn check(self, classes: usize) -> Result<()> {
        let wrong = |argument, got: f64, expected: &str| {
            let (got, expected) = (format!("{got:?}"), expected.to_owned());
            Err(Error::Argument { operation: self.name(), argument, got, expected })
        };
        let positive = "a positive finite number";
        match self {
            RowLoss::StableMax { label_smoothing: part } if !(0.0..=1.0).contains(&part) => {
                wrong("label_smoothing", part, "a number in 0..1")
            }
            RowLoss::Spherical { epsilon } if !(epsilon > 0.0 && epsilon.is_finite()) => {
                wrong("epsilon", epsilon, positive)
            }
            RowLoss::ZStandardized { a, .. } if !(a > 0.0 && a.is_finite()) => wrong("a", a, positive),
            RowLoss::ZStandardized { b, .. } if !b.is_finite() => wrong("b", b, "a finite number"),
            RowLoss::ZStandardized { .. } | RowLoss::Margin if classes < 2 => Err(Error::Shape {
                operation: self.name(),
                argument: "logits",
                got: format!("(..., {classes})"),
                expected: "at least two classes".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// Fills the loss of each row, and the gradient of the reduced loss if there is where; returns the reduced loss.
///
/// # Errors
/// [`crate::Error`] for targets that are no classes, lengths that do not fit, or parameters out of range, before
/// anything is written; or when cancelled.
pub fn row_loss<X: Stored>(
    problem: &Problem<'_, X>,
    losses: &mut [X::Wide],
    gradient: Option<&mut [X]>,
    cancel: &Cancel,
) -> Result<f64> {
    let &Problem { logits, classes, targets, weight, .. } = problem;
    let operation = problem.loss.name();
    let count = rows::count_rows(operation, logits.len(), classes)?;
    problem.loss.check(classes)?;
    rows::check_len(operation, "targets", targets.len(), count)?;
    rows::check_len(operation, "losses", losses.len(), count)?;
    check_weight(operation, weight, classes)?;
    rows::check_len(
        operation,
        "gradient",
        gradient.as_ref().map_or(logits.len(), |g| g.len()),
        logits.len(),
    )?;
    let (weights, live) = check_classes(operation, targets, problem.ignore_index, classes, weight)?;
    let divisors = Divisors::new(problem.reduction, None, weights, live, problem.empty);
    let size = rows::rows_per_piece(classes);
    let mut gradient = gradient;
    let pieces: Vec<_> = losses
        .chunks_mut(size)
        .enumerate()
        .map(|(index, losses)| (index * size, split_off(&mut gradient, losses.len() * classes), losses))
        .collect();
    let buffers = || (Vec::new(), Vec::new());
    threads::for_each(pieces, logits.len(), cancel, buffers, |(wide, target), piece| {
        let (first, mut gradient, losses) = piece;
        let &Problem { ignore_index, loss, reduction, empty, .. } = problem;
        let rows = first..first + losses.len();
        let logits = X::wide(&logits[rows.start * classes..rows.end * classes], wide);
        let targets = &targets[rows];
        let part = Problem { logits, classes, targets, ignore_index, weight, loss, reduction, empty };
        let wide_gradient = gradient.as_deref_mut().map(|gradient| X::target(gradient, target));
        X::Wide::dispatch(Piece { problem: &part, divisors, first, losses, gradient: wide_gradient });
        if let Some(gradient) = gradient {
            X::settle(target, gradient);
        }
    })?;
    Ok(divisors.reduce(losses, &[]))
}

/// Some rows and what is filled for them.
struct Piece<'a, T: Element> {
    /// What the loss of these rows is taken of.
    problem: &'a Problem<'a, T>,
    divisors: Divisors<'a>,
    /// The index of the first among all rows.
    first: usize,
    losses: &'a mut [T],
    gradient: Option<&'a mut [T]>,
}

impl<T: Element> Kernel<T> for Piece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(mut self, simd: S) {
        let &Problem { logits, classes, targets, ignore_index, weight, loss, .. } = self.problem;
        for row in 0..self.losses.len() {
            let logits = &logits[row * classes..(row + 1) * classes];
            let mut gradient = split_off(&mut self.gradient, classes);
            if targets[row] == ignore_index {
                self.losses[row] = T::ZERO;
                if let Some(gradient) = &mut gradient {
                    gradient.fill(T::ZERO);
                }
                continue;
            }
            let target = targets[row] as usize;
            let own = weight.map_or(1.0, |weight| weight[target].to_f64());
            let factor = self.divisors.factors(self.first + row, 1.0).0;
            let value = match loss {
                RowLoss::StableMax { label_smoothing } if label_smoothing > 0.0 => {
                    let kept = own * (1.0 - label_smoothing);
                    let masses = Masses { kept, share: label_smoothing / classes as f64, weight };
                    stablemax::smooth_row(simd, logits, target, masses, factor, gradient)
                }
                RowLoss::StableMax { .. } => {
                    own * stablemax::row(simd, logits, target, own * factor, gradient)
                }
                RowLoss::Margin => own * margin::row(simd, logits, target, own * factor, gradient),
                _ => own * spherical::row(simd, loss, logits, target, own * factor, gradient),
            };
            self.losses[row] = T::from_f64(value);
        }
    }
}
