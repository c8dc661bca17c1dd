//! Binary cross entropy of logits: (1 - t) softplus(z) + w t softplus(-z), and its gradient.
//!
//! Both terms are sums of what is not negative and both slopes come from e^{-|z|}, so that a confident logit keeps
//! its digits. A target of 0 or 1 leaves nothing of the other term, even where it is infinite.

use crate::error::Result;
use crate::rows::{self, weighed};
use crate::threads::{self, Cancel};
use logitscope_simd::math;
use logitscope_simd::{Element, Kernel, Simd, Stored};

const NAME: &str = "binary_cross_entropy_with_logits";

/// Fills the loss of each logit of rows of `columns`, and its derivative times `factor`; `pos_weight` has the factors
/// of the targets' part, one a column.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn binary_cross_entropy<X: Stored>(
    logits: &[X],
    targets: &[X],
    pos_weight: &[X::Wide],
    factor: f64,
    losses: &mut [X::Wide],
    slopes: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    let columns = pos_weight.len();
    rows::count_rows(NAME, logits.len(), columns)?;
    rows::check_len(NAME, "targets", targets.len(), logits.len())?;
    rows::check_len(NAME, "losses", losses.len(), logits.len())?;
    rows::check_len(NAME, "slopes", slopes.len(), logits.len())?;
    let factor = X::Wide::from_f64(factor);
    let size = rows::rows_per_piece(columns) * columns;
    let inputs = logits.chunks(size).zip(targets.chunks(size));
    let pieces: Vec<_> = inputs.zip(losses.chunks_mut(size).zip(slopes.chunks_mut(size))).collect();
    let buffers = || (Vec::new(), Vec::new(), Vec::new());
    threads::for_each(
        pieces,
        logits.len(),
        cancel,
        buffers,
        |(z, t, target), ((logits, targets), outputs)| {
            let (losses, slopes) = outputs;
            let (logits, targets) = (X::wide(logits, z), X::wide(targets, t));
            let wide_slopes = X::target(slopes, target);
            X::Wide::dispatch(Piece { logits, targets, pos_weight, factor, losses, slopes: wide_slopes });
            X::settle(target, slopes);
        },
    )
}

struct Piece<'a, T> {
    logits: &'a [T],
    targets: &'a [T],
    pos_weight: &'a [T],
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
        for ((logits, targets), (losses, slopes)) in inputs.zip(outputs) {
            for start in (0..columns).step_by(T::LANES) {
                let part = start..columns.min(start + T::LANES);
                let z = simd.load_partial(&logits[part.clone()], T::ZERO);
                let t = simd.load_partial(&targets[part.clone()], T::ZERO);
                let w = simd.load_partial(&self.pos_weight[part.clone()], T::ZERO);
                let (loss, slope) = of_logits(simd, z, t, w);
                simd.store_partial(loss, &mut losses[part.clone()]);
                let slope = math::flush(simd, simd.mul(slope, factor));
                simd.store_partial(slope, &mut slopes[part]);
            }
        }
    }
}

/// Losses and derivatives of a vector of logits.
#[inline(always)]
fn of_logits<T: Element, S: Simd<T>>(
    simd: S,
    z: S::Vector,
    t: S::Vector,
    weight: S::Vector,
) -> (S::Vector, S::Vector) {
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    let minus = simd.sub(zero, z);
    let negative = simd.less(z, zero);
    let u = math::exp(simd, simd.select(negative, z, minus));
    // ln(1 + u), with what rounding 1 + u loses given back (Kahan).
    let sum = simd.add(one, u);
    let rounded = simd.sub(sum, one);
    let quotient = simd.div(simd.mul(math::ln(simd, sum), u), rounded);
    let log = simd.select(simd.less(zero, rounded), quotient, u);
    let yes = simd.div(one, sum);
    let no = simd.div(u, sum);
    let (off, on) = (simd.sub(one, t), simd.mul(weight, t));
    // softplus(z) and softplus(-z); the logistic function of z and of -z.
    let up = simd.add(simd.select(negative, zero, z), log);
    let down = simd.add(simd.select(negative, minus, zero), log);
    let (of_z, of_minus) = (simd.select(negative, no, yes), simd.select(negative, yes, no));
    let loss = simd.add(weighed(simd, off, up), weighed(simd, on, down));
    let slope = simd.sub(weighed(simd, off, of_z), weighed(simd, on, of_minus));
    (loss, slope)
}
