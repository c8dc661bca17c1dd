//! Binary cross entropy of logits: (1 - t) softplus(z) + w t softplus(-z), and its gradient; and the focal loss, which
//! multiplies it by a power of how far the probability lies from the target.
//!
//! Both terms are sums of what is not negative and both slopes come from e^{-|z|}, so that a confident logit keeps
//! its digits. A target of 0 or 1 leaves nothing of the other term, even where it is infinite.

use crate::error::{Error, Result};
use crate::rows::{self, weighed};
use crate::threads::{self, Cancel};
use logitscope_simd::math;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// What the loss of an element is multiplied by to make easy ones count less (Lin et al., arXiv 1708.02002).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Focal {
    /// The exponent of u = (1 - t) p + t (1 - p), at least 0.
    pub gamma: f64,
    /// Between 0 and 1: alpha t + (1 - alpha) (1 - t) is another factor.
    pub alpha: Option<f64>,
}

/// What a loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, X: Stored> {
    /// Rows of as many logits as `pos_weight` has.
    pub logits: &'a [X],
    /// The targets, probabilities.
    pub targets: &'a [X],
    /// Factors of the targets' part, one a column.
    pub pos_weight: &'a [X::Wide],
    /// Factors of the losses, one a column or one a logit.
    pub weight: Option<&'a [X::Wide]>,
    /// The focal loss in place of cross entropy.
    pub focal: Option<Focal>,
    /// What derivatives are multiplied by.
    pub factor: f64,
}

impl<X: Stored> Problem<'_, X> {
    fn operation(&self) -> &'static str {
        if self.focal.is_some() { "sigmoid_focal_loss" } else { "binary_cross_entropy_with_logits" }
    }

    fn check(&self) -> Result<()> {
        let operation = self.operation();
        let columns = self.pos_weight.len();
        rows::count_rows(operation, self.logits.len(), columns)?;
        rows::check_len(operation, "targets", self.targets.len(), self.logits.len())?;
        if let Some(weight) = self.weight
            && weight.len() != columns
        {
            rows::check_len(operation, "weight", weight.len(), self.logits.len())?;
        }
        let wrong = |argument, got: f64, expected: &str| {
            let (got, expected) = (format!("{got:?}"), expected.to_owned());
            Err(Error::Argument { operation, argument, got, expected })
        };
        match self.focal {
            Some(Focal { gamma, .. }) if !(gamma >= 0.0 && gamma.is_finite()) => {
                wrong("gamma", gamma, "a finite number of at least 0")
            }
            Some(Focal { alpha: Some(alpha), .. }) if !(0.0..=1.0).contains(&alpha) => {
                wrong("alpha", alpha, "a number in 0..1, or None")
            }
            _ => Ok(()),
        }
    }
}

/// Fills the loss of each logit, and its derivative times the problem's factor.
///
/// # Errors
/// [`Error`] if lengths do not fit or parameters are out of range, or when cancelled.
pub fn binary_cross_entropy<X: Stored>(
    problem: &Problem<'_, X>,
    losses: &mut [X::Wide],
    slopes: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    problem.check()?;
    let &Problem { logits, targets, pos_weight, weight, focal, factor } = problem;
    rows::check_len(problem.operation(), "losses", losses.len(), logits.len())?;
    rows::check_len(problem.operation(), "slopes", slopes.len(), logits.len())?;
    let size = rows::rows_per_piece(pos_weight.len()) * pos_weight.len();
    // One factor a column serves all rows.
    let weights = |start: usize, len: usize| {
        weight.map(|weight| if weight.len() == logits.len() { &weight[start..start + len] } else { weight })
    };
    let inputs = logits.chunks(size).zip(targets.chunks(size)).enumerate();
    let pieces: Vec<_> = inputs.zip(losses.chunks_mut(size).zip(slopes.chunks_mut(size))).collect();
    let focal = focal.map(|Focal { gamma, alpha }| (X::Wide::from_f64(gamma), alpha.map(X::Wide::from_f64)));
    let factor = X::Wide::from_f64(factor);
    let buffers = || (Vec::new(), Vec::new(), Vec::new());
    threads::for_each(
        pieces,
        logits.len(),
        cancel,
        buffers,
        |(z, t, target), ((index, (logits, targets)), (losses, slopes))| {
            let weight = weights(index * size, logits.len());
            let (logits, targets) = (X::wide(logits, z), X::wide(targets, t));
            let wide_slopes = X::target(slopes, target);
            let piece =
                Piece { logits, targets, pos_weight, weight, focal, factor, losses, slopes: wide_slopes };
            X::Wide::dispatch(piece);
            X::settle(target, slopes);
        },
    )
}

struct Piece<'a, T> {
    logits: &'a [T],
    targets: &'a [T],
    pos_weight: &'a [T],
    weight: Option<&'a [T]>,
    focal: Option<(T, Option<T>)>,
    factor: T,
    losses: &'a mut [T],
    slopes: &'a mut [T],
}

impl<T: Element> Kernel<T> for Piece<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let columns = self.pos_weight.len();
        let factor = simd.splat(self.factor);
        let inputs = self.logits.chunks_exact(columns).zip(self.targets.chunks_exact(columns));
        let outputs = self.losses.chunks_exact_mut(columns).zip(self.slopes.chunks_exact_mut(columns));
        for (row, ((logits, targets), (losses, slopes))) in inputs.zip(outputs).enumerate() {
            let weight = match self.weight {
                Some(weight) if weight.len() > columns => Some(&weight[row * columns..(row + 1) * columns]),
                weight => weight,
            };
            for start in (0..columns).step_by(T::LANES) {
                let part = start..columns.min(start + T::LANES);
                let z = simd.load_partial(&logits[part.clone()], T::ZERO);
                let t = simd.load_partial(&targets[part.clone()], T::ZERO);
                let w = simd.load_partial(&self.pos_weight[part.clone()], T::ZERO);
                let found = of_logits(simd, z, t, w);
                let (mut loss, mut slope) = match self.focal {
                    None => (found.loss, found.slope),
                    Some((gamma, alpha)) => focal(simd, t, &found, gamma, alpha),
                };
                if let Some(weight) = weight {
                    let weight = simd.load_partial(&weight[part.clone()], T::ZERO);
                    loss = simd.mul(loss, weight);
                    slope = simd.mul(slope, weight);
                }
                simd.store_partial(loss, &mut losses[part.clone()]);
                simd.store_partial(math::flush(simd, simd.mul(slope, factor)), &mut slopes[part]);
            }
        }
    }
}

/// Losses and derivatives of a vector of logits, and the logistic function of z and of -z.
struct Found<V> {
    loss: V,
    slope: V,
    yes: V,
    no: V,
}

#[inline(always)]
fn of_logits<T: Element, S: Simd<T>>(
    simd: S,
    z: S::Vector,
    t: S::Vector,
    weight: S::Vector,
) -> Found<S::Vector> {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let minus = simd.sub(zero, z);
    let negative = simd.less(z, zero);
    let u = math::exp(simd, simd.select(negative, z, minus));
    // ln(1 + u), with what rounding 1 + u loses given back (Kahan).
    let sum = simd.add(one, u);
    let rounded = simd.sub(sum, one);
    let quotient = simd.div(simd.mul(math::ln(simd, sum), u), rounded);
    let log = simd.select(simd.less(zero, rounded), quotient, u);
    let near = simd.div(one, sum);
    let far = simd.div(u, sum);
    let (off, on) = (simd.sub(one, t), simd.mul(weight, t));
    // softplus(z) and softplus(-z).
    let up = simd.add(simd.select(negative, zero, z), log);
    let down = simd.add(simd.select(negative, minus, zero), log);
    let (yes, no) = (simd.select(negative, far, near), simd.select(negative, near, far));
    let loss = simd.add(weighed(simd, off, up), weighed(simd, on, down));
    let slope = simd.sub(weighed(simd, off, yes), weighed(simd, on, no));
    Found { loss, slope, yes, no }
}

/// The focal loss and its derivative: a u^gamma L with u = (1 - t) p + t (1 - p), and
/// a u^gamma (gamma u' / u L + L').
#[inline(always)]
fn focal<T: Element, S: Simd<T>>(
    simd: S,
    t: S::Vector,
    found: &Found<S::Vector>,
    gamma: T,
    alpha: Option<T>,
) -> (S::Vector, S::Vector) {
    let &Found { loss, slope, yes, no } = found;
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let off = simd.sub(one, t);
    let mut scale = one;
    let mut slope = slope;
    if gamma != T::ZERO {
        let u = simd.mul_add(off, yes, simd.mul(t, no));
        let gamma = simd.splat(gamma);
        scale = math::exp(simd, simd.mul(gamma, math::ln(simd, u)));
        // u' / u: where a target is 0 or 1, numerator and denominator share a factor that may be 0.
        let between = simd.div(simd.mul(simd.sub(off, t), simd.mul(yes, no)), u);
        let at_ends = simd.select(simd.less(zero, t), simd.sub(zero, yes), no);
        let is_between = simd.less(zero, simd.mul(t, off));
        let ratio = simd.select(is_between, between, at_ends);
        slope = simd.add(weighed(simd, simd.mul(gamma, ratio), loss), slope);
    }
    if let Some(alpha) = alpha {
        let (alpha, rest) = (simd.splat(alpha), simd.splat(T::ONE - alpha));
        scale = simd.mul(scale, simd.mul_add(alpha, t, simd.mul(rest, off)));
    }
    (simd.mul(scale, loss), simd.mul(scale, slope))
}
