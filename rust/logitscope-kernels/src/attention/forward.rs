//! The forward pass, cut into tiles of queries.

use super::forward_tile::{Scratch, Tile, TileKernel};
use super::map::{self, MapBins};
use super::problem::Problem;
use super::tile::{Cursor, store_rows, tile_queries};
use super::top_keys::TopKeys;
use crate::error::Result;
use crate::threads::{self, Cancel};
use crate::view::HeadsMut;
use logitscope_simd::{Element, Stored};

/// Per-row results, each (batch, heads, queries) in row-major order.
pub struct Statistics<'a, T> {
    /// The largest score of a key; -inf where no key is seen.
    pub max_logit: &'a mut [T],
    /// 1 over the sum of e^(score - m), m the larger of `max_logit` and the sink: with `max_logit` the exact state
    /// for the backward pass. With sigmoid weighting 1 over the sum of the weights. Negative in a row whose scores
    /// leave the range of `T`, so that the backward pass computes it in f64 as well.
    pub inv_sum: &'a mut [T],
    /// The logarithm of the sum of the exponentials of the scores, the sink's included; of the sum of the weights
    /// with sigmoid weighting.
    pub lse: &'a mut [T],
    /// The entropy of the weights, over their sum, in nats, when wanted.
    pub entropy: Option<&'a mut [T]>,
}

/// Where the results go.
pub struct Output<'a, X: Stored> {
    /// (batch, heads, queries, value dim).
    pub out: HeadsMut<'a, X>,
    /// Figures of each row.
    pub statistics: Statistics<'a, X::Wide>,
    /// The binned map, (batch, heads, rows, columns), when wanted; at most one bin a query and a key.
    pub map: Option<(MapBins, &'a mut [X::Wide])>,
    /// The keys with the largest scores of each row, when wanted.
    pub top: Option<TopKeys<'a, X::Wide>>,
}

/// Computes attention and the statistics of its rows.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If an output has another shape or length than the inputs say.
pub fn forward<X: Stored>(
    problem: &Problem<'_, X::Wide>,
    output: Output<'_, X>,
    cancel: &Cancel,
) -> Result<()> {
    problem.check()?;
    let [batch, heads, queries, _] = problem.queries.shape();
    let value_dim = problem.values.shape()[3];
    let rows = batch * heads * queries;
    let Output { out, statistics, map, mut top } = output;
    assert_eq!(out.shape(), [batch, heads, queries, value_dim], "attention: shape of out");
    if rows == 0 {
        return Ok(());
    }
    let bins = map.as_ref().map(|(bins, _)| *bins);
    let part_len = bins.map_or(0, |bins| map::rows_per_tile::<X::Wide>(queries, bins) * bins.columns);
    let tiles = queries.div_ceil(tile_queries::<X::Wide>());
    let mut parts = vec![X::Wide::ZERO; batch * heads * tiles * part_len];

    let mut out = out.runs(tile_queries::<X::Wide>()).into_iter();
    let mut part = Cursor(&mut parts);
    let (mut max_logit, mut inv_sum) = (Cursor(statistics.max_logit), Cursor(statistics.inv_sum));
    let (mut lse, mut entropy) = (Cursor(statistics.lse), statistics.entropy.map(Cursor));
    let mut pieces = Vec::with_capacity(batch * heads * tiles);
    for batch in 0..batch {
        for head in 0..heads {
            for start in (0..queries).step_by(tile_queries::<X::Wide>()) {
                let range = start..queries.min(start + tile_queries::<X::Wide>());
                let rows = range.len();
                let tile = Tile {
                    problem,
                    batch,
                    head,
                    queries: range,
                    max_logit: max_logit.take(rows),
                    inv_sum: inv_sum.take(rows),
                    lse: lse.take(rows),
                    entropy: entropy.as_mut().map(|entropy| entropy.take(rows)),
                    map: bins.map(|bins| (bins, part.take(part_len))),
                    top: top.as_mut().map(|top| top.take(rows)),
                };
                pieces.push((tile, out.next().expect("one run a tile")));
            }
        }
    }
    let has_pairs = problem.has_pairs();
    threads::for_each(pieces, problem.work(), cancel, Scratch::default, |scratch, (tile, rows)| {
        let kernel = TileKernel { tile, scratch };
        if has_pairs {
            X::Wide::dispatch_pairs(kernel);
        } else {
            X::Wide::dispatch(kernel);
        }
        store_rows::<X>(&scratch.results, rows);
    })?;
    if let Some((bins, map)) = map {
        map::merge(problem, bins, &parts, map);
    }
    Ok(())
}
