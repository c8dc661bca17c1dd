//! The forward pass of one tile of queries against the key tiles that it sees.

use super::dropout;
use super::map::{self, MapBins, Pooling};
use super::moments::Moments;
use super::non_finite::add_seen;
use super::problem::Problem;
use super::products::{PairScratch, multiply, transposed};
use super::row_state::{RowState, largest, rescale, sums, weigh};
use super::scores::ScoreSteps;
use super::sight::{Sees, Sight};
use super::sigmoid;
use super::statistics::Statistics;
use super::tile::{QUERY_BLOCKS, blocks_for, clear_hidden, no_factors, room, zeroed};
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
    pub(super) figures: Statistics<'a, T>,
    pub(super) map: Option<(MapBins, &'a mut [T])>,
    pub(super) top: Option<TopKeys<'a, T>>,
}

/// Buffers that a thread uses again for its next tile; all transposed: queries in the lanes.
pub(super) struct Scratch<T: Element> {
    queries: Vec<T::Block>,
    scores: Vec<T::Block>,
    /// Of 16-bit numbers that are multiplied in pairs.
    pairs: PairScratch<T>,
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
            pairs: PairScratch::default(),
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
        let mean_bins = bins.filter(|bins| bins.pooling == Pooling::Mean);
        let max_bins = bins.filter(|bins| bins.pooling == Pooling::Max);
        if max_bins.is_some() {
            map.fill(T::block(T::NEG_INFINITY));
        }

        if let Some(top) = &tile.top {
            scratch.best.clear(top.count, queries.len());
        }
        let zero = simd.splat(T::ZERO);
        let mut states =
            [RowState { max: simd.splat(T::NEG_INFINITY), sum: zero, moment: zero, square: zero };
                QUERY_BLOCKS];
        let mut logits = [Moments::none(simd); QUERY_BLOCKS];
        // Of the scores under the weights, with sigmoid weighting.
        let mut weighted = logits;
        let wanted = wanted_sums(&tile.figures);
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
                scratch.best.add(simd, &range, spans, width, scores);
            }
            if let Some(bins) = max_bins {
                map::raise_columns(simd, scores, width, range.clone(), spans, all_keys, bins, map);
            }
            for (block, span) in spans.iter().enumerate() {
                let scores = &mut scores[span.start * width..span.end * width];
                let state = &mut states[block];
                let max = largest(simd, scores, width, block, state.max);
                if tile.figures.logits.is_some() {
                    logits[block].add_scores(simd, scores, (width, block), max, sees == Sees::Part);
                }
                let bias = biases.as_ref().map(|biases| simd.load(&biases[block]));
                let of_row = (state, &mut weighted[block]);
                let Some(decay) = weigh_block(simd, wanted, scores, (width, block), max, bias, of_row) else {
                    continue;
                };
                rescale(simd, decay, out, width, block);
                if mean_bins.is_some() {
                    rescale(simd, decay, map, width, block);
                }
            }
            if let Some(bins) = mean_bins {
                map::add_columns(simd, scores, width, range.clone(), spans, all_keys, bins, map);
            }
            if let Some(rule) = problem.dropout {
                let factors = &mut scratch.dropout;
                let factors = rule.fill::<T>(batch, head, queries.start, &range, width, factors);
                dropout::multiply(simd, factors, scores);
            }
            let weights = Panel { blocks: scores, width };
            let (values, rows, pairs) = (&problem.values, &mut scratch.value_rows, &mut scratch.pairs);
            add_seen(simd, values, part, &sight, sees, &weights, spans, rows, pairs, out);
        }
        let of_keys = maxima(&states);
        if let Some(sink) = problem.sink(head) {
            let map = if mean_bins.is_some() { &mut *map } else { &mut [] };
            add_sink(simd, &sight, sink, width, &mut states, out, map);
        }
        let sums = TileSums { largest: of_keys, states, logits, weighted, out, map, width };
        finish(simd, tile, &sight, sums, biases.as_ref(), &scratch.best, results);
    }
}

/// Which sums the figures of the rows need.
fn wanted_sums<T>(figures: &Statistics<'_, T>) -> usize {
    match (&figures.variance, &figures.entropy) {
        (Some(_), _) => sums::VARIANCE,
        (None, Some(_)) => sums::ENTROPY,
        (None, None) => sums::WEIGHTS,
    }
}

/// The largest scores so far.
#[inline(always)]
fn maxima<V: Copy>(states: &[RowState<V>; QUERY_BLOCKS]) -> [V; QUERY_BLOCKS] {
    let mut maxima = [states[0].max; QUERY_BLOCKS];
    for (max, state) in maxima.iter_mut().zip(states) {
        *max = state.max;
    }
    maxima
}

/// Turns one vector of rows' scores into weights, and adds the sums that are wanted to those of the rows; gives by how much
/// what was summed before shrinks, None with sigmoid weighting, which has a bias.
#[inline(always)]
fn weigh_block<T: Element, S: Simd<T>>(
    simd: S,
    wanted: usize,
    scores: &mut [T::Block],
    (width, block): (usize, usize),
    max: S::Vector,
    bias: Option<S::Vector>,
    (state, moments): (&mut RowState<S::Vector>, &mut Moments<S::Vector>),
) -> Option<S::Vector> {
    use sums::{ENTROPY, VARIANCE, WEIGHTS};
    let Some(bias) = bias else {
        return Some(match wanted {
            VARIANCE => weigh::<T, S, VARIANCE>(simd, scores, width, block, max, state),
            ENTROPY => weigh::<T, S, ENTROPY>(simd, scores, width, block, max, state),
            _ => weigh::<T, S, WEIGHTS>(simd, scores, width, block, max, state),
        });
    };
    let of_rows = (bias, max);
    match wanted {
        VARIANCE => sigmoid::weigh::<T, S, VARIANCE>(simd, scores, width, block, of_rows, state, moments),
        ENTROPY => sigmoid::weigh::<T, S, ENTROPY>(simd, scores, width, block, of_rows, state, moments),
        _ => sigmoid::weigh::<T, S, WEIGHTS>(simd, scores, width, block, of_rows, state, moments),
    }
    None
}

/// Takes in the sink of the rows: a tile of one key without a value.
#[inline(always)]
fn add_sink<T: Element, S: Simd<T>>(
    simd: S,
    sight: &Sight<'_, T>,
    sink: T,
    width: usize,
    states: &mut [RowState<S::Vector>],
    out: &mut [T::Block],
    map: &mut [T::Block],
) {
    for (block, state) in states.iter_mut().enumerate().take(width) {
        let mut scores = [sight.on_real_queries(block, sink)];
        let max = largest(simd, &scores, 1, 0, state.max);
        let decay = weigh::<T, S, { sums::VARIANCE }>(simd, &mut scores, 1, 0, max, state);
        rescale(simd, decay, out, width, block);
        rescale(simd, decay, map, width, block);
    }
}
