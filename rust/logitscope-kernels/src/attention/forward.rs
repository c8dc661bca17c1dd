//! The forward pass, cut into tiles of queries.

use super::forward_tile::{Tile, TileKernel};
use super::map::{self, MapBins};
use super::problem::Problem;
use super::statistics::Statistics;
use super::tile::{Cursor, blocks_for, rows_or, store_rows, tile_queries};
use super::top_keys::TopKeys;
use crate::error::Result;
use crate::threads::{self, Cancel};
use crate::view::{HeadsMut, RowsMut};
use logitscope_simd::{Element, Stored};

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
    let Output { out, mut statistics, map, top } = output;
    assert_eq!(out.shape(), [batch, heads, queries, value_dim], "attention: shape of out");
    if rows == 0 {
        return Ok(());
    }
    let bins = map.as_ref().map(|(bins, _)| *bins);
    let part_len = bins.map_or(0, |bins| map::rows_per_tile::<X::Wide>(queries, bins) * bins.columns);
    let tiles = queries.div_ceil(tile_queries::<X::Wide>());
    let mut parts = vec![X::Wide::ZERO; batch * heads * tiles * part_len];
    let mut extras = Extras { bins, part_len, parts: Cursor(&mut parts), top };
    let mut pieces = Vec::with_capacity(batch * heads * tiles);
    let mut figures: Vec<_> = (0..batch * heads).map(|_| statistics.take(queries)).collect();
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
    mut statistics: Statistics<'_, X::Wide>,
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
    let heads = problems.first().map_or(0, |problem| problem.queries.shape()[1]);
    let mut figures: Vec<_> = (0..heads).map(|_| statistics.take(all_queries)).collect();
    let mut extras = Extras { bins: None, part_len: 0, parts: Cursor(&mut []), top: None };
    let mut pieces = Vec::new();
    for (problem, out) in problems.iter().zip(outs) {
        add_pieces(problem, out, &mut figures, &mut extras, &mut pieces);
    }
    run(pieces, work, cancel)
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
    figures: &mut [Statistics<'a, X::Wide>],
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
                figures: figures.take(rows),
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
            X::Wide::dispatch_tiles(kernel);
        } else {
            X::Wide::dispatch(kernel);
        }
        store_rows(padded, rows);
    })
}
