//! The forward pass of one tile of queries against the key tiles that it sees.

use super::dropout;
use super::map::{self, MapBins};
use super::problem::Problem;
use super::products::{Part, add_weighted, multiply, transposed};
use super::row_state::{RowState, rescale, weigh};
use super::scores::ScoreSteps;
use super::sight::{Sees, Sight};
use super::sigmoid;
use super::tile::{
    QUERY_BLOCKS, add_visible_product, blocks_for, clear_hidden, has_non_finite, no_factors, room, zeroed,
};
use super::tile_results::{TileSums, finish};
use super::top_keys::{Best, TopKeys};
use crate::matmul::Panel;
use logitscope_simd::{Element, Kernel, Simd};
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
    best: Best<T>,
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
            best: Best::default(),
        }
    }
}

pub(super) struct TileKernel<'a, 'b, T: Element> {
    pub(super) tile: Tile<'a, T>,
    pub(super) scratch: &'b mut Scratch<T>,
    /// The rows of the output, padded; all of it is written.
    pub(super) results: &'b mut [T::Block],
}

impl<T: Element> Kernel<T> for TileKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { tile, scratch, results } = self;
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
        let (rows, lanes) = (&mut scratch.rows, &mut scratch.queries);
        let transposed = transposed(simd, &problem.queries, part, &factors, width, rows, lanes);
        let out = zeroed::<T>(&mut scratch.out, value_dim * width);
        let bins = tile.map.as_ref().map(|(bins, _)| *bins);
        let map = zeroed::<T>(&mut scratch.map, bins.map_or(0, |bins| bins.columns * width));

        if let Some(top) = &tile.top {
            scratch.best.clear(top.count, width);
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
            let spans = &sight.spans(&range)[..width];
            let scores = room::<T>(&mut scratch.scores, range.len() * width);
            let part = (batch, key_head, &range);
            multiply(simd, &problem.keys, part, &transposed, &factors, spans, &mut scratch.rows, scores);
            steps.apply(simd, &range, width, scores, None, &mut scratch.bias);
            if sees == Sees::Part {
                clear_hidden(simd, &sight, range.clone(), width, T::NEG_INFINITY, scores);
            }
            if tile.top.is_some() {
                scratch.best.add(simd, &range, width, scores);
            }
            for (block, (state, span)) in states.iter_mut().zip(spans).enumerate() {
                let scores = &mut scores[span.start * width..span.end * width];
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
                map::add_columns(simd, scores, width, range.clone(), spans, all_keys, bins, map);
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
                spans,
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
        let sums = TileSums { largest, states, out, map, width };
        finish(simd, tile, &sight, sums, biases.as_ref(), &scratch.best, results);
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
    (batch, key_head, range): Part<'_>,
    sight: &Sight<'_, T>,
    sees: Sees,
    spans: &[Range<usize>],
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
    add_weighted(simd, &problem.values, (batch, key_head, range), &panel, spans, rows, pairs, out);
}
