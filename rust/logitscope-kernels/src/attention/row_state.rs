//! What is kept of each row: its running statistics in the forward pass, its terms in the backward pass.

use super::backward::Upstream;
use super::exponential::exp_below;
use super::problem::Problem;
use super::tile::{QUERY_BLOCKS, dot};
use crate::matmul::ROWS;
use crate::view::Matrix;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Running statistics of one vector of rows.
#[derive(Clone, Copy)]
pub(super) struct RowState<V> {
    /// Largest score.
    pub(super) max: V,
    /// Sum of e^(s - max), or of sigmoid weights.
    pub(super) sum: V,
    /// Sum of e^(s - max) (s - max), or of w ln w, for the entropy.
    pub(super) moment: V,
    /// Sum of e^(s - max) (s - max)^2, for the variance.
    pub(super) square: V,
}

/// Which sums of a row are wanted beside that of its weights.
pub(super) mod sums {
    /// None.
    pub(in super::super) const WEIGHTS: usize = 0;
    /// What the entropy needs.
    pub(in super::super) const ENTROPY: usize = 1;
    /// What entropy and variance need.
    pub(in super::super) const VARIANCE: usize = 2;
}

/// What the gradient of a score needs of its row, one vector of rows.
#[derive(Clone, Copy)]
pub(super) struct RowTerms<V> {
    /// What is subtracted from a score: the largest one, the sink's included; 0 for rows without any. With sigmoid
    /// weighting minus its bias.
    pub(super) reference: V,
    pub(super) inv_sum: V,
    /// What is added to `dp`: `-D + dlse - dh (ln(1/sum) + h)`; with sigmoid weighting without `D`, over the sum.
    pub(super) offset: V,
    /// `dh`, over the sum with sigmoid weighting: what multiplies minus the logarithm of a weight before division.
    pub(super) dentropy: V,
}

/// Turns one vector of rows' scores into weights e^(s - max), `max` being the largest of them and of those before,
/// updates the state, and returns by how much what was summed before shrinks.
#[inline(always)]
pub(super) fn weigh<T: Element, S: Simd<T>, const SUMS: usize>(
    simd: S,
    scores: &mut [T::Block],
    width: usize,
    block: usize,
    max: S::Vector,
    state: &mut RowState<S::Vector>,
) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    // Rows that have seen no key yet have max = -inf, from which nothing may be subtracted.
    let reference = simd.select(simd.less(simd.splat(T::NEG_INFINITY), max), max, zero);
    let (mut sum, mut moment, mut square) = (zero, zero, zero);
    for rows in scores.chunks_mut(ROWS * width) {
        // Few weights are added up apart: a sum of all, one after the other, is rounded as often as there are keys.
        let mut few = zero;
        for scores in rows.chunks_exact_mut(width) {
            let distance = simd.sub(simd.load(&scores[block]), reference);
            let weight = exp_below(simd, distance);
            few = simd.add(few, weight);
            if SUMS >= sums::ENTROPY {
                // Without a weight the distance may be infinite.
                let distance = simd.select(simd.less(zero, weight), distance, zero);
                moment = simd.mul_add(weight, distance, moment);
                if SUMS >= sums::VARIANCE {
                    square = simd.mul_add(simd.mul(weight, distance), distance, square);
                }
            }
            simd.store(weight, &mut scores[block]);
        }
        sum = simd.add(sum, few);
    }
    let shift = simd.sub(state.max, reference);
    let decay = exp_below(simd, shift);
    if SUMS >= sums::ENTROPY {
        let shift = simd.select(simd.less(zero, decay), shift, zero);
        let shifted = simd.mul_add(shift, state.sum, state.moment);
        if SUMS >= sums::VARIANCE {
            let shifted = simd.mul_add(shift, simd.add(shifted, state.moment), state.square);
            square = simd.mul_add(decay, shifted, square);
        }
        moment = simd.mul_add(decay, shifted, moment);
    }
    *state = RowState { max, sum: simd.mul_add(decay, state.sum, sum), moment, square };
    decay
}

/// The largest of one vector of rows' scores and of `max`; a NaN is passed over.
#[inline(always)]
pub(super) fn largest<T: Element, S: Simd<T>>(
    simd: S,
    scores: &[T::Block],
    width: usize,
    block: usize,
    max: S::Vector,
) -> S::Vector {
    // Four maxima, which do not wait for each other.
    let mut maxima = [max; 4];
    let groups = scores.chunks_exact(4 * width);
    for rows in groups.clone() {
        for i in 0..4 {
            maxima[i] = simd.max(simd.load(&rows[i * width + block]), maxima[i]);
        }
    }
    for row in groups.remainder().chunks_exact(width) {
        maxima[0] = simd.max(simd.load(&row[block]), maxima[0]);
    }
    let [a, b, c, d] = maxima;
    simd.max(simd.max(a, b), simd.max(c, d))
}

/// Multiplies vector `block` of every row of `panel` by `decay`, unless that is 1 everywhere.
#[inline(always)]
pub(super) fn rescale<T: Element, S: Simd<T>>(
    simd: S,
    decay: S::Vector,
    panel: &mut [T::Block],
    width: usize,
    block: usize,
) {
    if !simd.any(simd.less(decay, simd.splat(T::ONE))) && !simd.sum(decay).is_nan() {
        return;
    }
    for row in panel.chunks_exact_mut(width) {
        simd.store(simd.mul(simd.load(&row[block]), decay), &mut row[block]);
    }
}

/// The gradients of a row's results, without those of its output.
#[derive(Clone, Copy, Default)]
pub(super) struct RowUpstream<T> {
    /// `do . o`.
    pub(super) delta: T,
    pub(super) dlse: T,
    pub(super) entropy: T,
    pub(super) dentropy: T,
}

impl<T: Element> RowUpstream<T> {
    #[inline(always)]
    pub(super) fn new<S: Simd<T>>(
        simd: S,
        upstream: &Upstream<'_, T>,
        batch: usize,
        head: usize,
        query: usize,
        dout: &[T],
        out: &[T],
    ) -> Self {
        let (mut entropy, mut dentropy) = (T::ZERO, T::ZERO);
        if let Some((entropies, gradients)) = upstream.entropy {
            (entropy, dentropy) = (entropies.get(batch, head, query), gradients.get(batch, head, query));
        }
        Self {
            delta: dot(simd, dout, out),
            dlse: upstream.dlse.map_or(T::ZERO, |dlse| dlse.get(batch, head, query)),
            entropy,
            dentropy,
        }
    }
}

/// The terms of the rows of a tile, and the sum of their gradients of the sink. Rows whose `inv_sum` is 0 (no score) or
/// negative (see `wide`) get terms that make all their weights 0.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the results of a tile and their gradients")]
pub(super) fn row_terms<T: Element, S: Simd<T>>(
    simd: S,
    problem: &Problem<'_, T>,
    upstream: &Upstream<'_, T>,
    biases: &[T::Block; QUERY_BLOCKS],
    batch: usize,
    head: usize,
    queries: &Range<usize>,
    dout: Matrix<'_, T>,
    out: Matrix<'_, T>,
) -> ([RowTerms<S::Vector>; QUERY_BLOCKS], f64) {
    // Lanes without a query get no weight, whatever their scores.
    let mut reference = [T::block(T::INFINITY); QUERY_BLOCKS];
    let nothing = [T::block(T::ZERO); QUERY_BLOCKS];
    let (mut inv_sum, mut offset, mut dentropy) = (nothing, nothing, nothing);
    let mut dsink = 0.0;
    for (row, query) in queries.clone().enumerate() {
        let (block, lane) = (row / T::LANES, row % T::LANES);
        let share = upstream.inv_sum.get(batch, head, query);
        if share < T::ZERO {
            continue;
        }
        reference[block].as_mut()[lane] = T::ZERO;
        if !problem.is_normalised() {
            reference[block].as_mut()[lane] = -biases[block].as_ref()[lane];
        }
        if share == T::ZERO {
            continue;
        }
        let row = RowUpstream::new(simd, upstream, batch, head, query, dout.row(row), out.row(row));
        let mut terms = row.dlse - row.dentropy * (share.ln() + row.entropy);
        let mut slope = row.dentropy;
        if problem.is_normalised() {
            let mut largest = upstream.max_logit.get(batch, head, query);
            terms -= row.delta;
            if let Some(sink) = problem.sink(head) {
                if sink > largest {
                    largest = sink;
                }
                let distance = sink - largest;
                if distance != T::NEG_INFINITY {
                    dsink += (distance.exp() * share * (terms - slope * distance)).to_f64();
                }
            }
            reference[block].as_mut()[lane] = largest;
        } else {
            terms *= share;
            slope *= share;
        }
        inv_sum[block].as_mut()[lane] = share;
        offset[block].as_mut()[lane] = terms;
        dentropy[block].as_mut()[lane] = slope;
    }
    let zero = simd.splat(T::ZERO);
    let mut terms = [RowTerms { reference: zero, inv_sum: zero, offset: zero, dentropy: zero }; QUERY_BLOCKS];
    for (block, terms) in terms.iter_mut().enumerate() {
        *terms = RowTerms {
            reference: simd.load(&reference[block]),
            inv_sum: simd.load(&inv_sum[block]),
            offset: simd.load(&offset[block]),
            dentropy: simd.load(&dentropy[block]),
        };
    }
    (terms, dsink)
}
