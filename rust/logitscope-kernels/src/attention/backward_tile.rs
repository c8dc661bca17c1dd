//! The backward pass of one span: its tiles of queries one after the other against all key tiles that they see.

use super::backward::Upstream;
use super::problem::Problem;
use super::sight::Sees;
use super::tile::{add_visible_product, add_visible_rows, blocks_for, has_non_finite, pad, total, zeroed};
use super::tile_scores::{LaneScratch, TileScores, is_wide};
use super::wide::WideRow;
use crate::matmul::{Panel, add_columns_product, add_rows_product};
use crate::view::{Matrix, RowsMut};
use logitscope_simd::{Element, Kernel, Simd, math};
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
pub(super) struct TileGradients<'a, T> {
    pub(super) head: usize,
    pub(super) queries: Range<usize>,
    pub(super) dqueries: RowsMut<'a, T>,
    pub(super) dtemperature: Option<&'a mut [T]>,
    pub(super) sums: &'a mut HeadSums,
}

/// Tiles of the query heads that a key head serves, and where the gradients of keys and values go.
pub(super) struct Span<'a, T> {
    pub(super) problem: &'a Problem<'a, T>,
    pub(super) upstream: &'a Upstream<'a, T>,
    pub(super) batch: usize,
    pub(super) key_head: usize,
    pub(super) tiles: Vec<TileGradients<'a, T>>,
    pub(super) dkeys: RowsMut<'a, T>,
    pub(super) dvalues: RowsMut<'a, T>,
}

/// Buffers that a thread uses again; `*_rows` are padded rows.
pub(super) struct Scratch<T: Element> {
    lanes: LaneScratch<T>,
    query_rows: Vec<T::Block>,
    dout_rows: Vec<T::Block>,
    dquery_lanes: Vec<T::Block>,
    dkeys: Vec<T::Block>,
    dvalues: Vec<T::Block>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            lanes: LaneScratch::default(),
            query_rows: Vec::new(),
            dout_rows: Vec::new(),
            dquery_lanes: Vec::new(),
            dkeys: Vec::new(),
            dvalues: Vec::new(),
        }
    }
}

pub(super) struct SpanKernel<'a, 'b, T: Element> {
    pub(super) span: Span<'a, T>,
    pub(super) scratch: &'b mut Scratch<T>,
}

impl<T: Element> Kernel<T> for SpanKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { mut span, scratch } = self;
        let keys = span.problem.keys.matrix(span.batch, span.key_head);
        let values = span.problem.values.matrix(span.batch, span.key_head);
        zeroed::<T>(&mut scratch.dkeys, keys.rows() * blocks_for::<T>(keys.columns()));
        zeroed::<T>(&mut scratch.dvalues, keys.rows() * blocks_for::<T>(values.columns()));
        for tile in std::mem::take(&mut span.tiles) {
            run_tile(simd, &span, tile, scratch);
        }
        unpad::<T>(&scratch.dkeys, span.dkeys);
        unpad::<T>(&scratch.dvalues, span.dvalues);
    }
}

/// One tile of queries against all key tiles that it sees.
#[inline(always)]
fn run_tile<T: Element, S: Simd<T>>(
    simd: S,
    span: &Span<'_, T>,
    tile: TileGradients<'_, T>,
    scratch: &mut Scratch<T>,
) {
    let (problem, upstream, batch) = (span.problem, span.upstream, span.batch);
    let (head, queries) = (tile.head, &tile.queries.clone());
    let keys = problem.keys.matrix(batch, span.key_head);
    let dout_matrix = upstream.dout.matrix(batch, head);
    let key_width = blocks_for::<T>(keys.columns());
    let value_width = blocks_for::<T>(problem.values.shape()[3]);
    let counts = |query| !is_wide(upstream, batch, head, query);

    let scores = TileScores::new(simd, problem, upstream, batch, head, queries.clone(), &mut scratch.lanes);
    let width = scores.width;
    let query_rows = zeroed::<T>(&mut scratch.query_rows, queries.len() * key_width);
    let factor = |query| counts(query).then(|| problem.factor(batch, head, query));
    pad(problem.queries.matrix(batch, head), queries, factor, query_rows);
    let query_rows = Panel { blocks: query_rows, width: key_width };
    let dout_rows = zeroed::<T>(&mut scratch.dout_rows, queries.len() * value_width);
    pad(dout_matrix, queries, |query| counts(query).then_some(T::ONE), dout_rows);
    let dout_rows = Panel { blocks: dout_rows, width: value_width };
    let dquery_lanes = zeroed::<T>(&mut scratch.dquery_lanes, keys.columns() * width);
    // As they go into the products: a temperature may be what is not finite.
    let queries_are_finite = is_finite(simd, &query_rows) && is_finite(simd, &dout_rows);

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
        let dkeys = &mut scratch.dkeys[range.start * key_width..range.end * key_width];
        let dvalues = &mut scratch.dvalues[range.start * value_width..range.end * value_width];
        let dscores_panel = Panel { blocks: dscores, width };
        if sees == Sees::Part && (!queries_are_finite || has_non_finite(simd, keys, range.clone())) {
            for (index, key) in range.clone().enumerate() {
                let dvalue = &mut dvalues[index * value_width..(index + 1) * value_width];
                let dkey = &mut dkeys[index * key_width..(index + 1) * key_width];
                let row = index * width..(index + 1) * width;
                add_visible_rows(simd, &scores.sight, key, &weights[row.clone()], &dout_rows, dvalue);
                add_visible_rows(simd, &scores.sight, key, &dscores[row], &query_rows, dkey);
            }
            add_visible_product(simd, &scores.sight, keys, range, &dscores_panel, dquery_lanes);
        } else {
            let as_matrix =
                |panel| Matrix::new(T::flatten(panel), range.len(), queries.len(), width * T::LANES);
            add_rows_product(simd, as_matrix(weights), 0..range.len(), &dout_rows, dvalues);
            add_rows_product(simd, as_matrix(dscores), 0..range.len(), &query_rows, dkeys);
            add_columns_product(simd, keys, range.clone(), &dscores_panel, dquery_lanes);
        }
    }
    for (lane, row) in scores.wide_rows() {
        let dquery = T::flatten_mut(dquery_lanes).iter_mut().skip(lane).step_by(width * T::LANES);
        let target = (&mut *scratch.dkeys, &mut *scratch.dvalues);
        add_wide_row(span, head, queries.start + lane, &row, dquery, target, &mut sums);
    }
    *tile.sums = sums;
    write_dqueries::<T>(span, tile, dquery_lanes, width);
}

/// Whether padded rows hold neither NaN nor an infinity.
#[inline(always)]
fn is_finite<T: Element, S: Simd<T>>(simd: S, rows: &Panel<'_, T>) -> bool {
    !has_non_finite(simd, Matrix::new(T::flatten(rows.blocks), 1, rows.blocks.len() * T::LANES, 0), 0..1)
}

/// Adds what a row gives that is computed in f64; its gradient by `t` and the scale still to be multiplied in.
fn add_wide_row<'a, T: Element>(
    span: &Span<'_, T>,
    head: usize,
    query: usize,
    row: &WideRow<'_, T>,
    dquery: impl Iterator<Item = &'a mut T>,
    (dkeys, dvalues): (&mut [T::Block], &mut [T::Block]),
    sums: &mut HeadSums,
) {
    let problem = span.problem;
    let (dscores, dsink) = row.score_gradients(span.upstream, span.batch, head, query);
    let keys = problem.keys.matrix(span.batch, span.key_head);
    let temperature = problem.inv_temperature.map_or(1.0, |rows| rows.get(span.batch, head, query).to_f64());
    let factor = problem.scale.to_f64() * temperature;
    let q = problem.queries.matrix(span.batch, head).row(query);
    let dout = span.upstream.dout.matrix(span.batch, head).row(query);
    let padded = |columns: usize| blocks_for::<T>(columns) * T::LANES;
    let (dkeys, dvalues) = (T::flatten_mut(dkeys), T::flatten_mut(dvalues));
    let mut du = vec![0.0; keys.columns()];
    for (key, &dscore) in row.keys.iter().zip(&dscores) {
        if key.weight != 0.0 {
            for (cell, &x) in dvalues[key.key * padded(dout.len())..].iter_mut().zip(dout) {
                *cell += T::from_f64(key.weight * x.to_f64());
            }
        }
        if dscore != 0.0 {
            for (cell, &x) in dkeys[key.key * padded(q.len())..].iter_mut().zip(q) {
                *cell += T::from_f64(factor * dscore * key.bend * x.to_f64());
            }
            for (cell, &x) in du.iter_mut().zip(keys.row(key.key)) {
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

/// `dq = t u` and `dt = q . u` with `u = scale sum_j ds_j k_j`, for a tile of queries.
fn write_dqueries<T: Element>(
    span: &Span<'_, T>,
    mut tile: TileGradients<'_, T>,
    dquery_lanes: &[T::Block],
    width: usize,
) {
    let (problem, upstream, batch, head) = (span.problem, span.upstream, span.batch, tile.head);
    let matrix = problem.queries.matrix(batch, head);
    let lanes = T::flatten(dquery_lanes);
    for (lane, (query, written)) in tile.queries.zip(tile.dqueries).enumerate() {
        let sees_nothing = upstream.max_logit.get(batch, head, query) == T::NEG_INFINITY;
        if sees_nothing && !is_wide(upstream, batch, head, query) {
            // What it holds itself does not count.
            written.fill(T::ZERO);
            if let Some(dtemperature) = &mut tile.dtemperature {
                dtemperature[lane] = T::ZERO;
            }
            continue;
        }
        let factor = problem.factor(batch, head, query);
        let mut product = T::ZERO;
        for ((cell, column), &q) in
            written.iter_mut().zip(lanes.chunks_exact(width * T::LANES)).zip(matrix.row(query))
        {
            *cell = factor * column[lane];
            product += q * column[lane];
        }
        if let Some(dtemperature) = &mut tile.dtemperature {
            dtemperature[lane] = problem.scale * product;
        }
    }
}

/// Copies padded rows to where they belong.
fn unpad<T: Element>(padded: &[T::Block], rows: RowsMut<'_, T>) {
    let padded_len = (padded.len() * T::LANES).checked_div(rows.len()).unwrap_or(0);
    for (row, padded) in rows.into_iter().zip(T::flatten(padded).chunks_exact(padded_len.max(1))) {
        row.copy_from_slice(&padded[..row.len()]);
    }
}
