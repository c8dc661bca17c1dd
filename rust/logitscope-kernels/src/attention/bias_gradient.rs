//! The gradient of the bias, summed over the axes along which the bias was broadcast.
//!
//! A pass of its own: an owner of a part of the sum computes the scores of all batch elements, heads and queries again
//! that the part is shared by, in their order. That costs two products more, and no memory beside the gradient.

use super::backward::Upstream;
use super::problem::Problem;
use super::sight::Sees;
use super::tile::{Cursor, KEYS, tile_queries};
use super::tile_scores::{LaneScratch, TileScores};
use crate::error::Result;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd};
use std::ops::Range;

/// Computes the gradient of the bias. `shape` has 1 for each axis to sum over, else what the scores have; `gradient` is
/// in row-major order.
///
/// # Errors
/// What [`Problem::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If `shape` is none of the bias, or `gradient` has another length than it says.
pub fn bias_gradient<T: Element>(
    problem: &Problem<'_, T>,
    upstream: &Upstream<'_, T>,
    shape: [usize; 4],
    gradient: &mut [T],
    cancel: &Cancel,
) -> Result<()> {
    problem.check()?;
    let [_, heads, queries, _] = problem.queries.shape();
    let full = [problem.queries.shape()[0], heads, queries, problem.keys.shape()[2]];
    let fits = shape.iter().zip(full).all(|(&n, full)| n == 1 || n == full);
    assert!(fits && gradient.len() == shape.iter().product(), "attention: shape {shape:?} of dbias");
    gradient.fill(T::ZERO);
    let own = |axis: usize, index: usize| if shape[axis] == 1 { 0..full[axis] } else { index..index + 1 };
    let (query_step, key_step) = match shape {
        [.., 1, 1] => (1, 1),
        [.., 1, _] => (1, KEYS),
        [.., keys] => (tile_queries::<T>(), keys.max(1)),
    };
    let mut cursor = Cursor(gradient);
    let mut pieces = Vec::new();
    for batch in 0..shape[0] {
        for head in 0..shape[1] {
            for query in (0..shape[2]).step_by(query_step) {
                for key in (0..shape[3]).step_by(key_step) {
                    let part = |start: usize, step: usize, axis: usize| {
                        if shape[axis] == 1 { 0..full[axis] } else { start..full[axis].min(start + step) }
                    };
                    let (queries, keys) = (part(query, query_step, 2), part(key, key_step, 3));
                    let rows = if shape[2] == 1 { 1 } else { queries.len() };
                    let columns = if shape[3] == 1 { 1 } else { keys.len() };
                    pieces.push(Part {
                        problem,
                        upstream,
                        batches: own(0, batch),
                        heads: own(1, head),
                        queries,
                        keys,
                        columns,
                        has_rows: shape[2] != 1,
                        cells: cursor.take(rows * columns),
                    });
                }
            }
        }
    }
    threads::for_each(
        pieces,
        problem.work().saturating_mul(2),
        cancel,
        LaneScratch::default,
        |scratch, part| T::dispatch(PartKernel { part, scratch }),
    )
}

/// A part of the gradient and all scores that it is the sum over.
struct Part<'a, T> {
    problem: &'a Problem<'a, T>,
    upstream: &'a Upstream<'a, T>,
    batches: Range<usize>,
    heads: Range<usize>,
    queries: Range<usize>,
    keys: Range<usize>,
    /// 1, or one for each of the keys.
    columns: usize,
    /// Whether there is a row of cells for each of the queries.
    has_rows: bool,
    cells: &'a mut [T],
}

impl<T: Element> Part<'_, T> {
    #[inline(always)]
    fn add(&mut self, query: usize, key: usize, dscore: T) {
        let row = if self.has_rows { query - self.queries.start } else { 0 };
        let column = if self.columns == 1 { 0 } else { key - self.keys.start };
        self.cells[row * self.columns + column] += dscore;
    }
}

struct PartKernel<'a, 'b, T: Element> {
    part: Part<'a, T>,
    scratch: &'b mut LaneScratch<T>,
}

impl<T: Element> Kernel<T> for PartKernel<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { mut part, scratch } = self;
        for batch in part.batches.clone() {
            for head in part.heads.clone() {
                for start in part.queries.clone().step_by(tile_queries::<T>()) {
                    let queries = start..part.queries.end.min(start + tile_queries::<T>());
                    add_tile(simd, &mut part, scratch, batch, head, queries);
                }
            }
        }
    }
}

/// Adds the gradients of the scores of one tile of queries.
#[inline(always)]
fn add_tile<T: Element, S: Simd<T>>(
    simd: S,
    part: &mut Part<'_, T>,
    scratch: &mut LaneScratch<T>,
    batch: usize,
    head: usize,
    queries: Range<usize>,
) {
    let scores = TileScores::new(simd, part.problem, part.upstream, batch, head, queries.clone(), scratch);
    for range in scores.sight.key_tiles() {
        let range = range.start.max(part.keys.start)..range.end.min(part.keys.end);
        if range.is_empty() || scores.run(simd, &range, scratch) == Sees::Nothing {
            continue;
        }
        let dscores = T::flatten(&scratch.dscores);
        for (lane, query) in queries.clone().enumerate() {
            let column = dscores.iter().skip(lane).step_by(scores.width * T::LANES);
            for (key, &dscore) in range.clone().zip(column) {
                part.add(query, key, dscore);
            }
        }
    }
    for (lane, row) in scores.wide_rows() {
        let (dscores, _) = row.score_gradients(part.upstream, batch, head, queries.start + lane);
        for (key, dscore) in row.keys.iter().zip(dscores) {
            if part.keys.contains(&key.key) {
                part.add(queries.start + lane, key.key, T::from_f64(dscore));
            }
        }
    }
}
