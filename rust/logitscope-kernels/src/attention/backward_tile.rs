//! The backward pass of one span: its tiles of queries one after the other against all key tiles that they see.

use super::backward::Upstream;
use super::non_finite::add_seen;
use super::problem::Problem;
use super::products::PairScratch;
use super::query_rows::{QueryRows, QueryRowsScratch};
use super::sight::Sees;
use super::tile::{MOST_QUERIES, blocks_for, dot, rows_or, store_rows, total, untranspose, zeroed};
use super::tile_scores::{LaneScratch, TileScores, is_wide};
use super::wide::WideRow;
use crate::matmul::Panel;
use crate::view::{Matrix, RowsMut};
use logitscope_simd::{Element, Kernel, Simd, Stored, math};
use std::ops::Range;

/// Gradients of what belongs to a head, summed over a tile of queries.
#[derive(Clone, Copy, Default)]
pub(super) struct HeadSums {
    pub(super) sink: f64,
    pub(super) slope: f64,
    pub(super) sigmoid_bias: f64,
}

impl HeadSums {
    pub(super) fn add(&mut self, other: Self) {
        self.sink += other.sink;
        self.slope += other.slope;
        self.sigmoid_bias += other.sigmoid_bias;
    }
}

/// A tile of queries and where its gradients go.
pub(super) struct TileGradients<'a, X: Stored> {
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    pub(super) dqueries: RowsMut<'a, X>,
    pub(super) dtemperature: Option<&'a mut [X::Wide]>,
    pub(super) sums: &'a mut HeadSums,
}

/// Tiles of the query heads that a key head serves, and where the gradients of keys and values go.
pub(super) struct Span<'a, X: Stored, K: Stored<Wide = X::Wide>> {
    pub(super) problem: &'a Problem<'a, X::Wide>,
    pub(super) upstream: &'a Upstream<'a, X::Wide>,
    pub(super) batch: usize,
    pub(super) key_head: usize,
    pub(super) tiles: Vec<TileGradients<'a, X>>,
    pub(super) dkeys: RowsMut<'a, K>,
    pub(super) dvalues: RowsMut<'a, K>,
}

/// Buffers that a thread uses again; `*_rows` are padded rows.
pub(super) struct Scratch<T: Element> {
    lanes: LaneScratch<T>,
    queries: QueryRowsScratch<T>,
    douts: QueryRowsScratch<T>,
    /// Of 16-bit numbers that are multiplied in pairs.
    pairs: PairScratch<T>,
    pair_rows: Vec<T>,
    dquery_lanes: Vec<T::Block>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            lanes: LaneScratch::default(),
            queries: QueryRowsScratch::default(),
            douts: QueryRowsScratch::default(),
            pairs: PairScratch::default(),
            pair_rows: Vec::new(),
            dquery_lanes: Vec::new(),
        }
    }
}

/// Runs the tiles of a span and stores its gradients.
pub(super) fn run_span<X: Stored, K: Stored<Wide = X::Wide>>(
    span: Span<'_, X, K>,
    scratch: &mut Scratch<X::Wide>,
    padded: &mut [Vec<<X::Wide as Element>::Block>; 3],
) {
    let Span { problem, upstream, batch, key_head, tiles, mut dkeys, mut dvalues } = span;
    let ([.., keys, dim], [.., value_dim]) = (problem.keys.shape(), problem.values.shape());
    let (width, value_width) = (blocks_for::<X::Wide>(dim), blocks_for::<X::Wide>(value_dim));
    let [padded_queries, padded_keys, padded_values] = padded;
    let key_rows = rows_or(&mut dkeys, keys * width, padded_keys);
    let value_rows = rows_or(&mut dvalues, keys * value_width, padded_values);
    key_rows.fill(X::Wide::block(X::Wide::ZERO));
    value_rows.fill(X::Wide::block(X::Wide::ZERO));
    let has_pairs = problem.has_pairs() && upstream.dout.has_pairs();
    for tile in tiles {
        let TileGradients { head, queries, mut dqueries, dtemperature, sums } = tile;
        let query_rows = rows_or(&mut dqueries, queries.len() * width, padded_queries);
        let target = Target { queries: query_rows, keys: key_rows, values: value_rows };
        let tile = Tile { problem, upstream, batch, key_head, head, queries, dtemperature, sums };
        let kernel = TileKernel { tile, scratch, target };
        if has_pairs {
            X::Wide::dispatch_tiles(kernel);
        } else {
            X::Wide::dispatch(kernel);
        }
        store_rows(padded_queries, dqueries);
    }
    store_rows(padded_keys, dkeys);
    store_rows(padded_values, dvalues);
}

/// Where the gradients of a tile go, padded rows each: written those of its queries, added those of all keys and values.
struct Target<'a, T: Element> {
    queries: &'a mut [T::Block],
    keys: &'a mut [T::Block],
    values: &'a mut [T::Block],
}

/// A tile of queries.
struct Tile<'a, T> {
    problem: &'a Problem<'a, T>,
    upstream: &'a Upstream<'a, T>,
    batch: usize,
    key_head: usize,
    head: usize,
    queries: Range<usize>,
    dtemperature: Option<&'a mut [T]>,
    sums: &'a mut HeadSums,
}

struct TileKernel<'a, 'b, T: Element> {
    tile: Tile<'a, T>,
    scratch: &'b mut Scratch<T>,
    target: Target<'b, T>,
}

impl<T: Element> Kernel<T> for TileKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        run_tile(simd, self.tile, self.scratch, self.target);
    }
}

/// One tile of queries against all key tiles that it sees.
#[inline(always)]
fn run_tile<T: Element, S: Simd<T>>(
    simd: S,
    tile: Tile<'_, T>,
    scratch: &mut Scratch<T>,
    target: Target<'_, T>,
) {
    let Tile { problem, upstream, batch, key_head, head, .. } = tile;
    let Target { queries: dqueries, keys: all_dkeys, values: all_dvalues } = target;
    let queries = &tile.queries.clone();
    let dim = problem.keys.shape()[3];
    let key_width = blocks_for::<T>(dim);
    let value_width = blocks_for::<T>(problem.values.shape()[3]);

    let scores = TileScores::new(simd, problem, upstream, batch, head, queries.clone(), &mut scratch.lanes);
    let width = scores.width;
    // What a tile of scores has read of 16-bit numbers is in its buffers; the queries gave way to the gradients.
    let dout = upstream.dout.widened(batch, head, queries.clone(), &scratch.lanes.rows);
    let (part, buffer) = ((batch, head, queries), &mut scratch.pair_rows);
    let douts = QueryRows::new(simd, &upstream.dout, part, dout, &scores.ones, buffer, &mut scratch.douts);
    let rows = problem.queries.rows(batch, head, queries.clone(), &mut scratch.lanes.rows);
    let query_rows =
        QueryRows::new(simd, &problem.queries, part, rows, &scores.factors, buffer, &mut scratch.queries);
    let dquery_lanes = zeroed::<T>(&mut scratch.dquery_lanes, dim * width);

    let mut sums = HeadSums { sink: scores.dsink, ..HeadSums::default() };
    for range in scores.sight.key_tiles() {
        let sees = scores.run(simd, &range, &mut scratch.lanes);
        if sees == Sees::Nothing {
            continue;
        }
        let weights = &scratch.lanes.weights[..range.len() * width];
        let dscores = &mut scratch.lanes.dscores[..range.len() * width];
        if problem.slopes.is_some() {
            sums.slope += scores.steps.slope_gradient(simd, &range, width, dscores);
        }
        if !problem.is_normalised() {
            sums.sigmoid_bias += total::<T, S>(simd, dscores);
        }
        if scores.steps.bends() {
            for (dscore, bend) in dscores.iter_mut().zip(&scratch.lanes.bends) {
                simd.store(math::flush(simd, simd.mul(simd.load(dscore), simd.load(bend))), dscore);
            }
        }
        let dkeys = &mut all_dkeys[range.start * key_width..range.end * key_width];
        let dvalues = &mut all_dvalues[range.start * value_width..range.end * value_width];
        let (weights, dscores) = (Panel { blocks: weights, width }, Panel { blocks: dscores, width });
        let (spans, lanes) = (scores.sight.spans(&range), scores.sight.lane_spans(&range));
        let (sight, pairs) = (&scores.sight, &mut scratch.pairs);
        douts.add(simd, sight, &range, &weights, &lanes, pairs, dvalues);
        query_rows.add(simd, sight, &range, &dscores, &lanes, pairs, dkeys);
        let (keys, part, rows) = (&problem.keys, (batch, key_head, &range), &mut scratch.lanes.key_rows);
        add_seen(simd, keys, part, sight, sees, &dscores, &spans[..width], rows, pairs, dquery_lanes);
    }
    for (lane, row) in scores.wide_rows() {
        let dquery = T::flatten_mut(dquery_lanes).iter_mut().skip(lane).step_by(width * T::LANES);
        let rows = (&mut *all_dkeys, &mut *all_dvalues);
        add_wide_row(&tile, queries.start + lane, &row, dquery, rows, &mut sums);
    }
    *tile.sums = sums;
    let rows = problem.queries.widened(batch, head, queries.clone(), &scratch.lanes.rows);
    write_dqueries(simd, tile, rows, dquery_lanes, width, dqueries);
}

/// Adds what a row gives that is computed in f64; its gradient by `t` and the scale still to be multiplied in.
fn add_wide_row<'a, T: Element>(
    tile: &Tile<'_, T>,
    query: usize,
    row: &WideRow<'_, T>,
    dquery: impl Iterator<Item = &'a mut T>,
    (dkeys, dvalues): (&mut [T::Block], &mut [T::Block]),
    sums: &mut HeadSums,
) {
    let Tile { problem, upstream, batch, key_head, head, .. } = *tile;
    let (dscores, dsink) = row.score_gradients(upstream, batch, head, query);
    let temperature = problem.inv_temperature.map_or(1.0, |rows| rows.get(batch, head, query).to_f64());
    let factor = problem.scale.to_f64() * temperature;
    let (mut q, mut dout, mut key_row) = (Vec::new(), Vec::new(), Vec::new());
    let q = problem.queries.row(batch, head, query, &mut q);
    let dout = upstream.dout.row(batch, head, query, &mut dout);
    let padded = |columns: usize| blocks_for::<T>(columns) * T::LANES;
    let (dkeys, dvalues) = (T::flatten_mut(dkeys), T::flatten_mut(dvalues));
    let mut du = vec![0.0; q.len()];
    for (key, &dscore) in row.keys.iter().zip(&dscores) {
        if key.weight != 0.0 {
            for (cell, &x) in dvalues[key.key * padded(dout.len())..].iter_mut().zip(dout) {
                *cell += T::from_f64(key.weight * key.factor * x.to_f64());
            }
        }
        if dscore != 0.0 {
            for (cell, &x) in dkeys[key.key * padded(q.len())..].iter_mut().zip(q) {
                *cell += T::from_f64(factor * dscore * key.bend * x.to_f64());
            }
            let key_row = problem.keys.row(batch, key_head, key.key, &mut key_row);
            for (cell, &x) in du.iter_mut().zip(key_row) {
                *cell += dscore * key.bend * x.to_f64();
            }
        }
        sums.slope -= dscore * key.distance;
        sums.sigmoid_bias += dscore;
    }
    sums.sink += dsink;
    for (cell, du) in dquery.zip(du) {
        *cell = T::from_f64(du);
    }
}

/// `dq = t u` and `dt = q . u` with `u = scale sum_j ds_j k_j`, for a tile of queries, whose rows are `rows`.
#[inline(always)]
fn write_dqueries<T: Element, S: Simd<T>>(
    simd: S,
    mut tile: Tile<'_, T>,
    rows: Matrix<'_, T>,
    dquery_lanes: &[T::Block],
    width: usize,
    written: &mut [T::Block],
) {
    let Tile { problem, upstream, batch, head, .. } = tile;
    let mut ones = [T::ZERO; MOST_QUERIES];
    let ones = &mut ones[..rows.rows()];
    ones.fill(T::ONE);
    untranspose(simd, dquery_lanes, width, ones, written);
    let row_width = written.len() / rows.rows();
    for (lane, query) in tile.queries.clone().enumerate() {
        let written = &mut written[lane * row_width..(lane + 1) * row_width];
        let sees_nothing = upstream.max_logit.get(batch, head, query) == T::NEG_INFINITY;
        if sees_nothing && !is_wide(upstream, batch, head, query) {
            // What it holds itself does not count.
            written.fill(T::block(T::ZERO));
            if let Some(dtemperature) = &mut tile.dtemperature {
                dtemperature[lane] = T::ZERO;
            }
            continue;
        }
        if let Some(dtemperature) = &mut tile.dtemperature {
            let q = rows.row(lane);
            dtemperature[lane] = problem.scale * dot(simd, q, &T::flatten(written)[..q.len()]);
        }
        let factor = simd.splat(problem.factor(batch, head, query));
        for cell in written {
            simd.store(simd.mul(factor, simd.load(cell)), cell);
        }
    }
}
