//! The forward pass, cut into tiles of queries.

use super::forward_tile::{Tile, TileKernel};
use super::map::{self, MapBins};
use super::problem::Problem;
use super::tile::{Cursor, blocks_for, rows_or, store_rows, tile_queries};
use super::top_keys::TopKeys;
use crate::error::Result;
use crate::threads::{self, Cancel};
use crate::view::{HeadsMut, RowsMut};
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
    let Output { out, statistics, map, top } = output;
    assert_eq!(out.shape(), [batch, heads, queries, value_dim], "attention: shape of out");
    if rows == 0 {
        return Ok(());
    }
    let bins = map.as_ref().map(|(bins, _)| *bins);
    let part_len = bins.map_or(0, |bins| map::rows_per_tile::<X::Wide>(queries, bins) * bins.columns);
    let tiles = queries.div_ceil(tile_queries::<X::Wide>());
    let mut parts = vec![X::Wide::ZERO; batch * heads * tiles * part_len];
    let mut extras = Extras { bins, part_len, parts: Cursor(&mut parts), top };
    let mut figures = statistics.of_heads(queries);
    let mut pieces = Vec::with_capacity(batch * heads * tiles);
    add_pieces(problem, out, &mut figures, &mut extras, &mut pieces);
    run(pieces, problem.work(), cancel)?;
    if let Some((bins, map)) = map {
        map::merge(problem, bins, &parts, map);
    }
    Ok(())
}

/// Computes attention of sequences of different lengths, each a problem of one batch element and all with as many heads,
/// and the statistics of their rows: (heads, queries of all sequences) each. A sequence has the bits that [`forward`] gives.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If an output has another shape or length than the inputs say.
pub fn forward_packed<X: Stored>(
    problems: &[Problem<'_, X::Wide>],
    outs: Vec<HeadsMut<'_, X>>,
    statistics: Statistics<'_, X::Wide>,
    cancel: &Cancel,
) -> Result<()> {
    let (mut all_queries, mut work) = (0, 0_usize);
    for (problem, out) in problems.iter().zip(&outs) {
        problem.check()?;
        let [batch, heads, queries, _] = problem.queries.shape();
        assert_eq!(batch, 1, "attention: batch elements of a sequence");
        assert_eq!(out.shape(), [1, heads, queries, problem.values.shape()[3]], "attention: shape of out");
        all_queries += queries;
        work = work.saturating_add(problem.work());
    }
    if all_queries == 0 {
        return Ok(());
    }
    let mut figures = statistics.of_heads(all_queries);
    let mut extras = Extras { bins: None, part_len: 0, parts: Cursor(&mut []), top: None };
    let mut pieces = Vec::new();
    for (problem, out) in problems.iter().zip(outs) {
        add_pieces(problem, out, &mut figures, &mut extras, &mut pieces);
    }
    run(pieces, work, cancel)
}

impl<'a, T: Element> Statistics<'a, T> {
    /// The figures of each head, of which there are `rows`.
    fn of_heads(self, rows: usize) -> Vec<Figures<'a, T>> {
        let mut entropy = self.entropy.map(|entropy| entropy.chunks_exact_mut(rows));
        let of_heads = self.max_logit.chunks_exact_mut(rows).zip(self.inv_sum.chunks_exact_mut(rows));
        of_heads
            .zip(self.lse.chunks_exact_mut(rows))
            .map(|((max_logit, inv_sum), lse)| Figures {
                max_logit: Cursor(max_logit),
                inv_sum: Cursor(inv_sum),
                lse: Cursor(lse),
                entropy: entropy.as_mut().map(|heads| Cursor(heads.next().expect("entropies of each head"))),
            })
            .collect()
    }
}

/// Where the figures of the next rows of a head go.
struct Figures<'a, T> {
    max_logit: Cursor<'a, T>,
    inv_sum: Cursor<'a, T>,
    lse: Cursor<'a, T>,
    entropy: Option<Cursor<'a, T>>,
}

/// Where the map and the top keys of the next rows go, where they are wanted.
struct Extras<'a, T> {
    bins: Option<MapBins>,
    part_len: usize,
    parts: Cursor<'a, T>,
    top: Option<TopKeys<'a, T>>,
}

/// A tile of queries and the rows of its output.
type Piece<'a, X> = (Tile<'a, <X as Stored>::Wide>, RowsMut<'a, X>);

/// Cuts the rows of a problem into tiles.
fn add_pieces<'a, X: Stored>(
    problem: &'a Problem<'a, X::Wide>,
    out: HeadsMut<'a, X>,
    figures: &mut [Figures<'a, X::Wide>],
    extras: &mut Extras<'a, X::Wide>,
    pieces: &mut Vec<Piece<'a, X>>,
) {
    let [batch, heads, queries, _] = problem.queries.shape();
    let step = tile_queries::<X::Wide>();
    let mut out = out.runs(step).into_iter();
    for (index, figures) in figures[..batch * heads].iter_mut().enumerate() {
        for start in (0..queries).step_by(step) {
            let range = start..queries.min(start + step);
            let rows = range.len();
            let tile = Tile {
                problem,
                batch: index / heads,
                head: index % heads,
                queries: range,
                max_logit: figures.max_logit.take(rows),
                inv_sum: figures.inv_sum.take(rows),
                lse: figures.lse.take(rows),
                entropy: figures.entropy.as_mut().map(|entropy| entropy.take(rows)),
                map: extras.bins.map(|bins| (bins, extras.parts.take(extras.part_len))),
                top: extras.top.as_mut().map(|top| top.take(rows)),
            };
            pieces.push((tile, out.next().expect("one run a tile")));
        }
    }
}

/// Computes all tiles.
fn run<X: Stored>(pieces: Vec<Piece<'_, X>>, work: usize, cancel: &Cancel) -> Result<()> {
    threads::for_each(pieces, work, cancel, Default::default, |(scratch, padded), (tile, mut rows)| {
        let problem = tile.problem;
        let blocks = tile.queries.len() * blocks_for::<X::Wide>(problem.values.shape()[3]);
        let kernel = TileKernel { tile, scratch, results: rows_or(&mut rows, blocks, padded) };
        if problem.has_pairs() {
            X::Wide::dispatch_pairs(kernel);
        } else {
            X::Wide::dispatch(kernel);
        }
        store_rows(padded, rows);
    })
}
