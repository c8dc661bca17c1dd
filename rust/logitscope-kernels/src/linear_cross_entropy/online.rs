//! What is kept of a row while its logits come and go.

use crate::cross_entropy::{RowSum, Seen};
use crate::rows;
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Simd};

/// A row of logits seen so far, after the softcap and before what they are scaled by: the target's logit, and of the
/// others the largest, the sum of the exponentials below it, and that sum weighted with the distances below it.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// The target's logit; negative infinity if there is no target.
    pub own: f64,
    /// The largest other.
    pub max: f64,
    /// The sum of e^{scale (z - max)}.
    others: f64,
    /// The sum of e^{scale (z - max)} scale (max - z); 0 if nobody needs it.
    depth: f64,
}

impl From<[f64; 4]> for State {
    fn from([own, max, others, depth]: [f64; 4]) -> Self {
        Self { own, max, others, depth }
    }
}

impl From<State> for [f64; 4] {
    fn from(State { own, max, others, depth }: State) -> Self {
        [own, max, others, depth]
    }
}

impl State {
    /// A row of which only the target's logit is known.
    pub(super) fn new(own: f64) -> Self {
        Self { own, max: f64::NEG_INFINITY, others: 0.0, depth: 0.0 }
    }

    /// Takes in a part of the row, without the target.
    #[inline(always)]
    pub(super) fn merge<T: Element, S: Simd<T>>(
        &mut self,
        simd: S,
        part: &[T],
        scale: T,
        powers: Option<&mut Vec<T>>,
    ) {
        let largest = rows::maximum(simd, part);
        // Where nothing is above negative infinity there may be NaN, which any finite maximum shows.
        let top = if largest == T::NEG_INFINITY { T::ZERO } else { largest };
        let exp = ExpBelow::new(simd, top, scale);
        let (others, depth) = match powers {
            None => (rows::sum_exp(simd, &exp, part), 0.0),
            Some(powers) => {
                powers.resize(part.len(), T::ZERO);
                let sum = rows::exp_into(simd, &exp, part, powers);
                (sum, rows::weighted_distance(simd, powers, part, top, scale))
            }
        };
        if others == 0.0 {
            return;
        }
        let part = Self { own: self.own, max: top.to_f64(), others, depth };
        let max = self.max.max(part.max);
        let (a, b) = (self.below(max, scale.to_f64()), part.below(max, scale.to_f64()));
        *self = Self { own: self.own, max, others: a.0 + b.0, depth: a.1 + b.1 };
    }

    /// The sum and the weighted sum of the others below a maximum that is at least theirs.
    fn below(&self, max: f64, scale: f64) -> (f64, f64) {
        if self.others == 0.0 {
            return (0.0, 0.0);
        }
        let distance = (max - self.max) * scale;
        let factor = (-distance).exp();
        // What is so far below that nothing of it is left adds nothing, however far.
        let depth = if factor == 0.0 { 0.0 } else { factor * (self.depth + distance * self.others) };
        (factor * self.others, depth)
    }

    /// The whole row, seen from the target.
    pub(super) fn seen<T: Element>(&self, scale: T) -> Seen<T> {
        let (top, factor) = (self.max.max(self.own), scale.to_f64());
        let distance = (top - self.own) * factor;
        let (others, depth) = self.below(top, factor);
        let sum = RowSum::new::<T>(others, distance, true);
        let own_depth = if sum.own == 0.0 { 0.0 } else { sum.own * distance };
        let (lse, depth) = (top * factor + sum.ln, (depth + own_depth) / sum.total);
        Seen { max: T::from_f64(top), scale, distance, lse, depth, sum }
    }
}
