//! The forward pass of one tile of queries against the key tiles that it sees.

use super::dropout;
use super::map::{self, MapBins};
use super::problem::Problem;
use super::row_state::RowState;
use super::scores::ScoreSteps;
use super::sight::{Sees, Sight};
use super::sigmoid;
use super::tile::{
    Factors, QUERY_BLOCKS, add_visible_product, blocks_for, clear_hidden, has_non_finite, multiply_lanes,
    no_factors, room, transpose_bits, untranspose, zeroed,
};
use super::top_keys::TopKeys;
use super::wide::WideRow;
use crate::matmul::{Panel, add_columns_product, rows_product};
use logitscope_simd::{Element, Kernel, Simd, math};
use std::ops::Range;

/// A tile of queries and where its results go.
pub(super) struct Tile<'a, T> {
    pub(super) problem: &'a Problem<'a, T>,
    pub(super) batch: usize,
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    pub(super) max_logit: &'a mut [T],
    pub(super) inv_sum: &'a mut [T],
    pub(super) lse: &'a mut [T],
    pub(super) entropy: Option<&'a mut [T]>,
    pub(super) map: Option<(MapBins, &'a mut [T])>,
    pub(super) top: Option<TopKeys<'a, T>>,
}

/// Buffers that a thread uses again for its next tile; all transposed: queries in the lanes.
pub(super) struct Scratch<T: Element> {
    queries: Vec<T::Block>,
    scores: Vec<T::Block>,
    /// The weights of 16-bit numbers that are multiplied in pairs.
    weights: Vec<T::Block>,
    bias: Vec<T::Block>,
    dropout: Vec<T::Block>,
    out: Vec<T::Block>,
    map: Vec<T::Block>,
    /// Rows of what is stored in 16 bits, not transposed.
    rows: Vec<T>,
    value_rows: Vec<T>,
    /// The rows of the output, padded.
    pub(super) results: Vec<T::Block>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            queries: Vec::new(),
            scores: Vec::new(),
            weights: Vec::new(),
            bias: Vec::new(),
            dropout: Vec::new(),
            out: Vec::new(),
            map: Vec::new(),
            rows: Vec::new(),
            value_rows: Vec::new(),
            results: Vec::new(),
        }
    }
}

pub(super) struct TileKernel<'a, 'b, T: Element> {
    pub(super) tile: Tile<'a, T>,
    pub(super) scratch: &'b mut Scratch<T>,
}

impl<T: Element> Kernel<T> for TileKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { mut tile, scratch } = self;
        let Tile { problem, batch, head, .. } = tile;
        let queries = &tile.queries.clone();
        let width = blocks_for::<T>(queries.len());
        let key_head = head / problem.group();
        let [.., all_keys, _] = problem.keys.shape();
        let [.., value_dim] = problem.values.shape();

        let mut factors = no_factors::<T>();
        for (lane, query) in queries.clone().enumerate() {
            factors[lane] = Some(problem.factor(batch, head, query));
        }
        let part = (batch, head, queries);
        let transposed =
            transpose_queries(simd, problem, part, &factors, width, &mut scratch.rows, &mut scratch.queries);
        let out = zeroed::<T>(&mut scratch.out, value_dim * width);
        let bins = tile.map.as_ref().map(|(bins, _)| *bins);
        let map = zeroed::<T>(&mut scratch.map, bins.map_or(0, |bins| bins.columns * width));

        if let Some(top) = &mut tile.top {
            top.clear();
        }
        let zero = simd.splat(T::ZERO);
        let mut states =
            [RowState { max: simd.splat(T::NEG_INFINITY), sum: zero, moment: zero }; QUERY_BLOCKS];
        let sight = Sight::new(problem, batch, head, queries.clone());
        let steps = ScoreSteps::new(problem, &sight, batch, head, queries.clone());
        let biases = (!problem.is_normalised()).then(|| sigmoid::biases(problem, &sight, head, queries));
        for range in sight.key_tiles() {
            let sees = sight.of(&range);
            if sees == Sees::Nothing {
                continue;
            }
            let scores = room::<T>(&mut scratch.scores, range.len() * width);
            let part = (batch, key_head, &range);
            multiply_keys(simd, problem, part, &transposed, &factors, &mut scratch.rows, scores);
            steps.apply(simd, &range, width, scores, None, &mut scratch.bias);
            if sees == Sees::Part {
                clear_hidden(simd, &sight, range.clone(), width, T::NEG_INFINITY, scores);
            }
            if let Some(top) = &mut tile.top {
                top.add(simd, &range, width, scores);
            }
            for (block, state) in states.iter_mut().enumerate().take(width) {
                if let Some(biases) = &biases {
                    let bias = simd.load(&biases[block]);
                    if tile.entropy.is_some() {
                        sigmoid::weigh::<T, S, true>(simd, scores, width, block, bias, state);
                    } else {
                        sigmoid::weigh::<T, S, false>(simd, scores, width, block, bias, state);
                    }
                    continue;
                }
                let decay = if tile.entropy.is_some() {
                    weigh::<T, S, true>(simd, scores, width, block, state)
                } else {
                    weigh::<T, S, false>(simd, scores, width, block, state)
                };
                rescale(simd, decay, out, width, block);
                rescale(simd, decay, map, width, block);
            }
            if let Some(bins) = bins {
                map::add_columns(simd, scores, width, range.clone(), all_keys, bins, map);
            }
            if let Some(rule) = problem.dropout {
                let factors = &mut scratch.dropout;
                let factors = rule.fill::<T>(batch, head, queries.start, &range, width, factors);
                dropout::multiply(simd, factors, scores);
            }
            add_values(
                simd,
                problem,
                part,
                &sight,
                sees,
                scores,
                width,
                &mut scratch.value_rows,
                &mut scratch.weights,
                out,
            );
        }
        let mut largest = [zero; QUERY_BLOCKS];
        for (largest, state) in largest.iter_mut().zip(&states) {
            *largest = state.max;
        }
        if let Some(sink) = problem.sink(head) {
            for (block, state) in states.iter_mut().enumerate().take(width) {
                // A tile of one key without a value.
                let mut scores = [sight.on_real_queries(block, sink)];
                let decay = weigh::<T, S, true>(simd, &mut scores, 1, 0, state);
                rescale(simd, decay, out, width, block);
                rescale(simd, decay, map, width, block);
            }
        }
        finish(simd, tile, &sight, &largest, &states, biases.as_ref(), out, map, width, &mut scratch.results);
    }
}

/// The queries of a tile, one a lane; multiplied by their factors unless they stay as they are stored.
#[inline(always)]
fn transpose_queries<'b, T: Element, S: Simd<T>>(
    simd: S,
    problem: &Problem<'_, T>,
    (batch, head, queries): (usize, usize, &Range<usize>),
    factors: &Factors<T>,
    width: usize,
    rows: &mut Vec<T>,
    transposed: &'b mut Vec<T::Block>,
) -> Panel<'b, T> {
    let rows = if S::HAS_PAIRS {
        problem.queries.pair_columns(batch, head, queries.clone(), rows)
    } else {
        problem.queries.rows(batch, head, queries.clone(), rows)
    };
    let transposed = room::<T>(transposed, rows.columns() * width);
    transpose_bits(simd, rows, factors, width, transposed);
    if !S::HAS_PAIRS {
        multiply_lanes(simd, factors, width, transposed);
    }
    Panel { blocks: transposed, width }
}

/// The products of a range of keys with the queries, one row a key, scaled.
#[inline(always)]
fn multiply_keys<T: Element, S: Simd<T>>(
    simd: S,
    problem: &Problem<'_, T>,
    (batch, key_head, range): (usize, usize, &Range<usize>),
    queries: &Panel<'_, T>,
    factors: &Factors<T>,
    rows: &mut Vec<T>,
    scores: &mut [T::Block],
) {
    if S::HAS_PAIRS {
        let keys = problem.keys.pair_columns(batch, key_head, range.clone(), rows);
        rows_product::<T, S, true>(simd, keys, queries, scores);
        multiply_lanes(simd, factors, queries.width, scores);
    } else {
        let keys = problem.keys.rows(batch, key_head, range.clone(), rows);
        rows_product::<T, S, false>(simd, keys, queries, scores);
    }
}

/// Adds the values of a range of keys, weighted, to the sums of the rows.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "the factors of a product and the buffers that they are brought into"
)]
fn add_values<T: Element, S: Simd<T>>(
    simd: S,
    problem: &Problem<'_, T>,
    (batch, key_head, range): (usize, usize, &Range<usize>),
    sight: &Sight<'_, T>,
    sees: Sees,
    weights: &[T::Block],
    width: usize,
    rows: &mut Vec<T>,
    pairs: &mut Vec<T::Block>,
    out: &mut [T::Block],
) {
    let panel = Panel { blocks: weights, width };
    if sees == Sees::Part {
        let values = problem.values.rows(batch, key_head, range.clone(), rows);
        if has_non_finite(simd, values) {
            add_visible_product(simd, sight, values, range.clone(), &panel, out);
            return;
        }
    }
    if S::HAS_PAIRS {
        let values = problem.values.pair_rows(batch, key_head, range.clone(), rows);
        let panel = pair_weights(simd, weights, width, pairs);
        add_columns_product::<T, S, true>(simd, values, &panel, out);
    } else {
        let values = problem.values.rows(batch, key_head, range.clone(), rows);
        add_columns_product::<T, S, false>(simd, values, &panel, out);
    }
}

/// The weights of two keys at a time as pairs; a last one alone has weights of 0 beside it.
#[inline(always)]
fn pair_weights<'b, T: Element, S: Simd<T>>(
    simd: S,
    weights: &[T::Block],
    width: usize,
    pairs: &'b mut Vec<T::Block>,
) -> Panel<'b, T> {
    let pairs = room::<T>(pairs, weights.len().div_ceil(2 * width) * width);
    let zero = simd.splat(T::ZERO);
    for (weights, pairs) in weights.chunks(2 * width).zip(pairs.chunks_exact_mut(width)) {
        let (low, high) = weights.split_at(width);
        for (block, pair) in pairs.iter_mut().enumerate() {
            let high = if high.is_empty() { zero } else { simd.load(&high[block]) };
            simd.store(simd.pair(simd.load(&low[block]), high), pair);
        }
    }
    Panel { blocks: pairs, width }
}

/// Turns one vector of rows' scores into weights e^(s - max), updates the state, and returns by how much
/// what was summed before shrinks.
#[inline(always)]
fn weigh<T: Element, S: Simd<T>, const ENTROPY: bool>(
    simd: S,
    scores: &mut [T::Block],
    width: usize,
    block: usize,
    state: &mut RowState<S::Vector>,
) -> S::Vector {
    let zero = simd.splat(T::ZERO);
    let mut max = state.max;
    for scores in scores.chunks_exact(width) {
        max = simd.max(simd.load(&scores[block]), max);
    }
    // Rows that have seen no key yet have max = -inf, from which nothing may be subtracted.
    let reference = simd.select(simd.less(simd.splat(T::NEG_INFINITY), max), max, zero);
    let mut sum = zero;
    let mut moment = zero;
    for scores in scores.chunks_exact_mut(width) {
        let distance = simd.sub(simd.load(&scores[block]), reference);
        let weight = math::exp(simd, distance);
        sum = simd.add(sum, weight);
        if ENTROPY {
            let term = simd.mul(weight, distance);
            moment = simd.add(moment, simd.select(simd.less(zero, weight), term, zero));
        }
        simd.store(weight, &mut scores[block]);
    }
    let shift = simd.sub(state.max, reference);
    let decay = math::exp(simd, shift);
    if ENTROPY {
        let shifted = simd.mul(decay, simd.mul_add(shift, state.sum, state.moment));
        moment = simd.add(moment, simd.select(simd.less(zero, decay), shifted, zero));
    }
    *state = RowState { max, sum: simd.mul_add(decay, state.sum, sum), moment };
    decay
}

/// Multiplies vector `block` of every row of `panel` by `decay`, unless that is 1 everywhere.
#[inline(always)]
fn rescale<T: Element, S: Simd<T>>(
    simd: S,
    decay: S::Vector,
    panel: &mut [T::Block],
    width: usize,
    block: usize,
) {
    if simd.to_block(decay).as_ref().iter().all(|&x| x == T::ONE) {
        return;
    }
    for row in panel.chunks_exact_mut(width) {
        simd.store(simd.mul(simd.load(&row[block]), decay), &mut row[block]);
    }
}

/// Divides by the sums and writes the figures of the rows where they belong, their outputs into `results`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "all that a tile has computed")]
fn finish<T: Element, S: Simd<T>>(
    simd: S,
    tile: Tile<'_, T>,
    sight: &Sight<'_, T>,
    largest: &[S::Vector; QUERY_BLOCKS],
    states: &[RowState<S::Vector>; QUERY_BLOCKS],
    biases: Option<&[T::Block; QUERY_BLOCKS]>,
    out: &mut [T::Block],
    map: &mut [T::Block],
    width: usize,
    results: &mut Vec<T::Block>,
) {
    let Tile { problem, batch, head, queries, max_logit, inv_sum, lse, mut entropy, mut top, .. } = tile;
    // What the sums of each row are multiplied by.
    let mut shares = [T::block(T::ONE); QUERY_BLOCKS];
    let shares = T::flatten_mut(&mut shares);
    for (block, (state, largest)) in states.iter().zip(largest).enumerate().take(width) {
        let (max, sum) = (simd.to_block(state.max), simd.to_block(state.sum));
        let largest = simd.to_block(*largest);
        let (log_sum, moment) = (simd.to_block(math::ln(simd, state.sum)), simd.to_block(state.moment));
        let first = block * T::LANES;
        for (lane, row) in (first..queries.len().min(first + T::LANES)).enumerate() {
            let (max, sum) = (max.as_ref()[lane], sum.as_ref()[lane]);
            let (log_sum, moment) = (log_sum.as_ref()[lane], moment.as_ref()[lane]);
            let seen = sum != T::ZERO;
            // A NaN in the row need not have reached the maximum; it always reaches the sum.
            max_logit[row] = if sum.is_nan() { sum } else { largest.as_ref()[lane] };
            inv_sum[row] = if seen { T::ONE / sum } else { T::ZERO };
            let base = if problem.is_normalised() { max } else { T::ZERO };
            lse[row] = if seen { base + log_sum } else { T::NEG_INFINITY };
            if problem.is_normalised() {
                shares[row] = inv_sum[row];
            }
            if let Some(entropy) = &mut entropy {
                let nats = log_sum - moment * inv_sum[row];
                // Rounding may leave a one-hot row a little below 0; NaN stays.
                entropy[row] = if !seen || nats < T::ZERO { T::ZERO } else { nats };
            }
            if let Some(top) = &mut top {
                match biases {
                    Some(biases) => {
                        let bias = biases[block].as_ref()[lane];
                        top.weigh(row, |score| T::ONE / (T::ONE + (-(score + bias)).exp()));
                    }
                    None => top.weigh(row, |score| (score - max).exp() * inv_sum[row]),
                }
            }
            let overflows =
                if problem.is_normalised() { !seen } else { largest.as_ref()[lane] == T::INFINITY };
            if (sum.is_nan() || overflows)
                && let Some(wide) = WideRow::of(problem, sight, batch, head, &queries, row)
            {
                max_logit[row] = T::from_f64(wide.max);
                inv_sum[row] = T::from_f64(-wide.inv_sum);
                lse[row] = T::from_f64(wide.lse);
                if let Some(entropy) = &mut entropy {
                    entropy[row] = T::from_f64(wide.entropy);
                }
                shares[row] = T::ONE;
                if let Some(top) = &mut top {
                    top.write(row, &wide);
                }
                wide.write_sums(row, width, out, tile.map.as_ref().map(|(bins, _)| *bins), map);
            }
        }
    }
    let results = room::<T>(results, queries.len() * blocks_for::<T>(out.len() / width));
    untranspose(simd, out, width, &shares[..queries.len()], results);
    if let Some((bins, part)) = tile.map {
        map::add_rows::<T>(map, width, &queries, problem.queries.shape()[2], bins, shares, part);
    }
}
