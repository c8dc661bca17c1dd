//! From the losses of rows to one number.

use crate::rows::{self, Empty};
use logitscope_simd::Element;

/// How the losses of the rows become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// They stay apart.
    None,
    /// Their sum.
    Sum,
    /// Their sum over the weights of the rows that are not ignored.
    Mean,
}

/// What replaces the divisor of a mean.
#[derive(Clone, Copy, Debug)]
pub enum Normalizer<'a> {
    /// One for the sum.
    All(f64),
    /// One a row.
    Rows(&'a [f64]),
}

/// The divisors of the losses and of the penalties.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divisors<'a> {
    loss: f64,
    penalty: f64,
    rows: Option<&'a [f64]>,
    empty: Empty,
}

impl<'a> Divisors<'a> {
    /// Those of a reduction over rows whose weights have a sum, of which `live` are not ignored.
    pub(crate) fn new(
        reduction: Reduction,
        normalizer: Option<Normalizer<'a>>,
        weights: f64,
        live: usize,
        empty: Empty,
    ) -> Self {
        let (loss, penalty, rows) = match (reduction, normalizer) {
            (Reduction::None | Reduction::Sum, _) => (1.0, 1.0, None),
            (Reduction::Mean, None) => (weights, live as f64, None),
            (Reduction::Mean, Some(Normalizer::All(divisor))) => (divisor, divisor, None),
            (Reduction::Mean, Some(Normalizer::Rows(rows))) => (1.0, 1.0, Some(rows)),
        };
        Self { loss, penalty, rows, empty }
    }

    /// What the gradients of a row's loss and of its penalties are multiplied by.
    #[inline(always)]
    pub(crate) fn factors(&self, row: usize, upstream: f64) -> (f64, f64) {
        let upstream = self.rows.map_or(upstream, |rows| upstream / rows[row]);
        // Live rows of no weight have a gradient only if the mean of nothing is a number.
        let loss = if self.loss == 0.0 && self.empty == Empty::Zero { 0.0 } else { upstream / self.loss };
        (loss, upstream / self.penalty)
    }

    /// The reduced losses; `penalties` may be empty.
    pub(crate) fn reduce<T: Element>(&self, losses: &[T], penalties: &[f64]) -> f64 {
        let penalty = if penalties.is_empty() { 0.0 } else { self.sum(penalties) / self.penalty };
        if self.loss > 0.0 {
            return self.sum(losses) / self.loss + penalty;
        }
        match self.empty {
            Empty::Nan => f64::NAN,
            Empty::Zero if self.penalty > 0.0 => penalty,
            Empty::Zero => 0.0,
        }
    }

    fn sum<T: Element>(&self, list: &[T]) -> f64 {
        match self.rows {
            None => rows::pairwise_sum(list),
            Some(divisors) => {
                let parts: Vec<f64> = list.iter().zip(divisors).map(|(x, n)| x.to_f64() / n).collect();
                rows::pairwise_sum(&parts)
            }
        }
    }
}
