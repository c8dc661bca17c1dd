//! The backward pass: a key head and a span of the tiles of its queries by one owner, so that sums have one order.
//!
//! There is one span a key head where key heads are many. Where they are few, each span keeps the gradients of keys
//! and values for itself, and they are added up in the order of the spans.
//!
//! Weights are computed again from the scores, `max_logit` and `inv_sum` of the forward pass: a weight from
//! a rounded `lse` would have an error that grows with its size (3e-4 at a score offset of 1e4 in f32).
//!
//! With `D_i = do_i . o_i` and the upstream gradients of `out`, `lse` and `entropy`:
//!
//! - `dp_ij = do_i . v_j`
//! - `ds_ij = p_ij (dp_ij - D_i + dlse_i - dh_i (ln p_ij + h_i))`
//! - `dv_j = sum_i p_ij do_i`, `dk_j = sum_i dz_ij scale t_i q_i` over the queries of all heads of the group
//! - with dropout `dp_ij` and the `p_ij` of `dv_j` are multiplied by what the weight was; `D_i` and the rest stay
//! - with sigmoid weighting `ds_ij = w_ij (1 - w_ij) (dp_ij + (dlse_i - dh_i (ln p_ij + h_i)) / sum_i)`, p the share in the sum
//! - with a softcap the gradient of the product is `dz_ij = ds_ij (1 - (c_ij / cap)^2)`, else `ds_ij`
//! - `dslope = -sum_ij ds_ij |distance|`, `dbias = ds` summed over what it is shared by, and so that of a sigmoid bias
//! - `dsink = sum_i p_i (-D_i + dlse_i - dh_i (ln p_i + h_i))` with `p_i` the sink's weight: a score without a value
//! - `u_i = scale sum_j dz_ij k_j`, `dq_i = t_i u_i`, `dt_i = q_i . u_i` (no division, so `t_i = 0` is fine)

use super::backward_tile::{HeadSums, Scratch, Span, TileGradients, run_span};
use super::operand::Operand;
use super::problem::Problem;
use super::tile::{Cursor, tile_queries};
use crate::error::Result;
use crate::threads::{self, Cancel};
use crate::view::{HeadsMut, Order, Rows, RowsMut};
use logitscope_simd::{Element, Stored};

/// Spans are cut until there are so many, enough for the threads of a common machine.
const SPANS: usize = 8;

/// Tiles of queries in a span, at least: what makes adding up its gradients of keys and values cheap beside it.
const SPAN_TILES: usize = 16;

/// What the forward pass gave and what the gradient of its results is.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T> {
    /// The output, (batch, heads, queries, value dim).
    pub out: Operand<'a, T>,
    /// The largest score of each row.
    pub max_logit: Rows<'a, T>,
    /// 1 over the sum of each row.
    pub inv_sum: Rows<'a, T>,
    /// Gradient of the output.
    pub dout: Operand<'a, T>,
    /// Gradient of `lse`.
    pub dlse: Option<Rows<'a, T>>,
    /// The entropy of each row and its gradient.
    pub entropy: Option<(Rows<'a, T>, Rows<'a, T>)>,
}

/// Where the gradients go.
pub struct Gradients<'a, X: Stored> {
    /// Of the queries.
    pub queries: HeadsMut<'a, X>,
    /// Of the keys.
    pub keys: HeadsMut<'a, X>,
    /// Of the values.
    pub values: HeadsMut<'a, X>,
    /// Of the inverse temperatures, (batch, heads, queries) in row-major order.
    pub inv_temperature: Option<&'a mut [X::Wide]>,
    /// Of the sinks, (heads).
    pub sinks: Option<&'a mut [X::Wide]>,
    /// Of the slopes, (heads).
    pub slopes: Option<&'a mut [X::Wide]>,
    /// Of the biases of the heads of sigmoid weighting, (heads).
    pub sigmoid_bias: Option<&'a mut [X::Wide]>,
}

/// Computes the gradients of attention.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If a gradient has another shape or length than what it belongs to.
pub fn backward<X: Stored>(
    problem: &Problem<'_, X::Wide>,
    upstream: &Upstream<'_, X::Wide>,
    gradients: Gradients<'_, X>,
    cancel: &Cancel,
) -> Result<()> {
    problem.check()?;
    let [batch, heads, queries, _] = problem.queries.shape();
    let Gradients { queries: dqueries, keys: dkeys, values: dvalues, inv_temperature, .. } = gradients;
    assert_eq!(dqueries.shape(), problem.queries.shape(), "attention: shape of dq");
    assert_eq!(dkeys.shape(), problem.keys.shape(), "attention: shape of dk");
    assert_eq!(dvalues.shape(), problem.values.shape(), "attention: shape of dv");

    let tile = tile_queries::<X::Wide>();
    let tiles_a_head = queries.div_ceil(tile);
    let mut sums = vec![HeadSums::default(); batch * heads * tiles_a_head];
    let mut dtemperature = inv_temperature.map(Cursor);
    let mut tiles = Vec::with_capacity(sums.len());
    for (index, (dqueries, sums)) in dqueries.runs(tile).into_iter().zip(&mut sums).enumerate() {
        let start = index % tiles_a_head * tile;
        tiles.push(TileGradients {
            head: index / tiles_a_head % heads,
            queries: start..start + dqueries.len(),
            dtemperature: dtemperature.as_mut().map(|rows| rows.take(dqueries.len())),
            dqueries,
            sums,
        });
    }
    let run = problem.keys.shape()[2].max(1);
    key_gradients(problem, upstream, tiles, dkeys.runs(run), dvalues.runs(run), cancel)?;

    let mut totals = vec![HeadSums::default(); heads];
    for (index, &sums) in sums.iter().enumerate() {
        totals[index / tiles_a_head % heads].add(sums);
    }
    let fill = |gradient: Option<&mut [X::Wide]>, part: fn(&HeadSums) -> f64| {
        let Some(gradient) = gradient else { return };
        assert_eq!(gradient.len(), heads, "attention: length of a gradient of heads");
        for (cell, total) in gradient.iter_mut().zip(&totals) {
            *cell = X::Wide::from_f64(part(total));
        }
    };
    fill(gradients.sinks, |sums| sums.sink);
    fill(gradients.slopes, |sums| sums.slope);
    fill(gradients.sigmoid_bias, |sums| sums.sigmoid_bias);
    Ok(())
}

/// Runs all tiles, a span of them at a time, and fills the rows of keys and values, one run of them a key head.
fn key_gradients<X: Stored>(
    problem: &Problem<'_, X::Wide>,
    upstream: &Upstream<'_, X::Wide>,
    tiles: Vec<TileGradients<'_, X>>,
    dkeys: Vec<RowsMut<'_, X>>,
    dvalues: Vec<RowsMut<'_, X>>,
    cancel: &Cancel,
) -> Result<()> {
    let [batch, key_heads, keys, value_dim] = problem.values.shape();
    let dim = problem.keys.shape()[3];
    let tiles_a_key_head = tiles.len().checked_div(batch * key_heads).unwrap_or(0);
    let spans = SPANS.div_ceil((batch * key_heads).max(1)).min(tiles_a_key_head / SPAN_TILES).max(1);
    if spans == 1 {
        return run_spans(problem, upstream, tiles, dkeys, dvalues, cancel);
    }
    // Each span fills a part of its own, in the type that is computed with: rounded is their sum.
    let shape = |dim| [batch, key_heads * spans, keys, dim];
    let mut key_parts = vec![X::Wide::ZERO; shape(dim).iter().product()];
    let mut value_parts = vec![X::Wide::ZERO; shape(value_dim).iter().product()];
    let run = keys.max(1);
    let key_targets = HeadsMut::new(&mut key_parts, shape(dim), Order::HeadsFirst).runs(run);
    let value_targets = HeadsMut::new(&mut value_parts, shape(value_dim), Order::HeadsFirst).runs(run);
    run_spans(problem, upstream, tiles, key_targets, value_targets, cancel)?;
    let sums = dkeys.into_iter().zip(key_parts.chunks_mut((spans * keys * dim).max(1)));
    let more_sums = dvalues.into_iter().zip(value_parts.chunks_mut((spans * keys * value_dim).max(1)));
    let pieces = sums.chain(more_sums).collect();
    threads::for_each(
        pieces,
        problem.work(),
        cancel,
        || (),
        |(), (rows, parts)| {
            store_sum::<X>(rows, parts, spans);
        },
    )
}

/// Cuts the tiles into as many spans as there are runs of keys, evenly within a key head.
fn run_spans<X: Stored, K: Stored<Wide = X::Wide>>(
    problem: &Problem<'_, X::Wide>,
    upstream: &Upstream<'_, X::Wide>,
    tiles: Vec<TileGradients<'_, X>>,
    dkeys: Vec<RowsMut<'_, K>>,
    dvalues: Vec<RowsMut<'_, K>>,
    cancel: &Cancel,
) -> Result<()> {
    let [batch, key_heads, _, _] = problem.keys.shape();
    let all_key_heads = batch * key_heads;
    let tiles_a_key_head = tiles.len().checked_div(all_key_heads).unwrap_or(0);
    // Without keys there are no rows, but the gradients of the queries are to be filled.
    let spans = dkeys.len().checked_div(all_key_heads).unwrap_or(0).max(1);
    let (mut tiles, mut dkeys, mut dvalues) = (tiles.into_iter(), dkeys.into_iter(), dvalues.into_iter());
    let mut pieces = Vec::with_capacity(all_key_heads * spans);
    for index in 0..all_key_heads * spans {
        let (key_head, span) = (index / spans, index % spans);
        let count = (span + 1) * tiles_a_key_head / spans - span * tiles_a_key_head / spans;
        pieces.push(Span {
            problem,
            upstream,
            batch: key_head / key_heads,
            key_head: key_head % key_heads,
            tiles: tiles.by_ref().take(count).collect(),
            dkeys: dkeys.next().unwrap_or_default(),
            dvalues: dvalues.next().unwrap_or_default(),
        });
    }
    let work = problem.work().saturating_mul(3);
    threads::for_each(pieces, work, cancel, Scratch::default, |scratch, span| run_span(span, scratch))
}

/// Stores the sum of matrices of rows, which lie one after the other.
fn store_sum<X: Stored>(rows: RowsMut<'_, X>, parts: &mut [X::Wide], spans: usize) {
    let matrix = parts.len() / spans;
    let (sum, others) = parts.split_at_mut(matrix);
    for other in others.chunks_exact(matrix.max(1)) {
        for (sum, &x) in sum.iter_mut().zip(other) {
            *sum += x;
        }
    }
    let stride = matrix.checked_div(rows.len()).unwrap_or(0);
    rows.store(sum, stride);
}
