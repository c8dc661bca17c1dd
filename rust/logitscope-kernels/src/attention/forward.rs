//! The forward pass: one tile of queries against the key tiles that it sees.

use super::map::{self, MapBins};
use super::problem::Problem;
use super::sight::{Sees, Sight};
use super::tile::{
    Cursor, KEYS, QUERY_BLOCKS, add_visible_product, blocks_for, clear_hidden, has_non_finite, tile_queries,
    transpose, zeroed,
};
use crate::error::Result;
use crate::matmul::{Panel, add_columns_product, add_rows_product};
use crate::threads::{self, Cancel};
use crate::view::{HeadsMut, RowsMut};
use logitscope_simd::{Element, Kernel, Simd, math};
use std::ops::Range;

/// Per-row results, each (batch, heads, queries) in row-major order.
pub struct Statistics<'a, T> {
    /// The largest score of a key; -inf where no key is seen.
    pub max_logit: &'a mut [T],
    /// 1 over the sum of e^(score - m), m the larger of `max_logit` and the sink: with `max_logit` the exact state
    /// for the backward pass.
    pub inv_sum: &'a mut [T],
    /// The logarithm of the sum of the exponentials of the scores, the sink's included.
    pub lse: &'a mut [T],
    /// The entropy of the weights in nats, when wanted.
    pub entropy: Option<&'a mut [T]>,
}

/// Where the results go.
pub struct Output<'a, T> {
    /// (batch, heads, queries, value dim).
    pub out: HeadsMut<'a, T>,
    /// Figures of each row.
    pub statistics: Statistics<'a, T>,
    /// The binned map, (batch, heads, rows, columns), when wanted; at most one bin a query and a key.
    pub map: Option<(MapBins, &'a mut [T])>,
}

/// Computes attention and the statistics of its rows.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If an output has another shape or length than the inputs say.
pub fn forward<T: Element>(problem: &Problem<'_, T>, output: Output<'_, T>, cancel: &Cancel) -> Result<()> {
    problem.check()?;
    let [batch, heads, queries, _] = problem.queries.shape();
    let value_dim = problem.values.shape()[3];
    let rows = batch * heads * queries;
    let Output { out, statistics, map } = output;
    assert_eq!(out.shape(), [batch, heads, queries, value_dim], "attention: shape of out");
    if rows == 0 {
        return Ok(());
    }
    let bins = map.as_ref().map(|(bins, _)| *bins);
    let part_len = bins.map_or(0, |bins| map::rows_per_tile::<T>(queries, bins) * bins.columns);
    let tiles = queries.div_ceil(tile_queries::<T>());
    let mut parts = vec![T::ZERO; batch * heads * tiles * part_len];

    let mut out = out.runs(tile_queries::<T>()).into_iter();
    let mut part = Cursor(&mut parts);
    let (mut max_logit, mut inv_sum) = (Cursor(statistics.max_logit), Cursor(statistics.inv_sum));
    let (mut lse, mut entropy) = (Cursor(statistics.lse), statistics.entropy.map(Cursor));
    let mut pieces = Vec::with_capacity(batch * heads * tiles);
    for batch in 0..batch {
        for head in 0..heads {
            for start in (0..queries).step_by(tile_queries::<T>()) {
                let range = start..queries.min(start + tile_queries::<T>());
                let rows = range.len();
                pieces.push(Tile {
                    problem,
                    batch,
                    head,
                    queries: range,
                    out: out.next().expect("one run a tile"),
                    max_logit: max_logit.take(rows),
                    inv_sum: inv_sum.take(rows),
                    lse: lse.take(rows),
                    entropy: entropy.as_mut().map(|entropy| entropy.take(rows)),
                    map: bins.map(|bins| (bins, part.take(part_len))),
                });
            }
        }
    }
    threads::for_each(pieces, problem.work(), cancel, Scratch::default, |scratch, tile| {
        T::dispatch(TileKernel { tile, scratch });
    })?;
    if let Some((bins, map)) = map {
        map::merge(problem, bins, &parts, map);
    }
    Ok(())
}

/// A tile of queries and where its results go.
struct Tile<'a, T> {
    problem: &'a Problem<'a, T>,
    batch: usize,
    head: usize,
    queries: Range<usize>,
    out: RowsMut<'a, T>,
    max_logit: &'a mut [T],
    inv_sum: &'a mut [T],
    lse: &'a mut [T],
    entropy: Option<&'a mut [T]>,
    map: Option<(MapBins, &'a mut [T])>,
}

/// Buffers that a thread uses again for its next tile; all transposed: queries in the lanes.
struct Scratch<T: Element> {
    queries: Vec<T::Block>,
    scores: Vec<T::Block>,
    out: Vec<T::Block>,
    map: Vec<T::Block>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self { queries: Vec::new(), scores: Vec::new(), out: Vec::new(), map: Vec::new() }
    }
}

struct TileKernel<'a, 'b, T: Element> {
    tile: Tile<'a, T>,
    scratch: &'b mut Scratch<T>,
}

/// Running statistics of one vector of rows.
#[derive(Clone, Copy)]
struct RowState<V> {
    /// Largest score.
    max: V,
    /// Sum of e^(s - max).
    sum: V,
    /// Sum of e^(s - max) (s - max), for the entropy.
    moment: V,
}

impl<T: Element> Kernel<T> for TileKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { tile, scratch } = self;
        let Tile { problem, batch, head, .. } = tile;
        let queries = &tile.queries.clone();
        let width = blocks_for::<T>(queries.len());
        let key_head = head / problem.group();
        let keys = problem.keys.matrix(batch, key_head);
        let values = problem.values.matrix(batch, key_head);

        let transposed = zeroed::<T>(&mut scratch.queries, keys.columns() * width);
        let matrix = problem.queries.matrix(batch, head);
        transpose(matrix, queries, width, |query| problem.factor(batch, head, query), transposed);
        let transposed = Panel { blocks: transposed, width };
        let out = zeroed::<T>(&mut scratch.out, values.columns() * width);
        let bins = tile.map.as_ref().map(|(bins, _)| *bins);
        let map = zeroed::<T>(&mut scratch.map, bins.map_or(0, |bins| bins.columns * width));

        let zero = simd.splat(T::ZERO);
        let mut states =
            [RowState { max: simd.splat(T::NEG_INFINITY), sum: zero, moment: zero }; QUERY_BLOCKS];
        let sight = Sight::new(problem, batch, head, queries.clone());
        for range in sight.key_tiles() {
            let sees = sight.of(&range);
            if sees == Sees::Nothing {
                continue;
            }
            let scores = zeroed::<T>(&mut scratch.scores, KEYS * width);
            let scores = &mut scores[..range.len() * width];
            add_rows_product(simd, keys, range.clone(), &transposed, scores);
            if sees == Sees::Part {
                clear_hidden(simd, &sight, range.clone(), width, T::NEG_INFINITY, scores);
            }
            for (block, state) in states.iter_mut().enumerate().take(width) {
                let decay = if tile.entropy.is_some() {
                    weigh::<T, S, true>(simd, scores, width, block, state)
                } else {
                    weigh::<T, S, false>(simd, scores, width, block, state)
                };
                rescale(simd, decay, out, width, block);
                rescale(simd, decay, map, width, block);
            }
            let weights = Panel { blocks: scores, width };
            if sees == Sees::Part && has_non_finite(simd, values, range.clone()) {
                add_visible_product(simd, &sight, values, range.clone(), &weights, out);
            } else {
                add_columns_product(simd, values, range.clone(), &weights, out);
            }
            if let Some(bins) = bins {
                map::add_columns(simd, scores, width, range, keys.rows(), bins, map);
            }
        }
        let mut largest = [zero; QUERY_BLOCKS];
        for (largest, state) in largest.iter_mut().zip(&states) {
            *largest = state.max;
        }
        if let Some(sink) = problem.sink(head) {
            for (block, state) in states.iter_mut().enumerate().take(width) {
                // A tile of one key without a value.
                let mut scores = [sight.on_real_queries::<T>(block, sink)];
                let decay = weigh::<T, S, true>(simd, &mut scores, 1, 0, state);
                rescale(simd, decay, out, width, block);
                rescale(simd, decay, map, width, block);
            }
        }
        finish(simd, tile, &largest, &states, out, map, width);
    }
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

/// Divides by the sums and writes the rows where they belong.
#[inline(always)]
fn finish<T: Element, S: Simd<T>>(
    simd: S,
    tile: Tile<'_, T>,
    largest: &[S::Vector; QUERY_BLOCKS],
    states: &[RowState<S::Vector>; QUERY_BLOCKS],
    out: &[T::Block],
    map: &[T::Block],
    width: usize,
) {
    let Tile { problem, queries, max_logit, inv_sum, lse, mut entropy, .. } = tile;
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
            lse[row] = if seen { max + log_sum } else { T::NEG_INFINITY };
            if let Some(entropy) = &mut entropy {
                let nats = log_sum - moment * inv_sum[row];
                // Rounding may leave a one-hot row a little below 0; NaN stays.
                entropy[row] = if !seen || nats < T::ZERO { T::ZERO } else { nats };
            }
        }
    }
    for (row, (written, &share)) in tile.out.into_iter().zip(inv_sum.iter()).enumerate() {
        let (block, lane) = (row / T::LANES, row % T::LANES);
        for (cell, sums) in written.iter_mut().zip(out.chunks_exact(width)) {
            *cell = sums[block].as_ref()[lane] * share;
        }
    }
    if let Some((bins, part)) = tile.map {
        map::add_rows::<T>(map, width, &queries, problem.queries.shape()[2], bins, inv_sum, part);
    }
}
