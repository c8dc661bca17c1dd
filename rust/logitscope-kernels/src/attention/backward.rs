//! The backward pass: all gradients of one key head by one owner, so that sums have one order.
//!
//! Weights are computed again from the scores, `max_logit` and `inv_sum` of the forward pass: a weight from
//! a rounded `lse` would have an error that grows with its size (3e-4 at a score offset of 1e4 in f32).
//!
//! With `D_i = do_i . o_i` and the upstream gradients of `out`, `lse` and `entropy`:
//!
//! - `dp_ij = do_i . v_j`
//! - `ds_ij = p_ij (dp_ij - D_i + dlse_i - dh_i (ln p_ij + h_i))`
//! - `dv_j = sum_i p_ij do_i`, `dk_j = sum_i ds_ij scale t_i q_i` over the queries of all heads of the group
//! - `dsink = sum_i p_i (-D_i + dlse_i - dh_i (ln p_i + h_i))` with `p_i` the sink's weight: a score without a value
//! - `u_i = scale sum_j ds_ij k_j`, `dq_i = t_i u_i`, `dt_i = q_i . u_i` (no division, so `t_i = 0` is fine)

use super::problem::Problem;
use super::sight::{Sees, Sight};
use super::tile::{
    Cursor, KEYS, QUERY_BLOCKS, add_visible_product, add_visible_rows, blocks_for, clear_hidden,
    has_non_finite, pad, tile_queries, transpose, zeroed,
};
use crate::error::Result;
use crate::matmul::{Panel, add_columns_product, add_rows_product};
use crate::threads::{self, Cancel};
use crate::view::{Heads, Matrix, Rows};
use logitscope_simd::{Element, Kernel, Simd, math};
use std::ops::Range;

/// What the forward pass gave and what the gradient of its results is.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T> {
    /// The output, (batch, heads, queries, value dim).
    pub out: Heads<'a, T>,
    /// The largest score of each row.
    pub max_logit: Rows<'a, T>,
    /// 1 over the sum of each row.
    pub inv_sum: Rows<'a, T>,
    /// Gradient of the output.
    pub dout: Heads<'a, T>,
    /// Gradient of `lse`.
    pub dlse: Option<Rows<'a, T>>,
    /// The entropy of each row and its gradient.
    pub entropy: Option<(Rows<'a, T>, Rows<'a, T>)>,
}

/// Where the gradients go, in row-major order.
pub struct Gradients<'a, T> {
    /// Of the queries.
    pub queries: &'a mut [T],
    /// Of the keys.
    pub keys: &'a mut [T],
    /// Of the values.
    pub values: &'a mut [T],
    /// Of the inverse temperatures, (batch, heads, queries).
    pub inv_temperature: Option<&'a mut [T]>,
    /// Of the sinks, (heads).
    pub sinks: Option<&'a mut [T]>,
}

/// Computes the gradients of attention.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If a gradient has another length than the shapes say.
pub fn backward<T: Element>(
    problem: &Problem<'_, T>,
    upstream: &Upstream<'_, T>,
    gradients: Gradients<'_, T>,
    cancel: &Cancel,
) -> Result<()> {
    problem.check()?;
    let [batch, heads, queries, dim] = problem.queries.shape();
    let [_, key_heads, keys, value_dim] = problem.values.shape();
    assert_eq!(gradients.queries.len(), batch * heads * queries * dim, "attention: length of dq");
    assert_eq!(gradients.keys.len(), batch * key_heads * keys * dim, "attention: length of dk");
    assert_eq!(gradients.values.len(), batch * key_heads * keys * value_dim, "attention: length of dv");
    let group = problem.group();
    let mut dq = Cursor(gradients.queries);
    let mut dk = Cursor(gradients.keys);
    let mut dv = Cursor(gradients.values);
    let mut dtemperature = gradients.inv_temperature.map(Cursor);
    let mut sink_parts = vec![T::ZERO; if gradients.sinks.is_some() { batch * heads } else { 0 }];
    let mut dsinks = gradients.sinks.is_some().then_some(Cursor(&mut sink_parts));
    let mut pieces = Vec::with_capacity(batch * key_heads);
    for batch in 0..batch {
        for key_head in 0..key_heads {
            pieces.push(KeyHead {
                problem,
                upstream,
                batch,
                index: key_head,
                dq: dq.take(group * queries * dim),
                dk: dk.take(keys * dim),
                dv: dv.take(keys * value_dim),
                dtemperature: dtemperature.as_mut().map(|cursor| cursor.take(group * queries)),
                dsinks: dsinks.as_mut().map(|cursor| cursor.take(group)),
            });
        }
    }
    threads::for_each(
        pieces,
        problem.work().saturating_mul(3),
        cancel,
        Scratch::default,
        |scratch, piece| {
            T::dispatch(KeyHeadKernel { piece, scratch });
        },
    )?;
    if let Some(sums) = gradients.sinks {
        assert_eq!(sums.len(), heads, "attention: length of dsinks");
        for (head, sum) in sums.iter_mut().enumerate() {
            let parts = sink_parts.iter().skip(head).step_by(heads);
            *sum = T::from_f64(parts.map(|part| part.to_f64()).sum());
        }
    }
    Ok(())
}

/// A key head with the query heads that it serves, and where their gradients go.
struct KeyHead<'a, T> {
    problem: &'a Problem<'a, T>,
    upstream: &'a Upstream<'a, T>,
    batch: usize,
    index: usize,
    dq: &'a mut [T],
    dk: &'a mut [T],
    dv: &'a mut [T],
    dtemperature: Option<&'a mut [T]>,
    /// One sum for each query head of the group.
    dsinks: Option<&'a mut [T]>,
}

/// Buffers that a thread uses again. `*_lanes` are transposed (queries in the lanes), `*_rows` are padded rows.
struct Scratch<T: Element> {
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

struct KeyHeadKernel<'a, 'b, T: Element> {
    piece: KeyHead<'a, T>,
    scratch: &'b mut Scratch<T>,
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

impl<T: Element> Kernel<T> for KeyHeadKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { mut piece, scratch } = self;
        let problem = piece.problem;
        let keys = problem.keys.matrix(piece.batch, piece.index);
        let values = problem.values.matrix(piece.batch, piece.index);
        zeroed::<T>(&mut scratch.dkeys, keys.rows() * blocks_for::<T>(keys.columns()));
        zeroed::<T>(&mut scratch.dvalues, keys.rows() * blocks_for::<T>(values.columns()));
        let queries = problem.queries.shape()[2];
        for member in 0..problem.group() {
            for start in (0..queries).step_by(tile_queries::<T>()) {
                let range = start..queries.min(start + tile_queries::<T>());
                tile(simd, &mut piece, scratch, member, &range);
            }
        }
        unpad::<T>(&scratch.dkeys, keys.columns(), piece.dk);
        unpad::<T>(&scratch.dvalues, values.columns(), piece.dv);
    }
}

/// One tile of queries of one query head against all key tiles that it sees.
#[inline(always)]
fn tile<T: Element, S: Simd<T>>(
    simd: S,
    piece: &mut KeyHead<'_, T>,
    scratch: &mut Scratch<T>,
    member: usize,
    queries: &Range<usize>,
) {
    let (problem, batch) = (piece.problem, piece.batch);
    let head = piece.index * problem.group() + member;
    let keys = problem.keys.matrix(batch, piece.index);
    let values = problem.values.matrix(batch, piece.index);
    let query_matrix = problem.queries.matrix(batch, head);
    let dout_matrix = piece.upstream.dout.matrix(batch, head);
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

    let (terms, dsink) = row_terms(simd, piece.upstream, problem.sink(head), batch, head, queries);
    if let Some(dsinks) = &mut piece.dsinks {
        dsinks[member] += dsink;
    }
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
            if piece.upstream.entropy.is_some() {
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
    write_dqueries::<T>(piece, member, queries, dquery_lanes, width);
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
) -> ([RowTerms<S::Vector>; QUERY_BLOCKS], T) {
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
    (terms, T::from_f64(dsink))
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
    piece: &mut KeyHead<'_, T>,
    member: usize,
    queries: &Range<usize>,
    dquery_lanes: &[T::Block],
    width: usize,
) {
    let problem = piece.problem;
    let head = piece.index * problem.group() + member;
    let [_, _, all_queries, dim] = problem.queries.shape();
    let matrix = problem.queries.matrix(piece.batch, head);
    let lanes = T::flatten(dquery_lanes);
    for (lane, query) in queries.clone().enumerate() {
        let row = member * all_queries + query;
        if piece.upstream.max_logit.get(piece.batch, head, query) == T::NEG_INFINITY {
            // Sees no key: what it holds itself does not count.
            piece.dq[row * dim..(row + 1) * dim].fill(T::ZERO);
            if let Some(dtemperature) = &mut piece.dtemperature {
                dtemperature[row] = T::ZERO;
            }
            continue;
        }
        let factor = problem.factor(piece.batch, head, query);
        let mut product = T::ZERO;
        let written = &mut piece.dq[row * dim..(row + 1) * dim];
        for ((cell, column), &q) in
            written.iter_mut().zip(lanes.chunks_exact(width * T::LANES)).zip(matrix.row(query))
        {
            *cell = factor * column[lane];
            product += q * column[lane];
        }
        if let Some(dtemperature) = &mut piece.dtemperature {
            dtemperature[row] = problem.scale * product;
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

/// Copies padded rows of `columns` numbers back to back.
fn unpad<T: Element>(padded: &[T::Block], columns: usize, out: &mut [T]) {
    if columns == 0 {
        return;
    }
    let padded_len = blocks_for::<T>(columns) * T::LANES;
    for (row, out) in T::flatten(padded).chunks_exact(padded_len).zip(out.chunks_exact_mut(columns)) {
        out.copy_from_slice(&row[..columns]);
    }
}
