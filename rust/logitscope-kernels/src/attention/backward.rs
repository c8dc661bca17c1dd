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

use super::backward_tile::{HeadSums, Span, TileGradients, run_span};
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
    let Gradients { queries, keys, values, inv_temperature, sinks, slopes, sigmoid_bias } = gradients;
    let mut sums = vec![HeadSums::default(); tile_count(problem)];
    let rows = RowGradients { queries, keys, values };
    let tiles = rows.tiles(problem, inv_temperature, &mut sums);
    key_gradients(problem, upstream, tiles, cancel)?;
    let mut totals = vec![HeadSums::default(); problem.queries.shape()[1]];
    add_up(problem, &sums, &mut totals);
    OfHeads { sinks, slopes, sigmoid_bias }.fill(&totals);
    Ok(())
}

/// Computes the gradients of attention of sequences of different lengths, each a problem of one batch element and all with
/// as many heads. Those of its rows have the bits that [`backward`] gives, those of heads are summed over the sequences.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If a gradient has another shape or length than what it belongs to.
pub fn backward_packed<X: Stored>(
    problems: &[Problem<'_, X::Wide>],
    upstreams: &[Upstream<'_, X::Wide>],
    rows: Vec<RowGradients<'_, X>>,
    of_heads: OfHeads<'_, X::Wide>,
    cancel: &Cancel,
) -> Result<()> {
    let mut work = 0_usize;
    for problem in problems {
        problem.check()?;
        work = work.saturating_add(problem.work().saturating_mul(3));
    }
    let mut sums: Vec<_> =
        problems.iter().map(|problem| vec![HeadSums::default(); tile_count(problem)]).collect();
    let mut pieces = Vec::new();
    for (((problem, upstream), rows), sums) in problems.iter().zip(upstreams).zip(rows).zip(&mut sums) {
        let tiles = rows.tiles(problem, None, sums);
        if span_count(problem) == 1 {
            pieces.extend(spans(problem, upstream, tiles));
        } else {
            key_gradients(problem, upstream, tiles, cancel)?;
        }
    }
    run_spans(pieces, work, cancel)?;
    let heads = problems.first().map_or(0, |problem| problem.queries.shape()[1]);
    let mut totals = vec![HeadSums::default(); heads];
    for (problem, sums) in problems.iter().zip(&sums) {
        add_up(problem, sums, &mut totals);
    }
    of_heads.fill(&totals);
    Ok(())
}

/// Where the gradients of queries, keys and values go.
pub struct RowGradients<'a, X: Stored> {
    /// Of the queries.
    pub queries: HeadsMut<'a, X>,
    /// Of the keys.
    pub keys: HeadsMut<'a, X>,
    /// Of the values.
    pub values: HeadsMut<'a, X>,
}

/// Tiles of queries, and the rows of keys and values, one run of them a key head.
struct Tiles<'a, X: Stored> {
    queries: Vec<TileGradients<'a, X>>,
    keys: Vec<RowsMut<'a, X>>,
    values: Vec<RowsMut<'a, X>>,
}

impl<'a, X: Stored> RowGradients<'a, X> {
    /// Cuts the queries into tiles, each with a place for its part of the gradients of heads.
    fn tiles(
        self,
        problem: &Problem<'_, X::Wide>,
        inv_temperature: Option<&'a mut [X::Wide]>,
        sums: &'a mut [HeadSums],
    ) -> Tiles<'a, X> {
        assert_eq!(self.queries.shape(), problem.queries.shape(), "attention: shape of dq");
        assert_eq!(self.keys.shape(), problem.keys.shape(), "attention: shape of dk");
        assert_eq!(self.values.shape(), problem.values.shape(), "attention: shape of dv");
        let [_, heads, queries, _] = problem.queries.shape();
        let tile = tile_queries::<X::Wide>();
        let tiles_a_head = queries.div_ceil(tile);
        let mut dtemperature = inv_temperature.map(Cursor);
        let mut tiles = Vec::with_capacity(sums.len());
        for (index, (dqueries, sums)) in self.queries.runs(tile).into_iter().zip(sums).enumerate() {
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
        Tiles { queries: tiles, keys: self.keys.runs(run), values: self.values.runs(run) }
    }
}

/// Gradients of what belongs to heads, (heads) each, those that are wanted.
pub struct OfHeads<'a, T> {
    /// Of the sinks.
    pub sinks: Option<&'a mut [T]>,
    /// Of the slopes.
    pub slopes: Option<&'a mut [T]>,
    /// Of the biases of sigmoid weighting.
    pub sigmoid_bias: Option<&'a mut [T]>,
}

impl<T: Element> OfHeads<'_, T> {
    fn fill(self, totals: &[HeadSums]) {
        let fill = |gradient: Option<&mut [T]>, part: fn(&HeadSums) -> f64| {
            let Some(gradient) = gradient else { return };
            assert_eq!(gradient.len(), totals.len(), "attention: length of a gradient of heads");
            for (cell, total) in gradient.iter_mut().zip(totals) {
                *cell = T::from_f64(part(total));
            }
        };
        fill(self.sinks, |sums| sums.sink);
        fill(self.slopes, |sums| sums.slope);
        fill(self.sigmoid_bias, |sums| sums.sigmoid_bias);
    }
}

/// How many tiles of queries a problem has.
fn tile_count<T: Element>(problem: &Problem<'_, T>) -> usize {
    let [batch, heads, queries, _] = problem.queries.shape();
    batch * heads * queries.div_ceil(tile_queries::<T>())
}

/// Adds the sums of all tiles to those of their heads, in their order.
fn add_up<T: Element>(problem: &Problem<'_, T>, sums: &[HeadSums], totals: &mut [HeadSums]) {
    let tiles_a_head = problem.queries.shape()[2].div_ceil(tile_queries::<T>());
    for (index, &sums) in sums.iter().enumerate() {
        totals[index / tiles_a_head % problem.queries.shape()[1]].add(sums);
    }
}

/// How many spans the tiles of a key head are cut into.
fn span_count<T: Element>(problem: &Problem<'_, T>) -> usize {
    let [batch, key_heads, ..] = problem.keys.shape();
    let tiles_a_key_head = tile_count(problem).checked_div(batch * key_heads).unwrap_or(0);
    SPANS.div_ceil((batch * key_heads).max(1)).min(tiles_a_key_head / SPAN_TILES).max(1)
}

/// Runs all tiles, a span of them at a time, and fills the rows of keys and values.
fn key_gradients<X: Stored>(
    problem: &Problem<'_, X::Wide>,
    upstream: &Upstream<'_, X::Wide>,
    tiles: Tiles<'_, X>,
    cancel: &Cancel,
) -> Result<()> {
    let [batch, key_heads, keys, value_dim] = problem.values.shape();
    let (dim, work) = (problem.keys.shape()[3], problem.work().saturating_mul(3));
    let count = span_count(problem);
    if count == 1 {
        return run_spans(spans(problem, upstream, tiles), work, cancel);
    }
    // Each span fills a part of its own, in the type that is computed with: rounded is their sum.
    let shape = |dim| [batch, key_heads * count, keys, dim];
    let mut key_parts = vec![X::Wide::ZERO; shape(dim).iter().product()];
    let mut value_parts = vec![X::Wide::ZERO; shape(value_dim).iter().product()];
    let run = keys.max(1);
    let key_targets = HeadsMut::new(&mut key_parts, shape(dim), Order::HeadsFirst).runs(run);
    let value_targets = HeadsMut::new(&mut value_parts, shape(value_dim), Order::HeadsFirst).runs(run);
    let Tiles { queries, keys: dkeys, values: dvalues } = tiles;
    let pieces = spans_of(problem, upstream, queries, key_targets, value_targets);
    run_spans(pieces, work, cancel)?;
    let sums = dkeys.into_iter().zip(key_parts.chunks_mut((count * keys * dim).max(1)));
    let more_sums = dvalues.into_iter().zip(value_parts.chunks_mut((count * keys * value_dim).max(1)));
    let pieces = sums.chain(more_sums).collect();
    threads::for_each(
        pieces,
        problem.work(),
        cancel,
        || (),
        |(), (rows, parts)| {
            store_sum::<X>(rows, parts, count);
        },
    )
}

/// One span a key head.
fn spans<'a, X: Stored>(
    problem: &'a Problem<'a, X::Wide>,
    upstream: &'a Upstream<'a, X::Wide>,
    tiles: Tiles<'a, X>,
) -> Vec<Span<'a, X, X>> {
    spans_of(problem, upstream, tiles.queries, tiles.keys, tiles.values)
}

/// Cuts the tiles into as many spans as there are runs of keys, evenly within a key head.
fn spans_of<'a, X: Stored, K: Stored<Wide = X::Wide>>(
    problem: &'a Problem<'a, X::Wide>,
    upstream: &'a Upstream<'a, X::Wide>,
    tiles: Vec<TileGradients<'a, X>>,
    dkeys: Vec<RowsMut<'a, K>>,
    dvalues: Vec<RowsMut<'a, K>>,
) -> Vec<Span<'a, X, K>> {
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
    pieces
}

fn run_spans<X: Stored, K: Stored<Wide = X::Wide>>(
    spans: Vec<Span<'_, X, K>>,
    work: usize,
    cancel: &Cancel,
) -> Result<()> {
    threads::for_each(spans, work, cancel, Default::default, |(scratch, padded), span| {
        run_span(span, scratch, padded);
    })
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
