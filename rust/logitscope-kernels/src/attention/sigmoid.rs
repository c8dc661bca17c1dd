//! Sigmoid weighting: `w = 1 / (1 + e^-(s + b))` of each key for itself, and its derivatives.
//!
//! Everything is computed from `e = e^-|s + b|`, which keeps the relative accuracy of small weights; those are most of
//! them, as `b` is about `-ln n`.

use super::moments::{Moments, quotient};
use super::problem::{Problem, SigmoidBias, Weighting};
use super::row_state::{RowState, RowTerms, sums};
use super::sight::Sight;
use super::tile::QUERY_BLOCKS;
use logitscope_simd::{Element, Simd, math};
use std::ops::Range;

/// What is added to the scores of a query, lane `lane` of the tile of `sight`.
pub(super) fn bias_of<T: Element>(
    problem: &Problem<'_, T>,
    sight: &Sight<'_, T>,
    bias: SigmoidBias<'_, T>,
    head: usize,
    query: usize,
    lane: usize,
) -> T {
    match bias {
        SigmoidBias::Heads(bias) => bias[head],
        SigmoidBias::Visible => {
            let (band, _) = sight.band_of(query);
            let count = if problem.masks.scores.is_some() || problem.bias.is_some() {
                band.filter(|&key| sight.allows(key, lane)).count()
            } else {
                band.len()
            };
            -T::from_f64(count.max(1) as f64).ln()
        }
    }
}

/// What is added to the scores of each query of a tile, in the lanes; nothing with softmax.
pub(super) fn biases<T: Element>(
    problem: &Problem<'_, T>,
    sight: &Sight<'_, T>,
    head: usize,
    queries: &Range<usize>,
) -> [T::Block; QUERY_BLOCKS] {
    let mut biases = [T::block(T::ZERO); QUERY_BLOCKS];
    if let Weighting::Sigmoid(bias) = problem.weighting {
        for (lane, query) in queries.clone().enumerate() {
            let bias = bias_of(problem, sight, bias, head, query, lane);
            biases[lane / T::LANES].as_mut()[lane % T::LANES] = bias;
        }
    }
    biases
}

/// `e^-|x|` and `1 / (1 + e^-|x|)`.
#[inline(always)]
fn parts<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> (S::Vector, S::Vector) {
    let zero = simd.splat(T::ZERO);
    let magnitude = simd.max(x, simd.sub(zero, x));
    let e = math::exp(simd, simd.sub(zero, magnitude));
    let one = simd.splat(T::ONE);
    (e, simd.div(one, simd.add(one, e)))
}

/// `1 / (1 + e^-x)`, accurate where it is small.
#[inline(always)]
pub(super) fn weight<T: Element, S: Simd<T>>(simd: S, x: S::Vector) -> S::Vector {
    let (e, high) = parts(simd, x);
    simd.select(simd.less(x, simd.splat(T::ZERO)), simd.mul(e, high), high)
}

/// `ln w` of the weight of `x`, from `e = e^-|x|`.
#[inline(always)]
fn log_weight<T: Element, S: Simd<T>>(simd: S, x: S::Vector, e: S::Vector) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    let below = simd.select(simd.less(x, zero), x, zero);
    simd.sub(below, math::ln(simd, simd.add(simd.splat(T::ONE), e)))
}

/// Turns one vector of rows' scores, of which `max` is the largest, or of those before, into weights and adds them to the
/// state, and the moments of the scores under them to `moments` where the variance is wanted.
#[inline(always)]
pub(super) fn weigh<T: Element, S: Simd<T>, const SUMS: usize>(
    simd: S,
    scores: &mut [T::Block],
    width: usize,
    block: usize,
    (bias, max): (S::Vector, S::Vector),
    state: &mut RowState<S::Vector>,
    moments: &mut Moments<S::Vector>,
) {
    let zero = simd.splat(T::ZERO);
    let shift = moments.shifted(simd, max);
    // Of this tile: added key by key to those before, they would lose digits with the length of the row.
    let (mut sum, mut moment, mut first, mut second) = (zero, zero, zero, zero);
    for scores in scores.chunks_exact_mut(width) {
        let score = simd.load(&scores[block]);
        let x = simd.add(score, bias);
        let (e, high) = parts(simd, x);
        let weight = simd.select(simd.less(x, zero), simd.mul(e, high), high);
        sum = simd.add(sum, weight);
        if SUMS >= sums::ENTROPY {
            let term = simd.mul(weight, log_weight(simd, x, e));
            moment = simd.add(moment, simd.select(simd.less(zero, weight), term, zero));
        }
        if SUMS >= sums::VARIANCE {
            let distance = simd.select(simd.less(zero, weight), simd.sub(score, shift), zero);
            first = simd.mul_add(weight, distance, first);
            second = simd.mul_add(simd.mul(weight, distance), distance, second);
        }
        simd.store(weight, &mut scores[block]);
    }
    if SUMS >= sums::VARIANCE {
        let distance = quotient(simd, first, sum);
        let m2 = simd.sub(second, simd.mul(first, distance));
        let m2 = simd.zero_where_less(m2, zero, m2);
        moments.merge(simd, [sum, distance, m2]);
    }
    let (sum, moment) = (simd.add(state.sum, sum), simd.add(state.moment, moment));
    *state = RowState { max, sum, moment, ..*state };
}

/// Turns one vector of rows' scores into weights, and their `dp` into gradients of the scores.
#[inline(always)]
pub(super) fn score_gradients<T: Element, S: Simd<T>, const ENTROPY: bool>(
    simd: S,
    terms: &RowTerms<S::Vector>,
    weights: &mut [T::Block],
    dscores: &mut [T::Block],
    width: usize,
    block: usize,
) {
    let zero = simd.splat(T::ZERO);
    for (weights, dscores) in weights.chunks_exact_mut(width).zip(dscores.chunks_exact_mut(width)) {
        let x = simd.sub(simd.load(&weights[block]), terms.reference);
        let (e, high) = parts(simd, x);
        let low = simd.mul(e, high);
        let weight = simd.select(simd.less(x, zero), low, high);
        let mut slope = simd.add(simd.load(&dscores[block]), terms.offset);
        if ENTROPY {
            let log_weight = log_weight(simd, x, e);
            let term = simd.mul(terms.dentropy, log_weight);
            slope = simd.sub(slope, simd.select(simd.less(zero, weight), term, zero));
        }
        let dscore = simd.mul(simd.mul(low, high), slope);
        simd.store(math::flush_positive(simd, weight), &mut weights[block]);
        simd.store(math::flush(simd, dscore), &mut dscores[block]);
    }
}
