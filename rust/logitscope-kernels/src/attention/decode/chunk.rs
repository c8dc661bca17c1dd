//! One chunk of a cache against the queries that share its key head.
//!
//! Keys are read straight: the numbers of a key lie in the lanes as those of the query do, sixteen dot products leave
//! one vector of lanes each, and one transposition adds those up. So are values: a row times its weight is added to the
//! output in registers. Whatever rows are taken together, a row's numbers come from the same operations.

use super::CHUNK;
use super::problem::{Decoding, Run};
use crate::attention::scores::bend;
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd, Stored, math};
use std::ops::Range;

/// The most lanes that a vector has.
const LANES: usize = 16;

/// How far ahead of what is read the caches are asked for what comes, in bytes: what arrives while one line is fetched
/// many times over.
const AHEAD: usize = 8192;

/// Rows of values that are read again from the first-level cache for the next rows of queries.
const VALUES: usize = 8;

/// What a row has of one chunk.
#[derive(Clone, Copy)]
pub(super) struct State<T> {
    /// The largest score.
    pub(super) max: T,
    /// The sum of e^(s - max).
    pub(super) sum: T,
    /// The sum of e^(s - max) (s - max).
    pub(super) moment: T,
}

impl<T: Element> State<T> {
    pub(super) fn empty() -> Self {
        Self { max: T::NEG_INFINITY, sum: T::ZERO, moment: T::ZERO }
    }
}

/// Buffers that a thread uses again.
pub(super) struct Scratch<T: Element> {
    /// The queries of a token, padded and multiplied by their factors.
    queries: Vec<T::Block>,
    /// Rows of scores, and then of weights, of the length of a chunk.
    scores: Vec<T>,
}

impl<T: Element> Default for Scratch<T> {
    fn default() -> Self {
        Self { queries: Vec::new(), scores: Vec::new() }
    }
}

/// A chunk of a key head, and where its states go: one a row, tokens outside, with the sum of the weighted values.
pub(super) struct Chunk<'a, X: Stored> {
    pub(super) problem: &'a Decoding<'a, X>,
    pub(super) batch: usize,
    pub(super) key_head: usize,
    pub(super) number: usize,
    pub(super) tokens: Range<usize>,
    pub(super) states: &'a mut [State<X::Wide>],
    pub(super) sums: &'a mut [<X::Wide as Element>::Block],
}

pub(super) struct ChunkKernel<'a, 'b, X: Stored> {
    pub(super) chunk: Chunk<'a, X>,
    pub(super) scratch: &'b mut Scratch<X::Wide>,
}

impl<X: Stored> Kernel<X::Wide> for ChunkKernel<'_, '_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) {
        let Self { chunk, scratch } = self;
        let Chunk { problem, batch, key_head, .. } = chunk;
        let group = problem.group();
        let width = problem.queries.shape()[3].div_ceil(X::Wide::LANES);
        let value_width = chunk.sums.len() / chunk.states.len();
        scratch.queries.resize(group * width, X::Wide::block(X::Wide::ZERO));
        scratch.scores.resize(group * CHUNK, X::Wide::ZERO);
        let rows = chunk.states.chunks_exact_mut(group).zip(chunk.sums.chunks_exact_mut(group * value_width));
        for (token, (states, sums)) in chunk.tokens.zip(rows) {
            let seen = problem.seen(batch, token);
            let mut count = 0;
            for run in problem.runs(batch, key_head, chunk.number, &seen) {
                if count == 0 {
                    load_queries(simd, problem, batch, key_head * group, token, width, &mut scratch.queries);
                }
                let at = Place { token: seen.end - 1, head: key_head * group, first: count, is_first: true };
                score(simd, problem, &run, &at, &scratch.queries, width, &mut scratch.scores);
                count += run.keys.rows();
            }
            if count == 0 {
                states.fill(State::empty());
                continue;
            }
            for (state, scores) in states.iter_mut().zip(scratch.scores.chunks_exact_mut(CHUNK)) {
                *state =
                    weigh::<X::Wide, S>(simd, &mut scores[..count.next_multiple_of(X::Wide::LANES)], count);
            }
            sums.fill(X::Wide::block(X::Wide::ZERO));
            let mut first = 0;
            for run in problem.runs(batch, key_head, chunk.number, &seen) {
                add_values(simd, run.values, run.next, &scratch.scores[first..], group, value_width, sums);
                first += run.values.rows();
            }
        }
    }
}

/// Widens the queries of a token and multiplies them by their factors.
#[inline(always)]
fn load_queries<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    problem: &Decoding<'_, X>,
    batch: usize,
    first_head: usize,
    token: usize,
    width: usize,
    queries: &mut [<X::Wide as Element>::Block],
) {
    for (index, row) in queries.chunks_exact_mut(width).enumerate() {
        let head = first_head + index;
        let factor = simd.splat(problem.factor(batch, head, token));
        let (packs, tail) = X::packs(problem.queries.matrix(batch, head).row(token));
        for (pack, cell) in packs.iter().zip(row.iter_mut()) {
            simd.store(simd.mul(X::load(simd, pack), factor), cell);
        }
        if !tail.is_empty() {
            let rest = X::load_partial(simd, tail, X::Wide::ZERO);
            simd.store(simd.mul(rest, factor), &mut row[width - 1]);
        }
    }
}

/// Whose scores these are, and where they go.
struct Place {
    /// The position of the queries.
    token: usize,
    /// The first query head.
    head: usize,
    /// Where the first score of a row goes.
    first: usize,
    /// Whether no rows before these have read the keys.
    is_first: bool,
}

/// The scores of a run of keys for all rows.
#[inline(always)]
fn score<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    problem: &Decoding<'_, X>,
    run: &Run<'_, X>,
    at: &Place,
    queries: &[<X::Wide as Element>::Block],
    width: usize,
    scores: &mut [X::Wide],
) {
    let group = problem.group();
    for first in (0..run.keys.rows()).step_by(X::Wide::LANES) {
        let keys = first..run.keys.rows().min(first + X::Wide::LANES);
        let mut row = 0;
        while row < group {
            let rest = group - row;
            let queries = &queries[row * width..];
            let scores = &mut scores[row * CHUNK + at.first + first..];
            let at = Place { head: at.head + row, is_first: row == 0, ..*at };
            if rest >= 4 {
                score_block::<X, S, 4>(simd, problem, run, &at, keys.clone(), queries, width, scores);
                row += 4;
            } else if rest >= 2 {
                score_block::<X, S, 2>(simd, problem, run, &at, keys.clone(), queries, width, scores);
                row += 2;
            } else {
                score_block::<X, S, 1>(simd, problem, run, &at, keys.clone(), queries, width, scores);
                row += 1;
            }
        }
    }
}

/// Asks for what is as many rows ahead of the rows `rows` of a matrix as [`AHEAD`] says; after its last row comes `next`.
#[inline(always)]
fn fetch<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    matrix: Matrix<'_, X>,
    next: Matrix<'_, X>,
    rows: Range<usize>,
) {
    let ahead = AHEAD.div_ceil(size_of::<X>() * matrix.columns().max(1));
    for row in rows {
        let row = row + ahead;
        let numbers = if row < matrix.rows() {
            matrix.row(row)
        } else if row - matrix.rows() < next.rows() {
            next.row(row - matrix.rows())
        } else {
            return;
        };
        for line in numbers.chunks(64 / size_of::<X>()) {
            simd.prefetch(line);
        }
    }
}

/// The scores of as many keys as a vector has lanes, or fewer, for `R` rows.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the inputs of a block of scores")]
fn score_block<X: Stored, S: Simd<X::Wide>, const R: usize>(
    simd: S,
    problem: &Decoding<'_, X>,
    run: &Run<'_, X>,
    at: &Place,
    keys: Range<usize>,
    queries: &[<X::Wide as Element>::Block],
    width: usize,
    scores: &mut [X::Wide],
) {
    let mut lanes = [[X::Wide::block(X::Wide::ZERO); LANES]; R];
    let mut key = keys.start;
    while key + 4 <= keys.end {
        if at.is_first {
            fetch(simd, run.keys, run.values, key..key + 4);
        }
        dots::<X, S, R, 4>(simd, run.keys, key, queries, width, &mut lanes, key - keys.start);
        key += 4;
    }
    while key < keys.end {
        dots::<X, S, R, 1>(simd, run.keys, key, queries, width, &mut lanes, key - keys.start);
        key += 1;
    }
    for (index, lanes) in lanes.iter_mut().enumerate() {
        let mut score = add_lanes::<X::Wide, S>(simd, lanes);
        if problem.softcap != X::Wide::ZERO {
            score = bend(simd, score, simd.splat(problem.softcap));
        }
        if let Some(slopes) = problem.slopes {
            let mut distances = X::Wide::block(X::Wide::ZERO);
            for (lane, distance) in distances.as_mut().iter_mut().enumerate() {
                let position = (run.position + keys.start + lane) as f64;
                *distance = X::Wide::from_f64(at.token as f64 - position);
            }
            let minus_slope = simd.splat(-slopes[at.head + index]);
            score = simd.mul_add(minus_slope, simd.load(&distances), score);
        }
        let start = index * CHUNK;
        simd.store_partial(score, &mut scores[start..start + keys.len()]);
    }
}

/// The products of `R` queries with the keys `key..key + K`, summed but for the lanes.
#[inline(always)]
fn dots<X: Stored, S: Simd<X::Wide>, const R: usize, const K: usize>(
    simd: S,
    keys: Matrix<'_, X>,
    key: usize,
    queries: &[<X::Wide as Element>::Block],
    width: usize,
    lanes: &mut [[<X::Wide as Element>::Block; LANES]; R],
    at: usize,
) {
    let mut packs: [&[X::Pack]; K] = [&[]; K];
    let mut tails: [&[X]; K] = [&[]; K];
    for i in 0..K {
        (packs[i], tails[i]) = X::packs(keys.row(key + i));
    }
    let whole = packs[0].len();
    let mut rows: [&[<X::Wide as Element>::Block]; R] = [&[]; R];
    for (i, row) in rows.iter_mut().enumerate() {
        // Cut to the depth, so that the compiler sees that no index below it can be out of bounds.
        *row = &queries[i * width..(i + 1) * width];
    }
    for packs in &mut packs {
        *packs = &packs[..whole];
    }
    let mut sums = [[simd.splat(X::Wide::ZERO); K]; R];
    for c in 0..whole {
        let mut numbers = [simd.splat(X::Wide::ZERO); K];
        for j in 0..K {
            numbers[j] = X::load(simd, &packs[j][c]);
        }
        for i in 0..R {
            let query = simd.load(&rows[i][c]);
            for j in 0..K {
                sums[i][j] = simd.mul_add(query, numbers[j], sums[i][j]);
            }
        }
    }
    if whole < width {
        for j in 0..K {
            let rest = X::load_partial(simd, tails[j], X::Wide::ZERO);
            for i in 0..R {
                sums[i][j] = simd.mul_add(simd.load(&rows[i][whole]), rest, sums[i][j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..K {
            simd.store(sums[i][j], &mut lanes[i][at + j]);
        }
    }
}

/// The sum of the lanes of each vector, in the lane of its number.
#[inline(always)]
fn add_lanes<T: Element, S: Simd<T>>(simd: S, vectors: &mut [T::Block; LANES]) -> S::Vector {
    let mut rows = [&vectors[0]; LANES];
    for (row, vector) in rows.iter_mut().zip(vectors.iter()) {
        *row = vector;
    }
    let mut square = [T::block(T::ZERO); LANES];
    simd.transpose(&rows[..T::LANES], &mut square[..T::LANES]);
    let mut half = T::LANES / 2;
    let mut sums = [simd.splat(T::ZERO); LANES];
    for (sum, block) in sums.iter_mut().zip(&square) {
        *sum = simd.load(block);
    }
    while half > 0 {
        for i in 0..half {
            sums[i] = simd.add(sums[i], sums[i + half]);
        }
        half /= 2;
    }
    sums[0]
}

/// Turns the first `count` scores of whole vectors into weights e^(s - max), the rest into 0.
#[inline(always)]
fn weigh<T: Element, S: Simd<T>>(simd: S, scores: &mut [T], count: usize) -> State<T> {
    scores[count..].fill(T::NEG_INFINITY);
    let blocks = T::blocks_mut(scores).0;
    let mut largest = simd.splat(T::NEG_INFINITY);
    for block in blocks.iter() {
        largest = simd.max(simd.load(block), largest);
    }
    let max = simd.max_lane(largest);
    let zero = simd.splat(T::ZERO);
    // From -inf nothing may be subtracted.
    let reference = simd.splat(if max == T::NEG_INFINITY { T::ZERO } else { max });
    let (mut sum, mut moment) = (zero, zero);
    for block in blocks {
        let distance = simd.sub(simd.load(block), reference);
        let weight = math::exp(simd, distance);
        sum = simd.add(sum, weight);
        let term = simd.mul(weight, distance);
        moment = simd.add(moment, simd.select(simd.less(zero, weight), term, zero));
        simd.store(weight, block);
    }
    State { max, sum: simd.sum(sum), moment: simd.sum(moment) }
}

/// Adds the rows of values, weighted, to the sums of all rows; `weights` has one row of weights a chunk apart. Keys
/// `next` are read after them.
#[inline(always)]
fn add_values<X: Stored, S: Simd<X::Wide>>(
    simd: S,
    values: Matrix<'_, X>,
    next: Matrix<'_, X>,
    weights: &[X::Wide],
    group: usize,
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    for first in (0..values.rows()).step_by(VALUES) {
        let rows = first..values.rows().min(first + VALUES);
        let part = values.part(rows.clone());
        fetch(simd, values, next, rows);
        let mut row = 0;
        while row < group {
            let weights = &weights[row * CHUNK + first..];
            let sums = &mut sums[row * width..];
            if row + 2 <= group {
                add_rows::<X, S, 2>(simd, part, weights, width, sums);
                row += 2;
            } else {
                add_rows::<X, S, 1>(simd, part, weights, width, sums);
                row += 1;
            }
        }
    }
}

/// The same for `R` rows.
#[inline(always)]
fn add_rows<X: Stored, S: Simd<X::Wide>, const R: usize>(
    simd: S,
    values: Matrix<'_, X>,
    weights: &[X::Wide],
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    let whole = values.columns() / X::Wide::LANES;
    let mut column = 0;
    while column + 8 <= whole {
        add_columns::<X, S, R, 8>(simd, values, weights, column, width, sums);
        column += 8;
    }
    if column + 4 <= whole {
        add_columns::<X, S, R, 4>(simd, values, weights, column, width, sums);
        column += 4;
    }
    while column < whole {
        add_columns::<X, S, R, 1>(simd, values, weights, column, width, sums);
        column += 1;
    }
    if whole < width {
        for i in 0..R {
            let mut sum = simd.load(&sums[i * width + whole]);
            for row in 0..values.rows() {
                let tail = &values.row(row)[whole * X::Wide::LANES..];
                let rest = X::load_partial(simd, tail, X::Wide::ZERO);
                sum = simd.mul_add(simd.splat(weights[i * CHUNK + row]), rest, sum);
            }
            simd.store(sum, &mut sums[i * width + whole]);
        }
    }
}

/// The same for `C` vectors of columns, which stay in registers.
#[inline(always)]
fn add_columns<X: Stored, S: Simd<X::Wide>, const R: usize, const C: usize>(
    simd: S,
    values: Matrix<'_, X>,
    weights: &[X::Wide],
    column: usize,
    width: usize,
    sums: &mut [<X::Wide as Element>::Block],
) {
    let mut totals = [[simd.splat(X::Wide::ZERO); C]; R];
    let mut rows: [&[X::Wide]; R] = [&[]; R];
    for i in 0..R {
        rows[i] = &weights[i * CHUNK..i * CHUNK + values.rows()];
        for c in 0..C {
            totals[i][c] = simd.load(&sums[i * width + column + c]);
        }
    }
    let mut row = 0;
    while row < values.rows() {
        let packs = &X::packs(values.row(row)).0[column..column + C];
        let mut numbers = [simd.splat(X::Wide::ZERO); C];
        for c in 0..C {
            numbers[c] = X::load(simd, &packs[c]);
        }
        for i in 0..R {
            let weight = simd.splat(rows[i][row]);
            for c in 0..C {
                totals[i][c] = simd.mul_add(weight, numbers[c], totals[i][c]);
            }
        }
        row += 1;
    }
    for i in 0..R {
        for c in 0..C {
            simd.store(totals[i][c], &mut sums[i * width + column + c]);
        }
    }
}
