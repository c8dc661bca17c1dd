//! Cross entropy of rows of logits against class indices, and its gradient in the same call.
//!
//! Complement form: let d be the distance from the target's logit to the largest one, and R the sum of
//! e^{z - max} over all classes **other** than the target. The loss is v = `ln_1p(R)` where d = 0, else
//! d + ln(R + e^{-d}), and the gradient at the target is -R / (R + e^{-d}). Neither is a small difference of
//! numbers near 1, so losses and gradients of confident rows stay accurate down to the smallest normal number.

use crate::error::{Error, Result};
use crate::logsumexp::logsumexp_row;
use crate::rows::{self, Empty};
use crate::threads::{self, Cancel};
use crate::view::Heads;
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Kernel, Simd};

const NAME: &str = "cross_entropy";

/// Elements searched one by one for the first maximum.
const SEARCH: usize = 256;

/// How the losses of the rows become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// They stay apart.
    None,
    /// Their sum.
    Sum,
    /// Their sum over the number of rows that are not ignored.
    Mean,
}

/// What the loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, T> {
    /// The logits, classes in the last axis; what remains, in row-major order, are the rows.
    pub logits: Heads<'a, T>,
    /// The class of each row.
    pub targets: &'a [i64],
    /// Rows with this target have no loss and no gradient, whatever their logits hold.
    pub ignore_index: i64,
    /// How the losses become one number.
    pub reduction: Reduction,
    /// What the mean of no rows is.
    pub empty: Empty,
}

/// The arrays to fill.
#[derive(Debug)]
pub struct Output<'a, T> {
    /// The loss of each row, 0 where it is ignored.
    pub losses: &'a mut [T],
    /// The gradient of the reduced loss with respect to the logits.
    pub gradient: Option<Gradient<'a, T>>,
    /// The logarithm of the sum of exponentials of each row.
    pub lse: Option<&'a mut [T]>,
    /// The first class with the largest logit of each row; NaN is passed over.
    pub argmax: Option<&'a mut [i64]>,
}

/// A gradient to fill.
#[derive(Debug)]
pub struct Gradient<'a, T> {
    /// Shaped as the logits.
    pub logits: &'a mut [T],
    /// The gradient of what follows with respect to the loss of each row (before the division of a mean);
    /// all ones if there is none.
    pub upstream: Option<&'a [T]>,
}

/// Fills `output` and returns the reduced loss (for [`Reduction::None`], their sum).
///
/// # Errors
/// [`Error::Target`] for a target that is neither a class nor ignored, before anything is written;
/// [`Error::Shape`] if lengths do not fit; [`Error::Interrupted`] when cancelled.
pub fn cross_entropy<T: Element>(
    problem: &Problem<'_, T>,
    output: Output<'_, T>,
    cancel: &Cancel,
) -> Result<f64> {
    let live = problem.check()?;
    let (rows, classes) = problem.size();
    output.check(problem)?;
    let divisor = if problem.reduction == Reduction::Mean { live as f64 } else { 1.0 };

    let size = rows::rows_per_piece(classes);
    let Output { losses, gradient, lse, argmax } = output;
    let (gradient, upstream) = gradient.map_or((None, None), |g| (Some(g.logits), g.upstream));
    let mut gradients = gradient.map(|g| g.chunks_mut(size * classes));
    let mut upstreams = upstream.map(|u| u.chunks(size));
    let mut lses = lse.map(|l| l.chunks_mut(size));
    let mut argmaxes = argmax.map(|a| a.chunks_mut(size));
    let pieces: Vec<_> = losses
        .chunks_mut(size)
        .enumerate()
        .map(|(index, losses)| Piece {
            problem,
            first: index * size,
            losses,
            gradient: gradients.as_mut().and_then(Iterator::next),
            upstream: upstreams.as_mut().and_then(Iterator::next),
            lse: lses.as_mut().and_then(Iterator::next),
            argmax: argmaxes.as_mut().and_then(Iterator::next),
            divisor,
        })
        .collect();
    threads::for_each(pieces, rows * classes, cancel, || (), |(), piece| T::dispatch(piece))?;

    if problem.reduction == Reduction::Mean && live == 0 {
        return Ok(if problem.empty == Empty::Nan { f64::NAN } else { 0.0 });
    }
    Ok(rows::pairwise_sum(losses) / divisor)
}

impl<T: Element> Problem<'_, T> {
    /// The numbers of rows and classes.
    pub fn size(&self) -> (usize, usize) {
        let [a, b, c, classes] = self.logits.shape();
        (a * b * c, classes)
    }

    #[inline(always)]
    fn row(&self, index: usize) -> &[T] {
        let [_, b, c, _] = self.logits.shape();
        let (outer, row) = (index / c, index % c);
        self.logits.matrix(outer / b, outer % b).row(row)
    }

    /// Checks lengths and targets; returns how many rows are not ignored.
    fn check(&self) -> Result<usize> {
        let (rows, classes) = self.size();
        if classes == 0 {
            return Err(Error::Shape {
                operation: NAME,
                argument: "logits",
                got: format!("{:?}", self.logits.shape()),
                expected: "at least one class".to_owned(),
            });
        }
        rows::check_len(NAME, "targets", self.targets.len(), rows)?;
        let mut live = 0;
        for (row, &value) in self.targets.iter().enumerate() {
            if value == self.ignore_index {
                continue;
            }
            if !usize::try_from(value).is_ok_and(|class| class < classes) {
                return Err(Error::Target { operation: NAME, row, value, classes });
            }
            live += 1;
        }
        Ok(live)
    }
}

impl<T: Element> Output<'_, T> {
    fn check(&self, problem: &Problem<'_, T>) -> Result<()> {
        let (rows, classes) = problem.size();
        rows::check_len(NAME, "losses", self.losses.len(), rows)?;
        if let Some(gradient) = &self.gradient {
            rows::check_len(NAME, "gradient", gradient.logits.len(), rows * classes)?;
            rows::check_len(NAME, "upstream", gradient.upstream.map_or(rows, <[T]>::len), rows)?;
        }
        rows::check_len(NAME, "lse", self.lse.as_ref().map_or(rows, |lse| lse.len()), rows)?;
        rows::check_len(NAME, "argmax", self.argmax.as_ref().map_or(rows, |argmax| argmax.len()), rows)
    }
}

/// Some rows of a problem and what is filled for them.
struct Piece<'a, T> {
    problem: &'a Problem<'a, T>,
    /// The index of the first of them.
    first: usize,
    losses: &'a mut [T],
    gradient: Option<&'a mut [T]>,
    upstream: Option<&'a [T]>,
    lse: Option<&'a mut [T]>,
    argmax: Option<&'a mut [i64]>,
    divisor: f64,
}

impl<T: Element> Kernel<T> for Piece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(mut self, simd: S) {
        let (_, classes) = self.problem.size();
        for row in 0..self.losses.len() {
            let (logits, target) =
                (self.problem.row(self.first + row), self.problem.targets[self.first + row]);
            let columns = row * classes..(row + 1) * classes;
            let gradient = self.gradient.as_deref_mut().map(|gradient| &mut gradient[columns]);
            let max = match &mut self.argmax {
                Some(argmax) => {
                    let (max, index) = first_maximum(simd, logits);
                    argmax[row] = index as i64;
                    max
                }
                None => rows::maximum(simd, logits),
            };
            if target == self.problem.ignore_index {
                self.losses[row] = T::ZERO;
                if let Some(gradient) = gradient {
                    gradient.fill(T::ZERO);
                }
                if let Some(lse) = &mut self.lse {
                    lse[row] = logsumexp_row(simd, logits);
                }
                continue;
            }
            let factor = self.upstream.map_or(1.0, |upstream| upstream[row].to_f64()) / self.divisor;
            let loss = loss_of_row(simd, logits, target as usize, max, factor, gradient);
            self.losses[row] = T::from_f64(loss.value);
            if let Some(lse) = &mut self.lse {
                lse[row] = T::from_f64(max.to_f64() + loss.total.ln());
            }
        }
    }
}

/// What one row gives.
struct RowLoss {
    /// v = -ln p of the target.
    value: f64,
    /// The sum of e^{z - max} over all classes.
    total: f64,
}

/// The loss of one row with the largest logit `max`, and `factor` times its gradient.
#[inline(always)]
fn loss_of_row<T: Element, S: Simd<T>>(
    simd: S,
    logits: &[T],
    target: usize,
    max: T,
    factor: f64,
    gradient: Option<&mut [T]>,
) -> RowLoss {
    let exp = ExpBelow::new(simd, max, T::ONE);
    let (before, after) = (&logits[..target], &logits[target + 1..]);
    let distance = max.to_f64() - logits[target].to_f64();
    let own = (-distance).exp();
    let loss = |others: f64| {
        let total = others + own;
        let value = if distance == 0.0 { others.ln_1p() } else { distance + total.ln() };
        RowLoss { value, total }
    };
    let Some(gradient) = gradient else {
        return loss(rows::sum_exp(simd, &exp, before) + rows::sum_exp(simd, &exp, after));
    };
    let others = rows::exp_into(simd, &exp, before, &mut gradient[..target])
        + rows::exp_into(simd, &exp, after, &mut gradient[target + 1..]);
    let loss = loss(others);
    // Whatever lies at the target is replaced: R stands there, not 1 - p.
    gradient[target] = T::ZERO;
    rows::scale(simd, gradient, T::from_f64(factor / loss.total));
    gradient[target] = rows::normal_or_zero(-factor * (others / loss.total));
    loss
}

/// The largest logit and the index of the first that equals it.
#[inline(always)]
fn first_maximum<T: Element, S: Simd<T>>(simd: S, logits: &[T]) -> (T, usize) {
    let (mut max, mut start) = (T::NEG_INFINITY, 0);
    for (index, part) in logits.chunks(SEARCH).enumerate() {
        let largest = rows::maximum(simd, part);
        if largest > max {
            (max, start) = (largest, index * SEARCH);
        }
    }
    let part = &logits[start..logits.len().min(start + SEARCH)];
    (max, start + part.iter().position(|&x| x == max).unwrap_or(0))
}
