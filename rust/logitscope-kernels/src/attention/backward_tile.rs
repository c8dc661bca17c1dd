//! The backward pass of one span: its tiles of queries one after the other against all key tiles that they see.

use super::backward::Upstream;
use super::problem::Problem;
use super::sight::{Sees, Sight};
use super::tile::{
    KEYS, QUERY_BLOCKS, add_visible_product, add_visible_rows, blocks_for, clear_hidden, has_non_finite, pad,
    transpose, zeroed,
};
use crate::matmul::{Panel, add_columns_product, add_rows_product};
use crate::view::{Matrix, RowsMut};
use logitscope_simd::{Element, Kernel, Simd, math};
use std::ops::Range;

/// Gradients of what belongs to a head, summed over a tile of queries.
#[derive(Clone, Copy, Default)]
pub(super) struct HeadSums {
    pub(super) sink: f64,
}

impl HeadSums {
    pub(super) fn add(&mut self, other: Self) {
        self.sink += other.sink;
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

/// Buffers that a thread uses again. `*_lanes` are transposed (queries in the lanes), `*_rows` are padded rows.
pub(super) struct Scratch<T: Element> {
    query_lanes: Vec<T::Block>,
    query_rows: Vec<T::Block>,
    dout_lanes: Vec<T::Block>,
    dout_rows: Vec<T::Block>,
    weights: Vec<T::Block>,
    dscores: Vec<T::Block>,
    dquery_lanes: Vec<T::Block>,
    dkeys: Vec<T::Block>,
    dvalues: Vec<T::Block>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            query_lanes: Vec::new(),
            query_rows: Vec::new(),
            dout_lanes: Vec::new(),
            dout_rows: Vec::new(),
            weights: Vec::new(),
            dscores: Vec::new(),
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

/// What the gradient of a score needs of its row, one vector of rows.
#[derive(Clone, Copy)]
struct RowTerms<V> {
    /// The largest score, the sink's included; 0 for rows without any.
    reference: V,
    inv_sum: V,
    /// `-D + dlse - dh (ln(1/sum) + h)`: what is added to `dp`.
    offset: V,
    /// `dh`: what multiplies `-(s - max)`.
    dentropy: V,
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
    let values = problem.values.matrix(batch, span.key_head);
    let query_matrix = problem.queries.matrix(batch, head);
    let dout_matrix = upstream.dout.matrix(batch, head);
    let width = blocks_for::<T>(queries.len());
    let key_width = blocks_for::<T>(keys.columns());
    let value_width = blocks_for::<T>(values.columns());
    let factor = |query| problem.factor(batch, head, query);

    let query_lanes = zeroed::<T>(&mut scratch.query_lanes, keys.columns() * width);
    transpose(query_matrix, queries, width, factor, query_lanes);
    let query_lanes = Panel { blocks: query_lanes, width };
    let query_rows = zeroed::<T>(&mut scratch.query_rows, queries.len() * key_width);
    pad(query_matrix, queries, factor, query_rows);
    let query_rows = Panel { blocks: query_rows, width: key_width };
    let dout_lanes = zeroed::<T>(&mut scratch.dout_lanes, values.columns() * width);
    transpose(dout_matrix, queries, width, |_| T::ONE, dout_lanes);
    let dout_lanes = Panel { blocks: dout_lanes, width };
    let dout_rows = zeroed::<T>(&mut scratch.dout_rows, queries.len() * value_width);
    pad(dout_matrix, queries, |_| T::ONE, dout_rows);
    let dout_rows = Panel { blocks: dout_rows, width: value_width };
    let dquery_lanes = zeroed::<T>(&mut scratch.dquery_lanes, keys.columns() * width);

    let (terms, dsink) = row_terms(simd, upstream, problem.sink(head), batch, head, queries);
    tile.sums.sink = dsink;
    // As they go into the products: a temperature may be what is not finite.
    let scaled =
        Matrix::new(T::flatten(query_rows.blocks), queries.len(), key_width * T::LANES, key_width * T::LANES);
    let queries_are_finite = !has_non_finite(simd, scaled, 0..queries.len())
        && !has_non_finite(simd, dout_matrix, queries.clone());

    let sight = Sight::new(problem, batch, head, queries.clone());
    for range in sight.key_tiles() {
        let sees = sight.of(&range);
        if sees == Sees::Nothing {
            continue;
        }
        let weights = zeroed::<T>(&mut scratch.weights, KEYS * width);
        let weights = &mut weights[..range.len() * width];
        add_rows_product(simd, keys, range.clone(), &query_lanes, weights);
        let dscores = zeroed::<T>(&mut scratch.dscores, KEYS * width);
        let dscores = &mut dscores[..range.len() * width];
        add_rows_product(simd, values, range.clone(), &dout_lanes, dscores);
        for (block, terms) in terms.iter().enumerate().take(width) {
            if upstream.entropy.is_some() {
                score_gradients::<T, S, true>(simd, terms, weights, dscores, width, block);
            } else {
                score_gradients::<T, S, false>(simd, terms, weights, dscores, width, block);
            }
        }
        if sees == Sees::Part {
            clear_hidden(simd, &sight, range.clone(), width, T::ZERO, weights);
            clear_hidden(simd, &sight, range.clone(), width, T::ZERO, dscores);
        }
        let dkeys = &mut scratch.dkeys[range.start * key_width..range.end * key_width];
        let dvalues = &mut scratch.dvalues[range.start * value_width..range.end * value_width];
        let dscores_panel = Panel { blocks: dscores, width };
        if sees == Sees::Part && (!queries_are_finite || has_non_finite(simd, keys, range.clone())) {
            for (index, key) in range.clone().enumerate() {
                let dvalue = &mut dvalues[index * value_width..(index + 1) * value_width];
                let dkey = &mut dkeys[index * key_width..(index + 1) * key_width];
                let row = index * width..(index + 1) * width;
                add_visible_rows(simd, &sight, key, &weights[row.clone()], &dout_rows, dvalue);
                add_visible_rows(simd, &sight, key, &dscores[row], &query_rows, dkey);
            }
            add_visible_product(simd, &sight, keys, range, &dscores_panel, dquery_lanes);
        } else {
            let as_matrix =
                |panel| Matrix::new(T::flatten(panel), range.len(), queries.len(), width * T::LANES);
            add_rows_product(simd, as_matrix(weights), 0..range.len(), &dout_rows, dvalues);
            add_rows_product(simd, as_matrix(dscores), 0..range.len(), &query_rows, dkeys);
            add_columns_product(simd, keys, range.clone(), &dscores_panel, dquery_lanes);
        }
    }
    write_dqueries::<T>(span, tile, dquery_lanes, width);
}

/// The terms of the score gradient that belong to the rows of a tile, and their gradient of the sink.
#[inline(always)]
fn row_terms<T: Element, S: Simd<T>>(
    simd: S,
    upstream: &Upstream<'_, T>,
    sink: Option<T>,
    batch: usize,
    head: usize,
    queries: &Range<usize>,
) -> ([RowTerms<S::Vector>; QUERY_BLOCKS], f64) {
    let out = upstream.out.matrix(batch, head);
    let dout = upstream.dout.matrix(batch, head);
    let mut reference = [T::block(T::ZERO); QUERY_BLOCKS];
    let (mut inv_sum, mut offset, mut dentropy) = (reference, reference, reference);
    let mut dsink = 0.0;
    for (lane, query) in queries.clone().enumerate() {
        let (block, lane) = (lane / T::LANES, lane % T::LANES);
        let share = upstream.inv_sum.get(batch, head, query);
        if share == T::ZERO {
            continue; // has no score: every term stays 0
        }
        let mut terms = -dot(simd, dout.row(query), out.row(query));
        if let Some(dlse) = upstream.dlse {
            terms += dlse.get(batch, head, query);
        }
        if let Some((entropy, gradient)) = upstream.entropy {
            let gradient = gradient.get(batch, head, query);
            terms -= gradient * (share.ln() + entropy.get(batch, head, query));
            dentropy[block].as_mut()[lane] = gradient;
        }
        let mut largest = upstream.max_logit.get(batch, head, query);
        if let Some(sink) = sink {
            if sink > largest {
                largest = sink;
            }
            let distance = sink - largest;
            if distance != T::NEG_INFINITY {
                let slope = terms - dentropy[block].as_ref()[lane] * distance;
                dsink += (distance.exp() * share * slope).to_f64();
            }
        }
        reference[block].as_mut()[lane] = largest;
        inv_sum[block].as_mut()[lane] = share;
        offset[block].as_mut()[lane] = terms;
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

/// Turns one vector of rows' scores into weights, and their `dp` into gradients of the scores.
///
/// Numbers below the smallest normal one become 0: the products that read them would take a hundred times longer.
#[inline(always)]
fn score_gradients<T: Element, S: Simd<T>, const ENTROPY: bool>(
    simd: S,
    terms: &RowTerms<S::Vector>,
    weights: &mut [T::Block],
    dscores: &mut [T::Block],
    width: usize,
    block: usize,
) {
    let zero = simd.splat(T::ZERO);
    let smallest = simd.splat(T::MIN_POSITIVE);
    for (weights, dscores) in weights.chunks_exact_mut(width).zip(dscores.chunks_exact_mut(width)) {
        let distance = simd.sub(simd.load(&weights[block]), terms.reference);
        let weight = simd.mul(math::exp(simd, distance), terms.inv_sum);
        let mut slope = simd.add(simd.load(&dscores[block]), terms.offset);
        if ENTROPY {
            slope = simd.sub(slope, simd.mul(terms.dentropy, distance));
        }
        let dscore = simd.mul(weight, slope);
        let size = simd.max(simd.sub(zero, dscore), dscore);
        let vanished = simd.less(weight, smallest);
        simd.store(simd.select(vanished, zero, weight), &mut weights[block]);
        let dscore = simd.select(simd.less(size, smallest), zero, dscore);
        simd.store(simd.select(vanished, zero, dscore), &mut dscores[block]);
    }
}

/// `dq = t u` and `dt = q . u` with `u = scale sum_j ds_j k_j`, for a tile of queries.
fn write_dqueries<T: Element>(
    span: &Span<'_, T>,
    mut tile: TileGradients<'_, T>,
    dquery_lanes: &[T::Block],
    width: usize,
) {
    let (problem, batch, head) = (span.problem, span.batch, tile.head);
    let matrix = problem.queries.matrix(batch, head);
    let lanes = T::flatten(dquery_lanes);
    for (lane, (query, written)) in tile.queries.zip(tile.dqueries).enumerate() {
        if span.upstream.max_logit.get(batch, head, query) == T::NEG_INFINITY {
            // Sees no key: what it holds itself does not count.
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

/// The sum of products of two rows.
#[inline(always)]
fn dot<T: Element, S: Simd<T>>(simd: S, a: &[T], b: &[T]) -> T {
    let ((a, a_tail), (b, b_tail)) = (T::blocks(a), T::blocks(b));
    let mut sum = simd.mul(simd.load_partial(a_tail, T::ZERO), simd.load_partial(b_tail, T::ZERO));
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add(simd.load(a), simd.load(b), sum);
    }
    simd.sum(sum)
}

/// Copies padded rows to where they belong.
fn unpad<T: Element>(padded: &[T::Block], rows: RowsMut<'_, T>) {
    let padded_len = (padded.len() * T::LANES).checked_div(rows.len()).unwrap_or(0);
    for (row, padded) in rows.into_iter().zip(T::flatten(padded).chunks_exact(padded_len.max(1))) {
        row.copy_from_slice(&padded[..row.len()]);
    }
}
